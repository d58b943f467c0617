--- Bytes as people read them: offset, hexadecimal, ASCII; repeated lines are one `*`, as hexdump does.
---
---     for line in hexdump.lines { size = #s, read = function(offset, n) return s:sub(offset + 1, offset + n) end } do
---       print(line)
---     end
---
--- Lines are made one by one, so that a buffer of a gigabyte needs no memory for its dump. Given the
--- former bytes, the dump shows only lines that have changed, marked by `>`, and highlights the bytes
--- in them; the mark is there without colour, too.

local term = require "luio.text.term"

local M = {}

---@class luio.HexdumpOptions
---@field size integer                              bytes
---@field from integer?                             the first that is shown; 0
---@field to integer?                               behind the last that is shown; then no last line either
---@field read fun(offset: integer, n: integer): string
---@field before (fun(offset: integer, n: integer): string)?  what they were: show what changed
---@field columns integer?                          of the terminal; 80
---@field address integer?                          of the first byte: shown, too, where there is room

-- Columns of a line: offset, mark and blank, address, bytes, a gap in their middle, ASCII with its bars.
local function width_of(per_line, digits, address_digits, bars)
  local gap = per_line == 16 and 1 or 0
  return digits + 2 + (address_digits > 0 and address_digits + 2 or 0) + per_line * 3 - 1 + gap + 2 + per_line + (bars and 2 or 0)
end

-- The layout that fits: 16 bytes a line, on narrow terminals 8 or 4; the address and the bars where
-- there is room.
local function layout(options)
  local columns = options.columns or 80
  local digits = math.max(4, #("%x"):format(options.size))
  local address_digits = options.address and #("%x"):format(options.address + options.size) or 0
  for _, per_line in ipairs { 16, 8, 4 } do
    for _, try in ipairs { { address_digits, true }, { 0, true }, { 0, false } } do
      if per_line == 4 or width_of(per_line, digits, try[1], try[2]) <= columns then
        return { per_line = per_line, digits = digits, address_digits = per_line > 4 and try[1] or 0, bars = per_line > 4 and try[2] }
      end
    end
  end
end

-- The hexadecimal and the ASCII of a line, changed bytes highlighted.
local function parts_of(bytes, old, l)
  local hex, ascii = {}, {}
  for i = 1, l.per_line do
    local byte = bytes:byte(i)
    local changed = old and byte and byte ~= old:byte(i)
    local number = byte and ("%02x"):format(byte) or "  "
    local char = not byte and "" or byte >= 32 and byte < 127 and string.char(byte) or "."
    hex[i] = (i == 9 and " " or "") .. (changed and term.red(number) or number)
    ascii[i] = changed and term.red(char) or char
  end
  return table.concat(hex, " "), table.concat(ascii)
end

local function line_of(options, l, offset, bytes, old)
  local hex, ascii = parts_of(bytes, old, l)
  local address = l.address_digits > 0 and ("%0" .. l.address_digits .. "x  "):format(options.address + offset) or ""
  local text = l.bars and "|" .. ascii .. "|" or ascii
  return ("%0" .. l.digits .. "x%s %s%s  %s"):format(offset, old and ">" or " ", address, hex, text)
end

--- The lines of a dump, one at each call; last the offset behind the last byte.
---@param options luio.HexdumpOptions
---@return fun(): string?
function M.lines(options)
  local l = layout(options)
  local offset, stop, last, starred = options.from or 0, options.to or options.size, nil, false
  return function()
    while offset < stop do
      local at, n = offset, math.min(l.per_line, stop - offset)
      local bytes = options.read(at, n)
      local old = options.before and options.before(at, n)
      offset = offset + n
      local left_out
      if options.before then left_out = bytes == old
      else left_out = bytes == last end
      last = bytes
      if not left_out then
        starred = false
        return line_of(options, l, at, bytes, old)
      elseif not starred then
        starred = true
        return "*"
      end
    end
    if offset == options.size and not options.to then
      offset = offset + 1 -- once
      return ("%0" .. l.digits .. "x"):format(options.size)
    end
  end
end

return M
