--- The files of `make install-system`, as systemd and udev read them. spec/guest/rights_spec.lua tests the rules in a real
--- system.

local files = require "spec.support.files"
local uv = require "luv"

local function shell(command, ...)
  local out, status = files.shell(command:format(...))
  return out, status
end

local function fine(command, ...)
  local out, status = shell(command, ...)
  assert.equal(0, status, command:format(...) .. "\n" .. out)
  return out
end

describe("make install-system", function()
  local dir, prefix
  setup(function()
    dir = uv.cwd() .. "/" .. select(2, files.write("x", ""))
    prefix = dir .. "/prefix"
    -- DESTDIR, so that nothing of this machine changes; it is the root, so that what is installed is where it says.
    fine("env -u MAKEFLAGS make -s install install-system DESTDIR=/ PREFIX='%s' SYSTEM_LIB='%s/lib'", prefix, prefix)
  end)
  teardown(files.clean)

  it("installs a unit that systemd takes, with the program of that prefix", function()
    local unit = prefix .. "/lib/systemd/system/luio@.service"
    assert.is_truthy(files.read(unit):find("\nExecStart=" .. prefix .. "/bin/luio run --wait --no-watch $OPTIONS $DRIVER $DEVICE\n", 1, true))
    fine("systemd-analyze verify --man=no '%s/lib/systemd/system/luio@edu.service'", prefix)
    files.save(unit, (files.read(unit):gsub("KillMode=mixed", "KillMode=some"):gsub("/bin/luio run", "/bin/lui run")))
    local out, status = shell("systemd-analyze verify --man=no '%s/lib/systemd/system/luio@edu.service'", prefix)
    assert.equal(1, status) -- so it looks
    assert.matches("kill mode", out)
    assert.matches("is not executable", out)
  end)

  it("installs rules of udev's form, and a file that makes both groups", function()
    local rules = files.read(prefix .. "/lib/udev/rules.d/60-luio.rules")
    for line in rules:gmatch "[^\n]+" do
      -- A key, an operator, a value in quotes; separated by commas.
      if not line:match "^#" then assert.equal("", (line .. ", "):gsub('[%w_]+[=!+]=?=?"[^"]*", ', ""), line) end
    end
    local root = dir .. "/root"
    fine("mkdir -p '%s/etc' '%s/usr/lib/sysusers.d' && cp '%s/lib/sysusers.d/luio.conf' '%s/usr/lib/sysusers.d/'", root, root, prefix, root)
    fine("systemd-sysusers --root='%s'", root)
    local groups = files.read(root .. "/etc/group")
    assert.matches("luio:x:%d+:\n", groups)
    assert.matches("luio%-config:x:%d+:\n", groups)
  end)

  it("makes no group and tells no daemon where DESTDIR is set, and is taken away again", function()
    local before = files.read "/etc/group"
    fine("env -u MAKEFLAGS make -s install-system DESTDIR='%s/stage' PREFIX=/usr", dir)
    assert.equal(before, files.read "/etc/group")
    local list = "cd '%s/stage' && find . -type f | sort"
    assert.equal("./usr/lib/systemd/system/luio@.service\n./usr/lib/sysusers.d/luio.conf\n./usr/lib/udev/rules.d/60-luio.rules\n",
      fine(list, dir))
    assert.is_truthy(files.read(dir .. "/stage/usr/lib/systemd/system/luio@.service"):find "\nExecStart=/usr/bin/luio run")
    fine("env -u MAKEFLAGS make -s uninstall-system DESTDIR='%s/stage' PREFIX=/usr", dir)
    assert.equal("", fine(list, dir))
  end)
end)
