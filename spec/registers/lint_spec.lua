--- luio lint: its questions, and the ways in which a map or an overlay answers "no".

local files = require "spec.support.files"
local lint = require "luio.registers.lint"
local luio = require "luio"
local maps = require "luio.driver.maps"

local MAP = [[{
  INT_STATUS = { 0x00, 32, "rw", DONE = 0 },
  RX_FIFO    = { 0x08, 32, "ro" },
  CLR        = { 0x0c, 32, "rw" },
  SET        = { 0x10, 32, "rw" },
  CMD        = { 0x14, 32, "rw" },
  CTRL       = { 0x18, 32, "rw", START = 0, MODE = { 7, 4, description = "Reading it clears nothing; read to clear is another" } },
  WHOLE      = { 0x1c, 32, "rw", ALL = { 31, 0 } },
}]]

local function paths(map)
  local list = {}
  for _, f in ipairs(lint.check(map)) do table.insert(list, f.path) end
  table.sort(list)
  return list
end

local function map_of(text) return luio.registers(assert(loadstring("return " .. text))()) end

describe("lint", function()
  teardown(files.clean)

  it("asks where a name gives something away, not about fields as wide as their register", function()
    assert.same({ "CLR", "CMD", "CTRL.MODE", "CTRL.START", "INT_STATUS", "RX_FIFO", "SET" }, paths(map_of(MAP)))
  end)

  it("takes false for an answer, of a register and of a field, about reading and about writing", function()
    local function answer(name, what) return (MAP:gsub("(" .. name .. " +=[^\n]-)( },\n)", "%1, " .. what .. " = false%2")) end
    local cause = '{ CAUSE_ISR = { 4, 32, "ro"%s } }'
    assert.same({ "CAUSE_ISR" }, paths(map_of(cause:format "")))
    assert.same({}, paths(map_of(cause:format ", read_effect = false")))
    for name, what in pairs {
      INT_STATUS = "write_effect", RX_FIFO = "read_effect", CLR = "write_effect", SET = "write_effect", CMD = "write_effect",
    } do
      local left = paths(map_of(answer(name, what)))
      for _, path in ipairs(left) do assert.not_equal(name, path) end
      assert.equal(6, #left, name)
    end
    assert.equal(6, #paths(map_of((MAP:gsub("START = 0", "START = { 0, write_effect = false }")))))
    assert.equal(6, #paths(map_of((MAP:gsub('description = "Reading', 'read_effect = false, %0')))))
  end)

  it("is answered by an overlay, which outlives the next import", function()
    local path, dir = files.write("chip.lua", 'return (require("luio").registers ' .. MAP:gsub("^{", '{ overlay = "answers.lua", ') .. ")")
    files.put(dir .. "/answers.lua", [[return {
      INT_STATUS = { write_effect = false }, RX_FIFO = { read_effect = "pops" }, CLR = { write_effect = false },
      SET = { write_effect = false }, CMD = { write_effect = "sends it" }, CTRL = { START = { write_effect = false }, MODE = { read_effect = false } } }]])
    local map = assert(maps.load(path))
    assert.same({}, paths(map))
  end)

  it("gives no effect where there is none, and takes no other answer", function()
    local map = luio.registers { A = { 0, 32, "rw", read_effect = false, write_effect = false, F = { 0, read_effect = false, write_effect = false } } }
    local def = map.child.A
    assert.same({}, { def.read_effect, def.write_effect, def.fields[1].read_effect, def.fields[1].write_effect })
    for _, value in ipairs { true, 0 } do
      local ok, message = pcall(luio.registers, { A = { 0, 32, "rw", read_effect = value } })
      assert.is_false(ok)
      assert.matches("A: read_effect is a string, not a " .. type(value), message)
    end
  end)
end)
