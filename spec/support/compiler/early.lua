--- Puts luio.compiler in place before busted itself: luajit -lspec.support.compiler.early BUSTED..., in the checkout.

local path = package.path
package.path = "./lua/?.lua;./lua/?/init.lua;" .. path
require "luio.compiler"
package.path = path

-- A guest's processor is emulated: code that is compiled there is translated anew, which takes longer than most specs' loops.
if (os.getenv "LUIO_STAGE" or ""):find "^guest" then jit.opt.start "hotloop=1000" end
