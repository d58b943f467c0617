--- DPDK's testpmd as a memif client: a foreign program as luio's peer.
---
---     local pmd = testpmd.start { socket = path, id = 1, mac = "02:00:00:00:00:01", mode = "macswap", prefix = "a" }
---     pmd:wait "Press enter"
---     local rx, tx = pmd:finish()        -- its counts
---
--- It needs no hugepages, no card and no second processor.

local files = require "spec.support.files"
local uv = require "luv"
local wait = require "spec.support.wait"

local M = {}

local PATH = "/usr/bin/dpdk-testpmd"

---@class Testpmd
---@field pid integer
local Testpmd = {}
Testpmd.__index = Testpmd

--- Why there is none here; nil: there is.
---@return string?
function M.missing()
  if uv.fs_access(PATH, "X") then return nil end
  return "there is no dpdk-testpmd here: .ci/deps test installs dpdk-dev"
end

---@param options { socket: string, id: integer?, mac: string?, mode: string, prefix: string, arguments: string[]?, vdev: string? }
---@return Testpmd
function M.start(options)
  local vdev = ("--vdev=net_memif,role=client,id=%d,socket=%s,socket-abstract=no%s%s"):format(options.id or 0, options.socket,
    options.mac and ",mac=" .. options.mac or "", options.vdev or "")
  local args = { -- stdbuf: line by line, also into a file
    "-oL", PATH, "--no-huge", "--no-shconf", "-m", "64", "--iova-mode=va", "--no-pci", "--no-telemetry", "--lcores", "0,1@0-1",
    ("--file-prefix=luio-%d-%s"):format(uv.os_getpid(), options.prefix), vdev, "--",
    "--forward-mode=" .. options.mode, "--auto-start", "--no-mlockall", "--total-num-mbufs=4096",
    unpack(options.arguments or {}),
  }
  local self = setmetatable({ path = files.write("testpmd.txt", ""), input = assert(uv.new_pipe()) }, Testpmd)
  local out = assert(uv.fs_open(self.path, "a", 420))
  self.handle, self.pid = uv.spawn("stdbuf", { args = args, stdio = { self.input, out, out } }, function(status, signal)
    self.exit = signal ~= 0 and -signal or status
    self.handle:close()
  end)
  uv.fs_close(out)
  if not self.handle then error(self.pid) end
  return self
end

--- Waits until a pattern is in what it printed.
---@param pattern string
---@param seconds number?  30
---@return string ...  captures, or all of it
function Testpmd:wait(pattern, seconds)
  local found = wait.poll((seconds or 30) * wait.HANG, function()
    local captures = { files.read(self.path):match(pattern) }
    return captures[1] and captures or self.exit and {}
  end)
  if not found or not found[1] then error(("%q did not come from testpmd:\n%s"):format(pattern, files.read(self.path)), 2) end
  return unpack(found)
end

---@param signal string
function Testpmd:kill(signal) assert(uv.kill(self.pid, signal)) end

--- Ends it in order.
---@return integer received  frames, as it counted
---@return integer sent
function Testpmd:finish()
  self.input:write "\n"
  local rx, tx = self:wait "Accumulated.-RX%-packets: (%d+).-TX%-packets: (%d+)"
  wait.till(20, "testpmd has ended", function() return self.exit end)
  return tonumber(rx), tonumber(tx)
end

--- Ends it anyhow. Idempotent.
function Testpmd:close()
  if not self.exit then
    self:kill "sigkill"
    wait.poll(10, function() return self.exit end)
  end
  if not self.input:is_closing() then self.input:close() end
  os.remove(self.path)
end

return M
