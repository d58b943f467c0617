--- The worker's interface to the guardian: the reason of the start, kept state, the exit.
---
--- `luio run` is two processes (runtime/guardian.c). Elsewhere, in a script or a spec, there is no
--- guardian; then everything here does nothing, and every start is "fresh".
---
--- A driver names the fields of dev.state that are durable:
---
---     durable = { "packets", "ring" }
---
--- Plain data: no functions, no pointers. They are copied to the guardian's memory by `dev:checkpoint()`, and by
--- `luio run` ten times a second where they have changed; after a crash they are in dev.state when
--- `start(dev, "crash")` is called. Encoded by LuaJIT's string.buffer: a state of ten numbers costs about a
--- microsecond. It is not done at every turn of the loop, because the state's size and the loop's rate are
--- unknown. A driver calls `checkpoint` for state that must not be lost.
---
--- With `luio run --user` a process without privileges has written the state, and root calls `migrate` and `start`. So only plain
--- data is read back (luio.text.plain), and only the named fields are filled; the driver must check their values. Unreadable state
--- would make every worker fail until no restart is left. So the driver starts without it, with a warning. With `--user` it also
--- starts without the state after a start with it has failed for any reason, because hostile values may have caused the failure.

local ffi = require "ffi"
local errors = require "luio.errors"
local buffer = require "string.buffer"
local runtime = require "luio.ffi"
local holders = require "luio.host.holders"
local plain = require "luio.text.plain"
local uv = require "luv"
local C, err = runtime.C, runtime.err

local M = {}

---@class luio.GuardianStatus
---@field restarts integer  workers that died before this one
---@field died number?      seconds on luio.now()'s clock, when the last of them was seen dead

--- Filled by attach: nil without a guardian.
---@type luio.GuardianStatus?
M.status = nil

--- Finds the guardian of this process. Before a device is opened.
---@return boolean? guarded  false: there is none
---@return string? message
---@return string? code
function M.attach()
  local s = ffi.new "luio_guard_status"
  local rc = C.luio_guard_attach(s, err)
  if rc < 0 then return runtime.failure() end
  if rc == 0 then return false end
  holders.guardian_pid = uv.os_getppid()
  M.status = { restarts = tonumber(s.restarts), died = s.died_ns ~= 0 and tonumber(s.died_ns) / 1e9 or nil }
  return true
end

--- Why a driver is started: nothing before it, or a worker that died.
---@return "fresh"|"crash"
function M.reason()
  return M.status and M.status.restarts > 0 and "crash" or "fresh"
end

--- Tells the guardian how often and how soon a worker is started again.
---@param restarts integer  in a row; 0: none
---@param backoff number    seconds, the longest pause before one
---@param stop number       seconds that a worker may take to stop
---@return boolean? ok
---@return string? message
---@return string? code
function M.policy(restarts, backoff, stop)
  if C.luio_guard_policy(restarts, backoff * 1e9, stop * 1e9, err) < 0 then return runtime.failure() end
  return true
end

--- The driver has started: from now on the guardian starts another if this worker dies.
---@return boolean? ok
---@return string? message
---@return string? code
function M.ready()
  if C.luio_guard_ready(err) < 0 then return runtime.failure() end
  return true
end

--- This process ends in order: the guardian does not take it for a crash.
---@return boolean? ok
---@return string? message
---@return string? code
function M.leave()
  if C.luio_guard_leave(err) < 0 then return runtime.failure() end
  return true
end

--- Descriptor that is readable when the guardian has died; nil without one.
---@return integer?
function M.fd()
  local fd = C.luio_guard_fd()
  return fd >= 0 and fd or nil
end

--- Opens the files that only root can open, then gives root up.
---@param dev luio.Device
---@param user string
---@return boolean? ok
---@return string? message
---@return string? code
function M.drop_privileges(dev, user)
  for index in pairs(dev.info.bars) do dev:region(index) end -- an error means that the region is gone
  for index in pairs(dev.info.maps) do
    if not dev.info.has_bars then dev:region(index) end
  end
  if dev.driver.dma then
    local out = ffi.new "luio_dma *[1]"
    if C.luio_device_dma(dev.handle, out, err) < 0 then return runtime.failure() end
  end
  if C.luio_drop_privileges(user, err) < 0 then return runtime.failure() end
  return true
end

-- ---- Code ----------------------------------------------------------------------------------------

---@class luio.KeptCode
---@field path string                   the driver's file
---@field files table<string, string>   path -> text, of the version that worked
---@field names table<string, string>   of luio.Version
---@field tried { files: table<string, true>, print: string }?  the code that was last tried: luio.reload.follow
---@field starting boolean?             a worker began to start it, and had not yet when this was kept

