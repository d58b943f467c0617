--- The other end of a serial line of QEMU's: a socket, which QEMU's chardev `wire` is.

local assert = require "luassert"
local uv = require "luv"
local files = require "spec.support.files"
local wait = require "spec.support.wait"

local M = {}

--- A text of so many bytes in which no place is like another nearby, without XON and XOFF.
---@param n integer
---@return string
function M.text_of(n)
  local parts = {}
  for i = 1, math.ceil(n / 8) do parts[i] = ("%07x\n"):format(i) end
  return table.concat(parts):sub(1, n)
end

--- Starts a machine by `open`, and takes the other end of its line.
---@generic T
---@param open fun(chardev: string): T  the value of its -chardev
---@return T opened  by `open`
---@return uv_pipe_t far
function M.take(open)
  local path = files.write("x", ""):gsub("x$", "wire")
  local opened = open(("socket,id=wire,path=%s,server=on,wait=off"):format(path))
  local far, connected = uv.new_pipe(false), nil
  far:connect(path, function(err) connected = err or true end)
  wait.till(60, "the line is plugged in", function() return connected end)
  assert.is_true(connected)
  return opened, far
end

return M
