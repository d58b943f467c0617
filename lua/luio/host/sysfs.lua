--- Reads files and links in /sys and /proc.
---
--- Small text files and links, read through C's library calls, so that a recorded tree (umockdev) can
--- stand in for /sys. Nothing here writes. A missing file is nil or an empty list; a caller that must
--- tell "missing" from "not allowed" uses the code.

local ffi = require "ffi"
local uv = require "luv"
local runtime = require "luio.ffi"
local term = require "luio.text.term"

local M = {}

--- Where procfs is: specs put another tree there.
M.proc = "/proc"
--- A prefix of the paths of device files for stat, which umockdev does not redirect; set by specs.
M.root = ""

-- No attribute is larger; /proc/self/mountinfo of a host full of containers may be.
local LIMIT, PIECE = 4 * 1024 * 1024, 4096
local WORD = 80 -- bytes: longer than what the kernel has to say where a word is expected

--- A file's contents, without the white space at its end.
---@param path string
---@param limit? integer  bytes at most
---@return string? text
---@return string? message
---@return string? code  "ENOENT" "EACCES" ...
function M.read(path, limit)
  local f, message, errno = io.open(path, "rb")
  if not f then return nil, message, runtime.errno_name(errno) end
  -- In pieces: for one large read the kernel would want one large buffer, and /proc/sys refuses that.
  local parts, room = {}, limit or LIMIT
  while room > 0 do
    local part
    part, message, errno = f:read(math.min(room, PIECE))
    if not part then break end
    table.insert(parts, part)
    room = room - #part
  end
  f:close()
  if not parts[1] and errno then return nil, ("%s: %s"):format(path, message), runtime.errno_name(errno) end
  return (table.concat(parts):gsub("%s+$", ""))
end

--- A whole number as the kernel writes them, decimal. tonumber() would take "nan", "inf", "-5" and "0x1p4" as well.
---@param text string?
---@return integer?  below 2^53, so that it is exact
function M.whole(text)
  local number = text and text:match "^%d+$" and tonumber(text)
  return number and number < 2 ^ 53 and number or nil
end

--- A file that holds one number.
---@param path string
---@return integer?
function M.number(path)
  return M.whole((M.read(path, WORD)))
end

--- A file that holds a word or two which people are shown: "identity", "D0".
---@param path string
---@return string?
function M.word(path)
  local text = M.read(path, WORD)
  return text and term.clean(text)
end

--- The lines of a file of procfs; none when it can't be read.
---@param name string  "swaps", "net/route"
---@return string[]
function M.proc_lines(name)
  local lines = {}
  for line in (M.read(M.proc .. "/" .. name) or ""):gmatch "[^\n]+" do table.insert(lines, line) end
  return lines
end

--- A file's bytes as they are: config space.
---@param path string
---@param size integer
---@return string? bytes
---@return string? message
---@return string? code
function M.bytes(path, size)
  local f, message, errno = io.open(path, "rb")
  if not f then return nil, message, runtime.errno_name(errno) end
  f:setvbuf "no"
  local bytes
  bytes, message, errno = f:read(size)
  f:close()
  if not bytes then return nil, ("%s: %s"):format(path, message or "empty"), errno and runtime.errno_name(errno) or "EIO" end
  return bytes
end

--- The names in a folder, in order; none when it is not there.
---@param dir string
---@return string[] names
---@return string? code  why there are none: "ENOENT", "EACCES"
function M.entries(dir)
  local names = {}
  local handle, _, code = uv.fs_opendir(dir, nil, 64)
  if not handle then return names, code end
  repeat
    local some = uv.fs_readdir(handle)
    for _, entry in ipairs(some or {}) do table.insert(names, entry.name) end
  until not some
  uv.fs_closedir(handle)
  table.sort(names)
  return names
end

--- The same to be shown: fit for a terminal.
---@param dir string
---@return string[] names
function M.names(dir)
  local names = M.entries(dir)
  for i, name in ipairs(names) do names[i] = term.clean(name, WORD) end
  return names
end

