--- `luio list`: every UIO device, and every PCI device that could become one. Opens nothing.

local report = require "luio.host.report"
local match = require "luio.driver.match"
local output = require "luio.tool.output"

local function note(text)
  require("luio.tool.cli.common").note(text) -- it loads what only commands on registers need
end

local function run(args)
  local infos, message, code = report.devices()
  if not infos then return nil, message, code end
  for _, entry in ipairs(match.all()) do
    local fault = match.fault_of(entry)
    if fault then
      note(fault)
    elseif entry.unclear then
      note(("only running drivers/%s would tell its match (%s): it is left out here"):format(entry.name, entry.unclear))
    end
  end
  if args.json then output.json(infos) else output.table(report.rows(infos)) end
  return 0
end

return {
  list = {
    options = function(p)
      p:flag("--json", "Print JSON.")
      p:epilog "Example: luio list"
    end,
    run = run,
  },
}
