--- The common part of the models of the 82574L and the 82540EM: registers, NVM, PHY, interrupts, the wire. The rings are
--- in model_rings.lua.
---
--- The wire is region 5, which no card has: a bench, for specs. Its other end is silent until a spec writes
--- there.
---
---     0x0000  CABLE  1: plugged in, as at power-on; 0: not
---     0x0004  GIVE   a frame comes in: its length, its bytes from 0x1000 on; bit 16: its CRC is wrong
---     0x0008  TAKE   reading takes the oldest frame that was sent: its length, its bytes from 0x5000 on; 0: there is none
---     0x000c  LOST   frames that were sent and not taken: 256 wait
---
--- A reset keeps what the datasheet says: the PHY, MTA, VFTA. Interrupt delays, VLANs, segmentation, packet split, RSS,
--- the second queue, MSI-X and flow control are not modelled; a driver that asks for one gets an error. Other registers
--- hold the written value.

local bit = require "bit"
local ffi = require "ffi"
local rings = require "drivers.e1000e.model_rings"

local band, bor, bnot, rshift, lshift = bit.band, bit.bor, bit.bnot, bit.rshift, bit.lshift

-- Stated again, not taken from the driver's map: a shared mistake would not be seen.
local CTRL, CTRL_TOO, STATUS, EERD, CTRL_EXT, MDIC = 0x0000, 0x0004, 0x0008, 0x0014, 0x0018, 0x0020
local ICR, ITR, ICS, IMS, IMC, IAM = 0x00c0, 0x00c4, 0x00c8, 0x00d0, 0x00d8, 0x00e0
local RCTL, RDBAL, RDBAH, RDLEN, RDH, RDT = 0x0100, 0x2800, 0x2804, 0x2808, 0x2810, 0x2818
local TCTL, TDBAL, TDBAH, TDLEN, TDH, TDT, TXDCTL = 0x0400, 0x3800, 0x3804, 0x3808, 0x3810, 0x3818, 0x3828
local MTA, RAL, RAH, VFTA, SWSM = 0x5200, 0x5400, 0x5404, 0x5600, 0x5b50
local SLU, GIO_MASTER_DISABLE, RST, PHY_RST = 0x40, 0x4, 0x4000000, 0x80000000 -- CTRL
local EN = 0x2 -- RCTL, TCTL
local LSC, MDAC = 0x04, 0x200 -- ICR
local CAUSES, ASSERTED = 0x1ffffff, 0x80000000
local COUNTERS, LAST_COUNTER, IAC = 0x4000, 0x4100, 0x4100
local WIDE = { [0x4088] = true, [0x4090] = true, [0x40c0] = true, [0x40c8] = true } -- GORC, GOTC, TOR, TOT: low, then high

local WIRE = 5 -- region
local CABLE, GIVE, TAKE, LOST, IN, OUT = 0x0, 0x4, 0x8, 0xc, 0x1000, 0x5000
local FRAME, KEPT = 0x4000, 256

local RESET_SECONDS, NVM_SECONDS, MDIC_SECONDS, NEGOTIATION_SECONDS = 1e-6, 20e-6, 64e-6, 20e-3