--- The numbers in the names of a folder, in order: uio9 before uio10.
---@param dir string
---@param pattern string  "^uio(%d+)$"
---@return integer[]
function M.numbered(dir, pattern)
  local numbers = {}
  for _, name in ipairs((M.entries(dir))) do
    local number = M.whole(name:match(pattern))
    if number then table.insert(numbers, number) end
  end
  table.sort(numbers)
  return numbers
end

--- Which of its lives a PCI device is in: another number each time that it is plugged in.
---@param address string
---@return integer?  nil: there is no such PCI device
function M.life(address)
  local stat = uv.fs_stat("/sys/bus/pci/devices/" .. address)
  return stat and stat.ino
end

---@class luio.Hugepages  of one size
---@field size integer                  bytes of a page
---@field total integer                 pages
---@field free integer
---@field nodes table<integer, integer> free pages by NUMA node

--- The hugepages of this machine: smallest pages first; none when the kernel has none.
---@return luio.Hugepages[]
function M.hugepages()
  local base, node_base, list = "/sys/kernel/mm/hugepages", "/sys/devices/system/node", {}
  local function number(path) return M.number(path) or 0 end
  for _, kib in ipairs(M.numbered(base, "^hugepages%-(%d+)kB$")) do
    local dir = ("hugepages-%dkB"):format(kib)
    local entry = { size = kib * 1024, nodes = {} }
    entry.total = number(("%s/%s/nr_hugepages"):format(base, dir))
    entry.free = number(("%s/%s/free_hugepages"):format(base, dir))
    for _, node in ipairs(M.numbered(node_base, "^node(%d+)$")) do
      entry.nodes[node] = number(("%s/node%d/hugepages/%s/free_hugepages"):format(node_base, node, dir))
    end
    table.insert(list, entry)
  end
  return list
end

--- The addition to the message "not a device address": the probable meaning of the text.
---@param text string
---@return string
function M.address_hint(text)
  local device = not text:find "[/%z]" and M.link(("/sys/class/net/%s/device"):format(text))
  return device and ("; the device of that network interface is %s"):format(device) or "; a simulated one is sim:NAME"
end

--- Where a link leads: its last part, as sysfs names things ("driver" -> "e1000e").
---@param path string
---@return string?
function M.link(path)
  local target = uv.fs_readlink(path)
  return target and target:match "[^/]+$"
end

--- A path without links; nil when it leads nowhere.
---@param path string
---@return string?
function M.real(path)
  return (uv.fs_realpath(path))
end

--- Whether there is such a file.
---@param path string
---@return boolean
function M.exists(path)
  return uv.fs_access(path, 0) == true
end

--- True if this process may access a file with `mode`; nothing is opened.
---@param path string
---@param mode string  "r", "w" or "rw"
---@return boolean? ok
---@return string? code  "ENOENT", "EACCES"; "EROFS": a read-only file system (M.read_only)
function M.access(path, mode)
  if uv.fs_access(path, mode) then return true end -- luv keeps the reason to itself
  return nil, not M.exists(path) and "ENOENT" or mode:find("w", 1, true) and M.read_only(path) and "EROFS" or "EACCES"
end

--- The reason and the remedy if /sys is mounted read-only, as in containers.
---@param path string
---@return string?  nil: it is not
function M.read_only(path)
  local why = runtime.C.luio_read_only(path)
  return why ~= nil and ffi.string(why) or nil
end

--- A command that writes to a file, for a remedy; on a read-only file system the reason instead.
---@param path string
---@param command? string  else `echo value > path`
---@param value? string
---@return string
function M.remedy(path, command, value)
  return M.read_only(path) or command or ("echo %s > %s"):format(value, path)
end

--- Whether a path is in a folder, or below it, or is that folder.
---@param path string?
---@param dir string
---@return boolean
function M.is_below(path, dir)
  return path ~= nil and (path == dir or path:sub(1, #dir + 1) == dir .. "/")
end

--- Whether others than its owner may open a file for writing.
---@param path string
---@return boolean
function M.shared(path)
  local stat = uv.fs_stat(path)
  return stat ~= nil and bit.band(stat.mode, 18) ~= 0 -- 022
end

return M
