--- Floors: which file may use which. `make layers` (a part of `make lint`) checks them, for C and Lua alike.
---
---     make layers                                              all of it
---     luajit spec/lint/layers                                  Lua, and what C files include: needs nothing built
---     luajit spec/lint/layers build/*.o build/program/*.o      with the objects of the C files
---
--- spec/lint/floors.lua states the floors, from the lowest to the highest, and the files of each. A file uses what lies on
--- its own floor or below. Two faults are told:
---
---   an arrow that goes up   lua/luio/irq.lua:72 (floor 5, device) requires luio.driver (floor 7, driver)
---   a circle on one floor   circle: lua/luio/a.lua -> lua/luio/b.lua -> lua/luio/a.lua
---
--- Lua: each `require` counts, also one inside a function, and each string that is a module's name, for a lazy loader gets
--- such strings. `require("luio.tool.cli." .. name)` counts as all modules with that prefix. C: each #include counts, and
--- each symbol that one object defines and another uses, as nm shows them. An object build/NAME.o is of runtime/NAME.c.

local M = {}

---@class luio.lint.Floors
---@field lua (string|string[])[]  the floors of Lua, lowest first: { name, path or folder/, ... }
---@field c (string|string[])[]    those of C
---@field dynamic table<string, string>?  files whose `require` has a name that is no literal, and why

---@class luio.lint.Arrow
---@field from string    path
---@field to string      path
---@field line integer?
---@field text string    "requires luio.driver", "uses luio_device_x of runtime/device.c"

---@class luio.lint.Result
---@field faults string[]  one a line
---@field files integer
---@field arrows integer

local function read(path)
  local f = assert(io.open(path, "rb"))
  local text = f:read "*a"
  f:close()
  return text
end

local function lines_of(command)
  local out = {}
  local p = assert(io.popen(command))
  for line in p:lines() do table.insert(out, line) end
  p:close()
  return out
end

-- ---- Lua ------------------------------------------------------------------------------------------

local ESCAPES = { n = "\n", t = "\t" }

-- Words, signs and strings of a Lua text, without comments: { kind, value, line }.
local function tokens(text)
  local out, at, line = {}, 1, 1
  local function add(kind, value) table.insert(out, { kind = kind, value = value, line = line }) end
  local function pass(to)
    local _, n = text:sub(at, to):gsub("\n", "")
    line, at = line + n, to + 1
  end
  while true do
    at = at + #text:match("^[ \t\r]*", at)
    local c = text:sub(at, at)
    if c == "" then return out end
    local comment = text:match("^%-%-()", at)
    local equals = text:match("^%[(=*)%[", comment or at)
    if equals then
      local _, close = text:find("]" .. equals .. "]", at, true)
      close = close or #text
      if not comment then add("string", text:sub(at + #equals + 2, close - #equals - 2)) end
      pass(close)
    elseif comment then
      pass((text:find("\n", at, true) or #text + 1) - 1)
    elseif c == '"' or c == "'" then
      local to = at + 1
      while to <= #text and text:sub(to, to) ~= c do to = to + (text:sub(to, to) == "\\" and 2 or 1) end
      add("string", (text:sub(at + 1, to - 1):gsub("\\(.)", function(e) return ESCAPES[e] or e end)))
      pass(to)
    elseif c:match "[%a_]" then
      local word = text:match("^[%w_]+", at)
      add("word", word)
      at = at + #word
    elseif c == "\n" then
      pass(at)
    else
      local sign = text:match("^%.%.+", at) or c
      add("sign", sign)
      at = at + #sign
    end
  end
end

-- The modules that a Lua text loads: { name, prefix, line }; name nil: a `require` whose name is no literal.
local function loads(text)
  local all, out = tokens(text), {}
  local function is(i, value) return all[i] and all[i].kind ~= "string" and all[i].value == value end
  local function is_require(i) return is(i, "require") and not is(i - 1, ".") and not is(i - 1, ":") end
  for i, token in ipairs(all) do
    local bracket = is(i + 1, "(") or is(i + 1, ",") -- require(name), pcall(require, name)
    if token.kind == "string" then
      local required = is_require(i - 1) or (is(i - 1, "(") or is(i - 1, ",")) and is_require(i - 2)
      local prefix = is(i + 1, "..")
      if required or not prefix and token.value:match "^luio%.[%w_.]+$" then
        table.insert(out, { name = token.value, prefix = prefix, line = token.line })
      end
    elseif is_require(i) and bracket and all[i + 2].kind ~= "string" then
      table.insert(out, { line = token.line })
    end
  end
  return out
end

-- Module names of a tree: name -> path.
local function modules(root)
  local out = {}
  for _, path in ipairs(lines_of(("cd '%s' && find lua drivers -name '*.lua' 2>/dev/null | sort"):format(root))) do
    local name = path:gsub("^lua/", ""):gsub("%.lua$", ""):gsub("/init$", ""):gsub("/", ".")
    out[name] = path
  end
  return out
end

---@return luio.lint.Arrow[] arrows
---@return string[] files
---@return string[] faults
local function lua_arrows(root, floors)
  local arrows, files, faults = {}, {}, {}
  local of = modules(root)
  local function arrow(from, name, line)
    if of[name] ~= from then
      table.insert(arrows, { from = from, to = of[name], line = line, text = "requires " .. name })
    end
  end
  for _, path in pairs(of) do table.insert(files, path) end
  table.sort(files)
  for _, path in ipairs(files) do
    for _, load in ipairs(loads(read(root .. "/" .. path))) do
      if not load.name then
        if not (floors.dynamic or {})[path] then
          table.insert(faults, ("%s:%d: what this require loads can't be read: give it a literal, or state it in `dynamic` of "
            .. "spec/lint/floors.lua"):format(path, load.line))
        end
      elseif load.prefix then
        for name in pairs(of) do
          if name:sub(1, #load.name) == load.name then arrow(path, name, load.line) end
        end
      elseif of[load.name] then
        arrow(path, load.name, load.line)
      end
    end
  end
  return arrows, files, faults
end

-- ---- C --------------------------------------------------------------------------------------------

---@return luio.lint.Arrow[] arrows
---@return string[] files
local function c_arrows(root, objects)
  local arrows, files, there = {}, {}, {}
  for _, path in ipairs(lines_of(("cd '%s' && find runtime -maxdepth 1 -name '*.[ch]' 2>/dev/null | sort"):format(root))) do
    table.insert(files, path)
    there[path] = true
  end
  for _, path in ipairs(files) do
    local line = 0
    for text in read(root .. "/" .. path):gmatch "([^\n]*)\n" do
      line = line + 1
      local header = text:match '^%s*#%s*include%s+"([^"]+)"'
      local to = header and "runtime/" .. header
      if to and there[to] then table.insert(arrows, { from = path, to = to, line = line, text = "includes " .. header }) end
    end
  end
  -- nm -A -P: "build/irq.o: luio_irq_take T 0000 0000"
  local defined, used = {}, {}
  for first = 1, #objects, 100 do
    local some = table.concat(objects, "' '", first, math.min(first + 99, #objects))
    for _, text in ipairs(lines_of(("nm -A -P -g '%s'"):format(some))) do
      local object, symbol, kind = text:match "^(.-):%s+(%S+)%s+(%S)"
      local path = object and "runtime/" .. object:match "([^/]+)%.o$" .. ".c"
      if path and there[path] then
        if kind == "U" then table.insert(used, { path, symbol }) else defined[symbol] = path end
      end
    end
  end
  for _, use in ipairs(used) do
    local to = defined[use[2]]
    if to and to ~= use[1] then
      table.insert(arrows, { from = use[1], to = to, text = ("uses %s of %s"):format(use[2], to) })
    end
  end
  return arrows, files
end

-- ---- Floors ---------------------------------------------------------------------------------------

-- Where a file is: by its own line in the table, by that of a pattern ("runtime/dma*"), or by that of its innermost folder.
local function storeys(floors, files, faults)
  local entries, patterns, met = {}, {}, {}
  for number, floor in ipairs(floors) do
    for i = 2, #floor do
      local entry = floor[i]
      if entries[entry] then table.insert(faults, ("spec/lint/floors.lua: %s is there twice"):format(entry)) end
      entries[entry] = { number = number, name = floor[1] }
      if entry:find("*", 1, true) then patterns[entry] = "^" .. entry:gsub("[%p]", "%%%0"):gsub("%%%*", "[^/]*") .. "$" end
    end
  end
  local function entry_of(path)
    if entries[path] then return path end
    local longest
    for entry, pattern in pairs(patterns) do
      if path:match(pattern) and (not longest or #entry > #longest) then longest = entry end
    end
    local entry = longest or path:match "^(.*/)"
    while entry and not entries[entry] do entry = entry:match "^(.*/)[^/]+/$" end
    return entry
  end
  local at = {}
  for _, path in ipairs(files) do
    local entry = entry_of(path)
    if entry then
      at[path], met[entry] = entries[entry], true
    else
      table.insert(faults, ("%s: on no floor: add it to spec/lint/floors.lua"):format(path))
    end
  end
  for entry in pairs(entries) do
    if not met[entry] then table.insert(faults, ("spec/lint/floors.lua: there is no %s"):format(entry)) end
  end
  return at
