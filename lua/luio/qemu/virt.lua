--- ARM's board `virt` of QEMU: `qemu:virt/pl031`. Its devices are on no bus that could be searched; QEMU writes a device tree for the
--- kernel to the start of the memory, and that is where this module finds them. What the tree does not have is asked of -device, as on
--- a PC: `qemu:virt/edu` is a PCI device of this board.

local ffi = require "ffi"
local process = require "luio.host.process"
local runtime = require "luio.ffi"
local tree = require "luio.qemu.device_tree"
local C, err = runtime.C, runtime.err

local M = {
  PROGRAM = "qemu-system-aarch64", MACHINE = "virt",
}

local PAGE = 4096

-- ---- The board -----------------------------------------------------------------------------------

local CONTROLLERS = { ["child<arm_gic>"] = true, ["child<arm-gicv3>"] = true }

-- The interrupt controller's path: it has no name of its own there.
local function controller(qmp)
  local folder = "/machine/unattached"
  local entries, message, code = qmp:command_now("qom-list", { path = folder })
  if not entries then return nil, message, code end
  for _, entry in ipairs(entries) do
    if CONTROLLERS[entry.type] then return folder .. "/" .. entry.name end
  end
  return nil, "QEMU's board virt has no interrupt controller that luio knows: arm_gic, arm-gicv3", "ENOTSUP"
end

-- Words of an entry of PCI's `ranges`: three of a PCI address, two of the processor's, two of the size.
local PORTS, MEMORY, MEMORY64 = 1, 2, 3
local FIRST_PORT = 0x1000

local function describe_pci(board, root)
  for _, node in ipairs(root.children) do
    if tree.strings(node, "compatible")[1] == "pci-host-ecam-generic" then
      board.ecam = tree.registers(node)[1].addr
      local cells = tree.cells(node, "ranges")
      for at = 1, #cells - 6, 7 do
        local kind, first = math.floor(cells[at] / 2 ^ 24) % 4, cells[at + 1] * 2 ^ 32 + cells[at + 2]
        local here, size = cells[at + 3] * 2 ^ 32 + cells[at + 4], cells[at + 5] * 2 ^ 32 + cells[at + 6]
        if kind == PORTS then
          board.ports = here - first
          board.io.first, board.io.last = math.max(first, FIRST_PORT), first + size - 1
        elseif here == first then
          local window = kind == MEMORY64 and board.prefetch or kind == MEMORY and board.memory
          if window then window.first, window.last = first, first + size - 1 end
        end
      end
      if board.prefetch.last == 0 then board.prefetch = board.memory end
    end
  end
end

--- Reads a machine's tree, and tells the runtime what it says of the board.
---@param machine ffi.cdata*  luio_qemu
---@param qmp luio.Qmp
---@return luio.TreeDevice[]? devices
---@return string? message
---@return string? code
function M.describe(machine, qmp)
  local size = ffi.new "uint64_t[1]"
  local text = C.luio_qemu_tree(machine, size)
  if text == nil then return nil, "QEMU has written no device tree to the start of its memory", "EPROTO" end
  local root, message, code = tree.parse(ffi.string(text, tonumber(size[0])))
  if not root then return nil, message, code end
  local path
  path, message, code = controller(qmp)
  if not path then return nil, message, code end
  local board = ffi.new "luio_qemu_board"
  board.interrupts = path
  describe_pci(board, root)
  if C.luio_qemu_describe(machine, board, err) < 0 then return runtime.failure() end
  return tree.devices(root)
end

-- ---- Devices -------------------------------------------------------------------------------------

--- What the board has, for `luio list --qemu`. Starts a machine, which ends again.
---@param open fun(text: string): luio.Device?, string?, string?  luio.qemu's
---@return luio.QemuOffer[]? offers  by name; of several of a name the first. nil: this QEMU is not installed
---@return string? message
---@return string? code
function M.offers(open)
  if not process.find(M.PROGRAM) then return nil, M.PROGRAM .. " is not installed", "ENOENT" end
  local dev, message, code = open "virt/intc" -- which is always there
  if not dev then return nil, message, code end
  local offers, of = {}, {}
  for _, found in ipairs(dev.qemu.tree) do
    local base = tree.base(found.name)
    if of[base] then
      of[base].several = (of[base].several or 1) + 1
      of[base].name = of[base].first
    else
      of[base] = { name = "virt/" .. base, first = "virt/" .. found.name, category = "ARM board", compatible = found.compatible }
      table.insert(offers, of[base])
    end
  end
  dev:close()
  for _, offer in ipairs(offers) do
    offer.description = table.concat(offer.compatible, " ") .. (offer.several and (" (%d of them)"):format(offer.several) or "")
    offer.first = nil
  end
  return offers
end

-- "flash, pl031, virtio_mmio (32: virtio_mmio@a000000, …)"
local function names(devices)
  local count, first, order = {}, {}, {}
  for _, device in ipairs(devices) do
    local base = tree.base(device.name)
    if not count[base] then table.insert(order, base) end
    count[base], first[base] = (count[base] or 0) + 1, first[base] or device.name
  end
  for i, base in ipairs(order) do
    if count[base] > 1 then order[i] = ("%s (%d: %s, ...)"):format(base, count[base], first[base]) end
  end
  return table.concat(order, ", ")
end

--- The device that a name means.
---@param devices luio.TreeDevice[]
---@param name string
---@return luio.TreeDevice?
---@return string? message
---@return string? code  "ENODEV": there is none; "EINVAL": there are several
function M.find(devices, name)
  local found = tree.named(devices, name)
  if #found == 1 then return found[1] end
  if #found == 0 then return nil, ("its device tree has no %s, only %s"):format(name, names(devices)), "ENODEV" end
  local all = {}
  for i, device in ipairs(found) do all[i] = device.name end
  return nil, ("its device tree has %d of that name: %s"):format(#found, table.concat(all, ", ")), "EINVAL"
end

local function copy(to, text) ffi.copy(to, text:sub(1, ffi.sizeof(to) - 1)) end

--- Opens a device of the tree.
---@param machine ffi.cdata*
---@param found luio.TreeDevice
---@param address string  for people
---@param flags integer
---@return ffi.cdata*? handle
---@return string? place  its node; or the message
---@return string? code
function M.open(machine, found, address, flags)
  local info, handle = ffi.new "luio_info", ffi.new "luio_device *[1]"
  copy(info.address, address)
  copy(info.uio_name, tree.base(found.name))
  copy(info.bus, "platform")
  copy(info.driver, "qemu")
  copy(info.compatible, table.concat(found.compatible, " "))
  for i, range in ipairs(found.registers) do
    if i > C.LUIO_MAX_MAPS then break end
    local map, offset = info.maps[i - 1], range.addr % PAGE
    map.present, map.addr, map.offset, map.length = 1, range.addr - offset, offset, range.size
    map.size = math.ceil((offset + range.size) / PAGE) * PAGE
    info.n_maps = i
  end
  if C.luio_device_open_qemu_node(machine, info, found.line or -1, found.edge and 1 or 0, flags, handle, err) < 0 then
    return runtime.failure()
  end
  return handle[0], found.name
end

return M
