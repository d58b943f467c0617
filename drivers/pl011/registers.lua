--- Registers of ARM's PrimeCell UART PL011. Names are those of its Technical Reference Manual, ARM DDI 0183, chapter 3.

local luio = require "luio"

-- The bits of the four interrupt registers (3.3.10 to 3.3.13): RIMIM is RI in the mask, RIRMIS in the raw status, and so on.
local function causes(def, suffix)
  for bit, name in ipairs { "RI", "CTS", "DCD", "DSR", "RX", "TX", "RT", "FE", "PE", "BE", "OE" } do
    def[name .. (bit <= 4 and suffix.modem or suffix.other)] = bit - 1
  end
  return def
end

return luio.registers {
  name = "pl011",
  description = "ARM PrimeCell UART (PL011)",
  max_width = 32,
  --         offset width access
  UARTDR    = { 0x000, 32, "rw", read_effect = "takes a character out of the receive FIFO", write_effect = "sends a character",
                description = "data: a character, and what was wrong with it", OE = { 11, access = "ro" }, BE = { 10, access = "ro" },
                PE = { 9, access = "ro" }, FE = { 8, access = "ro" }, DATA = { 7, 0 } },
  UARTRSR   = { 0x004, 32, "rw", reset = 0, write_effect = "forgets the errors, whatever is written",
                description = "receive status: of the character that was read last; OE: of now", OE = 3, BE = 2, PE = 1, FE = 0 },
  UARTFR    = { 0x018, 32, "ro", description = "flags",
                RI = 8, TXFE = 7, RXFF = 6, TXFF = 5, RXFE = 4, BUSY = 3, DCD = 2, DSR = 1, CTS = 0 },
  UARTILPR  = { 0x020, 32, "rw", reset = 0, ILPDVSR = { 7, 0 }, description = "IrDA low-power counter" },
  UARTIBRD  = { 0x024, 32, "rw", reset = 0, BAUD_DIVINT = { 15, 0 }, description = "integer part of the divisor" },
  UARTFBRD  = { 0x028, 32, "rw", reset = 0, BAUD_DIVFRAC = { 5, 0 }, description = "its fraction, in 64ths" },
  UARTLCR_H = { 0x02c, 32, "rw", reset = 0, description = "line control; writing it makes the divisor count",
                SPS = 7, WLEN = { 6, 5, values = { BITS_5 = 0, BITS_6 = 1, BITS_7 = 2, BITS_8 = 3 } }, FEN = 4, STP2 = 3,
                EPS = { 2, values = { ODD = 0, EVEN = 1 } }, PEN = 1, BRK = 0 },
  UARTCR    = { 0x030, 32, "rw", reset = 0x300, description = "control", CTSEn = 15, RTSEn = 14, Out2 = 13, Out1 = 12, RTS = 11, DTR = 10,
                RXE = 9, TXE = 8, LBE = 7, SIRLP = 2, SIREN = 1, UARTEN = 0 },
  UARTIFLS  = { 0x034, 32, "rw", reset = 0x12, description = "FIFO levels that interrupt",
                RXIFLSEL = { 5, 3, values = { EIGHTH = 0, QUARTER = 1, HALF = 2, THREE_QUARTERS = 3, SEVEN_EIGHTHS = 4 } },
                TXIFLSEL = { 2, 0, values = { EIGHTH = 0, QUARTER = 1, HALF = 2, THREE_QUARTERS = 3, SEVEN_EIGHTHS = 4 } } },
  UARTIMSC  = causes({ 0x038, 32, "rw", reset = 0, description = "interrupt mask: 1 lets it through" }, { modem = "MIM", other = "IM" }),
  UARTRIS   = causes({ 0x03c, 32, "ro", description = "raw interrupt status" }, { modem = "RMIS", other = "RIS" }),
  UARTMIS   = causes({ 0x040, 32, "ro", description = "masked interrupt status" }, { modem = "MMIS", other = "MIS" }),
  UARTICR   = causes({ 0x044, 32, "wo", write_effect = "acknowledges", description = "interrupt clear" }, { modem = "MIC", other = "IC" }),
  UARTDMACR = { 0x048, 32, "rw", reset = 0, DMAONERR = 2, TXDMAE = 1, RXDMAE = 0, description = "DMA control" },

  UARTPeriphID0 = { 0xfe0, 32, "ro", reset = 0x11, PARTNUMBER0 = { 7, 0 } },
  UARTPeriphID1 = { 0xfe4, 32, "ro", reset = 0x10, DESIGNER0 = { 7, 4 }, PARTNUMBER1 = { 3, 0 } },
  UARTPeriphID2 = { 0xfe8, 32, "ro", REVISION = { 7, 4 }, DESIGNER1 = { 3, 0 } },
  UARTPeriphID3 = { 0xfec, 32, "ro", reset = 0x00, CONFIGURATION = { 7, 0 } },
  UARTPCellID0  = { 0xff0, 32, "ro", reset = 0x0d },
  UARTPCellID1  = { 0xff4, 32, "ro", reset = 0xf0 },
  UARTPCellID2  = { 0xff8, 32, "ro", reset = 0x05 },
  UARTPCellID3  = { 0xffc, 32, "ro", reset = 0xb1 },
}
