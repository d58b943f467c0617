--- Pages that the kernel would move from one NUMA node to the other, in a guest with two: DMA memory stays where it is; and
--- where it can't be pinned the device is stopped when it moves.

local ffi = require "ffi"
local amount = require "spec.support.amount"
local files = require "spec.support.files"
local luio = require "luio"
local memory = require "spec.support.memory"
local program = require "spec.support.program"
local sysfs = require "spec.support.sysfs"
local uv = require "luv"
local wait = require "spec.support.wait"

local EDU = "0000:00:04.0"
local MIB = 2 ^ 20
local EDU_BUFFER, TO_RAM, COUNT = 0x40000, 3, 4095

ffi.cdef [[
  void *mmap(void *, size_t, int, int, int, long);
  int munmap(void *, size_t);
  int open(const char *, int, ...);
  int close(int);
]]

-- Shared memory of one page of that size, as luio's, but not pinned; nil: there is none.
local function plain(size)
  local p = ffi.C.mmap(nil, size, 3, size > 4096 and 0x48021 or 0x8021, -1, 0) -- SHARED ANONYMOUS POPULATE, HUGETLB
  return ffi.cast("intptr_t", p) ~= -1 and ffi.cast("uint8_t *", p) or nil
end

local function number(pointer) return tonumber(ffi.cast("uintptr_t", pointer)) end

-- All that makes Linux move a page, short of a memory error; true if one of them did.
local WAYS = {
  { "move_pages", function(pid, address, other) return memory.move(pid, address, other) end },
  { "migratepages of the process", function(pid, address, other)
    local masks = ffi.new("uint64_t[2]", 2 ^ (1 - other), 2 ^ other)
    ffi.C.syscall(256, ffi.cast("long", pid), 64ULL, masks + 0, masks + 1) -- migrate_pages(2)
    return memory.node(pid, address) == other
  end },
  { "memory that goes offline", function(_, _, _, physical)
    local block = ("/sys/devices/system/memory/memory%d/state"):format(
      math.floor(physical / tonumber(sysfs.read "devices/system/memory/block_size_bytes", 16)))
    -- With a pinned page in it the kernel tries until it gets a signal.
    files.shell(("timeout 1 sh -c 'echo offline > %s'; echo online > %s"):format(block, block))
  end },
  { "compaction", function() files.save("/proc/sys/vm/compact_memory", "1") end },
}

local function in_memory_size(size, fn)
  if size > 4096 then return fn() end
  return memory.without_hugepages(fn)
end

local function transfer(regs, iova)
  regs:write64(0x80, EDU_BUFFER)
  regs:write64(0x88, iova)
  regs:write64(0x90, COUNT)
  regs:write64(0x98, TO_RAM)
end

