--- Where the names of a table stand in the text that states it: for messages, as a table does not remember its lines.
---
---     local line_of = lines.of_file "drivers/edu/registers.lua"
---     line_of "STATUS.COMPUTING"      -- 17
---
--- The text is gone through by its braces, not run: keys of a table that is written out are found by their path, in which
--- `registers`, `block` and `fields` do not count. A register that is made otherwise (by a loop, by a function) is found by its
--- first name alone, or not at all.

local M = {}

local TRANSPARENT = { registers = true, block = true, fields = true }

-- The end of a string or a comment in long brackets that begins there.
local function long_end(text, at)
  local level = text:match("^%[(=*)%[", at)
  if not level then return nil end
  local _, last = text:find("]" .. level .. "]", at, true)
  return last or #text
end

-- The last byte of the string or the comment that begins there; nil: neither.
local function skipped(text, at)
  local c = text:sub(at, at)
  if text:sub(at, at + 1) == "--" then return long_end(text, at + 2) or (text:find("\n", at, true) or #text + 1) - 1 end
  if c == "[" then return long_end(text, at) end
  if c ~= '"' and c ~= "'" then return nil end
  local i = at + 1
  while i <= #text and text:sub(i, i) ~= c do i = i + (text:sub(i, i) == "\\" and 2 or 1) end
  return i
end

-- A key that is stated there: its name, and the last byte before its "=".
local function key_at(text, at)
  local name, last = text:match("^([%a_][%w_]*)%s*()=[^=]", at)
  if name then return name, last - 1 end
  name, last = text:match('^%[%s*"([^"\n]+)"%s*%]%s*()=[^=]', at)
  if name then return name, last - 1 end
end

-- Lines by path and by name.
local function scan(text)
  local paths, names, open, pending, line, at = {}, {}, {}, nil, 1, 1
  local function advance(to)
    for _ in text:sub(at, to):gmatch "\n" do line = line + 1 end
    at = to + 1
  end
  while true do
    local next_at = text:find("[%a_\"'%[{},;%-]", at)
    if not next_at then return paths, names end
    advance(next_at - 1)
    local c, key, last = text:sub(at, at), key_at(text, at)
    if key then
      pending = #open > 0 and key or nil -- outside of braces it is a variable
      names[key] = names[key] or line
      if pending then
        local parts = {}
        for _, one in ipairs(open) do
          if one ~= "" then table.insert(parts, one) end
        end
        table.insert(parts, key)
        local path = table.concat(parts, ".")
        paths[path] = paths[path] or line
      end
      advance(last)
    elseif c == "{" then
      table.insert(open, pending and not TRANSPARENT[pending] and pending or "")
      pending = nil
      advance(at)
    elseif c == "}" or c == "," or c == ";" then
      if c == "}" then table.remove(open) end
      pending = nil
      advance(at)
    else
      local _, word = text:find("^[%a_][%w_]*", at)
      advance(skipped(text, at) or word or at)
    end
  end
end

--- How lines of a file's names are asked for. It is read at the first question.
---@param path string?  nil: there is no file
---@return fun(path: string): integer?  takes "CH[2].CTRL", "STATUS.BUSY"; the line of the longest part of it that is found
function M.of_file(path)
  local paths, names
  return function(name)
    if not paths then
      local f = path and io.open(path)
      paths, names = scan(f and f:read "*a" or "")
      if f then f:close() end
    end
    local at = name:gsub("%b[]", "")
    repeat
      if paths[at] then return paths[at] end
      local shorter = at:match "^(.*)%.[^%.]*$"
      if not shorter then return names[at] end
      at = shorter
    until false
  end
end

return M
