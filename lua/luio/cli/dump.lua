--- `luio dump`: all registers, those that a pattern names, or a range of offsets as words.

local common = require "luio.cli.common"
local output = require "luio.output"
local record = require "luio.explore.record"
local term = require "luio.term"

local function run(args)
  local t, list, ranges = common.look(args, args.place)
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
      common.device(p)
      p:argument("place", "Registers, blocks, patterns (RX*, CHANNEL[*].CTRL), ranges (0x0+0x40); else all."):args "*"
      common.reading(p)
      p:epilog "Example: luio dump uio0 'RX*'      luio dump uio0 0x0+0x40"
    end,
    run = run,
  },
}
