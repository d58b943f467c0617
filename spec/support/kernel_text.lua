--- The kernel's description of a machine, which spec/fuzz/kernel and spec/udev/malformed_kernel_spec.lua mutate.
---
---     local text = require "spec.support.kernel_text"
---     text.TREE                  -- devices, in umockdev's format
---     text.FILES                 -- other files of /sys and /proc
---     text.PARSERS               -- their readers, and the conditions that the results must meet
---
--- Each parser names the source files whose reading of /sys and /proc it drives; the spec compares that list with the sources,
--- so that a new file without a parser is noticed. Parsers run in a process that sees the tree in the place of /sys and
--- /proc (spec/support/umockdev.lua), and raise if a condition does not hold.

local bit = require "bit"
local files = require "spec.support.files"
local udev = require "spec.support.umockdev"

local M = {}

-- ---- The machine ---------------------------------------------------------------------------------

local CARD = "/devices/pci0000:00/0000:00:0c.0" -- a card with everything on it
local BOARD = "/devices/platform/dev7" -- a device of the device tree

M.TREE = udev.tree "spec/udev/recorded.umockdev" .. "\n"
  .. udev.pci(12, { config = udev.config(0x6), subsystem_vendor = "0x1af4", subsystem_device = "0x1100", revision = "0x10",
    numa_node = "0", power_state = "D0", boot_vga = "1", modalias = "pci:v00008086d000010D3sv00008086sd0000A01Fbc02sc00i00",
    driver_override = "(null)" }, {})
  .. udev.device(CARD .. "/net/eth9", "net", { flags = "0x1003" })
  .. udev.device(CARD .. "/block/sda", "block", { dev = "8:0" })
  .. udev.device(CARD .. "/block/sda/sda1", "block", { dev = "8:1" })
  .. udev.device(CARD .. "/tty/ttyS9", "tty", {})
  .. udev.device(CARD .. "/virtio0", "virtio", { mount_tag = "shared" })
  .. udev.device("/devices/virtual/net/br0", "net", { flags = "0x1003" })
  .. udev.device("/devices/virtual/block/dm-0", "block", { dev = "253:0", ["dm/name"] = "home" })
  .. udev.uio(7, { ["portio/port0/name"] = "regs", ["portio/port0/start"] = "0x3f8", ["portio/port0/size"] = "0x8",
    ["portio/port0/porttype"] = "port_x86", ["maps/map1/offset"] = "0x80", ["maps/map1/size"] = "0x1000" })

