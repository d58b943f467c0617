--- The common part of commands that reach registers: options, opening, notes to the user.

local addresses = require "luio.host.address"
local handles = require "luio.loop.handles"
local holders = require "luio.host.holders"
local inspect = require "luio.host.inspect"
local output = require "luio.tool.output"
local place = require "luio.tool.explore.place"
local record = require "luio.tool.explore.record"
local sysfs = require "luio.host.sysfs"
local target = require "luio.tool.explore.target"
local term = require "luio.text.term"
local uv = require "luv"
local vectors = require "luio.device.vectors"

local M = {}

--- Whether a text is a device's address, by its look.
---@param text string
---@return boolean
function M.is_address(text)
  return addresses.made(text) ~= nil or text:match "^mem:" ~= nil or text:match "^uio%d+$" ~= nil or text:match "^%x+:%x+:%x+%.%x$" ~= nil
end

--- For argparse: an address, or the expected form.
---@param text string
---@return string?
---@return string? message
function M.address(text)
  if text:match "^mem:" then
    local _, message, code = inspect.find(text)
    if code == "EINVAL" then return nil, message end
  end
  if M.is_address(text) then return text end
  return nil, ("%q is not a device address: uio0 or 0000:00:04.0"):format(text) .. sysfs.address_hint(text)
end

--- Adds DEVICE and --map.
---@param p table  argparse parser
---@param or_map boolean?  a map may do instead (M.without_device)
function M.device(p, or_map)
  local a = p:argument("device", "uio0, 0000:00:04.0, sim:NAME, qemu:NAME, mem:0xADDR+0xLEN.")
  if or_map then a:args "?" else a:convert(M.address) end
  M.machine(p)
  p:option("-m --map", "A register map's file, or a driver's name. Without it: the map of the matching driver."):argname "FILE"
end

--- Adds --qemu.
---@param p table
function M.machine(p)
  p:option("--qemu", "More arguments for the QEMU of a qemu: device: an option with its value, as in "
    .. "--qemu '-netdev hubport,id=n0,hubid=0', or one word. Can be given several times."):argname("ARG"):count "*"
  p:option("--vectors", "The device's interrupts: intx, msi, msix, or how many. Without it INTx, or what the driver needs.")
    :argname("KIND"):convert(vectors.parse)
end

--- Whether a map is to be looked at with no device; a word in the device's place then is a place, too.
---@param args table
---@return boolean?
---@return string? message
---@return string? code  "USAGE"
function M.without_device(args)
  if args.map and args.place and args.device and not M.is_address(args.device) then
    table.insert(args.place, 1, args.device)
    args.device = nil
  end
  if args.device then
    local ok, message = M.address(args.device)
    if not ok then return nil, message, "USAGE" end
    return false
  end
  if not args.map then return nil, "missing argument 'device', or --map FILE to look at a map with none", "USAGE" end
  return true
end

--- Adds --json and --force-read.
---@param p table
function M.reading(p)
  p:flag("--json", "Print JSON.")
  p:flag("--force-read", "Also read registers whose read has a side effect, and name what that disturbed. Also read a device "
    .. "that sleeps or does not decode its memory.")
end

--- A note to the person, beside the output.
---@param text string
function M.note(text)
  term.tell("note: " .. text)
end

--- Opens the device that the arguments name.
---@param args table
---@param how "read"|"write"|"own"
---@return luio.Target?
---@return string? message
---@return string? code
function M.open(args, how)
  local t, message, code = target.open(args.device, { how = how, map = args.map, force = args.force, write = args.write })
  if not t then return nil, message, code end
  for _, note in ipairs(t.notes) do M.note(note) end
  return t
end

--- Says what work goes on without: the driver, or its map.
---@param t luio.Target
function M.tell_missing(t)
  local missing = t:missing()
  if missing then M.note(missing) end
end

