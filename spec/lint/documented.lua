--- Public functions without documentation: what `make lint` refuses.
---
--- Lua: a field of the table that a file returns, or of a class, that is a function and is marked neither `---@package` nor
--- `---@private`, has a description, and `---@param` and `---@return` for each parameter and result. A parameter that is called `_`
--- needs none; `---@return any ...` stands for any number of results. C: a function of a public header (runtime/luio*.h) has a comment
--- above it, behind it, or above the functions that it follows without a line between.

local luacats = require "lua.doc.luacats"

local M = {}

local function lines_of(path)
  local list = {}
  for line in io.lines(path) do table.insert(list, line) end
  return list
end

local function missing(item)
  local c = item.comment or { text = {}, params = {}, returns = {} }
  local list, stated = {}, {}
  if #c.text == 0 then table.insert(list, "no description") end
  for _, p in ipairs(c.params) do stated[p.name] = true end
  for _, name in ipairs(item.args) do
    if name:sub(1, 1) ~= "_" and not stated[name] then table.insert(list, "no @param " .. name) end
    stated[name] = nil
  end
  for name in pairs(stated) do table.insert(list, "no parameter " .. name) end
  local last = c.returns[#c.returns]
  local any = last and last.text:match "^%.%.%." -- "---@return any ...": any number of them
  if #c.returns < item.results and not any then table.insert(list, ("%d @return, %d results"):format(#c.returns, item.results)) end
  return list
end

--- Descriptions that a Lua file lacks.
---@param path string
---@return string[] faults  "path:line: name: no description"
function M.lua(path)
  local faults = {}
  for _, item in ipairs(luacats.read(path, path).items) do
    if item.kind == "function" and not item.same_as and not (item.comment and item.comment.internal) and not item.bare then
      local list = missing(item)
      if #list > 0 then
        local name = ("%s%s%s"):format(item.owner or "", item.owner and (item.method and ":" or ".") or "", item.name)
        table.insert(faults, ("%s:%d: %s: %s"):format(path, item.line, name, table.concat(list, ", ")))
      end
    end
  end
  return faults
end

--- Functions of a header without a comment.
---@param path string
---@return string[] faults
function M.header(path)
  local faults, lines = {}, lines_of(path)
  local covered = false -- the line before belongs to something that has a comment
  local i = 1
  while i <= #lines do
    local line = lines[i]
    if line:match "^LUIO_API " then
      local first = i
      while not lines[i]:match ";" do i = i + 1 end
      if not covered and not lines[i]:match "/%*" then
        table.insert(faults, ("%s:%d: %s: no comment"):format(path, first, line:match "([%w_]+)%(" or line))
      end
    elseif line:match "^/%* %-%-%-%-" then
      -- A group's text is no function's.
      while not lines[i]:match "%*/%s*$" do i = i + 1 end
      covered = false
    elseif line:match "^%s*/?%*" then
      covered = line:match "%*/%s*$" ~= nil
    else
      covered = false
    end
    i = i + 1
  end
  return faults
end

--- Descriptions that the library and its headers lack.
---@return string[] faults
function M.check()
  local faults = {}
  local function add(list) for _, fault in ipairs(list) do table.insert(faults, fault) end end
  local found = assert(io.popen "find lua/luio -name '*.lua' | sort")
  for path in found:lines() do add(M.lua(path)) end
  found:close()
  local headers = assert(io.popen "ls runtime/luio*.h")
  for path in headers:lines() do add(M.header(path)) end
  headers:close()
  return faults
end

return M
