--- Interrupts of a kernel driver of our own (examples/kernel/uio_timer), in the guest: records in a shared ring ahead of one
--- wake-up for each. timer/guest.lua measures, in one boot; absolute figures of an emulated machine say nothing.

local M = { name = "timer_guest" }

local SAMPLES = 3

function M.run(tools)
  local root, quote = tools.root, tools.quote
  local build = ("mkdir -p %s && %s -O2 -Wall -Wextra -o %s %s && %s %s >/dev/null"):format(quote(tools.out), os.getenv "CC" or "cc",
    quote(tools.out .. "/wakeups"), quote(tools.here .. "/timer/wakeups.c"), quote(root .. "/spec/guest/module"),
    quote(root .. "/examples/kernel/uio_timer"))
  if os.execute(build) ~= 0 then error("wakeups.c or the kernel module does not compile", 0) end
  local guest = "cd %s && spec/guest/run --name bench --timeout 400 --no-bind --smp 1 --qemu -icount --qemu shift=0,sleep=off --qemu -rtc --qemu clock=vm "
    .. "-- build/luio spec/bench/timer/guest.lua %d 2>&1"
  return tools.rows(tools.output(guest:format(quote(root), SAMPLES)))
end

return M
