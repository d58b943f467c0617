--- The same measurements on a `qemu:` device and in a guest, by the same code.
---
---     luio measure.lua qemu|guest       prints "row", a name and its samples, with tabs between
---
--- The guest has QEMU's edu, the 82574L on a hub and an nvme at the addresses below, bound to uio_pci_generic.

local luio = require "luio"
local ffi = require "ffi"

local here = arg[0]:match "^(.*)/[^/]*$" or "."
package.path = here .. "/../?.lua;" .. package.path
local tools = require "tools"
local amount = tools.amount

local SAMPLES, ACCESSES, BATCH, INTERRUPTS, TRANSFERS = 7, amount(2000), amount(1000), amount(100), 5
local NVME_READ, NVME_READS = 128 * 1024, amount(50)
local NET_SECONDS = amount(3)

local PLACES = {
  qemu = {
    edu = "qemu:edu", nic = "qemu:e1000e,netdev=net0", nvme = "qemu:nvme,serial=1,drive=disk",
    nvme_qemu = { "-blockdev", "driver=null-co,node-name=disk,read-zeroes=on" }, nic_qemu = { "-netdev", "hubport,id=net0,hubid=0" },
  },
  guest = { edu = "0000:00:04.0", nic = "0000:00:05.0", nvme = "0000:00:09.0" },
}
local place = assert(PLACES[arg[1]], "measure.lua qemu|guest")

local function tell(name, samples) print(("row\t%s\t%s"):format(name, table.concat(samples, ","))) end

-- Samples of fn's seconds; the first call is thrown away.
local function times(samples, fn)
  local list = {}
  for i = 0, samples do
    local from = luio.now()
    fn()
    list[i] = luio.now() - from
  end
  list[0] = nil
  return list
end

local function scaled(list, by)
  local out = {}
  for i, v in ipairs(list) do out[i] = ("%.3f"):format(v * by) end
  return out
end

-- ---- edu -----------------------------------------------------------------------------------------

local edu = assert(luio.start("edu", place.edu))
local region, ID = edu.regions[0], 0

tell("read", scaled(times(SAMPLES, function()
  for _ = 1, ACCESSES do region:read32(ID) end
end), 1e9 / ACCESSES))

local values = ffi.new("uint32_t[?]", BATCH)
tell("read of many", scaled(times(SAMPLES, function() edu.regs.ID:read_many(values, BATCH) end), 1e9 / BATCH))

local function interrupts(dev)
  local latencies = {}
  luio.run(function()
    local irq = dev.irqs[0]
    for i = 1 - INTERRUPTS, SAMPLES * INTERRUPTS do -- those up to 0 warm up
      local from = luio.now()
      dev.regs.IRQ_RAISE:write(1)
      assert(irq:wait(60))
      if i > 0 then table.insert(latencies, (luio.now() - from) * 1e6) end
    end
  end)
  local medians, tails = {}, {}
  for i = 0, SAMPLES - 1 do
    local part = { unpack(latencies, i * INTERRUPTS + 1, (i + 1) * INTERRUPTS) }
    table.sort(part)
    medians[i + 1], tails[i + 1] = ("%.1f"):format(part[math.ceil(#part / 2)]), ("%.1f"):format(part[math.ceil(#part * 0.99)])
  end
  return medians, tails
end

local medians, tails = interrupts(edu)
tell("interrupt", medians)
tell("interrupt 99", tails)

if arg[1] == "qemu" then
  local by_msi = assert(luio.start("edu", place.edu, { vectors = "msi" }))
  tell("interrupt by MSI", (interrupts(by_msi)))
  assert(by_msi:close())
end

luio.run(function()
  local buffer, count = assert(edu.dma:alloc(4096)), edu.driver.MAX_TRANSFER
  local list = times(TRANSFERS, function() assert(edu.driver.to_device(edu, buffer, count)) end)
  for i, s in ipairs(list) do list[i] = ("%.1f"):format(count / s / 1e3) end
  tell("edu DMA", list)
end)
assert(edu:close())

-- ---- nvme ----------------------------------------------------------------------------------------

local nvme = assert(luio.open(place.nvme, { qemu = place.nvme_qemu }))
local read = dofile(here .. "/nvme.lua")(nvme, NVME_READ)
local list = times(SAMPLES, function()
  for _ = 1, NVME_READS do read() end
end)
for i, s in ipairs(list) do list[i] = ("%.1f"):format(NVME_READS * NVME_READ / s / 1e6) end
tell("nvme", list)
assert(nvme:close())

-- ---- e1000e --------------------------------------------------------------------------------------

local words = { tools.program, here .. "/../net/transmit.lua", place.nic, "128", NET_SECONDS, unpack(place.nic_qemu or {}) }
for i, word in ipairs(words) do words[i] = tools.quote(tostring(word)) end
print("row\ttransmit\t" .. tools.output(table.concat(words, " ")):match "[%d,]+")
