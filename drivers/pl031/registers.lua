--- Registers of ARM's PrimeCell real-time clock PL031. Names are those of its Technical Reference Manual, ARM DDI 0224,
--- chapter 3. A counter of 32 bits that counts seconds, a match register, one interrupt.

local luio = require "luio"

return luio.registers {
  name = "pl031",
  description = "ARM PrimeCell real-time clock (PL031)",
  max_width = 32,
  --         offset width access
  RTCDR    = { 0x000, 32, "ro", description = "data: the time, in seconds" },
  RTCMR    = { 0x004, 32, "rw", reset = 0, description = "match: interrupts when RTCDR becomes this" },
  RTCLR    = { 0x008, 32, "rw", reset = 0, write_effect = "sets the time", description = "load" },
  RTCCR    = { 0x00c, 32, "rw", reset = 0, description = "control",
               START = { 0, access = "w1s", description = "1: the clock counts; writing 0 does not stop it" } },
  RTCIMSC  = { 0x010, 32, "rw", reset = 0, description = "interrupt mask set or clear",
               RTCINTR = { 0, description = "1: the interrupt is let through" } },
  RTCRIS   = { 0x014, 32, "ro", reset = 0, RTCINTR = 0, description = "raw interrupt status" },
  RTCMIS   = { 0x018, 32, "ro", reset = 0, RTCINTR = 0, description = "masked interrupt status" },
  RTCICR   = { 0x01c, 32, "wo", RTCINTR = 0, write_effect = "acknowledges", description = "interrupt clear: writing 1" },

  RTCPeriphID0 = { 0xfe0, 32, "ro", reset = 0x31, PARTNUMBER0 = { 7, 0 } },
  RTCPeriphID1 = { 0xfe4, 32, "ro", reset = 0x10, DESIGNER0 = { 7, 4 }, PARTNUMBER1 = { 3, 0 } },
  RTCPeriphID2 = { 0xfe8, 32, "ro", REVISION = { 7, 4 }, DESIGNER1 = { 3, 0 } },
  RTCPeriphID3 = { 0xfec, 32, "ro", reset = 0x00, CONFIGURATION = { 7, 0 } },
  RTCPCellID0  = { 0xff0, 32, "ro", reset = 0x0d },
  RTCPCellID1  = { 0xff4, 32, "ro", reset = 0xf0 },
  RTCPCellID2  = { 0xff8, 32, "ro", reset = 0x05 },
  RTCPCellID3  = { 0xffc, 32, "ro", reset = 0xb1 },
}
