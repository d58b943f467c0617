--- Resources that processes and the machine use now.

local files = require "spec.support.files"
local sysfs = require "luio.host.sysfs"

local M = {}

--- Of a process; nil: it is gone.
---@param pid integer?
---@return { rss: number, threads: integer, descriptors: integer }?  rss: MiB
function M.of(pid)
  local folder = ("/proc/%d"):format(pid or -1)
  local status = sysfs.read(folder .. "/status")
  local rss, threads = (status or ""):match "VmRSS:%s+(%d+)", (status or ""):match "Threads:%s+(%d+)"
  local descriptors = #sysfs.entries(folder .. "/fd")
  if not rss or descriptors == 0 then return nil end
  return { rss = rss / 1024, threads = tonumber(threads), descriptors = descriptors }
end

--- Of the machine: MiB that hold no file's contents and can't be reclaimed, of these the kernel's own, free hugepages.
---@return { memory: number, kernel: number, hugepages: integer }
function M.machine()
  local info = files.read "/proc/meminfo"
  local function number(name) return tonumber(info:match("\n?" .. name .. ":%s+(%d+)")) end
  return {
    memory = (number "MemTotal" - number "MemAvailable") / 1024, kernel = number "SUnreclaim" / 1024, hugepages = number "HugePages_Free",
  }
end

return M
