--- A driver's function that has no processor for a while: the watchdog does not cut it off. Another process takes the processor
--- away with a real-time priority, which takes root.

local ffi = require "ffi"
local luio = require "luio"
local uv = require "luv"
local wait = require "spec.support.wait"
local watchdog = require "luio.loop.watchdog"

ffi.cdef [[
  int sched_getaffinity(int pid, size_t size, void *mask);
  int sched_setaffinity(int pid, size_t size, const void *mask);
]]
local MASK = 1024 / 8

-- A process that computes on processor 0 for half a second, before all others.
local function burner()
  local done
  local handle = assert(uv.spawn("timeout", { args = { "-s", "KILL", "0.5", "chrt", "-f", "1", "taskset", "-c", "0", "sh", "-c", "while :; do :; done" } },
    function() done = true end))
  return function()
    wait.till(10, "the other process has ended", function() return done end)
    handle:close()
  end
end

describe("a function that waits for a processor", function()
  local LIMIT = watchdog.LIMIT
  after_each(function() watchdog.LIMIT = LIMIT end)

  it("is not cut off, however long the wait is", function()
    if #uv.cpu_info() < 2 then return pending "one processor: the watchdog would wait, too" end
    if os.execute "chrt -f 1 true 2>/dev/null" ~= 0 then return pending "no right to real-time priorities" end
    local before, one = ffi.new("uint8_t[?]", MASK), ffi.new("uint8_t[?]", MASK, { 1 })
    assert(ffi.C.sched_getaffinity(0, MASK, before) >= 0)
    watchdog.LIMIT = 0.2
    local ok, message, ended, spent
    luio.run(function()
      ok, message = watchdog.call("it", nil, function()
        local began, cpu = luio.now(), os.clock()
        -- This thread only: the watchdog's has begun.
        if ffi.C.sched_setaffinity(0, MASK, one) < 0 then return end
        ended = burner()
        repeat until os.clock() - cpu > 0.03
        spent = luio.now() - began
      end)
      ffi.C.sched_setaffinity(0, MASK, before)
      if ended then ended() end
    end)
    if ok and not (spent and spent > 0.3) then return pending "the other process did not take the processor" end
    assert.is_true(ok, message)
  end)
end)
