--- Config space that another process changed under a running driver: detects, repairs, counts and reports it.
---
--- runtime/config_watch.c compares and repairs. A device with a running driver is checked every second
--- (luio.hotplug); a driver that must know before it trusts a transfer calls dev:check_config(). dev.repairs
--- counts the repairs by kind:
---
---     bus_master   was off: DMA did not reach memory
---     memory       memory BARs were not decoded: reads gave all ones, writes were lost
---     ports        the same of I/O BARs
---     bars         BARs held other addresses: the same
---     intx         INTX_DISABLE was set: no interrupts; a pending one comes at once after the repair
---     msi          MSI or MSI-X was on: interrupts went out as writes to memory
---     vectors      MSI or MSI-X was in use, and off: interrupts were lost
---     power        it was not in D0
---     registers    its register files were given to others: bus master was off until no other process had them open
---     bridge       a bridge above it was switched off, with the same effect (luio.hotplug.bridges)
---
--- For all but power the device keeps its state, and its driver goes on. A device that slept without No_Soft_Reset has lost its
--- registers, so it counts as gone and returned: waits end with "ENODEV", the driver's `gone` is called, then
--- `start(dev, "returned")`. Its files stay open, so that this works for a driver that gave root up, too. Such a driver can't
--- take back register files that were given to others: `luio run` starts it again, as root.
---
--- A kind is reported the first, second, fourth, eighth time and so on, so that a repeated change does not
--- fill the log. Changes by the kernel when the machine goes to sleep are reported each time.

local uv = require "luv"
local sysfs = require "luio.host.sysfs"
local runtime = require "luio.ffi"
local ffi = require "ffi"
local C, err, now = runtime.C, runtime.err, runtime.now

local M = {}

--- Seconds until a mask that may be the kernel's is looked at again.
M.AGAIN = 0.03
--- Seconds that the kernel may take to count a sleep after processes go on.
M.COUNTING = 0.5

--- Set by luio.hotplug.
M.hooks = {
  ---@type fun(dev: luio.Device): boolean  whether it was reset behind our back; then it counts as gone
  find_reset = nil,
  ---@type fun(dev: luio.Device, sign: boolean?)  finds out whether it is there
  check_presence = nil,
}

local KINDS = {
  { C.LUIO_WRONG_POWER, "power", "it was put into another power state than D0" },
  { C.LUIO_WRONG_MSI, "msi", "its interrupts were switched to messages (MSI), which nobody takes" },
  { C.LUIO_WRONG_BARS, "bars", "its BARs were set to other addresses: what was read meanwhile is wrong, what was written lost" },
  { C.LUIO_WRONG_MEMORY, "memory", "its memory BARs were switched off: what was read meanwhile is wrong, what was written lost" },
  { C.LUIO_WRONG_PORTS, "ports", "its I/O ports were switched off: what was read meanwhile is wrong, what was written lost" },
  { C.LUIO_WRONG_BUS_MASTER, "bus_master", "bus master was off: transfers meanwhile did not reach memory" },
  { C.LUIO_WRONG_INTX, "intx", "its interrupts were masked (INTX_DISABLE): one that waited comes now" },
  { C.LUIO_WRONG_VECTORS, "vectors", "its messages (MSI, MSI-X) were switched off: interrupts meanwhile are lost" },
  { C.LUIO_WRONG_GIVEN, "registers", "others were given its registers: bus master stayed off until they were its driver's alone" },
}

--- The counters of a device, by kind.
---@return table<string, integer>
function M.counters()
  local counters = {}
  for _, kind in ipairs(KINDS) do counters[kind[2]] = 0 end
  counters.bridge = 0
  return counters
end

local function is_power_of_two(n) return bit.band(n, n - 1) == 0 end

-- The seconds for which it may have been so.
local function since(dev)
  local seconds = dev.config_right and now() - dev.config_right
  return seconds and ("for up to %.2g s "):format(seconds) or ""
end

