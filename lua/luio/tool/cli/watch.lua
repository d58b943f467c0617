--- `luio watch`: registers live. On a terminal a table that is redrawn in place, changes in the
--- last sample highlighted, with counts and rates; in a pipe the first sample, then one line for each change.

local bits = require "luio.registers.bits"
local change = require "luio.tool.explore.change"
local common = require "luio.tool.cli.common"
local luio = require "luio"
local numbers = require "luio.tool.cli.numbers"
local output = require "luio.tool.output"
local place = require "luio.tool.explore.place"
local record = require "luio.tool.explore.record"
local term = require "luio.text.term"
local uv = require "luv"
local watch = require "luio.tool.explore.watch"

-- ---- In place ------------------------------------------------------------------------------------

-- A line cut to the width of the terminal. Colour takes no room, so it is counted apart.
local function clip(line, columns)
  local out, width, at = {}, 0, 1
  while at <= #line do
    local code = line:match("^" .. term.COLOUR, at)
    if code then
      table.insert(out, code)
      at = at + #code
    else
      if width == columns - 1 and #line:gsub(term.COLOUR, "") > columns then
        table.insert(out, term.colour and term.sequence "0m" .. ">" or ">")
        break
      end
      table.insert(out, line:sub(at, at))
      width, at = width + 1, at + 1
    end
  end
  return table.concat(out)
end

local Screen = {}
Screen.__index = Screen

local function row_line(row, widths, now)
  local r = row.record
  local tail = ""
  if not r.skipped and row.changes > 0 then
    tail = ("  %s, %.1f/s"):format(output.count(row.changes, "change"), row.changes / math.max(now - row.started, 0.001))
  end
  local text = record.line(r, { path_width = widths.path, offset_width = widths.offset, changed = row.changed })
  if row.changed[""] and (r.part or not r.fields[1]) then text = term.yellow(text) end
  return text .. term.dim(tail)
end

function Screen:draw(w)
  local columns, rows = output.columns()
  columns, rows = columns or 80, rows or 24
  local now = luio.now()
  local lines, widths = {}, { path = 1, offset = 1 }
  for _, row in ipairs(w.rows) do
    if not row.record.part then
      widths.path = math.max(widths.path, #row.record.label)
      widths.offset = math.max(widths.offset, #("0x%x"):format(row.record.reg.offset))
    end
  end
  for _, row in ipairs(w.rows) do
    row.started = w.started
    table.insert(lines, clip(row_line(row, widths, now), columns))
  end
  local room = rows - 2
  if #lines > room then
    local more = #lines - room + 1
    for i = #lines, room, -1 do lines[i] = nil end
    table.insert(lines, clip(term.dim(("... %d more: name fewer, or enlarge the terminal"):format(more)), columns))
  end
  local status = ("%s  %.1f s, %d samples; Ctrl-C ends"):format(w.target.dev.address, now - w.started, w.samples)
  table.insert(lines, clip(term.dim(status), columns))
  local out = {}
  if self.drawn then table.insert(out, term.sequence(self.drawn .. "A") .. term.sequence "\r") end
  for _, line in ipairs(lines) do table.insert(out, line:gsub("\n", "\\x0a") .. term.sequence "K" .. "\n") end
  -- A table that has become shorter, or a terminal narrower, leaves lines below.
  table.insert(out, term.sequence "J")
  term.write(table.concat(out))
  io.flush()
  self.drawn = #lines
end

-- ---- The command ---------------------------------------------------------------------------------

-- --until PLACE=VALUE: the value that a sample must have. Its register is watched with the others
-- (`list`), so that the change that ends the watching is seen, and one load serves for both.
local function condition(t, text, list, force)
  local a, message, code = place.assignment(text)
  if not a then return nil, message, code end
  local named
  named, message, code = t:find(a.place)
  if not named then return nil, message, code end
  local found = named[1]
  if named[2] then return nil, ("%s names several registers"):format(a.place.text), "USAGE" end
  local reason, _, hidden = t:left_out(found.reg, force)
  if reason and not hidden then return nil, ("--until %s: %s"):format(found.label, reason), "EACCES" end
  local wanted
  wanted, message, code = change.value(found, a.value)
  if not wanted then return nil, message, code end
  local at
  for i, one in ipairs(list) do at = at or one.reg.path == found.reg.path and i end
  if not at then
    table.insert(list, found)
    at = #list
  end
  return function(w)
    local value = w.rows[at].record.value
    return value ~= nil and bits.wide(found.high and bits.take(value, found.high, found.low) or value) == wanted
  end
end

local function loop(w, args, reached, stop)
  local tty = not args.json and uv.guess_handle(1) == "tty"
  local screen = setmetatable({}, Screen)
  local limit = args.time and w.started + args.time
  local drawn = 0
  if not tty and not args.json then
    local records = {}
    for i, row in ipairs(w.rows) do records[i] = row.record end
    term.print_all(record.lines(records))
    io.flush()
  end
  while true do
    local done = reached and reached(w)
    local now = luio.now()
    local over = done or limit and now >= limit or stop()
    -- Faster sampling than drawing: 20 pictures a second are enough for an eye.
    if tty and (over or now - drawn >= 0.05) then
      screen:draw(w)
      drawn = now
    end
    if done then return true end
    if over then return not reached end
    luio.sleep(math.min(args.interval, limit and math.max(limit - now, 0) or args.interval))
    local changes, note = w:sample()
    if note then common.note(note) end
    for _, c in ipairs(changes) do
      if args.json then term.print(output.line(watch.plain(c)))
      elseif not tty then term.print(watch.text(c)) end
    end
    if not tty then io.flush() end
  end
end

local function run(args)
  local t, list, code = common.open_places(args, args.place)
  if not t then return nil, list, code end
  local reached, message
  if args["until"] then
    reached, message, code = condition(t, args["until"], list, args.force_read)
    if not reached then return nil, message, code end
  end
  local w = watch.new(t, list, args.force_read)
  local readable = false
  for _, row in ipairs(w.rows) do
    readable = readable or not row.record.skipped
    if row.record.disturbed then common.note(row.record.disturbed .. ", and again at each sample") end
  end
  if not readable then
    local r = w.rows[1].record
    return nil, ("nothing to watch: %s: %s"):format(r.label, r.skipped), "EACCES"
  end
  local caught
  local release = common.on_signals(function() caught = true end)
  local ok = luio.run(loop, w, args, reached, function() return caught end)
  release()
  if ok and w.silent then return nil, w.silent, "EIO" end
  if ok then return 0 end
  -- A script that goes on when the condition came true must not go on when the watch was only
  -- ended.
  local when = caught and "when it was ended" or ("within %g s"):format(args.time)
  return nil, ("%s was not so %s"):format(args["until"], when), "ETIMEDOUT"
end

return {
  watch = {
    options = function(p)
      common.device(p)
      p:argument("place", "Registers, fields, blocks, patterns. Without it: all of the map."):args "*"
      p:option("-i --interval", "Seconds between samples."):argname("SECONDS"):default("0.1"):convert(numbers.seconds "--interval")
      p:option("--until", "End when a field or register has this value."):argname "PLACE=VALUE"
      p:option("--for", "End after this time. Exit with 1 if --until has not come true."):argname("SECONDS")
        :convert(numbers.seconds "--for")
        :target "time"
      p:flag("--json", "Print one JSON object on a line for each change.")
      p:flag("--force-read", "Also read registers whose read has a side effect, at every sample, and name what that disturbs.")
      p:epilog "Example: luio watch uio0 STATUS --until STATUS.COMPUTING=0 --for 5"
    end,
    run = run,
  },
}