--- Has the guardian keep the code to go on with after a crash. When it can't, it keeps none.
---@param code luio.KeptCode
---@return boolean? ok
---@return string? message
---@return string? code  "E2BIG" "EPIPE"
function M.keep_code(code)
  local bytes = buffer.encode(code)
  if C.luio_guard_keep(bytes, #bytes, err) == 0 then return true end
  local _, message, why = runtime.failure()
  local none = buffer.encode {} -- the code kept before is not the working one
  C.luio_guard_keep(none, #none, err)
  return nil, message, why
end

--- The code that the worker before had kept; nil when there was none, or without a guardian.
---@return luio.KeptCode?
---@return string? message
---@return string? code
function M.kept_code()
  local data, size = ffi.new "const void *[1]", ffi.new "size_t[1]"
  if C.luio_guard_kept(data, size, err) < 0 then return runtime.failure() end
  if data[0] == nil then return nil end
  local code, why = plain.decode(data[0], tonumber(size[0]))
  if type(code) ~= "table" then return nil, ("the code of the worker before can't be read back: %s"):format(why), "EBADMSG" end
  return code.path and code or nil
end

-- ---- State ---------------------------------------------------------------------------------------

--- Copies the durable fields of dev.state to where they outlive this process.
---@param dev luio.Device
---@return boolean? ok
---@return string? message  e.g. that a field is no plain data
---@return string? code  "EINVAL" "E2BIG" "EPIPE"
function M.save(dev)
  local names = dev.driver and dev.driver.durable
  if not names then return true end
  -- Should a version take the process with it before it has proved itself, the one before goes on: with what it can read.
  local before = dev.live and dev.live.before
  if before and before.driver.state_version ~= dev.driver.state_version then return true end
  local fields = {}
  local state = dev.live and dev.live.version.view.state or dev.state -- a driver may have put another in its place
  if type(state) ~= "table" then
    return nil, ("durable state of driver %s: dev.state is a %s, not a table"):format(dev.driver.name, type(state)), "EINVAL"
  end
  for _, name in ipairs(names) do fields[name] = rawget(state, name) end -- no driver code runs here, because no watchdog is active
  local ok, bytes = pcall(buffer.encode, { fields = fields, version = dev.driver.state_version })
  if not ok then
    return nil, ("durable state of driver %s: %s"):format(dev.driver.name, errors.text(bytes)), "EINVAL"
  end
  if bytes == dev.saved then return true end
  if C.luio_device_save(dev.handle, bytes, #bytes, err) < 0 then return runtime.failure() end
  dev.saved = bytes
  return true
end

-- Fills dev.state with the previous worker's saved state.
local function restore(driver, dev, user)
  local data, size = ffi.new "const void *[1]", ffi.new "size_t[1]"
  if C.luio_device_load(dev.handle, data, size, err) < 0 then return runtime.failure() end
  if data[0] == nil then return true end
  local saved, bad = plain.decode(data[0], tonumber(size[0]))
  local fields = type(saved) == "table" and saved.fields
  if type(fields) ~= "table" then
    dev:warn(("durable state of %s can't be read back: %s; driver %s starts without it"):format(dev.address, bad or "it has no fields",
      driver.name))
    return true
  end
  if user and saved.tried then
    dev:warn(("driver %s did not start with the durable state that a process of %s left for %s: it starts without it"):format(
      driver.name, user, dev.address))
    return true
  elseif user then -- until the next checkpoint
    local bytes = buffer.encode { fields = fields, version = saved.version, tried = true }
    if C.luio_device_save(dev.handle, bytes, #bytes, err) < 0 then return runtime.failure() end
  end
  if driver.migrate and saved.version ~= driver.state_version then
    local ok, result, why = pcall(driver.migrate, fields, saved.version)
    if not ok or result == nil and why ~= nil then
      return nil, ("migrate of driver %s, for durable state: %s"):format(driver.name, errors.text(ok and why or result)), "EINVAL"
    end
    if type(result) == "table" then fields = result end
  end
  for _, name in ipairs(driver.durable) do dev.state[name] = fields[name] end
  return true
end

-- The device may still do what the dead worker told it. Before bus master is on again.
local function settle(driver, dev)
  local bytes = ffi.new "uint64_t[1]"
  if driver.quiesce then
    local ok, message, code = driver.quiesce(dev)
    if not ok then return nil, "quiesce: " .. (message == nil and "it returned nothing" or errors.text(message)), code end
    if C.luio_device_settle(dev.handle, err) < 0 then return runtime.failure() end
    return true
  end
  if C.luio_device_unsettled(dev.handle, bytes, err) < 0 then return runtime.failure() end
  if bytes[0] > 0 then
    dev:warn(("%d KiB of DMA memory of the worker that died stay unused: %s can't be reset, and driver %s has no quiesce(dev)")
      :format(tonumber(bytes[0]) / 1024, dev.address, driver.name))
  end
  return true
end

--- For luio.driver, with the registers bound, before interrupts and bus master are on.
---@param driver table
---@param dev luio.Device
---@param user string?  that root will be given up for, and that the worker before gave it up for
---@return boolean? ok
---@return string? message
---@return string? code
function M.prepare(driver, dev, user)
  if driver.reset == false and C.luio_device_no_reset(dev.handle, err) < 0 then return runtime.failure() end
  if driver.durable then
    local ok, message, code = restore(driver, dev, user)
    if not ok then return nil, message, code end
  end
  if M.reason() == "crash" then return settle(driver, dev) end
  return true
end

return M
