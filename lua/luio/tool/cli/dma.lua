--- `luio dma`: DMA memory for a device, to try it out by hand: its address, its content, and the
--- device's changes.
---
--- The device is opened as its driver would, because DMA memory belongs to who owns the device; no
--- register is touched. With --hold the memory stays while the device is made to use it from elsewhere
--- (`luio set` beside this command needs --force); the former contents are kept in pieces of 1 MiB,
--- because one string of a gigabyte would be too much at once, and compared afterwards.

local bit = require "bit"
local common = require "luio.tool.cli.common"
local hexdump = require "luio.text.hexdump"
local luio = require "luio"
local numbers = require "luio.tool.cli.numbers"
local output = require "luio.tool.output"
local place = require "luio.tool.explore.place"
local sysfs = require "luio.host.sysfs"
local term = require "luio.text.term"
local uv = require "luv"

local MIB = 2 ^ 20
local LARGEST = 2 ^ 30 -- of one buffer (runtime/luio.h)
local PIECE = MIB -- bytes that are read, written, compared at once
local IN_JSON = MIB -- bytes that --json --hexdump gives
local RUNS = 1000 -- changed places in the JSON
local SLICE = 0.1 -- seconds between looks at Ctrl-C

-- The node that has fewer free pages of that size than before: it gave the page.
local function node_of(size, before, after)
  for i, entry in ipairs(before) do
    for node, was in pairs(entry.nodes) do
      local is = after[i] and after[i].nodes[node]
      if entry.size == size and is and is < was then return node end
    end
  end
end

-- ---- Filling -------------------------------------------------------------------------------------

-- Calls fn(offset, length) for each piece of the buffer.
local function pieces(size, fn)
  for offset = 0, size - 1, PIECE do fn(offset, math.min(PIECE, size - offset)) end
end

local function fill_count(buffer)
  local bytes = {}
  for i = 0, 255 do bytes[i + 1] = string.char(i) end
  local text = table.concat(bytes):rep(PIECE / 256)
  pieces(buffer.size, function(offset, n) buffer:write(offset, text:sub(1, n)) end)
end

-- Whole words of 8 bytes, then as much of one more as there is room for.
local function fill_words(buffer, word)
  local words, n = buffer:pointer "uint64_t *", math.floor(buffer.size / 8)
  local step = output.progress "filling, MiB"
  for first = 0, n - 1, PIECE / 8 do
    for i = first, math.min(first + PIECE / 8, n) - 1 do words[i] = word(i) end
    step(first * 8 / MIB, math.ceil(n * 8 / MIB))
  end
  step(n, n)
  local bytes = buffer:pointer "uint8_t *"
  local last = buffer.size % 8 > 0 and word(n) + 0ULL
  for i = n * 8, buffer.size - 1 do
    bytes[i] = last % 256
    last = last / 256
  end
end

local function fill_random(buffer, seed)
  local x = 0x9e3779b97f4a7c15ULL + seed -- xorshift64, which must not start at 0
  fill_words(buffer, function()
    x = bit.bxor(x, bit.lshift(x, 13))
    x = bit.bxor(x, bit.rshift(x, 7))
    x = bit.bxor(x, bit.lshift(x, 17))
    return x
  end)
end

local function fill_file(buffer, file)
  local f, message = io.open(file.path, "rb")
  if not f then return nil, message end
  local offset = 0
  repeat
    local bytes = f:read(math.min(PIECE, buffer.size - offset))
    if bytes then
      buffer:write(offset, bytes)
      offset = offset + #bytes
    end
  until not bytes or offset == buffer.size
  f:close()
  return true
end

