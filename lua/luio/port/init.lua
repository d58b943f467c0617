--- The common part of ports, for packets (luio.net) and for bytes (luio.serial): a device that is opened and driven.
---
--- A driver's `start` hands over an offer, functions of its version. The port is made at the first one and outlives versions.
--- `use` gives it each new offer, or none during a reload and while the device is gone. Programs use the
--- ports of a kind; this module is for the kinds.

local driver = require "luio.driver"
local match = require "luio.driver.match"
local paths = require "luio.driver.paths"
local near = require "luio.registers.near"
local reload_report = require "luio.reload.report"
local task = require "luio.loop.task"

local M = {}

--- Of every kind.
---@class luio.Port
---@field dev luio.Device
---@field closed boolean?
---@field package what string  "network", "serial": of its class
---@field package offer table?  of the version at work
---@field package follower luio.Follower?
---@field package told_of_reloads fun(line: string, report: luio.ReloadReport)?

-- ---- Misuse --------------------------------------------------------------------------------------

--- Raises for a port that is closed.
---@param port luio.Port
---@param what string   that was to be done
---@param level integer  of the caller's caller: 2
function M.closed(port, what, level)
  error(("%s of %s: the port is closed"):format(what, port.dev.address), level + 1)
end

--- Raises for a value that is no time to wait.
---@param seconds any
---@param what string
---@param level integer
function M.check_seconds(seconds, what, level)
  if type(seconds) ~= "number" or not (seconds >= 0 and seconds < 1e9) then
    error(("%s needs a number of seconds, not %s"):format(what, tostring(seconds)), level + 1)
  end
end

--- The faults of a table of an offer. A driver that is being written lacks something at each save, and the message names it.
---@param name string
---@param t any
---@param known table<string, string>  types by key; "any"; with a ? it may be missing
---@return string? fault
function M.fault(name, t, known)
  if type(t) ~= "table" then return ("%s is a table, not %s"):format(name, tostring(t)) end
  for key in pairs(t) do
    if not known[key] then return ("%s: unknown key %s%s"):format(name, tostring(key), near.hint(tostring(key), known)) end
  end
  for key, stated in pairs(known) do
    local value, kind = t[key], stated:match "^%a+"
    if value == nil and kind == stated then return ("%s lacks %s"):format(name, key) end
    if value ~= nil and kind ~= "any" and type(value) ~= kind then
      return ("%s.%s is a %s, not %s"):format(name, key, kind, tostring(value))
    end
  end
end

-- ---- The driver's side ---------------------------------------------------------------------------

--- At the end of a driver's `start`: makes the device a port, or hands an old port what this version has to offer.
---@param dev luio.Device  the version's
---@param offer table
---@param make fun(dev: luio.Device): luio.Port  makes the kind's port
---@param use fun(port: luio.Port, offer: table?, view: luio.Device?)  no offer: nothing is at work; nor a view: the device is gone
---@param listen (fun(port: luio.Port, view: luio.Device, offer: table))?  a task of the version: takes its interrupts
---@return true
function M.serve(dev, offer, make, use, listen)
  local root = dev:root_device()
  if not root.port then
    local port = make(root)
    root.port = port
    table.insert(root.users, function(view)
      local now = view and view.offer
      if not now or now ~= port.offer then use(port, now, view) end
    end)
  end
  dev.offer = offer
  if listen then task.spawn_in(dev.version.group, listen, root.port, dev, offer):detach() end
  return true
end

--- The options that the device was opened with, by M.open.
---@param dev luio.Device
---@return table
function M.options(dev)
  return dev:root_device().port_options or {}
end

-- ---- The user's side -----------------------------------------------------------------------------

--- Opens a device and starts its driver.
---@param address string|luio.Device  or one that is open and has no driver; it is closed when this fails
---@param class table    of its port
---@param options table  checked; `driver` names it, else the one that matches
---@return luio.Port?
---@return string? message
---@return string? code  as luio.open; "ENODEV": no driver of this kind is for it
function M.open(address, class, options)
  local dev, message, code = address, nil, nil
  if type(address) == "table" then address = dev.address else dev, message, code = require("luio").open(address) end
  if not dev then return nil, message, code end
  local loaded
  if options.driver then
    loaded, message, code = driver.load(paths.by_name(options.driver))
  else
    local _
    _, loaded, message = match.driver_of(dev.info, address)
    message, code = ("%s: %s"):format(tostring(dev), message), "ENODEV"
  end
  if not loaded then
    dev:close()
    return nil, message, code
  end
  dev.port_options = options
  local started
  started, message, code = driver.start(loaded, dev)
  if not started then return nil, message, code end
  local port = M.of(dev, class)
  if not port then
    dev:close()
    return nil, ("%s: driver %s is no %s driver"):format(address, loaded.name, class.what), "ENODEV"
  end
  return port
end

--- The port of a device, if it has one of that kind.
---@param dev luio.Device
---@param class table
---@return luio.Port?
function M.of(dev, class)
  local port = dev:root_device().port
  return port and port.what == class.what and port or nil
end

--- Follows the driver's files, as `luio run` does: when one is saved, or on SIGHUP, the code is exchanged while the port
--- works. A version that does not load, or fails soon, changes nothing. Ends when the port is closed; calling it again
--- changes `tell`.
---@param port luio.Port
---@param tell? fun(line: string, report: luio.ReloadReport)  what became of a reload
function M.follow(port, tell)
  if port.closed then M.closed(port, "follow", 3) end
  port.told_of_reloads = tell
  if port.follower then return end
  port.follower = require("luio.reload.follow").follow(port.dev, {
    watch = true,
    tell = function(report)
      if port.told_of_reloads then port.told_of_reloads(reload_report.line(report), report) end
    end,
  })
  port.follower:begin() -- the driver's file may have been saved since it was loaded
end

--- Closes the device and what belongs to every port. The kind lets its users go after that.
---@param port luio.Port
---@return boolean? ok
---@return string? message
---@return string? code
function M.close(port)
  if port.follower then port.follower:close() end
  port.follower = nil
  local ok, message, code = port.dev:close()
  if not ok then return nil, message, code end
  port.closed = true
  return true
end

return M
