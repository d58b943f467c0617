--- A serial port's line: settings, modem lines, breaks. Methods of luio.serial.Port.

local moving = require "luio.serial.moving"
local ports = require "luio.port"
local settings = require "luio.serial.settings"
local wait_slot = require "luio.loop.wait_slot"

local closed, check_seconds, service = ports.closed, ports.check_seconds, moving.service

local M = {}

---@class luio.serial.Port
local Port = {}

--- Changes some of the settings, at once. Bytes in the device are sent first, bytes in the transmit ring are not.
---@param changes table  parts of luio.serial.Settings
---@return true? ok
---@return string? message
---@return string? code  "EINVAL": the device has no such speed; nothing was changed
function Port:configure(changes)
  if self.closed then closed(self, "configure", 2) end
  if type(changes) ~= "table" then error("configure wants a table, not " .. type(changes), 2) end
  local fault, new = settings.merge(self.settings, changes)
  if fault then error("configure: " .. fault, 2) end
  if self.dev.gone then return self.dev:gone_failure "configure" end
  if self.offer then
    self.paused = true
    local ran, ok, message, code = pcall(self.offer.configure, new)
    self.paused = nil
    if not ran then error(ok, 0) end
    if not ok then return nil, message, code end
  end
  if new.flow ~= self.settings.flow then
    self.withheld, self.stopped = false, false
    self.urgent:clear()
  end
  self.settings = new
  if self.offer then
    moving.set_lines(self, self.offer)
    if new.flow ~= "none" and self.rx:used() >= self.high then moving.withhold(self, self.offer, true) end
    service(self)
  end
  return true
end

--- The modem lines, ours as they are set and the other's as they are now.
---@return luio.serial.Lines
function Port:lines()
  if self.closed then closed(self, "lines", 2) end
  if self.offer and not self.serving then
    moving.read_modem_lines(self, self.offer)
    if self.changed ~= 0 then service(self) end
  end
  local out = moving.lines_of(self.inputs)
  out.dtr, out.out2 = self.outputs.dtr, self.outputs.out2
  out.rts = self.outputs.rts and not (self.withheld and self.settings.flow == "rts/cts")
  return out
end

--- Sets some of our modem lines. RTS belongs to flow control where that is "rts/cts".
---@param lines { dtr: boolean?, rts: boolean?, out2: boolean? }
function Port:set_lines(lines)
  if self.closed then closed(self, "set_lines", 2) end
  for name, value in pairs(lines) do
    if self.outputs[name] == nil then error(("set_lines: dtr, rts and out2 are ours to set, not %s"):format(tostring(name)), 2) end
    if type(value) ~= "boolean" then error(("set_lines: %s is true or false, not %s"):format(name, tostring(value)), 2) end
  end
  if lines.rts == false and self.settings.flow == "rts/cts" then error("set_lines: RTS is flow control's", 2) end
  for name, value in pairs(lines) do self.outputs[name] = value end
  if self.offer then
    moving.set_lines(self, self.offer)
    service(self) -- in a loop they come back at once
  end
end

local function listener(list, fn)
  table.insert(list, fn)
  return function()
    for i, one in ipairs(list) do
      if one == fn then return table.remove(list, i) end
    end
  end
end

--- Calls fn(lines, changed), in a task of its own, whenever a line of the other's changes. A pulse that is over by then is
--- reported, too: `changed` names the line, though it is as it was.
---@param fn fun(lines: luio.serial.Lines, changed: { cts: boolean, dsr: boolean, ri: boolean, dcd: boolean })
---@return fun()  call it to hear no more
function Port:on_lines(fn)
  return listener(self.line_listeners, fn)
end

--- Waits until a line of the other's changes.
---@param seconds number
---@return luio.serial.Lines? lines
---@return string|table changed  which; or why not
---@return string? code  "ETIMEDOUT"
function Port:wait_lines(seconds)
  if self.closed then closed(self, "wait_lines", 2) end
  check_seconds(seconds, "wait_lines", 2)
  return wait_slot.await(seconds, function(wake) return self:on_lines(wake) end)
end

--- Calls fn(), in a task of its own, for each break that is received.
---@param fn fun()
---@return fun()  call it to hear no more
function Port:on_break(fn)
  return listener(self.break_listeners, fn)
end

--- Waits for a break.
---@param seconds number
---@return true? ok
---@return string? message
---@return string? code  "ETIMEDOUT"
function Port:wait_break(seconds)
  if self.closed then closed(self, "wait_break", 2) end
  check_seconds(seconds, "wait_break", 2)
  return wait_slot.await(seconds, function(wake)
    return self:on_break(function() wake(true) end)
  end)
end

--- Sends a break: the line is held in the space state for so long. Bytes that were written before go out first
--- (`drain`).
---@param seconds number  a break is longer than a character; 0.25 is usual
---@return true? ok
---@return string? message
---@return string? code  drain's: earlier bytes do not go out, and there was no break
function Port:send_break(seconds)
  if self.closed then closed(self, "send_break", 2) end
  check_seconds(seconds, "send_break", 2)
  local ok, message, code = self:drain()
  if not ok then return nil, message, code end
  self.paused = true
  local ran, why = pcall(function()
    self.offer.set_break(true)
    wait_slot.sleep(seconds)
  end)
  self.paused = nil
  if self.offer then self.offer.set_break(false) end
  if not ran then error(why, 0) end
  service(self)
  return true
end

M.methods = Port

return M
