--- `luio dma` on a simulated device, and the hexdump it shows.

local hexdump = require "luio.text.hexdump"
local files = require "spec.support.files"
local interrupted = require "spec.support.interrupted"
local program = require "spec.support.program"
local shell = files.shell

local function dump(text, options)
  options = options or {}
  options.size = #text
  options.read = function(offset, n) return text:sub(offset + 1, offset + n) end
  local lines = {}
  for line in hexdump.lines(options) do table.insert(lines, line) end
  return lines
end

describe("a hexdump", function()
  it("is offset, bytes and ASCII, and ends with the size", function()
    assert.same({
      "0000  00 01 02 03 04 05 06 07  08 09 0a 0b 0c 0d 0e 0f  |................|",
      "0010  48 65 6c 6c 6f 2c 20 77  6f 72 6c 64 7f ff        |Hello, world..|",
      "001e",
    }, dump("\0\1\2\3\4\5\6\7\8\9\10\11\12\13\14\15Hello, world\127\255"))
  end)

  it("shows the same as hexdump -C, but for the digits of the offset", function()
    if select(2, shell "command -v hexdump") ~= 0 then return pending "no hexdump is installed (package bsdextrautils)" end
    local text = ("\0"):rep(64) .. ("abc"):rep(40) .. ("\255"):rep(100) .. "x" .. ("\255"):rep(64)
    local path = files.write("bytes", text)
    local theirs = {}
    for line in shell(("hexdump -C '%s'"):format(path)):gmatch "[^\n]+" do table.insert(theirs, (line:gsub("^0000", ""))) end
    assert.same(theirs, dump(text))
  end)

  it("has 8 bytes a line in 40 columns, 4 in fewer, and the address where there is room", function()
    local text = ("\1"):rep(15) .. "2"
    local function first(columns, address) return dump(text, { columns = columns, address = address })[1] end
    assert.equal("0000  01 01 01 01 01 01 01 01  ........", first(40))
    assert.equal("0000  01 01 01 01 01 01 01 01  ........", first(40, 0xfe00000))
    assert.equal("0000  01 01 01 01  ....", first(30))
    assert.matches("^0000  01 01 .* |%.%.%.%.", first(80, 0xfe00000))
    assert.matches("^0000  fe00000  01 01 .* |%.%.%.%.", first(100, 0xfe00000))
    for columns = 40, 120 do assert.is_true(#first(columns, 0x123456789) <= columns) end
  end)

  it("shows what has changed, and marks it", function()
    local before = ("\0"):rep(64)
    local after = before:sub(1, 20) .. "new" .. before:sub(24)
    assert.same({
      "*",
      "0010> 00 00 00 00 6e 65 77 00  00 00 00 00 00 00 00 00  |....new.........|",
      "*",
      "0040",
    }, dump(after, { before = function(offset, n) return before:sub(offset + 1, offset + n) end }))
  end)
end)

describe("luio dma", function()
  teardown(files.clean)

  local function command(args) return program.run("dma " .. args) end
  local function as_json(args) return program.json("dma " .. args) end

  it("says where the memory is, and that it is zeros", function()
    local out, status = command "sim:edu --hexdump"
    assert.equal(0, status, out)
    assert.matches("4 KiB of DMA memory for sim:edu\n", out)
    assert.matches("\nIOVA +0x%x+ to 0x%x+, verified\n", out)
    assert.matches("\naddress +28 bits %(drivers/edu%)\n", out)
    assert.matches("\nbus master +off: the device reaches no memory; it is left so\n", out)
    assert.matches("\nfilled with +zeros\n0000  00 00 [0 ]* |%.+|\n%*\n1000\n$", out)
    assert.is_nil(out:find "\27")
  end)

  it("says the same as JSON, with the bytes", function()
    local doc, status, out = as_json "sim:edu --size 20 --align 4k --fill count --hexdump"
    assert.equal(0, status, out)
    assert.same({ "sim:edu", 20, true, false, 28 }, { doc.device, doc.size, doc.verified, doc.bus_master, doc.address_bits })
    assert.equal(0, tonumber(doc.iova) % 4096)
    assert.equal("000102030405060708090a0b0c0d0e0f10111213", doc.data)
    assert.equal("number", type(doc.page_size))
    for _, pages in ipairs(doc.hugepages) do assert.equal("number", type(pages.free_before)) end
  end)

  it("fills it: a byte, its own addresses, random bytes that can be had again, a file", function()
    assert.equal(("a5"):rep(9), (as_json "sim:edu --size 9 --fill 0xa5 --hexdump").data)
    local doc = as_json "sim:edu --size 20 --fill address --hexdump"
    local iova = tonumber(doc.iova)
    local function word(value, n)
      local bytes = {}
      for i = 1, n do bytes[i] = ("%02x"):format(math.floor(value / 256 ^ (i - 1)) % 256) end
      return table.concat(bytes)
    end
    assert.equal(word(iova, 8) .. word(iova + 8, 8) .. word(iova + 16, 4), doc.data)
    local random = as_json "sim:edu --size 100 --fill random --hexdump"
    assert.matches("^random:%d+$", random.filled)
    assert.equal(random.data, (as_json("sim:edu --size 100 --hexdump --fill " .. random.filled)).data)
    assert.are_not.equal(random.data, (as_json "sim:edu --size 100 --hexdump --fill random:12345").data)
    local path = files.write("bytes", "from a file")
    assert.equal(11, (as_json("sim:edu --file " .. path)).size)
    local out = command(("sim:edu --size 16 --file %s -x"):format(path))
    assert.matches("\nfilled with +%S+, 11 bytes, then zeros\n", out)
    assert.matches("|from a file%.%.%.%.%.|\n0010\n$", out)
  end)

  it("holds it, and shows what the device has written", function()
    local script = files.write("script.lua", [[
      local luio = require "luio"
      luio.spawn(function()
        local dev, buffer
        repeat
          luio.sleep(0.02)
          dev = next(require("luio.device").open_devices)
          buffer = dev and next(dev.dma.pool.buffers)
        until buffer
        assert(dev:bus_master(true))
        dev.regions[0]:write64(0x80, 0x40000) -- edu: from its buffer, which holds zeros,
        dev.regions[0]:write64(0x88, buffer.iova + 0x100)
        dev.regions[0]:write64(0x90, 4)
        dev.regions[0]:write64(0x98, 3) -- run, to memory
      end)
      return require("luio.tool.cli").main { "dma", "sim:edu", "--fill", "0x55", "--hold", "0.6", unpack(arg) }
    ]])
    local out, status = program.run(script)
    assert.equal(0, status, out)
    assert.matches("\nheld +for 0%.6 s; Ctrl%-C ends it sooner\nchanged +4 bytes\n%*\n0100> 00 00 00 00 55 55 .*|\n%*\n$", out)
    out, status = shell(("CLICOLOR_FORCE=1 timeout 30 %s %s"):format(program.PATH, script))
    assert.equal(0, status)
    assert.matches("\n0100> \27%[31m00\27%[0m", out)
    local doc
    doc, status, out = program.json(script)
    assert.equal(0, status, out)
    assert.equal(4, doc.changed_bytes)
    assert.same({ { offset = 256, before = "55555555", after = "00000000" } }, { { offset = doc.changed[1].offset,
      before = doc.changed[1].before, after = doc.changed[1].after } })
  end)

  it("says when nothing has changed; Ctrl-C ends the hold", function()
    assert.matches("\nchanged +nothing\n$", (command "sim:edu --hold 0.05"))
    for _, signal in ipairs { "INT", "TERM" } do
      local out, status = interrupted(("%s dma sim:edu --hold 1000"):format(program.PATH), "held", signal)
      assert.equal(0, status, out)
      assert.matches("\nchanged +nothing\n$", out)
    end
  end)

  it("compares more than one piece", function()
    local doc, status, out = as_json "sim:edu --size 3M --fill random --hold 0.05"
    assert.equal(0, status, out)
    assert.equal(0, doc.changed_bytes)
    out, status = command "sim:edu --size 3M --fill count -x"
    assert.equal(0, status)
    assert.matches("\n2ffff0  f0 f1 [^\n]*\n300000\n$", out)
  end)

  it("gives no memory that the device can't address, and says so", function()
    local out, status = command "sim:edu --size 64k --bits 12"
    assert.equal(1, status)
    assert.matches("^luio: DMA memory for sim:edu: 65536 bytes don't fit below 0xfff\n$", out)
    assert.equal(64, (as_json "sim:edu --bits 64").address_bits)
  end)

  it("takes a slip for what it is", function()
    local path = files.write("bytes", "0123456789")
    for args, case in pairs {
      [""] = { 2, "missing argument" },
      ["sim:edu --size 0"] = { 2, "--size 0: 1 to 1G bytes were expected" },
      ["sim:edu --size 2G"] = { 2, "--size 2G: 1 to 1G" },
      ["sim:edu --size 1.5k"] = { 2, "--size 1.5k" },
      ["sim:edu --align 48"] = { 2, "--align 48: a power of two was expected" },
      ["sim:edu --bits 65"] = { 2, "--bits 65: 12 to 64 was expected" },
      ["sim:edu --fill 256"] = { 2, "--fill 256: a byte (0x55), count, address, random or random:SEED was expected" },
      ["sim:edu --hold 0"] = { 2, "--hold 0: a number of seconds above 0 was expected" },
      ["sim:edu --file /nowhere"] = { 2, "--file ENOENT" },
      ["sim:edu --file /"] = { 2, "--file /: a file of 1 byte to 1 GiB was expected" },
      ["sim:edu --size 5 --file " .. path] = { 2, "has 10 bytes, the buffer 5" },
      ["sim:edu --fill 0 --file " .. path] = { 2, "together" },
      ["sim:edu --size 2M --json --hexdump"] = { 2, "--json --hexdump: at most 1 MiB" },
      ["uio4711"] = { 1, "there is no device uio4711" },
    } do program.refuses("dma " .. args, case[1], case[2]) end
  end)

  it("says in its help what closing does to bus master", function()
    local out, status = command "--help"
    assert.equal(0, status)
    assert.matches("closing that switches%s+bus%s+master%s+off", out)
    assert.matches("Example: luio dma sim:edu", out)
  end)
end)
