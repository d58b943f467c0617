--- Overlays, lint and types: what comes after an import.

local files = require "spec.support.files"
local lint = require "luio.registers.lint"
local luio = require "luio"
local types = require "luio.registers.types"

-- A map file and its overlay beside it.
local function with_overlay(map, overlay)
  local path, dir = files.write("map.lua", "local luio = require 'luio'\nlocal map = luio.registers(" .. map .. ")\nreturn map")
  files.save(dir .. "/map.overlay.lua", overlay)
  local ok, result = pcall(dofile, path)
  return ok and result, not ok and result
end

local MAP = [[{ overlay = "map.overlay.lua",
  RBR = { 0, 8, "ro" }, LSR = { 5, 8, "rw", OE = 1, DR = 0 }, CTL = { 6, 8, "rw", X = { 3, 0 } }, TEST = { 7, 8 },
  CH = { 0x10, count = 2, stride = 8, block = { CFG = { 0, 32 } } },
}]]

describe("an overlay", function()
  teardown(files.clean)

  it("is found beside its map also after a file was given up while it was loaded", function()
    local paths = require "luio.paths"
    coroutine.wrap(function() paths.run("elsewhere/map.lua", coroutine.yield) end)()
    local map = assert(with_overlay(MAP, "return { RBR = { read_effect = 'pops' } }"))
    assert.equal("pops", map.RBR.read_effect)
  end)

  it("adds, changes, renames and removes, and leaves the rest", function()
    local map = assert(with_overlay(MAP, [[return {
      RBR = { read_effect = "pops the FIFO" },
      LSR = { access = "ro", OE = { access = "rc" }, PE = 2 },
      CTL = { rename = "CTRL", width = 16, offset = 8, X = { 7, 4 }, Y = 0 },
      TEST = false,
      CH = { block = { CFG = { reset = 0x80, EN = 0 } } },
      NEW = { 0x40, 32, "wo" },
    }]]))
    assert.equal("pops the FIFO", map.RBR.read_effect)
    assert.same({ "ro", "rc", "ro", "ro" }, { map.LSR.access, map.LSR.field.OE.access, map.LSR.field.DR.access, map.LSR.field.PE.access })
    assert.is_nil(map.CTL)
    assert.same({ 8, 16, 7, 4, 0 }, { map.CTRL.offset, map.CTRL.width, map.CTRL.field.X.high, map.CTRL.field.X.low, map.CTRL.field.Y.low })
    assert.is_nil(map.TEST)
    assert.same({ 0x80, 0 }, { map.CH.child.CFG.reset, map.CH.child.CFG.field.EN.low })
    assert.equal("wo", map.NEW.access)
  end)

  it("adds what writing sets off, to registers, fields and what is in blocks; slips in it are told", function()
    local map = assert(with_overlay(MAP, [[return {
      CTL = { write_effect = "starts", X = { write_effect = "picks" } }, LSR = { DR = { access = "sc" } },
      CH = { block = { CFG = { write_effect = "configures" } } },
    }]]))
    assert.same({ "starts", "picks", "sc", "configures" },
      { map.CTL.write_effect, map.CTL.field.X.write_effect, map.LSR.field.DR.access, map.CH.child.CFG.write_effect })
    local _, message = with_overlay(MAP, "return { CTL = { write_effekt = 'starts' }, RBR = { write_effect = 'x' } }")
    assert.is_truthy(message:find("CTL: unknown key write_effekt (did you mean write_effect?)", 1, true), message)
    assert.is_truthy(message:find("RBR: write_effect of what can't be written: its access is ro", 1, true), message)
  end)

  it("changes one peripheral, not those that share its registers", function()
    local map = assert(with_overlay(
      [[(function() local B = { A = { 0, 32 } } return { overlay = "map.overlay.lua", U0 = { 0, block = B }, U1 = { 16, block = B } } end)()]],
      "return { U1 = { block = { A = { access = 'ro' } } } }"))
    assert.same({ "rw", "ro" }, { map.U0.child.A.access, map.U1.child.A.access })
  end)

  it("that names what is not there, or is broken, is a fault of the map", function()
    for overlay, expected in pairs {
      ["return { RBRR = { read_effect = 'x' } }"] = "overlay: RBRR: is not there (did you mean RBR?)",
      ["return { TESTS = false }"] = "overlay: TESTS: is not there (did you mean TEST?)",
      ["return { RBR = 5 }"] = "a correction is a table, or false to remove it, not a number",
      ["return { RBR = { acces = 'ro' } }"] = "RBR: unknown key acces",
      ["return 5"] = "returns a number, not a table",
      ["return {"] = "map.overlay.lua:1:",
      ["error 'boo'"] = "threw: ",
    } do
      local map, message = with_overlay(MAP, overlay)
      assert.is_falsy(map)
      assert.is_truthy(message:find(expected, 1, true), message)
    end
  end)

  it("need not be there", function()
    assert.equal(1, luio.registers({ overlay = "nowhere.lua", A = { 1, 8 } }).A.offset)
  end)
end)

