--- Runs Lua code in a process that sees another sysfs: a tree in umockdev's format, as
--- umockdev-record writes it.
---
---     local udev = require "spec.support.umockdev"
---     local devices = udev.list(udev.uio(0, { name = false }))   -- luio.list() under that tree
---     local got = udev.run(tree, [[return { luio.open "uio0" }]]) -- any code; data comes back
---
--- The code runs in spec/support/umockdev_child.lua, whose header lists its globals. It sees the library
--- that LUIO_LIBRARY names; a sanitizer's runtime must then come first in the child, before
--- umockdev's, and not be in umockdev-run at all.

local files = require "spec.support.files"

local M = {}

local function quoted(text)
  return "'" .. text:gsub("'", "'\\''") .. "'"
end

-- ---- Running -------------------------------------------------------------------------------------

-- "exec" with what the child needs besides. LeakSanitizer is off: a run in a few
-- hundred, it crashes itself when the process ends. A spec counts bytes instead.
local function launcher()
  local kind = (os.getenv "LUIO_LIBRARY" or ""):match "[at]san"
  if not kind then return "exec" end
  return ('ASAN_OPTIONS=detect_leaks=0 LD_PRELOAD="$(${CC:-cc} -print-file-name=lib%s.so) $LD_PRELOAD" exec'):format(kind)
end

-- Before the last: ends with the status of the first that fails, or 99 where one prints something else.
local AGAIN = [[
n=1
while [ $n -lt %d ]; do
  out=$(luajit -Ohotloop=$((2 + n %% 2 * 3)) spec/support/umockdev_child.lua "$@") || exit $?
  [ $n = 1 ] && first=$out
  [ "$out" = "$first" ] || exit 99
  n=$((n + 1))
done
]]

--- Runs `code` under `tree`; an error there, a crash or a sanitizer's report is an error here.
---@param tree string     umockdev's format
---@param code string     a Lua chunk
---@param times? integer  so many processes, one after another, that compile almost everything; all must print the same; 1
---@return any result     what the chunk returned: one value, plain data
function M.run(tree, code, times)
  local tree_file, errors = os.tmpname(), os.tmpname()
  files.save(tree_file, tree)
  local child = launcher() .. ' luajit spec/support/umockdev_child.lua "$@"'
  if times then child = AGAIN:format(times) .. child end
  local run = ("umockdev-run -d %s -- sh -c %s sh %s %s"):format(tree_file, quoted(child), quoted(code), tree_file)
  -- Without tcache: memory that malloc keeps for the next caller would count as in use.
  local env = "GLIBC_TUNABLES=glibc.malloc.tcache_count=0 LD_PRELOAD= LUA_PATH='./lua/?.lua;./lua/?/init.lua;;'"
  local pipe = assert(io.popen(("%s %s 2>%s; echo $?"):format(env, run, errors)))
  local output = pipe:read "*a"
  pipe:close()
  local report = files.read(errors)
  os.remove(tree_file)
  os.remove(errors)
  local result, status = output:match "^(.-)(%d+)\n$"
  if status ~= "0" then error(("the child ended with %s:\n%s%s"):format(status, result, report), 2) end
  return assert(loadstring(result, "=the child's result"))()
end

--- luio.list() under `tree`.
---@param tree string
---@return table<string|integer, luio.Info> devices  in order, and by address
function M.list(tree)
  local devices = M.run(tree, "return assert(luio.list())")
  for _, info in ipairs(devices) do devices[info.address] = info end
  return devices
end

-- ---- Trees ---------------------------------------------------------------------------------------

--- A tree from a file.
---@param path string
---@return string tree
M.tree = files.read

-- Hexadecimal, so that any byte can be in a value. A value is a line, as in sysfs.
local function attribute(name, value)
  local hex = (value .. "\n"):gsub(".", function(c) return ("%02X"):format(c:byte()) end)
  return ("H: %s=%s\n"):format(name, hex)
