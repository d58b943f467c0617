--- A model of the 16450: no FIFOs, so each character is an interrupt. sim:drivers/uart16550/model_16450.lua
return require "drivers.uart16550.model_uart" { fifo = 0, afe = false }
