--- Runs a script whose `qemu:` network card has a cable to the card of another such script:
---
---     luio spec/support/wired.lua DIR/a examples/pktgen.lua qemu:e1000e,netdev=n0 --receive &
---     luio spec/support/wired.lua DIR/b examples/pktgen.lua qemu:e1000e,netdev=n0
---
--- DIR/a and DIR/b are the cable's ends, sockets of QEMU's. The machine at an end takes frames as its card has room for them; at an end
--- that nobody has they are lost.

local here, script = arg[1], arg[2]
local there = here:gsub(".$", { a = "b", b = "a" })
require("luio.device.settings").qemu = {
  "-netdev", ("dgram,id=n0,local.type=unix,local.path=%s,remote.type=unix,remote.path=%s"):format(here, there),
}
local rest = { [0] = script }
for i = 3, #arg do rest[i - 2] = arg[i] end
_G.arg = rest
return dofile(script)
