--- `luio list`: every UIO device, and every PCI device that could become one. Opens nothing. `luio list --qemu`: what QEMU offers, on
--- PCI and on its ARM board.

local report = require "luio.host.report"
local match = require "luio.driver.match"
local output = require "luio.tool.output"

local function note(text)
  require("luio.tool.cli.common").note(text) -- it loads what only commands on registers need
end

-- QEMU tells a device's ids only where it has made that device, so the driver is one whose qemu.lua names it.
local function qemu(args)
  local devices, message, code = require("luio.qemu.catalog").devices()
  local board, why, why_code = require("luio.qemu.virt").offers(require("luio.qemu").open)
  if not board and why_code ~= "ENOENT" then note(why) end
  if not devices and not board then return nil, message, code end
  if not devices then note(message) end
  devices = devices or {}
  for i, device in ipairs(board or {}) do table.insert(devices, i, device) end
  local drivers, problems = require("luio.qemu.folders").drivers()
  for _, problem in ipairs(problems) do note(problem) end
  local rows = { { "DEVICE", "KIND", "LUIO DRIVER", "DESCRIPTION" } }
  for _, device in ipairs(devices) do
    device.address = "qemu:" .. device.name
    local by_match = device.compatible and match.stated { address = device.address, compatible = device.compatible }
    device.luio_driver = by_match or drivers[device.name]
    local also = device.alias and "also qemu:" .. device.alias
    local description = device.description and also and ("%s; %s"):format(device.description, also) or device.description or also or ""
    table.insert(rows, { device.address, device.category or "-", device.luio_driver or "-", description })
  end
  if args.json then output.json(output.list(devices)) else output.table(rows) end
  return 0
end

local function run(args)
  if args.of_qemu then return qemu(args) end
  local infos, message, code = report.devices()
  if not infos then return nil, message, code end
  for _, entry in ipairs(match.all()) do
    local fault = match.fault_of(entry)
    if fault then
      note(fault)
    elseif entry.unclear then
      note(("only running drivers/%s would tell its match (%s): it is left out here"):format(entry.name, entry.unclear))
    end
  end
  if args.json then output.json(infos) else output.table(report.rows(infos)) end
  return 0
end

return {
  list = {
    flags = { ["--qemu"] = true },
    options = function(p)
      p:flag("--qemu", "List the devices that the installed QEMU offers instead, and the drivers for them."):target "of_qemu"
      p:flag("--json", "Print JSON.")
      p:epilog "Example: luio list\n         luio list --qemu"
    end,
    run = run,
  },
}
