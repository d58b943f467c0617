--- The data of `luio info`, `luio list` and the prompt's info() and list(), for a device that is not
--- opened. From sysfs, config space and /proc; opens neither /dev/uioX nor a region, and changes nothing.

local device_vectors = require "luio.device.vectors"
local discovery = require "luio.host.discovery"
local inspect = require "luio.host.inspect"
local match = require "luio.driver.match"
local output = require "luio.tool.output"
local term = require "luio.text.term"

local M = {}

local LABEL = 14 -- columns
local NARROWEST = 20 -- columns of text beside it: a terminal with less cuts lines itself

-- Base classes: PCI Code and ID Assignment Specification, 1.
local CLASSES = {
  [0x00] = "unclassified", "storage", "network", "display", "multimedia", "memory", "bridge", "communication", "system", "input",
  "docking station", "processor", "serial bus", "wireless", "intelligent I/O", "satellite", "encryption", "signal processing",
  "accelerator", "instrumentation", [0x40] = "co-processor", [0xff] = "no class",
}

-- ---- Gathering -----------------------------------------------------------------------------------

-- Numbered tables as lists with the number in each entry: they may have gaps.
local function numbered(t, extra)
  local list = output.list()
  for i = 0, 15 do
    if t[i] then
      local entry = { index = i }
      for _, key in ipairs {
        "name", "kind", "addr", "size", "offset", "length", "at_open", "prefetchable", "is64", "map", "start", "porttype",
      } do
        entry[key] = t[i][key]
      end
      if extra then extra(entry) end
      table.insert(list, entry)
    end
  end
  return list
end

--- Everything, as plain data.
---@param info luio.Info
---@return table
function M.of(info)
  local all = {}
  for _, key in ipairs {
    "address", "uio", "uio_name", "uio_version", "event", "bus", "driver", "sysfs", "vendor", "device", "subvendor", "subdevice",
    "class", "revision", "vendor_name", "device_name", "irq", "numa_node", "incoherent", "vectors", "problem", "node", "has_sysfs",
    "has_config", "has_bars", "has_interrupts", "has_dma", "can_leave", "can_bind", "is_private", "is_range",
  } do all[key] = info[key] end
  if info.qemu then all.qemu = { arguments = info.qemu.arguments, wired_by = info.qemu.wired_by, added = output.list(info.qemu.added) } end
  all.compatible = output.list { unpack(info.compatible) }
  all.luio_driver, all.luio_driver_problem = match.stated(info)
  all.other_drivers = all.luio_driver and match.others(info, all.luio_driver)
  all.one_of = inspect.one_of(info)
  all.regions = numbered(inspect.regions(info), function(entry)
    entry.kind = entry.kind or "memory"
    entry.by = inspect.way(info, entry.index)
  end)
  all.maps, all.ports = numbered(info.maps), numbered(info.ports)
  local config, message, code = inspect.config(info)
  all.config = config
  if not config and code ~= "ENOTSUP" then all.config_problem = message end
  all.iommu = inspect.iommu(info)
  if all.iommu then all.iommu.devices = output.list(all.iommu.devices) end
  all.kinds = info.kinds or config and { intx = config.pin and 1 or 0, msi = config.msi or 0, msix = config.msix or 0 }
  local sleeps = config and config.answers and config.sleeps -- which may be more than the kernel knows
  all.power_state = sleeps and "D" .. sleeps or inspect.attribute(info, "power_state")
  all.uio_lines = info.uio and inspect.uio_lines(info)
  if all.uio_lines then output.list(all.uio_lines) end
  all.virtual = inspect.virtual(info)
  all.virtual = all.virtual[1] and output.list(all.virtual)
  local list, partial = require("luio.host.holders").of(info)
  all.holders, all.holders_partial = output.list(list), partial
  return all
end

-- ---- Showing -------------------------------------------------------------------------------------

-- One line "label  text", wrapped at words on a terminal; deeper lines begin below the text.
local function add(lines, label, text, columns)
  local width = columns and math.max(columns, LABEL + NARROWEST)
  for _, one in ipairs(term.wrap(text, width, (" "):rep(LABEL), term.pad(term.bold(label), LABEL))) do table.insert(lines, one) end
end

