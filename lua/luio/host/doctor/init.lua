--- Everything that would stop a driver from working, as findings, each with its remedy.
---
--- The checks are in luio.host.doctor.system (the machine), luio.host.doctor.device (one device) and luio.host.doctor.mem (a
--- range of physical addresses). They only look: no file is written, no /dev/uioX opened, no register read. A check adds findings by
--- say(check, status, text, remedy):
---
---     ok       this is as it should be
---     note     works, with a restriction; or matters for some drivers only
---     problem  stops a driver, or a kind of them

local addresses = require "luio.host.address"
local inspect = require "luio.host.inspect"
local match = require "luio.driver.match"
local device = require "luio.host.doctor.device"
local mem = require "luio.host.doctor.mem"
local storm = require "luio.host.doctor.storm"
local system = require "luio.host.doctor.system"
local term = require "luio.text.term"

local M = {}

---@class luio.Finding
---@field check string   "module", "iommu", "node"
---@field status "ok"|"note"|"problem"
---@field text string
---@field remedy string? a command to paste, where there is one

local STATUS = { ok = true, note = true, problem = true }

local function collector()
  local findings = {}
  return findings, function(check, status, text, remedy)
    assert(STATUS[status], status)
    table.insert(findings, { check = check, status = status, text = text, remedy = remedy })
  end
end

--- Checks the machine.
---@return luio.Finding[]
function M.system()
  local findings, say = collector()
  for _, check in ipairs {
    system.descriptors, system.read_only, system.modules, system.device_tree, system.permission, system.lockdown, system.nodes, system.pins,
    system.hugepages, system.memlock, system.iommu, system.realtime, system.folder, system.drivers,
  } do check(say) end
  return findings
end

--- Checks one device, and what of the machine matters to it.
---@param address string
---@param known? luio.Info  its data, where it is open
---@return luio.Finding[]?
---@return string? message
---@return string? code  "ENODEV", "EINVAL"
function M.device(address, known)
  local info, message, code = known, nil, nil
  if not info then info, message, code = inspect.find(address) end
  local findings, say = collector()
  if not info and addresses.made(address) == "qemu" then
    say("QEMU", "problem", device.refusal(message))
    return findings
  end
  if not info then return nil, message, code end
  local at = { info = info, lockdown = inspect.lockdown() }
  at.driver_name, at.driver, at.no_driver = system.try(function() return match.driver_of(info) end)
  if not at.driver_name and match.stated(info) then -- it did not come to an end
    at.driver_name = match.stated(info)
    at.no_driver = match.load_failure(at.driver_name, at.no_driver)
  end
  if info.is_private then
    local maker = inspect.maker(info)
    say(maker == "QEMU" and "QEMU" or "model", "ok", ("%s runs: %s"):format(maker == "QEMU" and "it" or maker, info.address))
    if info.qemu then device.back_ends(say, at) end
    if info.vectors == 0 then say("interrupt", "note", maker .. " declares no interrupt") end
    device.luio_driver(say, at)
    device.vectors(say, at)
    return findings
  end
  if info.is_range then
    for _, check in ipairs { mem.range, mem.node, mem.lockdown, mem.strict, device.holders, mem.limits } do check(say, at) end
    return findings
  end
  at.config, message, code = inspect.config(info)
  if not at.config and code ~= "ENOTSUP" then at.config_problem = message end
  if info.can_bind and not info.uio then system.modules(say) end
  for _, check in ipairs {
    device.description, device.read_only, device.luio_driver, device.binding, device.node, device.holders, device.regions,
    device.interrupt, device.vectors, storm.check,
    device.power, system.permission, device.dma, device.rights, system.pins, system.hugepages,
  } do check(say, at) end
  return findings
end

local COLOUR = { ok = term.green, note = term.yellow, problem = term.red }
local MARK = 9 -- columns: "problem" and two spaces

--- Findings as lines. A remedy stays in one piece, to be copied: the terminal may break it, we don't.
---@param findings luio.Finding[]
---@param columns integer?  of the terminal
---@return string[] lines
---@return integer problems
function M.lines(findings, columns)
  local lines, problems = {}, 0
  for _, finding in ipairs(findings) do
    if finding.status == "problem" then problems = problems + 1 end
    local mark = COLOUR[finding.status](finding.status) .. (" "):rep(MARK - #finding.status)
    for _, line in ipairs(term.wrap(("%s: %s"):format(finding.check, finding.text), columns, (" "):rep(MARK), mark)) do
      table.insert(lines, line)
    end
    if finding.remedy then table.insert(lines, (" "):rep(MARK) .. term.dim("remedy: " .. finding.remedy)) end
  end
  return lines, problems
end

return M
