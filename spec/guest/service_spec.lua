--- luio@.service under a real systemd, which is process 1 of a namespace of its own and starts nothing else: the service waits
--- for its device, and its driver is started again by the guardian or by systemd. In the guest of spec/guest/specs.

local documents = require "spec.support.documents"
local files = require "spec.support.files"
local program = require "spec.support.program"
local sysfs = require "spec.support.sysfs"
local uv = require "luv"
local wait = require "spec.support.wait"

local EDU = "0000:00:04.0"
local UNITS, LOG = "/run/systemd/system", "/run/luio-service.log"
-- The checkout once more: the unit's own /tmp (PrivateTmp) hides one that lies below /tmp.
local TREE = "/run/luio-service-tree"

describe("luio@.service", function()
  local p

  -- systemd's messages go to the kernel's log, because its journal is not there and systemctl takes seconds here.
  local function systemd_says(text)
    wait.till(60, "systemd says: " .. text, function()
      return files.shell("dmesg | grep -F 'systemd[1]' || true"):find(text, 1, true)
    end)
  end

  -- The n-th time that luio says something.
  local function luio_says(text, n)
    wait.till(60, text, function()
      local log, count, at = uv.fs_stat(LOG) and files.read(LOG) or "", 0, 0
      repeat
        at = log:find(text, at + 1, true)
        count = count + (at and 1 or 0)
      until not at
      return count >= n
    end)
  end

  local function guardian()
    return tonumber((files.shell "pidof -s luio-guardian || pgrep -o luio-guardian":match "%d+"))
  end

  setup(function()
    -- As the documents say it, and with shorter pauses.
    local conf = documents.of("spec/guest/service_spec.lua")[1].text:match("^([^\n]*)\n"):gsub("sudo ", "")
    assert.equal(0, select(2, files.shell("mkdir -p /etc/luio; " .. conf .. "; printf '# Comment\\nOPTIONS=--bind --user nobody --backoff 1\\n' >> /etc/luio/edu.conf")))
    assert.same({ "", 0 }, { files.shell(("mkdir -p %s && mount --bind '%s' %s"):format(TREE, uv.cwd(), TREE)) })
    files.put(UNITS .. "/luio@.service", (files.read "runtime/system/luio@.service.in":gsub("@PREFIX@/bin", TREE .. "/build")))
    -- The default dependencies of a service are left out, because they would start a whole system.
    files.put(UNITS .. "/luio@.service.d/alone.conf", ("[Unit]\nDefaultDependencies=no\nAfter=\n[Service]\nWorkingDirectory=%s\n"
      .. "StandardOutput=append:%s\nStandardError=inherit\n"):format(TREE, LOG))
    files.save("/proc/sys/kernel/printk_devkmsg", "on\n")
    sysfs.write(("bus/pci/devices/%s/remove"):format(EDU), "1")
  end)
  teardown(function()
    if p then p:close() end
    os.execute(("rm -rf /etc/luio %s %s; umount -l %s; rmdir %s"):format(UNITS, LOG, TREE, TREE))
    files.clean()
    if not sysfs.exists("bus/pci/devices/" .. EDU) then sysfs.write("bus/pci/rescan", "1") end
    if not sysfs.driver(EDU) then sysfs.bind(EDU) end
  end)

  it("waits for its device, and brings a driver back whose processes were killed", function()
    p = program.start({ "--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-c", "mount -t cgroup2 none /sys/fs/cgroup; "
      .. "container=luio exec /lib/systemd/systemd --system --unit=luio@edu.service --log-target=kmsg --show-status=no" },
      { program = "/usr/bin/unshare" })
    luio_says("waiting for " .. EDU .. ": there is no such device; Ctrl-C ends this\n", 1)
    systemd_says "Started luio@edu.service"
    sysfs.write("bus/pci/rescan", "1")
    luio_says("driver edu runs on device " .. EDU, 1)
    local main = assert(guardian())
    assert(uv.kill(tonumber(files.read(("/proc/%d/task/%d/children"):format(main, main)):match "%d+"), "sigkill"))
    luio_says("driver edu runs again on device " .. EDU, 1)
    assert.equal(main, guardian())
    assert(uv.kill(main, "sigkill"))
    luio_says("driver edu runs on device " .. EDU, 2)
    systemd_says "luio@edu.service: Scheduled restart job, restart counter is at 1."
  end)
end)
