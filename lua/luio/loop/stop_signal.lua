--- Ends polling loops on a signal:
---
---     local stopping = luio.stopping()
---     while not stopping() do ... end
---
--- SIGINT and SIGTERM make it true from then on. Every 10 ms it also turns the loop once (in a task, it waits for the
--- shortest possible time), so that tasks, timers and interrupts go on beside a loop that never waits.

local handles = require "luio.loop.handles"
local now = require("luio.ffi").now
local wait_slot = require "luio.loop.wait_slot"
local uv = require "luv"

local EVERY = 0.01 -- seconds between turns

--- Listens for SIGINT and SIGTERM.
---@return fun(): boolean stopping
---@return fun() forget  stops listening; a second signal then ends the process, as does one that comes after the first
return function()
  local told, due, signals = false, now() + EVERY, {}
  local function forget()
    for _, signal in ipairs(signals) do
      if not signal:is_closing() then
        signal:stop()
        handles.dispose(signal)
      end
    end
  end
  for i, name in ipairs { "sigint", "sigterm" } do
    signals[i] = assert(uv.new_signal())
    signals[i]:start(name, function()
      told = true
      forget()
    end)
    signals[i]:unref()
  end
  return function()
    local t = now()
    if t >= due then
      due = t + EVERY
      wait_slot.sleep(0)
    end
    return told
  end, forget
end
