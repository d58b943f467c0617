--- The floors of the project, the lowest first: spec/lint/layers.lua checks that nothing uses what lies above it. A file's
--- own line counts before a pattern's, and that before its folder's. `make layers` runs the check.

return {
  c = {
    { "base", "runtime/luio.h", "runtime/luio_*.h", "runtime/internal.h", "runtime/guard.h", "runtime/descriptors.*",
      "runtime/text.c", "runtime/error.c", "runtime/mmio.c", "runtime/cdef.c" },
    -- The kernel's files and calls; no device is open.
    { "kernel", "runtime/kernel.h", "runtime/sysfs.c", "runtime/files.c", "runtime/devicetree.c", "runtime/iomem.c", "runtime/pagemap.c",
      "runtime/port.c", "runtime/describe.c", "runtime/discovery.c", "runtime/devmem.c", "runtime/monitor.c", "runtime/devnull.c",
      "runtime/fork.c", "runtime/sigbus.c", "runtime/lock.c", "runtime/waker.c", "runtime/porter.c" },
    -- The worker's side of the guardian, and what both sides use.
    { "worker", "runtime/worker.h", "runtime/guard_*.c", "runtime/guard.c", "runtime/memfd.c", "runtime/watchdog.c" },
    { "registers", "runtime/registers.h", "runtime/backend.h", "runtime/region*.c", "runtime/config.c", "runtime/top_half.c",
      "runtime/storm.c", "runtime/sim.c", "runtime/qemu*" },
    { "parts", "runtime/parts.h", "runtime/bus_master.c", "runtime/intx.c", "runtime/vectors.c", "runtime/uio.c", "runtime/irq*", "runtime/config_watch.c",
      "runtime/dma*" },
    -- A way to devices each.
    { "ways", "runtime/ways.h", "runtime/backend*.c" },
    { "device", "runtime/device.h", "runtime/find.c", "runtime/device.c", "runtime/hotplug.c" },
    { "program", "runtime/main.c", "runtime/guardian*" },
  },
  lua = {
    { "base", "lua/luio/compiler/", "lua/luio/errors.lua", "lua/luio/ffi.lua", "lua/luio/posix.lua", "lua/luio/options.lua",
      "lua/luio/text/", "lua/luio/registers/near.lua", "lua/luio/registers/bits.lua",
      "lua/luio/tool/output.lua", "lua/luio/tool/explore/syntax.lua" },
    { "loop", "lua/luio/loop/" },
    { "host", "lua/luio/host/", "lua/luio/driver/paths.lua", "lua/luio/driver/lint_code.lua" },
    { "registers", "lua/luio/registers/" },
    { "parts", "lua/luio/region.lua", "lua/luio/config.lua", "lua/luio/dma.lua", "lua/luio/pool.lua", "lua/luio/irq.lua", "lua/luio/irq/",
      "lua/luio/top_half.lua" },
    { "device", "lua/luio/device/", "lua/luio/hotplug/", "lua/luio/sim.lua", "lua/luio/model.lua",
      "lua/luio/qemu.lua", "lua/luio/qemu/" },
    { "driver", "lua/luio/driver/", "lua/luio/reload/", "lua/luio/host/doctor/", "lua/luio/host/report.lua",
      "lua/luio/hotplug/wait_device.lua" },
    { "luio", "lua/luio/init.lua" },
    { "ports", "lua/luio/port/", "lua/luio/net/", "lua/luio/serial/" },
    { "tool", "lua/luio/tool/" },
    { "drivers", "drivers/" },
    { "reference", "lua/doc/" },
  },
  -- Files with a `require` whose name is no literal.
  dynamic = {
    ["lua/luio/reload/environment.lua"] = "a driver's own require",
    ["lua/luio/reload/version.lua"] = "a driver's own require",
  },
}
