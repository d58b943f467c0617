--- A real udevd in a guest, with the groups and rules of `make install-system` and none of the system's, which take a while.

local assert = require "luassert"
local files = require "spec.support.files"
local uv = require "luv"

local M = {}

M.RULES = "/run/udev/rules.d/"

--- Runs a command that has to succeed, and returns its output.
---@param command string  for string.format
---@return string
function M.must(command, ...)
  local out, status = files.shell(command:format(...))
  assert.equal(0, status, command:format(...) .. "\n" .. out)
  return out
end

--- Has the rules run for each UIO device, and waits until they have.
function M.trigger()
  for name in uv.fs_scandir_next, assert(uv.fs_scandir "/sys/class/uio") do
    files.save(("/sys/class/uio/%s/uevent"):format(name), "add") -- as `udevadm trigger --action=add` does
  end
  M.must "udevadm settle -t 300"
end

--- Starts it.
---@return table<string, string> groups  by name, the number
function M.start()
  local group = {}
  M.must("systemd-sysusers $PWD/runtime/system/sysusers.conf")
  for _, name in ipairs { "luio", "luio-config" } do group[name] = M.must("getent group %s", name):match ":(%d+):" end
  M.must "mount -t tmpfs rules /usr/lib/udev/rules.d"
  M.must("mkdir -p %s && cp runtime/system/60-luio.rules %s", M.RULES, M.RULES)
  M.must "/lib/systemd/systemd-udevd --daemon"
  return group
end

function M.stop()
  M.must "udevadm control --exit; rm -rf /run/udev; umount /usr/lib/udev/rules.d"
end

--- "luio 660", of a file.
---@param path string
---@return string
function M.mode(path)
  local stat = assert(uv.fs_stat(path))
  local group = ("\n" .. files.read "/etc/group"):match("\n([^:\n]+):[^:\n]*:" .. stat.gid .. ":")
  return ("%s %o"):format(group or stat.gid, stat.mode % 4096)
end

return M
