--- The command line: `luio COMMAND ...`, and `luio FILE.lua ...` to run a script.
---
--- This floor prints; those below return. Exit status: 0 fine, 1 it failed, 2 misuse.
---
--- A command is an entry of a module in this folder:
---
---     return { NAME = {
---       options = function(p) ... end,   -- adds arguments, options and an example to its parser
---       run = function(args, cli) ... end, -- cli: this module. 0 or 1; or nil, message, code. "USAGE" is misuse: status 2
---       optional = { ["--wait"] = true },-- options whose value may be left out, and so stands behind a "=": "" then
---     } }
---
--- Only the requested command's module is loaded: most commands are over in less time
--- than it takes to read the others.

local errors = require "luio.errors"
local luio = require "luio"
local term = require "luio.text.term"
local uv = require "luv"

local M = {}

--- Every command, in the order of the help: name, summary, module.
M.commands = {
  { "list", "List devices and their drivers.", "list" },
  { "info", "Print all about one device: regions, interrupt, driver, IOMMU, owner.", "info" },
  { "get", "Read registers or fields, decoded.", "get" },
  { "set", "Write registers or fields, and show the result.", "set" },
  { "dump", "Show all registers, or some. Registers whose read has a side effect are left out.", "dump" },
  { "snapshot", "Save register values as JSON.", "snapshot" },
  { "diff", "Compare a snapshot with another, or with the present values.", "snapshot" },
  { "watch", "Show registers live, with their changes.", "watch" },
  { "explore", "Work with a device at a prompt.", "explore" },
  { "run", "Run a driver until Ctrl-C.", "run" },
  { "irq", "Wait for interrupts, count them, measure their latency.", "irq" },
  { "dma", "Allocate DMA memory, fill it, show it.", "dma" },
  { "bind", "Give a PCI device to a UIO driver.", "bind" },
  { "unbind", "Give a device back to its former driver.", "bind" },
  { "doctor", "Name what would stop a driver, and the remedy.", "doctor" },
  { "new", "Begin a driver: a folder with a model and a spec that passes.", "new" },
  { "import", "Make a register map from a vendor's description.", "maps" },
  { "lint", "Name suspects in a register map or a driver.", "maps" },
  { "types", "Write LuaCATS definitions of a map, for an editor.", "maps" },
  { "env", "Print LUA_PATH and LUA_CPATH for plain luajit.", "env" },
  { "completion", "Print the completion script of a shell.", "completion" },
}

--- Commands that programs run, not people: in no help, not completed.
M.hidden = {
  { "__complete", "Candidates for the last of some words.", "completion" },
  { "__man", "Print the manual page, luio(1).", "man" },
}

-- Output of a driver or a script appears at once, in a pipe or a journal, too.
local function print_at_once() io.stdout:setvbuf "line" end

local function fail(message, status)
  message = errors.text(message)
  if message:find("Too many open files", 1, true) then message = message .. ": raise `ulimit -n`" end
  term.tell("luio: " .. message)
  return status or 1
end

-- ---- A script -----------------------------------------------------------------------------------

local function script(argv)
  print_at_once()
  local chunk, message = loadfile(argv[1])
  if not chunk then return fail(message) end
  -- A user who runs a script has chosen its author, and so the files that the author put beside it. He has not chosen
  -- other people's files, nor the current folder, which is no part of the name that was typed.
  require("luio.driver.paths").add_folder_of(argv[1])
  local args = { [0] = argv[1] }
  for i = 2, #argv do args[i - 1] = argv[i] end
  _G.arg = args
  local failures = 0
  luio.on_task_failure(function(task, traceback)
    failures = failures + 1
    fail(("task %s failed: %s"):format(task.name, traceback))
  end)
  local ok, result = xpcall(function() return chunk(unpack(args)) end, errors.traceback)
  local closed, why = luio.close_all()
  if not closed then fail(why) end
  if not ok then return fail(result) end
  if type(result) == "number" and (closed or result ~= 0) then return result end
  return (failures > 0 or not closed) and 1 or 0
end

-- ---- A command ----------------------------------------------------------------------------------

--- The entry of a command.
---@param name string
---@return { name: string, summary: string, options: function?, run: function, optional: table<string, boolean> }?
function M.find(name)
  for _, rows in ipairs { M.commands, M.hidden } do
    for _, row in ipairs(rows) do
      if row[1] == name then
        local command = require("luio.tool.cli." .. row[3])[name]
        return { name = name, summary = row[2], options = command.options, run = command.run,
          optional = command.optional or {}, flags = command.flags or {} }
      end
    end
  end
