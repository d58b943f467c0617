--- Looking changes nothing, by whatever name, in whatever way: no byte that reading disturbs is read, unless somebody asked
--- for that.

local luio = require "luio"
local amount = require "spec.support.amount"
local change = require "luio.tool.explore.change"
local complete = require "luio.tool.explore.complete"
local effects = require "luio.registers.effects"
local explain = require "luio.tool.explore.explain"
local files = require "spec.support.files"
local place = require "luio.tool.explore.place"
local probe = require "spec.support.probe"
local random_map = require "spec.support.random_map"
local record = require "luio.tool.explore.record"
local sessions = require "luio.tool.explore.session"
local snapshots = require "luio.tool.explore.snapshots"
local svd_support = require "spec.registers.import.support"
local target = require "luio.tool.explore.target"
local ticklish = require "spec.support.ticklish"
local uv = require "luv"
local watch = require "luio.tool.explore.watch"

local MAPS = amount(8, 1000)
local CHIPS = amount(4, 400)

-- ---- All ways to look ----------------------------------------------------------------------------

local RANGES = { "0x0+0x100:u8", "0x0+0x100:u16", "0x0+0x100:u32", "0x0+0x100:u64", "2:0x0+0x100:u8", "2:0x0+0x100:u64" }

local function sink() end

-- Calls something as the prompt does, and prints nothing.
local function quietly(fn)
  local real, write = print, io.write
  _G.print, io.write = sink, sink -- luacheck: ignore 122
  local ok, message = pcall(luio.run, fn)
  _G.print, io.write = real, write -- luacheck: ignore 122
  if not ok then error(message, 0) end
end

-- A snapshot that has a value for everything, as one that was forced has.
local function forced(regs)
  local s = regs:snapshot()
  for _, entry in ipairs(s.registers) do
    local digits = regs:find(entry.path).def.width / 4
    entry.value, entry.skipped = "0x" .. ("5"):rep(digits), nil
  end
  return s
end

-- Every inspection of bound registers.
local function look_at_registers(regs)
  tostring(regs)
  for reg in regs:each() do tostring(reg) end
  for name in pairs(regs.map.child) do tostring(regs[name]) end
  regs:diff(regs:snapshot())
  tostring(regs:restore(forced(regs)))
end

-- The inspections of the program's commands.
local function look_at_target(t)
  local function read(list)
    local records = {}
    for i, found in ipairs(list) do records[i] = record.read(t, found) end
    return records
  end
  local all = t:all()
  read(all)
  for _, text in ipairs(RANGES) do read(assert(t:find(place.parse(text)))) end
  watch.new(t, all):sample()
  local s = snapshots.of(t, read(assert(t:find(place.parse "0x0+0x100:u16"))))
  for _, found in ipairs(all) do table.insert(s.registers, { path = found.label, value = "0x00" }) end
  snapshots.again(s, t, function(_, list) return read(list) end)
end

-- Writes of what can be written whole, which read before and after only what disturbs nothing; by name and by offset.
local function change_all(t, dry)
  local function set(text)
    local c = change.plan(t, assert(place.assignment(text)))
    if c then c:apply(dry) end
  end
  for _, found in ipairs(t:all()) do
    set(found.label .. "=1")
    set(found.label .. "[0:0]=1")
    for name in pairs(found.reg.def.field) do set(("%s.%s=1"):format(found.label, name)) end
  end
  for offset = 0, 0xf8, 8 do
    set(("0x%x:u64=1"):format(offset))
    set(("0x%x:u32[3:0]=1"):format(offset + 4))
    set(("2:0x%x:u8=1"):format(offset + 3))
  end
end

-- The inspections of the prompt.
local function at_the_prompt(s)
  quietly(function()
    local env = s.env
    env.dump()
    env.dump("0x0+0x100:u8", "*")
    env.dump(s.regs)
    env.diff(env.snapshot())
    env.watch(s.regs, 0)
    for path in pairs(s.regs.map.child) do
      complete.line(env, path .. ":")
      complete.line(env, "dump '" .. path)
      explain.name(env, path)
    end
    explain.search(env, "r")
    for reg in s.regs:each() do
      pcall(env.get, reg.path)
      if reg.def.writable then pcall(reg.write, reg, 1) end -- what is not visible can't be written
    end
    for offset = 0, 0xfc, 4 do
      local reg = env.reg(("0x%x:u32"):format(offset))
      if reg.def.writable then reg:write(7) end
    end
    env.undo(1000)
    env.session "spec"
  end)
end

