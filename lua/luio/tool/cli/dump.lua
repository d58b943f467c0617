--- `luio dump`: all registers, those that a pattern names, or a range of offsets as words.

local common = require "luio.tool.cli.common"
local maps = require "luio.driver.maps"
local output = require "luio.tool.output"
local record = require "luio.tool.explore.record"
local term = require "luio.text.term"

local function run(args)
  local alone, message, code = common.without_device(args)
  if alone == nil then return nil, message, code end
  if alone then
    if args.json or args.force_read then return nil, "--json and --force-read are for the values of a device: name one", "USAGE" end
    local map, lines
    map, message, code = maps.load(args.map)
    if not map then return nil, message, code end
    lines, message, code = require("luio.tool.explore.datasheet").lines(map, args.place, args.map, output.columns())
    if not lines then return nil, message, code end
    term.print_all(lines)
    return 0
  end
  local t, list, ranges = common.open_places(args, args.place)
  if not t then return nil, list, ranges end
  local records = common.read(t, list, args.force_read)
  if args.json then
    common.json(t, records)
    return 0
  end
  term.print_all(record.dump(records, ranges, output.columns()))
  return 0
end

return {
  dump = {
    options = function(p)
      common.device(p, true)
      p:argument("place", "Registers, blocks, patterns (RX*, CHANNEL[*].CTRL), ranges (0x0+0x40). Without it: all."):args "*"
      common.reading(p)
      p:epilog [[
With --map and no DEVICE the map is printed as a datasheet.
Example: luio dump uio0 'RX*'      luio dump uio0 0x0+0x40      luio dump --map edu STATUS]]
    end,
    run = run,
  },
}