end

--- The parser of a command, for itself, and for the man page and completion, which read it.
---@param command table  of M.find
---@return table argparse's
function M.parser(command)
  local p = require "argparse"("luio " .. command.name, command.summary)
  local columns = math.max(30, math.min(80, require("luio.tool.output").columns() or 80))
  p:help_max_width(columns):usage_max_width(columns)
  if columns < 60 then p:help_description_margin(10) end
  if command.options then command.options(p) end
  return p
end

local function help()
  local columns = require("luio.tool.output").columns()
  local function say(text, indent, first)
    term.print_all(term.wrap(text, columns, indent, first))
  end
  term.print "Linux device drivers as Lua scripts."
  term.print ""
  say("luio COMMAND --help has its options and an example", (" "):rep(29), "Usage: luio COMMAND ...      ")
  say("runs a script", (" "):rep(29), "       luio FILE.lua ...     ")
  term.print ""
  for _, row in ipairs(M.commands) do
    say(row[2], (" "):rep(14), ("  %-11s "):format(row[1]))
  end
  term.print ""
  say("A DEVICE is uio0, 0000:00:04.0 (PCI), sim:NAME (simulated, by drivers/NAME/model.lua), qemu:NAME (QEMU's, without a guest), or "
    .. "mem:0xADDR+0xLEN (by /dev/mem).")
  return 0
end

local function unknown(name)
  local near, names = require "luio.registers.near", {}
  for _, row in ipairs(M.commands) do names[#names + 1] = row[1] end
  return fail(("there is no command %q%s; luio --help lists them"):format(name, near.hint(name, names)), 2)
end

-- argparse speaks of its own state in some messages; one line with the expected form.
local function misuse(command, message)
  return fail(("%s: %s (luio %s --help)"):format(command.name, (tostring(message):gsub("%s*\n%s*", "; ")), command.name), 2)
end

-- argparse would take the word behind such an option for its value.
local function complete(command, words)
  local list, plain = {}, false
  for i, word in ipairs(words) do
    plain = plain or word == "--"
    list[i] = not plain and command.optional[word] and word .. "=" or word
  end
  -- An argument of QEMU's begins with a minus, too; an option of QEMU's and its value may be one word.
  for i = command.flags["--qemu"] and 0 or #list, 1, -1 do
    if list[i] == "--qemu" and list[i + 1] then list[i] = "--qemu=" .. table.remove(list, i + 1) end
    local option, value = list[i]:match "^%-%-qemu=(%-%S+)%s+(.+)$"
    if option then
      list[i] = "--qemu=" .. option
      table.insert(list, i + 1, "--qemu=" .. value)
    end
  end
  return list
end

-- A command is over before compiled code pays off. Code of users that goes on, as drivers do, has LuaJIT's own number, 56.
local HOT, GOES_ON = "hotloop=1000", { run = true, explore = true, irq = true }

--- Runs the program.
---@param argv string[]
---@return integer status
function M.main(argv)
  luio.on_warning(function(message) fail(message) end)
  local name = argv[1]
  if not name then return fail("which command? luio --help lists them", 2) end
  if name:match "%.lua$" then return script(argv) end
  if jit and not GOES_ON[name] then jit.opt.start(HOT) end
  if name == "--version" then
    term.print("luio " .. luio.version)
    return 0
  elseif name == "-h" or name == "--help" or (name == "help" and not argv[2]) then
    return help()
  end
  local rest = {}
  for i = 2, #argv do rest[i - 1] = argv[i] end
  if name == "help" then name, rest = argv[2], { "--help" } end
  local command = M.find(name)
  if not command then return unknown(name) end
  local ok, args = M.parser(command):pparse(complete(command, rest))
  if not ok then return misuse(command, args) end
  if name == "run" or name == "explore" then print_at_once() end
  if args.qemu and args.qemu[1] then require("luio.device.settings").qemu = args.qemu end
  if args.vectors then require("luio.device.settings").vectors = args.vectors end
  if not args.json then require("luio.device.settings").on_note = function(text) term.tell("note: " .. text) end end
  local fine, status, message, code = xpcall(command.run, errors.traceback, args, M)
  local closed, why = luio.close_all()
  uv.run "nowait" -- handles that were closed go
  if not fine then return fail(status) end
  if status and not closed then return fail(why, math.max(status, 1)) end
  if status then return status end
  if code == "USAGE" then return misuse(command, message) end
  return fail(message)
end

return M
