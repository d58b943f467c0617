--- The command line: `luio COMMAND ...`, and `luio FILE.lua ...` to run a script.
---
--- This floor prints; those below return. Exit status: 0 fine, 1 it failed, 2 misuse.

local luio = require "luio"
local term = require "luio.term"
local uv = require "luv"

local M = {}

local function fail(message)
  io.stderr:write("luio: ", tostring(message), "\n")
  return 1
end

-- ---- list ---------------------------------------------------------------------------------------

local function describe(info)
  local name = table.concat({ info.vendor_name or "", info.device_name or "" }, " "):match "^%s*(.-)%s*$"
  if name == "" then name = info.compatible[1] or info.bus ~= "pci" and info.uio_name or "" end
  return info.problem and ("%s [%s]"):format(name, info.problem) or name
end

-- Rows of strings, columns as wide as their widest cell; the last is left as it is.
local function print_table(rows)
  local width = {}
  for _, row in ipairs(rows) do
    for i, cell in ipairs(row) do width[i] = math.max(width[i] or 0, #cell) end
  end
  for n, row in ipairs(rows) do
    local cells = {}
    for i, cell in ipairs(row) do
      cells[i] = i < #row and cell .. (" "):rep(width[i] - #cell) or cell
    end
    local line = table.concat(cells, "  "):gsub("%s+$", "")
    print(n == 1 and term.bold(line) or line)
  end
end

local function list()
  local infos, message = luio.list()
  if not infos then return fail(message) end
  local rows = { { "ADDRESS", "UIO", "ID", "DRIVER", "DEVICE" } }
  for _, info in ipairs(infos) do
    table.insert(rows, {
      info.address,
      info.uio or "-",
      info.vendor and ("%04x:%04x"):format(info.vendor, info.device) or "-",
      info.driver or "-",
      describe(info),
    })
  end
  print_table(rows)
  return 0
end

-- ---- run ----------------------------------------------------------------------------------------

local function run(args)
  local dev, message = luio.start(args.driver, args.device)
  if not dev then return fail(message) end
  print(("driver %s runs on %s; Ctrl-C stops it"):format(dev.driver.name, tostring(dev)))
  local signals, caught = {}, nil
  for _, name in ipairs { "sigint", "sigterm" } do
    local signal = assert(uv.new_signal())
    signal:start(name, function() caught = name end)
    table.insert(signals, signal)
  end
  luio.run(function()
    while not caught do luio.sleep(0.1) end
  end)
  local ok
  ok, message = dev:close()
  return ok and 0 or fail(message)
end

-- ---- env ----------------------------------------------------------------------------------------

local function env()
  local dir = debug.getinfo(1, "S").source:match "^@(.*)/luio/cli/[^/]*$"
  dir = dir and uv.fs_realpath(dir) or "lua"
  -- Behind ours stays what was set, else ";;": LuaJIT's own.
  print(("export LUA_PATH='%s/?.lua;%s/?/init.lua;'\"${LUA_PATH:-;}\""):format(dir, dir))
  return 0
end

-- ---- A script -----------------------------------------------------------------------------------

local function script(argv)
  local chunk, message = loadfile(argv[1])
  if not chunk then return fail(message) end
  local args = { [0] = argv[1] }
  for i = 2, #argv do args[i - 1] = argv[i] end
  _G.arg = args
  local failures = 0
  luio.on_task_failure(function(task, traceback)
    failures = failures + 1
    fail(("task %s failed: %s"):format(task.name, traceback))
  end)
  local ok, result = xpcall(function() return chunk(unpack(args)) end, debug.traceback)
  luio.close_all()
  if not ok then return fail(result) end
  if type(result) == "number" then return result end
  return failures > 0 and 1 or 0
end

-- -------------------------------------------------------------------------------------------------

local function parser()
  local argparse = require "argparse"
  local p = argparse("luio", "Linux device drivers as Lua scripts.")
  p:epilog "`luio FILE.lua ...` runs a script.  A DEVICE is uio0, 0000:00:04.0 or sim:NAME."
  p:command_target "command"
  p:require_command(true)
  p:flag("--version", "Print the version."):action(function()
    print("luio " .. luio.version)
    os.exit(0)
  end)
  p:command("list", "What devices there are, and what drives them.")
  local r = p:command("run", "Run a driver until Ctrl-C.")
  r:argument("driver", "A driver's folder, file or name, e.g. drivers/edu.")
  r:argument("device", "Its device; else the first one that it matches."):args "?"
  p:add_help_command()
  p:command("env", "Print LUA_PATH for plain luajit:  eval \"$(luio env)\"")
  local commands = require("luio.cli.maps").commands(p)
  commands.list, commands.run, commands.env = list, run, env
  return p, commands
end

--- Runs the program.
---@param argv string[]
---@return integer status
function M.main(argv)
  luio.on_warning(function(message) io.stderr:write("luio: ", message, "\n") end)
  if argv[1] and argv[1]:match "%.lua$" then return script(argv) end
  local p, commands = parser()
  local ok, args = p:pparse(argv)
  if not ok then
    io.stderr:write(p:get_usage(), "\n\nluio: ", tostring(args), "; `luio -h` lists the commands, and a script's name ends in .lua\n")
    return 2
  end
  local fine, status, message = xpcall(commands[args.command], debug.traceback, args)
  luio.close_all()
  if not fine then return fail(status) end
  return status or fail(message)
end

return M