describe("DMA memory on a machine with two NUMA nodes", function()
  for _, size in ipairs { 2 * MIB, 4096 } do
    it(("stays in its place in a page of %d bytes, whatever the kernel is asked for, while the device writes"):format(size), function()
      in_memory_size(size, function()
        local dev = assert(luio.open(EDU))
        finally(function() dev:close() end)
        assert(dev:bus_master(true))
        local buffer = assert(dev.dma:alloc(size, { align = 4096 }))
        local pages = dev.dma:stats()
        assert.same({ 1, 1, size }, { pages.pages, pages.pinned, buffer.page_size })
        local regs, address = dev.regions[0], number(buffer:pointer "char *")
        local physical, node = memory.physical(buffer:pointer "char *"), memory.node(0, address)
        -- On a busy machine a transfer may be over before the kernel is asked: that does not count.
        local function within_a_transfer(way, round)
          buffer:fill(round % 256)
          transfer(regs, buffer.iova)
          local running = regs:read64(0x98) % 2 == 1ULL
          assert.is_falsy(way[2](uv.os_getpid(), address, 1 - node, physical), way[1])
          wait.till(10, "a transfer's end", function() return regs:read64(0x98) % 2 == 0ULL end)
          assert.equal(physical, memory.physical(buffer:pointer "char *"), way[1])
          assert(buffer:verify())
          assert.equal(("\0"):rep(COUNT) .. string.char(round % 256), buffer:read(0, COUNT + 1), way[1])
          return running
        end
        for round = 1, amount(2, 100) do
          for _, way in ipairs(WAYS) do
            wait.till(60, "a transfer within which to try " .. way[1], function() return within_a_transfer(way, round) end)
          end
        end
      end)
    end)

    it(("of a page of %d bytes that is not pinned would not have stayed"):format(size), function()
      in_memory_size(size, function()
        local moved = {}
        for i = 1, 2 do
          local page = plain(size)
          if not page then break end -- of small ones there are always some
          local node = memory.node(0, number(page))
          moved[i] = WAYS[i][2](uv.os_getpid(), number(page), 1 - node)
          ffi.C.munmap(page, size)
        end
        if size > 4096 or moved[1] ~= nil then assert.same({ true, true }, moved) end
      end)
    end)
  end

  it("is not taken for moved while the kernel tries to", function()
    local dev = assert(luio.open(EDU))
    local buffer = assert(dev.dma:alloc(4096))
    local hammer = files.write("hammer.lua", [[
      package.path = package.path .. ";./?.lua"
      local memory = require "spec.support.memory"
      local pid, address, node = tonumber(arg[1]), tonumber(arg[2]), tonumber(arg[3])
      print "at it"
      io.stdout:flush()
      while true do memory.move(pid, address, node) end
    ]])
    local address = number(buffer:pointer "char *")
    local p = program.start { hammer, tostring(uv.os_getpid()), ("%.0f"):format(address), tostring(1 - memory.node(0, address)) }
    finally(function()
      p:close()
      files.clean()
      dev:close()
    end)
    p:wait "at it"
    for _ = 1, amount(20000, 1000000) do assert(buffer:verify()) end
  end)
end)

-- Has edu write to its memory all the time, and says what its wait gave in the end.
local DRIVER = [[
local luio = require "luio"
local edu = assert(luio.load "drivers/edu")
local d = { name = "victim", registers = edu.registers, irq = edu.irq, dma = {} }
function d.start(dev)
  local ring = assert(dev.dma:alloc(2 * 2^20, { name = "ring" }))
  luio.spawn(function()
    local event, message, code
    repeat
      dev.regs.DMA_SRC:write(edu.BUFFER)
      dev.regs.DMA_DST:write(ring.iova)
      dev.regs.DMA_COUNT:write(edu.MAX_TRANSFER)
      dev.regs.DMA_CMD:write { RUN = 1, DIRECTION = "TO_RAM", RAISE_IRQ = 1 }
      event, message, code = dev.irqs[0]:wait(10)
    until not event
    print(("[ended %s: %s]"):format(code, message))
  end)
  print(("[pid %d address %.0f iova 0x%x pinned %d]"):format(require("luv").os_getpid(),
    tonumber(require("ffi").cast("uintptr_t", ring:pointer "char *")), ring.iova, dev.dma:stats().pinned))
  return true
end
function d.stop(dev) print(("[stop, ID 0x%x]"):format(dev.regs.ID:read())) end
function d.gone() print "[gone]" end
return d
]]

local CANARY = 0xc5

