--- How the importer gives up: one message with the place, and a code, from however deep it was.
---
--- The modules call fail(); luio.registers.import catches it and returns `nil, message, code`. An error that did
--- not come from here is a bug and stays one.

local M = {}

local Failure = {}

--- Ends the import.
---@param code string    "EINVAL" the file is wrong, "E2BIG" over a limit, "ENOENT"
---@param line integer?  in the SVD file
---@param format string
---@param ... any  for the format
function M.fail(code, line, format, ...)
  error(setmetatable({ code = code, line = line, text = format:format(...) }, Failure), 0)
end

--- Calls fn; its results, or nil, message, code.
---@param source string  what messages call the file
---@param fn function
---@return any ...
function M.catch(source, fn)
  local results = { xpcall(fn, function(err)
    return getmetatable(err) == Failure and err or debug.traceback(err, 2)
  end) }
  if results[1] then return unpack(results, 2, table.maxn(results)) end
  local err = results[2]
  if getmetatable(err) ~= Failure then error(err, 0) end
  return nil, ("%s:%s %s"):format(source, err.line and err.line .. ":" or "", err.text), err.code
end

return M
