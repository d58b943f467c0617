--- A model of the TL16C550C: as the PC16550D, and automatic RTS and CTS (MCR.AFE). sim:drivers/uart16550/model_tl16c550c.lua
return require "drivers.uart16550.model_uart" { fifo = 16, afe = true }
