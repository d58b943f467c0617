--- A register map with no device: the output of `luio dump --map FILE`, and the session of `luio explore --map
--- FILE`.
---
--- A register, a block or an array is then its definition: printed, it is the text of `?NAME`. The session has the parts that
--- the prompt asks of luio.Session; `dev`, and everything that would reach the device, raises an error that says how to name one.

local candidates = require "luio.tool.explore.candidates"
local explain = require "luio.tool.explore.explain"
local maps = require "luio.driver.maps"
local near = require "luio.registers.near"
local output = require "luio.tool.output"
local place = require "luio.tool.explore.place"
local term = require "luio.text.term"
local verbs = require "luio.registers.verbs"

local M = {}

local function no_device(command, map)
  return ("there is no device, only a map: luio %s DEVICE --map %s (luio list shows devices)"):format(command, map)
end

-- ---- As a datasheet ------------------------------------------------------------------------------

-- Adds the paths of all definitions of a map or in a block to a list, or of those that match a pattern, which has no indices.
local function add_all(list, block, prefix, pattern)
  explain.each(block, function(path)
    if not pattern or (path:gsub("%[%*%]", "") .. "."):find(pattern) then table.insert(list, (path:gsub("%[%*%]$", ""))) end
  end, prefix)
  return list
end

--- The definitions of a map, or of places in it, as text.
---@param map luio.Map
---@param places string[]   as of luio.tool.explore.place, by name; none: all
---@param source string     the map, for messages
---@param columns integer?  80
---@return string[]? lines
---@return string? message
---@return string? code
function M.lines(map, places, source, columns)
  columns = columns or 80
  local env, lines, paths = { regs = { map = map } }, {}, {}
  for _, text in ipairs(places) do
    local p, message, code = place.parse(text)
    if not p then return nil, message, code end
    if p.kind ~= "name" then return nil, ("%s: %s"):format(text, no_device("dump", source)), "ENODEV" end
    local found = p.pattern and add_all({}, map, "", place.matcher((p.path:gsub("%[[%d*?]*%]", "")))) or { p.path }
    if not found[1] then return nil, ("%s: no register of %s is called so"):format(text, source), "ENOENT" end
    for _, path in ipairs(found) do table.insert(paths, path) end
    local def = not p.pattern and (candidates.follow(map, p.path) or candidates.follow(map, p.path .. "[0]"))
    if def and def.kind == "block" then
      add_all(paths, def, p.path .. (def.count and not p.path:find "%]$" and "[*]." or "."))
    end
  end
  if not places[1] then
    lines[1] = ("%s, %s"):format(source, output.count(map.total, "register"))
    if map.description then
      for _, line in ipairs(term.wrap(map.description:gsub("%s+", " "), columns, "  ")) do table.insert(lines, line) end
    end
    add_all(paths, map, "")
  end
  for _, path in ipairs(paths) do
    local text, message, code = explain.name(env, path, { width = columns })
    if not text then return nil, message, code end
    if lines[1] then table.insert(lines, "") end
    for line in (text .. "\n"):gmatch "(.-)\n" do table.insert(lines, line) end
  end
  return lines
end

-- ---- As a session --------------------------------------------------------------------------------

-- Any access but to its own contents raises the reason why there is no device.
local function nothing(why, holds)
  local function refuse() error(why, 0) end
  return setmetatable(holds or {}, { __index = refuse, __newindex = refuse, __call = refuse, __tostring = function() return why end })
end

local function thing(root, def, path, array)
  local register = def.kind == "register" and not array
  local class = register and verbs.class(def, false).plain or {}
  local prepared = register and verbs.prepare(def) or nil
  return setmetatable({ def = def, path = path, count = array and def.count or nil, prepared = prepared }, {
    __index = function(_, key)
      if array then
        if type(key) ~= "number" or key % 1 ~= 0 or key < 0 or key >= def.count then
          error(("%s has elements 0 to %d, not %s"):format(path, def.count - 1, tostring(key)), 2)
        end
        return thing(root, def, ("%s[%d]"):format(path, key))
      end
      local child = def.child and def.child[key]
      if child then return thing(root, child, (path ~= "" and path .. "." or "") .. key, child.count ~= nil) end
      if key == "decode" or key == "encode" then return class[key] end -- of values, not of a device
      if class[key] or path == "" and key ~= nil and not tostring(key):find "^%u" then
        error(root.why, 0)
      end
      error(("%s has no %s%s"):format(path == "" and "the map" or path, tostring(key), near.hint(tostring(key), def.child or def.field)), 2)
    end,
    __newindex = function() error(root.why, 0) end,
    __tostring = function()
      if path ~= "" then return (explain.name({ regs = { map = root.map } }, path, { width = output.columns() })) end
      return table.concat(assert(M.lines(root.map, {}, root.source, output.columns())), "\n")
    end,
  })
end

--- A session without a device.
---@param name string  of the map, as luio.driver.maps.load takes it
---@return luio.ReplSession?
---@return string? message
---@return string? code
function M.session(name)
  local map, message, code = maps.load(name)
  if not map then return nil, message, code end
  local why = no_device("explore", name)
  local root = { map = map, why = why, source = name }
  local regs = thing(root, map, "")
  rawset(regs, "map", map)
  rawset(regs, "made", {}) -- for completion: it is a map's
  rawset(regs, "device", false)
  local function refuse() error(why, 0) end
  local self = { name = name:match "([^/]+)/?$", regs = regs, dev = nothing(why, { read_only = false }), target = nothing(why),
    journal = nothing(why), irqs = refuse, start = refuse, reopen = refuse }
  local commands = require("luio.tool.explore.commands").new(self)
  commands.dump = function(...)
    local places = { ... }
    for i, what in ipairs(places) do places[i] = type(what) == "table" and rawget(what, "path") or tostring(what) end
    term.print_all(assert(M.lines(map, places[1] == "" and {} or places, name, output.columns())))
  end
  self.env = setmetatable({}, {
    __index = function(_, key)
      if key == "regs" then return regs end
      if key == "dev" or key == "driver" then return self.dev end
      if commands[key] ~= nil then return commands[key] end
      if map.child[key] then return regs[key] end
      if _G[key] == nil and type(key) == "string" and key:match "^%u[%u%d_]+$" then
        error(("there is no %s%s"):format(key, near.hint(key, map.child)), 2)
      end
      return _G[key]
    end,
  })
  return self
end

return M
