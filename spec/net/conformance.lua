--- Holds one port in loopback to what luio.net promises: the same for every driver, on a model and on a card.
---
---     require "spec.net.conformance" {
---       address = "sim:e1000e",
---       packets = 2000,                            -- how many are many; tens of thousands on a card
---       reset = function(port) ... end,            -- resets the device behind the driver's back
---       flap = function(port, up) ... end,         -- takes the link away, or gives it back
---       ...
---     }
---
--- The calling spec names what the device, or its emulation, can't do, each with its reason:
---
---     blind = "..."       looks at no checksum of what it receives: packet.flags stays 0
---     uncounted = "..."   does not count what its full ring misses
---     short = "..."       counts short frames as errors, which the sender has padded
---     options = {}        of every net.open here
---     parts = {}          of spec/net/conformance/, all if nil: the spec that calls this says where the others are shown
---
--- Each of these opens its port anew, and closes it: what is still out then, in packets or DMA memory, is an error.

local busted = require "busted"
local assert = require "luassert"
local net = require "luio.net"
local support = require "spec.net.conformance.support"

local PARTS = { "port", "bursts", "waits", "frames", "counts", "life" }

---@class luio.Conformance
---@field address string
---@field packets integer
---@field reset fun(port: luio.net.Port)?
---@field flap fun(port: luio.net.Port, up: boolean)?
---@field blind string?
---@field uncounted string?
---@field short string?
---@field options luio.net.Options?
---@field parts string[]?

---@param subject luio.Conformance
return function(subject)
  local opened

  --- Opens the port, for one spec, and waits until what is sent comes back.
  ---@param options? luio.net.Options
  ---@return luio.net.Port
  function subject.open(options)
    local all = { loopback = true }
    for key, value in pairs(subject.options or {}) do all[key] = value end
    for key, value in pairs(options or {}) do all[key] = value end
    local port = assert(net.open(subject.address, all))
    local one = { port = port, warnings = {}, used = port.pool:used() }
    port.dev.on_warning = function(message) table.insert(one.warnings, message) end
    table.insert(opened, one)
    support.wait_for_loopback(port)
    return port
  end

  --- The device's warnings since it was opened.
  function subject.warnings(port)
    for _, one in ipairs(opened) do
      if one.port == port then return one.warnings end
    end
  end

  busted.describe(("luio.net on %s in loopback"):format(subject.address), function()
    busted.before_each(function() opened = {} end)

    -- Nothing is left behind: the rings' own packets are out, no others; and no DMA memory once it is closed.
    busted.after_each(function()
      local out = {}
      for _, one in ipairs(opened) do
        local port = one.port
        if not port.closed then
          port.tx[0]:flush(1)
          support.drain(port)
          table.insert(out, port.pool:used() - one.used)
          assert(port:close())
        end
        assert.same({ 0, 0 }, { port.pool:used(), port.dev.dma:stats().buffers })
      end
      for _, n in ipairs(out) do assert.equal(0, n) end
    end)

    for _, part in ipairs(subject.parts or PARTS) do require("spec.net.conformance." .. part)(subject) end
  end)
end
