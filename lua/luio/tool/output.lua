--- How commands print: tables, JSON, progress, and how wide the terminal is.

local bit = require "bit"
local ffi = require "ffi"
local posix = require "luio.posix"
local term = require "luio.text.term"
local uv = require "luv"

local M = {}

local NARROWEST = 12 -- columns for the last cell

local winsize_t = ffi.typeof "struct { unsigned short rows, columns, x_pixels, y_pixels; }"
local TIOCGWINSZ = 0x5413 -- ioctl_tty(2)

-- A row whose columns don't fit: its first cell, and below it the others with their headings.
local function stacked(heading, row, columns)
  local parts = {}
  for i = 2, #row do
    if row[i] ~= "-" and row[i] ~= "" then table.insert(parts, i < #row and ("%s %s"):format(heading[i]:lower(), row[i]) or row[i]) end
  end
  term.print(term.bold(row[1]))
  term.print_all(parts[1] and term.wrap(table.concat(parts, ", "), columns, "  ") or {})
end

--- Rows of strings, columns as wide as their widest cell; the last goes on below where the terminal ends.
--- The first row is the heading. On a terminal that is too narrow each row becomes several lines.
---@param rows string[][]
function M.table(rows)
  local width, columns, before = {}, M.columns(), 0
  for _, row in ipairs(rows) do
    for i, cell in ipairs(row) do width[i] = math.max(width[i] or 0, term.columns(cell)) end
  end
  for i = 1, #rows[1] - 1 do before = before + width[i] + 2 end
  for n, row in ipairs(rows) do
    if columns and before + NARROWEST > columns then
      if n > 1 then stacked(rows[1], row, columns) end
    else
      local head = ""
      for i = 1, #row - 1 do head = head .. term.pad(row[i], width[i] + 2) end
      for _, line in ipairs(term.wrap(row[#row], columns, (" "):rep(before), head)) do term.print(n == 1 and term.bold(line) or line) end
    end
  end
end

--- A number of bytes in words: in the largest unit that it is a multiple of.
---@param bytes integer
---@return string
function M.size(bytes)
  for _, unit in ipairs { { 2 ^ 30, "GiB" }, { 2 ^ 20, "MiB" }, { 2 ^ 10, "KiB" } } do
    if bytes >= unit[1] and bytes % unit[1] == 0 then return ("%d %s"):format(bytes / unit[1], unit[2]) end
  end
  return M.count(bytes, "byte")
end

--- A number of things: "1 interrupt", "2 interrupts".
---@param n integer
---@param word string
---@return string
function M.count(n, word)
  return ("%d %s%s"):format(n, word, n == 1 and "" or "s")
end

-- dkjson writes 14 digits of a number: these stand as they are.
local digits = { __tojson = function(number) return ("%d"):format(number.value) end }

-- Plain data for JSON, whose numbers are doubles for most who read it: integers up to 2^53 in full, larger ones and other
-- cdata as hexadecimal text; tables with index 0 as objects.
local function plain(value)
  if type(value) == "cdata" then return "0x" .. bit.tohex(value) end
  if type(value) == "number" and value % 1 == 0 and math.abs(value) >= 1e14 then
    if math.abs(value) <= 2 ^ 53 then return setmetatable({ value = value }, digits) end
    return value > 0 and value < 2 ^ 64 and "0x" .. bit.tohex(ffi.cast("uint64_t", value)) or value
  end
  if type(value) ~= "table" then return value end
  local copy, is_list = {}, value[1] ~= nil and value[0] == nil
  for key, v in pairs(value) do copy[is_list and key or tostring(key)] = plain(v) end
  local mt = getmetatable(value)
  return setmetatable(copy, mt and mt.__jsontype and mt or nil)
end

--- An empty list that stays one in JSON; so does one that is filled later.
---@param t? table
---@return table
function M.list(t)
  return setmetatable(t or {}, { __jsontype = "array" })
end

--- A value as JSON: one document, keys in order, one line for each of a list's entries.
---@param value any
---@param flat boolean?  on one line
---@return string
function M.encode(value, flat)
  local json = require "dkjson"
  local function keys(v, known, list)
    if type(v) ~= "table" then return list end
    for key, inner in pairs(v) do
      if type(key) == "string" and not known[key] then
        known[key] = true
        table.insert(list, key)
      end
      keys(inner, known, list)
    end
    return list
  end
  value = plain(value)
  local order = keys(value, {}, {})
  table.sort(order)
  return term.clean_json(json.encode(value, { indent = not flat, keyorder = order }))
end

--- A value as JSON on one line, for streams of them.
---@param value any
---@return string
function M.line(value)
  return M.encode(value, true)
end

local EEXIST = 17

-- Opens a new file that has this mode from the first; io.open has none to give.
local function create(name, mode)
  if not mode then return io.open(name, "wx") end
  local fd, message, code = uv.fs_open(name, "wx", mode)
  if not fd then return nil, message, code == "EEXIST" and EEXIST end
  local f, why = io.open("/proc/self/fd/" .. fd, "w") -- it, and not what may be at its name by now
  uv.fs_close(fd)
  if not f then os.remove(name) end
  return f, why
end

-- A new file: another file in its place (a link, a FIFO) is neither followed nor waited for.
local function new_file(path, mode)
  for n = 0, 9 do
    local name = ("%s.%d%s.tmp"):format(path, uv.os_getpid(), n > 0 and "-" .. n or "")
    local f, message, number = create(name, mode)
    if f then return f, name end
    if number ~= EEXIST or n == 9 then return nil, message end
  end
end

-- A write goes to memory. That the disk does not take it shows here, and nowhere else.
local function sync(f)
  local flushed, why = f:flush()
  if not flushed then return nil, why end
  if posix.fsync(posix.fileno(f)) == 0 then return true end
  local _, _, code = posix.failure "fsync"
  return code == "EINVAL" or nil, code -- a file system without such a thing
end

--- Writes a file whole or not at all.
---@param path string
---@param text string
---@param mode? integer  of the file; as for any new one
---@return boolean? ok
---@return string? message
function M.file(path, text, mode)
  local f, name = new_file(path, mode)
  if not f then return nil, "write " .. name end
  local ok, failure = f:write(text)
  if ok then ok, failure = sync(f) end
  local closed, late = f:close() -- a disk that is full may say so only now
  if ok and closed then ok, failure = os.rename(name, path) end
  if ok and closed then return true end
  os.remove(name)
  return nil, ("write %s: %s; nothing was changed"):format(path, failure or late)
end

--- Prints a value as JSON.
---@param value any
function M.json(value)
  term.write(M.encode(value) .. "\n")
end

--- Columns and rows of the terminal on standard output; nil when it is none.
---@return integer? columns
---@return integer? rows
function M.columns()
  -- Not by libuv: it would open the terminal anew as descriptor 1, non-blocking, so that a slow one loses output, and
  -- closed in the programs that a script starts.
  local size = winsize_t()
  if posix.ioctl(1, TIOCGWINSZ, size) == 0 and size.columns > 0 then return size.columns, size.rows end
end

--- Shows how far something is, on standard error, when that is a terminal and it takes over a second.
---@param what string
---@return fun(done: integer, total: integer?) step  step(n, n) ends it
function M.progress(what)
  local start, last = uv.hrtime(), 0
  local tty = uv.guess_handle(2) == "tty"
  return function(done, total)
    local now = uv.hrtime()
    if not tty or now - start < 1e9 then return end
    if done == total then
      io.stderr:write(term.ready(term.sequence "\r" .. term.sequence "K"))
    elseif now - last > 1e8 then
      last = now
      local text = ("%s: %d%s"):format(what, done, total and " of " .. total or "")
      io.stderr:write(term.ready(term.sequence "\r" .. text .. term.sequence "K"))
    end
  end
end

return M