-- The page at a physical address, now that it is free: taken and filled with canaries.
local function take(physical)
  local found, others = nil, {}
  repeat
    local page = plain(2 * MIB)
    if page and memory.physical(page) == physical then found = page else others[#others + 1] = page end
  until found or not page
  for _, page in ipairs(others) do ffi.C.munmap(page, 2 * MIB) end
  ffi.fill(assert(found, "the old page is not free"), 8192, CANARY)
  return found
end

local function spoilt(page)
  for i = 0, 8191 do
    if page[i] ~= CANARY then return true end
  end
  return false
end

describe("DMA memory that can't be pinned", function()
  after_each(files.clean)

  for run = 1, amount(1, 20) do
    it("is noticed when it moves: the device is stopped, and writes no more to the old place; run " .. run, function()
      local folder = files.driver(DRIVER)
      local p = program.start({ "--bounding-set", "-ipc_lock", "--inh-caps", "-ipc_lock", "prlimit", "--memlock=65536",
        "build/luio", "run", folder, EDU }, { program = "setpriv" })
      finally(function() p:close() end)
      local pid, address, iova, pinned = p:wait "%[pid (%d+) address (%d+) iova (0x%x+) pinned (%d+)%]"
      assert.equal("0", pinned)
      p:wait "luio: the kernel may move DMA memory of 0000:00:04.0, for it can't be pinned %(io_uring: ENOMEM%): raise `ulimit %-l`;"
      p:wait "driver victim runs"
      pid, address, iova = tonumber(pid), tonumber(address), tonumber(iova)
      assert.is_true(memory.move(pid, address, 1 - memory.node(pid, address)))
      local page = take(iova)
      wait.till(5, "bus master off", function() return not sysfs.has(EDU, sysfs.BUS_MASTER) end)
      ffi.fill(page, 8192, CANARY)
      p:wait "%[ended ESTALE: device stopped: interrupt 0 of 0000:00:04%.0: a page of DMA memory"
      assert.equal(1, p:status())
      uv.sleep(200) -- a transfer takes 100 ms: the one that was under way would be over
      assert.is_false(spoilt(page))
      ffi.C.munmap(page, 2 * MIB)
      local text = p:text()
      assert.matches(("luio: 0000:00:04%%.0 is stopped: a page of DMA memory of 0000:00:04%%.0 %%(buffer \"ring\"%%) moved "
        .. "from 0x%x to 0x%%x+%%. It was not pinned, which prevents that: raise `ulimit %%-l`\n"):format(iova), text)
      assert.matches("%[stop, ID 0x10000ed%]\n.*%[gone%]\n", text)
      assert.is_nil(text:find "restart", text)
    end)
  end
end)

-- The first page of the hugepages that a guardian keeps, in this process, too.
local function kept_page(guardian)
  for name in uv.fs_scandir_next, assert(uv.fs_scandir(("/proc/%d/fd"):format(guardian))) do
    local path = ("/proc/%d/fd/%s"):format(guardian, name)
    if (uv.fs_readlink(path) or ""):find "memfd:luio%-dma" then
      local fd = ffi.C.open(path, 2)
      local at = ffi.C.mmap(nil, 2 * MIB, 3, 1, fd, 0)
      ffi.C.close(fd)
      assert(ffi.cast("intptr_t", at) ~= -1)
      at = ffi.cast("uint8_t *", at)
      assert(at[0] == 0) -- only touched pages can be moved
      return at
    end
  end
  error "the guardian keeps no page"
end

describe("DMA memory of a worker that died", function()
  after_each(files.clean)

  -- The device may go on with a transfer as soon as bus master is on again, also to memory that was not asked for by name.
  for _, name in ipairs { "{ name = 'ring' }", "nil" } do
    it(("is used no more when it moved before the next one had pinned it: alloc(..., %s)"):format(name), function()
      local folder = files.driver(([[
        local d = { name = "victim", dma = {} }
        function d.start(dev)
          assert(dev.dma:alloc(2 * 2^20, %s))
          print(("[pid %%d]"):format(require("luv").os_getpid()))
          return true
        end
        return d]]):format(name))
      local p = program.start { "run", folder, EDU, "--restart", "50", "--backoff", "3" }
      local page
      finally(function()
        p:close()
        if page then ffi.C.munmap(page, 2 * MIB) end
      end)
      for n = 1, 7 do -- each pause before a restart is twice the one before
        p:wait(("runs .*"):rep(n), 20)
        local pid = tonumber(p:text():match ".*%[pid (%d+)%]")
        page = page or kept_page(p.pid)
        assert.is_false(memory.move(0, number(page), 1 - memory.node(0, number(page))))
        p:kill("sigkill", pid)
      end
      wait.till(5, "a page that moves", function() return memory.move(0, number(page), 1 - memory.node(0, number(page))) end)
      assert.equal(1, p:status(60))
      assert.matches("start 0000:00:04.0 anew: the process before died, and while no process held its DMA memory, a page of DMA memory of "
        .. "0000:00:04.0 moved from 0x%x+ to 0x%x+\n", p:text())
      assert.is_nil(p:text():find "restart 8") -- which would find the same
      assert.is_false(sysfs.has(EDU, sysfs.BUS_MASTER))
    end)
  end
end)
