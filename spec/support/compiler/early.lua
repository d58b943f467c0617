--- Puts luio.compiler in place before busted itself: luajit -lspec.support.compiler.early BUSTED..., in the checkout.

local path = package.path
package.path = "./lua/?.lua;./lua/?/init.lua;" .. path
require "luio.compiler"
package.path = path
