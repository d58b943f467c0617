--- Register maps at random, as tables and as text, and which of their bytes are disturbed by reading. That is computed
--- here from the original tables, without code of luio's.

local M = {}

---@param seed integer
---@return fun(n: integer): integer  0 .. n - 1
function M.random(seed)
  return function(n)
    seed = (seed * 1103515245 + 12345) % 2 ^ 31
    return math.floor(seed / 2 ^ 31 * n)
  end
end

local WIDTHS = { 8, 8, 16, 32, 32, 64 }
local ACCESS = { "rw", "rw", "rw", "ro", "ro", "wo", "w1c", "wonce" }

-- A register whose read disturbs, by its own statement, by its access or by a field.
local function add_effect(spec, random)
  local how = random(4)
  if how == 0 then spec[3] = random(2) == 0 and "rc" or "rs"
  elseif how == 1 then spec.LATCH = { 1, 0, access = "rc" }
  elseif how == 2 then spec.LATCH = { 1, read_effect = "lets it go" }
  else spec.read_effect = "pops the FIFO" end
end

-- By name: a seed makes the same map each time.
local function sorted(t)
  local names, i = {}, 0
  for name in pairs(t) do table.insert(names, name) end
  table.sort(names)
  return function()
    i = i + 1
    return names[i], t[names[i]]
  end
end

-- Overlapping elements of one block must be stated an alias, or be an array, which may interleave on purpose.
local function add(specs, name, spec)
  for other, o in sorted(specs) do
    if not o.count and not o.block and not o.alias and spec[1] < o[1] + o[2] / 8 and o[1] < spec[1] + spec[2] / 8 then
      if o[1] == spec[1] and o.region == spec.region then spec.alias = spec.alias or other else spec.alone = true end
    end
  end
  if spec.alone then spec.alone, spec.alias, spec.count = nil, nil, 1 end
  specs[name] = spec
end

