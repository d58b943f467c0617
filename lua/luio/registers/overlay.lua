--- Overlays: corrections to a vendor's map, in a file of their own.
---
--- Vendors' register descriptions mostly lack side effects (of 1,458 public SVD files 23 state what
--- a write does). An imported map therefore names an overlay beside it, which a new import does not
--- touch:
---
---     return luio.registers { overlay = "uart.overlay.lua", ... }      -- applied if it is there
---
---     -- uart.overlay.lua
---     return {
---       RBR = { read_effect = "pops the FIFO" },
---       CMD = { write_effect = "sends the command", ABORT = { access = "sc" } },
---       LSR = { access = "ro", OE = { access = "rc" } },               -- a field
---       CTL = { rename = "CTRL", width = 8 },
---       CH  = { block = { CFG = { reset = 0x80 } } },                  -- in a block
---       TEST = false,                                                  -- not there at all
---       NEW = { 0x40, 32, "rw" },                                      -- one that is missing
---     }
---
--- Names are written as the map has them, and in either of its forms: beside each other or in `registers = {}`, fields beside the
--- options or in `fields = {}`, whichever the map has used. A key or name that is not known is a fault, with the overlay's line and
--- the nearest name. A correction that was silently left out would be one more unknown side effect.

local errors = require "luio.errors"
local near = require "luio.registers.near"
local trust = require "luio.host.trust"
local uv = require "luv"

local M = {}

local positions = { offset = 1, width = 2, access = 3 }

--- The map that an overlay is checked against, and the list of faults.
---@class luio.OverlayCheck
---@field fault fun(path: string, format: string, ...)
---@field options { map: table, register: table, block: table, field: table }  keys that each may have
---@field touched table<string, string>  corrected entries: path in the map -> path in the overlay

local function copy(t)
  local c = {}
  for key, value in pairs(t) do c[key] = value end
  return c
end

-- All the names that a slip may have been meant for.
local function union(...)
  local all = {}
  for _, set in ipairs { ... } do
    for key in pairs(set) do
      if type(key) == "string" then all[key] = true end
    end
  end
  return all
end

local function is_span(patch) return type(patch) == "number" or type(patch) == "table" and patch[1] ~= nil end

-- A shared block (of several peripherals) is copied before it is changed.
local function merge_field(check, old, patch, path)
  if type(patch) ~= "table" and type(patch) ~= "number" then
    check.fault(path, "a field's correction is a table, a bit, or false to remove it, not a %s", type(patch))
    return old
  end
  if type(patch) == "number" then patch = { patch } end
  local new = type(old) == "table" and copy(old) or { old }
  if patch[1] ~= nil then new[1], new[2] = nil, nil end -- { bit } in the place of { high, low }
  for key, value in pairs(patch) do
    if type(key) ~= "number" and not check.options.field[key] then
      check.fault(path, "unknown key %s%s", tostring(key), near.hint(tostring(key), check.options.field))
    else
      new[key] = value
    end
  end
  return new
end

-- Corrects a field of a register, where the register has it: beside its options, or in `fields`.
local function correct_field(check, new, name, patch, path)
  local inner = type(new.fields) == "table" and new.fields or {}
  local where = new[name] ~= nil and new or inner
  local old = where[name]
  if old == nil and (patch == false or not is_span(patch)) then
    local hint = near.hint(name, union(new, inner))
    check.fault(path, "is not there%s%s", hint, patch == false and "" or "; a new one is a bit, or { high, low }")
    return
  end
  if where == inner then
    inner = copy(inner)
    new.fields, where = inner, inner
  end
  if patch == false then
    where[name] = nil
  elseif old == nil then
    where[name] = patch
  else
    where[name] = merge_field(check, old, patch, path)
  end
end

local merge_all

local function merge_block(check, old, patch, path, at)
  local new = copy(old)
  for key, value in pairs(patch) do
    if key == "block" and type(value) ~= "table" then
      check.fault(at, "block is a table of corrections, not a %s", type(value))
    elseif key == "block" then
      new.block = merge_all(check, old.block, value, path .. ".", at .. ".")
    elseif key == "offset" or key == 1 then
      new[1] = value
    elseif type(key) == "string" and check.options.block[key] then
      new[key] = value
    elseif key ~= "rename" then
      local hint = near.hint(tostring(key), union(check.options.block, old.block, { rename = 1, offset = 1 }))
      local text = old.block[key] ~= nil and "the registers of a block go into block = { ... }" or "unknown key of a block%s"
      check.fault(at .. "." .. tostring(key), text, hint)
    end
  end
  return new
end

