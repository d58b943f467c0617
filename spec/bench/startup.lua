--- Start-up: a whole process, from spawn until it is reaped.
---
--- `luio list`; `luio get` of a register, with its map; a shell's completion after TAB; luajit with a script that only loads
--- luio; and the luio program with a script that opens a simulated device and reads its first register (first_read.lua), which
--- starts the model's thread and Lua state as well. The peer of all is `python3 -c pass`, an interpreter that loads nothing.

local amount = require("tools").amount
local ffi = require "ffi"

local SAMPLES = amount(25)

local M = { name = "startup" }

function M.run(tools)
  local twin = tools.twin()

  local function spawn(...)
    local words = { ... }
    local argv = ffi.new("const char *[?]", #words + 1) -- ends with NULL: ffi.new clears
    for i, word in ipairs(words) do argv[i - 1] = word end
    return function()
      local ns = tonumber(twin.twin_spawn(argv)) -- `words` keeps the strings alive
      if ns == 0 then error("this failed: " .. table.concat(words, " "), 0) end
      return ns / 1e6
    end
  end

  local load = ("package.path = %q .. package.path; require 'luio'"):format(
    ("%s/lua/?.lua;%s/lua/?/init.lua;"):format(tools.root, tools.root))
  local t = tools.take_turns(SAMPLES, {
    list = spawn(tools.program, "list"),
    get = spawn(tools.program, "get", "sim:edu", "STATUS"),
    complete = spawn(tools.program, "__complete", "--", "get", "sim:edu", "ST"),
    load = spawn("luajit", "-e", load),
    first_read = spawn(tools.program, tools.here .. "/first_read.lua"),
    luajit = spawn("luajit", "-e", ""),
    python = spawn(tools.python(), "-c", "pass"),
  })
  return {
    { name = "start-up, luio list", unit = "ms", luio = t.list, peer = t.python, aim = "<= 1", note = "peer of all six: python3 -c pass" },
    { name = "start-up, luio get sim:edu", unit = "ms", luio = t.get, peer = t.python, aim = "<= 2" },
    { name = "start-up, luio __complete", unit = "ms", luio = t.complete, peer = t.python, aim = "<= 2" },
    { name = "start-up, require luio", unit = "ms", luio = t.load, peer = t.python, aim = "<= 1" },
    { name = "start-up, sim:edu to first read", unit = "ms", luio = t.first_read, peer = t.python, aim = "<= 1" },
    { name = "start-up, luajit -e ''", unit = "ms", luio = t.luajit, peer = t.python, note = "the floor: no luio in it" },
  }
end

return M