end

--- One device: the attributes of `normal`, with `changes` to them; false takes an attribute away.
---@param path string       "/devices/..."
---@param subsystem string
---@param normal table<string, string>
---@param changes? table<string, string|false>
---@return string tree
function M.device(path, subsystem, normal, changes)
  local attributes = {}
  for name, value in pairs(normal) do attributes[name] = value end
  for name, value in pairs(changes or {}) do attributes[name] = value end
  local names = {}
  for name, value in pairs(attributes) do
    if value then table.insert(names, name) end
  end
  table.sort(names)
  local lines = { ("P: %s\nE: SUBSYSTEM=%s\n"):format(path, subsystem) }
  for _, name in ipairs(names) do table.insert(lines, attribute(name, attributes[name])) end
  return table.concat(lines) .. "\n"
end

--- A UIO device on the platform bus, fine but for `changes`, with two maps.
---@param number integer
---@param changes? table<string, string|false>
---@return string tree
function M.uio(number, changes)
  local parent = "/devices/platform/dev" .. number
  return M.device(parent, "platform", {}) .. M.device(("%s/uio/uio%d"):format(parent, number), "uio", {
    name = "widget", version = "1.0", event = "7",
    ["maps/map0/name"] = "registers", ["maps/map0/addr"] = "0x0000000010000000",
    ["maps/map0/size"] = "0x0000000000001000", ["maps/map0/offset"] = "0x0",
    ["maps/map1/name"] = "buffer", ["maps/map1/addr"] = "0x0000000020000000",
    ["maps/map1/size"] = "0x0000000000004000", ["maps/map1/offset"] = "0x0",
  }, changes)
end

--- A PCI device's config space: edu's identity, command register and interrupt pin.
---@param command integer
---@param pin? integer  1 is INTA
---@return string bytes
function M.config(command, pin)
  return "\52\18\232\17" .. string.char(command % 256, math.floor(command / 256)) .. ("\0"):rep(0x3d - 6)
    .. string.char(pin or 1) .. "\0\0"
end

M.NO_BAR = "0x0000000000000000 0x0000000000000000 0x0000000000000000"

--- A PCI device at 0000:00:SLOT.0 with a BAR0 of 64 KiB at 0xfeb00000, fine but for `changes`; with
--- `uio`, a table of changes too, it has uioSLOT with that BAR as map 0.
---@param slot integer
---@param changes? table<string, string|false>
---@param uio? table<string, string|false>
---@return string tree
function M.pci(slot, changes, uio)
  local path = ("/devices/pci0000:00/0000:00:%02x.0"):format(slot)
  local tree = M.device(path, "pci", {
    vendor = "0x1234", device = "0x11e8", class = "0x00ff00", irq = "11",
    resource = "0x00000000feb00000 0x00000000feb0ffff 0x0000000000040200" .. ("\n" .. M.NO_BAR):rep(5),
  }, changes)
  return tree .. (uio and M.device(("%s/uio/uio%d"):format(path, slot), "uio", {
    name = "uio_pci_generic", version = "0.01.0", event = "0",
    ["maps/map0/name"] = "0000:00:04.0", ["maps/map0/addr"] = "0x00000000feb00000",
    ["maps/map0/size"] = "0x0000000000010000", ["maps/map0/offset"] = "0x0",
  }, uio) or "")
end

--- Adds to what a listing should say of a device the capabilities of its way: config space, BARs and an exchange of drivers on
--- PCI only, all else with any UIO device.
---@param info table
---@return table info
function M.capable(info)
  local pci = info.bus == "pci"
  info.has_config, info.has_bars, info.can_bind = pci, pci, pci
  info.has_sysfs, info.has_interrupts, info.has_dma, info.can_leave = true, true, true, true
  info.is_private, info.is_range = false, false
  info.node = info.uio and "/dev/" .. info.uio
  return info
end

return M
