--- Registers of the Intel 82574L, BAR0: "82574 GbE Controller Family Datasheet", revision 3.4,
--- chapter 10. All are 32 bits, and are read and written as 32 bits.
---
--- Most of them are the same in the older 82540EM (QEMU's "e1000"; "8254x Family of Gigabit Ethernet
--- Controllers Software Developer's Manual", chapter 13). Where they are not, the description says so:
--- the 82540EM has one queue each way, no MSI-X (EIAC, IVAR, EITR) and no RSS.
---
--- Reading ICR acknowledges, reading a statistics counter clears it, reading SWSM takes the semaphore.
--- Reset values are those of the 82574; bits that the NVM or the link decides have none.

local luio = require "luio"

-- The causes of ICR, and with it of ICS, IMS, IMC and IAM.
local function causes(more)
  local fields = {
    TXDW = { 0, description = "transmit descriptor written back" },
    TXQE = { 1, description = "transmit queue empty" },
    LSC = { 2, description = "link status changed" },
    RXDMT0 = { 4, description = "few receive descriptors left: RCTL.RDMTS" },
    RXO = { 6, description = "receiver overrun" },
    RXT0 = { 7, description = "packets received: RDTR or RADV ran out" },
    MDAC = { 9, description = "MDIC access done" },
    PHYINT = { 12, description = "the PHY interrupts; 82540EM, reserved in the 82574" },
    GPI_SDP6 = { 13, description = "pin SDP6; 82540EM, reserved in the 82574" },
    GPI_SDP7 = { 14, description = "pin SDP7; 82540EM, reserved in the 82574" },
    TXD_LOW = { 15, description = "few transmit descriptors left: TXDCTL.LWTHRESH" },
    SRPD = { 16, description = "small packet received: RSRPD" },
    ACK = { 17, description = "ACK frame received; not in the 82540EM" },
    MNG = { 18, description = "manageability event; not in the 82540EM" },
    RXQ0 = { 20, description = "receive queue 0; MSI-X, not in the 82540EM" },
    RXQ1 = { 21, description = "receive queue 1; MSI-X, not in the 82540EM" },
    TXQ0 = { 22, description = "transmit queue 0; MSI-X, not in the 82540EM" },
    TXQ1 = { 23, description = "transmit queue 1; MSI-X, not in the 82540EM" },
    OTHER = { 24, description = "LSC, RXO, MDAC, SRPD, ACK or MNG; MSI-X, not in the 82540EM" },
  }
  for name, field in pairs(more or {}) do fields[name] = field end
  return fields
end

local function counter(offset, description)
  return { offset, 32, "rc", reset = 0, section = "10.2.7", description = description }
end

-- Two registers, the low one first: reading the high one clears both.
local function counter64(offset, description)
  return { offset, 64, "rc", halves = "low", reset = 0, section = "10.2.7", description = description }
end

return luio.registers {
  name = "e1000e",
  description = "Intel 82574L, and 82540EM where that is the same",
  max_width = 32,

  -- ---- General (10.2.2) ------------------------------------------------------------------------

  CTRL = {
    0x00000, 32, "rw", section = "10.2.2.1", description = "device control; also answers at 0x00004. Keep the bits that have no name",
    FD = { 0, description = "full duplex, when FRCDPLX" },
    GIO_MASTER_DISABLE = { 2, description = "no new DMA; done when STATUS.GIO_MASTER_ENABLE is 0. Not in the 82540EM" },
    ASDE = { 5, description = "automatic speed detection; 0 in the 82574" },
    SLU = { 6, description = "set link up: nothing is sent or received without" },
    ILOS = { 7, description = "invert loss of signal; 0 in the 82574" },
    SPEED = { 9, 8, reset = 2, values = { MBPS_10 = 0, MBPS_100 = 1, MBPS_1000 = 2 }, description = "when FRCSPD" },
    FRCSPD = { 11, description = "force speed" },
    FRCDPLX = { 12, description = "force duplex" },
    SDP0_DATA = { 18, description = "82540EM; reserved in the 82574" },
    SDP1_DATA = { 19, description = "82540EM; reserved in the 82574" },
    ADVD3WUC = { 20, reset = 1, description = "advertise wake-up from D3cold" },
    EN_PHY_PWR_MGMT = { 21, description = "82540EM; reserved in the 82574" },
    SDP0_IODIR = { 22, description = "1: output. 82540EM; reserved in the 82574" },
    SDP1_IODIR = { 23, description = "1: output. 82540EM; reserved in the 82574" },
    RST = { 26, access = "sc", write_effect = "resets the device, but not the PHY" },
    RFCE = { 27, description = "heed received PAUSE frames" },
    TFCE = { 28, description = "send PAUSE frames" },
    VME = { 30, description = "VLAN mode: tags are taken out of and put into packets" },
    PHY_RST = { 31, write_effect = "holds the PHY in reset", description = "PHY reset while 1" },
  },
  STATUS = {
    0x00008, 32, "ro", section = "10.2.2.2", description = "device status",
    FD = { 0, description = "full duplex" },
    LU = { 1, description = "link up; while CTRL.SLU" },
    TXOFF = { 4, description = "transmission paused by flow control" },
    SPEED = { 7, 6, values = { MBPS_10 = 0, MBPS_100 = 1, MBPS_1000 = 2, MBPS_1000_TOO = 3 } },
    ASDV = { 9, 8, values = { MBPS_10 = 0, MBPS_100 = 1, MBPS_1000 = 2, MBPS_1000_TOO = 3 }, description = "what speed detection found" },
    PHYRA = { 10, access = "w0c", description = "the PHY was reset; writing 0 clears. 82540EM: read-only and without meaning" },
    GIO_MASTER_ENABLE = { 19, description = "DMA may be under way: see CTRL.GIO_MASTER_DISABLE. Not in the 82540EM" },
  },
  EEC = {
    0x00010, 32, "rw", section = "10.2.2.3", description = "NVM control. 82540EM: bits 8:0 alike, the others not",
    EE_SK = { 0, description = "clock" },
    EE_CS = { 1, description = "chip select" },
    EE_DI = { 2, description = "data to the NVM" },
    EE_DO = { 3, access = "ro", description = "data from the NVM" },
    FWE = { 5, 4, values = { ERASE = 0, DISABLED = 1, ENABLED = 2 }, description = "writes to flash" },
    EE_REQ = { 6, write_effect = "asks for direct access", description = "EE_GNT says when" },
    EE_GNT = { 7, access = "ro", description = "direct access granted" },
    EE_PRES = { 8, access = "ro", description = "NVM present" },
    AUTO_RD = { 9, access = "ro", description = "read after reset is done" },
    NVSIZE = { 14, 11, access = "ro" },
    NVADDS = { 16, 15 },
    AUPDEN = { 20, description = "autonomous flash update" },
    SEC1VAL = { 22, access = "ro" },
    NVMTYPE = { 23, access = "ro", values = { EEPROM = 0, FLASH = 1 } },
  },
  EERD = {
    0x00014, 32, "rw", reset = 0x2, section = "10.2.2.4", description = "reads a word of the NVM. 82540EM: EERD_82540EM",
    START = { 0, access = "sc", write_effect = "starts the read" },
    DONE = { 1, access = "ro" },
    ADDR = { 15, 2, description = "word" },
    DATA = { 31, 16, access = "ro" },
  },
  EERD_82540EM = {
    0x00014, 32, "rw", alias = "EERD", description = "EERD as the 82540EM has it",
    START = { 0, access = "sc", write_effect = "starts the read" },
    DONE = { 4, access = "ro" },
    ADDR = { 15, 8, description = "word" },
    DATA = { 31, 16, access = "ro" },
  },
  CTRL_EXT = {
    0x00018, 32, "rw", section = "10.2.2.5",
    description = "extended device control. 82540EM: bits 11:0 are pins, and of these fields ASDCHK, EE_RST, SPD_BYPS, RO_DIS",
    ASDCHK = { 12, access = "sc", write_effect = "starts a speed detection" },
    EE_RST = { 13, access = "sc", write_effect = "reads the NVM as after a reset" },
    SPD_BYPS = { 15, description = "speed from CTRL.SPEED" },
    RO_DIS = { 17, description = "no relaxed ordering" },
    DMA_DYN_CLK_EN = { 19, description = "dynamic clock gating of the DMA" },
    PHYPDEN = { 20, description = "PHY power down" },
    TX_LS_FLOW = 22,
    TX_LS = 23,
    EIAME = { 24, description = "an MSI-X message masks by IAM" },
    IAME = { 27, description = "reading or writing ICR masks by IAM" },
    DRV_LOAD = { 28, description = "a driver is in charge; for firmware" },
    INT_TIMERS_CLEAR_ENA = { 29, description = "writing all of IMS ends the interrupt timers" },
    PBA_SUPPORT = { 31, description = "MSI-X pending bits" },
  },
  MDIC = {
    0x00020, 32, "rw", section = "10.2.2.7", write_effect = "starts the access that OP names",
    description = "reads or writes a PHY register",
    DATA = { 15, 0 },
    REGADD = { 20, 16, description = "PHY register" },
    PHYADD = { 25, 21, description = "1: the PHY inside" },
    OP = { 27, 26, values = { WRITE = 1, READ = 2 } },
    R = { 28, description = "ready: set when done, write 0" },
    I = { 29, description = "interrupt when done: ICR.MDAC" },
    E = { 30, description = "error; write 0" },
  },
  FCAL = { 0x00028, 32, "rw", section = "10.2.2", description = "PAUSE address, low: 0x00c28001" },
  FCAH = { 0x0002c, 32, "rw", section = "10.2.2", description = "PAUSE address, high: 0x0100", FCAH = { 15, 0 } },
  FCT = { 0x00030, 32, "rw", section = "10.2.2", description = "PAUSE frame's type: 0x8808", FCT = { 15, 0 } },
  VET = { 0x00038, 32, "rw", reset = 0x8100, section = "10.2.2", description = "VLAN tag's type", VET = { 15, 0 } },
  FCTTV = {
    0x00170, 32, "rw", section = "10.2.2",
    description = "time a PAUSE frame asks for",
    TTV = { 15, 0, description = "512 bit times" },
  },
  FCRTV = {
    0x05f40, 32, "rw", section = "10.2.2", description = "flow control refresh. Not in the 82540EM",
    FC_REFRESH_TH = { 15, 0 },
  },
  LEDCTL = {
    0x00e00, 32, "rw", reset = 0x00068302, section = "10.2.2",
    description = "82540EM: a fourth LED in bits 31:24, MODE values 8, 11 and 12 differ",
    ["LED%d_MODE"] = {
      3, 0, count = 3, stride = 8,
      values = {
        LINK_10_1000 = 0, LINK_100_1000 = 1, LINK_UP = 2, FILTER_ACTIVITY = 3, LINK_ACTIVITY = 4, LINK_10 = 5, LINK_100 = 6,
        LINK_1000 = 7, FULL_DUPLEX = 9, COLLISION = 10, ACTIVITY = 11, BUS_SIZE = 12, PAUSED = 13, ON = 14, OFF = 15,
      },
    },
    GLOBAL_BLINK_MODE = { 5, values = { MS_200 = 0, MS_83 = 1 } },
    ["LED%d_IVRT"] = { 6, count = 3, stride = 8, description = "inverted" },
    ["LED%d_BLINK"] = { 7, count = 3, stride = 8 },
  },
  EXTCNF_CTRL = {
    0x00f00, 32, "rw", section = "10.2.2", description = "who may use the MDIO. Not in the 82540EM",
    MDIO_SW_OWNERSHIP = { 5, write_effect = "asks for the MDIO", description = "reads 1 when granted" },
    MDIO_HW_OWNERSHIP = { 6, access = "ro" },
    MDIO_MNG_OWNERSHIP = { 7, access = "ro" },
  },
  PBA = {
    0x01000, 32, "rw", reset = 0x00140014, section = "10.2.2", description = "packet buffer, in KiB. 82540EM: 0x00100030 of 64",
    RXA = { 15, 0, description = "for receiving, of 40" },
    TXA = { 31, 16, access = "ro", description = "the rest" },
  },

  -- ---- PCIe (10.2.3) ---------------------------------------------------------------------------

  GCR = {
    0x05b00, 32, "rw", section = "10.2.3", description = "PCIe control. Keep the other bits. Not in the 82540EM",
    RXD_NO_SNOOP = 0,
    RXDSCW_NO_SNOOP = 1,
    RXDSCR_NO_SNOOP = 2,
    TXD_NO_SNOOP = 3,
    TXDSCW_NO_SNOOP = 4,
    TXDSCR_NO_SNOOP = 5,
  },
  SWSM = {
    0x05b50, 32, "rw", section = "10.2.3", description = "software semaphore. Not in the 82540EM",
    SMBI = { 0, read_effect = "sets it: who reads 0 has the semaphore", description = "between drivers; write 0 to give it back" },
    SWESMBI = { 1, write_effect = "asks for the semaphore", description = "between driver and firmware: reads 1 when granted" },
  },

  -- ---- Interrupts (10.2.4) ---------------------------------------------------------------------

  ICR = {
    0x000c0, 32, "w1c", reset = 0, section = "10.2.4.1",
    read_effect = "acknowledges: clears all causes and drops the interrupt; masks IAM's when CTRL_EXT.IAME",
    description = "interrupt causes. The 82574 clears on reading if INT_ASSERTED, or if IMS is 0; the 82540EM always",
    fields = causes { INT_ASSERTED = { 31, access = "ro", description = "a cause that IMS lets through; not in the 82540EM" } },
  },
  ITR = {
    0x000c4, 32, "rw", reset = 0, section = "10.2.4.2", description = "interrupt throttling",
    INTERVAL = { 15, 0, description = "least time between interrupts, in 256 ns; 0: no throttling" },
  },
  ICS = {
    0x000c8, 32, "wo", section = "10.2.4.4", write_effect = "sets causes, and interrupts", description = "writing 1 sets the cause in ICR",
    fields = causes(),
  },
  IMS = {
    0x000d0, 32, "w1s", reset = 0, section = "10.2.4.5", description = "interrupt mask: writing 1 lets the cause through, IMC undoes it",
    fields = causes(),
  },
  IMC = { 0x000d8, 32, "wo", section = "10.2.4.6", description = "a 1 takes the bit out of IMS", fields = causes() },
  EIAC = {
    0x000dc, 32, "rw", reset = 0, section = "10.2.4", description = "causes that their MSI-X message clears. Not in the 82540EM",
    RXQ0 = 20,
    RXQ1 = 21,
    TXQ0 = 22,
    TXQ1 = 23,
    OTHER = 24,
  },
  IAM = {
    0x000e0, 32, "rw", reset = 0, section = "10.2.4",
    description = "causes to mask when ICR is read or written (CTRL_EXT.IAME). Not in the 82540EM",
    fields = causes(),
  },
  IVAR = {
    0x000e4, 32, "rw", reset = 0, section = "10.2.4.9",
    description = "which MSI-X vector: 0 receive queue 0, 1 receive queue 1, 2 and 3 transmit queues 0 and 1, 4 other. Not in the 82540EM",
    ["INT_ALLOC%d"] = { 2, 0, count = 5, stride = 4, description = "vector" },
    ["INT_ALLOC_VAL%d"] = { 3, count = 5, stride = 4, description = "the vector is valid" },
    TX_INT_EVERY_WB = { 31, description = "transmit interrupt on every write-back" },
  },
  EITR = {
    0x000e8, 32, "rw", reset = 0, count = 5, section = "10.2.4.3", description = "throttling of an MSI-X vector. Not in the 82540EM",
    INTERVAL = { 15, 0, description = "least time between messages, in 256 ns; 0: no throttling" },
  },

  -- ---- Receive (10.2.5) ------------------------------------------------------------------------

  RCTL = {
    0x00100, 32, "rw", reset = 0, section = "10.2.5.1", description = "receive control",
    EN = { 1, description = "receiver on; last, when all else is set up" },
    SBP = { 2, description = "store bad packets" },
    UPE = { 3, description = "all unicast packets" },
    MPE = { 4, description = "all multicast packets" },
    LPE = { 5, description = "packets of more than 1522 bytes" },
    LBM = {
      7, 6, values = { NONE = 0, MAC = 1, TRANSCEIVER = 3 },
      description = "loopback. 82574: NONE and MAC; 82540EM: NONE and TRANSCEIVER",
    },
    RDMTS = { 9, 8, values = { HALF = 0, QUARTER = 1, EIGHTH = 2 }, description = "part of RDLEN that is left at ICR.RXDMT0" },
    DTYP = { 11, 10, values = { LEGACY = 0, PACKET_SPLIT = 1 }, description = "descriptors; 82540EM: 0" },
    MO = {
      13, 12, values = { BITS_47_36 = 0, BITS_46_35 = 1, BITS_45_34 = 2, BITS_43_32 = 3 },
      description = "bits of the address that look up MTA",
    },
    BAM = { 15, description = "broadcast packets" },
    BSIZE = {
      17, 16,
      values = {
        SIZE_2048 = 0, SIZE_1024 = 1, SIZE_512 = 2, SIZE_256 = 3,
        SIZE_16384_WITH_BSEX = 1, SIZE_8192_WITH_BSEX = 2, SIZE_4096_WITH_BSEX = 3,
      },
      description = "bytes of a buffer; sixteenfold, and not 0, when BSEX",
    },
    VFE = { 18, description = "VLAN filter: VFTA" },
    CFIEN = { 19, description = "compare the CFI bit" },
    CFI = { 20, description = "with this" },
    DPF = { 22, description = "discard PAUSE frames" },
    PMCF = { 23, description = "pass MAC control frames" },
    BSEX = { 25, description = "BSIZE times 16" },
    SECRC = { 26, description = "strip the CRC" },
    FLXBUF = { 30, 27, description = "buffer size in KiB, instead of BSIZE, when not 0. Not in the 82540EM" },
  },
  FCRTL = {
    0x02160, 32, "rw", reset = 0, section = "10.2.5.3", description = "flow control, low water",
    RTL = { 15, 3, description = "bytes / 8" },
    XONE = { 31, description = "send XON" },
  },
  FCRTH = {
    0x02168, 32, "rw", reset = 0, section = "10.2.5.4", description = "flow control, high water",
    RTH = { 15, 3, description = "bytes / 8" },
  },
  PSRCTL = {
    0x02170, 32, "rw", reset = 0x00040402, section = "10.2.5.2", description = "packet split. Not in the 82540EM",
    BSIZE0 = { 6, 0, description = "header buffer, in 128 bytes; not 0" },
    BSIZE1 = { 13, 8, description = "KiB; not 0" },
    BSIZE2 = { 21, 16, description = "KiB" },
    BSIZE3 = { 29, 24, description = "KiB" },
  },
  RDBAL = {
    0x02800, 32, "rw", count = 2, stride = 0x100, section = "10.2.5.5",
    description = "receive ring's address, low; a multiple of 16",
  },
  RDBAH = { 0x02804, 32, "rw", count = 2, stride = 0x100, section = "10.2.5.6", description = "receive ring's address, high" },
  RDLEN = {
    0x02808, 32, "rw", count = 2, stride = 0x100, section = "10.2.5.7", description = "receive ring's length in bytes; a multiple of 128",
    LEN = { 19, 7, description = "eights of descriptors" },
  },
  RDH = {
    0x02810, 32, "rw", reset = 0, count = 2, stride = 0x100, section = "10.2.5.8", write_effect = "moves the device in its ring",
    description = "receive head: the device's. Not written while RCTL.EN; no sign that a descriptor is done",
    RDH = { 15, 0 },
  },
  RDT = {
    0x02818, 32, "rw", reset = 0, count = 2, stride = 0x100, section = "10.2.5.9", write_effect = "gives the device descriptors",
    description = "receive tail: the descriptor after the last one the device may use",
    RDT = { 15, 0 },
  },
  RDTR = {
    0x02820, 32, "rw", reset = 0, section = "10.2.5.10", description = "receive interrupt delay, from the last packet",
    DELAY = { 15, 0, description = "1.024 us" },
    FPD = { 31, access = "wo", write_effect = "writes back now, and interrupts" },
  },
  RXDCTL = {
    0x02828, 32, "rw", reset = 0x00010000, count = 2, stride = 0x100, section = "10.2.5", description = "receive descriptors' thresholds",
    PTHRESH = { 5, 0, description = "prefetch" },
    HTHRESH = { 13, 8, description = "host" },
    WTHRESH = { 21, 16, description = "write-back" },
    GRAN = { 24, values = { CACHE_LINES = 0, DESCRIPTORS = 1 } },
  },
  RADV = {
    0x0282c, 32, "rw", reset = 0, section = "10.2.5", description = "receive interrupt delay, from the first packet",
    DELAY = { 15, 0, description = "1.024 us" },
  },
  RSRPD = { 0x02c00, 32, "rw", reset = 0, section = "10.2.5", description = "small packets: ICR.SRPD", SIZE = { 11, 0 } },
  RAID = {
    0x02c08, 32, "rw", reset = 0, section = "10.2.5", description = "ACK frames' interrupt delay: ICR.ACK. Not in the 82540EM",
    ACK_DELAY = { 15, 0, description = "1.024 us" },
  },
  RXCSUM = {
    0x05000, 32, "rw", reset = 0x00000300, section = "10.2.5",
    description = "receive checksums. 82540EM: reset 0, and PCSS, IPOFLD, TUOFLD only",
    PCSS = { 7, 0, description = "byte the packet checksum starts at" },
    IPOFLD = { 8, description = "IP" },
    TUOFLD = { 9, description = "TCP and UDP" },
    IPPCSE = { 12, description = "IP payload" },
    PCSD = { 13, description = "RSS hash instead of packet checksum" },
  },
  RFCTL = {
    0x05008, 32, "rw", reset = 0, section = "10.2.5", description = "receive filters. Not in the 82540EM",
    ISCSI_DIS = 0,
    ISCSI_DWC = { 5, 1 },
    NFSW_DIS = 6,
    NFSR_DIS = 7,
    NFS_VER = { 9, 8 },
    IPV6_DIS = 10,
    IPV6XSUM_DIS = 11,
    ACKDIS = 12,
    ACKD_DIS = 13,
    IPFRSP_DIS = 14,
    EXSTEN = { 15, description = "extended descriptors" },
    IPV6_EX_DIS = 16,
    NEW_IPV6_EXT_DIS = 17,
  },
  MTA = {
    0x05200, 32, "rw", count = 128, section = "10.2.5.21",
    description = "multicast table, a bit for each hash; not cleared by a reset",
  },
  RAL = {
    0x05400, 32, "rw", count = 16, stride = 8, section = "10.2.5.22",
    description = "receive address, its first four bytes, the first lowest; 0 comes from the NVM",
  },
  RAH = {
    0x05404, 32, "rw", count = 16, stride = 8, section = "10.2.5.23", description = "receive address, its last two bytes",
    RAH = { 15, 0 },
    ASEL = { 17, 16, values = { DESTINATION = 0, SOURCE = 1 } },
    AV = { 31, description = "address valid" },
  },
  VFTA = {
    0x05600, 32, "rw", count = 128, section = "10.2.5",
    description = "VLAN filter table, a bit for each VLAN; not cleared by a reset",
  },
  MRQC = {
    0x05818, 32, "rw", reset = 0, section = "10.2.5", description = "receive side scaling. Not in the 82540EM",
    MRQE = { 1, 0, values = { OFF = 0, RSS = 1 } },
    TCP_IPV4 = 16,
    IPV4 = 17,
    TCP_IPV6_EX = 18,
    IPV6_EX = 19,
    IPV6 = 20,
  },
  RETA = {
    0x05c00, 32, "rw", count = 32, section = "10.2.5", description = "RSS redirection, four hashes each. Not in the 82540EM",
    ["QUEUE%d"] = { 7, count = 4, stride = 8 },
  },
  RSSRK = {
    0x05c80, 32, "rw", count = 10, section = "10.2.5",
    description = "RSS key, four bytes each, the first lowest. Not in the 82540EM",
  },

  -- ---- Transmit (10.2.6) -----------------------------------------------------------------------

  TCTL = {
    0x00400, 32, "rw", section = "10.2.6.1", description = "transmit control",
    EN = { 1, reset = 0, description = "transmitter on" },
    PSP = { 3, description = "pad short packets" },
    CT = { 11, 4, description = "collision threshold: 0x0f" },
    COLD = { 21, 12, description = "collision distance in byte times: 0x3f full duplex, 0x200 half" },
    SWXOFF = { 22, access = "sc", reset = 0, write_effect = "sends a PAUSE frame" },
    PBE = { 23, reset = 0, description = "packet burst; not in the 82540EM" },
    RTLC = { 24, reset = 0, description = "retransmit after a late collision" },
    UNORTX = { 25, reset = 0, description = "no retransmit after an underrun; not in the 82540EM" },
    TXDSCMT = { 27, 26, description = "transmit descriptors' minimum threshold; not in the 82540EM" },
    MULR = { 28, description = "several requests at once; not in the 82540EM" },
    RRTHRESH = {
      30, 29, values = { LINES_2 = 0, LINES_4 = 1, LINES_8 = 2, NONE = 3 },
      description = "free space, in cache lines, before the next read request; not in the 82540EM",
    },
  },
  TIPG = {
    0x00410, 32, "rw", reset = 0x00602008, section = "10.2.6.2", description = "gap between packets. 82540EM: reset 0",
    IPGT = { 9, 0 },
    IPGR1 = { 19, 10 },
    IPGR2 = { 29, 20 },
  },
  AIT = { 0x00458, 32, "rw", reset = 0, section = "10.2.6", description = "adaptive gap between packets", AIFS = { 15, 0 } },
  TDBAL = {
    0x03800, 32, "rw", count = 2, stride = 0x100, section = "10.2.6.4",
    description = "transmit ring's address, low; a multiple of 16",
  },
  TDBAH = { 0x03804, 32, "rw", count = 2, stride = 0x100, section = "10.2.6.5", description = "transmit ring's address, high" },
  TDLEN = {
    0x03808, 32, "rw", count = 2, stride = 0x100, section = "10.2.6.6", description = "transmit ring's length in bytes; a multiple of 128",
    LEN = { 19, 7, description = "eights of descriptors" },
  },
  TDH = {
    0x03810, 32, "rw", reset = 0, count = 2, stride = 0x100, section = "10.2.6.7", write_effect = "moves the device in its ring",
    description = "transmit head: the device's. Not written while TCTL.EN; no sign that a descriptor is done",
    TDH = { 15, 0 },
  },
  TDT = {
    0x03818, 32, "rw", reset = 0, count = 2, stride = 0x100, section = "10.2.6.8", write_effect = "starts sending",
    description = "transmit tail: the descriptor after the last one to send",
    TDT = { 15, 0 },
  },
  TIDV = {
    0x03820, 32, "rw", reset = 0, section = "10.2.6", description = "transmit interrupt delay, from the last descriptor",
    IDV = { 15, 0, description = "1.024 us" },
    FPD = { 31, access = "wo", write_effect = "writes back now, and interrupts", description = "not in the 82540EM" },
  },
  TXDCTL = {
    0x03828, 32, "rw", count = 2, stride = 0x100, section = "10.2.6.10", description = "transmit descriptors' thresholds",
    PTHRESH = { 5, 0, description = "prefetch" },
    HTHRESH = { 13, 8, description = "host" },
    WTHRESH = { 21, 16, description = "write-back" },
    COUNT_DESC = { 22, description = "82574: write 1; 82540EM: write 0" },
    GRAN = { 24, values = { CACHE_LINES = 0, DESCRIPTORS = 1 } },
    LWTHRESH = { 31, 25, description = "eights of descriptors left at ICR.TXD_LOW" },
  },
  TADV = {
    0x0382c, 32, "rw", reset = 0, section = "10.2.6", description = "transmit interrupt delay, from the first descriptor",
    IDV = { 15, 0, description = "1.024 us" },
  },
  TARC = {
    0x03840, 32, "rw", reset = 0x00000403, count = 2, stride = 0x100, section = "10.2.6",
    description = "arbitration between transmit queues. Keep the other bits. Not in the 82540EM",
    COUNT = { 6, 0 },
    ENABLE = { 10, description = "queue on" },
  },

  -- ---- Statistics (10.2.7): reading clears -----------------------------------------------------

  CRCERRS = counter(0x04000, "received with a CRC error"),
  ALGNERRC = counter(0x04004, "received with an alignment error"),
  RXERRC = counter(0x0400c, "received with an error of the PHY's"),
  MPC = counter(0x04010, "missed: the receive FIFO was full"),
  SCC = counter(0x04014, "sent after a single collision"),
  ECOL = counter(0x04018, "not sent: too many collisions"),
  MCC = counter(0x0401c, "sent after several collisions"),
  LATECOL = counter(0x04020, "late collisions"),
  COLC = counter(0x04028, "collisions"),
  DC = counter(0x04030, "deferred"),
  TNCRS = counter(0x04034, "sent without carrier sense"),
  CEXTERR = counter(0x0403c, "carrier extension errors"),
  RLEC = counter(0x04040, "received with a length error"),
  XONRXC = counter(0x04048, "XON received"),
  XONTXC = counter(0x0404c, "XON sent"),
  XOFFRXC = counter(0x04050, "XOFF received"),
  XOFFTXC = counter(0x04054, "XOFF sent"),
  FCRUC = counter(0x04058, "unsupported flow control received"),
  PRC64 = counter(0x0405c, "received, 64 bytes"),
  PRC127 = counter(0x04060, "received, 65 to 127 bytes"),
  PRC255 = counter(0x04064, "received, 128 to 255 bytes"),
  PRC511 = counter(0x04068, "received, 256 to 511 bytes"),
  PRC1023 = counter(0x0406c, "received, 512 to 1023 bytes"),
  PRC1522 = counter(0x04070, "received, 1024 bytes and more"),
  GPRC = counter(0x04074, "good packets received"),
  BPRC = counter(0x04078, "broadcast packets received"),
  MPRC = counter(0x0407c, "multicast packets received"),
  GPTC = counter(0x04080, "good packets sent"),
  GORC = counter64(0x04088, "good bytes received: GORCL and GORCH"),
  GOTC = counter64(0x04090, "good bytes sent: GOTCL and GOTCH"),
  RNBC = counter(0x040a0, "received when no buffer was free"),
  RUC = counter(0x040a4, "received, too short"),
  RFC = counter(0x040a8, "received, too short and with a CRC error"),
  ROC = counter(0x040ac, "received, too long"),
  RJC = counter(0x040b0, "received, too long and with a CRC error"),
  MGTPRC = counter(0x040b4, "management packets received"),
  MGTPDC = counter(0x040b8, "management packets dropped"),
  MGTPTC = counter(0x040bc, "management packets sent"),
  TOR = counter64(0x040c0, "bytes received: TORL and TORH"),
  TOT = counter64(0x040c8, "bytes sent: TOTL and TOTH"),
  TPR = counter(0x040d0, "packets received"),
  TPT = counter(0x040d4, "packets sent"),
  PTC64 = counter(0x040d8, "sent, 64 bytes"),
  PTC127 = counter(0x040dc, "sent, 65 to 127 bytes"),
  PTC255 = counter(0x040e0, "sent, 128 to 255 bytes"),
  PTC511 = counter(0x040e4, "sent, 256 to 511 bytes"),
  PTC1023 = counter(0x040e8, "sent, 512 to 1023 bytes"),
  PTC1522 = counter(0x040ec, "sent, 1024 bytes and more"),
  MPTC = counter(0x040f0, "multicast packets sent"),
  BPTC = counter(0x040f4, "broadcast packets sent"),
  TSCTC = counter(0x040f8, "segmentation contexts sent"),
  TSCTFC = counter(0x040fc, "segmentation contexts that failed"),
  IAC = counter(0x04100, "interrupts asserted. Not in the 82540EM"),
}