--- Opens the device that the arguments name as its driver does, with interrupts and DMA. Beside another
--- process that drives it never: closing /dev/uioX again would stop that one's DMA.
---@param args table
---@return luio.Target?
---@return string? message  who has it
---@return string? code     "EBUSY"
function M.own(args)
  local t, message, code = target.open(args.device, { how = "own", map = args.map, write = true }) -- its interrupts are asked for
  if not t then return nil, message, code end
  if t.how ~= "own" then
    t:close()
    local who
    for _, holder in ipairs((holders.of(t.dev.info))) do who = holder.drives and who or holder end
    return nil, ("%s: %s; end that first"):format(args.device, who and holders.describe(who) or t.notes[1]), "EBUSY"
  end
  for _, note in ipairs(t.notes) do M.note(note) end
  M.tell_missing(t)
  return t
end

--- Calls a function on Ctrl-C and SIGTERM.
---@param fn fun()
---@return fun() release  the signals end the program again
function M.on_signals(fn)
  local signals = {}
  for i, name in ipairs { "sigint", "sigterm" } do
    signals[i] = assert(uv.new_signal())
    signals[i]:start(name, fn)
    signals[i]:unref() -- who waits for something else is not kept by it
  end
  return function()
    for _, signal in ipairs(signals) do
      signal:stop()
      handles.dispose(signal)
    end
  end
end

--- Parses places before anything is opened: a slip costs nothing then.
---@param texts string[]
---@return luio.Place[]?
---@return string? message
---@return string? code
function M.places(texts)
  local list = {}
  for i, text in ipairs(texts) do
    local message, code
    list[i], message, code = place.parse(text)
    if not list[i] then return nil, message, code end
  end
  return list
end

-- The registers of places on the device; without places the whole map. And which of them are a
-- range's.
local function find(t, places)
  if not places[1] then
    local all, message, code = t:all()
    return all, all and {} or message, code
  end
  local all, ranges = {}, {}
  for _, p in ipairs(places) do
    local list, message, code = t:find(p)
    if not list then return nil, message, code end
    if p.kind == "range" then table.insert(ranges, { first = #all + 1, last = #all + #list }) end
    for _, found in ipairs(list) do table.insert(all, found) end
  end
  return all, ranges
end

--- Whether the registers of these places can be reached: a device that sleeps, or does not decode its memory, gives values that
--- are none.
---@param t luio.Target
---@param list { reg: luio.Register }[]
---@param force boolean?  only say it
---@return boolean? ok
---@return string? message
---@return string? code  "EIO"
function M.answers(t, list, force)
  local why = t:silent(target.regions(list))
  if why and not force then return nil, why, "EIO" end
  if why then M.note(why) end
  return true
end

--- Opens a device to look at it, and finds what places mean there: all of them or a message; without
--- places the whole map. Slips in them are found before anything is opened.
---@param args table      device, map
---@param texts string[]
---@return luio.Target?
---@return luio.Found[]|string  or the message
---@return string|{ first: integer, last: integer }[]|nil  the code; or which of them are a range's
function M.open_places(args, texts)
  local places, message, code = M.places(texts)
  if not places then return nil, message, code end
  local t
  t, message, code = M.open(args, "read")
  if not t then return nil, message, code end
  local list, ranges
  list, ranges, code = find(t, places)
  if not list then return nil, ranges, code end
  M.tell_missing(t)
  local ok
  ok, message, code = M.answers(t, list, args.force_read)
  if not ok then return nil, message, code end
  return t, list, ranges
end

--- Reads all of them, one load each; names the effects of a forced read.
---@param t luio.Target
---@param list luio.Found[]
---@param force boolean?
---@return luio.Record[]
function M.read(t, list, force)
  local records, step = {}, output.progress "read"
  for i, found in ipairs(list) do
    local r = record.read(t, found, force)
    if r.disturbed then M.note(r.disturbed) end
    records[i] = r
    step(i, #list)
  end
  return records
end

--- Prints records as JSON.
---@param t luio.Target
---@param records luio.Record[]
function M.json(t, records)
  local plain = output.list {}
  for i, r in ipairs(records) do plain[i] = record.plain(r) end
  output.json { device = t.dev.address, map = t.map_name, registers = plain }
end

return M
