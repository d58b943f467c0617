--- QEMU's monitor by its socket (QMP): commands, their answers, and events.
---
--- Each command has a number, which its answer repeats. So several tasks may have commands under way, which QEMU does in their order;
--- and an answer for which nobody waits any more (the deadline has passed, the task was cancelled) is dropped when it comes. The
--- socket is read while the loop turns. An event goes to the tasks that wait for it; if none does it is kept, and a later wait gets it
--- at once. Of the kept events the oldest is dropped, and counted, when there are too many.
---
--- QEMU is believed nothing: a line that is too long, or is no message of QMP's, ends the conversation, and each later command has that
--- reason. What comes after that is dropped unread.

local ffi = require "ffi"
local handles = require "luio.loop.handles"
local json = require "luio.text.json"
local now = require("luio.ffi").now
local posix = require "luio.posix"
local term = require "luio.text.term"
local uv = require "luv"
local wait_slot = require "luio.loop.wait_slot"

local M = {}

--- Seconds for a command; and for the beginning of the conversation.
M.ANSWER = 60
--- Events that are kept, at most.
M.EVENTS = 256
--- Bytes of a message from QEMU, at most; and of commands that QEMU has not read yet.
M.LIMIT, M.OUTPUT = 16 * 2 ^ 20, 2 ^ 20

local start_poll = uv.poll_start -- luv's own: luio.reload.callbacks has a look at what others start

local EPOLL_CTL_ADD, EPOLL_CTL_MOD, EPOLLIN, EPOLLOUT = 1, 3, 1, 4
local epoll_event = ffi.typeof(ffi.arch == "x64" and "struct { uint32_t events; uint64_t data; } __attribute__((packed))"
  or "struct { uint32_t events; uint64_t data; }")

local SIZE = 65536
local buffer = ffi.new("char[?]", SIZE)

--- An event of QEMU's, as its reference names them (QEMU QMP Reference Manual).
---@class luio.QmpEvent
---@field event string  "DEVICE_DELETED"
---@field data table    {}: it has none
---@field timestamp table  seconds and microseconds, of the wall clock

---@class luio.Qmp
---@field dropped integer  events that were not kept
---@field on_event fun(event: luio.QmpEvent)?  called with each, first; must not raise
---@field on_end fun()?    called once, when QEMU has closed the socket; must not raise
---@field package fd integer
---@field package epoll integer    a set of that descriptor alone. libuv watches this one: of a socket that was reset luv writes
---                                "EBADF" to standard error, and libuv watches no more though there is something to read
---@field package pid integer
---@field package poll userdata
---@field package parts string[]   of the line that is being received
---@field package size integer     bytes in them
---@field package lines string[]   complete, and not looked at yet
---@field package output string    not sent yet
---@field package number integer   of the last command
---@field package pending table<integer, fun(...)>  wake those that wait for an answer
---@field package waiters table[]  wait for events
---@field package events luio.QmpEvent[]  kept, the oldest first
---@field package greeted boolean?
---@field package failure { message: string, code: string }?  why the conversation has ended
---@field package over boolean?     the socket is closed, at one of its ends
---@field package closed boolean?
local Qmp = {}
Qmp.__index = Qmp

-- ---- The end -------------------------------------------------------------------------------------

-- From now on each command has this error.
local function fail(self, message, code)
  if self.failure then return end
  self.failure = { message = message, code = code }
  self.output, self.parts, self.size, self.lines = "", {}, 0, {}
  local pending, waiters = self.pending, self.waiters
  self.pending, self.waiters = {}, {}
  for _, wake in pairs(pending) do wake(nil, message, code) end
  for _, waiter in ipairs(waiters) do waiter.wake(nil, message, code) end
end

local function ended(self)
  if self.over then return end
  self.over = true
  self.poll:stop()
  fail(self, "QEMU has ended", "EIO")
  if self.on_end then self.on_end() end
end

-- ---- What comes ----------------------------------------------------------------------------------