-- Fills it and says with what.
local function fill(buffer, args)
  if args.file then
    local ok, message = fill_file(buffer, args.file)
    if not ok then return nil, message, "EIO" end
    return ("%s, %d bytes%s"):format(args.file.path, args.file.size, args.file.size < buffer.size and ", then zeros" or "")
  end
  local how = args.fill
  if not how then return "zeros" end -- as it comes
  if how.kind == "count" then
    fill_count(buffer)
    return "count: 00 01 02 ... ff, again and again"
  elseif how.kind == "address" then
    fill_words(buffer, function(i) return buffer.iova + 8 * i end)
    return "address: each 8 bytes hold their own IOVA"
  elseif how.kind == "random" then
    fill_random(buffer, how.seed)
    return ("random:%d"):format(how.seed)
  end
  buffer:fill(how.value)
  return ("0x%02x"):format(how.value)
end

-- ---- Holding -------------------------------------------------------------------------------------

local function snapshot(buffer)
  local list = {}
  pieces(buffer.size, function(offset, n) table.insert(list, buffer:read(offset, n)) end)
  return list
end

-- Pieces that have changed: { offset, before, after }; and how many bytes that makes.
local function changes(buffer, before)
  local list, total = {}, 0
  pieces(buffer.size, function(offset, n)
    local old, new = before[offset / PIECE + 1], buffer:read(offset, n)
    if old == new then return end
    table.insert(list, { offset = offset, before = old, after = new })
    for i = 1, n do
      if old:byte(i) ~= new:byte(i) then total = total + 1 end
    end
  end)
  return list, total
end

-- Waits so long, or until Ctrl-C; `begin` is called when that is heard.
local function hold(seconds, begin)
  local stopped = false
  local release = common.on_signals(function() stopped = true end)
  begin()
  local start = luio.now()
  luio.run(function()
    while not stopped and luio.now() < start + seconds do
      luio.sleep(math.min(SLICE, math.max(0, start + seconds - luio.now())))
    end
  end)
  release()
  return luio.now() - start
end

-- ---- Showing -------------------------------------------------------------------------------------

-- A name, and what there is to say, on further lines where the terminal is narrow.
local function say(name, format, ...)
  local lines = term.wrap(format:format(...), output.columns(), (" "):rep(14), term.pad(name, 14))
  term.print_all(lines)
end

local function say_pages(s)
  local huge
  for i, entry in ipairs(s.before) do
    if entry.size == s.buffer.page_size then huge = { entry.free, s.after[i].free } end
  end
  if huge then
    say("page", "%s; %d free before, %d now", output.size(s.buffer.page_size), huge[1], huge[2])
  else
    say("page", "%s, no hugepage", output.size(s.buffer.page_size))
  end
  local device, page = s.dev.info.numa_node, s.node
  if device or page then
    local text = ("device on node %s, page on node %s"):format(device or "?", page or "?")
    if device and page and device ~= page then text = term.yellow(text .. ": every access crosses") end
    say("NUMA", "%s", text)
  end
end

local function say_buffer(s)
  local buffer = s.buffer
  term.print(term.bold(("%s of DMA memory for %s"):format(output.size(buffer.size), s.dev.address)))
  say("IOVA", "0x%x to 0x%x, verified%s", buffer.iova, buffer.iova + buffer.size - 1, s.dev.dma:stats().pinned > 0 and ", pinned" or "")
  if s.bits then say("address", "%d bits%s", s.bits, s.bits_from) end
  say_pages(s)
  if s.bus_master ~= nil then
    say("bus master", "%s", s.bus_master and "on" or "off: the device reaches no memory; it is left so")
  end
  say("filled with", "%s", s.filled)
end

-- Prints a dump. Lines that were left out at the end of one piece and at the start of the next are
-- one gap: `last` is the line before, the result the last one.
local function dump(options, last)
  for line in hexdump.lines(options) do
    if line ~= "*" or last ~= "*" then term.print(line) end
    last = line
  end
  return last
end

local function options_of(s)
  return {
    size = s.buffer.size, address = s.buffer.iova, columns = output.columns(),
    read = function(offset, n) return s.buffer:read(offset, n) end,
  }
end

local function dump_changes(s)
  local last
  for _, c in ipairs(s.changed) do
    local options = options_of(s)
    options.from, options.to = c.offset, c.offset + #c.after
    options.before = function(offset, n) return c.before:sub(offset - c.offset + 1, offset - c.offset + n) end
    options.read = function(offset, n) return c.after:sub(offset - c.offset + 1, offset - c.offset + n) end
    last = dump(options, last)
  end
