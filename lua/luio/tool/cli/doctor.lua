--- `luio doctor`: everything that would stop a driver from working, and the remedy. Only looks.

local common = require "luio.tool.cli.common"
local doctor = require "luio.host.doctor"
local output = require "luio.tool.output"
local term = require "luio.text.term"

local function run(args)
  local findings, message, code
  if args.device then
    require("luio.device.settings").on_note = nil -- a finding says it
    findings, message, code = doctor.device(args.device)
    if not findings then return nil, message, code end
  else
    findings = doctor.system()
  end
  local lines, problems = doctor.lines(findings, output.columns())
  if args.json then
    output.json(output.list(findings))
    return problems > 0 and 1 or 0
  end
  term.print_all(lines)
  if problems > 0 then term.tell(output.count(problems, "problem")) end
  return problems > 0 and 1 or 0
end

return {
  doctor = {
    options = function(p)
      p:argument("device", "uio0, 0000:00:04.0, sim:NAME, qemu:NAME, or mem:0xADDR+0xLEN. Without it only the machine is checked.")
        :argname("DEVICE"):convert(common.address):args "?"
      common.machine(p)
      p:flag("--json", "Print JSON.")
      p:epilog "Exits with 1 if something stops a driver. Example: luio doctor uio0"
    end,
    run = run,
  },
}
