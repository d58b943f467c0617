--- `luio get`: registers, fields, or bits, one load each.

local common = require "luio.tool.cli.common"
local output = require "luio.tool.output"
local record = require "luio.tool.explore.record"
local show = require "luio.registers.show"
local term = require "luio.text.term"

-- The bare value, for scripts: of a field in decimal, of a register in hexadecimal.
local function bare(r)
  if r.part then return type(r.part) == "number" and ("%d"):format(r.part) or show.value(r.part) end
  return show.hex(r.value, r.reg.def.width)
end

local function run(args)
  local t, list, code = common.open_places(args, args.place)
  if not t then return nil, list, code end
  local records = common.read(t, list, args.force_read)
  local missing
  for _, r in ipairs(records) do missing = missing or r.skipped and r end
  if args.json then
    common.json(t, records)
  elseif args.value then
    for _, r in ipairs(records) do
      if not r.skipped then term.print(bare(r)) end
    end
  else
    term.print_all(record.lines(records, { columns = output.columns() }))
  end
  if not missing then return 0 end
  local hint = missing.reg.def.readable and not missing.hidden and " (--force-read reads it all the same)" or ""
  return nil, ("%s was not read: %s%s"):format(missing.label, (missing.skipped:gsub("^not read: ", "")), hint), "EACCES"
end

return {
  get = {
    options = function(p)
      common.device(p)
      p:argument("place", "STATUS, STATUS.RAISE_IRQ, STATUS[7:4], RXD[3].HEAD, 0x20:u32, 1:0x20:u16[7:7]."):args "+"
      common.reading(p)
      p:flag("-v --value", "Print only the value: registers in hexadecimal, fields in decimal.")
      p:epilog "Example: luio get uio0 STATUS.RAISE_IRQ"
    end,
    run = run,
  },
}