local function region(entry)
  local size = entry.length or entry.size
  local parts = {
    entry.at_open and ("DMA memory that opening allocates, 0x%x bytes (%s)"):format(size, output.size(size))
      or ("%s 0x%x+0x%x (%s)"):format(entry.kind == "port" and "I/O ports" or "memory",
        entry.length and entry.addr % 0x1000 == 0 and entry.addr + entry.offset or entry.addr, size, output.size(size)),
  }
  if entry.is64 then table.insert(parts, "64-bit") end
  if entry.prefetchable then table.insert(parts, "prefetchable") end
  if entry.by then table.insert(parts, "by " .. entry.by) end
  return table.concat(parts, ", ")
end

-- Where a UIO driver of its own may have taken any line, or none (UIO_IRQ_NONE), or brings events without one (UIO_IRQ_CUSTOM).
local function uio_interrupt(all)
  local lines = all.uio_lines
  if not lines then return ("by %s, if its UIO driver has one: this kernel does not show it"):format(all.uio) end
  if lines[1] then
    local shared = lines[2] and ", which another device of that name may have" or ""
    return ("by %s, line %s%s"):format(all.uio, table.concat(lines, " or "), shared)
  end
  if all.event > 0 then return ("by %s, whose UIO driver tells of events by itself: it has no line"):format(all.uio) end
  return "none: its UIO driver has no line, and has told of no event: poll"
end

local function interrupt(all)
  local config = all.config
  if all.vectors then return all.vectors == 0 and ("none: %s declares none"):format(inspect.maker(all)) or "by " .. inspect.maker(all) end
  if not all.has_interrupts then return ("none by %s: poll"):format(all.node) end
  local of_its_own = all.driver ~= "uio_pci_generic" -- not the pin's, as the header has it
  if all.uio and of_its_own then return uio_interrupt(all) end
  if not all.has_config then return "none known" end
  if config and config.physical then return "a virtual function has no INTx: poll, or use MSI-X by another driver" end
  if config and not config.pin then return "no INTx pin: poll, or use MSI by another driver" end
  if config and not all.irq and not config.messages and all.event == 0 then return config.pin .. ", which was given no line: poll" end
  local words = {}
  if config then table.insert(words, config.pin) end
  if all.irq then table.insert(words, "line " .. all.irq) end
  if config then table.insert(words, config.intx_disable and "masked (INTx disable is set)" or "not masked") end
  if config and config.messages then table.insert(words, config.messages .. " in its place") end
  return words[1] and table.concat(words, ", ") or "none known"
end

-- Those of a device that sends messages. By UIO they can't be had.
local function vectors(all)
  local kinds = all.kinds
  local can = all.is_private and inspect.maker(all) == "QEMU"
  if not kinds or not can and all.is_private or kinds.msi + kinds.msix == 0 then return nil end
  local text = device_vectors.describe(kinds)
  return can and text .. ": --vectors asks for them" or text .. "; by UIO INTx alone"
end

local function iommu(look_at)
  if not look_at then return "none for it: DMA uses physical addresses" end
  local others = #look_at.devices - 1
  return ("group %d, %s%s"):format(look_at.group, look_at.type == "identity" and "identity: addresses pass through"
    or look_at.type and look_at.type .. ": it translates" or "its type can't be read",
    others > 0 and ("; %s in it"):format(output.count(others, "other device")) or "")
end

local function class(all)
  local base = CLASSES[math.floor(all.class / 0x10000)]
  return ("0x%06x%s"):format(all.class, base and ", " .. base or "")
end