local function register(random, size)
  local width = WIDTHS[random(#WIDTHS) + 1]
  local bytes = width / 8
  local spec = { random(size / bytes) * bytes, width, ACCESS[random(#ACCESS) + 1] }
  if random(4) == 0 then
    spec.count, spec.stride = 1 + random(4), bytes * (1 + random(3))
    if spec[1] + spec.count * spec.stride > size then spec.count, spec.stride = nil, nil end
  end
  return spec
end

local function block(random, size, depth)
  local specs = {}
  for i = 1, 2 + random(7) do
    local name = ("R%d"):format(i)
    if depth < 3 and random(4) == 0 then
      local inner = 8 * 2 ^ random(3)
      local count = 1 + random(3)
      if inner * count <= size then
        local spec = { random((size - inner * count) / 8 + 1) * 8, block = block(random, inner, depth + 1) }
        if count > 1 or random(2) == 0 then spec.count, spec.stride = count, inner end
        specs["B" .. i] = spec
      end
    else
      local spec = register(random, size)
      if random(3) == 0 then add_effect(spec, random) end
      add(specs, name, spec)
    end
  end
  return specs
end

--- A map of up to so many bytes, as luio.registers takes it.
---@param random fun(n: integer): integer
---@param size integer
---@return table
function M.map(random, size)
  local specs = block(random, size, 1)
  for _, spec in sorted(specs) do
    if spec.block and random(4) == 0 then spec.region = 2 end -- another region's
  end
  return specs
end

--- A map with a window whose contents depend on a selector, in two parts: the registers that are always visible, and those of
--- the window, by the selector's value.
---@param random fun(n: integer): integer
---@param size integer
---@param selector integer  its offset, a byte behind what the map has else
---@return table specs
---@return table<integer, table> pages  a block each
function M.paged(random, size, selector)
  local window = size / 4
  local specs, pages = block(random, size / 2, 2), {}
  specs.PAGE = { selector, 8, SELECT = { 1, 0 }, ON = { 7 } }
  for page = 0, 3 do
    local when = random(2) == 0 and { PAGE = page } or { ["PAGE.SELECT"] = page, ["PAGE.ON"] = 0 }
    pages[page] = { size / 2, when = when, block = block(random, window, 2) }
  end
  return specs, pages
end

--- The result of M.paged, as one map.
---@param specs table
---@param pages table<integer, table>
---@return table
function M.join(specs, pages)
  local map = {}
  for name, spec in pairs(specs) do map[name] = spec end
  for page, spec in pairs(pages) do map["W" .. page] = spec end
  return map
end

local function disturbs(spec)
  if spec.read_effect or spec[3] == "rc" or spec[3] == "rs" then return true end
  for key, field in pairs(spec) do
    if type(key) == "string" and key:find "^%u" and (field.read_effect or field.access == "rc" or field.access == "rs") then return true end
  end
  return false
end

--- Adds the bytes of a map whose reading disturbs.
---@param specs table
---@param bytes table<integer, table<integer, boolean>>  region -> offset
function M.mark(specs, bytes)
  local function walk(list, base, region)
    for _, spec in pairs(list) do
      for i = 0, (spec.count or 1) - 1 do
        local at, where = base + (spec[1] or 0) + i * (spec.stride or 0), spec.region or region
        if spec.block then
          walk(spec.block, at, where)
        elseif disturbs(spec) then
          for byte = 0, spec[2] / 8 - 1 do bytes[where][at + byte] = true end
        end
      end
    end
  end
  walk(specs, 0, 0)
end

--- A table as Lua.
---@param t any
---@return string
function M.text(t)
  if type(t) ~= "table" then return type(t) == "string" and ("%q"):format(t) or tostring(t) end
  local parts = {}
  for key, value in pairs(t) do
    table.insert(parts, ("[%s] = %s"):format(type(key) == "string" and ("%q"):format(key) or key, M.text(value)))
  end
  return "{ " .. table.concat(parts, ", ") .. " }"
end

-- ---- As vendors describe chips --------------------------------------------------------------------

local READ_ACTIONS = { "clear", "set", "modify", "modifyExternal" }

local function svd_dim(random, name, bytes, room)
  if random(3) > 0 then return name, "", { 0 } end
  local count, increment = 1 + random(3), bytes * (1 + random(2))
  if (count - 1) * increment + bytes > room then return name, "", { 0 } end
  local places = {}
  for i = 1, count do places[i] = (i - 1) * increment end
  return name .. (random(2) == 0 and "%s" or "[%s]"), ("<dim>%d</dim><dimIncrement>%d</dimIncrement>"):format(count, increment), places
end

-- Registers of a peripheral or a cluster, in bytes at `bases`; `mark(offset)` is called for bytes that reading disturbs.
local function svd_registers(random, size, bases, depth, mark)
  local xml = {}
  for i = 1, 2 + random(5) do
    if depth < 3 and random(4) == 0 then
      local inner = math.min(8 * (1 + random(3)), size)
      local offset = random((size - inner) / 8 + 1) * 8
      local name, dim, places = svd_dim(random, "C" .. i, inner, size - offset)
      local at = {}
      for _, base in ipairs(bases) do
        for _, more in ipairs(places) do table.insert(at, base + offset + more) end
      end
      table.insert(xml, ("<cluster><name>%s</name>%s<addressOffset>%d</addressOffset>%s</cluster>"):format(name, dim, offset,
        svd_registers(random, inner, at, depth + 1, mark)))
    else
      local width = WIDTHS[random(5) + 1] -- up to 32
      local bytes = width / 8
      local offset = random(size / bytes) * bytes
      local name, dim, places = svd_dim(random, "R" .. i, bytes, size - offset)
      local effect, field = random(3) == 0 and ("<readAction>%s</readAction>"):format(READ_ACTIONS[random(4) + 1]), ""
      if effect and random(2) == 0 then
        field, effect = ("<fields><field><name>F</name><bitRange>[1:0]</bitRange>%s</field></fields>"):format(effect), ""
      end
      for _, base in ipairs(effect and bases or {}) do
        for _, more in ipairs(places) do
          for byte = 0, bytes - 1 do mark(base + offset + more + byte) end
        end
      end
      table.insert(xml, ("<register><name>%s</name>%s<addressOffset>%d</addressOffset><size>%d</size>%s%s</register>"):format(name, dim,
        offset, width, effect or "", field))
    end
  end
  return table.concat(xml)
end

--- Peripherals of a chip as CMSIS-SVD, some at one address.
---@param random fun(n: integer): integer
---@param bytes table<integer, table<integer, boolean>>  region -> offset: those that reading disturbs are added
---@return string xml
function M.svd(random, bytes)
  local xml = {}
  for i, base in ipairs { 0, 0, 0x40, 0x40 } do
    table.insert(xml, ("<peripheral><name>P%d</name><baseAddress>%d</baseAddress>%s<registers>%s</registers></peripheral>"):format(i, base,
      i == 2 and "<alternatePeripheral>P1</alternatePeripheral>" or "",
      svd_registers(random, 0x40 * (1 + random(2)), { base }, 1, function(at) bytes[0][at] = true end)))
  end
  return table.concat(xml)
end

--- Takes the statement of one register's side effect out of a map; as an overlay that puts it back, where one was found.
---@param specs table
---@return table? patches
function M.to_overlay(specs)
  for name, spec in sorted(specs) do
    if spec.block then
      local inner = M.to_overlay(spec.block)
      if inner then return { [name] = { block = inner } } end
    elseif spec.read_effect then
      local effect = spec.read_effect
      spec.read_effect = nil
      return { [name] = { read_effect = effect } }
    end
  end
end

return M
