--- Network cards in the guest: luio ahead of DPDK's testpmd on the same emulated cards, and a round trip ahead of the kernel's
--- own driver. net/guest.lua measures, in one boot; absolute figures of an emulated machine say nothing.

local M = { name = "net_guest" }

local ROUNDS = 4

function M.run(tools)
  local root, quote = tools.root, tools.quote
  local build = ("mkdir -p %s && %s -O2 -Wall -Wextra -o %s %s"):format(quote(tools.out), os.getenv "CC" or "cc",
    quote(tools.out .. "/afpacket"), quote(tools.here .. "/net/afpacket.c"))
  if os.execute(build) ~= 0 then error("afpacket.c does not compile", 0) end
  local guest = "cd %s && spec/guest/run --name bench --timeout 600 --mem 2G --hugepages 256 %s "
    .. "--second-nic -- build/luio spec/bench/net/guest.lua %d 0000:00:05.0 0000:00:09.0 %s 2>&1"
  local text = tools.output(guest:format(quote(root), "--smp 2", ROUNDS, ""))
    -- A clock that counts instructions and skips idle time: the emulator's other threads then take no guest time.
    .. tools.output(guest:format(quote(root), "--smp 1 --qemu -icount --qemu shift=0,sleep=off --qemu -rtc --qemu clock=vm", ROUNDS, "instructions"))
  return tools.rows(text)
end

return M
