--- Commands about register maps: `luio import`, `luio lint`, `luio types`. None touches a device.

local common = require "luio.tool.cli.common"
local maps = require "luio.driver.maps"
local output = require "luio.tool.output"
local paths = require "luio.driver.paths"
local term = require "luio.text.term"

-- The map that is named; its driver's fault is named as well: to this map no other command comes by that
-- driver.
local function named(args)
  local map, message, code = maps.load(args.map)
  if not map then return nil, message, code end
  local fault = maps.driver_fault(args.map)
  if fault then common.note(fault) end
  return map, fault
end

--- Suspicions about a map, and the Lua of a driver. Status 1 when there are some, or the driver does not load, so that CI can tell.
local function lint(args)
  local map, fault, code = named(args)
  if not map then return nil, fault, code end
  local findings = require("luio.registers.lint").check(map)
  local folder = not args.map:match "%.lua$" and (paths.find(args.map, "registers") or ""):match "^(.*)/"
  for _, f in ipairs(folder and require("luio.driver.lint_code").folder(folder, map) or {}) do
    table.insert(findings, { path = ("%s:%d"):format(paths.shown(f.path), f.line), text = f.text })
  end
  if args.json then
    local list = output.list {}
    for i, f in ipairs(findings) do list[i] = { path = f.path, text = f.text } end
    output.json { map = args.map, registers = map.total, findings = list, driver_fault = fault }
    return (fault or #findings > 0) and 1 or 0
  end
  for _, f in ipairs(findings) do term.print(("%s: %s"):format(f.path, f.text)) end
  local n = map.total
  term.tell(output.count(n, "register") .. ", " .. output.count(#findings, "finding"))
  return (fault or #findings > 0) and 1 or 0
end

--- LuaCATS definitions on standard output.
local function types(args)
  local map, message, code = named(args)
  if not map then return nil, message, code end
  local name = args.map:match "([^/]+)/registers%.lua$" or args.map:match "([^/]+)/?$":gsub("%.lua$", "")
  term.write(require("luio.registers.types").write(map, args.name or map.name ~= "map" and map.name or name))
  return 0
end

--- A vendor's description as a map, on standard output or into a file; notes on standard error.
local function import(args)
  local text, notes, code = require("luio.registers.import").import(args.file, {
    peripherals = #args.peripheral > 0 and args.peripheral or nil,
    descriptions = args.comments and "comments" or "data",
    -- Corrections stand beside the map, and outlive the next import.
    overlay = args.output and args.output:match "[^/]*$":gsub("%.lua$", "") .. ".overlay.lua" or nil,
  })
  if not text then return nil, notes, code end
  text = term.ready(text) -- in a file, too: invisible characters do not belong into a map, and \u{...} in a string means the same
  if args.output then
    local ok, message = output.file(args.output, text)
    if not ok then return nil, message end
  else
    term.write(text)
  end
  for _, note in ipairs(notes) do term.tell("note: " .. tostring(note)) end
  return 0
end

return {
  import = {
    options = function(p)
      p:argument("format", "The format of FILE."):choices { "svd" }
      p:argument("file", "A CMSIS-SVD file.")
      p:option("-p --peripheral", "Import only this peripheral. May be repeated."):count("*")
      p:option("-o --output", "Write to this file. FILE.overlay.lua beside it corrects the map.")
      p:flag("--comments", "Write descriptions as comments. The map is shorter, and the prompt does not show them.")
      p:epilog "Example: luio import svd chip.svd --peripheral UART0 -o uart.lua"
    end,
    run = import,
  },
  lint = {
    options = function(p)
      p:argument("map", "A map's file, or a driver's folder or name.")
      p:flag("--json", "Print JSON.")
      p:epilog "Example: luio lint drivers/edu"
    end,
    run = lint,
  },
  types = {
    options = function(p)
      p:argument("map", "A map's file, or a driver's folder or name.")
      p:option("--name", "Prefix of the classes. Without it: the map's name.")
      p:epilog "Example: luio types drivers/edu > edu.types.lua"
    end,
    run = types,
  },
}
