--- A model of the Intel 82574L, after the "82574 GbE Controller Family Datasheet": sim:e1000e. Its older relative is
--- model_82540em.lua; their common part is model_card.lua.

return require "drivers.e1000e.model_card" {
  name = "82574L",
  device = 0x10d3,
  mac = "\x52\x54\x00\x12\x34\x56",
  -- 10.2.2.4: DONE, and where a word's number is
  eerd = { done = 0x2, shift = 2 },
  -- 10.2.4.1: reading ICR clears it when the interrupt was asserted, or nothing is let through
  asserted = true,
  mac_loopback = true,
  count_desc = 1, -- TXDCTL bit 22 (10.2.6.10)
  reset = {
    [0x00000] = 0x00100201, -- CTRL: ADVD3WUC, SPEED, FD
    [0x00e00] = 0x00068302, -- LEDCTL
    [0x01000] = 0x00140014, -- PBA
    [0x00410] = 0x00602008, -- TIPG
    [0x02828] = 0x00010000, [0x02928] = 0x00010000, -- RXDCTL
    [0x03840] = 0x00000403, [0x03940] = 0x00000403, -- TARC
    [0x05000] = 0x00000300, -- RXCSUM
    [0x02170] = 0x00040402, -- PSRCTL
  },
  phy = { [2] = 0x0141, [3] = 0x0cb1 },
  master_enable = true,
}
