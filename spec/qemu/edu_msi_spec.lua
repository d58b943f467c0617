--- drivers/edu by MSI: the specs of spec/drivers/edu_spec.lua, with the same driver.

local uv = require "luv"

local before = { LUIO_EDU = os.getenv "LUIO_EDU", LUIO_INTERRUPTS = os.getenv "LUIO_INTERRUPTS" }
uv.os_setenv("LUIO_EDU", "qemu:edu")
uv.os_setenv("LUIO_INTERRUPTS", "msi")
setfenv(assert(loadfile "spec/drivers/edu_spec.lua"), getfenv(1))()
for _, name in ipairs { "LUIO_EDU", "LUIO_INTERRUPTS" } do
  if before[name] then uv.os_setenv(name, before[name]) else uv.os_unsetenv(name) end
end
