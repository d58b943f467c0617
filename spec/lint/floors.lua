--- The floors of the project, the lowest first: spec/lint/layers.lua checks that nothing uses what lies above it. A file's
--- own line counts before its folder's. `make layers` runs the check; it fails, too, where an arrow in `known` is gone.

return {
  c = {
    { "all", "runtime/" },
  },
  lua = {
    { "base", "lua/luio/compiler/", "lua/luio/errors.lua", "lua/luio/ffi.lua", "lua/luio/text/", "lua/luio/registers/near.lua",
      "lua/luio/tool/output.lua", "lua/luio/tool/explore/syntax.lua" },
    { "loop", "lua/luio/loop/", "lua/luio/reload/staging.lua" },
    { "host", "lua/luio/host/", "lua/luio/driver/paths.lua", "lua/luio/driver/lint_code.lua" },
    { "registers", "lua/luio/registers/" },
    { "parts", "lua/luio/region.lua", "lua/luio/config.lua", "lua/luio/dma.lua", "lua/luio/pool.lua", "lua/luio/irq.lua",
      "lua/luio/top_half.lua" },
    { "device", "lua/luio/device.lua", "lua/luio/hotplug/", "lua/luio/sim.lua", "lua/luio/model.lua" },
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
  known = {
    ["lua/luio/device.lua -> lua/luio/reload/guardian.lua"] = "lazy",
    ["lua/luio/device.lua -> lua/luio/reload/report.lua"] = "",
    ["lua/luio/driver/match.lua -> lua/luio/driver/init.lua"] = "lazy",
    ["lua/luio/driver/init.lua -> lua/luio/reload/live.lua"] = "",
    ["lua/luio/host/holders.lua -> lua/luio/reload/guardian.lua"] = "",
    ["lua/luio/host/inspect.lua -> lua/luio/device.lua"] = "",
    ["lua/luio/host/inspect.lua -> lua/luio/sim.lua"] = "lazy",
    ["lua/luio/hotplug/config_watch.lua -> lua/luio/hotplug/init.lua"] = "lazy",
    ["lua/luio/loop/watchdog.lua -> lua/luio/loop/task.lua"] = "",
    ["lua/luio/reload/staging.lua -> lua/luio/region.lua"] = "",
    ["lua/luio/tool/cli/completion.lua -> lua/luio/tool/cli/init.lua"] = "lazy",
    ["lua/luio/tool/cli/man.lua -> lua/luio/tool/cli/init.lua"] = "lazy",
  },
}
