--- `luio snapshot` and `luio diff`: register values, saved and compared.

local common = require "luio.tool.cli.common"
local maps = require "luio.driver.maps"
local output = require "luio.tool.output"
local snapshots = require "luio.tool.explore.snapshots"
local term = require "luio.text.term"

local function snapshot(args)
  local t, list, code = common.open_places(args, args.place)
  if not t then return nil, list, code end
  local s = snapshots.of(t, common.read(t, list, args.force_read))
  output.list(s.registers)
  if args.output then
    local ok, message = output.file(args.output, output.encode(s) .. "\n")
    if not ok then return nil, message, "EIO" end
  else
    output.json(s)
  end
  return 0
end

-- The map that two files are compared by: the one named, else the driver's that the first was taken with; then it is said
-- which. A file that a snapshot names is not loaded: a map is code, and a snapshot comes from anywhere. A driver it may name,
-- for drivers come from folders of the user's choice (luio.driver.paths).
local function map_of(args, before)
  if args.map then return maps.load(args.map) end
  local named = before.map
  if type(named) ~= "string" then return nil end
  local driver = named:match "^drivers/([%w_%-]+)$"
  if not driver then
    common.note(("the map that %s names is not loaded, for a snapshot may come from anywhere: --map %s does that"):format(
      args.before, term.quoted(named)))
    return nil
  end
  local map, message = maps.load(driver)
  if map then
    common.note(("fields are told by %s, the map that %s names"):format(map.source or driver, args.before))
  else
    common.note(("the map that %s names is not to be had: %s"):format(args.before, message))
  end
  return map
end

-- The other side of a comparison, and the map with its fields.
local function other_side(args, before)
  if not common.is_address(args.after) then
    local after, message, code = snapshots.load(args.after)
    if not after then return nil, message, code end
    local map
    map, message, code = map_of(args, before)
    if not map and args.map then return nil, message, code end
    return after, map
  end
  args.device = args.after
  local t, message, code = common.open(args, "read")
  if not t then return nil, message, code end
  common.tell_missing(t)
  local why, why_code
  local after = snapshots.again(before, t, function(target, list)
    local ok
    ok, why, why_code = common.answers(target, list, args.force_read)
    return ok and common.read(target, list, args.force_read) or {}
  end)
  if why then return nil, why, why_code end
  return after, t.regs and t.regs.map
end

local function diff(args)
  if common.is_address(args.before) then
    return nil, ("%s is a device: the snapshot's file comes first"):format(args.before), "USAGE"
  end
  local before, message, code = snapshots.load(args.before)
  if not before then return nil, message, code end
  local after, map
  after, map, code = other_side(args, before)
  if not after then return nil, map, code end
  local list, compared = snapshots.diff(before, after, map)
  if args.json then
    output.json { before = before.device, after = after.device, differences = output.list(list) }
  else
    for _, d in ipairs(list) do term.print_all(snapshots.lines(d)) end
    term.tell(("%d of %d differ"):format(#list, compared))
  end
  return args.exit_code and list[1] and 1 or 0
end

return {
  snapshot = {
    options = function(p)
      common.device(p)
      p:argument("place", "Registers, blocks, patterns, ranges. Without it: all of the map."):args "*"
      p:flag("--force-read", "Also read registers whose read has a side effect, and name what that disturbed.")
      p:option("-o --output", "Write to this file.")
      p:epilog "Example: luio snapshot uio0 > before.json"
    end,
    run = snapshot,
  },
  diff = {
    options = function(p)
      p:argument("before", "A snapshot's file. - is standard input.")
      p:argument("after", "Another snapshot, or a device.")
      p:option("-m --map", "A register map's file, or a driver's name. Without it: the map of the matching driver."):argname "FILE"
      p:flag("--force-read", "Also read registers whose read has a side effect, and name what that disturbed.")
      p:flag("--json", "Print JSON.")
      p:flag("--exit-code", "Exit with 1 when something differs.")
      p:epilog "Example: luio diff before.json uio0"
    end,
    run = diff,
  },
}
