--- `luio explore`: a prompt with a device in scope.

local common = require "luio.tool.cli.common"

local function explore(args)
  if args.read_only and args.write then return nil, "--read-only and --write: one of them", "USAGE" end
  local alone, session, message, code
  alone, message, code = common.without_device(args)
  if alone == nil then return nil, message, code end
  local execute = { execute = args.execute[1] and args.execute or nil }
  if alone then
    session, message, code = require("luio.tool.explore.datasheet").session(args.map)
    if not session then return nil, message, code end
    return require("luio.tool.explore.repl").run(session, execute)
  end
  session, message, code = require("luio.tool.explore.session").open {
    device = args.device, map = args.map, read_only = args.read_only, write = args.write,
  }
  if not session then return nil, message, code end
  for _, note in ipairs(session.target and session.target.notes or {}) do common.note(note) end
  if session.target then common.tell_missing(session.target) end
  local silent = session.target.how ~= "own" and session:silent(true) -- luio.open has warned else
  if silent then common.note(silent) end
  local status
  status, message, code = require("luio.tool.explore.repl").run(session, execute)
  local closed, why = session:close()
  if not status then return nil, message, code end
  if not closed then return nil, why end
  return status
end

return {
  explore = {
    options = function(p)
      common.device(p, true)
      p:flag("-r --read-only", "Refuse every write. Another process's device is not disturbed.")
      p:flag("-w --write", "Allow writes to mem:0xADDR+0xLEN. Other devices need no option.")
      p:option("-e --execute", "Run a chunk of Lua and exit. May be repeated."):argname("CHUNK"):count "*"
      p:epilog [[
The prompt takes Lua. Standard input that is no terminal is taken line by line. With --map and no DEVICE the map is shown.
Example: luio explore sim:edu
         luio explore sim:edu -e 'FACTORIAL:write(10)' -e FACTORIAL]]
    end,
    run = explore,
  },
}
