--- A model of the PC16550D: FIFOs of 16 characters, no flow control of its own. sim:uart16550. The chip and its far end are in
--- model_uart.lua.
return require "drivers.uart16550.model_uart" { fifo = 16, afe = false }
