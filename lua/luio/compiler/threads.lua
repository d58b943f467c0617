--- Threads that luv starts have Lua states of their own, which compile as well: each first requires the module that `begin` is
--- given (luio.compiler). Their modules are searched where this state's are: LuaJIT's default, which a new state has, begins with
--- the current folder.

local M = {}

-- Where we are, unless it is in the program.
local dir = debug.getinfo(1, "S").source:match "^@(.*)/luio/compiler/[^/]*$"
local found_by = dir and ("%s/?.lua;%s/?/init.lua;"):format(dir, dir) or ""

-- The code that a thread runs before the bytecode from luv.
local ENTRY = [[
package.path, package.cpath = %q, %q
require %q
package.path = %q
return loadstring(%q, "=thread")(...)
]]

local first_module ---@type string  each thread requires it first

local function wrap(entry)
  local code = type(entry) == "function" and string.dump(entry) or entry
  if type(code) ~= "string" or not loadstring(code) then return entry end -- luv reports the error
  -- A function, for not each luv keeps a string while it needs it.
  return loadstring(ENTRY:format(found_by .. package.path, package.cpath, first_module, package.path, code), "=thread")
end

local function patch(uv)
  local new_thread, new_work = uv.new_thread, uv.new_work
  uv.new_thread = function(first, ...)
    if type(first) == "table" then return new_thread(first, wrap((...)), select(2, ...)) end
    return new_thread(wrap(first), ...)
  end
  uv.new_work = function(work, ...) return new_work(wrap(work), ...) end
end

--- Sees to threads from now on, when luv is loaded.
---@param first string  the module that each requires first
function M.begin(first)
  first_module = first
  local uv = package.loaded.luv
  if uv then return patch(uv) end
  local preloaded = package.preload.luv -- the program that brings luv along
  package.preload.luv = function(name, ...)
    package.preload.luv = preloaded
    local loaded
    for _, loader in ipairs(package.loaders) do
      local open = loader(name)
      if type(open) == "function" then
        loaded = open(name, ...)
        break
      end
    end
    if type(loaded) == "table" then patch(loaded) end
    return loaded or error(("module '%s' not found: install lua-luv"):format(name), 2)
  end
end

return M
