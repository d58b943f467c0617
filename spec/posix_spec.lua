local ffi = require "ffi"
local posix = require "luio.posix"
local uv = require "luv"

describe("luio.posix", function()
  it("calls the C library's functions, and passes numbers to those with variable arguments", function()
    local fd = posix.open("/dev/null", posix.O_RDWR + posix.O_CLOEXEC)
    assert.is_true(fd >= 0)
    finally(function() posix.close(fd) end)
    assert.equal(0, posix.fcntl(fd, posix.F_SETFL, posix.O_NONBLOCK))
    assert.equal(posix.O_NONBLOCK, bit.band(posix.fcntl(fd, posix.F_GETFL, 0), posix.O_NONBLOCK))
    assert.equal(3, posix.write(fd, "abc", 3))
    assert.equal(0, posix.read(fd, ffi.new "char[4]", 4))
    local poll = posix.pollfd(fd, posix.POLLIN + posix.POLLOUT)
    assert.equal(1, posix.poll(poll, 1, 0))
    assert.equal(posix.POLLIN + posix.POLLOUT, poll.revents)
  end)

  it("says errno as nil, message, code, with what to do", function()
    assert.equal(-1, posix.open("/nowhere/x", posix.O_RDWR))
    assert.same({ nil, "open /nowhere/x: ENOENT", "ENOENT" }, { posix.failure "open /nowhere/x" })
    posix.close(-1)
    assert.same({ nil, "close: EBADF: it was never open", "EBADF" }, { posix.failure("close", "it was never open") })
    posix.close(-1)
    assert.same({ nil, "close: EBADF: of that code", "EBADF" }, { posix.failure("close", { EBADF = "of that code", EPERM = "no" }) })
    assert.same({ nil, "close: EAGAIN", "EAGAIN" }, { posix.failure("close", { EBADF = "of that code" }, posix.EAGAIN) })
  end)

  it("says the call's errno although a module is loaded first", function()
    local runtime = require "luio.ffi"
    finally(function() package.loaded["luio.ffi"], package.preload["luio.ffi"] = runtime, nil end)
    package.loaded["luio.ffi"], package.preload["luio.ffi"] = nil, function()
      posix.open("/nowhere/x", posix.O_RDWR)
      return runtime
    end
    posix.close(-1)
    assert.equal("close: EBADF", (select(2, posix.failure "close")))
  end)

  it("leaves the names of the C library to scripts", function()
    ffi.cdef "int geteuid(void);"
    assert.equal(posix.geteuid(), ffi.C.geteuid())
    assert.equal(uv.getuid(), posix.geteuid())
  end)
end)
