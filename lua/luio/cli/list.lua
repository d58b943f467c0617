--- `luio list`: every UIO device, and every PCI device that could become one. Opens nothing.

local about = require "luio.about"
local match = require "luio.match"
local output = require "luio.output"

local function run(args)
  local infos, message, code = about.devices()
  if not infos then return nil, message, code end
  for _, entry in ipairs(match.all()) do
    if entry.unclear then
      local common = require "luio.cli.common" -- it loads what only commands on registers need
      common.note(("only running drivers/%s would tell what it matches (%s): it is left out here"):format(entry.name, entry.unclear))
    end
  end
  if args.json then output.json(infos) else output.table(about.rows(infos)) end
  return 0
end

return {
  list = {
    options = function(p)
      p:flag("--json", "As JSON.")
      p:epilog "Example: luio list"
    end,
    run = run,
  },
}
