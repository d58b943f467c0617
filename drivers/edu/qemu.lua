--- QEMU's device that this driver drives.
return {
  edu = {},
}