local function merge_register(check, old, patch, path, at)
  local new = copy(old)
  local inner = type(old.fields) == "table" and old.fields or {}
  for key, value in pairs(patch) do
    -- A field in lower case may be called as an option is: a table, or false, means the field.
    local named = inner[key] ~= nil and (not check.options.register[key] or type(value) == "table" or value == false)
    local is_field = type(key) == "string" and (named or key:match "^%u")
    if key == "fields" then
      if type(value) ~= "table" then check.fault(at, "fields is a table of corrections, not a %s", type(value)) end
      for name, field in pairs(type(value) == "table" and value or {}) do
        if type(name) ~= "string" then check.fault(at, "a field has a name, not %s", tostring(name))
        else
          check.touched[path .. "." .. name] = at .. "." .. name
          correct_field(check, new, name, field, at .. "." .. name)
        end
      end
    elseif positions[key] then
      new[positions[key]] = value
    elseif type(key) == "number" then
      new[key] = value
    elseif is_field then
      check.touched[path .. "." .. key] = at .. "." .. key
      correct_field(check, new, key, value, at .. "." .. key)
    elseif key == "block" then
      check.fault(at, "is a register, not a block")
    elseif check.options.register[key] then
      new[key] = value
    elseif key ~= "rename" then
      check.fault(at, "unknown key %s%s", tostring(key),
        near.hint(tostring(key), union(check.options.register, positions, old, inner, { rename = 1 })))
    end
  end
  return new
end

-- The register or the block that a correction makes of one that is there.
local function corrected(check, old, patch, path, at)
  if type(old.block) == "table" then return merge_block(check, old, patch, path, at) end
  return merge_register(check, old, patch, path, at)
end

-- A correction's new name; nil: it keeps the one that it has.
local function new_name(check, patch, at)
  if patch.rename == nil or type(patch.rename) == "string" then return patch.rename end
  check.fault(at, "rename is a name, not %s", tostring(patch.rename))
end

function merge_all(check, specs, patches, prefix, at_prefix)
  local out, renamed = copy(specs), {}
  for name, patch in pairs(patches) do
    local at, old = at_prefix .. tostring(name), specs[name]
    if type(name) ~= "string" then
      check.fault(at, "a correction stands under its register's name")
    elseif patch == false then
      if old == nil then check.fault(at, "is not there%s", near.hint(name, specs)) end
      out[name] = nil
    elseif type(patch) ~= "table" then
      check.fault(at, "a correction is a table, or false to remove it, not a %s", type(patch))
    elseif type(old) == "table" then
      local to = new_name(check, patch, at) or name
      check.touched[prefix .. to] = at
      local new = corrected(check, old, patch, prefix .. to, at)
      if to == name then out[name] = new
      else
        out[name] = nil
        table.insert(renamed, { to = to, new = new, at = at })
      end
    elseif patch[1] or type(patch.block) == "table" then
      check.touched[prefix .. name] = at
      out[name] = patch
    else
      check.fault(at, "is not there%s; a new one is { offset, width, access }", near.hint(name, specs))
    end
  end
  for _, one in ipairs(renamed) do -- when all have left their names: two may change places
    if out[one.to] ~= nil then check.fault(one.at, "can't be renamed %s: there is one already", one.to) else out[one.to] = one.new end
  end
  return out
end

-- Corrections of both forms in one table.
local function flat(check, patches, known)
  local out = copy(patches)
  if patches.registers == nil or known.registers ~= nil then return out end
  out.registers = nil
  if type(patches.registers) ~= "table" then
    check.fault("registers", "is a table of corrections, not a %s", type(patches.registers))
    return out
  end
  for name, patch in pairs(patches.registers) do
    if out[name] ~= nil then check.fault(tostring(name), "is corrected twice: beside registers = { ... }, and in it") end
    out[name] = patch
  end
  return out
end

--- Applies corrections to a map as it was stated, before it is checked. The map is not changed.
---@param spec table
---@param patches table
---@param check luio.OverlayCheck
---@return table
function M.apply(spec, patches, check)
  local out, known = {}, {}
  for name, def in pairs(spec) do
    if type(name) == "string" and not name:match "^%l" then known[name] = def else out[name] = def end
  end
  for name, def in pairs(type(spec.registers) == "table" and spec.registers or {}) do
    if known[name] ~= nil then out[name] = def else known[name] = def end -- stated twice: the map's fault
  end
  patches = flat(check, patches, known)
  for name in pairs(patches) do
    if check.options.map[name] and known[name] == nil then
      check.fault(name, "is an option of the map: an overlay corrects registers")
      patches[name] = nil
    end
  end
  out.registers = merge_all(check, known, patches, "", "")
  return out
end

--- The file of an overlay.
---@param source string?  the map's
---@param name string
---@return string
function M.path(source, name)
  return (source and source:match "^(.*/)[^/]*$" or "") .. name
end

--- Loads the overlay beside a map's file.
---@param source string?  the map's file
---@param name string
---@return table? patches  nil alone: there is none
---@return string? message the fault
function M.load(source, name)
  local path = M.path(source, name)
  if not uv.fs_lstat(path) then return nil end -- not opened: opening a FIFO would wait for its other end
  -- The user did not name this file, so only writers of the map may be able to write it.
  local safe, reason = trust.file(path, source and trust.writers(source))
  if not safe then return nil, ("%s is not taken: %s"):format(path, reason) end
  local chunk, message = loadfile(path)
  if not chunk then return nil, message end
  local ok, patches = pcall(chunk)
  if not ok then return nil, ("%s threw: %s"):format(path, errors.text(patches)) end
  if type(patches) ~= "table" then return nil, ("%s returns a %s, not a table"):format(path, type(patches)) end
  return patches
end

return M
