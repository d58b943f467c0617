--- A disk that is full, a file system that is read-only, a file that may not grow: commands report that their output is lost,
--- with the cause, and work that does not need the file goes on.
---
--- The disk is a tmpfs of 64 KiB in a mount namespace of the command's own.

local assert = require "luassert"
local files = require "spec.support.files"
local program = require "spec.support.program"
local uv = require "luv"
local wait = require "spec.support.wait"

local LUIO = program.PATH
local dir

-- A command below which $DISK is a full disk, with a file `kept` in it from before.
local function on_disk(command, read_only)
  local mount = ("mount -t tmpfs -o size=64k,mode=755 none '%s' && cd '%s' && echo before > kept && "):format(dir, dir)
    .. (read_only and "mount -o remount,ro none . && " or "{ dd if=/dev/zero of=fill bs=1k 2>/dev/null; true; } && ")
  return ([[unshare -m%s sh -c "%s%s"]]):format(uv.getuid() ~= 0 and " -r" or "", mount, command:gsub('[$"\\`]', "\\%0"))
end

local FULL = {
  { "on a full disk", false, "No space left on device", "ENOSPC: no space left on device" },
  { "on a read-only one", true, "Read%-only file system", "EROFS: read%-only file system" },
}

setup(function()
  dir = uv.cwd() .. "/" .. select(2, files.write("disk/x", ""))
  assert.equal("", (files.shell(on_disk "true"))) -- else this system gives no mount namespaces
end)
teardown(files.clean)

for _, case in ipairs(FULL) do
  local where, read_only, cause, code = unpack(case)
  describe(where, function()
    it("a snapshot leaves the file of before, and no other", function()
      local out, status = files.shell(on_disk(("cd '%s'; %s snapshot sim:edu -o '%s/kept'; s=$?; cat '%s/kept'; ls '%s' | grep -v fill; exit $s"):format(
        uv.cwd(), LUIO, dir, dir, dir), read_only))
      assert.matches("^luio: write .*" .. cause .. "[^\n]*\nbefore\nkept\n$", out)
      assert.equal(1, status)
    end)

    it("explore says once that its history is not kept, and goes on", function()
      -- luio.host.trust then refuses every folder: root's are nobody's in the user namespace that this takes.
      if uv.getuid() ~= 0 then return pending "only root has a mount namespace in which folders belong to root" end
      local h = [[local h = require("luio.tool.explore.history").open(arg[1])
        print(h.note)
        for i = 1, 3 do print(select(2, h:add(("entry %d "):format(i) .. ("x"):rep(i == 1 and 10 or 5000)))) end
        print(#h.entries)]]
      local script = uv.cwd() .. "/" .. files.write("history.lua", h)
      local out = files.shell(on_disk(("%s '%s' '%s/kept'; tail -n 1 '%s/kept'"):format(LUIO, script, dir, dir), read_only))
      local note = read_only and "the history is not kept: " .. code or "the history is no longer kept: the file system is full"
      assert.equal(1, select(2, out:gsub(note, "")), out)
      assert.matches("\n4\n" .. (read_only and "before" or "entry 1 x*") .. "\n$", out) -- the one of before, and three; no half of one in the file
    end)

    it("a capture fails at its first byte, with the cause", function()
      local script = uv.cwd() .. "/" .. files.write("capture.lua", [[print(select(2, require("luio.net.pcapng").create(arg[1])))]])
      local out = files.shell(on_disk(("%s '%s' new.pcapng"):format(LUIO, script), read_only))
      assert.matches("^[^\n]*" .. code:match "^%u+" .. "[^\n]*\n$", out)
    end)
  end)
end

describe("a driver whose output goes to a full disk", function()
  local p
  after_each(function() if p then p:close() end end)

  it("goes on, is exchanged when it is saved, and says what was lost", function()
    local TEXT = [[
      local uv = require "luv"
      local function tell(what)
        local fd = assert(uv.fs_open(os.getenv "SEEN", "a", 420))
        uv.fs_write(fd, what .. "\n")
        uv.fs_close(fd)
      end
      return { name = "full", durable = { "n" }, state_version = 1, start = function(dev, reason)
        dev.state.n = (dev.state.n or 0) + 1
        tell(("VERSION %s %d pid %d"):format(reason, dev.state.n, uv.os_getpid()))
        return true
      end, stop = function() tell "stopped" end }]]
    local folder = files.driver((TEXT:gsub("VERSION", "first")))
    local seen = uv.cwd() .. "/" .. files.write("seen", "")
    local said = uv.cwd() .. "/" .. files.write("said", "")
    p = program.start({ "-c", on_disk(("cd '%s'; SEEN='%s' exec %s run %s sim:edu > '%s/log' 2> '%s'"):format(
      uv.cwd(), seen, LUIO, folder, dir, said)) }, { program = "/bin/sh" })
    local function see(what)
      wait.till(10, what, function() return files.read(seen):find(what, 1, true) end)
    end
    see "first fresh 1"
    wait.till(10, "it says what is lost", function() return files.read(said) ~= "" end)
    files.save(folder .. "/init.lua", (TEXT:gsub("VERSION", "second")))
    see "second reload 2"
    p:kill("sigkill", tonumber(files.read(seen):match "reload 2 pid (%d+)"))
    see "crash"
    uv.kill(-p.pid, "sigterm")
    p:status()
    see "stopped"
    assert.matches("^luio: standard output: ENOSPC: no space left on device; the driver goes on, and its output is lost\n", files.read(said))
  end)
end)

describe("below ulimit -f", function()
  it("nothing dies of SIGXFSZ: what is too large is refused, with the remedy", function()
    local script = files.write("state.lua", [[
      local luio = require "luio"
      local dev = assert(luio.open "sim:edu")
      print(select(2, dev.dma:alloc(64 * 1024)))
      local f = io.open(arg[1], "w")
      print(f:write(("x"):rep(100000)))
      print "and goes on"]])
    local out, status = files.shell(("(ulimit -f 4; timeout 20 %s %s '%s') | cat"):format(LUIO, script, script .. ".out"))
    assert.matches("^65536 bytes of DMA memory for sim:edu[^\n]*: EFBIG: raise `ulimit %-f`\tEFBIG\n", out)
    assert.matches("\nnil\tFile too large\t%d+\nand goes on\n$", out)
    assert.equal(0, status)
  end)

  it("a driver runs without what a guardian would keep of its code, and says so", function()
    local p = program.start({ "-c", ("ulimit -f 4000; exec %s run drivers/edu sim:edu"):format(LUIO) }, { program = "/bin/sh" })
    p:wait "driver edu runs"
    p:wait "luio: after a crash the driver starts from its files: [^\n]*EFBIG: raise `ulimit %-f`\n"
    p:kill "sigterm"
    assert.equal(0, p:status())
    p:close()
  end)
end)
