--- Access kinds: SVD's access, modifiedWriteValues, readAction and writeConstraint become a map's
--- one access, its read_effect and its write_effect.
---
--- Where the two don't fit, readability decides: a write-only register that is stated as
--- one-to-clear stays write-only, since a bus may fault on the read. A behaviour for which a map has
--- no word becomes a remark in it, and a note.

local M = {}

local plain = {
  readonly = "ro", writeonly = "wo", readwrite = "rw", writeonce = "wo", readwriteonce = "wonce", read = "ro",
  write = "wo",
}
-- "clear", the field is 0 after a write, is how self-clearing triggers are stated: all 32 fields that have it in 1,903 public
-- files are such.
local modified = {
  onetoclear = "w1c", onetoset = "w1s", onetotoggle = "w1t", zerotoclear = "w0c", zerotoset = "w0s", zerototoggle = "w0t", clear = "sc",
}
local says = {
  onetoclear = "writing 1 clears", zerotoclear = "writing 0 clears", onetoset = "writing 1 sets",
  onetotoggle = "writing 1 toggles", zerotoset = "writing 0 sets", zerototoggle = "writing 0 toggles",
  clear = "any write clears", set = "any write sets",
}
-- As a map's write_effect, where the access says no more than that it can't be read.
local on_write = {
  onetoclear = "clears where 1 is written", onetoset = "sets where 1 is written", onetotoggle = "toggles where 1 is written",
  zerotoclear = "clears where 0 is written", zerotoset = "sets where 0 is written", zerototoggle = "toggles where 0 is written",
  clear = "starts something, and the hardware clears it",
}
local reads = {
  clear = "clears it", set = "sets it", modify = "changes it", modifyexternal = "changes something elsewhere",
}

local function word(text) return text and text:lower():gsub("[^%l]", "") end

-- "read/clear", "read-set": reading it or writing it back has an effect, and the description does not say
-- which.
local function more_than_access(text)
  local lower = (text or ""):lower()
  return lower:find "clear" or lower:find "set" or lower:find "toggle"
end

---@class luio.SvdAccess
---@field kind string           of a map: "ro", "w1c", ...
---@field read_effect string?
---@field write_effect string?
---@field sets boolean?         of a field: every write to its register sets it
---@field remarks string[]

--- Access of a register, or of a field (with its register's node, whose properties it inherits).
---@param node luio.SvdNode     stating modifiedWriteValues, readAction, writeConstraint
---@param access string?        as it stands in the file, inherited where it is not stated
---@param register? luio.SvdNode
---@param notes luio.SvdNotes
---@param path string
---@return luio.SvdAccess
function M.of(node, access, register, notes, path)
  local remarks, kind, riddle = {}, "rw", nil
  if access then
    kind = plain[word(access)]
    if not kind and more_than_access(node.access) then
      riddle = ("its effect is not looked up yet: the file says access %q"):format(node.access:gsub("%s+", " "))
      notes:add("access", path, "access \"%s\" does not say how: not read by looking, and not updated, until an overlay says it", access)
      kind = "rw"
    elseif not kind then
      notes:add("access", path, "unknown access \"%s\": taken as read-write", access)
      kind = "rw"
    elseif word(access) == "writeonce" then
      table.insert(remarks, "can be written once")
      notes:add("access", path, "writeOnce (not readable) has no word in a map: wo, and a remark")
    end
  end

  local stated = node.modifiedWriteValues
  local write, write_effect, sets = word(stated or register and register.modifiedWriteValues), nil, nil
  if write and write ~= "modify" then
    if not says[write] then
      notes:add("access", path, "unknown modifiedWriteValues \"%s\"", stated or "")
    elseif kind == "ro" then
      if stated then
        notes:add("contradiction", path, "read-only, and modifiedWriteValues %s: stays ro", write)
        table.insert(remarks, "said to be read-only, and: " .. says[write])
      end
    elseif write == "set" then
      if not register then write_effect = "sets it" else sets = stated ~= nil end
    elseif kind == "rw" and modified[write] then
      kind = modified[write]
    elseif kind == "wo" and modified[write] then
      if stated then write_effect = on_write[write] end -- of its register it is stated there, once
    else
      notes:add("access", path, "%s with modifiedWriteValues %s has no word in a map: a remark", kind, write)
      table.insert(remarks, says[write])
    end
  end

  local read = word(node.readAction or register and register.readAction)
  local effect = read and reads[read]
  if read and not effect then notes:add("access", path, "unknown readAction \"%s\"", node.readAction or "") end
  if kind == "ro" and (read == "clear" or read == "set") then
    kind, effect = read == "clear" and "rc" or "rs", nil
  elseif kind == "wo" and effect and node.readAction then
    notes:add("contradiction", path, "write-only, and readAction %s", read)
  end
  if not node.readAction then effect = nil end -- the register's own is stated there, once
  return {
    kind = M.constrain(node, kind, remarks, notes, path), read_effect = effect or riddle, write_effect = write_effect or riddle,
    sets = sets,
    remarks = remarks,
  }
end

--- Takes an element's writeConstraint: it becomes a remark, or the access kind that it means.
---@param node luio.SvdNode
---@param kind string  the access kind so far
---@param remarks string[]
---@param notes luio.SvdNotes
---@param path string  of the element, for notes
---@return string kind
function M.constrain(node, kind, remarks, notes, path)
  for _, kid in ipairs(node.kids or {}) do
    if kid.tag == "writeConstraint" then
      if word(kid.writeAsRead) == "true" or kid.writeAsRead == "1" then
        if kind == "rw" then kind = "preserve" else notes:add("access", path, "writeAsRead on a register that is %s: skipped", kind) end
      end
      if word(kid.useEnumeratedValues) == "true" or kid.useEnumeratedValues == "1" then
        notes:add("constraint", path, "that only enumerated values may be written is a remark: maps have no such check")
        table.insert(remarks, "takes only the values listed")
      end
      for _, range in ipairs(kid.kids or {}) do
        notes:add("constraint", path, "the range that may be written is a remark: maps have no such check")
        table.insert(remarks, ("takes %s to %s"):format(range.minimum or "0", range.maximum or "?"))
      end
    end
  end
  return kind
end

return M