end

-- Circles: a shortest one through each file, unless that file is in one that was told.
local function circles(arrows, faults)
  local to, nodes = {}, {}
  for _, a in ipairs(arrows) do
    if not to[a.from] then
      to[a.from] = {}
      table.insert(nodes, a.from)
    end
    if not to[a.from][a.to] then
      to[a.from][a.to] = true
      table.insert(to[a.from], a.to)
    end
  end
  table.sort(nodes)
  for _, next_files in pairs(to) do table.sort(next_files) end
  -- The shortest way from a file back to itself.
  local function way(start)
    local before, queue, head = {}, { start }, 1
    while queue[head] do
      local node = queue[head]
      head = head + 1
      for _, following in ipairs(to[node] or {}) do
        if following == start then
          local names = { start }
          repeat
            table.insert(names, 1, node)
            node = before[node]
          until not node
          return names
        end
        if not before[following] then
          before[following] = node
          table.insert(queue, following)
        end
      end
    end
  end
  local told = {}
  for _, node in ipairs(nodes) do
    local names = not told[node] and way(node)
    if names then
      for _, name in ipairs(names) do told[name] = true end
      table.insert(faults, "circle: " .. table.concat(names, " -> "))
    end
  end
end

local function check(arrows, files, floors, faults)
  local at = storeys(floors, files, faults)
  local level = {}
  for _, a in ipairs(arrows) do
    local from, to = at[a.from], at[a.to]
    if from and to and to.number > from.number then
      table.insert(faults, ("%s%s (floor %d, %s) %s (floor %d, %s)"):format(a.from, a.line and ":" .. a.line or "", from.number, from.name,
        a.text, to.number, to.name))
    else
      table.insert(level, a)
    end
  end
  circles(level, faults)
end

--- Checks a tree.
---@param root string  the folder that has runtime/, lua/ and drivers/
---@param floors luio.lint.Floors
---@param objects string[]?  of the C files; none: C is checked by its includes
---@return luio.lint.Result
function M.check(root, floors, objects)
  local arrows, files, faults = lua_arrows(root, floors)
  check(arrows, files, floors.lua, faults)
  local c, c_files = c_arrows(root, objects or {})
  check(c, c_files, floors.c, faults)
  return { faults = faults, files = #files + #c_files, arrows = #arrows + #c }
end

return M
