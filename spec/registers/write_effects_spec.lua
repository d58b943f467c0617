--- Effects of writing. A map states them of a register or a field; they hold for the bytes under any name, and for luio's own
--- writes: restoring, undoing.

local amount = require "spec.support.amount"
local bit = require "bit"
local buslog = require "spec.support.buslog"
local effects = require "luio.registers.effects"
local ffi = require "ffi"
local luio = require "luio"
local lint = require "luio.registers.lint"
local show = require "luio.registers.show"
local triggers = require "luio.registers.triggers"

-- Lets `fn` have a device that is memory, and a map bound to it.
local function on_bus(spec, fn)
  local bus = buslog.open()
  local ok, message = pcall(fn, bus:bind(spec), bus)
  bus:close()
  if not ok then error(message, 0) end
end

local function names(list)
  local t = {}
  for i, trigger in ipairs(list) do t[i] = trigger.name end
  table.sort(t)
  return t
end

local function writes(bus)
  local list = {}
  for _, access in ipairs(bus:log()) do
    if access:sub(1, 1) == "w" then table.insert(list, access) end
  end
  return list
end

describe("write_effect in a map", function()
  it("belongs to a register, an element of an array, a field; and self-clearing is an access", function()
    local map = luio.registers {
      CMD = { 0, 32, "rw", write_effect = "sends the command", INDEX = { 5, 0 } },
      BELL = { 8, 32, "wo", count = 4, write_effect = "rings" },
      CTRL = { 4, 32, "rw", EN = 0, RST = { 1, access = "sc", write_effect = "resets" }, ["GO%d"] = { 8, count = 2, write_effect = "goes" } },
    }
    assert.same({ "sends the command", "rings", "resets", "goes" },
      { map.CMD.write_effect, map.BELL.write_effect, map.CTRL.field.RST.write_effect, map.CTRL.field.GO1.write_effect })
    assert.is_nil(map.CTRL.write_effect) -- of a field is not every write's
    assert.same({ true, true }, { map.CTRL.field.RST.readable, map.CTRL.field.RST.writable })
  end)

  it("is checked; who knows other descriptions is told the word", function()
    for _, case in ipairs {
      { { A = { 0, 32, "rw", write_efect = "x" } }, "A: unknown key write_efect (did you mean write_effect?)" },
      { { A = { 0, 32, "rw", write_effect = true } }, 'A: write_effect is a string, not a boolean, that says what writing does' },
      { { A = { 0, 32, "ro", write_effect = "x" } }, "A: write_effect of what can't be written: its access is ro" },
      { { A = { 0, 32, "rw", B = { 0, access = "ro", write_effect = "x" } } }, "A.B: write_effect of what can't be written: its access is ro" },
      { { A = { 0, 32, "rw", GO = { 0, singlepulse = true } } }, 'A.GO: unknown key singlepulse (a map says access = "sc")' },
      { { A = { 0, 32, "rw", GO = { 0, hwclr = true } } }, 'A.GO: unknown key hwclr (a map says access = "sc")' },
      { { A = { 0, 32, "rw", GO = { 0, onwrite = "woclr" } } }, 'A.GO: unknown key onwrite (a map says access = "w1c"' },
      { { A = { 0, 32, "rw", modifiedWriteValues = "oneToClear" } }, 'A: unknown key modifiedWriteValues (a map says access = "w1c"' },
      { { A = { 0, 32, "rw", readAction = "clear" } }, 'A: unknown key readAction (a map says access = "rc"' },
      { { A = { 0, 32, "woclr" } }, "A: unknown access woclr (did you mean w1c?)" },
      { { A = { 0, 32, "R/W SC" } }, "A: unknown access R/W SC (did you mean sc?)" },
      { { A = { 0, 32, "rw", F = { 0, access = "zeroToClear" } } }, "A.F: unknown access zeroToClear (did you mean w0c?)" },
      { { A = { 0, 32, "rw", F = { 0, access = "wzs" } } }, "A.F: unknown access wzs (did you mean w0s?)" },
    } do
      local ok, message = pcall(luio.registers, case[1])
      assert.is_false(ok)
      assert.is_truthy(message:find(case[2], 1, true), message)
    end
  end)

  it("of a self-clearing bit lets an update of its neighbours write 0 there, also while it reads 1", function()
    on_bus({ CTRL = { 0, 32, "rw", EN = 0, RST = { 1, access = "sc" }, MODE = { 7, 4 } } }, function(regs, bus)
      bus:poke(0, 32, 0x32)
      regs.CTRL:update { EN = 1 }
      assert.same({ "w32 0x0 0x31" }, writes(bus))
    end)
  end)
end)

