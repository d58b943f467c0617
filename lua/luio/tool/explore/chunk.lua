--- A line that was typed at the prompt: an expression, statements, the beginning of something
--- longer, or a word to the prompt itself (`?STATUS`, `??word`, `help NAME`, `exit`).
---
--- Lua's own parser decides. Text that compiles behind `return` is an expression; other text that
--- compiles is a statement. An error at `<eof>` means that more lines follow. A chunk and the
--- functions that it makes are never compiled to machine code: a compiled loop sees no hook, and
--- Ctrl-C comes by a hook (luio.tool.explore.interrupt).

local M = {}

---@class luio.Chunk
---@field kind "empty"|"expression"|"statement"|"incomplete"|"error"|"explain"|"search"|"help"|"leave"
---@field code function?    expression, statement: to be called
---@field message string?   error: the parser's message, with its line
---@field word string?      explain, search: the subject
---@field name string?      statement: the first name of a `local` that later chunks will not see

local LEAVE = { exit = true, quit = true, ["exit()"] = true, ["quit()"] = true }

-- A string in quotes goes on only behind a backslash.
local function unfinished(text, message)
  if not message:find "near '<eof>'$" then return false end
  return not message:find "unfinished string" or text:find "\\\n?$" ~= nil
end

-- `local x = 5` alone: the user expects to use x in the next line.
local function lone_local(text)
  local name = text:match "^local%s+([%a_][%w_]*)%s*=" or text:match "^local%s+function%s+([%a_][%w_]*)"
  return name and not text:find "[;\n]" and name or nil
end

--- The kind of a text. Runs nothing.
---@param text string
---@param name string  of the chunk, in messages: "prompt"
---@param env? table   what its globals are
---@param line? integer  where it begins, in messages; 1
---@return luio.Chunk
function M.read(text, name, env, line)
  local body = text:match "^%s*(.-)%s*$"
  if body == "" then return { kind = "empty" } end
  if LEAVE[body] then return { kind = "leave" } end
  local search = body:match "^%?%?%s*(.*)$"
  if search then return search == "" and { kind = "help" } or { kind = "search", word = search } end
  local explain = body:match "^%?%s*(.*)$"
  if explain then return explain == "" and { kind = "help" } or { kind = "explain", word = explain } end

  local about = body:match "^help%s+([%a_][%w_.%[%]]*)$"
  if about then return { kind = "explain", word = about } end

  text = text:gsub("^%s*=", "", 1) -- "=x", as in Lua's own prompt
  text = text:gsub("^%s*:(%a+)%s*$", "%1()", 1) -- ":reload", as in an editor
  if line then text = ("\n"):rep(line - 1) .. text end
  local code, why_no_expression = loadstring("return " .. text, "=" .. name)
  local kind, message = "expression", nil
  if code then
    -- `return f()` would be a tail call: errors in f would be said to be where the chunk is called from.
    -- A call is on the line of its last parenthesis; only a comment needs that on the next.
    local wrapped = "return (function(...) return ... end)(" .. text
    code = loadstring(wrapped .. ")", "=" .. name) or assert(loadstring(wrapped .. "\n)", "=" .. name))
  else
    kind = "statement"
    code, message = loadstring(text, "=" .. name)
  end
  if not code then
    if unfinished(text, message) or unfinished(text, why_no_expression) then return { kind = "incomplete", message = message } end
    return { kind = "error", message = message }
  end
  jit.off(code, true)
  if env then setfenv(code, env) end
  return { kind = kind, code = code, name = kind == "statement" and lone_local(body) or nil }
end

return M