-- Features that are not there: register, bits of it, and the feature that the bits ask for.
local MISSING = {
  { CTRL, 0x58000000, "VLAN tags and flow control" }, { CTRL_TOO, 0x58000000, "VLAN tags and flow control" },
  { RCTL, 0x78040c00, "VLAN filters, packet split and FLXBUF" },
  { 0x2820, 0xffffffff, "a receive interrupt delay (RDTR)" }, { 0x282c, 0xffffffff, "a receive interrupt delay (RADV)" },
  { 0x3820, 0xffffffff, "a transmit interrupt delay (TIDV)" }, { 0x382c, 0xffffffff, "a transmit interrupt delay (TADV)" },
  { 0x2908, 0xffffffff, "a second receive queue" }, { 0x3908, 0xffffffff, "a second transmit queue" },
  { TXDCTL, 0x003f0000, "write-backs in groups (TXDCTL.WTHRESH)" }, { 0x5008, 0x8000, "extended receive descriptors" },
  { 0x5818, 0xffffffff, "receive side scaling" }, { 0x00e4, 0x88888, "MSI-X (IVAR)" },
}
for i = 0, 15 do MISSING[#MISSING + 1] = { RAH + i * 8, 0x30000, "an address filter of sources (RAH.ASEL)" } end
local missing = {}
for _, entry in ipairs(MISSING) do missing[entry[1]] = entry end

local function fault(...) error(string.format(...), 0) end

local function unsigned(v) return v % 0x100000000 end

-- ---- Interrupts (10.2.4) -------------------------------------------------------------------------

-- Sets the line; not sooner after the last time than ITR says.
local function update(dev)
  local pending = band(dev.icr, dev.ims) ~= 0
  if pending == dev.line then return end
  if not pending then
    dev.line = false
    return dev:lower()
  end
  local now = dev.now()
  if now < dev.quiet_until then
    if not dev.throttled then
      dev.throttled = true
      dev:after(dev.quiet_until - now, function()
        dev.throttled = false
        update(dev)
      end)
    end
    return
  end
  dev.quiet_until = now + band(dev.r[ITR], 0xffff) * 256e-9
  dev.line = true
  rings.count(dev, IAC)
  dev:raise()
end

local function cause(dev, bits)
  dev.icr = bor(dev.icr, band(bits, CAUSES))
  update(dev)
end

-- Auto-masking: CTRL_EXT.IAME.
local function automask(dev)
  if dev.line and band(dev.r[CTRL_EXT], 0x8000000) ~= 0 then dev.ims = band(dev.ims, bnot(dev.r[IAM] or 0)) end
end

local function read_icr(dev, card)
  local value = dev.icr
  if card.asserted and dev.line then value = value + ASSERTED end
  if not card.asserted or dev.line or dev.ims == 0 then
    automask(dev)
    dev.icr = 0
    update(dev)
  end
  return value
end

-- ---- The link ------------------------------------------------------------------------------------

local function phy_loopback(dev) return band(dev.phy[0], 0x4000) ~= 0 end
local function mac_loopback(dev) return band(dev.r[RCTL], 0xc0) == 0x40 end

local function update_link(dev)
  local phy_up = phy_loopback(dev) or dev.cable and not dev.negotiating and band(dev.phy[0], 0x0800) == 0 -- power down
  if not phy_up then dev.phy_was_down = true end -- PHY register 1 latches it
  dev.phy_up = phy_up
  local up = phy_up and band(dev.r[CTRL], SLU) ~= 0 and dev.r[CTRL] < PHY_RST
  if up == dev.link then return end
  dev.link = up
  cause(dev, LSC)
  if up then dev:work() end
end

local function negotiate(dev)
  dev.negotiating = (dev.negotiating or 0) + 1
  local mine = dev.negotiating
  update_link(dev)
  dev:after(NEGOTIATION_SECONDS, function()
    if dev.negotiating ~= mine then return end -- begun anew
    dev.negotiating = nil
    update_link(dev)
  end)
end

-- ---- The PHY (10.2.2.7) --------------------------------------------------------------------------

local PHY = { [0] = 0x1140, 0x7949, 0, 0, 0x0de1, 0x45e1, 0x0005, 0x2001, 0, 0x0e00, 0x3c00, 0, 0, 0, 0, 0x3000 }
local READ_ONLY = { [1] = true, [2] = true, [3] = true, [5] = true, [6] = true, [10] = true, [15] = true }

local function phy_reset(dev, card)
  dev.phy = {}
  for i = 0, 31 do dev.phy[i] = card.phy[i] or PHY[i] or 0 end
end

local function phy_read(dev, n)
  if n ~= 1 then return dev.phy[n] end
  local up = dev.phy_up and not dev.phy_was_down -- as it was since the last reading
  dev.phy_was_down = not dev.phy_up
  return bor(dev.phy[1], up and 0x04 or 0, dev.phy_up and 0x20 or 0)
end

local function phy_write(dev, card, n, value)
  if READ_ONLY[n] then return end
  if n ~= 0 then
    dev.phy[n] = value
    return
  end
  if band(value, 0x8000) ~= 0 then phy_reset(dev, card) else dev.phy[0] = band(value, 0x7dff) end
  if band(value, 0x8200) ~= 0 then negotiate(dev) else update_link(dev) end -- reset, or negotiation is asked for
end

local function write_mdic(dev, card, value)
  if dev.mdic_busy then fault "MDIC is written while an access is under way" end
  local n, phy, op = band(rshift(value, 16), 31), band(rshift(value, 21), 31), band(rshift(value, 26), 3)
  if op ~= 1 and op ~= 2 then fault("MDIC.OP is %d: 1 writes, 2 reads", op) end
  dev.mdic_busy = true
  dev.r[MDIC] = band(value, 0x2fffffff) -- neither R nor E
  dev:after(MDIC_SECONDS, function()
    dev.mdic_busy = false
    local data, flags = band(value, 0xffff), 0x10000000 -- R
    if phy ~= 1 then
      flags = flags + 0x40000000 -- E: no PHY answers
    elseif op == 2 then
      data = phy_read(dev, n)
    else
      phy_write(dev, card, n, data)
    end
    dev.r[MDIC] = unsigned(bor(band(value, 0x2fff0000), data, flags))
    if band(value, 0x20000000) ~= 0 then cause(dev, MDAC) end
  end)
end

-- ---- The NVM (10.2.2.4) --------------------------------------------------------------------------

local function nvm_of(card)
  local words, sum = {}, 0
  for i = 0, 63 do words[i] = 0xffff end
  for i = 0, 2 do words[i] = card.mac:byte(i * 2 + 1) + card.mac:byte(i * 2 + 2) * 256 end
  words[11], words[13] = card.device, card.device
  for i = 0, 62 do sum = sum + words[i] end
  words[63] = (0xbaba - sum) % 65536
  return words
end

local function write_eerd(dev, card, value)
  local shift, done = card.eerd.shift, card.eerd.done
  local word = rshift(band(value, 0xffff), shift)
  local address = lshift(word, shift)
  dev.r[EERD] = address
  if band(value, 1) == 0 then return end
  dev.r[EERD] = address + 1
  dev:after(NVM_SECONDS, function()
    dev.r[EERD] = (dev.nvm[word] or 0xffff) * 65536 + address + done
  end)
end

-- ---- The card ------------------------------------------------------------------------------------

-- The part of every reset (4.6.3); other registers keep their values.
local function reset(dev, card)
  local old, r = dev.r or {}, {}
  for offset = 0, 0x5ffc, 4 do r[offset] = 0 end
  for first, last in pairs { [MTA] = MTA + 0x1fc, [VFTA] = VFTA + 0x1fc } do
    for offset = first, last, 4 do r[offset] = old[offset] or 0 end
  end
  for offset, value in pairs(card.reset) do r[offset] = value end
  r[EERD] = card.eerd.done
  local mac = { card.mac:byte(1, 6) }
  r[RAL] = mac[1] + mac[2] * 2 ^ 8 + mac[3] * 2 ^ 16 + mac[4] * 2 ^ 24
  r[RAH] = mac[5] + mac[6] * 2 ^ 8 + 2 ^ 31 -- AV
  dev.r, dev.counters = r, {}
  dev.icr, dev.ims, dev.quiet_until = 0, 0, 0
  dev.fifo, dev.tx = { first = 1, last = 0, bytes = 0 }, {}
  dev.link = false
  dev.resetting_until = dev.now() + RESET_SECONDS
  update(dev)
end

local function read_status(dev, card)
  local ctrl = dev.r[CTRL]
  local speed = band(ctrl, 0x800) ~= 0 and band(rshift(ctrl, 8), 3) or 2 -- FRCSPD
  local duplex = band(ctrl, 0x1000) == 0 or band(ctrl, 1) == 1 -- FRCDPLX
  return bor(duplex and 0x1 or 0, dev.link and 0x2 or 0, lshift(speed, 6), 0x200,
    card.master_enable and band(ctrl, GIO_MASTER_DISABLE) == 0 and 0x80000 or 0)
end

local function read_counter(dev, offset)
  local low = WIDE[offset] and offset or WIDE[offset - 4] and offset - 4
  local value = dev.counters[low or offset] or 0
  if low == offset then return value % 0x100000000 end
  dev.counters[low or offset] = nil -- of a wide one, with the high half
  return low and math.floor(value / 0x100000000) % 0x100000000 or value
end

local function write_ctrl(dev, card, value)
  if band(value, RST) ~= 0 then return reset(dev, card) end
  local was = dev.r[CTRL]
  dev.r[CTRL] = value
  if value >= PHY_RST then
    phy_reset(dev, card)
    update_link(dev)
  elseif was >= PHY_RST then
    negotiate(dev)
  else
    update_link(dev)
  end
end

local function write_rctl(dev, card, value)
  local lbm = band(rshift(value, 6), 3)
  if lbm ~= 0 and not (lbm == 1 and card.mac_loopback) then fault("the %s has no RCTL.LBM %d", card.name, lbm) end
  dev.r[RCTL] = value
  if band(value, EN) ~= 0 then
    rings.check(dev, "receiver", RDBAL, RDBAH, RDLEN, RDH, RDT)
    dev:work()
  end
end

local function write_tctl(dev, card, value)
  dev.r[TCTL] = value
  if band(value, EN) ~= 0 then
    rings.check(dev, "transmitter", TDBAL, TDBAH, TDLEN, TDH, TDT)
    if band(rshift(dev.r[TXDCTL], 22), 1) ~= card.count_desc then
      fault("the %s wants TXDCTL bit 22 to be %d", card.name, card.count_desc)
    end
    dev:work()
  end
end

local function write_tail(dev, tail, length, control, value)
  dev.r[tail] = value
  if band(dev.r[control], EN) == 0 then return end -- it is looked at when it is switched on
  if value >= dev.r[length] / 16 then fault("tail %d of a ring of %d descriptors", value, dev.r[length] / 16) end
  dev:work()
end

local function write_place(dev, offset, control, value)
  if band(dev.r[control], EN) ~= 0 then fault("0x%04x is written, where a ring is, while it is in use", offset) end
  if (offset == RDLEN or offset == TDLEN) and value % 128 ~= 0 then fault("a ring of %d bytes: a multiple of 128", value) end
  if (offset == RDBAL or offset == TDBAL) and value % 16 ~= 0 then fault("a ring at 0x%x: a multiple of 16", value) end
  dev.r[offset] = value
end

local PLACES = {
  [RDBAL] = RCTL, [RDBAH] = RCTL, [RDLEN] = RCTL, [RDH] = RCTL, [TDBAL] = TCTL, [TDBAH] = TCTL, [TDLEN] = TCTL, [TDH] = TCTL,
}

local writers = {
  [CTRL] = write_ctrl, [CTRL_TOO] = write_ctrl, [EERD] = write_eerd, [MDIC] = write_mdic, [RCTL] = write_rctl, [TCTL] = write_tctl,
  [ICR] = function(dev, _, value)
    automask(dev)
    dev.icr = band(dev.icr, bnot(value))
    update(dev)
  end,
  [ICS] = function(dev, _, value) cause(dev, value) end,
  [IMS] = function(dev, _, value)
    dev.ims = bor(dev.ims, band(value, CAUSES))
    update(dev)
  end,
  [IMC] = function(dev, _, value)
    dev.ims = band(dev.ims, bnot(value))
    update(dev)
  end,
  [RDT] = function(dev, _, value) write_tail(dev, RDT, RDLEN, RCTL, value) end,
  [TDT] = function(dev, _, value) write_tail(dev, TDT, TDLEN, TCTL, value) end,
  [STATUS] = function() end, -- read-only
}

-- ---- The wire ------------------------------------------------------------------------------------

local function read_wire(dev, offset, width)
  if offset == CABLE then return dev.cable and 1 or 0 end
  if offset == LOST then return dev.lost end
  if offset == TAKE then
    local frame = table.remove(dev.sent, 1)
    if frame then ffi.copy(dev.outbox, frame, #frame) end
    return frame and #frame or 0
  end
  if offset >= OUT and offset + width / 8 <= OUT + FRAME then
    local at = dev.outbox + offset - OUT
    if width == 64 then return ffi.cast("uint64_t *", at)[0] + 0 end
    return tonumber(ffi.cast(("uint%d_t *"):format(width), at)[0])
  end
  return 0
end

local function write_wire(dev, offset, width, value)
  if offset == CABLE then
    local plugged = value ~= 0
    if plugged == dev.cable then return end
    dev.cable = plugged
    if plugged then negotiate(dev) else update_link(dev) end
  elseif offset == GIVE then
    local length = band(value, 0xffff)
    if length < 14 or length > FRAME then fault("the wire: a frame of %d bytes", length) end
    -- In loopback nothing comes in from outside.
    if not dev.link or phy_loopback(dev) or mac_loopback(dev) then return end
    rings.arrive(dev, ffi.string(dev.inbox, length), band(value, 0x10000) ~= 0)
  elseif offset >= IN and offset + width / 8 <= IN + FRAME then
    ffi.cast(("uint%d_t *"):format(width), dev.inbox + offset - IN)[0] = value
  else
    fault("the wire has nothing to write at 0x%x", offset)
  end
end

-- ---- Model ---------------------------------------------------------------------------------------

-- The rings' access to the card.
local function methods(dev)
  dev.cause = cause
  --- Frames leave: in MAC loopback without a link, too.
  function dev:carrier() return self.link or mac_loopback(self) and band(self.r[CTRL], SLU) ~= 0 end
  function dev:may_master() return band(self.r[CTRL], GIO_MASTER_DISABLE) == 0 end
  function dev:carry(frame)
    if phy_loopback(self) or mac_loopback(self) then return rings.arrive(self, frame) end
    if #self.sent < KEPT then table.insert(self.sent, frame) else self.lost = self.lost + 1 end
  end
  --- Looks at both rings, soon: the access that asks for it does not wait for that.
  function dev:work()
    if self.working then return end
    self.working = true
    self:after(0, function()
      self.working = false
      rings.receive(self)
      rings.transmit(self)
    end)
  end
end

--- Makes a model of one of the two.
---@param card table  what it has of its own: model.lua
---@return table model
return function(card)
  local model = {
    pci = { vendor = 0x8086, device = card.device, class = 0x020000, revision = card.revision or 0 },
    vectors = 1,
    regions = { [0] = { size = 0x20000 }, [WIRE] = { size = 0x9000 } },
  }

  function model.reset(dev)
    methods(dev)
    dev.cable, dev.sent, dev.lost = true, {}, 0
    dev.inbox, dev.outbox = ffi.new("uint8_t[?]", FRAME), ffi.new("uint8_t[?]", FRAME)
    dev.nvm, dev.line = nvm_of(card), false
    phy_reset(dev, card)
    reset(dev, card)
    dev.phy_up = true
  end

  function model.read(dev, offset, width, region)
    if region == WIRE then return read_wire(dev, offset, width) end
    if width ~= 32 or offset % 4 ~= 0 then fault("read of %d bits at 0x%x: the card's registers are of 32 bits", width, offset) end
    if offset >= COUNTERS and offset <= LAST_COUNTER then return read_counter(dev, offset) end
    if offset == ICR then return read_icr(dev, card) end
    if offset == IMS then return dev.ims end
    if offset == STATUS then return read_status(dev, card) end
    if offset == ICS or offset == IMC then return 0 end -- write-only
    if offset == CTRL_TOO then offset = CTRL end
    local value = dev.r[offset] or 0
    if offset == CTRL and dev.now() < dev.resetting_until then value = bor(value, RST) end
    if offset == SWSM then dev.r[SWSM] = bor(value, 1) end
    return unsigned(value)
  end

  function model.write(dev, offset, width, value, region)
    if region == WIRE then return write_wire(dev, offset, width, value) end
    if width ~= 32 or offset % 4 ~= 0 then fault("write of %d bits at 0x%x: the card's registers are of 32 bits", width, offset) end
    local gap = missing[offset]
    if gap and band(value, gap[2]) ~= 0 then fault("%s: not in this model of the %s", gap[3], card.name) end
    local writer = writers[offset]
    if writer then return writer(dev, card, value) end
    if PLACES[offset] then return write_place(dev, offset, PLACES[offset], value) end
    if offset >= COUNTERS and offset <= LAST_COUNTER then return end -- read-only
    if dev.r[offset] then dev.r[offset] = value end
  end

  return model
end