-- ---- Effects that maps state ---------------------------------------------------------------------

describe("what one name of a byte disturbs", function()
  local dev
  before_each(function() dev = assert(luio.open(ticklish.address())) end)
  after_each(function()
    assert(dev:close())
    files.clean()
  end)

  local function bind(spec) return assert(luio.bind(luio.registers(spec), dev)) end

  it("no other name of it reads: aliases that don't name each other", function()
    local regs = bind { A = { 0x30, 32 }, B = { 0x30, 32, alias = "A" }, FIFO = { 0x30, 32, alias = "A", read_effect = "pops" } }
    assert.equal(table.concat({
      "A    0x30   (not read: as FIFO, reading pops)", "B    0x30   (not read: as FIFO, reading pops)", "FIFO 0x30   (not read: pops)",
    }, "\n"), tostring(regs))
  end)

  it("no other name of it reads: arrays, blocks, and what is wider or narrower", function()
    local regs = bind {
      DR = { 0, 32, "ro", read_effect = "pops the FIFO" }, DB = { 0, 8, count = 8 }, MODE = { 0, count = 2, stride = 8, block = { DATA = { 0, 16 } } },
      PAIR = { 0, count = 2, stride = 8, block = { BOTH = { 0, 64 } } },
    }
    assert.equal("DB[3] 0x3   (not read: DR is there, too: reading pops the FIFO)", tostring(regs.DB[3]))
    assert.equal("DB[4] 0x4 = 0x00", tostring(regs.DB[4]))
    assert.equal("MODE[0].DATA 0x0   (not read: DR is there, too: reading pops the FIFO)", tostring(regs.MODE[0]))
    assert.equal("MODE[1].DATA 0x8 = 0x0000", tostring(regs.MODE[1]))
    assert.matches("^PAIR%[0%]%.BOTH 0x0   %(not read: DR is there", tostring(regs.PAIR[0]))
    assert.matches("^PAIR%[1%]%.BOTH 0x8 = 0x0", tostring(regs.PAIR[1]))
  end)

  it("says which element of an array it is", function()
    bind { RX = { 0x40, 32, "rc", count = 4 }, TX = { 0x60, 16, "rc", count = 3, stride = 8 } }
    local other = bind { A = { 0x4a, 8 }, B = { 0x6a, 16 }, C = { 0x70, 64 } }
    assert.equal("A 0x4a   (not read: RX[2] is there, too: reading clears it)", tostring(other.A))
    assert.matches("^B 0x6a = ", tostring(other.B))
    assert.equal("C 0x70   (not read: TX[2] is there, too: reading clears it)", tostring(other.C))
  end)

  it("no map of the device reads, as long as one that says so is used", function()
    local plain = bind { A = { 0x10, 32 } }
    assert.matches("^A 0x10 = ", tostring(plain.A))
    local other = bind { FIFO = { 0x10, 8, read_effect = "pops" } }
    assert.equal("A 0x10   (not read: FIFO is there, too: reading pops)", tostring(plain.A))
    assert.equal(0x10, other.FIFO.offset)
  end)

  it("no region reads that is a window to the same addresses", function()
    local regions = {
      [0] = { kind = "memory", max_width = 64, size = 0x100, addr = 0xfe000000 },
      { kind = "memory", max_width = 64, size = 0x20, addr = 0xfe000010 },
      { kind = "memory", max_width = 64, size = 0x100, addr = 0xfe001000 },
      { kind = "port", max_width = 32, size = 0x100, addr = 0xfe000000 },
    }
    local double = { address = "double", region = function(_, i) return regions[i] end, root_device = function(self) return self end }
    assert(luio.bind(luio.registers { FIFO = { 0x14, 32, read_effect = "pops" } }, double))
    local known = effects.of(double)
    assert.equal("as FIFO, reading pops", known:why("read", 1, 4, 4))
    assert.equal("FIFO is there, too: reading pops", known:why("read", 1, 7, 1))
    assert.same({}, { known:why("read", 1, 0, 4), known:why("read", 2, 0x14, 4), known:why("read", 3, 0x14, 4) })
  end)

  it("no region reads that could not be had before", function()
    local there = false
    local window = { kind = "memory", max_width = 64, size = 0x100, addr = 0xfe000000 }
    local late = { address = "late", region = function() return there and window or nil end }
    function late:root_device() return self end
    effects.state(late, "driver", luio.registers { FIFO = { 0x10, 32, "rc" } })
    local known = effects.of(late)
    assert.is_nil(known:why("read", 0, 0x10, 4))
    there = true
    assert.equal("as FIFO, reading clears it", known:why("read", 0, 0x10, 4))
  end)

  it("undo does not read either, when a map came to say so after the write", function()
    local s = assert(sessions.open { device = ticklish.address(), map = files.write("map.lua",
      "return require('luio').registers { A = { 0x10, 32, LOW = { 7, 0 }, HIGH = { 31, 16 } }, B = { 0x20, 32 } }") })
    s.regs.A:write(5)
    s.regs.B:write(6)
    assert(luio.bind(luio.registers { FIFO = { 0x11, 8, read_effect = "pops" }, OTHER = { 0x23, 8, "rc" } }, s.dev))
    local bus = ticklish.watch(s.dev)
    bus:mark { [0] = {} }
    local result = s.journal:undo(2)
    -- Of B all bits are written back, of A those of its fields: for the others it would have to be read.
    assert.same({ "B (not read: OTHER is there, too: reading clears it) := 0x00000000" }, result.done)
    assert.same({ "A := 0x00000005 can't be undone: not read: FIFO is there, too: reading pops" }, result.refused)
    assert.equal(0, bus:reads())
    assert(s:close())
  end)

  it("watching goes on without it, when a map came to say so", function()
    local t = assert(target.open(ticklish.address(), { how = "own", map = files.write("map.lua",
      "return require('luio').registers { A = { 0x10, 32 }, B = { 0x20, 32 } }") }))
    local w = watch.new(t, t:all())
    assert(luio.bind(luio.registers { FIFO = { 0x10, 8, read_effect = "pops" } }, t.dev))
    t.regs.A:write(1)
    t.regs.B:write(1)
    local changes = w:sample()
    assert.same({ 1, "B" }, { #changes, changes[1].row.record.label })
    assert.same({}, w:sample())
    t:close()
  end)

  it("follows the driver's map when that is corrected while it runs", function()
    local text = [[
      local registers = require("luio").registers
      return { name = "tock", registers = registers { FIFO = { 0, 32%s } } }]]
    local path, dir = files.write("drivers/tock/init.lua", text:format ", read_effect = 'pops'")
    files.put(dir .. "/drivers/tock/model.lua", files.read((ticklish.address():gsub("^sim:", ""))))
    uv.os_setenv("LUIO_DRIVERS", uv.cwd() .. "/" .. dir)
    local s = assert(sessions.open { device = "sim:tock" })
    local mine = assert(luio.bind(luio.registers { A = { 0, 8 } }, s.dev))
    luio.run(function()
      assert(s:start())
      assert.matches("not read: FIFO is there, too", tostring(mine.A))
      files.save(path, text:format "")
      assert.is_true(s.dev.live:reload().ok)
      assert.equal("A 0x0 = 0x00", tostring(mine.A))
    end)
    assert(s:close())
    uv.os_unsetenv "LUIO_DRIVERS"
  end)

  it("is restored from no snapshot that has a value of it", function()
    local regs = bind { A = { 0x10, 32 }, FIFO = { 0x10, 32, "ro", alias = "A", read_effect = "pops" } }
    local plan = regs:restore { device = "x", registers = { { path = "A", value = "0x00000001" } } }
    assert.equal("A  (not restored: not read: as FIFO, reading pops)", tostring(plan))
  end)
end)

describe("a map that is named beside the driver's", function()
  setup(probe.setup)
  teardown(probe.teardown)

  it("takes nothing from what the driver's says, by names or by offsets", function()
    local map = files.write("mine.lua", "return require('luio').registers { ALL = { 0, 32, count = 4 } }")
    local t = assert(target.open("sim:probe", { map = map }))
    local reasons = {}
    for i, found in ipairs(t:all()) do reasons[i] = record.read(t, found).skipped or "read" end
    assert.same({ "read", "read", "not read: as CAUSE, reading clears it", "not read: as FIFO, reading pops the FIFO" }, reasons)
    assert.equal("not read: FIFO: pops the FIFO", record.read(t, t:find(place.parse "0xe:u16")[1]).skipped)
    assert.equal(0, probe.lost(t.dev))
    t:close()
  end)

  it("counts for the bytes that are there also when it does not fit the device", function()
    local _, dir = files.write("drivers/tick/init.lua", [[
      local registers = require("luio").registers
      return { name = "tick", registers = registers { FIFO = { 0, 32, read_effect = "pops" }, FAR = { 0x8000, 32 } } }]])
    files.put(dir .. "/drivers/tick/model.lua", files.read(ticklish.address():gsub("^sim:", "", 1)))
    uv.os_setenv("LUIO_DRIVERS", uv.cwd() .. "/" .. dir)
    local t = assert(target.open("sim:tick", { how = "write" }))
    probe.setup()
    assert.is_nil(t.regs)
    assert.matches("FAR: 0x8000 is outside region 0", t.no_map)
    local bus = ticklish.watch(t.dev)
    bus:mark { [0] = { [0] = true, [1] = true, [2] = true, [3] = true } }
    for _, text in ipairs(RANGES) do
      for _, found in ipairs(t:find(place.parse(text))) do record.read(t, found) end
    end
    assert.equal(0, (bus:disturbed()))
    t:close()
  end)
end)

-- ---- Any map -------------------------------------------------------------------------------------

local function marked(...)
  local bytes = { [0] = {}, [2] = {} }
  for _, specs in ipairs { ... } do random_map.mark(specs, bytes) end
  return bytes
end

-- Every way to look at a device with these maps: none of the bytes is read. And by a forced read they are.
local function nothing_is_disturbed(what, map_file, second, bytes)
  local s = assert(sessions.open { device = ticklish.address(), map = map_file })
  local regs = second and assert(luio.bind(luio.registers(second), s.dev))
  local bus = ticklish.watch(s.dev)
  bus:mark(bytes)
  local function check(how)
    local n, last = bus:disturbed()
    if n > 0 then
      error(("%s read %d bytes that are disturbed, the last %s:\n%s\n%s"):format(how, n, last, what, files.read(map_file)), 0)
    end
  end
  for _, one in ipairs { s.regs, regs } do
    look_at_registers(one)
    check "looking at registers"
  end
  look_at_target(s.target)
  check "the commands"
  change_all(s.target, true)
  check "a dry run"
  change_all(s.target, false)
  check "changing"
  at_the_prompt(s)
  check "the prompt"
  assert.is_true(bus:reads() > 100) -- it was looked at
  for _, found in ipairs(s.target:all()) do record.read(s.target, found, true) end
  local n = bus:disturbed()
  assert(s:close())
  return n
end

describe("of maps made at random", function()
  it("no byte with a side effect is read by looking: arrays, blocks, aliases, overlaps, overlays, two maps", function()
    local disturbed = 0
    for seed = 1, MAPS do
      local random = random_map.random(seed)
      local specs, second = random_map.map(random, ticklish.SIZE), random(2) == 0 and random_map.map(random, ticklish.SIZE) or nil
      local bytes = marked(specs, second)
      local patches = random(2) == 0 and random_map.to_overlay(specs)
      specs.overlay = patches and "map.overlay.lua" or nil
      local path, dir = files.write("map.lua", ("return require('luio').registers(%s)"):format(random_map.text(specs)))
      if patches then files.save(dir .. "/map.overlay.lua", "return " .. random_map.text(patches)) end
      disturbed = disturbed + nothing_is_disturbed("seed " .. seed, path, second, bytes)
      files.clean()
    end
    assert.is_true(disturbed > 10) -- what was marked is what a forced read disturbs
  end)

  it("nor behind selectors, whatever is visible, and also when that changes meanwhile", function()
    local disturbed = 0
    for seed = 1, MAPS do
      local random = random_map.random(seed)
      local specs, pages = random_map.paged(random, ticklish.SIZE, ticklish.SELECTOR)
      local bytes = marked(specs)
      bytes.pages = {}
      for page, inside in pairs(pages) do
        bytes.pages[page] = { [0] = {}, [2] = {} }
        random_map.mark({ inside }, bytes.pages[page])
      end
      local path = files.write("map.lua", ("return require('luio').registers(%s)"):format(random_map.text(random_map.join(specs, pages))))
      disturbed = disturbed + nothing_is_disturbed("seed " .. seed, path, nil, bytes)
      files.clean()
    end
    assert.is_true(disturbed > 10)
  end)

  it("nor of vendors' descriptions: parts of registers, clusters, peripherals at one address", function()
    local disturbed = 0
    for seed = 1, CHIPS do
      local random, bytes = random_map.random(seed), marked()
      -- Of two peripherals at one address only one is asked for, now and then: the other has its side effects all the same.
      local some = random(2) == 0 and { peripherals = { "P2", "P3" } } or nil
      local _, _, text = svd_support.import(random_map.svd(random, bytes), some)
      disturbed = disturbed + nothing_is_disturbed("seed " .. seed, files.write("map.lua", text), nil, bytes)
      files.clean()
    end
    assert.is_true(disturbed > 10)
  end)
end)
