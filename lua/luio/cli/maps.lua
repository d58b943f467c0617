--- Commands about register maps: `luio import`, `luio lint`, `luio types`. None touches a device.

local paths = require "luio.paths"
local registers = require "luio.registers"

local M = {}

--- Loads a map: a file that returns one (or a driver that has one), or a driver's folder or name.
---@param name string
---@return luio.Map?
---@return string? message
---@return string? code
function M.load(name)
  local path = name
  local message, code
  if not name:match "%.lua$" then
    path, message, code = paths.find(name, "registers")
    if not path then return nil, message, code end
  end
  local chunk
  chunk, message = loadfile(path)
  if not chunk then return nil, message, "EINVAL" end
  local ok, map = pcall(paths.run, path, chunk)
  if not ok then return nil, tostring(map), "EINVAL" end
  if type(map) == "table" and getmetatable(map) ~= registers.Map then map = map.registers end
  if type(map) ~= "table" or getmetatable(map) ~= registers.Map then
    return nil, path .. ": that file returns no register map: return luio.registers { ... }", "EINVAL"
  end
  return map
end

--- Suspicions about a map. Status 1 when there are some, so that CI can tell.
function M.lint(args)
  local map, message = M.load(args.map)
  if not map then return nil, message end
  local findings = require("luio.registers.lint").check(map)
  for _, f in ipairs(findings) do print(("%s: %s"):format(f.path, f.text)) end
  local n = map.total
  io.stdout:flush()
  io.stderr:write(("%d register%s, %d finding%s\n"):format(n, n == 1 and "" or "s", #findings, #findings == 1 and "" or "s"))
  return #findings > 0 and 1 or 0
end

--- LuaCATS definitions on standard output.
function M.types(args)
  local map, message = M.load(args.map)
  if not map then return nil, message end
  local name = args.map:match "([^/]+)/registers%.lua$" or args.map:match "([^/]+)/?$":gsub("%.lua$", "")
  io.write(require("luio.registers.types").write(map, args.name or map.name ~= "map" and map.name or name))
  return 0
end

-- Writes a file whole or not at all.
local function write_file(path, text)
  local f, message = io.open(path .. ".tmp", "w")
  if not f then return nil, message end
  local ok
  ok, message = f:write(text)
  f:close()
  if ok then ok, message = os.rename(path .. ".tmp", path) end
  return ok, message
end

--- A vendor's description as a map, on standard output or into a file; notes on standard error.
function M.import(args)
  local text, notes, code = require("luio.svd").import(args.file, {
    peripherals = #args.peripheral > 0 and args.peripheral or nil,
    -- Corrections stand beside the map, and outlive the next import.
    overlay = args.output and args.output:match "[^/]*$":gsub("%.lua$", "") .. ".overlay.lua" or nil,
  })
  if not text then return nil, notes, code end
  if args.output then
    local ok, message = write_file(args.output, text)
    if not ok then return nil, message end
  else
    io.write(text)
  end
  for _, note in ipairs(notes) do io.stderr:write("note: ", tostring(note), "\n") end
  return 0
end

--- Adds the commands to the parser.
---@param p table  argparse parser
---@return table<string, fun(args: table): integer?, string?>
function M.commands(p)
  local i = p:command("import", "Make a register map from a vendor's description.")
  i:argument("format", "What FILE is."):choices { "svd" }
  i:argument("file", "A CMSIS-SVD file.")
  i:option("-p --peripheral", "Only this peripheral; may be repeated."):count("*")
  i:option("-o --output", "Write to this file; FILE.overlay.lua beside it corrects the map.")
  i:epilog "Example: luio import svd chip.svd --peripheral UART0 -o uart.lua"
  local l = p:command("lint", "Say what looks wrong in a register map: side effects that are missing.")
  l:argument("map", "A map's file, or a driver's folder or name.")
  l:epilog "Example: luio lint drivers/edu"
  local t = p:command("types", "Write LuaCATS definitions of a map, for an editor.")
  t:argument("map", "A map's file, or a driver's folder or name.")
  t:option("--name", "Prefix of the classes; the map's name.")
  t:epilog "Example: luio types drivers/edu > edu.types.lua"
  return { import = M.import, lint = M.lint, types = M.types }
end

return M
