--- `luio env`: settings by which plain luajit and busted find luio, find no modules in the current folder, and have
--- luio.compiler.

local term = require "luio.text.term"
local uv = require "luv"

-- luajit runs LUA_INIT first; so does any other Lua, which luio.compiler leaves alone. An earlier setting stays: text, or "@" and a
-- file's name.
local function init(dir, set)
  local ours = ("local path = package.path; package.path = %q .. path; pcall(require, 'luio.compiler'); package.path = path"):format(
    ("%s/?.lua;%s/?/init.lua;"):format(dir, dir))
  if not set or set == "" or set:find(ours, 1, true) then return set ~= "" and set or ours end
  local file = set:match "^@(.*)"
  return ("%s; %s"):format(ours, file and ("dofile(%q)"):format(file) or set)
end

local function run()
  local dir = debug.getinfo(1, "S").source:match "^@(.*)/luio/tool/cli/[^/]*$"
  if not dir then
    return nil, "luio's modules are in the program, where luajit can't find them; `luio FILE.lua` runs a script", "ENOTSUP"
  end
  dir = uv.fs_realpath(dir) or dir
  if dir:match "[;?]" then return nil, ("%s: LUA_PATH can't name a folder that has ; or ? in its name"):format(dir), "EINVAL" end
  -- Behind ours are the program's own paths: the earlier setting, else LuaJIT's own, without relative entries. ";;"
  -- would bring "./?.lua" back.
  local function export(name, first, path)
    local list, known = {}, {}
    for entry in (first .. path):gmatch "[^;]+" do
      if not known[entry] then table.insert(list, entry) end
      known[entry] = true
    end
    term.print(("export %s=%s"):format(name, term.quoted(table.concat(list, ";"))))
  end
  -- A Lua of another version (busted is started by one) looks elsewhere. It asks its own variables first: they get what it
  -- used until now, its default mostly.
  for _, version in ipairs { "5_2", "5_3", "5_4", "5_5" } do
    for _, name in ipairs { "LUA_PATH", "LUA_CPATH" } do
      term.print(('export %s_%s="${%s_%s-${%s-;;}}"'):format(name, version, name, version, name))
    end
  end
  export("LUA_PATH", ("%s/?.lua;%s/?/init.lua;"):format(dir, dir), package.path)
  export("LUA_CPATH", "", package.cpath)
  term.print(("export LUA_INIT=%s"):format(term.quoted(init(dir, os.getenv "LUA_INIT"))))
  return 0
end

return {
  env = {
    options = function(p) p:epilog 'Example: eval "$(luio env)"; luajit -e \'print(require("luio").version)\'' end,
    run = run,
  },
}
