--- Giving a PCI device to a UIO driver, and back.
---
--- `driver_override` names the one driver that may have the device, `drivers_probe` lets the kernel
--- match again; then the override is put back to what it was. (new_id would take every device of
--- that kind, now and later.) Before the first change luio looks for uses of the device by the
--- system (luio.host.in_use), and refuses a device in use.
---
--- The driver that had the device before is written to /run/luio/bind/ADDRESS, before the first change. The
--- kernel does not keep it. An empty override, which lets the kernel choose again, would be wrong for a
--- device that had no driver on purpose, or a driver by another override. /run lives exactly as long as
--- bindings do: until the machine boots. The file contains the kind of device, so that another device in
--- the same slot is not given to the wrong driver. Without a file (luio did not bind the device), the
--- kernel chooses.
---
--- A removed device loses its driver_override. If luio had bound it, and it is plugged in again while its driver in Lua
--- runs, luio binds it to the same UIO driver again (`again`, by luio.hotplug). A device that was not removed was
--- unbound on purpose, and is left alone.
---
--- After a failed step the previous state is restored.

local uv = require "luv"
local wait_slot = require "luio.loop.wait_slot"
local sysfs = require "luio.host.sysfs"
local term = require "luio.text.term"
local addresses = require "luio.host.address"
local inspect = require "luio.host.inspect"
local in_use = require "luio.host.in_use"
local process = require "luio.host.process"

local M = {}

--- Where the previous drivers are kept.
M.run_dir = "/run/luio/bind"

local PCI = "/sys/bus/pci"
local MODPROBE_S, NODE_S, RESTORE_S = 20, 5, 5

--- Seconds one write to sysfs may take: a driver may finish its work before it is unbound.
M.patience = 20

--- Seconds in which a device without a driver may refuse. One that was plugged in is there, and its event has come, a moment
--- before the kernel lets drivers have it (drivers/pci/bus.c: match_driver); that moment looks like a refusal.
M.refusal_s = 1

-- Drivers that hand a device to user space.
local USER_SPACE = { uio_pci_generic = true, igb_uio = true, ["vfio-pci"] = true }

---@class luio.Binding
---@field address string    "0000:00:04.0"
---@field driver string?    the kernel driver that has it now
---@field uio string?       "uio0"
---@field previous string?  the driver that had it before
---@field unchanged boolean? it had that driver already
---@field steps string[]    the steps done, or planned with dry_run, as shell commands
---@field notes string[]    remarks for the user

-- ---- Remembering ---------------------------------------------------------------------------------

local function id_of(info)
  return ("%04x:%04x"):format(info.vendor, info.device)
end

local function forget(info)
  os.remove(M.run_dir .. "/" .. info.address)
end

-- `had` is the previous driver, `bound` the present one.
local function remember(info, had, bound)
  local at = ""
  for part in M.run_dir:gmatch "[^/]+" do
    at = at .. "/" .. part
    uv.fs_mkdir(at, tonumber("755", 8)) -- an error shows when the file is opened
  end
  local f, message = io.open(M.run_dir .. "/" .. info.address, "w")
  if not f then return nil, message end
  f:write(("driver %s\nbound %s\nid %s\n"):format(had or "", bound, id_of(info)))
  return f:close()
end

-- { driver = "e1000e" or "", bound = "uio_pci_generic" }, if it was written for this device.
local function remembered(info)
  local text = sysfs.read(M.run_dir .. "/" .. info.address)
  if not text then return nil end
  local driver, bound, id = text:match "^driver (%S*)\nbound (%S+)\nid (%S+)$"
  if id ~= id_of(info) then return nil end
  return { driver = driver, bound = bound }
end

--- Whether luio has given a device to a UIO driver, and not back.
---@param info luio.Info
---@return boolean
function M.remembers(info) return remembered(info) ~= nil end

-- ---- Steps ---------------------------------------------------------------------------------------

-- One file to write. `luio bind --dry-run` prints the same steps that are done.
local function step(path, value)
  return { path = path, value = value, shown = value == "" and "echo > " .. path or ("echo %s > %s"):format(value, path) }
end

local function device_file(info, name)
  return ("%s/devices/%s/%s"):format(PCI, info.address, name)
end

local function override_of(info)
  local text = sysfs.read(device_file(info, "driver_override"))
  return text ~= "(null)" and text or ""
end

local function driver_of(info)
  return sysfs.link(device_file(info, "driver"))
end

