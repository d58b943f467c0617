--- A board for `make dist`: a root file system with the files of a C library, and the unpacked tarball.
--- It has no other files, so programs that run there need no others.
---
---     local board = assert(board.make "arm64")
---     local out, status = board:run "list"
---
--- Commands run in a mount namespace of their own, with this machine's /proc, /sys and /dev; those of another
--- architecture by qemu-user. Root is not needed.

local uv = require "luv"
local files = require "spec.support.files"

local M = {}

local TRIPLET = { amd64 = "x86_64-linux-gnu", arm64 = "aarch64-linux-gnu" }
local LOADER = { amd64 = "lib64/ld-linux-x86-64.so.2", arm64 = "lib/ld-linux-aarch64.so.1" }
local MACHINE = { x86_64 = "amd64", aarch64 = "arm64" }
local QEMU = { amd64 = "qemu-x86_64-static", arm64 = "qemu-aarch64-static" }

---@class Board
---@field root string     its root file system
---@field prefix string   where luio is, in it
---@field native boolean
local Board = {}
Board.__index = Board

-- A command that must work.
local function must(command, ...)
  local out, status = files.shell(command:format(...))
  if status ~= 0 then error(command:format(...) .. "\n" .. out, 0) end
  return out
end

-- Where the C library of an architecture is: ours, or unpacked from its package.
local function libc(arch, native)
  if native then return "" end
  local dir = uv.cwd() .. "/build/sysroot/libc-" .. arch
  if not uv.fs_stat(dir) then
    must("rm -rf '%s.new' && spec/guest/packages %s '%s.new' libc6 && mv -T '%s.new' '%s'", dir, arch, dir, dir, dir)
  end
  return dir
end

--- Makes one.
---@param arch "amd64"|"arm64"
---@return Board? board
---@return string? why
function M.make(arch)
  local tarball = ("build/dist/luio-%s-%s.tar.xz"):format(require("luio").version, arch)
  if not uv.fs_stat(tarball) then return nil, ("no %s: make dist ARCH=%s"):format(tarball, arch) end
  local native = MACHINE[uv.os_uname().machine] == arch
  local qemu = not native and files.shell("command -v " .. QEMU[arch]):match "%S+"
  if not native and not qemu then return nil, "no " .. QEMU[arch] end
  local _, dir = files.write("x", "")
  local self = setmetatable({ root = uv.cwd() .. "/" .. dir .. "/root", native = native, prefix = "/opt/luio" }, Board)
  local from, lib = libc(arch, native), "lib/" .. TRIPLET[arch]
  must("cd '%s' && mkdir -p root/%s root/lib64 root/proc root/sys root/dev root/tmp root/opt/luio", dir, lib)
  must("cp -L '%s/%s' '%s/%s'", from, LOADER[arch], self.root, LOADER[arch])
  for _, name in ipairs { "libc.so.6", "libm.so.6" } do must("cp -L '%s/%s/%s' '%s/%s/'", from, lib, name, self.root, lib) end
  if qemu then must("cp '%s' '%s/qemu'", qemu, self.root) end
  must("tar -xJf %s -C '%s/opt/luio' --strip-components=1", tarball, self.root)
  local _, status = files.shell(self:shell "--version")
  if status ~= 0 and files.shell "unshare -m -r true" ~= "" then return nil, "this system gives no mount namespaces (unshare)" end
  return self
end

--- The shell's command that runs luio on it.
---@param args string
---@return string
function Board:shell(args)
  return ([[unshare -m%s sh -c 'cd "%s" && for d in proc sys dev; do mount --rbind /$d $d || exit 125; done; ]]
    .. [[exec env -i PATH=/bin TERM="$TERM" NO_COLOR=1 /usr/sbin/chroot . %s%s/bin/luio %s']]):format(
    uv.getuid() ~= 0 and " -r" or "", self.root, self.native and "" or "/qemu ", self.prefix, args)
end

--- Runs luio and returns its output (both streams) and its exit status.
---@param args string  words of a shell without a single quote
---@return string output
---@return integer status
function Board:run(args)
  return files.shell("timeout 60 " .. self:shell(args))
end

--- Puts a file into it.
---@param path string  "/tmp/x.lua"
---@param text string
function Board:put(path, text)
  files.put(self.root .. path, text)
end

return M
