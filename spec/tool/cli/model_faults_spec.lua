--- A model that fails, as commands tell it: one sentence with the model's file and line, no place of luio's own, no list of calls.

local files = require "spec.support.files"
local program = require "spec.support.program"
local uv = require "luv"

local HEAD = "return { regions = { [0] = { size = 0x1000 } }, read = function(dev, offset) %s end, write = function(dev, offset, width, value) %s end }\n"
local MAP = "return { name = 'mine', match = {}, registers = require('luio').registers { A = { 0, 32, X = 0 } } }\n"

local folder

local function luio(args) return program.run_in(folder, args) end

local function write(read, on_write)
  folder = uv.cwd() .. "/" .. select(2, files.write("drivers/mine/model.lua", HEAD:format(read, on_write or "")))
  files.put(folder .. "/drivers/mine/init.lua", MAP)
end

-- The message ends with these words, names no file of luio's, and is one line.
local function says(args, words)
  local out, status = luio(args)
  assert.equal(1, status, args .. "\n" .. out)
  assert.is_truthy(out:find(words, 1, true), ("%s: %q is not in\n%s"):format(args, words, out))
  assert.is_nil(out:find("lua/luio/", 1, true), args .. "\n" .. out)
  assert.is_nil(out:find("traceback", 1, true), args .. "\n" .. out)
  assert.equal(1, select(2, out:gsub("\n", "")), args .. "\n" .. out)
end

describe("a model that fails", function()
  after_each(files.clean)

  it("in a read is told with its file and line by each command", function()
    write("local x return x.y")
    local words = "read32 sim:mine region0 at 0x0: model: drivers/mine/model.lua:1: attempt to index local 'x' (a nil value)"
    for _, args in ipairs { "get sim:mine A", "get sim:mine 0x0", "dump sim:mine", "snapshot sim:mine", "set sim:mine A=1", "watch sim:mine A --for 1" } do
      says(args, words)
    end
    assert.matches("^%-?[%(]read32 sim:mine region0 at 0x0: model: drivers/mine/model.lua:1: attempt to index",
      (luio("explore sim:mine -e A"):gsub("\n +", " ")))
  end)

  it("in a write, too, and by what it does wrong with luio's functions at its own line", function()
    for code, words in pairs {
      ["error 'boo'"] = "boo", ["dev.raise()"] = "call it with a colon: dev:raise()",
      ["dev:after('x')"] = "dev:after wants seconds and a function", ["dev:dma_read()"] = "dev:dma_read wants an IOVA and a number of bytes",
      ["dev:dma_write(0, 5)"] = "dev:dma_write wants an IOVA and a string",
    } do
      write("return 0", code)
      says("set sim:mine A=1", "luio: write32 sim:mine region0 at 0x0: model: drivers/mine/model.lua:1: " .. words)
    end
  end)

  it("otherwise is told with its file", function()
    write("return 'x'")
    says("get sim:mine A", "model: drivers/mine/model.lua: read of 0x0 returned string, not a number")
    write("return 0")
    files.save(folder .. "/drivers/mine/model.lua", "local x = require 'drivers.mine.nothing'")
    says("get sim:mine A", "drivers/mine/model.lua:1: module 'drivers.mine.nothing' not found: there is no drivers/mine/nothing.lua")
    files.save(folder .. "/drivers/mine/model.lua", "return { read = print, write = print, regions = {}, reset = function() error 'at reset' end }")
    says("get sim:mine 0x0", "luio: model: drivers/mine/model.lua:1: at reset")
    files.save(folder .. "/drivers/mine/model.lua", "return {\n  read = }")
    says("get sim:mine 0x0", "luio: model: drivers/mine/model.lua:2: unexpected symbol near '}'")
  end)

  it("under a driver or a script is told at the line that made the access, however it was made", function()
    write("error 'boo'", "error 'boo'")
    files.save(folder .. "/s.lua", "local dev = assert(require('luio').start('drivers/mine', 'sim:mine'))\nlocal a = dev.regs.A\n"
      .. "local function try(fn) print((select(2, pcall(fn)):gsub('write32', 'read32'))) end\n"
      .. "try(function() local v = a:read() return v end) try(function() a:write(1) end) try(function() a:update { X = 1 } end)"
      .. " try(function() local _ = a:get 'X' return _ end) try(function() dev.regions[0]:write32(0, 1) end)\n")
    local line = "s.lua:4: read32 sim:mine region0 at 0x0: model: drivers/mine/model.lua:1: boo\n"
    assert.equal(line:rep(5), (luio "s.lua"))
  end)
end)