--- Two signs show that the machine was asleep. The kernel counts sleeps, also those given up half-way, but only after processes run
--- again, so a process may look too early. The duration of a sleep is added earlier: uptime advances in a sleep, the monotonic
--- clock does not. But the clock that measures it often has a resolution of seconds, so a short sleep may show no duration. Hence a
--- loss of bus master without a sign is reported only after the kernel has had time to count (M.COUNTING).
---@class luio.Sleeps
---@field count integer?  nil: unknown
---@field least number    seconds of sleep since boot, and the difference of the two clocks; at least so many
---@field most number     and at most

--- How often and how long the machine was asleep until now.
---@return luio.Sleeps
function M.sleeps()
  local folder = "/sys/power/suspend_stats/"
  local success, fail = tonumber((sysfs.read(folder .. "success"))), tonumber((sysfs.read(folder .. "fail")))
  local before = now()
  local uptime = tonumber((sysfs.read(sysfs.proc .. "/uptime") or ""):match "^[%d.]+") or before
  return { count = success and fail and success + fail, least = uptime - now(), most = uptime - before }
end

local RESOLUTION = 0.02 -- seconds: uptime has hundredths

-- True if the machine was asleep since then; also dev.sleeps now. For a sleep the kernel switches bus master off, and does not
-- restore settings of user space.
local function has_slept(dev, before)
  local after = M.sleeps()
  dev.sleeps = after
  return before ~= nil and (before.count ~= after.count or after.least > before.most + RESOLUTION)
end

local CLOSES = " (closing /dev/%s does that, in any process; `luio info` does not open it)"

--- Settings of config space that another process changed, and the repair.
---@class luio.Loss
---@field news { name: string, text: string, n: integer }[]
---@field since string
---@field before luio.Sleeps?  from the previous look
---@field deadline number      until then a sleep may show

local function say(dev, loss, asleep)
  for _, new in ipairs(loss.news) do
    if asleep or is_power_of_two(new.n) then
      local text = new.text
      if new.name == "bus_master" and not asleep then text = text .. CLOSES:format(dev.info.uio or "uioX") end
      dev:warn(("config space of %s was changed %s: %s%s. It is as it was again (%d so far)"):format(dev.address,
        asleep and "while the machine was asleep" or "by another process", loss.since, text, new.n))
    end
  end
end

local untold = {} ---@type table<luio.Device, luio.Loss[]>
local counting

-- Reports the losses that are due, or all.
local function tell_late(all)
  local list = untold
  untold = {}
  for dev, losses in pairs(list) do
    for _, loss in ipairs(losses) do
      local asleep = has_slept(dev, loss.before)
      if asleep or all == true or now() >= loss.deadline then
        say(dev, loss, asleep)
      else
        untold[dev] = untold[dev] or {}
        table.insert(untold[dev], loss)
      end
    end
  end
  if not next(untold) then counting:stop() end
end

--- Reports the pending losses of all devices. Called when one is closed.
function M.flush()
  if next(untold) then tell_late(true) end
end

