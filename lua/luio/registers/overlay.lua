--- Overlays: corrections to a map that somebody else wrote, kept in a file of their own.
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

local errors = require "luio.errors"
local near = require "luio.registers.near"
local trust = require "luio.trust"
local uv = require "luv"

local M = {}

local positions = { offset = 1, width = 2, access = 3 }

local function copy(t)
  local c = {}
  for key, value in pairs(t) do c[key] = value end
  return c
end

-- What is shared (a block that several peripherals have) is copied before it is changed.
local function merge_field(old, patch)
  if type(patch) ~= "table" then return patch end
  local new = type(old) == "table" and copy(old) or { old }
  for key, value in pairs(patch) do new[key] = value end
  return new
end

local merge_all

local function merge_register(old, patch, path, fault)
  local new = copy(old)
  for key, value in pairs(patch) do
    local position = positions[key]
    if key == "block" then
      if type(old.block) ~= "table" then fault(path, "is no block")
      else new.block = merge_all(old.block, value, path .. ".", fault) end
    elseif key == "fields" then
      new.fields = copy(old.fields or {})
      for name, field in pairs(value) do new.fields[name] = merge_field(new.fields[name], field) end
    elseif position then
      new[position] = value
    elseif type(key) == "string" and key:match "^%u" then
      if value == false and old[key] == nil then fault(path .. "." .. key, "is not there%s", near.hint(key, old)) end
      new[key] = value ~= false and merge_field(old[key], value) or nil
    elseif key ~= "rename" then
      new[key] = value
    end
  end
  return new
end

function merge_all(specs, patches, prefix, fault)
  local out = copy(specs)
  for name, patch in pairs(patches) do
    local path, old = prefix .. tostring(name), specs[name]
    if patch == false then
      if old == nil then fault(path, "is not there%s", near.hint(tostring(name), specs)) end
      out[name] = nil
    elseif type(patch) ~= "table" then
      fault(path, "a correction is a table, or false to remove it, not a %s", type(patch))
    elseif type(old) == "table" then
      local new = merge_register(old, patch, path, fault)
      out[name] = nil
      out[patch.rename or name] = new
    elseif patch[1] then
      out[name] = patch
    else
      fault(path, "is not there%s; a new one is { offset, width, access }", near.hint(tostring(name), specs))
    end
  end
  return out
end

--- Applies corrections to a map as it was stated, before it is checked. The map is not changed.
---@param spec table
---@param patches table
---@param fault fun(path: string, format: string, ...)
---@return table
function M.apply(spec, patches, fault)
  local out = merge_all(spec, patches, "", function(...) fault(...) end)
  if type(spec.registers) == "table" then
    local inner = {}
    for name, patch in pairs(patches) do
      if spec.registers[name] ~= nil then
        inner[name] = patch
        out[name] = nil
      end
    end
    out.registers = merge_all(spec.registers, inner, "", fault)
  end
  return out
end

--- Loads the overlay beside a map's file.
---@param source string?  the map's file
---@param name string
---@return table? patches  nil alone: there is none
---@return string? message what is wrong with it
function M.load(source, name)
  local path = (source and source:match "^(.*/)[^/]*$" or "") .. name
  if not uv.fs_lstat(path) then return nil end -- not opened: opening a FIFO would wait for its other end
  -- Nobody named this file: it is to be in the same hands as the map.
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
