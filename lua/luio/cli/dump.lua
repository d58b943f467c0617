--- `luio dump`: all registers, those that a pattern names, or a range of offsets as words.

local common = require "luio.cli.common"
local output = require "luio.output"
local record = require "luio.explore.record"
local show = require "luio.registers.show"
local term = require "luio.term"

-- Words of a range: as many to a line as fit, a power of two. Those that were left out are dashes.
local function words(records)
  local width = records[1].reg.def.width
  local digits = width / 4
  local columns = output.columns() or 80
  local last = records[#records].reg.offset
  local head = #("%x"):format(last)
  local per_line = 128 / width
  while per_line > 1 and head + 4 + per_line * (digits + 1) > columns do per_line = per_line / 2 end
  local lines, left_out = {}, {}
  for i = 1, #records, per_line do
    local cells = {}
    for j = i, math.min(i + per_line - 1, #records) do
      local r = records[j]
      if r.skipped then
        table.insert(left_out, ("0x%x (%s)"):format(r.reg.offset, r.skipped:gsub("^not read: ", "")))
        table.insert(cells, term.dim(("-"):rep(digits)))
      else
        table.insert(cells, (show.hex(r.value, width):sub(3)))
      end
    end
    table.insert(lines, ("0x%0" .. head .. "x: %s"):format(records[i].reg.offset, table.concat(cells, " ")))
  end
  for _, reason in ipairs(left_out) do table.insert(lines, term.dim("not read: " .. reason)) end
  return lines
end

local function slice(list, first, last)
  local part = {}
  for i = first, last do part[#part + 1] = list[i] end
  return part
end

--- The lines of a dump: records of a range as words, others a line each.
---@param records luio.Record[]
---@param ranges { first: integer, last: integer }[]  which of them belong to a range
---@return string[]
local function lines_of(records, ranges)
  local lines, at = {}, 1
  local function add(list)
    for _, line in ipairs(list) do table.insert(lines, line) end
  end
  local function others(last) add(record.lines(slice(records, at, last), { columns = output.columns() })) end
  for _, range in ipairs(ranges) do
    others(range.first - 1)
    add(words(slice(records, range.first, range.last)))
    at = range.last + 1
  end
  others(#records)
  return lines
end

local function run(args)
  local t, list, ranges = common.look(args, args.place)
  if not t then return nil, list, ranges end
  local records = common.read(t, list, args.force_read)
  if args.json then
    common.json(t, records)
    return 0
  end
  for _, line in ipairs(lines_of(records, ranges)) do print(line) end
  return 0
end

return {
  dump = {
    options = function(p)
      common.device(p)
      p:argument("place", "Registers, blocks, patterns (RX*, CHANNEL[*].CTRL), ranges (0x0+0x40); else all."):args "*"
      common.reading(p)
      p:epilog "Example: luio dump uio0 'RX*'      luio dump uio0 0x0+0x40"
    end,
    run = run,
  },
}
