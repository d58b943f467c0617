--- Notes of an import: properties that a map cannot have, and decisions.
---
--- Vendors repeat themselves: thousands of fields have the same property. Notes with the same text
--- are one note with a list of places, so that a long list stays short to read and nothing is lost.

local M = {}

local MAX_PLACES = 1000 -- of one note; `count` goes on
local MAX_ALL_PLACES = 50000
local MAX_NOTES = 5000

---@class luio.SvdNote
---@field kind string     e.g. "access", "name", "overlap", "enumeration", "reset", "missing", "unsupported"
---@field text string
---@field count integer   how many places it is about
---@field where string[]  the places: "UART0.CTRL.EN" or "line 17"

local Note = {}
Note.__index = Note

--- "kind: text (3 places: UART0.CTRL.EN, UART0.STATUS.EN, ...)"
function Note:__tostring()
  local shown = table.concat(self.where, ", ", 1, math.min(3, #self.where))
  if self.count == 1 then return ("%s: %s (%s)"):format(self.kind, self.text, shown) end
  return ("%s: %s (%d places: %s%s)"):format(self.kind, self.text, self.count, shown, self.count > 3 and ", ..." or "")
end

---@class luio.SvdNotes
local Notes = {}
Notes.__index = Notes

--- Adds a note. The same note of several elements is kept once, with its places.
---@param kind string
---@param where string
---@param format string
---@param ... any  for the format
function Notes:add(kind, where, format, ...)
  local text = select("#", ...) > 0 and format:format(...) or format
  local key = kind .. "\0" .. text
  local note = self.known[key]
  if not note then
    if #self.list >= MAX_NOTES then
      key, kind, text = "\0", "notes", "there is more to say than fits here"
      note = self.known[key]
    end
    if not note then
      note = setmetatable({ kind = kind, text = text, count = 0, where = {} }, Note)
      self.known[key] = note
      table.insert(self.list, note)
    end
  end
  note.count = note.count + 1
  if #note.where < MAX_PLACES and self.places < MAX_ALL_PLACES or #note.where == 0 then
    self.places = self.places + 1
    table.insert(note.where, where:sub(1, 200))
  end
end

--- Makes an empty list of notes.
---@return luio.SvdNotes
function M.new()
  return setmetatable({ list = {}, known = {}, places = 0 }, Notes)
end

return M
