--- The guest's devices as luio's own commands see and change them, for specs that run many of those: each command
--- line, the kernel's state afterwards, and the way back to the devices' first state.
---
---     setup(system.start)
---     teardown(system.stop)
---     local out, status = system.run("info %s --json", system.EDU)

local assert = require "luassert"
local json = require "dkjson"
local uv = require "luv"
local files = require "spec.support.files"
local sysfs = require "spec.support.sysfs"

local M = {
  EDU = "0000:00:04.0", NIC = "0000:00:05.0", SERIAL = "0000:00:06.0", TESTDEV = "0000:00:07.0",
  NVME = "0000:00:08.0", -- in some guests
}

-- ---- Commands ------------------------------------------------------------------------------------

-- Starting a program takes half a second on an emulated CPU. So one process runs command after
-- command, exactly as the program does, and says how each ended; another one for an ordinary user, when one is needed. A word that has
-- blanks stands in single quotes.
local SERVER = [[
  local cli = require "luio.tool.cli"
  io.stdout:setvbuf "no"
  for line in io.lines(arg[1]) do
    local argv = {}
    local at = 1
    while line:find("%S", at) do
      local quoted, after = line:match("^%s*'([^']*)'()", at)
      if not quoted then quoted, after = line:match("^%s*(%S+)()", at) end
      argv[#argv + 1], at = quoted, after
    end
    if not argv[1] then break end
    io.write("\4", cli.main(argv), "\n")
  end
]]
local root, user -- the two that run

local function serve(prefix)
  local script, dir = files.write("server.lua", SERVER)
  assert(os.execute(("mkfifo -m 666 %s/requests"):format(dir)) == 0)
  local answers = assert(io.popen(("%s build/luio %s %s/requests 2>&1"):format(prefix, script, dir)))
  local requests = assert(io.open(dir .. "/requests", "w"))
  requests:setvbuf "line"
  return { requests = requests, answers = answers }
end

local function ask(server, command)
  server.requests:write(command, "\n")
  local out = {}
  for line in server.answers:lines() do
    local text, status = line:match "^(.*)\4(%d+)$"
    if status then
      table.insert(out, text)
      return table.concat(out, "\n"), tonumber(status)
    end
    table.insert(out, line)
  end
  error("the process that runs commands ended:\n" .. table.concat(out, "\n"))
end

--- Output and status of a command line.
---@param args string  a format for what follows
---@return string output
---@return integer status
function M.run(args, ...)
  return ask(root, args:format(...))
end

--- The document that a command line prints with --json; its exit status; all of its output.
---@param args string
---@return table? document
---@return integer status
---@return string output
function M.json(args, ...)
  local out, status = M.run(args .. " --json", ...)
  return json.decode(out:match "%b{}" or "null"), status, out
end

--- The same for a user who is not root.
---@param args string
---@return string output
---@return integer status
function M.as_user(args, ...)
  user = user or serve "setpriv --reuid 65534 --regid 65534 --clear-groups"
  return ask(user, args:format(...))
end

--- A command line that works, and its output.
---@param args string
---@return string output
function M.fine(args, ...)
  local out, status = M.run(args, ...)
  assert.equal(0, status, "luio " .. args:format(...) .. "\n" .. out)
  return out
end

--- The report of `luio info` on a device.
---@param address string
---@return table
function M.info(address)
  return json.decode(M.fine("info %s --json", address))
end

--- A shell's command that works, and its output.
---@param command string
---@return string output
function M.must(command, ...)
  local out, status = files.shell(command:format(...))
  assert.equal(0, status, command:format(...) .. "\n" .. out)
  return out
end

-- ---- Devices -------------------------------------------------------------------------------------

---@param address string
---@return boolean
function M.there(address)
  return sysfs.exists("bus/pci/devices/" .. address)
end

--- Whether bind remembers what had it before.
---@param address string
---@return boolean
function M.remembered(address)
  return uv.fs_access("/run/luio/bind/" .. address, 0) == true
end

---@param address string
function M.forget(address)
  os.remove("/run/luio/bind/" .. address)
end

--- Leaves it without a driver, and nothing remembered.
---@param address string
function M.free(address)
  if sysfs.driver(address) then M.fine("unbind --force %s", address) end
  M.forget(address)
end

--- Puts the devices back, so that the next spec finds them unchanged.
function M.restore()
  for _, address in ipairs { M.EDU, M.NIC, M.SERIAL, M.NVME } do
    if M.there(address) and sysfs.driver(address) ~= "uio_pci_generic" then M.fine("bind --force %s", address) end
    M.forget(address)
  end
  M.free(M.TESTDEV)
end

-- ---- Restrictions of this kernel -----------------------------------------------------------------

--- The lockdown's mode, nil without one.
---@return string?
function M.lockdown()
  local mode = sysfs.exists "kernel/security/lockdown" and sysfs.read "kernel/security/lockdown":match "%[(%a+)%]"
  return mode and mode ~= "none" and mode or nil
end

--- How edu's IOMMU translates, nil if it does not.
---@return string?
function M.translates()
  local path = ("bus/pci/devices/%s/iommu_group/type"):format(M.EDU)
  local kind = sysfs.exists(path) and sysfs.read(path)
  return kind and kind ~= "identity" and kind or nil
end

-- ---- Before and after a file ---------------------------------------------------------------------

function M.start()
  root = serve ""
  M.restore()
end

function M.stop()
  M.restore()
  for _, server in pairs { root, user } do
    server.requests:write "\n"
    server.requests:close()
    server.answers:close()
  end
  root, user = nil, nil
  files.clean()
end

return M

