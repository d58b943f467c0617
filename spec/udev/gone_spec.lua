--- SIGBUS on a region, for real: a UIO device whose node is a file that ends before the region does.

local files = require "spec.support.files"
local udev = require "spec.support.umockdev"

-- 0:04.0 with a BAR of 64 KiB, mapped through a node with 4 KiB of bytes 11.
local function tree(bytes)
  return (udev.pci(4, { config = ("\0"):rep(255) }, {}):gsub("E: SUBSYSTEM=uio\n", "%0N: uio4=" .. ("11"):rep(bytes) .. "\n"))
end

describe("a mapping with nothing behind it", function()
  it("is an error that says where, not a crash; the region reads no more", function()
    local got = udev.run(tree(4096), [[
      local dev = assert(luio.open "0000:00:04.0")
      local regs = dev.regions[0]
      local result = { before = regs:read32(0xffc) }
      result.ok, result.message = pcall(regs.read32, regs, 0x2004)
      result.gone = dev.gone
      result.ok_after, result.after = pcall(regs.read8, regs, 0)
      result.code = select(3, dev.irqs[0]:wait(0))
      assert(dev:close())
      return result]])
    assert.equal(0x11111111, got.before)
    assert.is_false(got.ok)
    assert.matches("read32 BAR0 by uio4 map0 of 0000:00:04.0 at 0x2004: the device is gone: SIGBUS at 0x2004", got.message)
    assert.is_true(got.gone)
    assert.is_false(got.ok_after)
    assert.matches("the device is gone", got.after)
    assert.equal("ENODEV", got.code)
  end)

  it("takes a write, which has no answer; the next read has", function()
    local got = udev.run(tree(4096), [[
      local dev = assert(luio.open "0000:00:04.0")
      local regs = dev.regions[0]
      regs:write32(0x2004, 1)
      local ok, message = pcall(regs.read64, regs, 0x3000)
      dev:close()
      return { ok = ok, message = message }]])
    assert.is_false(got.ok)
    assert.matches("read64 .* at 0x3000: the device is gone: SIGBUS at 0x2004", got.message)
  end)

  it("is found by compiled code as well", function()
    local got = udev.run(tree(8192), [[
      local dev = assert(luio.open "0000:00:04.0")
      local regs = dev.regions[0]
      local n = 0
      local ok, message = pcall(function()
        for offset = 0, 0xfffc, 4 do
          for _ = 1, 50 do n = n + (regs:read32(offset) == 0x11111111 and 1 or 0) end
        end
      end)
      dev:close()
      return { ok = ok, n = n, message = message }]])
    assert.is_false(got.ok)
    assert.equal(2048 * 50, got.n)
    assert.matches("SIGBUS at 0x2000", got.message)
  end)

  it("leaves all ones alone that a register says", function()
    local got = udev.run((tree(4096):gsub("uio4=1111", "uio4=FFFF")), [[
      local dev = assert(luio.open "0000:00:04.0")
      local regs = dev.regions[0]
      local values = { regs:read8(0), regs:read16(0), regs:read32(0) }
      dev:close()
      return values]])
    assert.same({ 0xff, 0xffff, 0x1111ffff }, got)
  end)

  it("returns with the device: the same region, mapped anew", function()
    local got = udev.run(tree(4096), [[
      local dev = assert(luio.open "0000:00:04.0")
      local regs = dev.regions[0]
      regs:read32(0)
      pcall(regs.read32, regs, 0x2000)
      assert(dev.gone)
      assert(dev:retake())
      local result = { value = regs:read32(0), same = regs == dev.regions[0] }
      result.again = pcall(regs.read32, regs, 0x2000)
      dev:close()
      return result]])
    assert.same({ value = 0x11111111, same = true, again = false }, got)
  end)

  it("takes no SIGBUS that is not its own", function()
    local script = files.write("bus.lua", [[
      local ffi, luio = require "ffi", require "luio"
      ffi.cdef "int raise(int);"
      local dev = assert(luio.open "0000:00:04.0")
      dev.regions[0]:read32(0)
      io.write "here " io.flush()
      ffi.C.raise(7)
      io.write "not here"
    ]])
    local path = files.write("tree.umockdev", tree(4096))
    local out = files.shell(("LD_PRELOAD= LUA_PATH='./lua/?.lua;./lua/?/init.lua;;' umockdev-run -d %s -- sh -c 'luajit %s; echo $?'"):format(path, script))
    assert.matches("here ", out)
    assert.not_matches("not here", out)
    assert.matches("135", out) -- 128 + SIGBUS
    files.clean()
  end)
end)
