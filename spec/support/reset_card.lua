--- Resets a card of drivers/e1000e behind the driver's back, on QEMU's models. CTRL.RST resets nothing in QEMU 7.2 but the address
--- (hw/net/e1000.c, e1000e_core.c), so the reset values are written.

---@param port luio.net.Port
return function(port)
  local regs = port.dev.regs
  regs.RCTL:write(0)
  regs.TCTL:write(0)
  for _, name in ipairs { "RDLEN", "TDLEN", "RDH", "RDT", "TDH", "TDT", "RDBAL", "TDBAL" } do regs[name][0]:write(0) end
end
