--- `luio env`: what lets plain luajit and busted find luio.

local uv = require "luv"

local function run()
  local dir = debug.getinfo(1, "S").source:match "^@(.*)/luio/cli/[^/]*$"
  if not dir then
    return nil, "luio's modules are in the program, where luajit can't find them; `luio FILE.lua` runs a script", "ENOTSUP"
  end
  dir = uv.fs_realpath(dir) or dir
  -- Behind ours stays what was set, else ";;": LuaJIT's own.
  print(("export LUA_PATH='%s/?.lua;%s/?/init.lua;'\"${LUA_PATH:-;}\""):format(dir, dir))
  return 0
end

return {
  env = {
    options = function(p) p:epilog 'Example: eval "$(luio env)"; luajit -e \'print(require("luio").version)\'' end,
    run = run,
  },
}
