--- get, set, dump, snapshot, diff and watch, as a shell sees them.

local files = require "spec.support.files"
local interrupted = require "spec.support.interrupted"
local json = require "dkjson"
local probe = require "spec.support.probe"
local program = require "spec.support.program"

local luio = program.run

local function lines(text)
  local list = {}
  for line in text:gmatch "[^\n]+" do table.insert(list, line) end
  return list
end

setup(probe.setup)
teardown(function()
  probe.teardown()
  files.clean()
end)

describe("luio get", function()
  it("shows registers decoded, and fields, bits, offsets", function()
    local out, status = luio "get sim:probe CTRL CTRL.MODE CTRL[7:4] 0x1f0:u16 0x0 WIDE"
    assert.equal(0, status)
    assert.same({
      "CTRL  0x0 = 0x00000010  BUSY=0 LEVEL=1 MODE=SLOW ENABLE=0", "CTRL.MODE = SLOW (0)", "CTRL[7:4] = 1",
      "0x1f0:u16 = 0x0000", "CTRL  0x0 = 0x00000010  BUSY=0 LEVEL=1 MODE=SLOW ENABLE=0", "WIDE 0x20 = 0x0000000000000000",
    }, lines(out))
  end)

  it("gives the bare value to scripts", function()
    assert.same({ "0x00000010\n1\n0\n", 0 }, { luio "get -v sim:probe CTRL CTRL[7:4] CTRL.MODE" })
  end)

  it("gives JSON", function()
    local out, status = luio "get --json sim:probe CTRL CTRL.MODE FIFO"
    assert.equal(1, status)
    local t = assert(json.decode(out:match "^(.*)luio: "))
    assert.same({ "sim:probe", "drivers/probe", 3 }, { t.device, t.map, #t.registers })
    assert.same({ path = "CTRL", region = 0, offset = 0, width = 32, value = "0x00000010",
      fields = { BUSY = 0, LEVEL = 1, MODE = 0, ENABLE = 0 }, names = { MODE = "SLOW" } }, t.registers[1])
    assert.same({ path = "CTRL.MODE", region = 0, offset = 0, width = 32, value = "0x00000010", field = 0, name = "SLOW" }, t.registers[2])
    assert.equal("not read: pops the FIFO", t.registers[3].skipped)
  end)

  it("refuses a read that disturbs, and says what a forced one disturbed", function()
    local out, status = luio "get sim:probe CAUSE"
    assert.equal(1, status)
    assert.matches("\nluio: CAUSE was not read: reading clears it %(%-%-force%-read reads it all the same%)\n$", out)
    out, status = luio "get --force-read sim:probe CAUSE"
    assert.equal(0, status)
    assert.matches("note: CAUSE was read: reading clears it\n", out)
    assert.matches("CAUSE 0x8 = 0x00000000", out)
    out, status = luio "get --force-read sim:probe KICK"
    assert.equal(1, status)
    assert.matches("KICK was not read: write%-only\n$", out)
  end)
end)

describe("luio set", function()
  it("shows address, before, written, after, and the fields that changed", function()
    assert.same({ "CTRL 0xfe000000 (+0x0) 0x00000010 := 0x00000014 -> 0x00000014\n  MODE SLOW -> FAST\n"
      .. "KICK 0xfe000010 (+0x10) (write-only) := 0x00000001\n", 0 }, { luio "set sim:probe CTRL.MODE=FAST KICK.GO=1" })
  end)

  it("reads an offset that no map describes only when it is told to, or to keep bits of it", function()
    assert.same({ "0x1f0:u16 0xfe0001f0 (+0x1f0) (not read: no map describes it) := 0x0005\n"
      .. "0x1f0:u16 0xfe0001f0 (+0x1f0) 0x0005 := 0x0025\n", 0 }, { luio "set sim:probe 0x1f0:u16=5 0x1f0:u16[7:4]=2" })
    assert.equal("0x1f0:u16 0xfe0001f0 (+0x1f0) 0x0000 := 0x0005 -> 0x0005\n", (luio "set --read sim:probe 0x1f0:u16=5"))
    local w = assert(json.decode((luio "set -n --json sim:probe 0x1f0:u16=5"))).writes[1]
    assert.same({ "not read: no map describes it", "0x0005" }, { w.not_read, w.written })
    assert.is_nil(w.old)
  end)

  it("checks all before it writes anything", function()
    local out, status = luio "set sim:probe CTRL=5 CTRL.MODE=SLOWW"
    assert.equal(1, status)
    assert.equal("luio: CTRL.MODE has no value SLOWW: there is FAST, SLOW, TURBO\n", out)
  end)

  it("can be tried, one after the other", function()
    local both = luio "set -n sim:probe CTRL.ENABLE=1 CTRL.LEVEL=2"
    assert.matches("0x00000010 := 0x00000011.*\nwould write CTRL [^\n]* 0x00000011 := 0x00000021", both)
  end)

  it("can be tried", function()
    local out, status = luio "set -n sim:probe CTRL.ENABLE=1"
    assert.equal(0, status)
    assert.equal("would write CTRL 0xfe000000 (+0x0) 0x00000010 := 0x00000011\n  would change ENABLE 0 -> 1\n", out)
  end)

  it("tried on bits that clear or toggle, tells what they become, not what is written", function()
    -- OVERRUN and PARITY are both 1: what is written as 1 is cleared.
    assert.same({ "would write STATUS 0xfe000004 (+0x4) 0x00000003 := 0x00000001\n  would change OVERRUN 1 -> 0\n"
      .. "would write STATUS 0xfe000004 (+0x4) 0x00000002 := 0x00000001\n"
      .. "would write STATUS 0xfe000004 (+0x4) 0x00000002 := 0x00000002\n  would change PARITY 1 -> 0\n", 0 },
      { luio "set -n sim:probe STATUS.OVERRUN=1 STATUS.OVERRUN=1 STATUS.PARITY=1" })
    local map = files.write("kinds.lua", [[return require("luio").registers {
      A = { 0, 32, "rw", T = { 4, access = "w1t" }, C = { 5, access = "w0c" }, S = { 6, access = "w1s" }, W = { 7, access = "wo" }, N = { 9, 8 } },
      B = { 0, 32, "rw", alias = "A" },
    }]])
    -- CTRL holds 0x10: T is 1.
    local out = luio("set -n sim:probe A.T=1 A.C=0 A.S=1 A.W=1 B=0x40 A.T=1 --map " .. map)
    assert.same({
      "would write A 0xfe000000 (+0x0) 0x00000010 := 0x00000030", "  would change T 1 -> 0",
      "would write A 0xfe000000 (+0x0) 0x00000000 := 0x00000000",
      "would write A 0xfe000000 (+0x0) 0x00000000 := 0x00000060", "  would change S 0 -> 1",
      "would write A 0xfe000000 (+0x0) 0x00000040 := 0x000000a0", "  would write W := 1 (write-only)",
      "would write B 0xfe000000 (+0x0) 0x00000040 := 0x00000040",
      "  would trigger A.S: sets it where 1 is written", "  would trigger A.C: clears it where 0 is written",
      "would write A 0xfe000000 (+0x0) 0x00000040 := 0x00000030", "  would change T 0 -> 1",
    }, lines(out))
  end)

  it("says what a write sets off, also of the register whose field is named, of another name, of an offset", function()
    local map = files.write("effects.lua", [[return require("luio").registers {
      CMD = { 0, 32, "rw", write_effect = "sends the command", INDEX = { 3, 0 }, KIND = { 7, 4 } }, PART = { 0x1f0, 16, "rw" },
      CTRL = { 0x20, 32, "rw", EN = 0, RST = { 1, access = "sc", write_effect = "resets" } },
    }]])
    local out, status = luio("set -n sim:probe CMD.INDEX=1 CTRL.EN=1 CTRL.RST=1 CTRL.EN=1,RST=1 0x0:u8=1 0x22:u16=2 PART=1 --map " .. map)
    assert.equal(0, status)
    assert.same({
      "would write CMD 0xfe000000 (+0x0) 0x00000010 := 0x00000011", "  would change INDEX 0 -> 1", "  would trigger CMD: sends the command",
      "would write CTRL 0xfe000020 (+0x20) 0x00000000 := 0x00000001", "  would change EN 0 -> 1",
      "would write CTRL 0xfe000020 (+0x20) 0x00000001 := 0x00000003", "  would trigger CTRL.RST: resets",
      "would write CTRL 0xfe000020 (+0x20) 0x00000001 := 0x00000003", "  would trigger CTRL.RST: resets",
      "would write 0x00:u8 0xfe000000 (+0x0) 0x10 := 0x01", "  would trigger CMD: sends the command",
      "would write 0x22:u16 0xfe000022 (+0x22) 0x0000 := 0x0002",
      "would write PART 0xfe0001f0 (+0x1f0) 0x0000 := 0x0001",
    }, lines(out))
    out = luio("set sim:probe CMD.INDEX=1 --map " .. map)
    assert.same({ "CMD 0xfe000000 (+0x0) 0x00000010 := 0x00000011 -> 0x00000011", "  INDEX 0 -> 1", "  triggered CMD: sends the command" }, lines(out))
    local t = assert(json.decode((luio("set -n --json sim:probe CMD.INDEX=1 --map " .. map))))
    assert.same({ { name = "CMD", effect = "sends the command" } }, t.writes[1].triggers)
    assert.same({ true, "0x00000011" }, { t.dry_run, t.writes[1].expected })
  end)

  it("says what would be done in no line as it says what was done", function()
    local done = {}
    for _, line in ipairs(lines((luio "set sim:probe CTRL.MODE=FAST STATUS.OVERRUN=1 KICK.GO=1"))) do done[line:match "^%s*(%S+)"] = true end
    for _, line in ipairs(lines((luio "set -n sim:probe CTRL.MODE=FAST STATUS.OVERRUN=1 KICK.GO=1"))) do
      assert.matches("^%s*would ", line)
      assert.is_nil(done[line:match "^%s*(%S+)"])
    end
  end)

  it("gives JSON", function()
    local t = assert(json.decode((luio "set --json sim:probe CTRL.MODE=FAST")))
    assert.same({ device = "sim:probe", dry_run = false, writes = { { path = "CTRL", region = 0, offset = 0, width = 32, old = "0x00000010",
      written = "0x00000014", readback = "0x00000014", fields = { MODE = { before = "SLOW", after = "FAST" } } } } }, t)
  end)
end)

describe("luio dump", function()
  it("shows every register, says what it left out, and reads none whose read has a side effect", function()
    local out, status = luio "dump sim:probe"
    assert.equal(0, status)
    local list = lines(out)
    assert.equal(28, #list)
    assert.matches("^CAUSE +0x8   %(not read: reading clears it%)$", list[3])
    assert.matches("^KICK +0x10   %(write%-only%)$", list[5])
    assert.matches("^TABLE%[7%] +0x10e = 0x0000$", list[28])
  end)

  it("takes patterns and blocks", function()
    assert.equal(4, #lines((luio "dump sim:probe 'CHANNEL[*].CTRL'")))
    assert.equal(3, #lines((luio "dump sim:probe 'CHANNEL[2]'")))
  end)

  it("takes ranges without a map, as words; dashes where reading would disturb", function()
    local out, status = luio "dump sim:probe 0x0+0x12:u16"
    assert.equal(0, status)
    assert.same({ "0x00: 0010 0000 0003 0000 ---- ---- ---- ----", "0x10: ----",
      "not read: 0x8 (CAUSE: reading clears it)", "not read: 0xa (CAUSE: reading clears it)",
      "not read: 0xc (FIFO: pops the FIFO)", "not read: 0xe (FIFO: pops the FIFO)", "not read: 0x10 (KICK: write-only)" }, lines(out))
  end)

  it("does maps of ten thousand registers", function()
    local map = files.write("large.lua", "return require('luio').registers { T = { 0x1000, 32, 'rw', count = 10000 } }")
    local out, status = luio("dump sim:edu --map " .. map)
    assert.equal(0, status)
    assert.equal(10000, #lines(out))
  end)

  it("does long ranges", function()
    local out, status = luio "dump sim:edu 0x1000+0x10000"
    assert.equal(0, status)
    local all = lines(out)
    assert.matches("^all ones: nothing is there", table.remove(all)) -- behind the model's registers
    assert.equal(0x1000, #all)
  end)
end)

describe("luio snapshot and luio diff", function()
  it("save what the registers hold, and compare it with the device and with each other", function()
    local _, dir = files.write("x", "")
    local a, b = dir .. "/a.json", dir .. "/b.json"
    assert.equal(0, select(2, luio("snapshot sim:probe 'C*' STATUS > " .. a)))
    assert.same({ "0 of 15 differ\n", 0 }, { luio(("diff --exit-code %s sim:probe"):format(a)) })
    local text = files.read(a)
    assert.equal("snapshot", json.decode(text).luio)
    files.save(b, (text:gsub('"0x00000010"', '"0x00000018"'):gsub("sim:probe", "board 7")))
    assert.same({ "CTRL 0x00000018 -> 0x00000010\n  MODE TURBO -> SLOW\n1 of 15 differ\n", 1 }, { luio(("diff --exit-code %s sim:probe"):format(b)) })
    -- Of two files it is said whose map tells the fields: the snapshot names it.
    assert.same({ ("note: fields are told by spec/support/drivers/probe/registers.lua, the map that %s names\n"):format(a)
      .. "CTRL 0x00000010 -> 0x00000018\n  MODE SLOW -> TURBO\n1 of 15 differ\n", 0 }, { luio(("diff %s %s"):format(a, b)) })
    local t = assert(json.decode((luio(("diff --json %s %s 2>/dev/null"):format(a, b)))))
    assert.same({ "sim:probe", "board 7", "CTRL", "0x00000018" }, { t.before, t.after, t.differences[1].path, t.differences[1].after })
    assert.same({ "0 of 15 differ\n", 0 }, { luio(("diff - sim:probe < " .. a)) })
  end)

  it("say what is wrong with a file", function()
    local function registers(text, more) return ('{"luio":"snapshot","version":1%s,"registers":%s}'):format(more or "", text) end
    local deep = ("["):rep(1e5)
    for text, expected in pairs { ["{"] = "is no snapshot: line 1, column 2: ", ["{}"] = "is no snapshot: `luio snapshot DEVICE` makes one",
      ["[1]"] = "`luio snapshot DEVICE` makes one", ["5"] = "`luio snapshot DEVICE` makes one", ["null"] = "`luio snapshot DEVICE` makes one",
      ['{"luio":"snapshot","registers":[]}'] = "it has no version", ['{"luio":"snapshot","version":9,"registers":[]}'] = "it is of version 9; this luio knows 1",
      ['{"luio":"snapshot","version":"1","registers":[]}'] = "it has no version", [deep] = "column 65: more than 64 brackets",
      [registers(deep)] = "more than 64 brackets", [registers "{}"] = "registers is no list", [registers("[]", ',"device":5')] = "device is no text",
      [registers("[]", ',"map":[]')] = "map is no text", [registers "[5]"] = "entry 1 of registers is no object",
      [registers "[[]]"] = "entry 1 of registers is no object",
      [registers '[null,{"path":"CTRL","value":"0x05"}]'] = "entry 1 of registers is no object",
      [registers '[{"path":5}]'] = "entry 1 of registers has no path",
      [registers '[{"path":"*","value":"0x05"}]'] = "entry 1 of registers has a path that is no register's",
      [registers '[{"path":"0x0+0x40000","value":"0x05"}]'] = "has a path that is no register's",
      [registers '[{"path":"\\u001b[2J","value":"0x05"}]'] = "has a path that is no register's",
      [registers '[{"path":"CTRL","value":"0x05"},{"path":"CTRL","value":"0x06"}]'] = "entry 2 of registers is CTRL, as entry 1",
      [registers '[{"path":"CTRL"}]'] = "entry 1 of registers (CTRL) has neither, or both, of value and skipped",
      [registers '[{"path":"CTRL","value":"0x05","skipped":"x"}]'] = "has neither, or both", [registers '[{"path":"CTRL","skipped":5}]'] = "(CTRL): skipped is no text",
      [registers '[{"path":"CTRL","value":"5"}]'] = "(CTRL): value is not 0x and the digits of 8, 16, 32 or 64 bits",
      [registers '[{"path":"CTRL","value":5}]'] = "(CTRL): value is not 0x", [registers '[{"path":"CTRL","value":"0x123"}]'] = "(CTRL): value is not 0x",
      [registers '[{"path":"CTRL","value":"-0x05"}]'] = "(CTRL): value is not 0x",
      [registers '[{"path":"CTRL","value":"0x00000000000000001"}]'] = "(CTRL): value is not 0x",
      [registers '[{"path":"CTRL","value":1e999}]'] = "a number too large", [registers "["] = "line 1, column 45: expected a value" } do
      local path = files.write("bad.json", text)
      local out, status = luio(("diff %s sim:probe"):format(path))
      assert.equal(1, status)
      assert.is_truthy(out:find(expected, 1, true), out)
      assert.equal(1, #lines(out))
    end
    assert.matches("^luio: read snapshot nowhere.json: No such file", (luio "diff nowhere.json sim:probe"))
  end)
end)

describe("luio diff", function()
  local function snapshot(registers, map)
    return files.write("s.json", ('{"luio":"snapshot","version":1,"device":"x","map":%s,"registers":[%s]}'):format(json.encode(map), registers))
  end

  it("tells what one side has not, and what was read on one side only", function()
    local a = snapshot('{"path":"CTRL","value":"0x00000010"},{"path":"NOPE","value":"0x05"},{"path":"FIFO","value":"0x00000001"}')
    assert.same({ "NOPE 0x05 -> (not in the other)\nFIFO 0x00000001 -> not read: pops the FIFO\n2 of 3 differ\n", 1 },
      { luio(("diff --exit-code %s sim:probe"):format(a)) })
    local b = snapshot '{"path":"CTRL","value":"0x00000010"},{"path":"STATUS","value":"0x00000000"}'
    assert.same({ "NOPE 0x05 -> (not in the other)\nFIFO 0x00000001 -> (not in the other)\nSTATUS (not in the first) -> 0x00000000\n3 of 4 differ\n", 0 },
      { luio(("diff %s %s"):format(a, b)) })
  end)

  it("runs no code that a snapshot names, and says so; a driver's map it says, too", function()
    local trap = files.write("trap.lua", "io.stderr:write 'caught' os.exit(9)")
    local a = snapshot('{"path":"CTRL","value":"0x00000010"}', trap)
    local note = "note: the map that %s names is not loaded, for a snapshot may come from anywhere: --map %s does that\n0 of 1 differ\n"
    assert.same({ note:format(a, trap), 0 }, { luio(("diff %s %s"):format(a, a)) })
    a = snapshot('{"path":"CTRL","value":"0x00000010"}', "drivers/nowhere")
    assert.matches("^note: the map that %S+ names is not to be had: there is no register map \"nowhere\"", (luio(("diff %s %s"):format(a, a))))
    assert.equal(9, select(2, luio(("diff %s %s --map %s"):format(a, a, trap)))) -- named
  end)
end)

describe("luio watch", function()
  local FIRST = "CTRL 0x0 = 0x00000010  BUSY=0 LEVEL=1 MODE=SLOW ENABLE=0\n"

  it("prints what there is and one line for each change in a pipe, and ends after a time", function()
    local out, status = luio "watch sim:probe TICK CTRL --interval 0.01 --for 0.4"
    assert.equal(0, status)
    local list = lines(out)
    assert.is_true(#list >= 4)
    assert.matches("^TICK 0x%x+ = 0x%x+$", table.remove(list, 1))
    assert.equal("CTRL  0x0 = " .. FIRST:match "= (.*)\n", table.remove(list, 1))
    for _, line in ipairs(list) do assert.matches("^%d+%.%d%d%d TICK 0x%x+ %-> 0x%x+$", line) end
  end)

  it("ends when something is so; with 1 when it has not come true", function()
    assert.same({ FIRST, 0 }, { luio "watch sim:probe CTRL --until CTRL.MODE=SLOW" })
    local out, status = luio "watch sim:probe TICK --until TICK=5 -i 0.002 --for 100"
    assert.equal(0, status)
    assert.matches("TICK 0x%x+ %-> 0x00000005\n$", out)
    out, status = luio "watch sim:probe CTRL --until CTRL.MODE=FAST --for 0.1"
    assert.same({ FIRST .. "luio: CTRL.MODE=FAST was not so within 0.1 s\n", 1 }, { out, status })
    out, status = luio "watch sim:probe CTRL --until CAUSE=1"
    assert.equal(1, status)
    assert.matches("^luio: %-%-until CAUSE: not read", out)
  end)

  it("does not pass for done when it was only ended", function()
    local out, status = interrupted(program.PATH .. " watch sim:probe CTRL --until CTRL.MODE=FAST", FIRST:match "[^\n]+", "INT")
    assert.same({ FIRST .. "luio: CTRL.MODE=FAST was not so when it was ended\n", 1 }, { out, status })
  end)

  it("reads what is disturbed only when it is told to, and says so", function()
    local out, status = luio "watch sim:probe FIFO --for 0.2 --force-read"
    assert.equal(0, status)
    assert.matches("^note: FIFO was read: pops the FIFO, and again at each sample\nFIFO 0x%x+ = 0x%x+\n$", out)
  end)

  it("gives a stream of JSON, and ends in peace on Ctrl-C", function()
    local out, status = interrupted(program.PATH .. " watch --json sim:probe TICK", '"TICK"', "INT")
    assert.equal(0, status, out)
    assert.is_true(#lines(out) >= 1)
    for _, line in ipairs(lines(out)) do
      local t = assert(json.decode(line))
      assert.equal("TICK", t.path)
      assert.is_number(t.time)
    end
  end)
end)

describe("every one of them", function()
  it("gives one line and status 1 for what is not there, 2 for what is no argument", function()
    for _, case in ipairs {
      { "get sim:probe CTL", 1, "no register CTL (did you mean CTRL?)" }, { "get sim:nope X", 1, 'there is no model "nope"' },
      { "get uio77 X", 1, "there is no device uio77" }, { "get 0000:ff:1f.7 X", 1, "there is no device 0000:ff:1f.7" },
      { "get board7 X", 2, "is not a device address" }, { "get -m nowhere sim:probe X", 1, 'no register map "nowhere"' },
      { "get sim:probe 0x20:w", 2, "u8, u16, u32 or u64, not w" }, { "get sim:probe", 2, "missing argument 'place'" },
      { "set sim:probe CTRL", 2, "REGISTER=VALUE" }, { "set sim:probe CTRL=x", 2, '"x" is not a number' },
      { "dump sim:probe 0x1000+4", 1, "region 0 of sim:probe has 0x200 bytes" }, { "watch sim:probe -i 0", 2, '--interval 0: a number of seconds' },
      { "dump", 2, "missing argument 'device'" }, { "snapshot sim:probe -o /nowhere/x", 1, "/nowhere/x" }, { "diff a", 2, "missing argument 'after'" },
    } do
      program.refuses(case[1], case[2], case[3])
    end
  end)

  it("says of a broken map what is wrong, with its line", function()
    local path = files.write("bad.lua", "return luio.registers {\n  A = { 0, 33 },\n}")
    local out, status = luio(("get -m %s sim:probe A"):format(path))
    assert.equal(1, status)
    assert.matches("bad.lua", out)
  end)

  it("does not pass a full disk for success", function()
    for _, args in ipairs { "get sim:probe CTRL", "dump sim:probe --json", "snapshot sim:probe", "list" } do
      local out, status = luio(args .. " > /dev/full")
      assert.same({ "luio: standard output: No space left on device\n", 1 }, { out, status }, args)
    end
    -- Output that is not buffered fails in the middle, so the message at the end has no reason.
    assert.same({ "luio: standard output: a write failed\n", 1 }, { luio "explore sim:probe -e CTRL > /dev/full" })
  end)

  it("is plain in a pipe, coloured when that is wanted, and not under NO_COLOR", function()
    assert.is_nil((luio "dump sim:probe"):find "\27")
    assert.is_truthy(files.shell(("CLICOLOR_FORCE=1 %s dump sim:probe"):format(program.PATH)):find "\27%[2m")
    assert.is_nil((files.shell(("NO_COLOR=1 CLICOLOR_FORCE=1 %s dump sim:probe"):format(program.PATH))):find "\27")
  end)
end)
