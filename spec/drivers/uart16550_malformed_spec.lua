--- drivers/uart16550 against a chip that is broken: every value of LSR, IIR and MSR, bits that never clear or never come, a line
--- that is held for nothing, a chip that is gone. No pass goes on for ever, no error is lost or counted twice, and bytes stay in order.

local bit = require "bit"
local bridges = require "luio.serial.bridge"
local amount = require "spec.support.amount"
local far_end = require "spec.support.far_end"
local files = require "spec.support.files"
local luio = require "luio"
local ptys = require "luio.serial.pty"
local rings = require "luio.serial.ring"
local serial = require "luio.serial"
local uv = require "luv"
local wait = require "spec.support.wait"

local band = bit.band
local DR, OE, PE, FE, BI, THRE, TEMT = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40

-- The chip's model with a bench more in region 1: 0x40 what registers read as, 0x44 how often they were read.
local MODEL = [[
local model = {}
for key, value in pairs(require "drivers.uart16550.model") do model[key] = value end
local read, write = model.read, model.write
model.regions = { [0] = { size = 8 }, { size = 0x80 } }
local LSR, IIR, MSR, GONE, STUCK, LATE = 0x100, 0x200, 0x400, 0x800, 0x1000, 0x2000
local byte = 0
function model.read(dev, offset, width, region)
  if region == 1 and offset == 0x44 then
    local n = dev.reads or 0
    dev.reads = 0
    return n
  end
  if region ~= 0 then return read(dev, offset, width, region) end
  local forced = dev.forced or 0
  local function has(flag) return forced % (2 * flag) >= flag end
  dev.reads = (dev.reads or 0) + 1
  if has(GONE) then return 0xff end
  if offset == 5 and has(LSR) then return forced % 256 end
  if offset == 2 and has(IIR) then return forced % 256 end
  if offset == 2 and has(LATE) then -- five come now, the second with a parity error
    for i = 0, 4 do
      dev.rx[dev.rx.first + dev.rx.n] = ("defgh"):byte(i + 1) + (i == 1 and 0x400 or 0)
      dev.rx.n = dev.rx.n + 1
    end
    dev.forced = 0
  end
  if offset == 6 and has(MSR) then return forced % 256 end
  if offset == 0 and has(LSR) and dev.lcr < 0x80 then
    byte = (byte + 1) % 256
    return byte
  end
  local value = read(dev, offset, width, region)
  if has(STUCK) then dev:raise() end
  return value
end
function model.write(dev, offset, width, value, region)
  if region == 1 and offset == 0x40 then
    dev.forced = value
    if value % (2 * STUCK) >= STUCK then dev:raise() end
    return
  end
  if region == 0 and (dev.forced or 0) % (2 * GONE) >= GONE then return end
  return write(dev, offset, width, value, region)
end
return model]]
local LSR, IIR, MSR, GONE, STUCK, LATE = 0x100, 0x200, 0x400, 0x800, 0x1000, 0x2000