-- Unbinds the device's driver and binds `driver`, or with nil the kernel's choice. An override for
-- another driver stays; one for the old driver is cleared, because it would bring that driver back.
local function steps_to(info, driver, leaving)
  local override, steps = override_of(info), {}
  local after = (override == leaving or override == driver) and "" or override
  local wanted = driver or after
  if wanted ~= override then table.insert(steps, step(device_file(info, "driver_override"), wanted)) end
  if info.driver then table.insert(steps, step(device_file(info, "driver/unbind"), info.address)) end
  table.insert(steps, step(PCI .. "/drivers_probe", info.address))
  if wanted ~= after then table.insert(steps, step(device_file(info, "driver_override"), after)) end
  return steps, override
end

-- Runs steps; nil, message, code of the first that fails.
local function run(steps, done)
  for _, one in ipairs(steps) do
    local ok, message, code = process.write(one.path, one.value, M.patience)
    if not ok then return nil, message, code end
    table.insert(done, one.shown)
  end
  return true
end

-- After a failure: restores the override and the previous driver. Returns the outcome as text.
local function put_back(info, override, code)
  if code == "ETIMEDOUT" then -- the hanging write has the device's lock, so the next one would hang, too
    return ("driver_override is %q now; when the kernel is done, `luio unbind %s` puts things right"):format(
      override_of(info), info.address)
  end
  if override_of(info) ~= override then process.write(device_file(info, "driver_override"), override, RESTORE_S) end
  local now = driver_of(info)
  if now == info.driver then
    return info.driver and info.driver .. " has it again" or "it has no driver, as before"
  end
  if now then process.write(device_file(info, "driver/unbind"), info.address, RESTORE_S) end
  if not info.driver then return "it has no driver, as before" end
  -- By override: a UIO driver knows no ids of its own.
  local path = ("%s/drivers/%s/bind"):format(PCI, info.driver)
  process.write(device_file(info, "driver_override"), info.driver, RESTORE_S)
  local ok, message = process.write(path, info.address, RESTORE_S)
  process.write(device_file(info, "driver_override"), override, RESTORE_S)
  if driver_of(info) ~= info.driver then
    return ("and %s did not take it back: %s; luio bind %s --driver %s tries again"):format(info.driver,
      ok and "no reason given" or message, info.address, info.driver)
  end
  return info.driver .. " has it again"
end

-- ---- Checks --------------------------------------------------------------------------------------

local function target(what, address)
  local kind = addresses.made(address)
  if kind then
    return nil, ("%s %s: a %s device has no kernel driver, and needs none"):format(what, address,
      kind == "sim" and "simulated" or "qemu:"), "ENOTSUP"
  end
  local info, message, code = inspect.find(address)
  if not info then return nil, message, code end
  if info.is_range then
    return nil, ("%s %s: a range of physical addresses has no kernel driver: name the device that is there"):format(what,
      address), "ENOTSUP"
  end
  if not info.can_bind then
    return nil, ("%s %s: it is not a PCI device; on bus %q its driver is chosen by the device tree, "
      .. "or by a parameter of the module (uio_pdrv_genirq: of_id=)"):format(what, address, info.bus), "ENOTSUP"
  end
  if not sysfs.exists(device_file(info, "driver_override")) then
    return nil, ("%s %s: this kernel has no %s (it came with Linux 3.16)"):format(what, address,
      device_file(info, "driver_override")), "ENOTSUP"
  end
  return info
end

local function may_write(what, info)
  for _, path in ipairs { device_file(info, "driver_override"), PCI .. "/drivers_probe" } do
    local ok, code = sysfs.access(path, "w")
    if not ok then
      return nil, ("%s %s: %s may not be written: %s: %s; nothing was changed"):format(what, info.address, path, code,
        sysfs.read_only(path) or "run as root"), code
    end
  end
  return true
end

local function refusal(what, info, found)
  local reasons = {}
  for i, use in ipairs(found) do reasons[i] = ("%s (%s)"):format(use.text, use.remedy) end
  return nil, ("%s %s: refused: %s. --force does it regardless; nothing was changed"):format(
    what, info.address, table.concat(reasons, "; ")), "EBUSY"
end

-- Loads a driver's module, if the driver is not there.
local function load_driver(what, info, driver, dry_run, done)
  local folder = ("%s/drivers/%s"):format(PCI, driver)
  if sysfs.exists(folder) then return true end
  local function failed(reason, code)
    return nil, ("%s %s: there is no PCI driver %s: %s; nothing was changed"):format(what, info.address, driver, reason), code
  end
  local modprobe = process.modprobe()
  if not modprobe then return failed(("no modprobe is here either: load its module (%s.ko)"):format(driver), "ENOENT") end
  table.insert(done, "modprobe " .. driver)
  if dry_run then return true end
  local status, output, code = process.run({ modprobe, "--", driver }, MODPROBE_S)
  if not status then return failed(output, code) end
  if status ~= 0 then
    return failed(("modprobe %s gave %d: %s (is it in this kernel? luio doctor)"):format(driver, status,
      (output:gsub("%s+$", ""):gsub("\n", "; "))), "ENOENT")
  end
  if not sysfs.exists(folder) then return failed("its module was loaded, but is no PCI driver of that name", "ENOENT") end
  return true
