--- `luio info`: everything about one device. Opens neither /dev/uioX nor a region, and changes nothing.

local report = require "luio.host.report"
local common = require "luio.tool.cli.common"
local inspect = require "luio.host.inspect"
local output = require "luio.tool.output"
local term = require "luio.text.term"

local function run(args)
  local info, message, code = inspect.find(args.device)
  if not info then return nil, message, code end
  local all = report.of(info)
  if args.json then
    output.json(all)
  else
    term.print_all(report.lines(all, output.columns()))
  end
  return 0
end

return {
  info = {
    options = function(p)
      p:argument("device", "uio0, 0000:00:04.0, sim:NAME, qemu:NAME, or mem:0xADDR+0xLEN."):argname("DEVICE"):convert(common.address)
      common.machine(p)
      p:flag("--json", "Print JSON.")
      p:epilog "Example: luio info uio0"
    end,
    run = run,
  },
}
