--- A QEMU that somebody else started, with the sockets by which luio attaches to it: lua/luio/host/README.md has the arguments.
---
---     local server = qemu_server.start { "-device", "edu,id=a" }
---     luio.open("qemu:" .. server.qmp)
---     server:stop()

local files = require "spec.support.files"
local posix = require "luio.posix"
local wait = require "spec.support.wait"
local ffi = require "ffi"
local uv = require "luv"

local M = {}

---@class QemuServer
---@field pid integer
---@field dir string
---@field qmp string
---@field qtest string
---@field memory string
---@field exited boolean?
local Server = {}
Server.__index = Server

--- Connects to one of its sockets: a descriptor; nil if it would have to wait.
---@param path string
---@return integer?
function M.connect(path)
  local fd = posix.socket(posix.AF_UNIX, posix.SOCK_STREAM + posix.SOCK_CLOEXEC + posix.SOCK_NONBLOCK, 0)
  local address = posix.sockaddr_un(posix.AF_UNIX)
  ffi.copy(address.path, path)
  if posix.connect(fd, address, ffi.sizeof(address)) == 0 then return fd end
  posix.close(fd)
end

--- Starts one. `change(arguments)` may change its arguments, a list of pairs and single ones by name.
---@param more string[]
---@param change? table<string, string|false>  by the argument's name: another value, or none
---@param cwd? string
---@return QemuServer
function M.start(more, change, cwd)
  local _, dir = files.write("halt", ("\xf4"):rep(65536))
  if dir:sub(1, 1) ~= "/" then dir = uv.cwd() .. "/" .. dir end
  assert(uv.fs_chmod(dir, tonumber("700", 8)))
  local self = setmetatable({ dir = dir, qmp = dir .. "/qmp", qtest = dir .. "/qtest", memory = dir .. "/memory" }, Server)
  local arguments = { "-nodefaults", "-no-user-config", "-display", "none" }
  for _, row in ipairs {
    { "M", "q35,memory-backend=memory" },
    { "object", ("memory-backend-file,id=memory,size=64M,mem-path=%s,share=on"):format(self.memory) },
    { "m", "64M" }, { "bios", dir .. "/halt" },
    { "chardev", ("socket,id=qtest,path=%s,server=on,wait=off"):format(self.qtest) },
    { "qtest", "qtest,id=luio,chardev=qtest,log=/dev/null" },
  } do
    local value = (change or {})[row[1]]
    if value == nil then value = row[2] end
    if value then
      table.insert(arguments, "-" .. (row[1] == "qtest" and "object" or row[1]))
      table.insert(arguments, value)
    end
  end
  for _, text in ipairs { "-chardev", ("socket,id=qmp,path=%s,server=on,wait=off"):format(self.qmp), "-mon", "chardev=qmp,mode=control" } do
    table.insert(arguments, text)
  end
  for _, text in ipairs(more) do table.insert(arguments, text) end
  local environment = {}
  for name, value in pairs(uv.os_environ()) do
    if name ~= "LD_PRELOAD" then table.insert(environment, name .. "=" .. value) end
  end
  self.handle, self.pid = uv.spawn("qemu-system-x86_64", { args = arguments, cwd = cwd, env = environment, stdio = { nil, nil, 2 } }, function()
    self.exited = true
  end)
  assert(self.handle, self.pid)
  -- The file is there before it can be connected to; and one that has not been greeted yet waits in the socket's queue, closed or not.
  local probe
  wait.till(600, "QEMU listens", function()
    probe = uv.fs_stat(self.qmp) and M.connect(self.qmp)
    return self.exited or probe
  end)
  wait.till(600, "QEMU greets", function()
    local poll = ffi.new(posix.pollfd, { probe or -1, posix.POLLIN, 0 })
    return self.exited or posix.poll(poll, 1, 0) == 1
  end)
  if probe then posix.close(probe) end
  assert(not self.exited, "QEMU has ended")
  return self
end

--- Ends it, and waits for that.
function Server:stop()
  if not self.exited then uv.kill(self.pid, "sigkill") end
  wait.till(600, "QEMU has ended", function() return self.exited end)
  self.handle:close()
end

return M
