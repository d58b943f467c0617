--- Settings of the whole process. In a module of their own, so that a program can make them before luio.device is loaded, which a
--- program without devices never needs.

return {
  --- More arguments for the QEMU of each `qemu:` device that is opened without its own.
  ---@type string[]?
  qemu = nil,
  --- The interrupts of each device that is opened without its own `vectors`.
  ---@type luio.VectorsWanted?
  vectors = nil,
  --- Whether the device that is being opened is to have MSI or MSI-X. A QEMU machine is started with them, or has none.
  messages = false,
  --- Called for the warnings of devices that have no on_warning of their own; nil: they are kept only.
  ---@type fun(message: string, dev: luio.Device)?
  on_warning = nil,
  --- Called with what the user may like to know of a device that was opened; nil: it is not told.
  ---@type fun(text: string)?
  on_note = nil,
  --- The owner of the register files while bus master is on: the user that root will be given up for; nil: root.
  ---@type string?
  driver_user = nil,
}
