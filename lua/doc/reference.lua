--- The Lua half of the API reference: LuaCATS annotations, written down anew in the comments that LDoc reads.
---
---     luajit lua/doc/reference.lua FOLDER [TAGFILE]    writes FOLDER/NAME.lua, a file for each page, for `ldoc -c lua/doc/config.ld`
---
--- lua/doc/pages.lua says which files are on which page. Types in parameters and results, modules and classes that a text names, and C
--- functions (from Doxygen's TAGFILE) become links. A type of luio's that is on no page is an error.

package.path = "./?.lua;./?/init.lua;" .. package.path
local luacats = require "lua.doc.luacats"

local folder, tagfile = arg[1], arg[2]
assert(folder, "usage: luajit lua/doc/reference.lua FOLDER [TAGFILE]")

-- ---- Modules and classes -----------------------------------------------------------------------------

local function path_of(module)
  local path = "lua/" .. module:gsub("%.", "/")
  local f = io.open(path .. ".lua")
  if f then
    f:close()
    return path .. ".lua"
  end
  return path .. "/init.lua"
end

local read = {}
local function file_of(module)
  read[module] = read[module] or luacats.read(path_of(module), module)
  return read[module]
end

local function public(item) return not (item.comment and item.comment.internal) end

-- name -> what a link to it says: "luio.Device" has a page, "luio.Info" is a table on one.
local links, faults = {}, {}

local function fault(...) table.insert(faults, (...):format(select(2, ...))) end

-- The function behind `luio.list = device.list`, with its comment.
local function origin(item)
  if not item.same_as then return item end
  local ok, file = pcall(file_of, item.same_as[1])
  for _, other in ipairs(ok and file.items or {}) do
    if other.name == item.same_as[2] and not other.owner then
      local found = origin(other)
      local copy = {}
      for key, value in pairs(found) do copy[key] = value end
      copy.name, copy.owner = item.name, item.owner
      -- A function that is a method here has the object as its first parameter.
      if item.owner and not copy.method then
        copy.method, copy.args = true, { unpack(found.args, 2) }
      end
      if item.comment and #item.comment.text > 0 then copy.comment = item.comment end
      return copy
    end
  end
  return item
end

-- A comma-separated list at the outermost level: "a: integer, b?: fun(x: T, y: T)".
local function split(text)
  local list, depth, start = {}, 0, 1
  for at = 1, #text do
    local c = text:sub(at, at)
    if c:match "[%(<{%[]" then depth = depth + 1 elseif c:match "[%)>}%]]" then depth = depth - 1 end
    if c == "," and depth == 0 then
      table.insert(list, text:sub(start, at - 1))
      start = at + 2
    end
  end
  if start <= #text then table.insert(list, text:sub(start)) end
  return list
end

local function sentence(text)
  if text == "" then return text end
  text = text:gsub("^%l", string.upper)
  return text:match "[.:)]$" and text or text .. "."
end

-- A field that is a function with self first is a method, which is made elsewhere.
local function method_of(class, field)
  local inner, rest = field.type:match "^fun(%b())(.*)$"
  if not inner or not inner:match "^%(self: " then return nil end
  local item = { kind = "function", name = field.name, owner = class.name, method = true, args = {}, results = 0,
    comment = { text = { sentence(field.text) }, params = {}, returns = {} } }
  for i, stated in ipairs(split(inner:sub(2, -2))) do
    local name, optional, kind = stated:match "^([%w_.]+)(%??): (.*)$"
    if i > 1 then
      table.insert(item.args, name)
      table.insert(item.comment.params, { name = name, optional = optional == "?", type = kind, text = "" })
    end
  end
  for _, kind in ipairs(split(rest:match "^: (.*)$" or "")) do
    table.insert(item.comment.returns, { name = "", type = kind, text = "" })
  end
  return item
end

-- Classes by name; parts of one in several files are one.
local function gather(page)
  local classes, list, hidden = {}, {}, {}
  for _, name in ipairs(page.hides or {}) do hidden[name] = true end
  local function shown_parent(c) return c.parent and not hidden[c.parent] and c.parent or nil end
  for _, module in ipairs(page.files) do
    local file = file_of(module)
    for _, c in ipairs(file.classes) do
      if not c.internal and not hidden[c.class] then
        local class = classes[c.class]
        if not class then
          class = { name = c.class, parent = shown_parent(c), text = {}, fields = {}, methods = {} }
          classes[c.class] = class
          table.insert(list, class)
        end
        if #class.text == 0 then class.text = c.text end
        class.parent = class.parent or shown_parent(c)
        local before = ""
        for _, field in ipairs(c.fields) do
          local method = method_of(class, field)
          -- Those that have no text are as the one before, of another width.
          if method and field.text == "" then method.comment.text = { before } end
          before = method and method.comment.text[1] or ""
          table.insert(method and class.methods or class.fields, method or field)
        end
      end
    end
    for _, stated in ipairs(file.items) do
      local item = origin(stated)
      if item.owner and item.kind == "function" and public(item) and classes[item.owner] then
        table.insert(classes[item.owner].methods, item)
      end
    end
  end
  for _, class in ipairs(list) do
    if #class.text == 0 then fault("class %s has no description", class.name) end
  end
  return list
end

-- "luio.device.*" -> all modules in that folder.
local function expanded(modules)
  local list = {}
  for _, module in ipairs(modules) do
    local room = module:match "^(.*)%.%*$"
    if not room then table.insert(list, module) end
    local found = room and assert(io.popen(("ls lua/%s/*.lua"):format((room:gsub("%.", "/")))))
    for path in found and found:lines() or function() end do
      local name = path:match "([^/]+)%.lua$"
      if name ~= "init" then table.insert(list, room .. "." .. name) end
    end
    if found then found:close() end
  end
  return list
end

local pages = require "lua.doc.pages"
for _, page in ipairs(pages) do
  page.name = page[1]
  page.files = expanded(page.files)
  page.classes, page.aliases = gather(page), {}
  links[page.name] = page.name
  for _, module in ipairs(page.files) do
    for _, alias in ipairs(file_of(module).aliases) do
      table.insert(page.aliases, alias)
    end
  end
  for _, class in ipairs(page.classes) do
    class.short = class.name:gsub("^.*%.", "")
    links[class.name] = #class.methods > 0 and class.name or page.name .. "." .. class.short
  end
  for _, alias in ipairs(page.aliases) do links[alias.alias] = page.name .. "." .. alias.alias:gsub("^.*%.", "") end
end

-- C functions and structures: where they are in Doxygen's pages.
local c_names = {}
if tagfile then
  local f = assert(io.open(tagfile, "rb"))
  local xml = f:read "*a"
  f:close()
  for member in xml:gmatch "<member.->(.-)</member>" do
    local name, at = member:match "<name>([%w_]+)</name>", member:match "<anchorfile>(.-)</anchorfile>"
    local anchor = member:match "<anchor>(.-)</anchor>"
    if name and at then c_names[name] = at .. "#" .. anchor end
  end
  for kind, compound in xml:gmatch '<compound kind="(%l+)">(.-)</compound>' do
    local name, at = compound:match "<name>([%w_]+)</name>", compound:match "<filename>(.-)</filename>"
    if kind == "struct" and name then c_names[name] = at end
  end
end

-- ---- Text ----------------------------------------------------------------------------------------------

local function escape(text) return (text:gsub("[&<>]", { ["&"] = "&amp;", ["<"] = "&lt;", [">"] = "&gt;" })) end

-- Names that are on a page become links; `in_type`: each has to be.
local function linked(text, in_type)
  text = text:gsub("luio[%w_.]*[%w_]", function(name)
    if c_names[name] then return ('<a href="../c/%s">%s</a>'):format(c_names[name], name) end
    if links[name] and name ~= "luio" then return ("@{%s|%s}"):format(links[name], name) end
    if in_type and name:match "^luio%.[%w.]*%u" then fault("%s: the type %s is on no page of the reference", in_type, name) end
    return name
  end)
  return text
end

local function inline(text)
  text = escape(text)
  local parts = {}
  -- Text quoted as code gets no links.
  for plain, code in (text .. "``"):gmatch "([^`]*)`([^`]*)`" do
    table.insert(parts, linked(plain))
    if code ~= "" then table.insert(parts, "<code>" .. code .. "</code>") end
  end
  return (table.concat(parts):gsub("@(%l)", "&#64;%1"):gsub("%f[%S]%*(%a[^*\n]*)%*", "<em>%1</em>"))
end

-- A comment's lines: paragraphs, and blocks that are indented by four as they are.
local function html(lines)
  local out, open, blank = {}, nil, false
  local function turn(to)
    if open == to then return end
    if open == "pre" then table.insert(out, "</pre>") end
    if to == "pre" then table.insert(out, "<pre>") end
    open = to
  end
  for _, line in ipairs(lines) do
    local code = line:match "^    (.*)$" or (open == "pre" and line:match "^  +%S" and line)
    if line:match "^%s*$" then
      blank = true
    elseif code then
      if blank and open == "pre" then table.insert(out, "") end
      turn "pre"
      table.insert(out, (escape(code)))
      blank = false
    else
      local was = open
      turn "p"
      if blank or was == "pre" then table.insert(out, "<p>") end
      table.insert(out, line)
      blank = false
    end
  end
  turn(nil)
  return out
end

-- Backticks may span lines, so text is joined before it is made inline; code is left alone.
local function paragraphs(lines)
  local out, text = {}, {}
  local function flush()
    if #text == 0 then return end
    for line in (inline(table.concat(text, "\n")) .. "\n"):gmatch "(.-)\n" do table.insert(out, line) end
    text = {}
  end
  local inside = false
  for _, line in ipairs(html(lines)) do
    if line == "<pre>" or line == "</pre>" or line == "<p>" or inside then
      flush()
      inside = line ~= "</pre>" and (inside or line == "<pre>")
      table.insert(out, line)
    else
      table.insert(text, line)
    end
  end
  flush()
  return out
end

local function typed(kind, where) return ('<span class="types">%s</span>'):format(linked(escape(kind), where)) end

-- ---- Pages ---------------------------------------------------------------------------------------------

-- A comment for LDoc. The first line is the summary, up to its full stop.
local function comment(out, lines, ...)
  for i, line in ipairs(#lines > 0 and lines or { "" }) do table.insert(out, (i == 1 and "--- " or "-- ") .. line) end
  for _, line in ipairs { ... } do table.insert(out, "-- " .. line) end
end

local function add_function(out, item, name, where)
  local c = item.comment or { text = {}, params = {}, returns = {} }
  comment(out, paragraphs(c.text))
  table.insert(out, "-- @function " .. name)
  local by_name = {}
  for _, p in ipairs(c.params) do by_name[p.name] = p end
  for _, arg_name in ipairs(item.args) do
    local p = by_name[arg_name]
    if not p then
      table.insert(out, "-- @param " .. arg_name)
    else
      table.insert(out, ("-- @param%s %s %s %s"):format(p.optional and "[opt]" or "", p.name, typed(p.type, where), inline(p.text)))
    end
  end
  for _, r in ipairs(c.returns) do
    local named = r.name ~= "" and ('<span class="parameter">%s</span> '):format(r.name) or ""
    table.insert(out, ("-- @return %s%s %s"):format(named, typed(r.type, where), inline(r.text)))
  end
  table.insert(out, "")
end

local function add_table(out, name, text, fields, where)
  comment(out, text, "@table " .. name)
  for _, f in ipairs(fields) do
    -- The type has its question mark; LDoc's "(optional)" would say it twice.
    local key = f.name:gsub("[%[%]]", { ["["] = "&#91;", ["]"] = "&#93;" }) -- LDoc takes brackets for "optional"
    table.insert(out, ("-- @field %s %s %s"):format(key, typed(f.type, where), inline(f.text)))
  end
  table.insert(out, "")
end

local function write(name, lines)
  local f = assert(io.open(("%s/%s.lua"):format(folder, name), "wb"))
  assert(f:write(table.concat(lines, "\n"), "\n"))
  assert(f:close())
end

local function with_parent(text, class, where)
  if not class.parent then return text end
  return { ("It has all that a %s has."):format(linked(class.parent, where)), unpack(text) }
end

for _, page in ipairs(pages) do
  local main = file_of(page.files[1])
  local out = {}
  if #main.text == 0 then fault("%s has no opening comment", main.path) end
  comment(out, paragraphs(main.text), "@module " .. page.name)
  table.insert(out, "")
  for _, stated in ipairs(page.functions and main.items or {}) do
    local item = origin(stated)
    local where = ("%s:%d"):format(main.path, stated.line)
    if not item.owner then
      if public(item) and item.kind == "function" then
        add_function(out, item, item.name, where)
      elseif public(item) and item.comment then
        comment(out, paragraphs(item.comment.text), "@field " .. item.name)
        table.insert(out, "")
      end
    end
  end
  for _, class in ipairs(page.classes) do
    local text = with_parent(paragraphs(class.text), class, page.name)
    if #class.methods == 0 then
      add_table(out, class.short, text, class.fields, class.name)
    else
      local own = {}
      if #text == 0 then text = { ("See %s."):format(linked(page.name)) }
      else table.insert(text, "<p>"); table.insert(text, ("More: %s."):format(linked(page.name))) end
      comment(own, text, "@classmod " .. class.name)
      table.insert(own, "")
      if #class.fields > 0 then add_table(own, "fields", { "What it has." }, class.fields, class.name) end
      for _, item in ipairs(class.methods) do
        add_function(own, item, class.short:lower() .. (item.method and ":" or ".") .. item.name, class.name .. "." .. item.name)
      end
      write(class.name, own)
    end
  end
  for _, alias in ipairs(page.aliases) do
    add_table(out, alias.alias:gsub("^.*%.", ""), { typed(alias.alias_type, page.name), unpack(paragraphs(alias.text)) }, {}, page.name)
  end
  write(page.name, out)
end

table.sort(faults)
for i, text in ipairs(faults) do
  if text ~= faults[i - 1] then io.stderr:write(text, "\n") end
end
os.exit(#faults == 0 and 0 or 1)
