--- `luio __man`: the manual page, luio(1), on standard output; `make` writes it to build/luio.1.
---
--- Arguments, options and examples come from the commands' parsers: arguments, options, examples. So the
--- page and --help can't say different things. The prose around it is below. The text is in man(7)'s
--- macros, without what only groff or only mandoc knows.

local DATE = "2026-11-22" -- of the prose; the build's would make each build another

-- ---- roff ----------------------------------------------------------------------------------------

local function code_point(bytes)
  local first = bytes:byte()
  local value = first < 0xe0 and first % 0x20 or first < 0xf0 and first % 0x10 or first % 0x08
  for i = 2, #bytes do value = value * 64 + bytes:byte(i) % 64 end
  return ("\\[u%04X]"):format(value)
end

-- Text to be typed as it stands: roff would turn some of it into typographer's signs.
local literal_signs = { ["\\"] = "\\e", ["-"] = "\\-", ["'"] = "\\(aq", ["`"] = "\\(ga", ["^"] = "\\(ha", ["~"] = "\\(ti" }

local function literal(text)
  text = text:gsub("[\\'`^~-]", literal_signs):gsub("[\192-\247][\128-\191]+", code_point)
  return (text:gsub("^%.", "\\&."))
end

-- Prose: `code` is bold, and so is what looks like an option.
local function prose(text)
  local codes = {}
  local function keep(code)
    codes[#codes + 1] = ("\\fB%s\\fR"):format(literal(code))
    return ("\1%d\2"):format(#codes)
  end
  text = text:gsub("`([^`]+)`", keep):gsub("%f[%w%-]%-%-%a[%w%-]*", keep)
  text = text:gsub("\\", "\\e"):gsub("'", "\\(aq"):gsub("~", "\\(ti"):gsub("[\192-\247][\128-\191]+", code_point)
  return (text:gsub("\1(%d+)\2", function(n) return codes[tonumber(n)] end))
end

-- One sentence a line, so that roff knows where they end, and no line longer than 80: that is its style.
local function sentences(text)
  local lines = {}
  text = text:gsub("%s+", " "):gsub("^ ", ""):gsub(" $", ""):gsub("([%.%?]) (%u)", "%1\n%2")
  for sentence in text:gmatch "[^\n]+" do
    local line = ""
    for word in prose(sentence):gmatch "%S+" do
      if line ~= "" and #line + 1 + #word > 78 then
        lines[#lines + 1] = line
        line = ""
      end
      line = line .. (line ~= "" and " " or word:match "^[.']" and "\\&" or "") .. word
    end
    lines[#lines + 1] = line
  end
  return table.concat(lines, "\n")
end

---@class luio.Page
local Page = {}
Page.__index = Page

---@private
function Page:add(...)
  for _, line in ipairs { ... } do self[#self + 1] = line end
end

-- Paragraphs, set apart by empty lines; those that begin with spaces are examples.
---@private
function Page:text(text)
  for paragraph in (text:gsub("^\n+", "") .. "\n\n"):gmatch "(.-)\n\n+" do
    if paragraph:match "^%s" then self:example(paragraph)
    elseif paragraph ~= "" then self:paragraph(sentences(paragraph)) end
  end
end

---@private
function Page:paragraph(text)
  if not self[#self]:match "^%.S[HS] " then self:add ".PP" end -- it would be one too many
  self:add(text)
end

---@private
function Page:example(text)
  local indent = text:match "^( *)"
  self:add(".PP", ".in +4n", ".EX")
  for line in text:gmatch "[^\n]+" do self:add(literal((line:gsub("^" .. indent, "")))) end
  self:add(".EE", ".in")
end

---@private
function Page:item(label, text)
  self:add(".TP", label, sentences(text))
end

---@private
function Page:section(title, text)
  self:add(".SH " .. title)
  if text then self:text(text) end
end

-- ---- Commands ------------------------------------------------------------------------------------

-- "<place>" -> "PLACE": the placeholder of a value.
local function value_name(element, name)
  if element._choices then return table.concat(element._choices, "|") end
  local argname = element._argname
  if type(argname) == "table" then argname = argname[1] end
  return ((argname or name):gsub("[<>]", ""):upper())
end

local function italic(text)
  return ("\\fI%s\\fR"):format(literal(text))
end

local function bold(text)
  return ("\\fB%s\\fR"):format(literal(text))
end

-- How an argument stands in the line: DEVICE, [DEVICE], PLACE..., [PLACE...]
local function argument_usage(argument)
  local text = italic(value_name(argument, argument._name))
  if argument._maxargs > 1 then text = text .. " ..." end
  return argument._minargs == 0 and "[" .. text .. "]" or text
end

local function long_name(option)
  for _, alias in ipairs(option._public_aliases) do
    local long = alias:match "^%-%-(.*)$"
    if long then return long end
  end
  return option._name:gsub("^%-", "")
end

local function option_label(option)
  local names = {}
  for i, alias in ipairs(option._public_aliases) do names[i] = bold(alias) end
  local label = table.concat(names, ", ")
  local value = option._maxargs > 0 and italic(value_name(option, (long_name(option))))
  if value then label = label .. (option._minargs == 0 and "[" .. value .. "]" or " " .. value) end
  return label
end

local function is_help(option)
  return option._public_aliases[1] == "-h"
end

local function shown(option)
  return not option._hidden and not is_help(option)
end

-- "Notes. Example: ONE      TWO\n         THREE" -> the notes, { ONE, TWO, THREE }.
local function split_epilog(text)
  local notes, rest = text:match "^(.-)Examples?:%s*(.*)$"
  local examples = {}
  for line in (rest or ""):gmatch "[^\n]+" do
    for part in line:gsub("%s%s%s%s+", "\n"):gmatch "[^\n]+" do examples[#examples + 1] = part:match "^%s*(.-)%s*$" end
  end
  return notes or text, examples
end

local function describe(element)
  local text = element._description or ""
  if element._default and element._show_default ~= false and type(element._default) == "string" then
    text = ("%s Default: %s."):format(text, element._default)
  end
  return text
end

---@private
function Page:command(command, parser)
  self:add(".SS " .. literal(command.name))
  local usage = { bold("luio " .. command.name) }
  for _, option in ipairs(parser._options) do
    if shown(option) then
      usage[2] = "[" .. italic "OPTION" .. " ...]"
      break
    end
  end
  for _, argument in ipairs(parser._arguments) do usage[#usage + 1] = argument_usage(argument) end
  self:add(table.concat(usage, " "))
  self:paragraph(sentences(command.summary))
  for _, argument in ipairs(parser._arguments) do
    self:item(italic(value_name(argument, argument._name)), describe(argument))
  end
  for _, option in ipairs(parser._options) do
    if shown(option) then self:item(option_label(option), describe(option)) end
  end
  local notes, examples = split_epilog(parser._epilog or "")
  self:text(notes)
  if examples[1] then self:example("  " .. table.concat(examples, "\n  ")) end
end

-- ---- Prose ---------------------------------------------------------------------------------------

local DESCRIPTION = [[
luio runs Linux device drivers that are written in Lua, and shows and changes registers from the shell. It reaches devices
behind the kernel's UIO drivers, PCI devices through sysfs, physical addresses, and simulated devices.

`luio FILE.lua` runs a script with its arguments in `arg`; `require "luio"` is the library. Each command has `--help`,
with an example.]]

local DEVICES = {
  { "uio0", "The device of /dev/uio0." },
  { "0000:00:04.0", "A PCI device: domain, bus, device, function. A UIO driver is needed to drive it; without one its "
    .. "memory can be read." },
  { "sim:NAME", "A simulated device: the model drivers/NAME/model.lua, on a thread of its own. Needs no hardware and no "
    .. "privileges." },
  { "qemu:NAME", "A device of QEMU's, without a guest: NAME and its properties as QEMU's -device takes them. luio starts the QEMU; "
    .. "`--qemu` gives it more arguments, `luio list --qemu` lists the names. Needs no privileges." },
  { "qemu:/PATH[,id=ID]", "A device of a QEMU that runs: PATH is its QMP socket, which begins with a / or a dot. "
    .. "lua/luio/host/README.md has the arguments that such a QEMU needs." },
  { "mem:0xADDR+0xLEN", "A range of physical addresses by /dev/mem, for prototyping as root where no UIO driver exists. It has no "
    .. "interrupts and no DMA. luio refuses RAM and ranges that a kernel driver has claimed; the error names the driver. "
    .. "`explore` and `set` write only with `--write`." },
}

local DEVICES_NOTE = [[
A register map gives names to registers. luio takes the map of the driver in drivers/ whose `match` fits the device, or the
one that `--map` names. Without a map, places are offsets.]]

local PLACES = {
  { "STATUS", "A register. In blocks and arrays: `CHANNEL[2].CTRL`." },
  { "STATUS.RAISE_IRQ", "A field of it." },
  { "STATUS[7:4]", "Bits of it: high:low, both included. One bit is `[7:7]`." },
  { "CHANNEL[2]", "A block or an array: all registers in it. So is a pattern: `RX*`, `CHANNEL[*].CTRL`." },
  { "0x20:u32", "32 bits at offset 0x20 of region 0, with or without a map. Widths are u8, u16, u32 and u64." },
  { "1:0x20:u16[7:7]", "Bit 7 at offset 0x20 of region 1 (BAR 1)." },
  { "0x0+0x40:u8", "A range: start+length, in bytes. Without a width it is read in 32 bits." },
}

local PLACES_NOTE = [[
An assignment is a place, `=`, and a number (0x7f, 127, 0b1111111, with _ between digits) or the name of a value. Several
fields of one register are written at once:

    luio set uio0 CTRL.MODE=FAST,ENABLE=1

A place is one word. Quote [ ] and * in a shell that takes them for patterns of file names.]]

local LOOKING = [[
`list`, `info`, `get`, `dump`, `snapshot`, `diff`, `watch` and `doctor` never write to a device. They never read a byte whose
read has a side effect by a map, by whatever name or offset the byte is reached; they print the reason instead.
`--force-read` reads it and names what that disturbed. `set` reads before and after a write only where that disturbs nothing.
At an offset that no map describes it reads only with `--read`, or to keep bits that are not named. A PCI device that another
process drives is opened through its BARs, beside that process, which is not disturbed. Other devices are left to that
process. luio knows only the side effects that a map states; `luio lint` names suspects.]]

local STATUS = {
  { "0", "Done." },
  { "1", "Failed or refused. The message on standard error has the reason and the remedy. `diff --exit-code`: "
    .. "something differs. `lint`: there are findings. `doctor`: something stops a driver." },
  { "2", "Wrong usage of the command line." },
}

local STATUS_NOTE = [[
The status of a script is the integer that it returns, or 0. It is 1 if the script or one of its tasks fails.]]

local ENVIRONMENT = {
  { "LUIO_DRIVERS", "Folders that hold a drivers/ folder, separated by colons. A relative folder follows the rule of the current folder." },
  { "LUIO_LIBRARY", "The runtime to load instead of libluio.so, for example one with a sanitizer." },
  { "NO_COLOR", "If set and not empty, output has no colours." },
  { "CLICOLOR_FORCE", "If set and not 0, output has colours even without a terminal." },
  { "XDG_STATE_HOME", "The folder of `explore`'s history. Without it: ~/.local/state." },
}

local FILES = {
  { "drivers/NAME/init.lua", "A driver. luio looks in the folders of LUIO_DRIVERS, in its source tree or where it was installed "
    .. "(PREFIX/share/luio), and last in the current folder, if nobody else may write there; `luio doctor` tells." },
  { "drivers/NAME/registers.lua", "Its register map." },
  { "drivers/NAME/model.lua", "A model of the device: `sim:NAME`." },
  { "~/.local/state/luio/history", "The input at the prompt of `explore`." },
  { "/dev/uioX, /sys/bus/pci/devices/ADDRESS", "The kernel's files for a device. `luio doctor` names missing ones." },
}

local EXAMPLES = [[
List devices, and read a register:

    luio list
    luio get 0000:00:04.0 STATUS

Show the effect of a write:

    luio snapshot uio0 > before.json
    luio set uio0 CTRL.MODE=FAST
    luio diff before.json uio0]]

local function items(page, list)
  for _, row in ipairs(list) do page:item(bold(row[1]), row[2]) end
end

-- ---- The page ------------------------------------------------------------------------------------

local function write(cli)
  local page = setmetatable({}, Page)
  page:add(('.TH LUIO 1 "%s" "luio %s" "User Commands"'):format(DATE, require("luio").version))
  page:section "NAME"
  page:add "luio \\- Linux device drivers as Lua scripts"
  page:section "SYNOPSIS"
  page:add("\\fBluio\\fR \\fICOMMAND\\fR [\\fIARGUMENT\\fR ...]", ".br", "\\fBluio\\fR \\fIFILE\\fR.lua [\\fIARGUMENT\\fR ...]", ".br",
    "\\fBluio\\fR \\fICOMMAND\\fR \\fB\\-\\-help\\fR", ".br", "\\fBluio \\-\\-help\\fR | \\fB\\-\\-version\\fR")
  page:section("DESCRIPTION", DESCRIPTION)
  page:section "COMMANDS"
  for _, row in ipairs(cli.commands) do
    local command = assert(cli.find(row[1]))
    page:command(command, cli.parser(command))
  end
  page:section "DEVICES"
  items(page, DEVICES)
  page:text(DEVICES_NOTE)
  page:section "PLACES"
  items(page, PLACES)
  page:text(PLACES_NOTE)
  page:section('"LOOKING CHANGES NOTHING"', LOOKING)
  page:section '"EXIT STATUS"'
  items(page, STATUS)
  page:text(STATUS_NOTE)
  page:section "ENVIRONMENT"
  items(page, ENVIRONMENT)
  page:section "FILES"
  items(page, FILES)
  page:section("EXAMPLES", EXAMPLES)
  page:section '"SEE ALSO"'
  page:add("\\fBluajit\\fR(1),", "\\fBlspci\\fR(8),", "\\fBsetpci\\fR(8),", "\\fBmodprobe\\fR(8)")
  return table.concat(page, "\n") .. "\n"
end

return {
  __man = {
    run = function(_, cli)
      require("luio.text.term").write(write(cli))
      return 0
    end,
  },
}
