--- The floors of the project, the lowest first: spec/lint/layers.lua checks that nothing uses what lies above it. A file's
--- own line counts before its folder's. `make layers` runs the check; it fails, too, where an arrow in `known` is gone.

return {
  c = {
    { "all", "runtime/" },
  },
  lua = {
    { "base", "lua/luio/compiler/", "lua/luio/errors.lua", "lua/luio/ffi.lua", "lua/luio/text/", "lua/luio/registers/near.lua", "lua/luio/registers/bits.lua",
      "lua/luio/tool/output.lua", "lua/luio/tool/explore/syntax.lua" },
    { "loop", "lua/luio/loop/" },
    { "host", "lua/luio/host/", "lua/luio/driver/paths.lua", "lua/luio/driver/lint_code.lua" },
    { "registers", "lua/luio/registers/" },
    { "parts", "lua/luio/region.lua", "lua/luio/config.lua", "lua/luio/dma.lua", "lua/luio/pool.lua", "lua/luio/irq.lua", "lua/luio/irq/",
      "lua/luio/top_half.lua" },
    { "device", "lua/luio/device/", "lua/luio/hotplug/", "lua/luio/sim.lua", "lua/luio/model.lua" },
    { "driver", "lua/luio/driver/", "lua/luio/reload/", "lua/luio/host/doctor/", "lua/luio/host/report.lua",
      "lua/luio/hotplug/wait_device.lua" },
    { "luio", "lua/luio/init.lua" },
    { "ports", "lua/luio/port/", "lua/luio/net/", "lua/luio/serial/" },
    { "tool", "lua/luio/tool/" },
    { "drivers", "drivers/" },
  },
  -- Files with a `require` whose name is no literal.
  dynamic = {
    ["lua/luio/reload/environment.lua"] = "a driver's own require",
    ["lua/luio/reload/version.lua"] = "a driver's own require",
  },
  -- Arrows that are still to go.
  known = {},
}
