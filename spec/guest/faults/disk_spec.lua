--- A disk that fails, and a user's quota that is used up: commands report that their output is lost, with the cause. In the guest
--- `faults`, on disks in memory: one that device-mapper makes fail, and one with quotas. Full and read-only disks are in
--- spec/tool/cli/full_disk_spec.lua.

local ffi = require "ffi"
local files = require "spec.support.files"
local must = require("spec.support.system").must

local USER = 12345
local MODPROBE = "/run/luio/bin/modprobe"

ffi.cdef "long syscall(long, ...);"

describe("a disk", function()
  local dir

  setup(function()
    for _, name in ipairs { "dm_mod", "ext4", "quota_v2", "brd rd_nr=2 rd_size=8192" } do must("%s %s", MODPROBE, name) end
    dir = must("mktemp -d /tmp/luio-disk-XXXXXX"):match "%S+"
    must("chmod 755 %s && mkdir %s/fails %s/quota", dir, dir, dir)
  end)
  teardown(function()
    files.shell(("umount -l %s/fails %s/quota; dmsetup remove --noudevsync fails; rm -rf %s"):format(dir, dir, dir))
    files.clean()
  end)

  it("that takes nothing any more, though files can be made, is an error of what was to be written, and the old file stays", function()
    must "dmsetup create fails --noudevsync --table '0 16384 linear /dev/ram0 0'"
    must("mkfs.ext4 -q -O ^has_journal /dev/dm-0 && mount -t ext4 -o errors=continue /dev/dm-0 %s/fails && echo before > %s/fails/kept && sync", dir, dir)
    -- The history has more entries than are kept, so it is written anew when it is opened.
    must("for i in $(seq 20000); do echo entry $i; done > %s/fails/history; sync", dir)
    local history = files.write("history.lua", [[print(require("luio.tool.explore.history").open(arg[1]).note)]])
    local capture = files.write("capture.lua", [[
      local file = assert(require("luio.net.pcapng").create(arg[1]))
      os.execute(arg[2])
      print(select(2, file:close()))]])
    local fail = "dmsetup suspend --noudevsync --nolockfs fails && dmsetup load fails --table \"0 16384 error\" && dmsetup resume --noudevsync fails"
    local out = files.shell(("build/luio %s %s/fails/capture '%s' 2>&1"):format(capture, dir, fail))
    assert.matches("close [^\n]*/capture: EIO", out)
    local status
    out, status = files.shell(("build/luio snapshot sim:edu -o %s/fails/kept; s=$?; cat %s/fails/kept; (exit $s)"):format(dir, dir))
    assert.matches("^luio: write [^\n]*/fails/kept: EIO; nothing was changed\nbefore\n$", out)
    assert.equal(1, status)
    assert.matches("^the history is not kept: write [^\n]*: EIO", (files.shell(("build/luio %s %s/fails/history 2>&1"):format(history, dir))))
  end)

  it("on which the user may have no more is an error with the cause, and the old file stays", function()
    must("mkfs.ext4 -q -O quota /dev/ram1 && mount -t ext4 -o usrquota /dev/ram1 %s/quota && chmod 777 %s/quota", dir, dir)
    must("echo before > %s/quota/kept && chown %d %s/quota/kept", dir, USER, dir)
    -- quotactl(2): Q_SETQUOTA, of blocks: 1 KiB, which is there already.
    local limit = ffi.new("struct { uint64_t b_hard, b_soft, now, i_hard, i_soft, inodes, b_time, i_time; uint32_t valid; }",
      { 1, 1, 0, 0, 0, 0, 0, 0, 1 })
    local SETQUOTA = ffi.arch == "x64" and 179 or 60
    assert.equal(0, tonumber(ffi.C.syscall(SETQUOTA, ffi.cast("int", bit.tobit(0x80000800)), "/dev/ram1", ffi.cast("int", USER), limit)), ffi.errno())
    local function as_user(command)
      return files.shell(("setpriv --reuid %d --clear-groups sh -c '%s' 2>&1"):format(USER, command))
    end
    local out, status = as_user(("build/luio snapshot sim:edu -o %s/quota/kept; s=$?; cat %s/quota/kept; exit $s"):format(dir, dir))
    assert.matches("^luio: write [^\n]*/quota/kept[^\n]*: Disk quota exceeded; nothing was changed\nbefore\n$", out)
    assert.equal(1, status)
    local capture = files.write("capture.lua", [[print(select(2, require("luio.net.pcapng").create(arg[1])))]])
    assert.matches("capture: EDQUOT", (as_user(("build/luio %s %s/quota/capture"):format(capture, dir))))
    local history = files.write("history.lua", [[print(select(2, require("luio.tool.explore.history").open(arg[1]):add "entry"))]])
    assert.matches("^the history is no longer kept: [^\n]*EDQUOT", (as_user(("build/luio %s %s/quota/history"):format(history, dir))))
  end)
end)
