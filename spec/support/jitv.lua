--- Runs a script under LuaJIT's -jv: luio spec/support/jitv.lua OUTPUT SCRIPT ARGUMENTS...

package.path = package.path .. ";/usr/share/luajit-2.1.0-beta3/?.lua"
local output, script = arg[1], arg[2]
local rest = { [0] = script }
for i = 3, #arg do rest[i - 2] = arg[i] end
_G.arg = rest
require("jit.v").on(output)
return dofile(script)
