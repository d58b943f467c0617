--- Ctrl-C, and the signals that end a session, whether Lua waits or is busy.
---
--- libuv hands a signal over when its loop turns. That does for a chunk that waits: its task is
--- cancelled. A chunk that computes keeps the loop from turning, so a second loop, on a thread of its
--- own, takes the signals too and counts them in memory that both see; nothing of Lua runs in a signal
--- handler. Here a hook looks at the counter every few thousand instructions, and raises an error when
--- a signal has waited for so long that the loop evidently does not turn.
---
--- Compiled code sees no hook (LuaJIT checks for them only when built with LUAJIT_ENABLE_CHECKHOOK, which Debian's
--- is not), so between start and stop the compiler is off, and its traces are dropped. `jit.on()` at the prompt
--- turns it on again; then only code that was entered there (luio.tool.explore.chunk) can be stopped while it is
--- busy. No hook reaches a call into C that does not return; Ctrl-\ ends the program then.

local ffi = require "ffi"
local errors = require "luio.errors"
local uv = require "luv"
local runtime = require "luio.ffi"
local task = require "luio.loop.task"

local M = {}

local COUNT = 10000 -- instructions between two looks
local PATIENCE = 0.15e9 -- ns after which the loop does not turn
local LONG = 1e9 -- ns after which luio's own code is interrupted, too

local LOOP = 12 -- descriptors: a loop's, and the pipe

local SIGNALS = { "sigint", "sigterm", "sighup" }

---@class luio.Interrupt
---@field package task luio.Task?  of the chunk that runs
local Interrupt = {}
Interrupt.__index = Interrupt

-- The error of an interrupted chunk.
M.INTERRUPTED = setmetatable({}, { __tostring = function() return "interrupted" end })

-- Runs on the thread, in a fresh Lua state: no upvalues reach it. counts[0]: SIGINTs so far,
-- counts[1]: the last signal that ends the session.
local function watch(address, stop_fd, cpath)
  package.path, package.cpath = "", cpath -- luacheck: ignore 122
  local loop, C = require "luv", require "ffi"
  local counts = C.cast("volatile int32_t *", C.cast("uintptr_t", address))
  local handles = {}
  local function on(name, fn)
    local signal = loop.new_signal()
    signal:start(name, fn)
    handles[#handles + 1] = signal
  end
  on("sigint", function() counts[0] = counts[0] + 1 end)
  on("sigterm", function() counts[1] = 15 end)
  on("sighup", function() counts[1] = 1 end)
  local poll = loop.new_poll(stop_fd)
  handles[#handles + 1] = poll
  poll:start("r", function()
    for _, handle in ipairs(handles) do handle:close() end -- nothing is left: the loop ends
  end)
  loop.run()
end

--- Whether a function is luio's own.
M.is_ours = errors.is_ours

local function new_hook(self)
  return function()
    local counts = self.counts
    local pending = counts[0] > self.handled or counts[1] ~= 0
    if not pending and not self.insisting then return end
    -- Tasks are interrupted, and the functions that they call; not the prompt, nor callbacks of the
    -- loop: luv ends the program when one raises an error.
    if not coroutine.running() then return end
    local info = debug.getinfo(2, "S")
    local ours = info and M.is_ours(info.source)
    if self.insisting then
      -- The chunk has caught its error once. It will not again: every instruction of its raises one.
      local current = task.current()
      if not ours and (current == self.task or not current) then error(M.INTERRUPTED, 0) end
      if not pending then return end
    end
    local now = uv.hrtime()
    self.since = self.since or now
    if now - self.since < (ours and LONG or PATIENCE) then return end
    self.since = nil
    self.swallow = self.swallow + (counts[0] - self.handled) -- the loop will hear of them later
    self.handled = counts[0]
    if counts[1] ~= 0 or self.hit then self:keep_raising() end
    self.hit = true
    error(M.INTERRUPTED, 0)
  end
end

--- Begins to listen. One at a time.
---@param on fun(signal: "sigint"|"sigterm"|"sighup")  called from the loop
---@return luio.Interrupt?
---@return string? message  it takes a thread and its descriptors
---@return string? code
function M.start(on)
  -- The thread's loop aborts without.
  local room, message, code = runtime.descriptors("listen for Ctrl-C", LOOP)
  if not room then return nil, message, code end
  local self = setmetatable({
    counts = ffi.new "volatile int32_t[2]", handled = 0, swallow = 0, signals = {}, jit = jit.status(),
  }, Interrupt)
  self.pipe = assert(uv.pipe({ nonblock = true }, { nonblock = true }))
  local address = tonumber(ffi.cast("uintptr_t", self.counts))
  self.thread, message = uv.new_thread(watch, address, self.pipe.read, package.cpath)
  if not self.thread then
    uv.fs_close(self.pipe.write)
    uv.fs_close(self.pipe.read)
    return nil, ("listen for Ctrl-C: no thread can be started: %s: raise `ulimit -u`"):format(tostring(message)), "EAGAIN"
  end
  jit.off()
  jit.flush()
  for _, name in ipairs(SIGNALS) do
    local signal = assert(uv.new_signal())
    signal:start(name, function()
      if name == "sigint" then
        if self.swallow > 0 then
          self.swallow = self.swallow - 1
          return
        end
        self.handled = self.handled + 1
      end
      self.since = nil
      on(name)
    end)
    signal:unref()
    table.insert(self.signals, signal)
  end
  debug.sethook(new_hook(self), "", COUNT)
  return self
end

--- Says which task runs the chunk now; nil: none.
---@param chunk_task luio.Task?
function Interrupt:runs(chunk_task)
  self.task = chunk_task
  if not chunk_task then
    if self.insisting then debug.sethook(new_hook(self), "", COUNT) end
    self.insisting, self.since, self.hit = nil, nil, nil
  end
end

--- From now on every instruction of the chunk is an error, whatever it catches.
function Interrupt:keep_raising()
  if self.insisting or not self.task then return end
  self.insisting = true
  debug.sethook(new_hook(self), "", 1)
end

--- Stops listening. Not from the loop: it turns the loop until its handles are closed.
function Interrupt:stop()
  debug.sethook()
  uv.fs_write(self.pipe.write, "x")
  self.thread:join()
  uv.fs_close(self.pipe.write)
  uv.fs_close(self.pipe.read)
  local open = #self.signals
  for _, signal in ipairs(self.signals) do signal:close(function() open = open - 1 end) end
  while open > 0 do uv.run "nowait" end
  if self.jit then jit.on() end
end

return M
