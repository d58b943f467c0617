--- Holders of a device: real processes with files open, mapped and locked, below a folder that stands
--- for the device's in sysfs. The real /dev/uioX is in spec/guest/doctor_spec.lua.

local uv = require "luv"
local holders = require "luio.host.holders"
local sysfs = require "luio.host.sysfs"
local files = require "spec.support.files"

describe("holders", function()
  local pids, info, dir

  before_each(function()
    local path
    pids = {}
    path, dir = files.write("config", ("\0"):rep(64))
    dir = uv.fs_realpath(dir)
    assert(os.execute(("cp %s %s/resource0"):format(path, dir)) == 0)
    info = { address = "0000:00:04.0", bus = "pci", sysfs = dir, has_bars = true }
  end)
  after_each(function()
    for _, pid in ipairs(pids) do uv.kill(pid, "sigkill") end
  end)
  teardown(files.clean)

  -- Starts a shell command that goes on; its process id.
  local function start(command)
    local f = assert(io.popen(("%s >/dev/null 2>&1 & echo $!"):format(command)))
    local pid = f:read "*n"
    f:close()
    table.insert(pids, pid)
    return pid
  end

  -- Asks until there are `n`, for at most 50 s: a process takes a moment to open its files.
  local function wait_for(n, condition)
    local deadline = uv.hrtime() + 50e9
    local list, partial
    repeat
      list, partial = holders.of(info)
      if #list == n and (not condition or condition(list)) then return list, partial end
      uv.sleep(10)
    until uv.hrtime() > deadline
    return list, partial
  end

  it("has nobody for a device that nobody has, and for a simulated one", function()
    assert.same({}, (holders.of(info)))
    assert.same({}, (holders.of { address = "sim:edu", is_private = true }))
  end)

  it("has a process with an open file: which, by whom; it only looks", function()
    local pid = start(("exec sleep 20 <'%s/config'"):format(dir))
    local list = wait_for(1, function(l) return l[1].command == "sleep 20" end)
    assert.same({ { pid = pid, command = "sleep 20", files = { "config" }, lock = false, drives = false } }, list)
    assert.equal(("process %d (sleep 20) looks at it: config"):format(pid), holders.describe(list[1]))
  end)

  it("leaves out the process that asks", function()
    local f = assert(io.open(dir .. "/config"))
    local list = holders.of(info)
    f:close()
    assert.same({}, list)
  end)

  local function map(writable)
    local script = files.write("map.lua", ([[
      local ffi = require "ffi"
      ffi.cdef "void *mmap(void *, size_t, int, int, int, long); int open(const char *, int); int close(int); unsigned sleep(unsigned);"
      local fd = ffi.C.open("%s/resource0", 2)
      assert(ffi.cast("intptr_t", ffi.C.mmap(nil, 4096, %d, 1, fd, 0)) ~= -1)
      ffi.C.close(fd)
      ffi.C.sleep(20)
    ]]):format(dir, writable and 3 or 1))
    return start("exec luajit " .. script)
  end

  it("has a mapping, which outlives its descriptor; a writable one drives the device", function()
    local pid = map(true)
    local list = wait_for(1, function(l) return l[1].drives end)
    assert.same({ pid, { "resource0" }, true }, { list[1].pid, list[1].files, list[1].drives })
  end)

  it("knows that a read-only mapping only looks", function()
    local pid = map(false)
    local list = wait_for(1, function(l) return not l[1].drives end) -- at first it is the descriptor, perhaps
    assert.same({ pid, { "resource0" }, false }, { list[1].pid, list[1].files, list[1].drives })
  end)

  it("tells who has the lock", function()
    if files.shell "command -v flock" == "" then return pending "no flock here (package util-linux)" end
    local pid = start(("exec flock '%s/config' sleep 20"):format(dir))
    local list = wait_for(2) -- flock and its child share the descriptor, and so the lock
    table.insert(pids, list[2] and list[2].pid)
    assert.same({ pid, { "config" }, true, true }, { list[1].pid, list[1].files, list[1].lock, list[1].drives })
    assert.matches("drives it: config, luio's lock$", holders.describe(list[1]))
  end)

  it("does not take a file that was replaced for the device's: the one of before was unplugged", function()
    start(("exec sleep 20 <'%s/config'"):format(dir))
    assert.equal(1, #wait_for(1))
    assert(os.execute(("cd %s && cp config new && mv new config"):format(dir)) == 0)
    assert.same({}, (holders.of(info)))
  end)

  it("sorts by process", function()
    for _ = 1, 3 do start(("exec sleep 20 <'%s/config'"):format(dir)) end
    local list = wait_for(3)
    assert.equal(3, #list)
    assert.is_true(list[1].pid < list[2].pid and list[2].pid < list[3].pid)
  end)

  it("says that it could not see everything", function()
    if uv.getuid() ~= 0 then
      assert.is_true(select(2, holders.of(info)))
      return
    end
    assert.is_false(select(2, holders.of(info)))
    start(("exec sleep 20 <'%s/config'"):format(dir))
    wait_for(1)
    local script = files.write("user.lua", ([[
      local list, partial = require("luio.host.holders").of { address = "0000:00:04.0", bus = "pci", sysfs = "%s", has_bars = true }
      print(#list, partial)
    ]]):format(dir))
    local out = files.shell(("LUA_PATH='./lua/?.lua;./lua/?/init.lua;;' setpriv --reuid 65534 --regid 65534 --clear-groups luajit %s"):format(script))
    if out:find("not found", 1, true) then return pending "no setpriv here (package util-linux)" end
    assert.equal("0\ttrue\n", out)
  end)

  describe("in a /proc", function()
    local real = sysfs.proc
    local proc
    before_each(function()
      local _, folder = files.write("locks", "")
      proc = folder
      sysfs.proc = proc
    end)
    after_each(function() sysfs.proc = real end)

    it("that hides other users' processes is partial", function()
      assert(os.execute("mkdir -p " .. proc .. "/4711/fd") == 0)
      local list, partial = holders.of(info)
      assert.same({}, list)
      assert.is_true(partial)
    end)

    it("has the node, the VFIO group, and mappings of either", function()
      info.uio = "uio3"
      assert(os.execute(("mkdir -p %s/1/fd %s/20/fd %s/30/fd %s/40/fd; ln -s ../../iommu_groups/7 %s/iommu_group"):format(proc, proc, proc, proc, dir)) == 0)
      assert(uv.fs_symlink("/dev/uio3", proc .. "/20/fd/5"))
      assert(uv.fs_symlink("/dev/uio30", proc .. "/30/fd/5"))
      assert(uv.fs_symlink("/dev/vfio/7", proc .. "/30/fd/6"))
      local f = assert(io.open(proc .. "/40/maps", "w"))
      f:write("7f0000000000-7f0000001000 rw-s 00001000 00:05 812                        /dev/uio3\n",
        "7f0000001000-7f0000002000 rw-s 00001000 00:05 812                        /dev/uio30\n")
      f:close()
      f = assert(io.open(proc .. "/20/comm", "w"))
      f:write "testpmd\n"
      f:close()
      local list, partial = holders.of(info)
      assert.is_false(partial)
      assert.same({
        { pid = 20, command = "testpmd", files = { "/dev/uio3" }, lock = false, drives = true },
        { pid = 30, command = "process 30", files = { "/dev/vfio/7" }, lock = false, drives = true },
        { pid = 40, command = "process 40", files = { "/dev/uio3" }, lock = false, drives = true },
      }, list)
    end)

    it("lets no command line drive the terminal", function()
      assert(os.execute(("mkdir -p %s/20/fd"):format(proc)) == 0)
      assert(uv.fs_symlink(dir .. "/config", proc .. "/20/fd/5"))
      local f = assert(io.open(proc .. "/20/cmdline", "w"))
      f:write("evil\0\27[2J\127", ("x"):rep(200), "\0")
      f:close()
      local command = holders.of(info)[1].command
      assert.equal("evil \\x1b[2J\\x7f" .. ("x"):rep(41) .. "...", command)
    end)

    it("that is not there, finds nobody and says that it is partial", function()
      sysfs.proc = proc .. "/nowhere"
      assert.same({ {}, true }, { holders.of(info) })
    end)
  end)
end)
