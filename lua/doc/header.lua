--- The C half of the API reference: a header's comments, as Doxygen reads them. It is Doxygen's filter (lua/doc/Doxyfile):
---
---     luajit lua/doc/header.lua runtime/luio.h
---
--- A comment of its own line belongs to what is below it; where several functions follow without a line between, to all of them.
--- A comment behind a declaration belongs to that. `/* ---- Title ---` begins a group. Lines that are indented within a comment
--- are shown as they are.

local path = assert(arg[1], "usage: luajit lua/doc/header.lua FILE")

local out = {}
local function put(...) table.insert(out, (...):format(select(2, ...))) end

-- Text for Doxygen: what it would take for a command is escaped, `code` is marked as such.
local function escape(text)
  text = text:gsub("[&<>]", { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;" }):gsub("[@\\#%%]", "\\%0")
  return (text:gsub("`([^`]*)`", "<code>%1</code>"))
end

-- A comment's lines, without stars: paragraphs, and indented blocks.
local function body(lines)
  local text, open = {}, false
  for _, line in ipairs(lines) do
    local indented = line:match "^  +%S" or (open and line:match "^%s*$")
    indented = indented and true or false
    if indented ~= open then table.insert(text, indented and "@code{.unparsed}" or "@endcode") end
    open = indented
    table.insert(text, indented and line or escape(line))
  end
  if open then table.insert(text, "@endcode") end
  return table.concat(text, "\n")
end

local lines = {}
for line in io.lines(path) do table.insert(lines, line) end

-- The comment that begins on line i: its lines, without stars, and the line that it ends on.
local function comment_at(i)
  local text, rest = {}, lines[i]:match "^%s*/%*(.*)$"
  while true do
    local last = rest:match "^(.-)%s*%*/%s*$"
    table.insert(text, ((last or rest):gsub("^ ", "")))
    if last then return text, i end
    i = i + 1
    rest = lines[i]:match "^%s*%*?(.*)$"
    if lines[i]:match "^%s*%*/" then return text, i end
  end
end

local function is_function(i) return lines[i] and lines[i]:match "^LUIO_API " end

-- The line that a declaration which begins on line i ends on.
local function declared_to(i)
  while not lines[i]:match ";" do i = i + 1 end
  return i
end

-- A line of code; a comment behind it says what it is.
local function put_code(line)
  local code, text = line:match "^(.-%S)%s*/%*(.*)$"
  if not code then return put("%s", line) end
  -- A comment behind an opening brace describes the struct or enum that the brace opens.
  if code:match "{$" and text:match "%*/" then return put("/** %s\n%s", escape(text), code) end
  put("%s /**<%s", code, escape(text))
end

local groups, i = 0, 1
while i <= #lines do
  local title = lines[i]:match "^/%* %-%-%-%- (.-) %-%-%-%-"
  if title then
    local text, last = comment_at(i)
    text[1] = ""
    groups = groups + 1
    if groups > 1 then put "/** @} */" end
    put("/** @defgroup %s %s\n%s\n@{ */", title:lower():gsub("%W+", "_"), title, body(text))
    i = last + 1
  elseif lines[i]:match "^%s*/%*" then
    local text, last = comment_at(i)
    if i == 1 and path:match "luio%.h$" then put "/** @file */" end
    put("/** %s%s */", i > 1 and "" or path:match "luio%.h$" and "@mainpage Overview\n" or "@file\n", body(text))
    i = last + 1
    -- Several functions below it.
    local run = 0
    local at = i
    while is_function(at) do
      run = run + 1
      at = declared_to(at) + 1
    end
    if run > 1 then
      put "/** @{ */"
      for line = i, at - 1 do put_code(lines[line]) end
      put "/** @} */"
      i = at
    end
  else
    put_code(lines[i])
    i = i + 1
  end
end
if groups > 0 then put "/** @} */" end
io.write(table.concat(out, "\n"), "\n")
