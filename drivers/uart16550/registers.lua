--- Registers of the 8250 / 16450 / 16550A UART, one byte each, in an I/O or memory region of eight.
--- Names and sections are those of the PC16550D datasheet (National Semiconductor, now Texas
--- Instruments, SNLS378C); the TL16C550 is the same but for MCR.AFE. Descriptions say where the 8250
--- and the 16450 differ.
---
--- Eight addresses hold twelve registers. The register that answers depends on the direction (RBR or THR, IIR
--- or FCR) and on LCR.DLAB, the divisor latch access bit (`when`): with DLAB = 1 addresses 0 and 1 are the
--- divisor and there is no way to RBR, THR and IER. Four of the reads are no mere looking: RBR, IIR, LSR, MSR.

local luio = require "luio"

local DATA, DIVISOR = { ["LCR.DLAB"] = "DATA" }, { ["LCR.DLAB"] = "DIVISOR" }

return luio.registers {
  name = "uart16550",
  description = "8250, 16450 and 16550A UART",
  max_width = 8,

  -- ---- Address 0 -------------------------------------------------------------------------------

  RBR = {
    0, 8, "ro", when = DATA, section = "8.6.1", read_effect = "takes the character: pops the receive FIFO, clears LSR.DR",
    description = "receiver buffer",
  },
  THR = {
    0, 8, "wo", when = DATA, alias = "RBR", section = "8.6.1", write_effect = "sends the character",
    description = "transmitter holding. In FIFO mode 16 characters once LSR.THRE is set",
  },
  DLL = {
    0, 8, "rw", when = DIVISOR, alias = "RBR", section = "8.5.1",
    description = "divisor latch, low byte. Input clock / (16 * baud rate); not changed by a reset",
  },

  -- ---- Address 1 -------------------------------------------------------------------------------

  IER = {
    1, 8, "rw", when = DATA, reset = 0x00, section = "8.6.6", description = "interrupt enable",
    ERBFI = { 0, description = "received data, and in FIFO mode the character timeout" },
    ETBEI = { 1, description = "transmitter holding register empty" },
    ELSI = { 2, description = "receiver line status: overrun, parity, framing, break" },
    EDSSI = { 3, description = "modem status" },
    RESERVED = { 7, 4, access = "zero" },
  },
  DLM = {
    1, 8, "rw", when = DIVISOR, alias = "IER", section = "8.5.1",
    description = "divisor latch, high byte. Not changed by a reset",
  },

  -- ---- Address 2 -------------------------------------------------------------------------------

  IIR = {
    2, 8, "ro", reset = 0x01, section = "8.6.5",
    read_effect = "clears the transmitter-empty interrupt, if that is the one ID shows",
    description = "interrupt identification: the most urgent one",
    PENDING = { 0, values = { PENDING = 0, NONE = 1 }, description = "0: an interrupt is pending" },
    ID = {
      3, 1, values = { MODEM_STATUS = 0, THR_EMPTY = 1, RECEIVED_DATA = 2, LINE_STATUS = 3, CHARACTER_TIMEOUT = 6 },
      description = "says nothing while PENDING is NONE; the timeout is of FIFO mode",
    },
    FIFOS = {
      7, 6, values = { DISABLED = 0, UNUSABLE = 2, ENABLED = 3 },
      description = "follows FCR.FIFO_ENABLE; 0 on the 8250 and 16450, 2 on the first 16550, whose FIFOs do not work",
    },
  },
  FCR = {
    2, 8, "wo", alias = "IIR", reset = 0x00, section = "8.6.4",
    description = "FIFO control, not on the 8250 and 16450; bits 5:4 are reserved",
    FIFO_ENABLE = { 0, description = "must be 1 for the other bits to be taken; a change empties both FIFOs" },
    RCVR_FIFO_RESET = { 1, write_effect = "empties the receive FIFO", description = "clears itself" },
    XMIT_FIFO_RESET = { 2, write_effect = "empties the transmit FIFO", description = "clears itself" },
    DMA_MODE = { 3, description = "of the pins RXRDY and TXRDY" },
    RCVR_TRIGGER = {
      7, 6, values = { BYTES_1 = 0, BYTES_4 = 1, BYTES_8 = 2, BYTES_14 = 3 },
      description = "characters in the receive FIFO that raise the interrupt",
    },
  },

  -- ---- Addresses 3 to 7 ------------------------------------------------------------------------

  LCR = {
    3, 8, "rw", reset = 0x00, section = "8.6.2", description = "line control",
    WLS = { 1, 0, values = { BITS_5 = 0, BITS_6 = 1, BITS_7 = 2, BITS_8 = 3 }, description = "word length" },
    STB = { 2, values = { STOP_1 = 0, STOP_2 = 1 }, description = "stop bits; STOP_2 is one and a half with words of 5 bits" },
    PEN = { 3, description = "parity enable" },
    EPS = { 4, values = { ODD = 0, EVEN = 1 }, description = "parity; with STICK_PARITY ODD sends 1 and EVEN sends 0" },
    STICK_PARITY = 5,
    SET_BREAK = { 6, description = "holds the line at space" },
    DLAB = {
      7, values = { DATA = 0, DIVISOR = 1 },
      description = "divisor latch access: 1 puts DLL and DLM in the place of RBR, THR and IER",
    },
  },
  MCR = {
    4, 8, "rw", reset = 0x00, section = "8.6.7", description = "modem control",
    DTR = 0,
    RTS = 1,
    OUT1 = 2,
    OUT2 = { 3, description = "on a PC the interrupt reaches the controller only while this is 1" },
    LOOP = { 4, description = "loops the transmitter back, and DTR, RTS, OUT1, OUT2 to MSR's DSR, CTS, RI, DCD" },
    AFE = { 5, description = "automatic RTS and CTS; TL16C550C and later, elsewhere write 0" },
    RESERVED = { 7, 6, access = "zero" },
  },
  LSR = {
    5, 8, "ro", reset = 0x60, section = "8.6.3", read_effect = "clears OE, PE, FE, BI and the line status interrupt",
    description = "line status; writing is for factory tests. PE, FE and BI are of the FIFO's next character",
    DR = { 0, description = "data ready; 0 when RBR has given all of it" },
    OE = { 1, access = "rc", description = "overrun" },
    PE = { 2, access = "rc", description = "parity error" },
    FE = { 3, access = "rc", description = "framing error" },
    BI = { 4, access = "rc", description = "break" },
    THRE = { 5, description = "room for a character; in FIFO mode the transmit FIFO is empty" },
    TEMT = { 6, description = "the shift register is empty, too: nothing is left to send" },
    RCVR_FIFO_ERROR = {
      7, read_effect = "reading clears it when the FIFO holds no further errors",
      description = "an error or a break somewhere in the receive FIFO; 0 outside FIFO mode",
    },
  },
  MSR = {
    6, 8, "ro", section = "8.6.8", read_effect = "clears DCTS, DDSR, TERI, DDCD and the modem status interrupt",
    description = "modem status; bits 7:4 are the pins inverted, whatever the reset",
    DCTS = { 0, access = "rc", reset = 0, description = "CTS changed" },
    DDSR = { 1, access = "rc", reset = 0, description = "DSR changed" },
    TERI = { 2, access = "rc", reset = 0, description = "RI ended" },
    DDCD = { 3, access = "rc", reset = 0, description = "DCD changed" },
    CTS = 4,
    DSR = 5,
    RI = 6,
    DCD = 7,
  },
  SCR = { 7, 8, "rw", section = "8.6.9", description = "scratch, not on the first 8250; not changed by a reset" },
}