describe("lint", function()
  local function findings(spec)
    local list = {}
    for _, f in ipairs(lint.check(luio.registers(spec))) do table.insert(list, f.path .. ": " .. f.text) end
    return table.concat(list, "\n")
  end

  it("suspects missing side effects, by name and by description", function()
    local text = findings {
      RX_FIFO = { 0, 32 }, INT_STATUS = { 4, 32 }, INT_CLR = { 12, 32 }, U = { 0x100, block = { ISR = { 8, 32, "ro" } } },
      A = { 16, 32, X = { 0, description = "Write 1 to clear." } }, B = { 20, 32, description = "Cleared on read" },
      C = { 24, 32, RESERVED = { 7, 0 } },
    }
    for _, expected in ipairs {
      "RX_FIFO: FIFO: does reading it take data out", "INT_STATUS: an interrupt status that can be written", "U.ISR: an interrupt status that can't be written",
      "INT_CLR: CLR: a register that clears something is rarely rw", "A.X: writing 1 seems to clear it", "B: reading seems to clear it",
      "C.RESERVED: a reserved field that is rw",
    } do assert.is_truthy(text:find(expected, 1, true), expected .. "\n" .. text) end
  end)

  it("suspects what writing sets off: of what can be read, so that it would be undone and restored", function()
    local text = findings {
      SD_CMD = { 0, 32 }, DOORBELL0 = { 4, 32, count = 2 }, CTRL = { 12, 32, GO = 0, TX_START = 1, SOFT_RESET = 2, OPCODE_CMD = { 7, 4 }, EN = 8 },
      X = { 16, 32, F = { 0, description = "Self-clearing." }, G = { 1, description = "Set by software to go, and cleared by hardware." } },
    }
    assert.equal(table.concat({
      'SD_CMD: CMD: does writing it set something off? then write_effect = "what it does", or a field with access = "sc"',
      'DOORBELL0: DOORBELL: does writing it set something off? then write_effect = "what it does", or a field with access = "sc"',
      'CTRL.GO: GO, OPCODE_CMD, SOFT_RESET, TX_START: does writing it set something off? then access = "sc" if the hardware clears it, or write_effect',
      'X.G: the hardware seems to clear it: access = "sc"', 'X.F: the hardware seems to clear it: access = "sc"',
    }, "\n"), text)
  end)

  it("suspects no write of what holds a value, can't be read, or is answered", function()
    assert.equal("", findings {
      CMD_STATUS = { 0, 32, "ro" }, KICK = { 4, 32, "wo" }, START_ADDRESS = { 8, 32 }, RESET_VALUE = { 12, 32 }, CMD_ARG = { 16, 32 },
      CMD = { 20, 32, write_effect = "sends it" }, DMA_CMD = { 24, 32, GO = { 0, access = "sc" }, KIND = 1 },
      CTRL = { 28, 32, START = { 15, 0 }, RESET = { 16, access = "w1s" }, GO = { 17, write_effect = "goes" }, CMD = { 31, 20 } },
      LOG_START = { 36, 32 }, LOG_END = { 40, 32 }, E = { 44, 32, START = 0, STOP = 1, TRIG = { 3, 2 } },
      RSTR = { 48, 32, DMA1RST = 0, DMA2RST = 1, UART_RST = 2, I2C_RESET = 3 },
      D = { 32, 32, F = { 0, access = "sc", description = "Self-clearing." }, G = { 1, access = "ro", description = "Automatically cleared." } },
    })
  end)

  it("has nothing to say where the map has said it", function()
    assert.equal("", findings {
      RX_FIFO = { 0, 32, "ro", read_effect = "pops" }, INT_STATUS = { 4, 32, "w1c" }, ISR = { 8, 32, "rc" }, INT_CLR = { 12, 32, "wo" },
      A = { 16, 32, X = { 0, access = "w1c", description = "Write 1 to clear." } }, CTRL = { 20, 32, EN = 0 },
    })
    assert.same({}, lint.check(require "drivers.edu.registers"))
  end)
end)

describe("types", function()
  it("are what an editor completes: registers, fields, value names", function()
    local text = types.write(luio.registers {
      name = "x", STATUS = { 0, 32, "rw", BUSY = { 0, access = "ro" }, MODE = { 5, 4, values = { FAST = 1, SLOW = 2 } } }, CMD = { 4, 32, "wo" },
      T = { 8, 16, "ro", count = 4 }, CH = { 16, block = { A = { 0, 32, "ro" } } },
    })
    for _, expected in ipairs {
      "---@class x.Registers\n", "---@field STATUS x.Registers.STATUS\n", "---@field T table<integer, x.Registers.T>\n",
      "---@field CH x.Registers.CH\n", "---@alias x.Registers.STATUS.Fields { MODE?: integer|\"FAST\"|\"SLOW\" }",
      "---@field get fun(self, field: \"BUSY\"|\"MODE\"): integer, string?", "---@field update fun(self, fields: x.Registers.STATUS.Fields)",
    } do assert.is_truthy(text:find(expected, 1, true), expected .. "\n" .. text) end
    assert.is_nil(text:match "CMD: luio.Register\n%-%-%-@field read")
    text = types.write(luio.registers {
      name = "x", CMD = { 0, 32, "rw", write_effect = "sends the\ncommand", GO = { 0, access = "sc", write_effect = "goes" } },
    })
    for _, expected in ipairs {
      "---@field CMD x.Registers.CMD sends the command\n", "---@field write fun(self, value: integer|x.Registers.CMD.Fields) sends the command; GO goes\n",
      "---@field update fun(self, fields: x.Registers.CMD.Fields) sends the command; GO goes\n",
    } do assert.is_truthy(text:find(expected, 1, true), expected .. "\n" .. text) end
    assert(loadstring(text)) -- and it is Lua
  end)
end)