end

local function hex(bytes)
  return (bytes:gsub(".", function(c) return ("%02x"):format(c:byte()) end))
end

-- Runs of changed bytes.
local function runs(s)
  local list = output.list {}
  for _, c in ipairs(s.changed) do
    local i, n = 1, #c.after
    while i <= n and #list < RUNS do
      local first = i
      while i <= n and c.before:byte(i) ~= c.after:byte(i) do i = i + 1 end
      if i > first then
        table.insert(list, {
          offset = c.offset + first - 1, before = hex(c.before:sub(first, i - 1)), after = hex(c.after:sub(first, i - 1)),
        })
      end
      i = i + 1
    end
  end
  return list
end

local function json(s, args)
  local buffer = s.buffer
  local pages = output.list {}
  for i, entry in ipairs(s.before) do
    table.insert(pages, { size = entry.size, free_before = entry.free, free_after = s.after[i].free })
  end
  output.json {
    device = s.dev.address, size = buffer.size, iova = ("0x%x"):format(buffer.iova), page_size = buffer.page_size,
    verified = true, pinned = s.dev.dma:stats().pinned > 0,
    address_bits = s.bits, hugepages = pages, numa_node = s.dev.info.numa_node, page_node = s.node,
    bus_master = s.bus_master, filled = s.filled, held = s.held, changed_bytes = s.changed_bytes,
    changed = s.changed and runs(s), data = args.hexdump and hex(s.data) or nil, warnings = output.list(s.dev.warnings),
  }
end

-- ---- The command ---------------------------------------------------------------------------------

local function allocate(s, t, args)
  local stated = t.driver and t.driver.dma and t.driver.dma.bits
  s.bits, s.bits_from = args.bits or stated, args.bits and "" or (" (drivers/%s)"):format(t.driver and t.driver.name or "")
  s.before = sysfs.hugepages()
  local message, code
  -- From 53 bits on no address that Lua can count would be refused.
  s.buffer, message, code = s.dev.dma:alloc(args.size, { align = args.align, mask = s.bits and s.bits < 53 and 2 ^ s.bits - 1 or nil })
  if not s.buffer then return nil, message, code end
  s.after = sysfs.hugepages()
  s.node = node_of(s.buffer.page_size, s.before, s.after)
  local ok
  ok, message, code = s.buffer:verify()
  if not ok then return nil, message, code end
  s.filled, message, code = fill(s.buffer, args)
  if not s.filled then return nil, message, code end
  return true
end

local function hold_and_compare(s, args)
  local before = snapshot(s.buffer)
  s.held = hold(args.hold, function()
    if not args.json then say("held", "for %g s; Ctrl-C ends it sooner", args.hold) end
    io.flush()
  end)
  s.changed, s.changed_bytes = changes(s.buffer, before)
  local ok, message, code = s.buffer:verify()
  if not ok then return nil, message, code end
  if not args.json then
    say("changed", "%s", s.changed_bytes > 0 and output.count(s.changed_bytes, "byte") or "nothing")
    dump_changes(s)
  end
  return true
end

local function run(args)
  args.size = args.size or args.file and args.file.size or 4096
  if args.file and args.file.size > args.size then
    return nil, ("--file %s has %d bytes, the buffer %d"):format(args.file.path, args.file.size, args.size), "USAGE"
  elseif args.json and args.hexdump and args.size > IN_JSON then
    return nil, ("--json --hexdump: at most %s"):format(output.size(IN_JSON)), "USAGE"
  end
  local t, message, code = common.own(args)
  if not t then return nil, message, code end
  local s = { dev = t.dev }
  local command = s.dev.config:command() -- nil where there is no such switch
  if command then s.bus_master = command.bus_master end
  local ok
  ok, message, code = allocate(s, t, args)
  if not ok then return nil, message, code end
  if not args.json then
    say_buffer(s)
    if args.hexdump then dump(options_of(s)) end
  elseif args.hexdump then
    s.data = s.buffer:read(0, s.buffer.size)
  end
  if args.hold then
    ok, message, code = hold_and_compare(s, args)
    if not ok then return nil, message, code end
  end
  if args.json then json(s, args) end
  s.buffer:free()
  ok, message, code = s.dev:close()
  if not ok then return nil, message, code end
  return 0
