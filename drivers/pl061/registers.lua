--- Registers of ARM's PrimeCell GPIO PL061, eight lines. Names are those of its Technical Reference Manual, ARM DDI 0190,
--- chapter 3. Each register has a bit per line.
---
--- GPIODATA is at 256 addresses: bits 9 to 2 of the address are a mask. A read gives only the bits that are in the mask, a write
--- changes only those; so one line is written without reading the others. At 0x3fc all are in it; LINE0 to LINE7 are the
--- addresses with a mask of one bit. `region:write32(mask * 4, value)` reaches any other.

local luio = require "luio"

local map = {
  name = "pl061",
  description = "ARM PrimeCell GPIO (PL061)",
  max_width = 32,
  --          offset width access
  GPIODATA  = { 0x3fc, 32, "rw", reset = 0, DATA = { 7, 0 }, description = "data: levels, all lines" },
  GPIODIR   = { 0x400, 32, "rw", reset = 0, DIR = { 7, 0 }, description = "direction: 1 is an output" },
  GPIOIS    = { 0x404, 32, "rw", reset = 0, IS = { 7, 0 }, description = "interrupt sense: 1 is a level, 0 an edge" },
  GPIOIBE   = { 0x408, 32, "rw", reset = 0, IBE = { 7, 0 }, description = "1: both edges interrupt, whatever GPIOIEV says" },
  GPIOIEV   = { 0x40c, 32, "rw", reset = 0, IEV = { 7, 0 }, description = "interrupt event: 1 is rising or high, 0 falling or low" },
  GPIOIE    = { 0x410, 32, "rw", reset = 0, IE = { 7, 0 }, description = "interrupt mask: 1 lets it through" },
  GPIORIS   = { 0x414, 32, "ro", reset = 0, RIS = { 7, 0 }, description = "raw interrupt status" },
  GPIOMIS   = { 0x418, 32, "ro", reset = 0, MIS = { 7, 0 }, description = "masked interrupt status" },
  GPIOIC    = { 0x41c, 32, "wo", IC = { 7, 0 }, write_effect = "acknowledges",
                description = "interrupt clear: 1 forgets an edge; levels stay while they last" },
  GPIOAFSEL = { 0x420, 32, "rw", reset = 0, AFSEL = { 7, 0 }, description = "1: something else than GPIO has the line" },

  GPIOPeriphID0 = { 0xfe0, 32, "ro", reset = 0x61, PARTNUMBER0 = { 7, 0 } },
  GPIOPeriphID1 = { 0xfe4, 32, "ro", reset = 0x10, DESIGNER0 = { 7, 4 }, PARTNUMBER1 = { 3, 0 } },
  GPIOPeriphID2 = { 0xfe8, 32, "ro", REVISION = { 7, 4 }, DESIGNER1 = { 3, 0 } },
  GPIOPeriphID3 = { 0xfec, 32, "ro", reset = 0x00, CONFIGURATION = { 7, 0 } },
  GPIOPCellID0  = { 0xff0, 32, "ro", reset = 0x0d },
  GPIOPCellID1  = { 0xff4, 32, "ro", reset = 0xf0 },
  GPIOPCellID2  = { 0xff8, 32, "ro", reset = 0x05 },
  GPIOPCellID3  = { 0xffc, 32, "ro", reset = 0xb1 },
}

for line = 0, 7 do
  map["LINE" .. line] = { 4 * 2 ^ line, 32, "rw", LEVEL = line, description = ("data of line %d alone"):format(line) }
end

return luio.registers(map)