end

-- Why a driver did not take the device. drivers_probe reports no refusal; asking the driver does.
local function why_not(info, driver)
  local ok, message, code = process.write(("%s/drivers/%s/bind"):format(PCI, driver), info.address, M.patience)
  if ok and driver_of(info) == driver then return nil end
  local config = inspect.config(info)
  if driver ~= "uio_pci_generic" or code ~= "ENODEV" then
    return ("%s did not take it: %s; dmesg may say more"):format(driver, message or "no reason given"), code or "ENODEV"
  elseif config and not config.pin then
    return "uio_pci_generic did not take it: ENODEV: it has no INTx pin, which older kernels insist on; "
      .. "its registers can be used without a driver", code
  end
  return "uio_pci_generic did not take it: ENODEV: its INTx can't be masked in the command register (PCI 2.3); dmesg may say more", code
end

local function wait_for_node(info)
  local deadline = uv.hrtime() + NODE_S * 1e9
  local uio
  repeat
    local number = sysfs.numbered(device_file(info, "uio"), "^uio(%d+)$")[1]
    uio = number and "uio" .. number
    if uio and sysfs.exists("/dev/" .. uio) then return uio end
    wait_slot.sleep(0.01)
  until uv.hrtime() > deadline
  return uio, ("/dev/%s did not appear in %g s: is udev running, is /dev a devtmpfs?"):format(uio or "uioX", NODE_S)
end

-- ---- Bind and unbind -----------------------------------------------------------------------------

---@class luio.BindOptions
---@field driver string?    "uio_pci_generic"
---@field force boolean?    although the system uses the device
---@field dry_run boolean?  change nothing; return the planned steps
---@field package again boolean?  it had this driver before it was pulled out

--- Gives a PCI device to a UIO driver. Outside of a task it turns the loop while it waits.
---@param address string  "0000:00:04.0"
---@param options? luio.BindOptions
---@return luio.Binding?
---@return string? message
---@return string? code  "EBUSY": the system uses it; "EACCES"; "ENOENT": there is no such driver
function M.bind(address, options)
  options = options or {}
  local driver = options.driver or "uio_pci_generic"
  if not driver:match "^[%w_%-]+$" then error(("%q is not the name of a driver"):format(driver), 2) end
  local info, message, code = target("bind", address)
  if not info then return nil, message, code end
  local result = { address = info.address, driver = driver, previous = info.driver, steps = {}, notes = {} }
  if info.driver == driver then
    result.uio, result.unchanged = info.uio, true
    return result
  end
  local ok
  if not options.dry_run then
    ok, message, code = may_write("bind", info)
    if not ok then return nil, message, code end
  end
  local found = in_use.of(info, not options.dry_run)
  if found[1] and not options.force then return refusal("bind", info, found) end
  for _, use in ipairs(found) do table.insert(result.notes, "forced, although " .. use.text) end
  local config = inspect.config(info)
  if config and not config.pin then
    table.insert(result.notes, (config.physical and "a virtual function" or "it")
      .. " has no INTx pin: no interrupts by UIO, its driver must poll")
  end
  ok, message, code = load_driver("bind", info, driver, options.dry_run, result.steps)
  if not ok then return nil, message, code end
  local steps, override = steps_to(info, driver, info.driver)
  if options.dry_run then
    for _, one in ipairs(steps) do table.insert(result.steps, one.shown) end
    return result
  end

  local before = remembered(info)
  if before and before.bound ~= info.driver and not options.again then before = nil end
  -- From one UIO driver to another: the driver before the first one counts.
  ok, message = remember(info, before and before.driver or info.driver, driver)
  if not ok then table.insert(result.notes, "what had it before is not remembered: " .. message) end
  ok, message, code = run(steps, result.steps)
  if ok and driver_of(info) ~= driver then
    process.write(device_file(info, "driver_override"), driver, M.patience)
    local deadline = uv.hrtime() + (info.driver and 0 or M.refusal_s) * 1e9
    repeat
      message, code = why_not(info, driver)
      if code ~= "ENODEV" then break end
      wait_slot.sleep(0.02)
    until uv.hrtime() > deadline
    process.write(device_file(info, "driver_override"), override, M.patience)
    ok = not message
  end
  if not ok then
    local back = put_back(info, override, code)
    if code ~= "ETIMEDOUT" then
      if before then remember(info, before.driver, before.bound) else forget(info) end
    end
    return nil, ("bind %s: %s; %s"):format(info.address, message, back), code
  end
  if driver:match "uio" then
    local missing
    result.uio, missing = wait_for_node(info)
    table.insert(result.notes, missing)
  end
  return result
