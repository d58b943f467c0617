--- `luio env`: what lets plain luajit and busted find luio, and keeps LuaJIT's compiler in check there (luio.compiler).

local uv = require "luv"

-- luajit runs LUA_INIT first; so does any other Lua, which luio.compiler leaves alone. What was set stays: text, or "@" and a file's
-- name.
local function init(dir, set)
  local ours = ("local path = package.path; package.path = %q .. path; pcall(require, 'luio.compiler'); package.path = path"):format(
    ("%s/?.lua;%s/?/init.lua;"):format(dir, dir))
  if not set or set == "" or set:find(ours, 1, true) then return set ~= "" and set or ours end
  local file = set:match "^@(.*)"
  return ("%s; %s"):format(ours, file and ("dofile(%q)"):format(file) or set)
end

local function quoted(text) return "'" .. text:gsub("'", "'\\''") .. "'" end

local function run()
  local dir = debug.getinfo(1, "S").source:match "^@(.*)/luio/cli/[^/]*$"
  if not dir then
    return nil, "luio's modules are in the program, where luajit can't find them; `luio FILE.lua` runs a script", "ENOTSUP"
  end
  dir = uv.fs_realpath(dir) or dir
  -- Behind ours stays what was set, else ";;": LuaJIT's own.
  print(("export LUA_PATH='%s/?.lua;%s/?/init.lua;'\"${LUA_PATH:-;}\""):format(dir, dir))
  print(("export LUA_INIT=%s"):format(quoted(init(dir, os.getenv "LUA_INIT"))))
  return 0
end

return {
  env = {
    options = function(p) p:epilog 'Example: eval "$(luio env)"; luajit -e \'print(require("luio").version)\'' end,
    run = run,
  },
}
