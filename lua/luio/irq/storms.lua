--- Warnings when an interrupt storm begins and ends (Device:warn), with the device, the captured values and the
--- acknowledgement. runtime/storm.c detects storms. Of many the first, second, fourth and eighth are reported.
---
--- A storm is reported twice: by a descriptor that the loop watches, and with each event, because the loop may not turn for long.

local bit = require "bit"
local errors = require "luio.errors"
local fd_watch = require "luio.loop.fd_watch"
local ffi = require "ffi"
local top_half = require "luio.top_half"
local C = require("luio.ffi").C

local M = {}

---@class luio.IrqStorms  of one interrupt thread
---@field news integer    the number of beginnings and ends reported
---@field number integer  storms until then
---@field base integer    and until this top half
---@field package over integer?  the last one whose end was told
---@field package handle ffi.cdata*  luio_irq
---@field package watch luio.FdWatch
local Storms = {}
Storms.__index = Storms

--- An interrupt storm: interrupts that their acknowledgement does not take back.
---@class luio.Storm
---@field number integer        the first, the second since the thread was started
---@field rate number           interrupts a second, until it was named
---@field interrupts integer    that came in it, until it was named; or until its end
---@field begun number          seconds on luio.now()'s clock
---@field ended number?         nil: it goes on
---@field pause number?         seconds for which the source stays masked after each; nil: it does not
---@field captured table<string, any>  the values of each capture

local function get(handle)
  local storm = ffi.new "luio_irq_storm"
  C.luio_irq_get_storm(handle, storm)
  return storm
end

-- The cause, as far as the top half shows it.
local function blame(setup, seen)
  local acks = top_half.acks(setup)
  if not setup.ack or not acks[1] then
    return "nothing acknowledges it, so its line is never taken back: `ack` in the driver's irq says what does"
  end
  local text = ("its acknowledgement (%s)"):format(table.concat(acks, ", "))
  return seen and text .. " does not take the line back" or ("does %s take the line back?"):format(text)
end

local function captured(source, storm)
  local list = {}
  for i, one in ipairs(source.names[storm.epoch] or {}) do
    local value = storm.value[i - 1]
    list[i] = { name = one.name, value = one.wide and value + 0ULL or tonumber(value) }
  end
  return list
end

local function with_values(source, storm)
  local values, parts = require "luio.registers.values", {} -- loaded only when there is a storm
  for i, one in ipairs(captured(source, storm)) do parts[i] = ("%s=%s"):format(one.name, values.value(one.value)) end
  return parts[1] and (", each with %s"):format(table.concat(parts, " ")) or ""
end

local function is_power_of_two(n) return bit.band(n, n - 1) == 0 end

--- Says that a storm has begun, or is over.
---@param source luio.IrqSource
---@param device luio.Device
function Storms:tell(source, device)
  local storm = get(self.handle)
  local number = tonumber(storm.number)
  local new = number ~= self.number
  self.news, self.number = storm.news, number
  local nth = number - self.base
  if nth == 0 or not is_power_of_two(nth) then return end
  if new then
    device:warn(("interrupt storm of %s: %d interrupts/s%s: %s%s"):format(device.address, tonumber(storm.rate), with_values(source, storm),
      blame(source.setup, storm.seen == 1), storm.pause_ns == 0 and ""
        or (". One is let through every %g ms until it does"):format(tonumber(storm.pause_ns) / 1e6)))
  end
  if storm.ended_ns > 0 and self.over ~= number then
    self.over = number
    device:warn(("the interrupt storm of %s is over, after %.2g s and %d interrupts"):format(device.address,
      tonumber(storm.ended_ns - storm.begun_ns) / 1e9, tonumber(storm.interrupts)))
  end
end

--- After a change of the top half: its storms are reported from the first on.
function Storms:begin_again() self.base = self.number end

--- The last storm since the thread was started.
---@param source luio.IrqSource
---@param device luio.Device
---@return luio.Storm?  nil: there was none
function Storms:last(source, device)
  local storm = get(self.handle)
  if storm.news ~= self.news then self:tell(source, device) end -- reading takes the news from the loop
  if storm.number == 0 then return nil end
  local plain = {}
  for _, one in ipairs(captured(source, storm)) do plain[one.name] = one.value end
  return {
    number = tonumber(storm.number), rate = tonumber(storm.rate), interrupts = tonumber(storm.interrupts), captured = plain,
    begun = tonumber(storm.begun_ns) / 1e9, ended = storm.ended_ns > 0 and tonumber(storm.ended_ns) / 1e9 or nil,
    pause = storm.pause_ns > 0 and tonumber(storm.pause_ns) / 1e9 or nil,
  }
end

--- Leaves libuv's set, before C closes the descriptor.
function Storms:stop() self.watch:listen(nil) end

--- Watches no more.
function Storms:close() self.watch:close() end

--- Has the storms of a thread told, also while no task waits for an interrupt.
---@param source luio.IrqSource  whose thread has just been started
---@param device luio.Device
---@return luio.IrqStorms?
---@return string? message
---@return string? code
function M.watch(source, device)
  local watch, message, code = fd_watch.watch(C.luio_irq_storm_fd(source.handle))
  if not watch then return nil, message, code end
  local self = setmetatable({ handle = source.handle, watch = watch, news = 0, number = 0, base = 0 }, Storms)
  local ok
  ok, message, code = watch:listen(function() -- libuv's callbacks must not raise
    local told, fault = pcall(self.tell, self, source, device)
    if not told then pcall(device.warn, device, errors.text(fault)) end
  end)
  if ok then return self end
  watch:close()
  return nil, message, code
end

return M
