--- Written bytes leave a serial port before it is closed: methods of luio.serial.Port.
---
--- A slow line is no fault: 64 KiB at 9600 baud take 68 seconds. So there is no deadline for the whole, unless the caller has one,
--- but one for standing still: the line stalls when no byte has left for two seconds and twice the time that the device's FIFO takes at
--- the line's speed. (Without an interrupt the device is looked at once a second.) Where the other end holds the bytes back, by CTS
--- or by XOFF, that is no fault of the line: the code and the message are others, and `patience` says for how long it may.

local moving = require "luio.serial.moving"
local now = require("luio.ffi").now
local ports = require "luio.port"
local settings = require "luio.serial.settings"
local wait_slot = require "luio.loop.wait_slot"

local closed, check_seconds = ports.closed, ports.check_seconds

local M = {}

--- Seconds without a byte until a line stands still, beside the FIFO's time.
M.STANDING = 2

local SHORTEST, LONGEST = 0.001, 0.05 -- seconds between two looks

--- An open serial port.
---@class luio.serial.Port
local Port = {}

local function bytes(n) return ("%d byte%s"):format(n, n == 1 and "" or "s") end

--- Bytes that were written and have not been given to the device.
---@return integer
function Port:unsent() return self.tx:used() end

-- Whether anything is left; the device's own can't be counted.
local function is_done(port)
  return port.tx:used() == 0 and port.urgent:used() == 0 and port.offer ~= nil and port.offer.idle()
end

-- The reason that holds the bytes back, if not the line's speed.
local function holder(port)
  if not port.offer then return "no version of its driver is at work", "EIO" end
  local flow = port.settings.flow
  if flow == "xon/xoff" and port.stopped then return "the other end has sent XOFF and no XON (flow control xon/xoff)", "EAGAIN" end
  if flow == "rts/cts" and not port:lines().cts then
    return "CTS is off: the other end holds them back, or there is none (flow control rts/cts)", "EAGAIN"
  end
end

local function failure(port, what, why, code)
  local left = port.tx:used()
  local words = left == 0 and "what the device holds was" or bytes(left) .. (left == 1 and " was" or " were")
  if left > 0 and port.offer and not port.dev.gone and not port.offer.idle() then
    words = words .. (", and up to %d in the device,"):format(port.fifo)
  end
  return nil, ("%s %s: %s not sent: %s"):format(what, port.dev.address, words, why), code, left
end

-- Waits until all has left; `what` is done, for messages.
local function leave(port, what, seconds, patience)
  local start = now()
  local since, sent, last = start, port.sent, nil
  while true do
    if port.closed or port.dev.closed then return nil, ("%s %s: the port was closed"):format(what, port.dev.address), "ECANCELED" end
    if port.dev.gone and port.tx:used() == 0 then return port.dev:gone_failure(what) end
    if port.dev.gone then return failure(port, what, "the device is gone", "ENODEV") end
    if is_done(port) then return true end
    local at, character = now(), settings.character_time(port.settings)
    if port.sent ~= sent or port.paused then since, sent = at, port.sent end
    local holds, code = holder(port)
    local stall = code == "EAGAIN" and patience or M.STANDING + 2 * (port.fifo + 2) * character
    if seconds and at - start >= seconds then
      return failure(port, what, ("not within %g s%s"):format(seconds, holds and "; " .. holds or ""), "ETIMEDOUT")
    elseif at - since >= stall and last then -- what had come by then was looked at once more
      return failure(port, what, holds or ("none has left for %.3g s, and nothing holds them back"):format(at - since), code or "EIO")
    end
    last = at - since >= stall
    if last and port.offer then moving.service(port) end
    local pause = math.min(LONGEST, math.max(SHORTEST, port.tx:used() * character, character))
    wait_slot.sleep(seconds and math.max(0, math.min(pause, start + seconds - at)) or pause)
  end
end

--- Waits until all written bytes have left the device: as long as bytes leave, or for so many seconds at most.
---@param seconds? number   altogether; nil: however long it takes, if only it does not stand still
---@param patience? number  seconds without a byte while flow control holds them back; as for a line that stands still
---@return true? ok
---@return string? message  how many are left, and why
---@return string? code     "ETIMEDOUT": not within the seconds; "EAGAIN": flow control holds them back; "EIO": the line stalls; "ENODEV"
---@return integer? left    bytes that the device has not been given
function Port:drain(seconds, patience)
  if self.closed then closed(self, "drain", 2) end
  if seconds ~= nil then check_seconds(seconds, "drain", 2) end
  if patience ~= nil then check_seconds(patience, "drain", 2) end
  return leave(self, "drain", seconds, patience)
end

--- Before any close of the device: written bytes go out, or a warning says that they did not. A second one waits for the
--- first.
---@param port luio.serial.Port
---@param seconds number?
---@return true? ok
---@return string? message
---@return string? code
---@return integer? lost
function M.finish(port, seconds)
  while port.finishing do wait_slot.sleep(LONGEST) end
  if port.finished then return true end
  if (port.dev.gone or not port.offer) and port.tx:used() == 0 then
    port.finished = true
    return true
  end
  port.finishing = true
  local ran, ok, message, code, left = pcall(leave, port, "close", seconds)
  port.finishing = nil
  if not ran then error(ok, 0) end -- a task that was cancelled: nothing is lost yet
  port.finished, port.lost = true, port.tx:used()
  port.tx:clear()
  return ok, message, code, left
end

M.methods = Port

return M
