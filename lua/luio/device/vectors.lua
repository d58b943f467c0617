--- A device's interrupts: one line (INTx), or a vector for each of several parts of it (MSI, MSI-X).
---
--- It is INTx from the opening on, unless the option `vectors` asks for others, or the driver that is started does. What may be
--- asked for, by either:
---
---     "intx" "msi" "msix"   that kind, with all vectors that the device has of it
---     5                     as many, or more; the kind follows: MSI-X if it has so many, else MSI. 1 is INTx
---
--- A driver asks by `vectors`, or by an `irq` with top halves for vectors above 0. What the user says goes first; where it
--- gives fewer than the driver needs, the driver is not started, and the error names what the device has. There is no
--- silent way down to fewer. A driver that can do with fewer asks for none, and looks at `dev.irqs.count` in its `start`.
---
--- A message is a memory write of the device: the first vector that is started switches bus master on.

local ffi = require "ffi"
local runtime = require "luio.ffi"
local C, err = runtime.C, runtime.err

local M = {}

local KINDS = { intx = C.LUIO_INTX, msi = C.LUIO_MSI, msix = C.LUIO_MSIX }
local NAMES = { [C.LUIO_INTX] = "intx", [C.LUIO_MSI] = "msi", [C.LUIO_MSIX] = "msix" }
local MOST = 2048 -- of MSI-X: PCI Local Bus 3.0, 6.8.2.3

--- What can be asked for.
---@alias luio.VectorsWanted integer|"intx"|"msi"|"msix"

--- For luio.options.
---@type luio.OptionTest
M.option = {
  words = ('"intx", "msi", "msix", or 1 to %d vectors'):format(MOST),
  fits = function(value)
    return KINDS[value] ~= nil or type(value) == "number" and value >= 1 and value <= MOST and value % 1 == 0
  end,
}

--- The same from a command line.
---@param text string
---@return luio.VectorsWanted?
---@return string? message
function M.parse(text)
  local value = tonumber(text) or text:lower()
  if M.option.fits(value) then return value end
  return nil, ("--vectors is intx, msi, msix, or 1 to %d vectors, not %q"):format(MOST, text)
end

--- Whether it takes messages to have it.
---@param wanted luio.VectorsWanted?
---@return boolean
function M.wants_messages(wanted)
  return wanted == "msi" or wanted == "msix" or type(wanted) == "number" and wanted > 1
end

--- The vectors of a device.
---@class luio.Vectors
---@field kind "intx"|"msi"|"msix"  in use
---@field count integer      of these: dev.irqs[0] to dev.irqs[count - 1]
---@field intx integer       the device's, by kind: 0 or 1
---@field msi integer
---@field msix integer
---@field messages boolean   MSI and MSI-X can be had, the way it was opened

--- What a device has, and uses: a few reads of config space.
---@param dev luio.Device
---@return luio.Vectors?
---@return string? message
---@return string? code
function M.of(dev)
  if dev.closed then error(("vectors of %s: the device is closed"):format(dev.address), 2) end
  local now = ffi.new "luio_vectors"
  if C.luio_device_vectors(dev.handle, now, err) < 0 then return runtime.failure() end
  return {
    kind = NAMES[now.kind], count = now.count, intx = now.has[C.LUIO_INTX], msi = now.has[C.LUIO_MSI], msix = now.has[C.LUIO_MSIX],
    messages = now.messages ~= 0,
  }
end

--- "INTx 1, MSI 1, MSI-X 5": those that there are.
---@param has luio.Vectors
---@return string
function M.describe(has)
  local parts = {}
  for _, one in ipairs { { "INTx", has.intx }, { "MSI", has.msi }, { "MSI-X", has.msix } } do
    if one[2] > 0 then table.insert(parts, ("%s %d"):format(one[1], one[2])) end
  end
  return parts[1] and table.concat(parts, ", ") or "none"
end

-- The kind that gives what is wanted.
local function kind_for(has, wanted)
  if type(wanted) == "string" then return wanted end
  return wanted <= has.intx and "intx" or wanted <= has.msix and "msix" or wanted <= has.msi and "msi" or nil
end

--- Whether a device can give what is wanted.
---@param has luio.Vectors  at least intx, msi, msix
---@param wanted luio.VectorsWanted
---@return boolean
function M.gives(has, wanted)
  local kind = kind_for(has, wanted)
  return kind ~= nil and has[kind] > 0
end

--- Changes a device's interrupts. None of them may be started.
---@param dev luio.Device
---@param wanted luio.VectorsWanted
---@return boolean? ok
---@return string? message
---@return string? code  "ENOENT": it has not so many; "ENOTSUP": not the way it was opened; "EBUSY"
function M.choose(dev, wanted)
  local root = dev:root_device()
  local has, message, code = M.of(root)
  if not has then return nil, message, code end
  local kind = kind_for(has, wanted)
  if kind == nil and not has.messages then
    C.luio_device_set_vectors(root.handle, C.LUIO_MSIX, err) -- says why not
    local _, why, why_code = runtime.failure()
    return nil, ("%d vectors are asked for: %s"):format(wanted, why), why_code
  elseif not kind then
    return nil, ("%s has no %d vectors: it has %s"):format(root.address, wanted, M.describe(has)), "ENOENT"
  end
  if C.luio_device_set_vectors(root.handle, KINDS[kind], err) < 0 then return runtime.failure() end
  has, message, code = M.of(root)
  if not has then return nil, message, code end
  root.interrupts, root.vectors_wanted = { kind = has.kind, count = has.count }, wanted
  return true
end

--- The device is back after it was gone: it has what it had.
---@param root luio.Device
---@return boolean? ok
---@return string? message
---@return string? code
function M.again(root)
  if not root.vectors_wanted then return true end
  return M.choose(root, root.vectors_wanted)
end

--- Sees to it that a driver has as many as it needs.
---@param dev luio.Device
---@param name string      the driver's
---@param needs luio.VectorsWanted?
---@param running boolean  on a reload: they can't be changed
---@return boolean? ok
---@return string? message
---@return string? code
function M.ensure(dev, name, needs, running)
  local root = dev:root_device()
  local now = root.interrupts
  local enough = needs == nil or needs == now.kind or type(needs) == "number" and needs <= now.count
  if enough then return true end
  local wants = type(needs) == "number" and ("%d vectors"):format(needs) or needs:upper()
  if running then
    return nil, ("driver %s wants %s, and %s runs with %d by %s: that can't be changed under a driver: end it and start it again"):format(
      name, wants, root.address, now.count, now.kind:upper()), "EBUSY"
  elseif root.vectors_wanted then
    return nil, ("driver %s wants %s, and %s was opened with %d by %s (`vectors`)"):format(name, wants, root.address, now.count,
      now.kind:upper()), "ENOENT"
  end
  local ok, message, code = M.choose(root, needs)
  if not ok then return nil, ("driver %s wants %s: %s"):format(name, wants, message), code end
  return true
end

return M