describe("what a write sets off", function()
  it("is a register's whatever is written, a field's where it is not neutral", function()
    on_bus({
      CMD = { 0, 32, "rw", write_effect = "sends the command", INDEX = { 5, 0 } },
      CTRL = {
        4, 32, "rw", EN = 0, RST = { 1, access = "sc" }, GO = { 2, write_effect = "goes" }, KICK = { 3, access = "wo", write_effect = "kicks" },
        ACK = { 4, access = "w0c", write_effect = "acknowledges" }, DONE = { 5, access = "w1c" },
      },
    }, function(regs)
      assert.same({ "CMD" }, names(triggers.of(regs.CMD, 0)))
      assert.same({}, triggers.of(regs.CTRL, 0x11)) -- ACK's neutral value is 1
      assert.same({ "CTRL.ACK" }, names(triggers.of(regs.CTRL, 0)))
      assert.same({ "CTRL.GO", "CTRL.KICK", "CTRL.RST" }, names(triggers.of(regs.CTRL, 0x1e)))
      assert.same({}, triggers.of(regs.CTRL, 0x30)) -- that DONE clears is seen in the value
      assert.equal("writing CTRL.ACK acknowledges; writing CTRL.GO goes", triggers.sentence(regs.CTRL, 0x4))
    end)
  end)

  it("belongs to the bytes: an alias, a part, a whole, an element, another block", function()
    on_bus({
      CMD = { 0x10, 32, "rw", write_effect = "sends" }, OTHER = { 0x10, 32, "rw", alias = "CMD" },
      PARTS = { 0x10, block = { LOW = { 0, 16 }, HIGH = { 2, 16 } } }, WHOLE = { 0, block = { W = { 0x10, 64, "rw" } } },
      BYTES = { 0x10, 8, "rw", count = 8 },
      CTRL = { 0x20, 32, "rw", GO = { 9, access = "sc" }, FLAG = { 0, access = "w1c" } }, VIEW = { 0x20, 32, "rw", alias = "CTRL" },
      VIEWS = { 0x20, block = { B = { 0, 8, "rw", count = 4 } } },
    }, function(regs)
      for _, path in ipairs { "OTHER", "PARTS.LOW", "PARTS.HIGH", "WHOLE.W", "BYTES[0]", "BYTES[3]" } do
        assert.same({ "CMD" }, names(triggers.of(assert(regs:find(path)), 0)), path)
      end
      assert.same({}, triggers.of(regs.BYTES[4], 1))
      assert.same({ "CTRL.FLAG", "CTRL.GO" }, names(triggers.of(regs.VIEW, 0x201)))
      assert.same({}, triggers.of(regs.VIEW, 0x102))
      assert.same({ {}, { "CTRL.GO" }, {} },
        { triggers.of(regs.VIEWS.B[0], 2), names(triggers.of(regs.VIEWS.B[1], 2)), triggers.of(regs.VIEWS.B[2], 2) })
    end)
  end)

  -- The same worked out another way: the value goes into memory as bytes, and each register is read out of it. Of `own` only
  -- what does more than its access shows.
  local function worked_out(regs, reg, value, own)
    local memory = { zeros = ffi.new "uint8_t[32]", ones = ffi.new "uint8_t[32]" }
    ffi.fill(memory.ones, 32, 0xff)
    local function place(def, i) return def.endian == "big" and def.width / 8 - 1 - i or i end
    for i = 0, reg.def.width / 8 - 1 do
      local byte = tonumber(bit.band(bit.rshift(value + 0ULL, 8 * place(reg.def, i)), 0xffULL))
      memory.zeros[reg.offset + i], memory.ones[reg.offset + i] = byte, byte
    end
    local list = {}
    for other in regs:each() do
      local touched = other.offset < reg.offset + reg.def.width / 8 and reg.offset < other.offset + other.def.width / 8
      local f = other.def.field.F
      if touched and other.def.write_effect then
        table.insert(list, other.path)
      elseif touched and f and f.access ~= "rw" or touched and f and f.write_effect then
        local inverted = f.access:find "^w0" ~= nil
        local byte = (inverted and memory.ones or memory.zeros)[other.offset + place(other.def, math.floor(f.low / 8))]
        local given = bit.band(bit.rshift(byte, f.low % 8), 1) == 1
        if given ~= inverted and not (other == own and f.access:find "^w") then table.insert(list, other.path .. ".F") end
      end
    end
    table.sort(list)
    return list
  end

  local function random(list) return list[math.random(#list)] end

  -- Registers of all widths in the same 24 bytes, each with one thing that a write may set off.
  local function random_map()
    local spec = {}
    for i = 1, 6 do
      local width = random { 8, 16, 32, 64 }
      local reg = { math.random(0, 24 / (width / 8) - 1) * (width / 8), width, "rw", endian = random { "little", "big" } }
      local kind, low = random { "all", "sc", "w1c", "w0c", "w0s", "w1t", "effect", "none", "none" }, math.random(0, width - 1)
      if kind == "all" then reg.write_effect = "does all"
      elseif kind == "effect" then reg.F = { low, write_effect = "does it" }
      elseif kind ~= "none" then reg.F = { low, access = kind } end
      -- Beside it there are bits that hold what is written: these are what is restored.
      if reg.F then reg.REST = low > width / 2 and { low - 1, 0 } or { width - 1, low + 1 } end
      spec["B" .. i] = { 0, block = { R = reg } }
    end
    return spec
  end

  it("is what each register at these bytes would be given, for any map", function()
    math.randomseed(7)
    for _ = 1, amount(60, 1000) do
      on_bus(random_map(), function(regs, bus)
        for reg in regs:each() do
          local value = math.random(0, 2 ^ math.min(reg.def.width, 52) - 1)
          assert.same(worked_out(regs, reg, value, reg), names(triggers.of(reg, value)), ("%s := 0x%x"):format(reg.path, value))
        end
        assert.same({}, bus:log()) -- and nothing is touched to find out
      end)
    end
  end)

  it("is nothing of what a restore writes, for any map", function()
    math.randomseed(8)
    local written, refused = 0, 0
    for _ = 1, amount(60, 1000) do
      on_bus(random_map(), function(regs, bus)
        local function poke()
          for offset = 0, 23 do bus:poke(offset, 8, math.random(0, 255)) end
        end
        poke()
        local s = regs:snapshot()
        poke()
        local plan = regs:restore(s)
        refused = refused + #plan.refused
        for _, w in ipairs(plan.writes) do assert.same({}, worked_out(regs, w.register, w.value), tostring(plan)) end
        bus:log()
        written = written + plan:apply()
        assert.equal(#plan.written, #writes(bus))
      end)
    end
    assert.is_true(written > 30 and refused > 30, ("%d written, %d refused"):format(written, refused))
  end)
end)

describe("restoring", function()
  local MAP = {
    CTRL = { 0x04, 32, "rw", EN = 0, RST = { 1, access = "sc" }, MODE = { 7, 4 } },
    CMD = { 0x08, 32, "rw", write_effect = "sends the command" },
    ARG = { 0x0c, 32, "rw" },
    GO = { 0x10, 32, "rw", START = { 0, write_effect = "starts" }, SPEED = { 7, 4 } },
    PLAIN = { 0x14, 32, "rw" }, BELL = { 0x14, 32, "wo", alias = "PLAIN", write_effect = "rings" },
    OVER = { 0x18, 32, "rw" }, FLAGS = { 0x18, 32, "w1c", alias = "OVER" },
  }

  it("does not write what sets something off, by any name, and says what and how to", function()
    on_bus(MAP, function(regs, bus)
      local s = regs:snapshot()
      for offset, value in pairs { [4] = 0x33, [8] = 7, [0xc] = 5, [0x10] = 0x50, [0x14] = 9, [0x18] = 0 } do bus:poke(offset, 32, value) end
      local plan = regs:restore(s)
      local text = tostring(plan)
      for _, line in ipairs {
        "would write CTRL 0x4  0x00000033 := 0x00000000", "would write ARG 0xc  0x00000005 := 0x00000000",
        "would write GO 0x10  0x00000050 := 0x00000000",
        "CMD  (not restored: writing CMD sends the command; CMD:write(0x00000000) does it all the same)",
        "PLAIN  (not restored: writing BELL rings; PLAIN:write(0x00000000) does it all the same)",
      } do assert.is_truthy(text:find(line, 1, true), line .. "\n" .. text) end
      bus:log()
      assert.equal(3, plan:apply())
      assert.same({ "w32 0x4 0x0", "w32 0xc 0x0", "w32 0x10 0x0" }, writes(bus))
    end)
  end)

  it("leaves a field alone that does something, and what is read there does not do it again", function()
    on_bus(MAP, function(regs, bus)
      bus:poke(0x10, 32, 0x31)
      local s = regs:snapshot()
      bus:poke(0x10, 32, 0x30)
      assert.matches("GO  %(not restored: what differs can't be written back%)", tostring(regs:restore(s)))
      bus:poke(0x10, 32, 0x51) -- START reads 1: written back it would start anew
      assert.matches("GO  %(not restored: writing GO%.START starts; GO:write%(0x00000031%) does it", tostring(regs:restore(s)))
    end)
  end)

  it("writes no ones to flags that another name of the register clears", function()
    on_bus(MAP, function(regs, bus)
      bus:poke(0x18, 32, 6)
      local s = regs:snapshot()
      bus:poke(0x18, 32, 4)
      assert.matches("OVER  %(not restored: writing FLAGS clears it where 1 is written", tostring(regs:restore(s)))
    end)
  end)

  it("shows a plan and what was done of it in different words", function()
    on_bus(MAP, function(regs, bus)
      local s = regs:snapshot()
      bus:poke(0xc, 32, 5)
      local plan = regs:restore(s)
      assert.equal("would write ARG 0xc  0x00000005 := 0x00000000", tostring(plan):match "[^\n]*ARG[^\n]*")
      plan:apply()
      assert.equal("wrote ARG 0xc  0x00000005 := 0x00000000", tostring(plan):match "[^\n]*ARG[^\n]*")
    end)
  end)

  it("goes by what another map of the device says, too", function()
    on_bus({ A = { 0, 32, "rw" } }, function(regs, bus)
      local s = regs:snapshot()
      bus:poke(0, 32, 1)
      assert.matches("^would write A", tostring(regs:restore(s)))
      effects.state(regs.device, "driver", luio.registers { CMD = { 0, 32, "rw", write_effect = "sends the command" } })
      assert.matches("^A  %(not restored: writing CMD sends the command", tostring(regs:restore(s)))
    end)
  end)
end)

describe("what a register will hold", function()
  local KINDS = { "rw", "w1c", "w1s", "w1t", "w0c", "w0s", "w0t", "sc", "wo", "ro", "zero" }

  it("is worked out from each bit's access", function()
    local spec = { 0, 32, "rw" }
    for i, access in ipairs(KINDS) do spec["F" .. i] = { 2 * i - 1, 2 * i - 2, access = access } end
    local def = luio.registers({ A = spec }).A
    -- Each field holds binary 10, and each is given the same two bits.
    local function held(written)
      local old, value, list = 0, 0, {}
      for i in ipairs(KINDS) do old, value = old + 2 * 4 ^ (i - 1), value + written * 4 ^ (i - 1) end
      for i in ipairs(KINDS) do list[i] = math.floor(show.predict(def, old, value) / 4 ^ (i - 1)) % 4 end
      return list
    end
    --             rw 1c 1s 1t 0c 0s 0t sc wo ro zero
    assert.same({ 0, 2, 2, 2, 0, 3, 1, 2, 2, 2, 2 }, held(0))
    assert.same({ 1, 2, 3, 3, 0, 2, 0, 2, 2, 2, 2 }, held(1))
    assert.same({ 2, 0, 2, 0, 2, 3, 3, 2, 2, 2, 2 }, held(2))
    assert.same({ 3, 0, 3, 1, 2, 2, 2, 2, 2, 2, 2 }, held(3))
  end)

  it("stays as it is where 0 does something, when a neighbour is written", function()
    on_bus({ A = { 0, 32, "rw", N = { 7, 0 }, S = { 8, access = "w0s" }, T = { 9, access = "w0t" }, C = { 10, access = "w0c" } } }, function(regs, bus)
      regs.A:update { N = 5 }
      assert.same({ "w32 0x0 0x705" }, writes(bus)) -- an update leaves the others alone
      assert.equal(0x700, regs.A:encode { N = 0 })
    end)
  end)

  it("is exact to 64 bits, and of bits without a field goes by the register", function()
    local map = luio.registers { A = { 0, 64, "w1c", TOP = { 63, access = "rw" } }, B = { 8, 32, "w1t" } }
    assert.equal(0x8000000000000002ULL, show.predict(map.A, 0x0020000000000003ULL, 0x8020000000000001ULL))
    assert.equal(0x80000001, show.predict(map.B, 0x80000000, 1))
  end)
end)

describe("maps of the drivers", function()
  it("say what commands, doorbells and resets do, so that lint suspects nothing", function()
    for _, driver in ipairs { "e1000e", "edu", "pl031", "pl061", "uart16550", "uio_timer" } do
      assert.same({}, lint.check(require(("drivers.%s.registers"):format(driver))), driver)
    end
    local e1000e = require "drivers.e1000e.registers"
    for _, name in ipairs { "MDIC", "RDT", "TDT", "RDH", "TDH" } do assert.is_string(e1000e[name].write_effect, name) end
    for _, path in ipairs { "CTRL.RST", "EERD.START", "CTRL_EXT.EE_RST", "TCTL.SWXOFF" } do
      local reg, field = path:match "(.*)%.(.*)"
      assert.same({ "sc", "string" }, { e1000e[reg].field[field].access, type(e1000e[reg].field[field].write_effect) }, path)
    end
  end)

  it("keep a restore of edu from computing, transferring and interrupting", function()
    local dev = assert(luio.start("edu", "sim:edu"))
    local s = dev.regs:snapshot()
    assert.equal(120, dev.driver.factorial(dev, 5))
    local writes_before = dev.sim.stats().writes
    local plan = dev.regs:restore(s)
    assert.matches("FACTORIAL  %(not restored: writing FACTORIAL starts the computation", tostring(plan))
    plan:apply()
    assert.same({ 120, 1 }, { dev.regs.FACTORIAL:read(), dev.sim.stats().writes - writes_before }) -- STATUS.RAISE_IRQ
    assert(dev:close())
  end)
end)
