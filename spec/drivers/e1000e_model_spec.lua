--- The models of e1000e's cards, where the conformance of luio.net does not reach: interrupts, the wire, NVM and PHY, and
--- the faults of a driver that a card would say nothing of.

local ffi = require "ffi"
local luio = require "luio"
local net = require "luio.net"
local wait = require "spec.support.wait"

local MODELS = { ["82574L"] = "sim:e1000e", ["82540EM"] = "sim:drivers/e1000e/model_82540em.lua" }
local CABLE, GIVE, TAKE, IN, OUT = 0x0, 0x4, 0x8, 0x1000, 0x5000
local BAD_CRC = 0x10000

-- ---- The wire's other end ------------------------------------------------------------------------

local function give(port, frame, flags)
  local wire = port.dev.regions[5]
  for i = 1, #frame do wire:write8(IN + i - 1, frame:byte(i)) end
  wire:write32(GIVE, #frame + (flags or 0))
end

-- The oldest frame that was sent, within a second.
local function take(port)
  local wire = port.dev.regions[5]
  local n = wait.poll(1, function()
    local length = wire:read32(TAKE)
    return length > 0 and length or nil
  end)
  if not n then return nil end
  local bytes = {}
  for i = 0, n - 1 do bytes[i + 1] = string.char(wire:read8(OUT + i)) end
  return table.concat(bytes)
end

local function frame_for(port, size) return net.mac_bytes(port.mac) .. "\2\0\0\0\0\1\x88\xb5" .. ("f"):rep(size - 14) end

for card, address in pairs(MODELS) do
  describe("the model of the " .. card, function()
    local port, dev
    after_each(function()
      if port then assert(port:close()) elseif dev then assert(dev:close()) end
      port, dev = nil, nil
    end)

    local function open(options)
      port = assert(net.open(address, options))
      assert(port:wait_link(true, 5))
      return port
    end

    -- The card alone, its driver's map bound.
    local function bare()
      dev = assert(luio.open(address))
      dev.regs = assert(luio.bind(assert(luio.load "drivers/e1000e").registers, dev))
      return dev.regs
    end

    it("has a peer on its wire, when a spec is one", function()
      open()
      local frame = frame_for(port, 100)
      give(port, frame)
      local packet = assert(port.rx[0]:receive(5))
      assert.equal(frame, packet:read())
      packet:write(frame:sub(1, 30))
      assert(port.tx[0]:send(packet, 1))
      assert.equal(frame:sub(1, 30) .. ("\0"):rep(30), take(port)) -- padded
      assert.is_nil(take(port))
    end)

    it("drops a damaged frame, a short one, a long one, and counts them", function()
      open()
      give(port, frame_for(port, 100), BAD_CRC)
      give(port, frame_for(port, 40))
      give(port, frame_for(port, 1519))
      give(port, frame_for(port, 1518))
      local packet = assert(port.rx[0]:receive(5))
      assert.equal(1518, packet.length)
      packet:free()
      local stats = port:stats()
      assert.same({ 1, 3, 1522 }, { stats.rx_packets, stats.rx_errors, stats.rx_bytes })
    end)

    it("loses its link with its cable; what was to be sent goes when it is there again", function()
      open()
      luio.run(function()
        local heard = {}
        port:on_link(function(link) table.insert(heard, link.up) end)
        port.dev.regions[5]:write32(CABLE, 0)
        assert(port:wait_link(false, 5))
        local packet = port.pool:alloc()
        packet:write(frame_for(port, 64))
        assert(port.tx[0]:send(packet, 1))
        assert.equal("ETIMEDOUT", select(3, port.tx[0]:flush(0.05)))
        assert.is_nil((port.tx[0]:flush(0)))
        give(port, frame_for(port, 64)) -- nobody hears it
        port.dev.regions[5]:write32(CABLE, 1)
        assert(port:wait_link(true, 5))
        assert(port.tx[0]:flush(5))
        assert.equal(64, #take(port))
        assert.equal(0, port:stats().rx_packets)
        wait.till(5, "both were told", function() return #heard == 2 end)
        assert.same({ false, true }, heard)
      end)
    end)

    it("keeps who sends waiting no longer than he said, when there is room for half of what his packet needs", function()
      open { tx = 8 }
      port.dev.regions[5]:write32(CABLE, 0) -- nothing goes
      assert(port:wait_link(false, 5))
      for _ = 1, 6 do
        local packet = port.pool:alloc()
        packet:write(frame_for(port, 64))
        assert(port.tx[0]:send(packet, 0))
      end
      local packet = port.pool:alloc()
      packet:write(frame_for(port, 64))
      packet.checksum_start, packet.checksum_offset = 34, 16 -- with a context: two descriptors
      local start = luio.now()
      local ok, _, code = port.tx[0]:send(packet, 0.1)
      assert.same({ nil, "ETIMEDOUT" }, { ok, code })
      assert.is_true(luio.now() - start < 20)
      packet:free()
      port.dev.regions[5]:write32(CABLE, 1)
      assert(port.tx[0]:flush(5))
      for _ = 1, 6 do assert.equal(64, #take(port)) end
    end)

    it("has its address in its NVM, with a checksum, and in RAL and RAH after a reset", function()
      local regs = bare()
      local eerd = card == "82574L" and regs.EERD or regs.EERD_82540EM
      local words, sum = {}, 0
      for i = 0, 63 do
        eerd:write { START = 1, ADDR = i }
        assert(eerd:wait({ DONE = 1 }, 10))
        words[i] = eerd:get "DATA"
        sum = sum + words[i]
      end
      assert.equal(0xbaba, sum % 65536)
      assert.equal(dev.info.device, words[11])
      regs.RAL[0]:write(0)
      regs.CTRL:update { RST = 1 }
      assert(regs.CTRL:wait({ RST = 0 }, 10))
      assert.same({ words[0] + words[1] * 65536, words[2] + 2 ^ 31 }, { regs.RAL[0]:read(), regs.RAH[0]:read() })
    end)

    it("answers for one PHY, and keeps it over a reset", function()
      local regs = bare()
      local function mdic(op, register, data, phy)
        regs.MDIC:write { REGADD = register, PHYADD = phy or 1, OP = op, DATA = data or 0 }
        assert(regs.MDIC:wait({ R = 1 }, 10))
        return regs.MDIC:get "E", regs.MDIC:get "DATA"
      end
      assert.same({ 0, 0x0141 }, { mdic("READ", 2) })
      assert.equal(1, (mdic("READ", 2, 0, 3)))
      mdic("WRITE", 0, 0x4140)
      regs.CTRL:update { RST = 1 }
      luio.sleep(0.001)
      assert.same({ 0, 0x4140 }, { mdic("READ", 0) })
    end)

    it("interrupts when IMS lets a cause through, once until it is acknowledged", function()
      local regs = bare()
      assert(dev.irqs[0]:setup({ capture = { { "ICR", 0xc0 } } }):start())
      regs.ICS:write { RXT0 = 1 }
      assert.is_nil((dev.irqs[0]:wait(0.05)))
      regs.IMS:write { RXT0 = 1, LSC = 1 }
      local event = assert(dev.irqs[0]:wait(20))
      assert.equal(card == "82574L" and 0x80000080 or 0x80, event.ICR)
      assert.equal(0, regs.ICR:read()) -- reading it acknowledged
      assert.is_nil((dev.irqs[0]:wait(0.05)))
      regs.IMC:write { RXT0 = 1 }
      assert.equal(0x4, regs.IMS:read())
    end)

    it("clears ICR on reading as its datasheet says", function()
      local regs = bare()
      regs.ICS:write { TXDW = 1 }
      regs.IMS:write { LSC = 1 } -- so IMS is not 0, and nothing is asserted
      assert.equal(1, regs.ICR:read())
      assert.equal(card == "82574L" and 1 or 0, regs.ICR:read())
      regs.ICS:write { TXDW = 1, RXO = 1 }
      regs.ICR:write { TXDW = 1 }
      assert.equal(0x40, regs.ICR:read())
      regs.IMC:write(0xffffffff)
      regs.ICR:read()
      assert.equal(0, regs.ICR:read())
    end)

    it("keeps ITR's distance between two interrupts", function()
      local regs = bare()
      assert(dev.irqs[0]:setup({ capture = { { "ICR", 0xc0 } } }):start())
      regs.ITR:write { INTERVAL = 65535 } -- 16.8 ms
      regs.IMS:write { RXT0 = 1 }
      local began, last = luio.now(), nil
      for _ = 1, 4 do
        regs.ICS:write { RXT0 = 1 }
        last = assert(dev.irqs[0]:wait(20)).time
      end
      -- From before the first: how long an interrupt takes to be seen is not the model's.
      assert.is_true(last - began > 3 * 0.0167, last - began)
    end)

    it("counts into registers that reading clears, of 64 bits with the high half", function()
      open { loopback = true }
      for _ = 1, 3 do
        local packet = port.pool:alloc()
        packet:write(frame_for(port, 200))
        assert(port.tx[0]:send(packet, 1))
        assert(port.rx[0]:receive(5)):free()
      end
      local regs = port.dev.regs
      assert.same({ 3, 0 }, { regs.GPTC:read(), regs.GPTC:read() })
      assert.same({ 3, 3 }, { regs.PRC255:read(), regs.PTC255:read() })
      assert.same({ 612, 612 }, { port.dev.regions[0]:read32(0x4088), port.dev.regions[0]:read32(0x4088) }) -- the low half clears nothing
      assert.equal(0, port.dev.regions[0]:read32(0x408c))
      assert.equal(0, port.dev.regions[0]:read32(0x4088))
    end)

    it("takes what a driver must not do for an error, and names it", function()
      local cases = {
        ["the receiver is switched on without a ring"] = function(regs) regs.RCTL:write { EN = 1 } end,
        ["a ring of 100 bytes: a multiple of 128"] = function(regs) regs.RDLEN[0]:write(100) end,
        ["a ring at 0x8: a multiple of 16"] = function(regs) regs.TDBAL[0]:write(8) end,
        ["the transmitter's ring is at 0x210, which is no multiple of 128"] = function(regs)
          regs.TDBAL[0]:write(0x210)
          regs.TDLEN[0]:write(128)
          regs.TCTL:write { EN = 1 }
        end,
        ["wants TXDCTL bit 22 to be"] = function(regs)
          regs.TXDCTL[0]:write { COUNT_DESC = card == "82574L" and 0 or 1 }
          regs.TDLEN[0]:write(128)
          regs.TCTL:write { EN = 1 }
        end,
        ["the 825%w+ has no RCTL.LBM 3"] = function(regs) regs.RCTL:write { LBM = "TRANSCEIVER" } end,
        ["a receive interrupt delay %(RDTR%): not in this model"] = function(regs) regs.RDTR:write(10) end,
        ["read of 16 bits at 0x8"] = function() return dev.regions[0]:read16(8) end,
        ["write of 64 bits at 0x3800"] = function() return dev.regions[0]:write64(0x3800, 0) end,
      }
      for pattern, fn in pairs(cases) do
        local regs = bare()
        local ok, message = pcall(fn, regs)
        assert.is_false(ok, pattern)
        assert.matches(pattern, message)
        assert(dev:close())
        dev = nil
      end
    end)

    -- Descriptors of a ring of the spec's own: what the model says of them.
    local function transmits(fill)
      local regs = bare()
      assert(dev:bus_master(true))
      local ring, data = assert(dev.dma:alloc(128, { align = 128 })), assert(dev.dma:alloc(2048))
      local d = ring:pointer "uint64_t *"
      ffi.fill(d, 128)
      regs.CTRL:update { SLU = 1 }
      regs.TDBAL[0]:write(ring.iova)
      regs.TDLEN[0]:write(128)
      regs.TXDCTL[0]:update { COUNT_DESC = card == "82574L" and 1 or 0 }
      regs.TCTL:write { EN = 1, PSP = 1 }
      local tail = fill(d, data.iova)
      regs.TDT[0]:write(tail or 1)
      return wait.poll(2, function() return dev.failure() end)
    end

    it("takes descriptors that say nonsense for an error, and names them", function()
      local EOP_IFCS = 0x03000000ULL
      for pattern, fill in pairs {
        ["transmit descriptor 0 has length 0"] = function(d, at) d[0], d[1] = at, EOP_IFCS end,
        ["transmit descriptor 0: a frame without a CRC"] = function(d, at) d[0], d[1] = at, 0x01000000ULL + 60 end,
        ["transmit descriptor 1 is given with DD set"] = function(d, at)
          d[0], d[1], d[2], d[3] = at, EOP_IFCS + 60, at, 0x100000000ULL + 0x0b000000ULL + 60
          return 2
        end,
        ["DMA read of 60 bytes at IOVA 0x7777777000: no buffer of the driver is there"] = function(d)
          d[0], d[1] = 0x7777777000ULL, EOP_IFCS + 60
        end,
        ["a checksum is asked for, and no context says where"] = function(d, at) d[0], d[1] = at, 0x20000000000ULL + 0x23100000ULL + 60 end,
        ["transmit descriptor 0: segmentation is not in this model"] = function(d, at) d[0], d[1] = at, 0x27100000ULL + 60 end,
        ["tail 8 of a ring of 8 descriptors"] = function() return 8 end,
      } do
        local ok, message = pcall(transmits, fill)
        message = ok and message or tostring(message)
        assert.matches(pattern, message)
        assert(dev:close())
        dev = nil
      end
    end)

    it("does no DMA while bus master is off, and goes on when it is on", function()
      open { loopback = true }
      assert(port.dev:bus_master(false))
      local packet = port.pool:alloc()
      packet:write(frame_for(port, 64))
      assert(port.tx[0]:send(packet, 1))
      luio.sleep(0.02)
      assert.equal(1, port.tx[0]:pending())
      assert(port.dev:bus_master(true))
      packet = port.pool:alloc()
      packet:write(frame_for(port, 65))
      assert(port.tx[0]:send(packet, 1))
      for _, size in ipairs { 64, 65 } do
        packet = assert(port.rx[0]:receive(5))
        assert.equal(size, packet.length)
        packet:free()
      end
    end)
  end)
end
