--- `luio set`: writes, and prints the value before, the written value, and the value afterwards.

local change = require "luio.tool.explore.change"
local common = require "luio.tool.cli.common"
local output = require "luio.tool.output"
local place = require "luio.tool.explore.place"
local show = require "luio.registers.show"
local term = require "luio.text.term"

local function hex(c, value)
  return value and show.hex(value, c.reg.def.width)
end

-- No line of a dry run looks like a line of a write.
local function line(c)
  local reg = c.reg
  local old = hex(c, c.old) or ("(%s)"):format(c.why_unread)
  local text = ("%s%s 0x%x (+0x%x) %s := %s"):format(c.dry_run and "would write " or "", reg.path, reg.region.addr + reg.offset,
    reg.offset, old, hex(c, c.written))
  if c.readback then text = ("%s -> %s"):format(text, hex(c, c.readback)) end
  local words = {}
  for word in text:gmatch "%S+" do table.insert(words, word) end
  term.print_all(term.wrap(words, output.columns(), "  ", ""))
  for _, more in ipairs(c:lines(term.yellow)) do term.print_all(term.wrap(more, output.columns(), "    ", "  ")) end
end

local function plain(c)
  local fields = {}
  for _, f in ipairs(c:fields()) do fields[f.name] = { before = f.before, after = f.after } end
  local effects = {}
  for _, trigger in ipairs(c.triggers) do table.insert(effects, { name = trigger.name, effect = trigger.text }) end
  return {
    path = c.reg.path, region = c.reg.def.region, offset = c.reg.offset, width = c.reg.def.width,
    old = hex(c, c.old), written = hex(c, c.written), readback = hex(c, c.readback), expected = hex(c, c.expected), not_read = c.why_unread,
    fields = next(fields) and fields, triggers = effects[1] and effects,
  }
end

-- Every assignment is checked before the first is carried out.
local function plans(t, assignments, read)
  local list = {}
  for i, a in ipairs(assignments) do
    local c, message, code = change.plan(t, a, read)
    if not c then return nil, message, code end
    list[i] = c
  end
  return list
end

local function run(args)
  local assignments = {}
  for i, text in ipairs(args.assignment) do
    local a, message, code = place.assignment(text)
    if not a then return nil, message, code end
    assignments[i] = a
  end
  local t, message, code = common.open(args, args.dry_run and "read" or "write")
  if not t then return nil, message, code end
  local list
  list, message, code = plans(t, assignments, args.read)
  if not list then return nil, message, code end
  common.tell_missing(t)
  local ok
  ok, message, code = common.answers(t, list, args.force or args.dry_run)
  if not ok then return nil, message, code end
  local writes = output.list {}
  local would_be = {} -- by a dry run of an assignment before: by place, for a register may have several names
  for i, c in ipairs(list) do
    local at = ("%d:%x:%d:%s"):format(c.reg.def.region, c.reg.offset, c.reg.def.width, c.reg.def.endian)
    local done
    done, message, code = c:apply(args.dry_run, args.dry_run and would_be[at])
    if not done then break end
    would_be[at] = c.expected
    writes[i] = plain(c)
    if not args.json then line(c) end
  end
  if args.json then output.json { device = t.dev.address, dry_run = args.dry_run or false, writes = writes } end
  if message then return nil, message, code end
  return 0
end

return {
  set = {
    options = function(p)
      common.device(p)
      p:argument("assignment",
        "STATUS=0x80, STATUS.RAISE_IRQ=1, CTRL.MODE=FAST,ENABLE=1, 0x20:u32[7:7]=1. They are written in this order."):args "+"
      p:flag("-n --dry-run", "Write nothing. Print the writes, their changes and their triggers.")
      p:flag("-r --read", "Read before and after the write also at an offset that no map describes. It may be a FIFO.")
      p:flag("-w --write", "Allow writes to mem:0xADDR+0xLEN.")
      p:flag("--force", "Write to a device that another process drives.")
      p:flag("--json", "Print JSON.")
      p:epilog "Example: luio set uio0 STATUS.RAISE_IRQ=1"
    end,
    run = run,
  },
}
