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
  local text = tools.output(guest:format(quote(root), "", ROUNDS, ""))
    -- A clock that counts instructions and skips idle time: what other threads of the emulator do then takes no time.
    .. tools.output(guest:format(quote(root), "--smp 1 --qemu -icount --qemu shift=0,sleep=off", ROUNDS, "instructions"))
  local rows = {}
  for line in text:gmatch "[^\n]+" do
    local name, unit, luio, peer, aim, note = line:match "^row\t([^\t]*)\t([^\t]*)\t([^\t]*)\t([^\t]*)\t([^\t]*)\t([^\t]*)$"
    if name then
      local function list(t)
        local numbers = {}
        for n in t:gmatch "[^,]+" do numbers[#numbers + 1] = tonumber(n) end
        return numbers
      end
      rows[#rows + 1] = { name = name, unit = unit, luio = list(luio), peer = list(peer), aim = aim, note = note }
    end
  end
  if #rows == 0 then error("the guest measured nothing: " .. text, 0) end
  return rows
end

return M
