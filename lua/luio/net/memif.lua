--- memif: Ethernet frames between processes, through shared memory. The interface is VPP's; libmemif and DPDK's
--- net_memif speak it.
---
---     local memif = require "luio.net.memif"
---     local server = memif.listen("/run/share.sock", { ... })   -- luio.net.memif.server; luio.net.share is built on it
---     local port = memif.connect("/run/share.sock", { id = 1 }) -- luio.net.memif.client: a port like a card's
---
--- Messages and rings: luio.net.memif.protocol.

return {
  listen = require("luio.net.memif.server").listen,
  connect = require("luio.net.memif.client").connect,
}