end

--- Binds a PCI device that was removed and is back to the UIO driver that luio had bound. A later decision takes precedence:
--- a driver_override, `luio unbind`, or a driver other than the previous one.
---@param address string
---@param driver string  the UIO driver it had
---@param life integer?  in this life
---@return luio.Binding? binding
---@return string? message  nil: it was not away, or luio had not given it to that driver
---@return string? code
function M.again(address, driver, life)
  local info, message, code = target("bind", address)
  if not info then return nil, message, code end
  local memory = remembered(info)
  if not memory or memory.bound ~= driver or life == sysfs.life(info.address) then return nil end
  local override = override_of(info)
  if override ~= "" and override ~= driver then
    return nil, ("its driver_override is %s now, which is left so"):format(override), "EBUSY"
  elseif info.driver and info.driver ~= driver and info.driver ~= memory.driver then
    return nil, ("the kernel driver %s has it now, and keeps it"):format(info.driver), "EBUSY"
  end
  return M.bind(address, { driver = driver, again = true })
end

--- Gives a PCI device back to the driver that it had before a UIO driver.
---@param address string  "0000:00:04.0", "uio0"
---@param options? { force: boolean? }
---@return luio.Binding?  driver is nil when it has none, as before
---@return string? message
---@return string? code  "EBUSY": a process drives it; "EINVAL": no UIO driver has it
function M.unbind(address, options)
  options = options or {}
  local info, message, code = target("unbind", address)
  if not info then return nil, message, code end
  local memory = remembered(info)
  local bound = info.driver and (info.uio or USER_SPACE[info.driver] or memory and memory.bound == info.driver)
  if info.driver and not bound then
    return nil, ("unbind %s: the kernel driver %s has it, and no UIO driver: there is nothing to give back"):format(
      info.address, info.driver), "EINVAL"
  elseif not info.driver and not memory then
    return nil, ("unbind %s: no driver has it, and none is remembered; `echo %s > %s/drivers_probe` lets the kernel choose one"):format(
      info.address, info.address, PCI), "EINVAL"
  end
  local ok
  ok, message, code = may_write("unbind", info)
  if not ok then return nil, message, code end
  local found = in_use.hold(info)
  if found[1] and not options.force then return refusal("unbind", info, found) end
  local result = { address = info.address, previous = info.driver, steps = {}, notes = {} }
  for _, use in ipairs(found) do table.insert(result.notes, "forced, although " .. use.text) end

  local wanted = memory and memory.driver
  local leaving = info.driver or memory.bound -- none has it: a bind was killed half-way
  if wanted == "" then
    local steps, override = {}, override_of(info)
    if info.driver then table.insert(steps, step(device_file(info, "driver/unbind"), info.address)) end
    if override ~= "" and override == leaving then
      table.insert(steps, step(device_file(info, "driver_override"), ""))
    end
    ok, message, code = run(steps, result.steps)
    if not ok then return nil, ("unbind %s: %s; %s"):format(info.address, message, put_back(info, override, code)), code end
    forget(info)
    return result
  end
  if wanted then
    ok, message, code = load_driver("unbind", info, wanted, false, result.steps)
    if not ok then return nil, message, code end
  end
  local steps, override = steps_to(info, wanted, leaving)
  ok, message, code = run(steps, result.steps)
  result.driver = driver_of(info)
  if ok and wanted and result.driver ~= wanted then
    process.write(device_file(info, "driver_override"), wanted, M.patience)
    message, code = why_not(info, wanted)
    process.write(device_file(info, "driver_override"), override, M.patience)
    ok, result.driver = not message, driver_of(info)
  elseif ok and not wanted and result.driver == info.driver then
    ok, code = nil, "EBUSY"
    message = ("%s took it again: its new_id names %s; `echo %s > %s/drivers/%s/remove_id` ends that"):format(info.driver,
      id_of(info), id_of(info):gsub(":", " "), PCI, info.driver)
  end
  if not ok then return nil, ("unbind %s: %s; %s"):format(info.address, message, put_back(info, override, code)), code end
  if not result.driver then
    table.insert(result.notes, ("no loaded driver takes it; `modprobe %s` may load one"):format(
      term.quoted(inspect.attribute(info, "modalias") or "MODULE")))
  end
  forget(info)
  return result
end

return M
