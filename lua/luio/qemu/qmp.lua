--- QEMU's monitor by its socket (QMP): commands and their answers, one at a time.

local ffi = require "ffi"
local json = require "luio.text.json"
local now = require("luio.ffi").now
local posix = require "luio.posix"

local M = {}

M.ANSWER = 60 -- seconds for a command

---@class luio.Qmp
---@field fd integer     the machine's
---@field package input string  read, and not used yet
local Qmp = {}
Qmp.__index = Qmp

-- The next message.
---@private
function Qmp:receive(deadline)
  local buffer = ffi.new "char[4096]"
  while true do
    local line, rest = self.input:match "^([^\n]*)\n(.*)$"
    if line then
      self.input = rest
      return json.decode(line)
    end
    local left = deadline - now()
    local poll = ffi.new(posix.pollfd, { self.fd, posix.POLLIN, 0 })
    if left <= 0 then return nil, "QEMU's monitor does not answer", "ETIMEDOUT" end
    if posix.poll(poll, 1, math.ceil(left * 1000)) > 0 then
      local n = posix.read(self.fd, buffer, 4096)
      if n <= 0 then return nil, "QEMU has ended", "EIO" end
      self.input = self.input .. ffi.string(buffer, n)
    end
  end
end

--- Has QEMU do a command. Events that come before its answer are dropped.
---@param command string
---@param arguments? table
---@return any result
---@return string? message  QEMU's
---@return string? code
function Qmp:command(command, arguments)
  local text = require("dkjson").encode { execute = command, arguments = arguments } .. "\n"
  if posix.write(self.fd, text, #text) ~= #text then return posix.failure(command) end
  local deadline = now() + M.ANSWER
  while true do
    local message, why, code = self:receive(deadline)
    if not message then return nil, ("%s: %s"):format(command, why), code end
    if message.error then return nil, ("%s: QEMU: %s"):format(command, message.error.desc), "EINVAL" end
    if message["return"] ~= nil then return message["return"] end
  end
end

--- Reads what has come while no command is under way, and drops it: events. Blocks if nothing has.
---@return boolean open  false: QEMU has ended
function Qmp:drop_events()
  local buffer = ffi.new "char[4096]"
  local n = posix.read(self.fd, buffer, 4096)
  if n > 0 then self.input = (self.input .. ffi.string(buffer, n)):match "[^\n]*$" end
  return n > 0
end

--- Begins the conversation on a socket in which nothing was said yet.
---@param fd integer  stays the caller's
---@return luio.Qmp?
---@return string? message
---@return string? code
function M.greet(fd)
  local qmp = setmetatable({ fd = fd, input = "" }, Qmp)
  local ok, message, code = qmp:command "qmp_capabilities"
  if not ok then return nil, message, code end
  return qmp
end

return M
