--- Reads a flattened device tree (Devicetree Specification 0.4, chapter 5): its nodes, and of those that are devices what the
--- kernel would tell UIO: registers, names, interrupt.
---
--- QEMU writes the tree for a kernel; its text is checked all the same, for a machine's memory may have been written by others.

local bit = require "bit"

local M = {}

local MAGIC = 0xd00dfeed
local BEGIN_NODE, END_NODE, PROP, NOP, END = 1, 2, 3, 4, 9
local MAX_DEPTH = 64
local MAX_WIDTH = 3 -- words of a number: PCI's addresses have three

---@class luio.TreeNode
---@field name string                     "pl031@9010000"; "" of the root
---@field parent luio.TreeNode?
---@field properties table<string, string>  their bytes
---@field children luio.TreeNode[]

-- ---- The flattened form --------------------------------------------------------------------------

local function u32(text, at)
  local a, b, c, d = text:byte(at + 1, at + 4)
  if not d then error("it ends too soon", 0) end
  return ((a * 256 + b) * 256 + c) * 256 + d
end

local function until_nul(text, at)
  local stop = text:find("\0", at + 1, true)
  if not stop then error("a name does not end", 0) end
  return text:sub(at + 1, stop - 1), stop
end

local function aligned(at) return math.ceil(at / 4) * 4 end

local function parse(text)
  if u32(text, 0) ~= MAGIC then error("it does not begin with 0xd00dfeed", 0) end
  local at, strings = u32(text, 8), u32(text, 12)
  local root, node, depth = nil, nil, 0
  while true do
    local token = u32(text, at)
    at = at + 4
    if token == BEGIN_NODE then
      local name, stop = until_nul(text, at)
      local child = { name = name, parent = node, properties = {}, children = {} }
      depth = depth + 1
      if depth > MAX_DEPTH or root and not node then error("its nodes are not one tree", 0) end
      if node then table.insert(node.children, child) end
      root, node, at = root or child, child, aligned(stop)
    elseif token == END_NODE and node then
      node, depth = node.parent, depth - 1
    elseif token == PROP and node then
      local size, name = u32(text, at), until_nul(text, strings + u32(text, at + 4))
      if at + 8 + size > #text then error("it ends too soon", 0) end
      node.properties[name] = text:sub(at + 9, at + 8 + size)
      at = aligned(at + 8 + size)
    elseif token == END and root and not node then
      return root
    elseif token ~= NOP then
      error(("there is no token 0x%x"):format(token), 0)
    end
  end
end

--- The tree's root.
---@param text string
---@return luio.TreeNode? root
---@return string? message
---@return string? code  "EINVAL"
function M.parse(text)
  local ok, root = pcall(parse, text)
  if not ok then return nil, "device tree: " .. root, "EINVAL" end
  return root
end

-- ---- Properties ----------------------------------------------------------------------------------

--- A property's words. None: it is not there, or has no whole words.
---@param node luio.TreeNode
---@param name string
---@return integer[]
function M.cells(node, name)
  local text, cells = node.properties[name] or "", {}
  if #text % 4 ~= 0 then return cells end
  for at = 0, #text - 4, 4 do table.insert(cells, u32(text, at)) end
  return cells
end

--- A property's strings.
---@param node luio.TreeNode
---@param name string
---@return string[]
function M.strings(node, name)
  local found = {}
  for text in (node.properties[name] or ""):gmatch "[^%z]+" do table.insert(found, text) end
  return found
end

-- A number of `width` words. Exact below 2^53.
local function number(cells, at, width)
  local value = 0
  for i = at, at + width - 1 do value = value * 2 ^ 32 + cells[i] end
  return value
end

-- What it says of its children's addresses and sizes, in words. nil: no entry can be read.
local function widths(node)
  local address, size = M.cells(node, "#address-cells")[1] or 2, M.cells(node, "#size-cells")[1] or 1
  if address < 1 or address > MAX_WIDTH or size > MAX_WIDTH then return nil end
  return address, size
end