--- As lines.
---@param all table         of M.of
---@param columns integer?  of the terminal
---@return string[]
function M.lines(all, columns)
  local lines = {}
  local function say(label, text) add(lines, label, text, columns) end
  say("address", all.address)
  if all.vendor then
    say("id", ("%04x:%04x, subsystem %04x:%04x, revision 0x%02x"):format(
      all.vendor, all.device, all.subvendor, all.subdevice, all.revision))
    say("class", class(all))
  end
  local name = table.concat({ all.vendor_name or "", all.device_name or "" }, " "):match "^%s*(.-)%s*$"
  if name ~= "" then say("name", name) end
  if all.compatible[1] then say("compatible", table.concat(all.compatible, " ")) end
  if all.bus ~= "" then say("bus", all.bus) end
  if not all.is_private then
    say("kernel driver", all.driver or "none")
  end
  if all.config and all.config.physical then say("virtual", "a function of " .. all.config.physical) end
  if all.virtual then say("virtual", ("%s: %s"):format(output.count(#all.virtual, "function"), table.concat(all.virtual, " "))) end
  if all.is_range then
    say("/proc/iomem", all.maps[1].name ~= "" and all.maps[1].name or "nothing that has all of it")
  elseif all.has_sysfs then
    say("uio", all.uio and ("%s, %s, version %s, %s so far%s"):format(all.uio, all.uio_name or "no name",
      all.uio_version or "unknown", output.count(all.event, "interrupt"), all.one_of and "; " .. all.one_of or "")
      or all.can_bind and "none: luio bind " .. all.address or "none")
  end
  if not all.is_range then
    say("luio driver", (all.luio_driver_problem or all.luio_driver) .. (all.other_drivers and "; " .. all.other_drivers or ""))
  end
  if all.qemu then
    say("QEMU", table.concat(all.qemu.arguments, " ") .. (all.qemu.wired_by and (" (%s)"):format(all.qemu.wired_by) or ""))
  end
  for _, entry in ipairs(all.regions) do say("region " .. entry.index, region(entry)) end
  if all.has_bars then
    for _, m in ipairs(all.maps) do
      local from = m.offset > 0 and (", starts at 0x%x"):format(m.offset) or ""
      say("map " .. m.index, ("0x%x+0x%x%s %s"):format(m.addr, m.size, from, m.name))
    end
  end
  for _, p in ipairs(all.ports) do
    say("ports " .. p.index, ("0x%x+0x%x %s %s"):format(p.start, p.size, p.porttype, p.name))
  end
  say("interrupt", interrupt(all))
  local kinds = vectors(all)
  if kinds then say("vectors", kinds) end
  if all.config then
    local c = all.config
    local memory = c.memory == nil and "unknown (root sees it)" or c.memory and "on" or "off"
    say("command", c.answers and ("0x%04x: memory %s, ports %s, bus master %s"):format(c.command,
      c.physical and ("%s by %s"):format(memory, c.physical) or memory,
      c.ports and "on" or "off", c.bus_master and "on" or "off") or "all ones: the device does not answer")
  elseif all.config_problem then
    say("command", "can't be read: " .. all.config_problem)
  end
  if all.has_config and all.sysfs then say("IOMMU", iommu(all.iommu)) end
  if all.numa_node then say("NUMA node", tostring(all.numa_node)) end
  if all.power_state and all.power_state ~= "unknown" then say("power", all.power_state) end
  for _, holder in ipairs(all.holders) do say("held by", require("luio.host.holders").describe(holder)) end
  if not all.holders[1] and not all.is_private then
    say("held by", all.holders_partial and "nobody that this user can see (root sees all)" or "nobody")
  end
  if all.sysfs then say("sysfs", all.sysfs) end
  if all.problem then say("problem", all.problem) end
  return lines
end

-- ---- All of them ---------------------------------------------------------------------------------

--- Every UIO device, and every PCI device that could become one, with the driver of ours that matches.
---@return luio.Info[]?
---@return string? message
---@return string? code
function M.devices()
  local infos, message, code = discovery.list()
  if not infos then return nil, message, code end
  for _, info in ipairs(infos) do
    local name, fault = match.stated(info)
    info.luio_driver, info.luio_driver_problem = name, name and fault
  end
  return infos
end

local function describe(info)
  local name = table.concat({ info.vendor_name or "", info.device_name or "" }, " "):match "^%s*(.-)%s*$"
  if name == "" then name = info.compatible[1] or not info.has_config and info.uio_name or "" end
  return info.problem and ("%s [%s]"):format(name, info.problem) or name
end

--- The same as rows of a table (luio.tool.output).
---@param infos luio.Info[]
---@return string[][]
function M.rows(infos)
  local rows = { { "ADDRESS", "UIO", "ID", "KERNEL DRIVER", "LUIO DRIVER", "DEVICE" } }
  for _, info in ipairs(infos) do
    table.insert(rows, {
      info.address,
      info.uio or "-",
      info.vendor and ("%04x:%04x"):format(info.vendor, info.device) or "-",
      info.driver or "-",
      info.luio_driver and info.luio_driver .. (info.luio_driver_problem and " (does not load)" or "") or "-",
      describe(info),
    })
  end
  return rows
end

return M