local function tell(dev, wrong)
  local named = {}
  local loss = { news = {}, since = since(dev), before = dev.sleeps, deadline = now() + M.COUNTING }
  for _, kind in ipairs(KINDS) do
    local flag, name, text = kind[1], kind[2], kind[3]
    if bit.band(wrong, flag) ~= 0 then
      local n = dev.repairs[name] + 1
      dev.repairs[name] = n
      named[#named + 1] = name
      table.insert(loss.news, { name = name, text = text, n = n })
    end
  end
  local asleep = has_slept(dev, loss.before)
  local doubtful = bit.band(wrong, C.LUIO_WRONG_BUS_MASTER) ~= 0 and loss.before and loss.before.count
  if asleep or not doubtful then
    say(dev, loss, asleep)
  else
    untold[dev] = untold[dev] or {}
    table.insert(untold[dev], loss)
    counting = counting or assert(uv.new_timer())
    counting:start(20, 20, tell_late)
    counting:unref()
  end
  return table.concat(named, ", ")
end

local suspects = {} ---@type table<luio.Device, true>
local timer

local function check_suspects()
  local list = suspects
  suspects = {}
  for dev in pairs(list) do
    if not dev.closed and not dev.gone then M.tick(dev) end
  end
end

local function suspect(dev)
  suspects[dev] = true
  timer = timer or assert(uv.new_timer())
  if timer:is_active() then return end
  timer:start(M.AGAIN * 1000, 0, check_suspects)
  timer:unref()
end

-- Both are notified at the end.
local WITHHELD = bit.bor(C.LUIO_WRONG_GIVEN, C.LUIO_WRONG_BUS_MASTER)

-- Registers that were given to others are taken back, if they were: true. Until then bus master stays off.
local function take_back(dev, wrong)
  dev.withheld = dev.withheld or bit.band(wrong, C.LUIO_WRONG_GIVEN) ~= 0
  if not dev.withheld then return nil end
  M.hooks.check_presence(dev, false) -- its files go when it does, too
  return dev:bus_master(true)
end

-- The bridges above. Whether there was something to be set right; nil: it can't be.
local function check_bridges(dev)
  if dev.read_only or dev.shared then return false end
  local bridges = require "luio.hotplug.bridges" -- loaded only for devices that are watched
  dev.bridges = dev.bridges or bridges.above(dev.info)
  local repaired, fault = bridges.check(dev.bridges, dev)
  for _, text in ipairs(repaired) do
    local n = dev.repairs.bridge + 1
    dev.repairs.bridge = n
    if is_power_of_two(n) then dev:warn(("%s. It is as it was again (%d so far)"):format(text, n)) end
  end
  if fault then return nil, fault, "EACCES" end
  return #repaired > 0
end

--- Looks whether config space is as this process wants it, and sets that right. A mask is believed at the
--- second look only, which follows by itself within 30 ms as the loop turns.
---@param dev luio.Device
---@return boolean? ok     false: it was not; now it is
---@return string? message the kinds: "bus_master, intx"
---@return string? code    "EIO": it does not stay right
function M.check(dev)
  dev = dev:root_device()
  if dev.closed then error(("config space of %s: the device is closed"):format(dev.address), 2) end
  if dev.gone then return dev:gone_failure "look at config space" end
  -- All of it lost is no change, but a reset.
  if M.hooks.find_reset(dev) then return dev:gone_failure "look at config space" end
  local out = ffi.new "unsigned[1]"
  local rc = C.luio_config_check(dev.handle, out, err)
  if rc < 0 then return runtime.failure() end
  local wrong = tonumber(out[0])
  local again = bit.band(wrong, C.LUIO_WRONG_AGAIN) ~= 0
  if again then suspect(dev) end
  local given, message, code = take_back(dev, wrong)
  if given then wrong = bit.bor(wrong, WITHHELD)
  elseif code then wrong = bit.band(wrong, bit.bnot(WITHHELD)) end
  local named = bit.band(wrong, bit.bnot(C.LUIO_WRONG_AGAIN)) ~= 0 and tell(dev, wrong) or nil
  if code then return nil, message, code end
  local above
  above, message, code = check_bridges(dev)
  if above == nil then return nil, message, code end
  if above then named = (named and named .. ", " or "") .. "bridge" end
  if not again then dev.config_right = now() end
  if not named then return true end
  if bit.band(wrong, C.LUIO_WRONG_FORGOT) ~= 0 then
    dev:vanish("it slept (PCI power management), and forgot its registers", nil, true)
    M.hooks.check_presence(dev)
  end
  return false, named
end

--- From here on changes are looked for, by M.tick.
---@param dev luio.Device
function M.begin(dev)
  dev.sleeps, dev.bridges = M.sleeps(), require("luio.hotplug.bridges").above(dev.info)
end

--- The check of every second. A fault that can't be repaired is reported once.
---@param dev luio.Device
function M.tick(dev)
  local ok, message = M.check(dev)
  if ok ~= nil then
    dev.config_fault, dev.sleeps = nil, M.sleeps()
  elseif message ~= dev.config_fault and not dev.gone then
    dev.config_fault = message
    dev:warn(message)
  end
end

return M
