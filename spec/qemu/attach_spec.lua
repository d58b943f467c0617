--- qemu:/path/of/socket: a QEMU that somebody else started.

local bit = require "bit"
local attach = require "luio.qemu.attach"
local files = require "spec.support.files"
local luio = require "luio"
local posix = require "luio.posix"
local program = require "spec.support.program"
local qemu = require "luio.qemu"
local qemu_server = require "spec.support.qemu_server"
local wait = require "spec.support.wait"
local uv = require "luv"

local TWO = { "-device", "edu,id=a", "-device", "edu,id=b" }

describe("a QEMU that somebody else started", function()
  local server
  local greeting, answer = attach.GREETING, qemu.ANSWER
  local function start(...)
    server = qemu_server.start(...)
    return server
  end
  after_each(function()
    attach.GREETING, qemu.ANSWER = greeting, answer
    assert(luio.close_all())
    if server then server:stop() end
    server = nil
  end)
  teardown(files.clean)

  local function master(dev) return bit.band(dev.config:read16(4), 4) ~= 0 end

  -- Opening it fails with that code, by those words.
  local function refuses(address, code, words, options)
    local dev, message, got = luio.open(address, options)
    assert.is_nil(dev)
    assert.truthy(message:find(words, 1, true), message)
    assert.equal(code, got, message)
    assert.truthy(message:find "^attach to the QEMU at ", message)
    assert.is_nil(message:find("attach to", 2, true), message)
  end

  it("is taken by the path of its QMP socket: registers, interrupts, DMA", function()
    start { "-device", "edu" }
    local dev = assert(luio.start("edu", "qemu:" .. server.qmp))
    assert.equal(server.pid, dev.qemu.pid)
    assert.equal(120, (assert(dev.driver.factorial(dev, 5))))
    local buffer = assert(dev.dma:alloc(4096))
    buffer:write(0, "through a file of the machine's")
    assert(dev.driver.to_device(dev, buffer, 31))
    buffer:fill(0)
    assert(dev.driver.from_device(dev, buffer, 31))
    assert.equal("through a file of the machine's", buffer:read(0, 31))
    assert.equal("through a file of the machine's", files.read(server.memory):sub(buffer.iova + 1, buffer.iova + 31))
    assert(dev:close())
    assert.is_true(program.alive(server.pid))
  end)

  it("has INTx alone, and says why", function()
    start { "-device", "edu" }
    local dev, message, code = luio.open("qemu:" .. server.qmp, { vectors = "msi" })
    assert.is_nil(dev)
    assert.equal("ENOTSUP", code)
    assert.truthy(message:find("they come by an ivshmem-doorbell that luio serves from the machine's start, and somebody else started "
      .. "this one: have luio start it", 1, true), message)
    dev = assert(luio.open("qemu:" .. server.qmp))
    local has = assert(dev:vectors())
    assert.same({ 1, 1, false }, { has.intx, has.msi, has.messages })
  end)

  it("is left as it is when its devices are closed, and taken again", function()
    start(TWO)
    local function take(n)
      local a = assert(luio.open(("qemu:%s,id=a"):format(server.qmp)))
      local b = assert(a.qemu:open "b")
      assert.equal(n, tonumber(0xffffffff - a.regions[0]:read32(4)) % 0xffffffff)
      a.regions[0]:write32(4, n + 1)
      assert.equal(0x010000ed, b.regions[0]:read32(0))
      assert.is_false(master(a))
      assert(a:bus_master(true))
      if n % 2 == 0 then assert(a:close() and b:close()) else assert(b:close() and a:close()) end
      assert.is_true(program.alive(server.pid))
    end
    local first = assert(luio.open(("qemu:%s,id=a"):format(server.qmp)))
    first.regions[0]:write32(4, 0)
    assert(first:close())
    for n = 0, 5 do take(n) end
  end)

  it("wants a device named where it has several", function()
    start { "-device", "edu,id=a", "-device", "pci-serial", "-device", "pcie-root-port,id=rp,slot=1,chassis=1" }
    local address = "qemu:" .. server.qmp
    refuses(address, "EINVAL", ("it has a, 00:02.0: name one, as %s,id=a"):format(address))
    refuses(address .. ",id=c", "ENODEV", 'open c: the machine has no PCI device "c"; it has a, rp')
    refuses(address .. ",addr=7", "EINVAL", "after the path comes ,id=NAME, not addr=7")
    refuses(address, "EINVAL", "it runs already", { qemu = { "-device", "edu" } })
    assert.equal("Serial port", assert(luio.open(address .. ",id=00:02.0")).qemu:devices()[3].class)
  end)

  it("that has no PCI device is refused", function()
    start {}
    refuses("qemu:" .. server.qmp, "ENODEV", "it has no PCI device beside q35's own")
  end)

  it("is named by a path from here, or from /", function()
    start { "-device", "edu,id=a" }
    for _, path in ipairs { server.dir:gsub("^.*/", "./") .. "/qmp", "../" .. server.dir:match "([^/]+)$" .. "/qmp" } do
      local folder = path:match "^%.%./" and server.dir or server.dir:match "^(.*)/"
      local out, status = program.run_in(folder, ("get qemu:%s 0"):format(path))
      assert.equal(0, status, out)
      assert.truthy(out:find("0x010000ed", 1, true), out)
    end
    assert.equal(("qemu:%s,id=a"):format(server.qmp), assert(luio.open("qemu:" .. server.qmp)).address)
  end)

  it("has an address with the end of its path, if that is long", function()
    local text = attach.address("/" .. ("folder/"):rep(12) .. "qmp", "a")
    assert.equal(63, #text)
    assert.truthy(text:find "^qemu:%.%.%..*folder/qmp,id=a$", text)
  end)

  it("may name its own files from where it was started", function()
    local _, folder = files.write("x", "")
    start({ "-device", "edu" }, {
      object = "memory-backend-file,id=memory,size=64M,mem-path=m,share=on", chardev = "socket,id=qtest,path=t,server=on,wait=off",
    }, folder)
    assert.equal(0x010000ed, assert(luio.open("qemu:" .. server.qmp)).regions[0]:read32(0))
  end)

  for missing, case in pairs {
    ["a test socket"] = { { qtest = false }, "ENOTSUP", "-object qtest,id=luio,chardev=qtest" },
    ["a test socket that listens"] = { { chardev = "null,id=qtest" }, "ENOTSUP", "no server that listens: start it with -chardev socket" },
    ["memory in a file"] = { { M = "q35", object = false }, "ENOTSUP", "which is in no file: start it with -object memory-backend-file" },
    ["memory that is shared"] = { { object = "memory-backend-file,id=memory,size=64M,mem-path=/dev/shm" }, "ENOTSUP", "(no share=on)" },
    ["a file for its memory"] = { { object = "memory-backend-memfd,id=memory,size=64M,share=on" }, "ENOTSUP", "which is in no file" },
    ["a file with a name"] = { { object = "memory-backend-file,id=memory,size=64M,mem-path=/dev/shm,share=on" }, "EACCES", "(mem-path): " },
    ["a processor that does nothing"] = { { bios = false }, "EBUSY", "its processor runs a program (a firmware, a guest)" },
    ["the machine that luio knows"] = { { M = "pc,memory-backend=memory" }, "ENOTSUP", "and luio knows q35 (-M q35)" },
    ["enough memory"] = { { m = "2M", object = "memory-backend-file,id=memory,size=2M,mem-path=/dev/shm/luio-spec-memory,share=on" }, "EINVAL",
      "its memory has 2 MiB: start it with 4 MiB to 30 GiB" },
  } do
    it("is refused, and the argument named, if it lacks " .. missing, function()
      start({ "-device", "edu" }, case[1])
      finally(function() os.remove "/dev/shm/luio-spec-memory" end)
      refuses("qemu:" .. server.qmp, case[2], case[3])
      refuses("qemu:" .. server.qmp, case[2], case[3]) -- it is let go each time
    end)
  end

  it("is refused if its processor is stopped", function()
    start { "-device", "edu", "-S" }
    refuses("qemu:" .. server.qmp, "ENOTSUP", "its machine stands still (prelaunch)")
  end)

  it("has memory of any size, of which the first 2 GiB are used", function()
    for size, most in pairs { ["5M"] = 1, ["35M"] = 16, ["3G"] = 1023 } do
      local path = "/dev/shm/luio-spec-memory"
      finally(function() os.remove(path) end)
      start({ "-device", "edu,dma_mask=0xffffffffffffffff" },
        { m = size, object = ("memory-backend-file,id=memory,size=%s,mem-path=%s,share=on"):format(size, path) })
      local dev = assert(luio.open("qemu:" .. server.qmp))
      local n, last = 0, nil
      while true do
        local piece, _, code = dev.dma:alloc(2 ^ 21)
        if not piece then
          assert.equal("ENOMEM", code)
          break
        end
        n, last = n + 1, piece
      end
      assert.equal(most, n)
      dev = assert(luio.start("edu", dev))
      last:fill(7)
      assert(dev.driver.to_device(dev, last, 5))
      last:fill(0)
      assert(dev.driver.from_device(dev, last, 5))
      assert.equal("\7\7\7\7\7\0", last:read(0, 6))
      assert(dev:close())
      server:stop()
      server = nil
      os.remove(path)
    end
  end)

  it("whose sockets have a client already keeps that one; luio does not wait for ever", function()
    attach.GREETING = 0.3
    start { "-device", "edu" }
    local address = "qemu:" .. server.qmp
    local client = assert(qemu_server.connect(server.qmp))
    refuses(address, "EBUSY", "it did not greet within 0.3 s: it has another client")
    local waiting = {}
    for i = 1, 2 do waiting[i] = qemu_server.connect(server.qmp) end
    refuses(address, "EBUSY", "EAGAIN: it has a client, and others that wait")
    for _, fd in ipairs { client, unpack(waiting) } do posix.close(fd) end
    client = assert(qemu_server.connect(server.qtest))
    attach.GREETING = 10
    wait.till(60, "the clients are gone", function()
      attach.GREETING = 0.3
      local _, message = luio.open(address)
      return message:find("its test socket has another client, and takes one", 1, true)
    end)
    posix.close(client)
    attach.GREETING = greeting
    assert(luio.open(address))
  end)

  it("is taken after a client of its test socket was killed in the middle of a line, and of its answers", function()
    start { "-device", "edu" }
    for n, text in ipairs { "readl 0xb00", "x", "readl 0xb0000000\nreadl 0xb0000000\nreadl 0xb0000000", "irq_intercept_in io" } do
      local client = assert(qemu_server.connect(server.qtest))
      assert.equal(#text, posix.write(client, text, #text))
      posix.close(client)
      local dev = assert(luio.open("qemu:" .. server.qmp))
      assert.equal(0x010000ed, dev.regions[0]:read32(0), n)
      assert(dev:close())
    end
  end)

  it("is taken after a luio that drove it was killed, whose interrupts and DMA went on", function()
    start { "-device", "edu" }
    local script = files.write("drive.lua", [[
      local luio = require "luio"
      local dev = assert(luio.start("edu", arg[1]))
      local buffer = assert(dev.dma:alloc(4096))
      print "drives"
      io.flush()
      while true do
        dev.driver.factorial(dev, 5)
        dev.regs.DMA_CMD:write { RUN = 0 }
        assert(dev.driver.from_device(dev, buffer, 100))
      end
    ]])
    for round = 1, 4 do
      local p = program.start { script, "qemu:" .. server.qmp }
      p:wait "drives"
      uv.sleep(round * 13)
      p:kill "sigkill"
      p:status()
      p:close()
      local dev = assert(luio.open("qemu:" .. server.qmp))
      assert.is_false(master(dev))
      dev = assert(luio.start("edu", dev))
      assert.equal(720, (assert(dev.driver.factorial(dev, 6))))
      assert(dev:close())
    end
  end)

  it("that is stopped, or ends, is no wait without end", function()
    start { "-device", "edu" }
    local dev = assert(luio.open("qemu:" .. server.qmp))
    qemu.ANSWER, attach.GREETING = 0.5, 0.5
    uv.kill(server.pid, "sigkill")
    wait.till(100, "it has ended", function() return not pcall(dev.regions[0].read32, dev.regions[0], 0) end)
    local _, message = pcall(dev.regions[0].read32, dev.regions[0], 0)
    assert.truthy(tostring(message):find(("the QEMU at %s: it has ended"):format(server.qmp), 1, true), tostring(message))
    assert(dev:close())
    wait.till(100, "it is no process any more", function() return server.exited end)
    refuses("qemu:" .. server.qmp, "ECONNREFUSED", "nobody listens there: has its QEMU ended?")
    server:stop()
    start { "-device", "edu" }
    uv.kill(server.pid, "sigstop")
    finally(function() uv.kill(server.pid, "sigcont") end)
    refuses("qemu:" .. server.qmp, "EBUSY", "it did not greet within 0.5 s")
  end)

  it("is refused where others could have put it", function()
    start { "-device", "edu" }
    local address = "qemu:" .. server.qmp
    local function with(path, mode, words)
      local before = uv.fs_stat(path).mode
      assert(uv.fs_chmod(path, tonumber(mode, 8)))
      refuses(address, "EACCES", words)
      assert(uv.fs_chmod(path, before % 4096))
    end
    with(server.dir, "777", ("%s may be written by anybody: chmod go-w"):format(server.dir))
    with(server.qmp, "777", "/qmp may be written by anybody")
    with(server.qtest, "775", "/qtest may be written by group")
    with(server.memory, "666", "/memory may be written by anybody")
    for _, path in ipairs { server.memory, "/nosuch/qmp", server.dir } do
      refuses("qemu:" .. path, path:find "nosuch" and "ENOENT" or "EACCES", path:find "nosuch" and "ENOENT" or "is no socket")
    end
    if posix.geteuid() ~= 0 then pending "another user's socket takes root" end
    assert(uv.fs_chown(server.qmp, 65534, 65534))
    refuses(address, "EACCES", "/qmp is user 65534's")
  end)
end)