local function fits(event, name, data)
  if event.event ~= name then return false end
  for key, value in pairs(data or {}) do
    if event.data[key] ~= value then return false end
  end
  return true
end

local function take_event(self, event)
  if self.on_event then self.on_event(event) end
  local told = {}
  for _, waiter in ipairs(self.waiters) do
    if fits(event, waiter.name, waiter.data) then table.insert(told, waiter) end
  end
  for _, waiter in ipairs(told) do waiter.wake(event) end
  if told[1] then return end
  table.insert(self.events, event)
  if #self.events > M.EVENTS then
    table.remove(self.events, 1)
    self.dropped = self.dropped + 1
  end
end

local function is_object(value) return type(value) == "table" and not json.is_array(value) end

-- What is wrong with a message, if anything.
local function take_message(self, message)
  if not is_object(message) then return "no object" end
  if not self.greeted then
    self.greeted = is_object(message.QMP)
    return not self.greeted and "it does not begin with QMP's greeting" or nil
  end
  if message.event ~= nil then
    if type(message.event) ~= "string" then return "an event without a name" end
    if message.data ~= nil and not is_object(message.data) then return "an event whose data is no object" end
    message.data = message.data or {}
    return take_event(self, message)
  end
  local number, failure = message.id, message.error
  if type(number) ~= "number" or number % 1 ~= 0 or number < 1 or number > self.number then
    return "an answer to no command of ours"
  end
  if failure ~= nil and not (is_object(failure) and type(failure.desc) == "string") then return "an error without a description" end
  if failure == nil and message["return"] == nil then return "neither a result nor an error" end
  local wake = self.pending[number]
  if not wake then return end
  self.pending[number] = nil
  if failure then wake(nil, "QEMU: " .. term.clean(failure.desc, 1000), "EINVAL") else wake(message["return"]) end
end

-- A task that is woken may have more read, and come here again: so the lines wait in the order in which they came.
local function take_lines(self)
  while self.lines[1] do
    local line = table.remove(self.lines, 1)
    local message, why = json.decode(line)
    if message ~= nil or not why then why = take_message(self, message) end
    if why then return fail(self, ("QEMU's monitor said \"%s\": %s"):format(term.clean(line, 100), why), "EPROTO") end
  end
end

local function feed(self, text)
  local at = 1
  while true do
    local stop = text:find("\n", at, true)
    local part = text:sub(at, stop and stop - 1)
    table.insert(self.parts, part)
    self.size = self.size + #part
    if self.size > M.LIMIT then return fail(self, ("QEMU's monitor said more than %d bytes in a line"):format(M.LIMIT), "EPROTO") end
    if not stop then break end
    table.insert(self.lines, table.concat(self.parts))
    self.parts, self.size, at = {}, 0, stop + 1
  end
  take_lines(self)
end

-- Reads what has come.
local function take(self)
  local n = posix.read(self.fd, buffer, SIZE)
  if n > 0 then return not self.failure and feed(self, ffi.string(buffer, n)) or nil end
  local number = n < 0 and ffi.errno()
  if number ~= posix.EAGAIN and number ~= posix.EINTR then ended(self) end
end

-- ---- What goes -----------------------------------------------------------------------------------

