--- Register accesses counted by QEMU's trace events: the accesses that reached the device's bus, independent of LuaJIT and gcc.
--- Boots guests of its own and reads their traces on the host. LUIO_ARCH=arm64: in the arm64 guest, with two models of CPUs, because
--- they execute plain loads differently; and on a device of the device tree, too.

local files = require "spec.support.files"

local N = 500

-- A device: how a script finds it, its region's name in the trace, and loops over accesses to it. Each loop as Lua, and as what
-- it is to be on the bus.
local edu = {
  address = [["0000:00:04.0"]], region = "edu%-mmio",
  { "regs:write32(4, 7)", "write32 0x4" }, -- the same value each time
  { "regs:read32(4)", "read32 0x4" }, -- the result unused
  { "regs:write64(0x80, 7)", "write64 0x80" },
  { "regs:read64(0x80)", "read64 0x80" },
  { "regs:write32(4, i) regs:read32(4)", "write32 0x4", "read32 0x4" },
}
-- The same by /dev/mem, after its driver is unbound. Opening is no access.
local mem = {
  address = [[("mem:%s+0x100"):format(io.lines "/sys/bus/pci/devices/0000:00:04.0/resource"():match "0x%x+")]], region = "edu%-mmio",
  before = "echo 0000:00:04.0 >/sys/bus/pci/drivers/uio_pci_generic/unbind",
  { "regs:write32(4, 7)", "write32 0x4" },
  { "regs:read32(0)", "read32 0x0" },
  { "regs:write64(0x80, 7)", "write64 0x80" },
  { "regs:read64(0x80)", "read64 0x80" },
}
local clock = {
  address = [[require("luio.driver.match").devices(luio.load "pl031")[1].address]], region = "pl031",
  { "regs:write32(4, 7)", "write32 0x4" },
  { "regs:read32(0)", "read32 0x0" },
  { "regs:read8(0xfe0)", "read8 0xfe0" },
  { "regs:write32(4, i) regs:read32(4)", "write32 0x4", "read32 0x4" },
}

local guests = {
  amd64 = { { "x86-64", "", edu, mem } },
  arm64 = {
    { "cortex-a72", "--arch arm64 --cpu cortex-a72", edu, clock },
    { "max", "--arch arm64 --cpu max,pauth-impdef=on", edu, clock },
  },
}

-- The last loop, a compiled one, is of plain loads, of 0x8: LuaJIT merges them (and interpreted, on arm64, makes each one two or
-- four). If the trace did not show that, it would show nothing.
local function script(device)
  local lines = {
    [[local luio, ffi = require "luio", require "ffi"]],
    ("local dev = assert(luio.open(%s))"):format(device.address),
    ("local N, regs, traces, sink = %d, dev.regions[0], 0, 0"):format(N),
    [[jit.attach(function(what) if what == "stop" then traces = traces + 1 end end, "trace")]],
    [[if arg[1] == "interpreted" then jit.off() else jit.opt.start("hotloop=5") end]],
  }
  for _, loop in ipairs(device) do table.insert(lines, ("for i = 1, %d do %s end"):format(N, loop[1])) end
  table.insert(lines, [[
    assert((traces > 0) == (arg[1] == "compiled"), "traces: " .. traces)
    if arg[1] == "compiled" then
      local plain = ffi.cast("volatile uint32_t *", regs.base)
      for _ = 1, N do sink = plain[2] end
    end
    assert(dev:close())]])
  return table.concat(lines, "\n")
end

-- A region's accesses in the trace, in order, and the number of plain loads.
local function accesses(trace, region)
  local seen, plain, base = {}, 0, nil
  for line in io.lines(trace) do
    local verb, addr, size = line:match("memory_region_ops_(%a+) .* addr 0x(%x+) .* size (%d+) name '" .. region .. "'")
    if verb then
      addr = tonumber(addr, 16)
      base = base or addr - 4 -- the first access is to 4
      if addr - base >= 8 and addr - base < 12 then
        plain = plain + 1
      else
        table.insert(seen, ("%s%d 0x%x"):format(verb, size * 8, addr - base))
      end
    end
  end
  return seen, plain
end

for _, guest in ipairs(guests[os.getenv "LUIO_ARCH" or "amd64"]) do
  local name, options = guest[1], guest[2]

  describe("QEMU's " .. name .. " sees", function()
    local trace

    lazy_setup(function()
      local path, dir = files.write("run.sh", "")
      trace = dir .. "/accesses.trace"
      local commands = { "set -e; export LUA_PATH='./lua/?.lua;./lua/?/init.lua;./?.lua;;'" }
      for i = 3, #guest do
        local script_path = ("%s/%d.lua"):format(dir, i)
        files.save(script_path, script(guest[i]))
        table.insert(commands, guest[i].before)
        for _, mode in ipairs { "compiled", "interpreted" } do table.insert(commands, ("luajit %s %s"):format(script_path, mode)) end
      end
      files.save(path, table.concat(commands, "\n"))
      local out, status = files.shell(("spec/guest/run %s --name trace --trace 'memory_region_ops_*=%s' -- sh %s"):format(options, trace, path))
      assert.equal(0, status, out)
    end)

    -- A region's accesses are those of all scripts that use it, in the order of these.
    local regions, devices = {}, {}
    for i = 3, #guest do
      local region = guest[i].region
      if not devices[region] then table.insert(regions, region) end
      devices[region] = devices[region] or {}
      table.insert(devices[region], guest[i])
    end

    for _, region in ipairs(regions) do
      it("each access once, of its width, in order, compiled and interpreted: " .. region:gsub("%%", ""), function()
        local expected = {}
        for _, device in ipairs(devices[region]) do
          for _ = 1, 2 do
            for _, loop in ipairs(device) do
              for _ = 1, N do
                for n = 2, #loop do table.insert(expected, loop[n]) end
              end
            end
          end
        end
        local seen, plain = accesses(trace, region)
        assert.equal(#expected, #seen)
        assert.same(expected, seen)
        assert.is_true(plain < N, plain)
      end)
    end
  end)
end

teardown(files.clean)
