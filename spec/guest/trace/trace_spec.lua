--- Register accesses counted by QEMU's trace events: what reached the device's bus, whatever LuaJIT
--- and gcc made of the source. Boots a guest of its own and reads the trace on the host.

local files = require "spec.support.files"

local BODY = [[
  local luio = require "luio"
  local dev = assert(luio.open "0000:00:04.0")
  local regs = dev.regions[0]
  local traces = 0
  jit.attach(function(what) if what == "stop" then traces = traces + 1 end end, "trace")
  if arg[1] == "interpreted" then jit.off() else jit.opt.start("hotloop=5") end
  local N = 500
  for i = 1, N do regs:write32(4, 7) end          -- the same value each time
  for i = 1, N do regs:read32(4) end              -- the result unused
  for i = 1, N do regs:write64(0x80, 7) end
  for i = 1, N do regs:read64(0x80) end
  for i = 1, N do regs:write32(4, i); regs:read32(4) end
  assert((traces > 0) == (arg[1] == "compiled"), "traces: " .. traces)
  local addr = regs.addr
  assert(dev:close())

  -- The same device by /dev/mem, nobody else having it. Opening is no access.
  local driver = assert(io.open("/sys/bus/pci/devices/0000:00:04.0/driver/unbind", "w"))
  driver:write "0000:00:04.0"
  assert(driver:close())
  dev = assert(luio.open(("mem:0x%x+0x100"):format(addr)))
  regs = dev.regions[0]
  for i = 1, N do regs:write32(4, 7) end
  for i = 1, N do regs:read32(0) end
  for i = 1, N do regs:write64(0x80, 7) end
  for i = 1, N do regs:read64(0x80) end
  assert(dev:close())
]]

describe("QEMU sees", function()
  for _, mode in ipairs { "compiled", "interpreted" } do
    it("each access once, of its width, in order: " .. mode, function()
      local path = files.write("accesses.lua", BODY)
      local trace = path:gsub("accesses.lua$", mode .. ".trace")
      local out, status = files.shell(("spec/guest/run --name trace --trace 'memory_region_ops_*=%s' -- "
        .. "env LUA_PATH='./lua/?.lua;./lua/?/init.lua;;' luajit %s %s"):format(trace, path, mode))
      assert.equal(0, status, out)
      local seen = {}
      local base
      for line in io.lines(trace) do
        local verb, addr, size = line:match "memory_region_ops_(%a+) .* addr 0x(%x+) .* size (%d+) name 'edu%-mmio'"
        if verb then
          addr = tonumber(addr, 16)
          base = base or addr - 4 -- the first access is to 4
          table.insert(seen, ("%s%d 0x%x"):format(verb, size * 8, addr - base))
        end
      end
      local expected = {}
      local function expect(n, ...)
        for _ = 1, n do
          for _, access in ipairs { ... } do table.insert(expected, access) end
        end
      end
      expect(500, "write32 0x4")
      expect(500, "read32 0x4")
      expect(500, "write64 0x80")
      expect(500, "read64 0x80")
      expect(500, "write32 0x4", "read32 0x4")
      expect(500, "write32 0x4")
      expect(500, "read32 0x0")
      expect(500, "write64 0x80")
      expect(500, "read64 0x80")
      assert.equal(#expected, #seen)
      assert.same(expected, seen)
    end)
  end

  teardown(files.clean)
end)
