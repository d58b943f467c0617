--- The reference's pages, in their order. A page has the opening comment of its first file, and
---
---     functions = true    the functions and values of the first file's table: a module that users `require`
---     false               none: its objects come from another module (luio.open gives a device)
---
--- and all classes and aliases of its files (`luio.device.*`: all in that folder), but those that it `hides`, also as
--- parents. A class with methods has a page of its own; a class that is data alone is a table here.

return {
  { "luio", functions = true, files = { "luio" } },
  { "luio.device", files = { "luio.device", "luio.device.*", "luio.host.discovery" } },
  { "luio.region", files = { "luio.region" } },
  { "luio.irq", files = { "luio.irq", "luio.irq.storms" }, hides = { "luio.IrqSource", "luio.IrqStorms" } },
  { "luio.top_half", files = { "luio.top_half" } },
  { "luio.dma", files = { "luio.dma" } },
  { "luio.config", files = { "luio.config" } },
  { "luio.registers",
    files = { "luio.registers", "luio.registers.bind", "luio.registers.check", "luio.registers.show", "luio.registers.listeners",
      "luio.registers.when" },
    hides = { "luio.MapCheck", "luio.Listeners" } },
  { "luio.registers.verbs", files = { "luio.registers.verbs" } },
  { "luio.driver", files = { "luio.driver" } },
  { "luio.driver.paths", files = { "luio.driver.paths" } },
  { "luio.sim", files = { "luio.sim" } },
  { "luio.model", files = { "luio.model" } },
  { "luio.qemu", files = { "luio.qemu", "luio.qemu.machine", "luio.qemu.qmp" }, hides = { "luio.Qmp" } },
  { "luio.loop.task", files = { "luio.loop.task" }, hides = { "luio.TaskGroup", "luio.Waiter" } },
  { "luio.hotplug", files = { "luio.hotplug", "luio.hotplug.monitor", "luio.hotplug.config_watch" } },
  { "luio.reload.live", files = { "luio.reload.live", "luio.reload.report" }, hides = { "luio.Live" } },
  { "luio.pool", files = { "luio.pool" } },
  { "luio.net", functions = true, files = { "luio.net", "luio.net.queue", "luio.port" }, hides = { "luio.WaitSlot" } },
  { "luio.net.tap", functions = true, files = { "luio.net.tap" } },
  { "luio.net.bridge", functions = true, files = { "luio.net.bridge" } },
  { "luio.net.pcapng", functions = true, files = { "luio.net.pcapng" } },
  { "luio.net.filter", functions = true, files = { "luio.net.filter" } },
  { "luio.net.stream", functions = true, files = { "luio.net.stream" } },
  { "luio.net.pace", functions = true, files = { "luio.net.pace" } },
  { "luio.net.share", functions = true, files = { "luio.net.share" } },
  { "luio.net.memif", functions = true, files = { "luio.net.memif", "luio.net.memif.client" } },
  { "luio.serial", functions = true,
    files = { "luio.serial", "luio.serial.settings", "luio.serial.line", "luio.serial.draining", "luio.serial.moving",
      "luio.serial.ring" } },
  { "luio.serial.pty", functions = true, files = { "luio.serial.pty" } },
  { "luio.serial.bridge", functions = true, files = { "luio.serial.bridge" } },
  { "luio.text.histogram", functions = true, files = { "luio.text.histogram" } },
}
