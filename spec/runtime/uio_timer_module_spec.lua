--- The three descriptions of examples/kernel/uio_timer, in C, Lua and prose, agree.

local files = require "spec.support.files"
local luio = require "luio"
local program = require "spec.support.program"

local folder = "examples/kernel/uio_timer/"
local source = files.read(folder .. "uio_timer.c")
local readme = files.read(folder .. "README.md")
local map = assert(luio.load "uio_timer").registers

-- Fields of a C structure in order: name, offset, bytes.
local function fields(struct)
  local list, offset = {}, 0
  for line in assert(source:match("\nstruct " .. struct .. " {\n(.-)\n};")):gmatch "[^\n]+" do
    local bits, names = line:match "^\tu(%d+) ([%w_, %[%]]+);"
    assert(bits, line)
    for name in names:gmatch "[^, ]+" do
      local plain, count = name:match "^([%w_]+)%[?(%d*)%]?$"
      table.insert(list, { name = plain, offset = offset, bits = tonumber(bits) })
      offset = offset + bits / 8 * (tonumber(count) or 1)
    end
  end
  return list, offset
end

local registers = {} -- of the map, by name
map:each(function(path, def, offset) registers[path] = { offset = offset, region = def.region, width = def.width } end)

describe("the kernel module uio_timer", function()
  it("has the structures that the Lua map describes", function()
    local n = 0
    for region, struct in pairs { [0] = "uio_timer_registers", [1] = "uio_timer_control" } do
      for _, field in ipairs((fields(struct))) do
        local name = field.name == "running" and "STATUS" or field.name:upper()
        if field.name ~= "unused" then
          assert.same({ offset = field.offset, region = region, width = field.bits }, registers[name], name)
          n = n + 1
        end
      end
    end
    assert.equal(14, n)
    local record, size = fields "uio_timer_record"
    assert.equal(32, size)
    for i = 1, 4 do
      local name = "RECORD[0]." .. record[i].name:upper()
      assert.same({ offset = record[i].offset, region = 2, width = record[i].bits }, registers[name], name)
    end
  end)

  it("has a README whose table of registers is the map's", function()
    local n = 0
    for name, region, offset, writer in readme:gmatch "\n| `([%u_]+)` | (%d) | (0x%x+) | ([%l ]+) |" do
      assert.same({ offset = tonumber(offset), region = tonumber(region), width = 32 }, registers[name], name)
      assert.equal(writer == "user space", map.child[name].writable, name)
      n = n + 1
    end
    assert.equal(14, n)
  end)

  it("has a README that walks through every section and function, in order, and names none that is not there", function()
    local walk = assert(readme:match "\n## From top to bottom\n(.-)\n## ")
    local last, sections, functions = 0, 0, 0
    for title in source:gmatch "\n/%* %-+ ([%w ]+) %-+ %*/\n" do
      local at = walk:find("**" .. title .. ".**", 1, true)
      assert.is_true(at ~= nil and at > last, title)
      last, sections = at, sections + 1
    end
    for name in source:gmatch "\n[%w_ *]-([%w_]+)%([^;{]-%)\n{" do
      assert.is_truthy(walk:find("`" .. name .. "`", 1, true), name .. " is not explained")
      functions = functions + 1
    end
    assert.same({ 6, 19 }, { sections, functions })
    -- Names of C: lowercase words with an underscore between.
    for name in walk:gmatch "`(%l+_[%l_]+)`" do
      assert.is_truthy(source:find("%f[%w_]" .. name) or name == "uio_pci_generic", name .. " is not in the source")
    end
  end)
end)

describe("examples/ticks.lua", function()
  local function says(args, status, words)
    local out, got = program.run("examples/ticks.lua " .. args)
    assert.equal(status, got, args .. "\n" .. out)
    assert.matches(words, out)
  end

  it("shows both ways on the model", function()
    says("sim:uio_timer --rate 500 --seconds 0.2", 0, "by the ring +%d+ of %d+ interrupts, 0 lost, %d+ wake%-ups, %d+ periods missed\n"
      .. "  the handler was late by [%d.]+ %S+ %(median%), [%d.]+ %S+ %(99 %%%)\n"
      .. "one wake%-up each +[1-9]%d* of %d+ interrupts, %d+ came together with another\n")
  end)

  it("says what is wrong", function()
    says("--help", 0, "%-%-rate")
    says("sim:uio_timer --rate 0", 2, "ticks: %-%-rate 0: a number from 0.3")
    says("sim:uio_timer --rate 1000000", 1, "ticks: 1e%+06 interrupts per second: sim:uio_timer allows 0.2328 to 10000")
    says("sim:nothing", 1, "ticks: ")
  end)
end)
