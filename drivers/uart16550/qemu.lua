--- QEMU's serial ports on PCI that this driver drives. What they send goes nowhere.
return {
  ["pci-serial"] = { chardev = { "-chardev", "null" } },
}
