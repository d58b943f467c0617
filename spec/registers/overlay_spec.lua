--- Overlays, lint and types: the steps after an import.

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
    local paths = require "luio.driver.paths"
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

  it("corrects a map of either form in either form, names in lower and upper case", function()
    local maps = {
      { "{ overlay = 'map.overlay.lua', LSR = { 5, 8, 'ro', OE = 1 }, CTL = { 6, 8 } }", "LSR", "OE" },
      { "{ overlay = 'map.overlay.lua', registers = { LSR = { 5, 8, 'ro', fields = { OE = 1 } } }, CTL = { 6, 8 } }", "LSR", "OE" },
      { "{ overlay = 'map.overlay.lua', registers = { lsr = { 5, 8, 'ro', fields = { oe = 1 } } } }", "lsr", "oe" },
      { "{ overlay = 'map.overlay.lua', registers = { name = { 5, 8, 'ro', fields = { reset = 1 } } } }", "name", "reset" }, -- as options are called
    }
    for _, one in ipairs(maps) do
      local text, reg, field = unpack(one)
      for _, form in ipairs {
        "return { %s = { read_effect = 'clears', %s = { access = 'rc' } } }",
        "return { registers = { %s = { read_effect = 'clears', %s = { access = 'rc' } } } }",
        "return { %s = { read_effect = 'clears', fields = { %s = { access = 'rc' } } } }",
        "return { registers = { %s = { read_effect = 'clears', fields = { %s = { access = 'rc' } } } } }",
      } do
        local overlay = form:format(reg, field)
        local map, message = with_overlay(text, overlay)
        assert(map, message)
        assert.same({ "clears", "rc", 1 }, { map.child[reg].read_effect, map.child[reg].field[field].access, map.child[reg].field[field].low }, overlay)
      end
      local overlay = ("return { %s = { %s = false }, new_one = { 0x40, 8 }, NEW = { 0x41, 8 } }"):format(reg, field)
      local map = assert(with_overlay(text, overlay))
      assert.same({ nil, 0x40, 0x41 }, { map.child[reg].field[field], map.child.new_one.offset, map.child.NEW.offset })
    end
  end)

  it("changes a field's place without losing the rest of it, and lets names change places", function()
    local map = assert(with_overlay("{ overlay = 'map.overlay.lua', A = { 0, 8, F = { 7, 4, values = { ON = 1 } } }, B = { 1, 8 } }",
      "return { A = { rename = 'B', F = 3 }, B = { rename = 'A' } }"))
    assert.same({ 0, 1, 3, 3, 1 }, { map.B.offset, map.A.offset, map.B.field.F.high, map.B.field.F.low, map.B.field.F.values.ON })
  end)

  -- The line is the overlay's, of what is wrong in it.
  it("that is not understood is a fault with its own line, and the nearest name", function()
    for overlay, expected in pairs {
      ["return {\n RBRR = { read_effect = 'x' } }"] = "map.overlay.lua:2: RBRR: is not there (did you mean RBR?); a new one is { offset",
      ["return {\n rbr = { read_effect = 'x' } }"] = "map.overlay.lua:2: rbr: is not there (did you mean RBR?)",
      ["return { registers = {\n LSRR = { read_effect = 'x' } } }"] = "map.overlay.lua:2: LSRR: is not there (did you mean LSR?)",
      ["return {\n TESTS = false }"] = "map.overlay.lua:2: TESTS: is not there (did you mean TEST?)",
      ["return {\n RBR = 5 }"] = "map.overlay.lua:2: RBR: a correction is a table, or false to remove it, not a number",
      ["return {\n RBR = { acces = 'ro' } }"] = "map.overlay.lua:2: RBR: unknown key acces (did you mean access?)",
      ["return { LSR = {\n OEE = { access = 'rc' } } }"] = "map.overlay.lua:2: LSR.OEE: is not there (did you mean OE?); a new one is a bit, or",
      ["return { LSR = { fields = {\n oe = { access = 'rc' } } } }"] = "map.overlay.lua:2: LSR.oe: is not there (did you mean OE?)",
      ["return { LSR = { -- OE = 1 {\n OE = { acces = 'rc' } } }"] = "map.overlay.lua:2: LSR.OE: unknown key acces (did you mean access?)",
      ["return { LSR = {\n OE = { access = 'rq' } } }"] = "map.overlay.lua:2: LSR.OE: unknown access rq",
      ["return { LSR = {\n OE = 9 } }"] = "map.overlay.lua:2: LSR.OE: bits 9:9 are outside the register's 8",
      ["return { LSR = {\n EO = false } }"] = "map.overlay.lua:2: LSR.EO: is not there (did you mean OE?)",
      ["return { LSR = {\n OE = 'rc' } }"] = "map.overlay.lua:2: LSR.OE: a field's correction is a table",
      ["return { LSR = 1,\n CTL = { width = 12 } }"] = "map.overlay.lua:2: CTL: the width (second) is 8, 16, 32 or 64, not 12",
      ["return {\n CTL = { offset = 7 } }"] = "map.overlay.lua:2: TEST: 0x7 is CTL's place too",
      ["return {\n NEW = { 5, 8, 'rx' } }"] = "map.overlay.lua:2: NEW: unknown access rx",
      ["return { CH = {\n CFG = { reset = 1 } } }"] = "map.overlay.lua:2: CH.CFG: the registers of a block go into block = { ... }",
      ["return { CH = { block = {\n CFGG = { reset = 1 } } } }"] = "map.overlay.lua:2: CH.CFGG: is not there (did you mean CFG?)",
      ["return { CH = { block = {\n CFG = { reste = 1 } } } }"] = "map.overlay.lua:2: CH.CFG: unknown key reste (did you mean reset?)",
      ["return { CH = {\n block = 5 } }"] = "CH: block is a table of corrections, not a number",
      ["return {\n LSR = { fields = 5 } }"] = "map.overlay.lua:2: LSR: fields is a table of corrections, not a number",
      ["return {\n LSR = { block = {} } }"] = "map.overlay.lua:2: LSR: is a register, not a block",
      ["return {\n LSR = { rename = 'CTL' } }"] = "map.overlay.lua:2: LSR: can't be renamed CTL: there is one already",
      ["return { registers = { LSR = {} },\n LSR = { access = 'ro' } }"] = "map.overlay.lua:1: LSR: is corrected twice",
      ["return {\n max_width = 8 }"] = "map.overlay.lua:2: max_width: is an option of the map: an overlay corrects registers",
      ["return { { 0, 8 } }"] = "map.overlay.lua: 1: a correction stands under its register's name",
      ["return 5"] = "map.lua:2: overlay: ",
      ["return 6"] = "returns a number, not a table",
      ["return {"] = "map.overlay.lua:1:",
      ["error 'boo'"] = "threw: ",
    } do
      local map, message = with_overlay(MAP, overlay)
      assert.is_falsy(map, overlay)
      assert.is_truthy(message:find(expected, 1, true), overlay .. "\n" .. message)
    end
  end)

  it("leaves the map's own faults to the map's lines", function()
    local text = "{ overlay = 'map.overlay.lua',\n A = { 0, 8, 'ro' },\n B = { 1, 8, 'ru' },\n C = { 2, 8,\n F = 9 } }"
    local _, message = with_overlay(text, "return { B = { reset = 1 } }")
    assert.is_truthy(message:find("map.lua:4: B: unknown access ru", 1, true), message)
    assert.is_truthy(message:find("map.lua:6: C.F: bits 9:9 are outside", 1, true), message)
    assert.is_nil(message:find("overlay.lua", 1, true))
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
    text = types.write(luio.registers {
      name = "x", CTRL = { 0, 32, description = ("a word "):rep(20) .. "@end", EN = { 0, description = "starts it" } },
    })
    assert.is_truthy(text:find("\n--- EN: starts it\n---@class x.Registers.CTRL: luio.Register\n", 1, true), text)
    assert.is_truthy(text:find("--- a word a word", 1, true) and text:find("\n---@field CTRL x.Registers.CTRL\n", 1, true), text)
    for line in text:gmatch "[^\n]*a word[^\n]*" do assert.is_true(#line <= 80, line) end
    assert(loadstring(text)) -- and it is Lua
  end)
end)
