--- `luio doctor`: everything that would stop a driver from working, and the remedy. Only looks.

local common = require "luio.cli.common"
local doctor = require "luio.doctor"
local output = require "luio.output"
local term = require "luio.term"

local COLOUR = { ok = term.green, note = term.yellow, problem = term.red }
local MARK = 9 -- columns: "problem" and two spaces

local function run(args)
  local findings, message, code
  if args.device then
    findings, message, code = doctor.device(args.device)
    if not findings then return nil, message, code end
  else
    findings = doctor.system()
  end
  local problems = 0
  for _, finding in ipairs(findings) do
    if finding.status == "problem" then problems = problems + 1 end
  end
  if args.json then
    output.json(output.list(findings))
    return problems > 0 and 1 or 0
  end
  local columns = output.columns()
  for _, finding in ipairs(findings) do
    local mark = COLOUR[finding.status](finding.status) .. (" "):rep(MARK - #finding.status)
    for _, line in ipairs(term.wrap(("%s: %s"):format(finding.check, finding.text), columns, (" "):rep(MARK), mark)) do print(line) end
    -- A command stays in one piece, to be copied: the terminal may break it, we don't.
    if finding.remedy then print((" "):rep(MARK) .. term.dim "remedy: " .. finding.remedy) end
  end
  io.stdout:flush()
  if problems > 0 then io.stderr:write(output.count(problems, "problem"), "\n") end
  return problems > 0 and 1 or 0
end

return {
  doctor = {
    options = function(p)
      p:argument("device", "uio0, 0000:00:04.0, or sim:NAME; without it the machine is looked at."):argname("DEVICE")
        :convert(common.address):args "?"
      p:flag("--json", "As JSON.")
      p:epilog "Exit status 1 when something stops a driver. Example: luio doctor uio0"
    end,
    run = run,
  },
}