describe("a port of a UART", function()
  local port, far, warnings

  local function open(options)
    options = options or {}
    options.driver = "uart16550"
    port = assert(serial.open("sim:" .. files.write("model.lua", MODEL), options))
    far, warnings = far_end.of(port), {}
    function port.dev.on_warning(message) table.insert(warnings, message) end
  end

  after_each(function()
    if port then
      far.region:write32(0x40, 0)
      assert(port:close())
    end
    port = nil
    files.clean()
  end)

  local function force(how) far.region:write32(0x40, how) end
  local function reads() return far.region:read32(0x44) end

  local function works(text)
    far:send(text)
    assert.equal(text, port:read(#text, 5))
    assert(port:write(text, 5))
    wait.till(5, "it has arrived", function() return far:received() == #text end)
    assert.equal(text, far:receive())
  end

  -- Nothing else runs meanwhile: the port is told of no interrupt.
  it("whose LSR is stuck at any value takes what it was asked for, no more, and counts each error once a character", function()
    open()
    local offer, into = port.offer, rings.new(1024)
    local counts = offer.counts
    for value = 0, 254 do
      local before = { counts.overruns, counts.parity, counts.framing, counts.breaks }
      force(LSR + value)
      reads()
      into:clear()
      local n = offer.receive(into, 64)
      assert(n <= 64 and into:used() == n, ("LSR 0x%02x: %d bytes, %d in the ring"):format(value, n, into:used()))
      assert(reads() <= 3 * 64 + 2, ("LSR 0x%02x: too many accesses"):format(value))
      local has = function(b) return band(value, b) ~= 0 end
      local passes = has(DR) and 64 or 1
      local broken = has(DR) and has(BI)
      assert.same({
        has(OE) and (has(PE + FE + BI) or not has(DR)) and passes or counts.overruns - before[1],
        has(DR) and has(PE) and not broken and 64 or 0, has(DR) and has(FE) and not broken and 64 or 0, broken and 64 or 0,
      }, { counts.overruns - before[1], counts.parity - before[2], counts.framing - before[3], counts.breaks - before[4] },
        ("LSR 0x%02x"):format(value))
      assert(has(OE) == (counts.overruns > before[1]), ("LSR 0x%02x: overruns"):format(value))
      if n > 0 then -- in order
        local text = into:take(n)
        for i = 2, n do assert.equal((text:byte(i - 1) + 1) % 256, (text:byte(i) - (broken and text:byte(i) == 1 and 1 or 0)) % 256) end
      end
      local from = rings.new(64)
      from:put(("x"):rep(64), 0)
      assert.equal(has(THRE) and 16 or 0, offer.send(from))
      assert.equal(has(TEMT), offer.idle())
      force(LSR + DR) -- what errors were seen without a character are the next one's
      offer.receive(into, 1)
    end
  end)

  it("whose IIR or MSR is stuck at any value goes on", function()
    open()
    local into = rings.new(1024)
    for value = 0, 255 do
      force(IIR + value)
      far:send "abcdefghij"
      if band(value, 0xf) == 4 then -- a FIFO that is said to be full to the trigger level, and is not, is read too soon
        wait.still(5, function() return far:queued() == 0 end)
        repeat until port.offer.receive(into, 64) == 0
        into:clear()
      else
        wait.still(5, function()
          port.offer.receive(into, 64)
          return into:used() >= 10
        end)
        assert.equal("abcdefghij", into:take(64))
      end
      force(MSR + value)
      local lines, changed = port.offer.lines()
      assert.same({ math.floor(value / 16), value % 16 }, { lines, changed })
      force(0)
      assert.is_true(#warnings == 0)
    end
  end)

  -- Three are there when LSR is read, eight when IIR is, which says that they are a lot to be read in one go.
  it("counts the error of a character that comes while those before it are read", function()
    open()
    local into = rings.new(64)
    far:send "abc"
    wait.still(5, function() return far:queued() == 0 end)
    force(LATE)
    wait.still(5, function()
      port.offer.receive(into, 64)
      return into:used() >= 8
    end)
    assert.equal("abcdefgh", into:take(64))
    assert.equal(1, port:stats().parity)
  end)

  -- Marked characters, with breaks among them, eight at a time; somebody writes, drains and looks at the lines meanwhile.
  it("hands on characters in order and counts each error of theirs exactly once", function()
    open()
    luio.run(function()
      local x = tonumber(os.getenv "LUIO_SEED") or os.time()
      local function random(n)
        x = x * 48271 % 2147483647
        return x % n
      end
      x = x % 2147483646 + 1
      local want, expected = { parity = 0, framing = 0, breaks = 0 }, {}
      local stop = false
      local busy = luio.spawn(function()
        while not stop do
          port:write("yz", 1)
          if random(3) == 0 then port:drain(1) end
          port:lines()
          luio.sleep(0.001)
        end
      end)
      for _ = 1, amount(40, 1000) do
        local before = port:stats()
        local goal = before.rx_bytes + before.breaks
        for _ = 1, 8 do
          local how, byte = random(6), 1 + random(255)
          if how == 0 then
            far:send_marked(0, far_end.BREAK)
            want.breaks = want.breaks + 1
          else
            local mark = (how == 1 or how == 3) and far_end.PARITY or 0
            if how == 2 or how == 3 then mark = mark + far_end.FRAMING end
            far:send_marked(byte, mark)
            if how == 1 or how == 3 then want.parity = want.parity + 1 end
            if how == 2 or how == 3 then want.framing = want.framing + 1 end
            table.insert(expected, string.char(byte))
          end
        end
        wait.till(10, "they are taken", function()
          local now = port:stats()
          return now.rx_bytes + now.breaks == goal + 8
        end)
      end
      stop = true
      assert(busy:join(5))
      assert.equal(table.concat(expected), port:read(#expected, 5))
      local stats = port:stats()
      assert.same({ want.parity, want.framing, want.breaks, 0 }, { stats.parity, stats.framing, stats.breaks, stats.overruns })
    end)
  end)

  it("that always has one more character lets others live, and drops what nobody reads", function()
    open()
    luio.run(function()
      local turns = 0
      force(LSR + DR + THRE + TEMT)
      port.dev.regions[1]:write32(0x20, 0)
      local deadline = luio.now() + 10 * wait.HANG
      port:discard "tx" -- which looks at the device
      repeat
        turns = turns + 1
        port:discard "tx"
        luio.sleep(0)
      until turns > 100 and port:available() > 0 or luio.now() > deadline
      assert.is_true(turns > 100)
      assert.is_true(port:available() > 0 and port:available() <= 65536)
      force(0)
    end)
    port:discard "rx"
    works "again"
  end)

  it("that never empties ends each wait at its deadline", function()
    open()
    force(LSR + 0)
    assert(port:write("never", 1))
    local ok, _, code = port:drain(0.05)
    assert.same({ nil, "ETIMEDOUT" }, { ok, code })
    local before = luio.now()
    assert(port:configure { baud = 57600 })
    ok, _, code = port:send_break(0.01)
    assert.same({ nil, "EIO" }, { ok, code })
    assert.is_true(luio.now() - before >= 1)
    force(0)
    assert(port:drain(5))
    wait.till(5, "it has arrived", function() return far:received() == 5 end)
    assert.equal("never", far:receive())
  end)

  it("that is gone says so once, and nothing of it is taken for characters, errors or lines", function()
    open()
    works "before"
    local heard = 0
    port:on_lines(function() heard = heard + 1 end)
    local stats = port:stats()
    luio.run(function()
      force(GONE)
      for _ = 1, 5 do
        port:discard "tx"
        port:lines()
        luio.sleep(0.001)
      end
      assert(port:write("lost?", 1))
    end)
    local after = port:stats()
    stats.interrupts, stats.tx_written = after.interrupts, stats.tx_written + 5
    assert.same(stats, after)
    assert.same({ 0, 1 }, { heard, #warnings })
    assert.matches("does not answer, its registers read as all ones: it is gone, asleep %(D3%), or its memory or ports are switched off",
      warnings[1])
    force(0)
    luio.run(function()
      port:discard "rx"
      wait.till(5, "what waited goes out", function()
        port:lines()
        return far:received() == 5
      end)
    end)
    assert.equal("lost?", far:receive())
    works "after"
  end)

  it("that holds its interrupt for nothing is heard now and then, which is said once", function()
    open()
    luio.run(function()
      local turns, stop = 0, false
      local other = luio.spawn(function()
        repeat
          turns = turns + 1
          luio.sleep(0.001)
        until stop
      end)
      force(STUCK)
      wait.till(30, "it is said", function() return warnings[1] end)
      local began, interrupts = luio.now(), port:stats().interrupts
      luio.sleep(0.2)
      assert.is_true((port:stats().interrupts - interrupts) / (luio.now() - began) <= 110)
      works "still"
      wait.till(10, "others live", function() return turns > 20 end)
      force(0)
      stop = true
      assert(other:join(5))
    end)
    assert.equal(1, #warnings)
    assert.matches("interrupts without a reason that it tells: 1000 times in a row, and nothing had come, gone or changed%. It is heard 100 "
      .. "times a second from now on", warnings[1])
  end)

  it("is bridged to a pseudo-terminal, whose client has all of that as what it is", function()
    open { rx = 1024 }
    local pty = assert(ptys.open { line = port.settings })
    local bridge = bridges.new(port, pty, { fixed = true })
    luio.run(function()
      local carrying = luio.spawn(function() return bridge:run() end)
      local O_RDWR, O_NOCTTY, O_NONBLOCK = 2, 256, 2048
      local client = assert(uv.fs_open(pty.path, O_RDWR + O_NOCTTY + O_NONBLOCK, 0))
      wait.till(5, "the client is seen", function() return bridge.connected end)
      local got = ""
      local function heard(text)
        return wait.poll(5, function()
          got = got .. (uv.fs_read(client, 4096, -1) or "")
          return got:sub(-#text) == text
        end)
      end
      far:send "a"
      far:send_marked(0x62, far_end.PARITY)
      far:send_marked(0, far_end.BREAK)
      far:send_marked(0x63, far_end.FRAMING)
      assert(heard "abc")
      assert.equal("abc", got)
      force(GONE)
      assert(uv.fs_write(client, "later", -1))
      port:lines()
      wait.till(5, "it is said", function() return warnings[1] end)
      force(0)
      wait.till(5, "it has arrived", function() return far:received() == 5 end)
      assert.equal("later", far:receive())
      assert.equal("abc", got)
      force(LSR + DR + THRE + TEMT) -- always one more
      wait.till(5, "what nobody reads is dropped", function()
        port:discard "tx"
        return port:stats().rx_dropped > 0
      end)
      force(0)
      wait.till(10, "all was read", function()
        got = got .. (uv.fs_read(client, 65536, -1) or "")
        return port:available() == 0
      end)
      far:send "again"
      assert(heard "again")
      uv.fs_close(client)
      bridge:stop()
      assert(carrying:join(5))
    end)
    pty:close()
  end)
end)
