--- Scratch images: the disks that a driver's qemu.lua asks for. What is written there is there again the next time, and is worth nothing.
---
--- In a checkout an image is build/qemu/NAME.img, and a process that has one holds a lock on it, so that two never write to one; the
--- second one gets NAME-2.img. Where luio is installed, or others may write to build/, an image is a file in TMPDIR that has no name any
--- more when it is used: nobody else can open it, and it goes with its process. Either way it takes only the room that was written.

local paths = require "luio.driver.paths"
local posix = require "luio.posix"
local trust = require "luio.host.trust"
local uv = require "luv"

local M = {}

local MOST = 64 -- of one name

-- An open image as a path for QEMU, which is a process of its own.
local function path_of(fd) return ("/proc/%d/fd/%d"):format(uv.os_getpid(), fd) end

local function sized(fd, bytes)
  local stat = assert(uv.fs_fstat(fd))
  if stat.size == bytes then return true end
  return uv.fs_ftruncate(fd, bytes)
end

-- The first image of a name that no process has.
local function take(folder, name, bytes)
  for i = 1, MOST do
    local path = ("%s/%s%s.img"):format(folder, name, i > 1 and "-" .. i or "")
    local stat = uv.fs_lstat(path)
    if stat and stat.type ~= "file" then return nil end
    local fd = uv.fs_open(path, "a+", tonumber("600", 8))
    if not fd then return nil end
    if posix.flock(fd, posix.LOCK_EX + posix.LOCK_NB) == 0 and sized(fd, bytes) then return { fd = fd, path = path } end
    uv.fs_close(fd)
  end
end

local function in_build(name, bytes)
  local build = paths.build()
  if not build or not trust.folder(build) then return nil end
  local folder = build .. "/qemu"
  uv.fs_mkdir(folder, tonumber("755", 8))
  return trust.folder(folder) and take(folder, name, bytes)
end

local function without_name(bytes)
  local dir = os.getenv "TMPDIR" or "/tmp"
  local fd, path = uv.fs_mkstemp(dir .. "/luio-scratch-XXXXXX")
  if not fd then return nil, ("make a scratch image in %s: %s; TMPDIR names another folder"):format(dir, path) end
  uv.fs_unlink(path)
  local ok, why = sized(fd, bytes)
  if ok then return { fd = fd, path = path_of(fd) } end
  uv.fs_close(fd)
  return nil, ("make a scratch image of %.0f bytes in %s: %s; TMPDIR names another folder"):format(bytes, dir, why)
end

--- An open image. It is the process's until `fd` is closed.
---@class luio.Scratch
---@field fd integer
---@field path string  for QEMU

--- Takes an image.
---@param name string    of its file: "nvme-drive"
---@param bytes integer
---@return luio.Scratch?
---@return string? message
function M.open(name, bytes)
  local image = in_build(name, bytes)
  if image then return image end
  return without_name(bytes)
end

--- Gives it back, when its QEMU has ended.
---@param image luio.Scratch
function M.close(image)
  uv.fs_close(image.fd)
end

return M
