--- A model of the Intel 82540EM, after the "8254x Family of Gigabit Ethernet Controllers Software Developer's Manual":
--- sim:drivers/e1000e/model_82540em.lua. Its common part with the 82574L is in model_card.lua.

return require "drivers.e1000e.model_card" {
  name = "82540EM",
  device = 0x100e,
  mac = "\x52\x54\x00\x12\x34\x57",
  eerd = { done = 0x10, shift = 8 }, -- 13.4.4
  asserted = false, -- 13.4.17: reading ICR always clears it
  mac_loopback = false, -- only the PHY can loop back (13.4.22)
  count_desc = 0, -- reserved
  reset = {
    [0x00000] = 0x00000201, -- CTRL: SPEED, FD
    [0x00e00] = 0x07068302, -- LEDCTL
    [0x01000] = 0x00100030, -- PBA
  },
  phy = { [2] = 0x0141, [3] = 0x0c20 },
  master_enable = false,
}