local function send(self)
  while self.output ~= "" do
    local n = posix.sendto(self.fd, self.output, #self.output, posix.MSG_NOSIGNAL, nil, 0)
    if n < 0 then
      local number = ffi.errno()
      if number == posix.EAGAIN then break end
      if number ~= posix.EINTR then return ended(self) end
    else
      self.output = self.output:sub(n + 1)
    end
  end
end

-- Has the loop hear of input, and of room for output where some waits.
local function watch(self, operation)
  local event = ffi.new(epoll_event, { EPOLLIN + (self.output ~= "" and EPOLLOUT or 0), 0 })
  return posix.epoll_ctl(self.epoll, operation or EPOLL_CTL_MOD, self.fd, event) == 0
end

-- As wait_slot.await, without a turn of the loop.
local function block(self, seconds, arm)
  local deadline, results = now() + seconds, nil
  local disarm = arm(function(...) results = results or { n = select("#", ...), ... } end)
  while not results do
    local left = deadline - now()
    if left <= 0 then break end
    local poll = ffi.new(posix.pollfd, { self.fd, posix.POLLIN + (self.output ~= "" and posix.POLLOUT or 0), 0 })
    posix.poll(poll, 1, math.ceil(left * 1000))
    send(self)
    take(self)
  end
  disarm()
  if not results then return nil, "timed out", "ETIMEDOUT" end
  return unpack(results, 1, results.n)
end

-- ---- Commands ------------------------------------------------------------------------------------

local FORM = { execute = "string", arguments = "table" }

-- A command as a line, or what is wrong with it: "set_link", { up = false }; or both in a table, as QMP writes them.
local function line_of(name, arguments, number)
  if type(name) == "table" then
    if arguments ~= nil then return nil, "the arguments are in the table: command{ execute = NAME, arguments = {...} }" end
    for key, value in pairs(name) do
      if not FORM[key] then return nil, ("no %s: command{ execute = NAME, arguments = {...} }"):format(tostring(key)) end
      if type(value) ~= FORM[key] then return nil, ("%s is a %s, not a %s"):format(key, FORM[key], type(value)) end
    end
    name, arguments = name.execute, name.arguments
  end
  if type(name) ~= "string" then return nil, "a command's name is a string, not a " .. type(name) end
  if arguments ~= nil and type(arguments) ~= "table" then
    return nil, ("the arguments of %s are a table, not a %s"):format(name, type(arguments))
  end
  local text, fault = json.encode { execute = name, arguments = arguments and next(arguments) ~= nil and arguments or nil, id = number }
  if not text then return nil, ("%s: JSON has no form for %s"):format(name, fault) end
  return text .. "\n", name
end

local function ask(self, wait, text, name, seconds)
  local number = self.number + 1
  if self.failure then return nil, ("%s: %s"):format(name, self.failure.message), self.failure.code end
  if #self.output + #text > M.OUTPUT then
    local message = "%s: QEMU (process %d) has not read %d bytes of commands yet: is it stopped?"
    return nil, message:format(name, self.pid, #self.output), "EAGAIN"
  end
  self.number = number
  seconds = seconds or M.ANSWER
  local result, message, code = wait(seconds, function(wake)
    self.pending[number] = wake
    self.output = self.output .. text
    send(self)
    watch(self)
    return function() self.pending[number] = nil end
  end)
  if message == nil then return result end
  if code == "ETIMEDOUT" then
    message = ("QEMU (process %d) has not answered within %g s: is it stopped, or is its work that long?"):format(self.pid, seconds)
  end
  return nil, ("%s: %s"):format(name, message), code
end

--- Has QEMU do a command, and waits for its answer: in a task others go on meanwhile.
---@param name string|{ execute: string, arguments: table? }
---@param arguments? table  of strings, numbers, booleans and tables; an empty list needs the metatable ARRAY of luio.text.json
---@return any result
---@return string? message
---@return string? code  "EINVAL": QEMU refuses it, in its words; "EIO": it has ended; "ETIMEDOUT"; "EAGAIN": it reads nothing; "EPROTO"
function Qmp:command(name, arguments)
  local text, name_or_fault = line_of(name, arguments, self.number + 1)
  if not text then error("command: " .. name_or_fault, 2) end
  return ask(self, wait_slot.await, text, name_or_fault)
end

--- The same, and nothing else goes on meanwhile: for the opening of a device, which no task may come between.
---@param name string
---@param arguments? table
---@return any result
---@return string? message
---@return string? code
function Qmp:command_now(name, arguments)
  return ask(self, function(...) return block(self, ...) end, assert(line_of(name, arguments, self.number + 1)), name)
end

-- ---- Events --------------------------------------------------------------------------------------

local function names(events)
  local seen, list = {}, {}
  for _, event in ipairs(events) do
    if not seen[event.event] then
      seen[event.event] = true
      table.insert(list, event.event)
    end
  end
  return list
end

--- Waits for an event of QEMU's. One that came before, and that nobody has waited for, counts.
---@param name string  "DEVICE_DELETED"
---@param seconds number
---@param data? table  fields that the event's data must have: { device = "nic" }
---@return luio.QmpEvent? event
---@return string? message
---@return string? code  "ETIMEDOUT"; "EIO": QEMU has ended; "EPROTO"
function Qmp:wait(name, seconds, data)
  for i, event in ipairs(self.events) do
    if fits(event, name, data) then return table.remove(self.events, i) end
  end
  local event, message, code
  if self.failure then
    message, code = self.failure.message, self.failure.code
  else
    event, message, code = wait_slot.await(seconds, function(wake)
      local waiter = { name = name, data = data, wake = wake }
      table.insert(self.waiters, waiter)
      return function()
        for i, one in ipairs(self.waiters) do
          if one == waiter then return table.remove(self.waiters, i) end
        end
      end
    end)
  end
  if event then return event end
  if code == "ETIMEDOUT" then
    local kept = names(self.events)
    message = ("it did not come within %g s; %s%s"):format(seconds, kept[1] and table.concat(kept, ", ") .. " did" or "nor did another",
      self.dropped > 0 and (" (%d were dropped)"):format(self.dropped) or "")
  end
  return nil, ("wait for QEMU's event %s: %s"):format(name, message), code
end

-- ---- Its life ------------------------------------------------------------------------------------

local function new(fd, pid)
  local epoll = posix.epoll_create1(posix.O_CLOEXEC)
  if epoll < 0 then return posix.failure("talk to QEMU's monitor: epoll_create1", "raise `ulimit -n`") end
  local poll, message, code = uv.new_poll(epoll)
  if not poll then
    posix.close(epoll)
    return nil, "talk to QEMU's monitor: " .. message, code
  end
  local self = setmetatable({
    fd = fd, epoll = epoll, pid = pid, poll = poll, parts = {}, size = 0, lines = {}, output = "", number = 0, pending = {}, waiters = {},
    events = {}, dropped = 0,
  }, Qmp)
  posix.fcntl(fd, posix.F_SETFL, posix.O_NONBLOCK)
  watch(self, EPOLL_CTL_ADD)
  start_poll(poll, "r", function()
    if self.output ~= "" then
      send(self)
      watch(self)
    end
    take(self)
  end)
  poll:unref() -- a program does not go on for it alone
  return self
end

--- Begins the conversation on a socket in which nothing was said yet.
---@param fd integer  stays the caller's, and open until `close`
---@param pid integer  of QEMU, for messages
---@param seconds? number  in which it answers for the first time
---@return luio.Qmp?
---@return string? message
---@return string? code
function M.greet(fd, pid, seconds)
  local self, message, code = new(fd, pid)
  if not self then return nil, message, code end
  local ok
  local hello = "qmp_capabilities"
  ok, message, code = ask(self, function(...) return block(self, ...) end, assert(line_of(hello, nil, 1)), hello, seconds)
  if ok then return self end
  self:close()
  return nil, message, code
end

--- Goes on with one that another process has begun, and that is at rest (luio_qemu_is_kept).
---@param fd integer  as above
---@param pid integer
---@return luio.Qmp?
---@return string? message
---@return string? code
function M.resume(fd, pid)
  local self, message, code = new(fd, pid)
  if self then self.greeted = true end
  return self, message, code
end

--- Ends the conversation. Whoever waits gets ECANCELED. Idempotent.
function Qmp:close()
  if self.closed then return end
  self.closed = true
  self.over = true
  fail(self, "the machine was closed", "ECANCELED")
  handles.dispose(self.poll)
  posix.close(self.epoll)
end

return M
