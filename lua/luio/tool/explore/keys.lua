--- Keys that are typed at the terminal: read as the loop turns, taken a character at a time.
---
--- Standard input is polled by the loop. Bytes wait here until they are taken. A take while there are
--- none turns the loop, so tasks run meanwhile. A paste, which the terminal marks, comes as one
--- key, its text in `pasted`. An event (a signal, the terminal's end) comes before any key.

local bit = require "bit"
local ffi = require "ffi"
local posix = require "luio.posix"
local wait_slot = require "luio.loop.wait_slot"
local text = require "luio.tool.explore.text"
local uv = require "luv"

local M = {}

--- Events that come as keys: a paste, and Ctrl-C, which comes as a signal.
M.PASTE, M.INTERRUPT = 30, 31 -- ^^ and ^_

local STDIN = 0
local READ_SIZE = 4096
local read_buffer = ffi.new("char[?]", READ_SIZE)

---@class luio.Keys
---@field event string?   what happened, until somebody deals with it: "interrupt", "hangup" or what `tell` was given
---@field pasted string?  the text of the paste that M.PASTE stands for
---@field package input string  bytes that were read and not yet handed out
---@field package wake fun()?
local Keys = {}
Keys.__index = Keys

-- libuv makes a descriptor that it polls non-blocking, and with it the shell's and our own output.
local function blocking_again(fd)
  local flags = posix.fcntl(fd, posix.F_GETFL, 0)
  posix.fcntl(fd, posix.F_SETFL, bit.band(flags, bit.bnot(posix.O_NONBLOCK)))
end

--- The keys of the terminal on standard input.
---@return luio.Keys?
---@return string? message
---@return string? code
function M.open()
  local poll, message, code = uv.new_poll(STDIN)
  if not poll then return nil, message, code end
  blocking_again(STDIN)
  return setmetatable({ poll = poll, input = "" }, Keys)
end

--- From here on until `stop` keys are read.
function Keys:start()
  self.pasted = nil
  assert(self.poll:start("r", function() self:on_readable() end))
end

--- Takes no more keys, until `start`.
function Keys:stop()
  self.poll:stop()
end

--- Closes its handle; turns the loop until it is closed.
function Keys:close()
  local closed
  self.poll:close(function() closed = true end)
  while not closed do uv.run "nowait" end
end

---@private
function Keys:on_readable()
  local n = posix.read(STDIN, read_buffer, READ_SIZE)
  if n > 0 then
    self.input = self.input .. ffi.string(read_buffer, n)
  else
    self.poll:stop()
    self.event = self.event or "hangup"
  end
  if self.wake then self.wake() end
end

--- Lets an event come before any further key.
---@param event string
function Keys:tell(event)
  self.event = event
  if self.wake then self.wake() end
end

--- Waits for bytes, or for another event; turns the loop.
---@param seconds number
function Keys:await(seconds)
  local before = #self.input
  wait_slot.await(seconds, function(wake)
    self.wake = wake
    return function() self.wake = nil end
  end)
  -- A Ctrl-C empties the terminal's queue, so these keys were typed after a Ctrl-C that libuv may not
  -- have reported yet.
  if #self.input > before then uv.run "nowait" end
end

local PASTE, PASTE_END = "\27[200~", "\27[201~"

-- Whether the input begins with a paste; waits for what decides it.
---@private
function Keys:is_paste()
  while #self.input < #PASTE and self.input == PASTE:sub(1, #self.input) and #self.input > 1 do
    local before = #self.input
    self:await(0.05)
    if #self.input == before then return false end
  end
  return self.input:sub(1, #PASTE) == PASTE
end

-- The text of a paste as it is, line ends included, but for what a terminal would obey.
---@private
function Keys:take_paste()
  local deadline = uv.hrtime() + 2e9
  while not self.input:find(PASTE_END, 1, true) and not self.event and uv.hrtime() < deadline do self:await(0.1) end
  local first, last = self.input:find(PASTE_END, #PASTE + 1, true)
  local pasted = self.input:sub(#PASTE + 1, (first or 0) - 1)
  self.input = last and self.input:sub(last + 1) or ""
  return text.valid((pasted:gsub("\r\n?", "\n"):gsub("\t", "  "):gsub("[%z\1-\9\11-\31\127]", ""):gsub("\n+$", "")))
end

--- The next character; waits for it.
---@return integer? code  nil: an event; "interrupt" comes as a key, so that it ends a search, too, and comes again
---                       until somebody has dealt with it
function Keys:next()
  while true do
    if self.event then return self.event == "interrupt" and M.INTERRUPT or nil end
    if self.input:byte() == 27 and self:is_paste() then
      self.pasted = self:take_paste()
      return M.PASTE
    end
    local code, after
    if self.input ~= "" then code, after = text.decode(self.input, 1) end
    if code then
      self.input = self.input:sub(after)
      return code
    end
    self:await(3600)
  end
end

--- Lets a character come again.
---@param code integer
function Keys:put_back(code)
  self.input = text.encode(code) .. self.input
end

return M
