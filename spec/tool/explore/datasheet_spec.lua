--- A map looked at with no device: `luio dump --map FILE`, and `luio explore --map FILE` without and within a terminal.

local datasheet = require "luio.tool.explore.datasheet"
local effects = require "luio.registers.effects"
local files = require "spec.support.files"
local program = require "spec.support.program"
local tmux = require "spec.support.tmux"
local uv = require "luv"

local shell, LUIO = files.shell, program.PATH

local MAP = [[
return require("luio").registers {
  description = "a device of the datasheet's",
  ID = { 0x00, 32, "ro", reset = 0x010000ed, MAGIC = { 7, 0 },
    description = "what the device is called, in words that are more than fit into a line of eighty columns" },
  FIFO = { 0x4, 8, "ro", read_effect = "pops the FIFO" },
  TABLE = { 0x20, 32, count = 64, ADDR = { 31, 4 } },
  CHANNEL = { 0x200, count = 4, stride = 0x20, description = "one a queue", block = {
    LENGTH = { 0x4, 32, "rw" }, DATA = { 0x8, 32, "ro", read_effect = "pops" } } },
}]]

describe("a map with no device", function()
  local map
  setup(function() map = files.write("m.lua", MAP) end)
  teardown(files.clean)

  local function explore(chunks)
    local words = {}
    for _, chunk in ipairs(chunks) do words[#words + 1] = (" -e '%s'"):format(chunk) end
    return shell(("%s explore --map %s%s </dev/null"):format(LUIO, map, table.concat(words)))
  end

  it("is dumped as a datasheet: offsets, widths, access, reset, effects, fields, descriptions in lines", function()
    local out, status = shell(("%s dump --map %s"):format(LUIO, map))
    assert.equal(0, status)
    for _, part in ipairs {
      "74 registers\n  a device of the datasheet's\n", "\nID  0x0, 32 bits, ro: read-only\n", "\n  reset     0x010000ed MAGIC=0xed\n",
      "\n  7:0   MAGIC  ro\n", "\n  reading   pops the FIFO; left out", "\nTABLE  64 registers at 0x20 + 0x4 * i, 32 bits",
      "\nCHANNEL[*].DATA  0x208 + 0x20 * i, 32 bits, ro",
    } do assert.is_truthy(out:find(part, 1, true), part) end
    for line in out:gmatch "[^\n]+" do assert.is_true(#line <= 80, line) end
  end)

  it("is dumped in part: by names, elements, fields and patterns", function()
    local function dump(place) return shell(("%s dump --map %s '%s'"):format(LUIO, map, place)) end
    assert.matches("^ID%.MAGIC  bits 7:0", (dump "ID.MAGIC"))
    assert.matches("^CHANNEL%[2%]%.LENGTH  0x244, 32 bits", (dump "CHANNEL[2].LENGTH"))
    assert.matches("\nCHANNEL%[%*%]%.LENGTH  ", (dump "CHANNEL"))
    assert.matches("^CHANNEL%[%*%]%.DATA  ", (dump "*.DA*"))
    assert.matches("^CHANNEL%[%*%]%.DATA  ", (dump "CHANNEL[?].D*"))
    assert.matches("^TABLE  64 registers", (dump "TAB*"))
    assert.matches("^luio: TAB%?: no register of ", (dump "TAB?"))
    assert.same({ "luio: no register NOPE\n", 1 }, { dump "NOPE" })
    assert.same({ ("luio: 0x20: there is no device, only a map: luio dump DEVICE --map %s (luio list shows devices)\n"):format(map), 1 },
      { dump "0x20" })
  end)

  it("is gone through once for what else is at each register's bytes", function()
    local made, of_map = 0, effects.of_map
    effects.of_map = function(...)
      made = made + 1
      return of_map(...)
    end
    finally(function() effects.of_map = of_map end)
    local lines = assert(datasheet.lines(assert(loadfile(map))(), {}, map))
    assert.is_true(#lines > 20)
    assert.equal(1, made)
  end)

  it("is neither a value nor anything without a map", function()
    local out, status = shell(("%s dump --map %s --json"):format(LUIO, map))
    assert.equal(2, status)
    assert.matches("name one", out)
    for _, command in ipairs { "dump", "explore" } do
      out, status = shell(("%s %s </dev/null"):format(LUIO, command))
      assert.equal(2, status)
      assert.matches("missing argument 'device', or %-%-map FILE", out)
    end
  end)

  it("is explored: names show what they are, ?NAME and ??word work, values are decoded", function()
    local out, status = explore { "FIFO", "regs.CHANNEL[1].LENGTH", "?TABLE", "??pops", "ID:decode(5)", "dump(FIFO)" }
    assert.equal(0, status)
    assert.equal(2, select(2, out:gsub("FIFO  0x4, 8 bits, ro: read%-only\n  reading   pops the FIFO", "")))
    assert.matches("\nCHANNEL%[1%]%.LENGTH  0x224, 32 bits", out)
    assert.matches("\nTABLE  64 registers at 0x20", out)
    assert.matches("\nCHANNEL%[%*%]%.DATA  0x208  pops\n{ MAGIC = 5 }\n", out)
  end)

  it("says that there is no device, and how to name one, whatever would touch it", function()
    local words = ("there is no device, only a map: luio explore DEVICE --map %s ("):format(map)
    local chunks = {
      "FIFO:read()", "CHANNEL[1].LENGTH:write(1)", "ID:get \"MAGIC\"", "ID.MAGIC = 1", "dev:close()", "dev.irqs[0]:wait(1)", "driver.go(dev)",
      "get \"ID\"", "reg \"0x20:u32\"", "set \"ID=1\"", "snapshot()", "watch(\"ID\", 1)", "irqs()", "unmask()", "start()", "reopen()", "undo()",
      "session()", "info()", "doctor()", "reload()", "regs:each()", "regs:snapshot()",
    }
    local tries = {}
    for i, chunk in ipairs(chunks) do tries[i] = ("print(%d, pcall(function() %s end))"):format(i, chunk) end
    local out, status = explore(tries)
    assert.equal(0, status, out)
    for i, chunk in ipairs(chunks) do
      assert.is_truthy(("\n" .. out):find(("\n%d\tfalse\t%s"):format(i, words), 1, true), chunk .. "\n" .. out)
    end
    for _, chunk in ipairs { "FIFO:read()", "start()" } do -- as messages they are errors
      out, status = explore { chunk }
      assert.equal(1, status, chunk)
      assert.equal(1, out:find("luio: " .. words, 1, true), out)
    end
    assert.matches("there is no device", (explore { "dev" }))
  end)

  it("is completed and explained at the prompt #tmux", function()
    local t = tmux.start(("%s explore --map %s"):format(LUIO, map), { env = { HOME = "/nonexistent",
      XDG_STATE_HOME = uv.cwd() .. "/" .. map .. ".state" } })
    finally(function() t:close() end)
    t:wait_last "m.lua>"
    t:type "CHA\t"
    t:wait_last "m.lua> CHANNEL["
    t:type "1].L\t\n"
    t:wait "CHANNEL[1].LENGTH  0x224, 32 bits"
    t:type "?TAB\t\n"
    t:wait "TABLE  64 registers at 0x20"
    t:type "ID:re\t)\n"
    t:wait "luio explore DEVICE"
    t:key "C-d"
  end)
end)