-- Big-endian cells of a device tree.
local function cells(...)
  local bytes = {}
  for _, value in ipairs { ... } do
    for shift = 24, 0, -8 do bytes[#bytes + 1] = string.char(bit.band(bit.rshift(value, shift), 0xff)) end
  end
  return table.concat(bytes)
end

local NODE = "/sys/firmware/devicetree/base/soc"

M.FILES = {
  [NODE .. "/#address-cells"] = cells(2), [NODE .. "/#size-cells"] = cells(1),
  [NODE .. "/dev7/compatible"] = "acme,widget\0generic-uio\0",
  [NODE .. "/dev7/reg"] = cells(0, 0x10000000, 0x800, 0, 0x20000080, 0xf00),
  ["/sys/kernel/irq/20/actions"] = "virtio0,widget,uio_pci_generic\n",
  ["/sys/class/tty/console/active"] = "tty0 ttyS9\n",
  ["/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"] = "32\n",
  ["/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages"] = "30\n",
  ["/sys/devices/system/node/node0/hugepages/hugepages-2048kB/free_hugepages"] = "30\n",
  ["/sys/kernel/iommu_groups/3/type"] = "identity\n",
  ["/sys/kernel/security/lockdown"] = "[none] integrity confidentiality\n",
  ["/sys/class/iommu/dmar0/address"] = "0xfed90000\n",
  ["/sys/module/uio/initstate"] = "live\n",
  -- Nodes that are files: umockdev keeps a socket for each opening of one that is not there, and has room for few.
  ["/dev/uio12"] = ("\0"):rep(65536), ["/dev/uio7"] = ("\0"):rep(65536), ["/dev/uio1"] = ("\0"):rep(4096),
  ["/proc/1/comm"] = "init\n",
  ["/proc/iomem"] = [[
00000000-00000fff : Reserved
00001000-0009fbff : System RAM
000a0000-000bffff : PCI Bus 0000:00
00100000-0ffd67ff : System RAM
  01000000-01e01d31 : Kernel code
10000000-10000fff : dev7
20000000-2fffffff : PCI Bus 0000:00
  20000000-200fffff : 0000:00:04.0
  20100000-2011ffff : 0000:00:05.0
    20100000-2011ffff : e1000e
  20200000-202fffff : PCI Bus 0000:01
    20200000-20200fff : 0000:01:00.0
feb00000-feb0ffff : 0000:00:0c.0
fed00000-fed003ff : HPET 0
  fed00000-fed003ff : PNP0103:00
100000000-1ffffffff : System RAM
]],
  ["/proc/locks"] = "1: FLOCK  ADVISORY  WRITE 812 00:06:123 0 EOF\n2: OFDLCK ADVISORY  WRITE -1 00:05:4 537919488 537923583\n",
  ["/proc/swaps"] = "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n/dev/sda1                               partition\t999420\t\t0\t\t-2\n",
  ["/proc/cmdline"] = "root=/dev/sda1 intel_iommu=on iommu=pt quiet\n",
  ["/proc/net/route"] = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
    .. "eth9\t00000000\t0202000A\t0003\t0\t0\t0\t00000000\t0\t0\t0\n",
  ["/proc/net/ipv6_route"] = ("0"):rep(32) .. " 00 " .. ("0"):rep(32) .. " 00 " .. ("0"):rep(32)
    .. " 00000400 00000001 00000000 00000003     eth9\n",
  ["/proc/net/dev"] = "Inter-|   Receive                                                |  Transmit\n"
    .. " face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n"
    .. "  eth9: 1000 10 0 0 0 0 0 0 2000 20 0 3 0 0 0 0\n",
  ["/proc/self/mountinfo"] = "21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw\n36 21 253:0 / /home\\040dir rw - ext4 /dev/mapper/home rw\n"
    .. "40 21 0:40 / /mnt rw - 9p shared rw\n41 21 0:41 / /over rw - overlay overlay rw\n",
  ["/proc/self/status"] = "Name:\tluajit\nUid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0\nGroups:\t0 4 27 \nCapInh:\t0000000000000000\nCapEff:\t000001ffffffffff\n",
  ["/proc/self/limits"] = "Limit                     Soft Limit           Hard Limit           Units     \n"
    .. "Max locked memory         8388608              8388608              bytes     \n"
    .. "Max realtime priority     50                   50                             \n",
  ["/proc/sys/kernel/modprobe"] = "/sbin/modprobe\n",
  ["/proc/812/cmdline"] = "luio\0run\0edu\0",
  ["/proc/812/comm"] = "luio\n",
  ["/proc/812/maps"] = "7f0000000000-7f0000010000 rw-s 00000000 00:06 123                        /dev/uio12\n"
    .. "7f0000020000-7f0000030000 rw-s 20200000 00:06 4                          /dev/mem\n"
    .. "7f0000040000-7f0000050000 r--s 00000000 00:06 9                          /sys" .. CARD .. "/resource0\n",
  ["/proc/812/fdinfo/3"] = "pos:\t0\nflags:\t02100002\nmnt_id:\t23\nlock:\t1: FLOCK  ADVISORY  WRITE 812 00:06:123 0 EOF\n",
  ["/proc/812/status"] = "Name:\tluio\nUid:\t1000\t1000\t1000\t1000\n",
  ["/proc/812/task/812/fdinfo/3"] = "pos:\t0\nflags:\t0100002\n",
  ["/proc/812/task/812/maps"] = "7f0000000000-7f0000001000 r--s 00000000 00:05 12 /dev/uio12\n",
  ["/proc/812/task/812/smaps"] = "7f0000000000-7f0000001000 r--s 00000000 00:05 12 /dev/uio12\nVmFlags: rd sh mr mw me ms\n",
  ["/proc/812/map_files/7f0000000000-7f0000001000"] = "",
  ["/proc/812/fdinfo/4"] = "pos:\t0\nflags:\t02\nlock:\t1: OFDLCK ADVISORY  WRITE -1 00:05:4 538968064 538972159\n",
}

M.FOLDERS = { "/sys/class/block/sda1/holders", "/sys" .. CARD .. "/net/eth9/upper_br0", "/dev", "/proc/812/fd", "/proc/812/task/812/fd" }

M.LINKS = {
  ["/sys" .. BOARD .. "/of_node"] = "../../../firmware/devicetree/base/soc/dev7",
  ["/sys" .. CARD .. "/virtfn0"] = "../0000:00:04.0",
  ["/sys" .. CARD .. "/iommu_group"] = "../../../kernel/iommu_groups/3",
  ["/sys/kernel/iommu_groups/3/devices/0000:00:0c.0"] = "../../../../devices/pci0000:00/0000:00:0c.0",
  ["/sys" .. CARD .. "/block/sda/sda1/holders/dm-0"] = "../../../../../../../virtual/block/dm-0",
  ["/proc/812/fd/3"] = "/dev/uio12",
  ["/proc/812/task/812/fd/3"] = "/dev/uio12",
  ["/proc/812/fd/4"] = "/dev/mem",
  ["/proc/self/pagemap"] = "/dev/urandom", -- any frame, present or not
}

--- Puts all of that into the tree that this process sees.
---@param root string  where it is
function M.build(root)
  local commands = {}
  local function folder(path) table.insert(commands, ("mkdir -p '%s%s'"):format(root, path)) end
  for _, path in ipairs(M.FOLDERS) do folder(path) end
  for path in pairs(M.FILES) do folder(path:match "^(.*)/") end
  for path, target in pairs(M.LINKS) do
    folder(path:match "^(.*)/")
    table.insert(commands, ("ln -sfn '%s' '%s%s'"):format(target, root, path))
  end
  assert(os.execute(table.concat(commands, " && ")) == 0) -- one process: under umockdev they start slowly
  for path, bytes in pairs(M.FILES) do files.save(root .. path, bytes) end
  require("luio.host.sysfs").proc = root .. "/proc" -- listing /proc itself is nothing that umockdev does
end

-- ---- Conditions ----------------------------------------------------------------------------------

local function raise(format, ...) error(format:format(...), 0) end

--- Raises for what could drive a terminal, or fill it.
---@param text any
---@param what string
function M.clean(text, what)
  if type(text) ~= "string" then raise("%s is no text but %s", what, tostring(text)) end
  if text:find "[%c\127]" or text:find "\194[\128-\159]" then raise("%s has control characters: %q", what, text) end
  if #text > 8192 then raise("%s has %d bytes", what, #text) end
end

-- All strings and numbers of a table, whatever it is; no number is negative, infinite or none.
local function clean_all(value, what, depth)
  if type(value) == "string" then M.clean(value, what) end
  if type(value) == "number" and not (value >= 0 and value < math.huge) then raise("%s is %s", what, tostring(value)) end
  if type(value) ~= "table" or depth > 6 then return end
  for key, one in pairs(value) do clean_all(one, ("%s.%s"):format(what, tostring(key):gsub("%c", "?")), depth + 1) end
end

-- An expected failure: one line, a code, nothing of ours.
local function failure(message, code, what)
  M.clean(message, what .. "'s message")
  if type(code) ~= "string" or not code:match "^E[%w]+$" then raise("%s failed without a code: %s (%s)", what, tostring(code), message) end
  if message:find("%.lua:%d+:") or message:find "stack traceback" then raise("%s failed with a place in our files: %s", what, message) end
end

local function pick(list) return list[math.random(#list)] end

local function slurp(path)
  local f = io.open(path, "rb")
  local text = f and f:read "*a"
  if f then f:close() end
  return text
end

-- Whether a text has a number, alone on its line or between blanks.
local function says(text, number)
  for word in (text or ""):gmatch "[%xx]+" do
    if tonumber(word) == number then return true end
  end
  return false
end

-- Every region is one that the files tell of.
local function regions(info)
  for i = 0, 5 do
    local bar = info.bars[i]
    if bar then
      local text, found = slurp(info.sysfs .. "/resource") or "", false
      for line in text:gmatch "[^\n]+" do
        local first, last = line:match "^%s*(%w+)%s+(%w+)"
        found = found or tonumber(first) == bar.addr and tonumber(last) - tonumber(first) + 1 == bar.size
      end
      if not found then raise("BAR%d of %s is 0x%x+0x%x, and resource is %q", i, info.address, bar.addr, bar.size, text) end
    end
  end
  for i = 0, 15 do
    local map = info.maps[i]
    if map then
      local dir = ("/sys/class/uio/%s/maps/map%d/"):format(info.uio, i)
      local ends = tonumber(map.addr) + map.size -- as numbers: LuaJIT would make an integer of 2 ^ 64, which has none
      if map.size <= 0 or ends > 2 ^ 64 then raise("map%d of %s is 0x%x+0x%x", i, info.address, map.addr, map.size) end
      if not says(slurp(dir .. "size"), map.size) then raise("map%d of %s has 0x%x bytes, not %q", i, info.address, map.size, slurp(dir .. "size")) end
      if map.length and map.length > map.size then raise("map%d of %s is longer than it is", i, info.address) end
      if map.offset < 0 or map.offset >= 4096 then raise("map%d of %s begins at %s of a page", i, info.address, tostring(map.offset)) end
    end
    local port = info.ports[i]
    if port and (port.size <= 0 or port.start + port.size > 65536) then raise("port%d is 0x%x+0x%x", i, port.start, port.size) end
  end
end

-- Memory is refused: read from /proc/iomem once more, a line at a time, whatever stands before it.
local function is_memory(iomem, first, last)
  first, last = first - first % 4096, last - last % 4096 + 4095
  for line in iomem:gmatch "[^\n]+" do
    local from, to = line:match "^ *(%x+)%-(%x+) : System RAM"
    from, to = tonumber(from or "", 16), tonumber(to or "", 16)
    if from and to and from <= last and to >= first then return true end
  end
  return false
end

-- ---- The parsers ---------------------------------------------------------------------------------

local RANGES = {
  { 0x10000000, 0x1000 }, { 0x20000000, 0x1000 }, { 0x20200000, 0x400 }, { 0xfed00000, 0x400 }, { 0x1000, 0x1000 }, { 0x100000000, 0x1000 },
  { 0xfffff000, 0x1000 }, { 0x30000000, 0x8 },
}

---@class luio.KernelParser
---@field name string
---@field reads string    a pattern for the paths that it reads
---@field covers string[] source files whose reading of the kernel's text it drives
---@field run fun()       raises on what must not be

local function list()
  local infos, message, code = require("luio").list()
  if not infos then return failure(message, code, "luio.list") end
  for _, info in ipairs(infos) do
    clean_all(info, info.address, 0)
    regions(info)
  end
end

M.PARSERS = {
  {
    name = "list", reads = "^/sys/devices/p.*/", covers = { "runtime/discovery.c", "runtime/describe.c", "runtime/sysfs.c", "runtime/find.c" },
    run = list,
  },
  {
    name = "device tree", reads = "^/sys/firmware/", covers = { "runtime/devicetree.c", "runtime/describe.c" },
    run = list,
  },
  {
    name = "open", reads = "^/sys/devices/p.*/", covers = {
      "runtime/device.c", "runtime/backend_pci.c", "runtime/backend_uio.c", "runtime/bus_master.c", "runtime/config.c",
      "runtime/dma_pages.c", "runtime/dma_physical.c", "runtime/pagemap.c", "runtime/region.c", "runtime/uio.c",
      "runtime/guardian_devices.c", "lua/luio/config.lua",
    },
    run = function()
      local luio = require "luio"
      local dev, message, code = luio.open(pick { "uio12", "uio7", "0000:00:0c.0", "0000:00:02.0" })
      if not dev then return failure(message, code, "open") end
      for offset = 0, 8, 4 do
        local value, why, why_code = dev.config:read32(offset)
        if not value then failure(why, why_code, "config") end
      end
      for index = 0, 5 do
        local r, why, why_code = dev:region(index)
        if not r then failure(why, why_code, "region") elseif r.size <= 0 then raise("region %d has %s bytes", index, tostring(r.size)) end
      end
      local ok
      ok, message, code = dev:bus_master(true)
      if not ok then failure(message, code, "bus_master") end
      local buffer
      buffer, message, code = dev.dma:alloc(4096)
      if not buffer then failure(message, code, "dma:alloc")
      elseif tonumber(buffer.iova) + buffer.size > 2 ^ 64 then raise("a buffer at 0x%x", buffer.iova) end
      ok, message, code = dev:close()
      if not ok then failure(message, code, "close") end
    end,
  },
  {
    name = "mem", reads = "^/proc/iomem$", covers = { "runtime/iomem.c", "runtime/devmem.c", "lua/luio/host/doctor/mem.lua" },
    run = function()
      local inspect, doctor = require "luio.host.inspect", require "luio.host.doctor"
      local iomem = slurp "/proc/iomem" or ""
      for _ = 1, 2 do
        local range = pick(RANGES)
        local address = ("mem:0x%x+0x%x"):format(range[1], range[2])
        local info, message, code = inspect.find(address)
        if not info then
          failure(message, code, "find")
        else
          clean_all(info, address, 0)
          if not info.problem and is_memory(iomem, range[1], range[1] + range[2] - 1) then raise("%s is memory, and may be opened", address) end
        end
      end
      if math.random(4) == 1 then clean_all(doctor.device "mem:0x20000000+0x1000", "doctor", 0) end
    end,
  },
  {
    name = "holders", reads = "^/proc/[%dl]", covers = {
      "lua/luio/host/holders.lua", "lua/luio/host/other_writers.lua", "lua/luio/host/sysfs.lua", "lua/luio/host/process.lua",
    },
    run = function()
      local holders, inspect = require "luio.host.holders", require "luio.host.inspect"
      local info = inspect.find(pick { "uio12", "mem:0x20200000+0x1000" })
      for _, holder in ipairs(info and holders.of(info) or {}) do
        clean_all(holder, "a holder", 0)
        M.clean(holders.describe(holder), "a holder")
      end
      local pid = info and holders.locker(info, math.random(2) == 1)
      if pid and (pid < 1 or pid % 1 ~= 0) then raise("process %s has the lock", tostring(pid)) end
      local writer = info and require("luio.host.other_writers").of(info)
      if writer then clean_all(writer, "another writer", 0) end
      require("luio.host.process").modprobe()
    end,
  },
  {
    name = "report", reads = "^/sys/", covers = { "lua/luio/host/report.lua", "lua/luio/host/inspect.lua", "lua/luio/host/sysfs.lua" },
    run = function()
      local report, inspect = require "luio.host.report", require "luio.host.inspect"
      local address = pick { "uio12", "uio7", "0000:00:02.0", "uio1" }
      local info, message, code = inspect.find(address)
      if not info then return failure(message, code, "find") end
      local all = report.of(info)
      clean_all(all, address, 0)
      for _, line in ipairs(report.lines(all, 80)) do M.clean(line:gsub("\27%[[%d;]*m", ""), "info's line") end
    end,
  },
  {
    name = "in_use", reads = "^/[sp][yr]", covers = { "lua/luio/host/in_use.lua", "lua/luio/host/binding.lua" },
    run = function()
      local binding, in_use, inspect = require "luio.host.binding", require "luio.host.in_use", require "luio.host.inspect"
      local info = inspect.find "0000:00:0c.0"
      if info then clean_all(in_use.of(info), "in_use", 0) end
      local result, message, code = binding.bind("0000:00:02.0", { dry_run = true, force = math.random(2) == 1 })
      if result then clean_all(result, "bind", 0) else failure(message, code, "bind") end
    end,
  },
  {
    name = "doctor", reads = "^/[sp][yr]", covers = {
      "lua/luio/host/doctor/system.lua", "lua/luio/host/doctor/device.lua", "lua/luio/host/doctor/storm.lua",
      "lua/luio/host/doctor/rights.lua", "lua/luio/host/doctor/init.lua", "lua/luio/host/sysfs.lua",
    },
    run = function()
      local doctor = require "luio.host.doctor"
      if math.random(2) == 1 then return clean_all(doctor.system(), "doctor", 0) end
      local findings, message, code = doctor.device(pick { "uio12", "uio7", "0000:00:02.0" })
      if not findings then return failure(message, code, "doctor") end
      clean_all(findings, "doctor", 0)
      for _, line in ipairs(doctor.lines(findings, 80)) do M.clean(line:gsub("\27%[[%d;]*m", ""), "doctor's line") end
    end,
  },
  {
    name = "counts", reads = "^/proc/net/dev$", covers = { "lua/luio/net/tap.lua" },
    run = function()
      local drops = require("luio.net.tap").kernel_drops "eth9"
      if drops ~= nil then clean_all(drops, "drops", 0) end
    end,
  },
}

return M
