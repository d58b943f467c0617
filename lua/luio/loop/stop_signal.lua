--- Loops that poll, and end when they are told to:
---
---     local stopping = luio.stopping()
---     while not stopping() do ... end
---
--- SIGINT and SIGTERM make it true from then on. It also lets others live: every 10 ms it turns the loop once (in a task, it
--- waits for the shortest time there is), so that tasks, timers and interrupts go on beside a loop that never waits.

local now = require("luio.ffi").now
local task = require "luio.loop.task"
local uv = require "luv"

local EVERY = 0.01 -- seconds between turns

--- Listens for SIGINT and SIGTERM.
---@return fun(): boolean stopping
---@return fun() forget  stops listening; a second signal then ends the process, as does one that comes after the first
return function()
  local told, due, handles = false, now() + EVERY, {}
  local function forget()
    for _, handle in ipairs(handles) do
      if not handle:is_closing() then
        handle:stop()
        task.dispose(handle)
      end
    end
  end
  for i, name in ipairs { "sigint", "sigterm" } do
    handles[i] = assert(uv.new_signal())
    handles[i]:start(name, function()
      told = true
      forget()
    end)
    handles[i]:unref()
  end
  return function()
    local t = now()
    if t >= due then
      due = t + EVERY
      task.sleep(0)
    end
    return told
  end, forget
end