end

-- ---- Arguments -----------------------------------------------------------------------------------

local function bytes_of(text)
  local digits, unit = text:match "^(%w-)([kKMG]?)i?B?$"
  local n = digits and place.number(digits)
  local factor = ({ [""] = 1, k = 1024, K = 1024, M = MIB, G = 2 ^ 30 })[unit]
  return type(n) == "number" and n * factor or nil
end

local function size(text)
  local n = bytes_of(text)
  if not n or n < 1 or n > LARGEST then return nil, ("--size %s: 1 to 1G bytes were expected, as 4096, 64k, 2M"):format(text) end
  return n
end

local function align(text)
  local n = bytes_of(text)
  if not n or n < 1 or 2 ^ select(2, math.frexp(n)) ~= 2 * n then
    return nil, ("--align %s: a power of two was expected, as 64, 4k, 2M"):format(text)
  end
  return n
end

local function bits(text)
  local n = place.number(text)
  if type(n) ~= "number" or n < 12 or n > 64 then return nil, ("--bits %s: 12 to 64 was expected"):format(text) end
  return n
end

local function pattern(text)
  if text == "count" or text == "address" then return { kind = text } end
  local seed = text:match "^random:(%d+)$"
  if text == "random" or seed and #seed < 16 then
    return { kind = "random", seed = tonumber(seed) or math.floor(luio.now() * 1e6) % 2 ^ 31 }
  end
  local n = place.number(text)
  if type(n) == "number" and n < 256 then return { kind = "byte", value = n } end
  return nil, ("--fill %s: a byte (0x55), count, address, random or random:SEED was expected"):format(text)
end

local function file(path)
  local stat, message = uv.fs_stat(path)
  if not stat then return nil, ("--file %s"):format(message) end
  if stat.type ~= "file" or stat.size < 1 or stat.size > LARGEST then
    return nil, ("--file %s: a file of 1 byte to 1 GiB was expected"):format(path)
  end
  return { path = path, size = stat.size }
end

return {
  dma = {
    options = function(p)
      p:argument("device", "uio0, 0000:00:04.0, sim:NAME, qemu:NAME."):convert(common.address)
      common.machine(p)
      p:option("-s --size", "Size in bytes: 4096, 64k, 2M. Without it: 4096, or the size of the file."):argname("BYTES"):convert(size)
      p:option("-a --align", "Alignment of the IOVA, a power of two. Without it: 64."):argname("BYTES"):convert(align)
      p:option("-b --bits", "Address bits that the device drives. Without it: those of the matching driver, or no limit.")
        :argname("N"):convert(bits)
      p:mutex(
        p:option("-f --fill", "A byte (0x55), count (00 01 02 ...), address (each 8 bytes hold their own IOVA), random, "
          .. "random:SEED; zeros."):argname("PATTERN"):convert(pattern),
        p:option("--file", "Fill the memory from a file."):argname("FILE"):convert(file))
      p:flag("-x --hexdump", "Show the memory: offset, IOVA (on a wide terminal), bytes, ASCII.")
      p:option("--hold", "Keep the memory for this time, or until Ctrl-C, then show the bytes that changed."):argname("SECONDS")
        :convert(numbers.seconds "--hold")
      p:flag("--json", "Print JSON.")
      p:epilog("This command switches bus master neither on nor off. But its end closes /dev/uioX, and with "
        .. "uio_pci_generic closing that switches bus master off. "
        .. "Meanwhile `setpci -s 0000:00:04.0 COMMAND=4:4` switches it on.\n\nExample: luio dma sim:edu --size 64k --fill count --hexdump\n"
        .. "         luio dma uio0 --bits 28 --hold 60")
    end,
    run = run,
  },
}