-- An address on a node's bus as the processor has it. nil: it has none there.
local function translate(bus, addr)
  while bus.parent do
    if not bus.properties.ranges then return nil end
    local ranges = M.cells(bus, "ranges")
    local child, size = widths(bus)
    local parent = widths(bus.parent)
    if not child or not parent then return nil end
    local found = #ranges == 0 and addr or nil
    for at = 1, #ranges - child - parent - size + 1, child + parent + size do
      local first, length = number(ranges, at, child), number(ranges, at + child + parent, size)
      if addr >= first and addr - first < length then found = number(ranges, at + child, parent) + addr - first end
    end
    if not found then return nil end
    bus, addr = bus.parent, found
  end
  return addr
end

--- The ranges of a node's `reg` that the processor reaches.
---@param node luio.TreeNode
---@return { addr: integer, size: integer }[]
function M.registers(node)
  local found = {}
  if not node.parent then return found end
  local reg, address, size = M.cells(node, "reg"), widths(node.parent)
  if not address or size == 0 then return found end -- 0: a processor's number, say
  for at = 1, #reg - address - size + 1, address + size do
    local addr = translate(node.parent, number(reg, at, address))
    if addr then table.insert(found, { addr = addr, size = number(reg, at + address, size) }) end
  end
  return found
end

-- ---- Interrupts ----------------------------------------------------------------------------------

local SHARED = 0 -- GIC: an interrupt of the whole machine, not one of a processor's own
local EDGES = 3 -- rising, falling

local function by_phandle(node, phandle)
  if M.cells(node, "phandle")[1] == phandle then return node end
  for _, child in ipairs(node.children) do
    local found = by_phandle(child, phandle)
    if found then return found end
  end
end

local function interrupt_parent(root, node)
  while node do
    local phandle = M.cells(node, "interrupt-parent")[1]
    if phandle then return by_phandle(root, phandle) end
    node = node.parent
  end
end

--- The first interrupt of a node below ARM's interrupt controller.
---@param root luio.TreeNode
---@param node luio.TreeNode
---@return integer? line  shared peripheral interrupt, from 0; nil: it has none
---@return boolean? edge  a rising edge, not a level
function M.interrupt(root, node)
  local cells, parent = M.cells(node, "interrupts"), interrupt_parent(root, node)
  if #cells < 3 or not parent or M.cells(parent, "#interrupt-cells")[1] ~= 3 or cells[1] ~= SHARED then return nil end
  return cells[2], bit.band(cells[3], EDGES) ~= 0
end

-- ---- Devices -------------------------------------------------------------------------------------

---@class luio.TreeDevice
---@field node luio.TreeNode
---@field name string          the node's: "pl031@9010000"
---@field compatible string[]
---@field registers { addr: integer, size: integer }[]
---@field line integer?
---@field edge boolean?

local function collect(root, node, found)
  local compatible, registers = M.strings(node, "compatible"), M.registers(node)
  local status = M.strings(node, "status")[1]
  if compatible[1] and registers[1] and (not status or status == "okay" or status == "ok") then
    local line, edge = M.interrupt(root, node)
    table.insert(found, { node = node, name = node.name, compatible = compatible, registers = registers, line = line, edge = edge })
  end
  for _, child in ipairs(node.children) do collect(root, child, found) end
  return found
end

--- The nodes that have a name of hardware, and registers.
---@param root luio.TreeNode
---@return luio.TreeDevice[]  by name
function M.devices(root)
  local found = collect(root, root, {})
  table.sort(found, function(a, b) return a.name < b.name end)
  return found
end

--- The name without its unit address.
---@param name string
---@return string
function M.base(name) return (name:match "^[^@]*") end

--- The devices that a name means: a node's whole name, what is before its "@", or a compatible string, whole or after its comma.
---@param devices luio.TreeDevice[]
---@param name string
---@return luio.TreeDevice[]
function M.named(devices, name)
  local whole, part, hardware = {}, {}, {}
  for _, device in ipairs(devices) do
    if device.name == name then table.insert(whole, device) end
    if M.base(device.name) == name then table.insert(part, device) end
    for _, text in ipairs(device.compatible) do
      if text == name or text:match "^[^,]*,(.*)$" == name then
        table.insert(hardware, device)
        break
      end
    end
  end
  return whole[1] and whole or part[1] and part or hardware
end

return M
