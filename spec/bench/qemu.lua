--- QEMU's devices without a guest (`qemu:`), beside the same devices in a guest with Debian's kernel: qemu/measure.lua runs in both.
---
--- "start" is a whole process, `luio get` of one register, until it has ended; its peer boots the guest for the same command. An
--- access by `qemu:` is a message to another process and back; in the guest it is a trap of the emulator. "interrupt" is the time
--- from before the write that raises it until a task has it: of a `qemu:` device four messages are in it (raise, the driver's top
--- half, unmasking), by MSI three, and its peer is INTx. edu's transfers take 0.1 s by its own timer, so that row shows only that
--- nothing is added.

local STARTS, BOOTS = 15, 3

local M = { name = "qemu" }

-- name in measure.lua, row, unit, aim
local ROWS = {
  { "read", "qemu: register read", "ns" },
  { "read of many", "qemu: register read of 1,000 at once, each", "ns" },
  { "interrupt", "qemu: raise to task, median", "us", "300 us" },
  { "interrupt 99", "qemu: raise to task, 99th percentile", "us" },
  { "interrupt by MSI", "qemu: raise to task by MSI, over INTx", "us", beside = "interrupt" },
  { "edu DMA", "qemu: edu, DMA", "kB/s" },
  { "nvme", "qemu: nvme, 128 KiB reads one by one", "MB/s" },
  { "transmit", "qemu: 82574L on a hub, transmit, burst 128", "packets/s" },
}

local function measured(text, guest)
  local rows = {}
  for name, samples in text:gmatch "row\t([^\t\n]+)\t([^\t\n]+)\n" do
    rows[name] = {}
    for n in samples:gmatch "[^,]+" do table.insert(rows[name], tonumber(n)) end
  end
  for _, row in ipairs(ROWS) do
    if not rows[row[1]] and not (guest and row.beside) then error(("%s was not measured: %s"):format(row[1], text), 0) end
  end
  return rows
end

function M.run(tools)
  local luio = require "luio"
  local root, quote, output = tools.root, tools.quote, tools.output
  local function start(command, rounds)
    local samples = {}
    for i = 1, rounds do
      local from = luio.now()
      local text = output(command)
      samples[i] = (luio.now() - from) * 1e3
      if not text:find "ID 0x0 = 0x010000ed" then error(("%s: %s"):format(command, text), 0) end
    end
    return samples
  end
  local guest = ("cd %s && spec/guest/run --smp 2 --name bench --timeout 900 %%s -- build/luio %%s 2>&1"):format(quote(root))
  local get = "get %s ID"
  local boot = guest:format("--bind edu", get:format "0000:00:04.0")
  start(boot, 1) -- until its files are in memory
  local rows = { {
    name = "qemu: start to a register's value", unit = "ms", aim = "200 ms", note = "a whole luio get; the peer boots a guest for it",
    luio = start(("%s %s 2>&1"):format(quote(tools.program), get:format "qemu:edu"), STARTS), peer = start(boot, BOOTS),
  } }
  local ours = measured(output(("%s %s qemu 2>&1"):format(quote(tools.program), quote(tools.here .. "/qemu/measure.lua"))))
  local theirs = measured(output(guest:format(
    "--qemu -blockdev --qemu driver=null-co,node-name=disk,read-zeroes=on --device nvme,drive=disk,serial=1,addr=09.0 --bind 0000:00:09.0 "
      .. "--bind edu --bind e1000e", "spec/bench/qemu/measure.lua guest")), true)
  for _, row in ipairs(ROWS) do
    table.insert(rows, { name = row[2], unit = row[3], aim = row[4], luio = ours[row[1]],
      peer = row.beside and ours[row.beside] or theirs[row[1]] })
  end
  return rows
end

return M
