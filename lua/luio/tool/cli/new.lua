--- `luio new NAME ID...`: a driver's folder that loads, runs on its model and passes its first spec, to be filled from the
--- datasheet.
---
--- It writes down the known facts: ids, and of a device that is on this machine its regions, their sizes and its class;
--- with --svd the vendor's registers. Nothing is read from a device. A register that is only an example says that reading
--- has an effect, so that nothing that merely looks (`luio dump`) reads an unknown device's bytes. The folder appears
--- whole, by a rename, or not at all. A device of QEMU's needs no model: its spec runs on QEMU.

local addresses = require "luio.host.address"
local common = require "luio.tool.cli.common"
local errors = require "luio.errors"
local discovery = require "luio.host.discovery"
local inspect = require "luio.host.inspect"
local match = require "luio.driver.match"
local output = require "luio.tool.output"
local svd = require "luio.registers.import"
local term = require "luio.text.term"
local trust = require "luio.host.trust"
local uv = require "luv"

-- ---- The device ----------------------------------------------------------------------------------

---@class luio.NewDevice
---@field ids string[]     as entries of `match`
---@field info luio.Info?  of the first id's device, if one is on this machine
---@field qemu string?     its address, if it is one of QEMU's

local function ids_of(info)
  if info.vendor then return { ("pci = \"%04x:%04x\""):format(info.vendor, info.device) } end
  if info.compatible[1] then return { ("of = %q"):format(info.compatible[1]) } end
  return info.uio_name and { ("uio = %q"):format(info.uio_name) } or nil
end

-- A device's address, a PCI id, a name from a device tree ("arm,pl031"), or a UIO driver's name for it
-- ("uio:fabric").
local function add_id(known, text, infos)
  local entry
  if common.is_address(text) then
    local info, message, code = inspect.find(text)
    if not info then return nil, message, code end
    local ids = ids_of(info)
    if not ids then return nil, text .. ": a driver could know it by nothing: it has no PCI id, no compatible, no UIO name", "ENOTSUP" end
    if not known.ids[1] then
      known.info, known.qemu = info, addresses.made(text) == "qemu" and text or nil
    end
    entry = ids[1]
  elseif text:match "^%x%x%x%x:%x%x%x%x$" then
    entry = ("pci = %q"):format(text:lower())
  elseif text:match "^uio:[%w_.,%-]+$" then
    entry = ("uio = %q"):format(text:sub(5))
  elseif text:match "^[%w_.%-]+,[%w_.,%-]+$" then
    entry = ("of = %q"):format(text)
  else
    return nil, ("%q is no id: 1234:11e8 (PCI), arm,pl031 (device tree), uio:NAME, or a device's address (0000:00:04.0, qemu:NAME)")
      :format(text), "USAGE"
  end
  local key, value = entry:match "^(%w+) = \"(.*)\"$"
  for _, info in ipairs(infos) do
    if not known.ids[1] and not known.info and match.fits({ [key] = value }, info) then known.info = info end
  end
  table.insert(known.ids, entry)
  return true
end

-- Index, kind and size of each region; one of a page where no device tells.
local function regions_of(info)
  local list, all = {}, info and inspect.regions(info) or {}
  for i = 0, 15 do
    local r = all[i]
    if r then table.insert(list, { index = i, kind = r.kind or "memory", size = tonumber(r.length or r.size) }) end
  end
  return list[1] and list or { { index = 0, kind = "memory", size = 0x1000 } }
end

-- ---- The files -----------------------------------------------------------------------------------

local EXAMPLE = [[
local luio = require "luio"

-- The datasheet's table of registers; lua/luio/registers/init.lua has the format. State the effects of reading and writing, too:
-- access "w1c", "rc"; read_effect, write_effect. `luio lint drivers/%NAME%` names registers that look as if they had one.
return luio.registers {
  name = "%NAME%",
%WHERE%
%REGIONS%  --        offset width access  fields: bit | { high, low }
  -- An example. Commands that only look do not read it while read_effect is there. Delete that if the datasheet allows reading.
  ID      = { 0x00, 32, "ro", read_effect = "nobody has looked it up yet", REVISION = { 7, 0 } },
}
]]

local INIT = [[
--- %NAME%: the device, and its datasheet (revision, sections).

local %NAME% = { name = "%NAME%", match = %MATCH%, registers = require "drivers.%NAME%.registers" }

-- An interrupt's top half: the register with the cause, and the one that takes it back (lua/luio/top_half.lua).
-- %NAME%.irq = { capture = "STATUS", ack = "STATUS" }
-- DMA: the number of address bits that the device drives.
-- %NAME%.dma = { bits = 32 }

--- Makes the device ready; nil, message, code where that fails. Saving this file exchanges the code of a driver that runs.
function %NAME%.start(dev)
  return true
end

--- Makes the device quiet: no interrupts, no DMA.
function %NAME%.stop(dev)
end
%FUNCTIONS%
return %NAME%
]]

local FUNCTIONS = [[

--- The value of %REGISTER%.
---@return integer
function %NAME%.%FUNCTION%(dev)
  return dev.regs.%REGISTER%:read()
end
]]

local MODEL = [[
--- A model of %NAME%: it behaves as the driver can see the device behave (lua/luio/model.lua).

-- Stated again, not taken from the driver's map: a shared mistake would not be seen.
local %CONSTANT%, %CONSTANT%_AT_RESET = %OFFSET%, %RESET%

local model = {
%IDENTITY%  vectors = 1,
  regions = { %SIZES% },
}

function model.reset(dev)
  dev.held = {} -- written values, by region and offset
end

function model.read(dev, offset, _, region)
  if region == %REGION% and offset == %CONSTANT% then return %CONSTANT%_AT_RESET end
  return dev.held[region .. ":" .. offset] or 0
end

function model.write(dev, offset, _, value, region)
  dev.held[region .. ":" .. offset] = value
  -- dev:raise() where the device would interrupt, dev:lower() when that is taken back
end

return model
]]

local SPEC = [[
--- drivers/%NAME%, on %ON%, or on the device that LUIO_DEVICE names:
---
---     busted --lua=luajit drivers/%NAME%                              (outside of luio's checkout: eval "$(luio env)" first)
---     LUIO_DEVICE=0000:00:04.0 busted --lua=luajit drivers/%NAME%     (once the map is right for it)

local luio = require "luio"

describe("drivers/%NAME%", function()
  local dev
  before_each(function() dev = assert(luio.start("drivers/%NAME%", os.getenv "LUIO_DEVICE" or "%DEVICE%"%OPTIONS%)) end)
  after_each(function() assert(dev:close()) end)

%FIRST%
  -- The next one, before the code that makes it pass:
  -- it("answers within a second", function()
  --   dev.regs.CTRL:write { START = 1 }
  --   assert(dev.regs.STATUS:wait({ READY = 1 }, 1))
  -- end)
end)
]]

local READS = [[
  it("reads %REGISTER%", function()
    assert.equal(%RESET%, dev.driver.%FUNCTION%(dev))
  end)
]]

local IS_FOR = [[
  it("is for this device", function()
    assert.equal("%ID%", %SAID%)
  end)
]]

local function fill(template, words)
  return (template:gsub("%%(%u+)%%", function(word) return words[word] end))
end

-- The first register that can be looked at, in an imported map; the example's else.
local function first_register(map)
  for _, def in ipairs(map and map.children or {}) do
    if def.kind == "register" and def.readable and not def.read_effect and not def.count and def.name:match "^%u[%u%d_]*$" then
      return { name = def.name, offset = def.offset, region = def.region, reset = type(def.reset) == "number" and def.reset or 0 }
    end
  end
  if not map then return { name = "ID", offset = 0, reset = 0x10 } end
end

-- qemu.lua, where QEMU refuses the device without back ends; a disk is one that stays.
local function wiring(known)
  local qemu = known.info and known.info.qemu
  if not known.qemu or not qemu or not next(qemu.usual_wiring) then return nil end
  local lines = {}
  for key, value in pairs(qemu.usual_wiring) do
    local text = key == "drive" and '{ scratch = "64M" }' or type(value) == "table" and ("{ %q, %q }"):format(value[1], value[2])
      or ("%q"):format(value)
    table.insert(lines, ("    [%q] = %s,\n"):format(key, text))
  end
  table.sort(lines)
  return ("--- What QEMU's device is connected to, unless --qemu says otherwise (lua/luio/host/README.md, \"Back ends\").\n"
    .. "return {\n  [%q] = {\n%s  },\n}\n"):format(known.qemu:match "^qemu:([^,]*)", table.concat(lines))
end

local function words_for(name, known, register, qemu)
  local regions, sizes, rows = regions_of(known.info), {}, {}
  for i, r in ipairs(regions) do
    sizes[i] = ("[%d] = { size = 0x%x }"):format(r.index, r.size)
    rows[i] = ("  -- region %d: %s, 0x%x bytes%s"):format(r.index, r.kind == "port" and "I/O ports" or "memory", r.size,
      i > 1 and ("; its registers say region = %d"):format(r.index) or "")
  end
  local info, identity = known.info, ""
  local vendor, id = (known.ids[1]):match "^pci = \"(%x+):(%x+)\""
  if vendor then
    identity = ("  pci = { vendor = 0x%s, device = 0x%s, class = 0x%06x, revision = 0x%02x },\n"):format(vendor, id,
      info and info.class or 0xff0000, info and info.revision or 0)
  end
  local ids = known.ids
  local words = {
    NAME = name, MATCH = ids[2] and "{ { " .. table.concat(ids, " }, { ") .. " } }" or "{ " .. ids[1] .. " }",
    WHERE = regions[1].index > 0 and ("  region = %d,\n"):format(regions[1].index) or "",
    REGIONS = known.info and table.concat(rows, "\n") .. "\n" or "", SIZES = table.concat(sizes, ", "), IDENTITY = identity,
    REGISTER = register.name, FUNCTION = "read_" .. register.name:lower(), CONSTANT = register.name,
    OFFSET = ("0x%02x"):format(register.offset), RESET = ("0x%x"):format(register.reset),
    REGION = tostring(register.region or regions[1].index), ID = (known.ids[1]):match '"(.*)"',
    SAID = vendor and '("%04x:%04x"):format(dev.info.vendor, dev.info.device)' or "dev.info.compatible[1]",
    ON = known.qemu or "its model", DEVICE = known.qemu or "sim:drivers/" .. name, OPTIONS = "",
  }
  if qemu and qemu[1] then
    local quoted = {}
    for i, argument in ipairs(qemu) do quoted[i] = ("%q"):format(argument) end
    words.OPTIONS = (",\n    { qemu = { %s } }"):format(table.concat(quoted, ", "))
  end
  words.FUNCTIONS = known.qemu and "" or fill(FUNCTIONS, words)
  words.FIRST = fill(known.qemu and IS_FOR or READS, words)
  return words
end

-- ---- The command ---------------------------------------------------------------------------------

local function imported(args, dir, info)
  local text, notes, code = svd.import(args.svd, {
    peripherals = #args.peripheral > 0 and args.peripheral or nil, name = args.name, overlay = "registers.overlay.lua",
    region = regions_of(info)[1].index,
  })
  if not text then return nil, notes, code end
  for _, note in ipairs(notes) do term.tell("note: " .. tostring(note)) end
  local chunk, message = loadstring(text, "@" .. dir .. "/registers.lua") -- there its overlay is looked for
  local ok, map = pcall(chunk or error, message)
  if not ok then return nil, ("%s: %s"):format(args.svd, errors.text(map)), "EINVAL" end
  return term.ready(text), map
end

local function write(dir, files)
  local made, why, code = uv.fs_mkdtemp(dir:match "^(.*)/" .. "/.new-XXXXXX")
  if not made then return nil, why, code end
  local ok, message = true, nil
  for name, text in pairs(files) do
    if ok then ok, message = output.file(made .. "/" .. name, text) end
  end
  if ok then
    uv.fs_chmod(made, tonumber("755", 8))
    ok, message = uv.fs_rename(made, dir)
  end
  if ok then return true end
  for name in pairs(files) do os.remove(made .. "/" .. name) end
  uv.fs_rmdir(made)
  return nil, message
end

-- Arguments of QEMU's as they were typed.
local function typed(arguments)
  local text = ""
  for i, argument in ipairs(arguments) do
    local is_value = i > 1 and argument:sub(1, 1) ~= "-" and arguments[i - 1]:sub(1, 1) == "-"
    text = is_value and ("%s %s'"):format(text:sub(1, -2), argument) or ("%s --qemu '%s'"):format(text, argument)
  end
  return text
end

local function new(args)
  local name, known = args.name, { ids = {} }
  if not name:match "^%l[%l%d_]*$" then return nil, ("%q is no name for a driver: small letters, digits, _"):format(name), "USAGE" end
  if loadstring("local " .. name) == nil then return nil, ("%q is a word of Lua's"):format(name), "USAGE" end
  local infos = discovery.list() or {}
  for _, id in ipairs(args.id) do
    local ok, message, code = add_id(known, id, infos)
    if not ok then return nil, message, code end
  end
  local dir = "drivers/" .. name
  if uv.fs_lstat(dir) then return nil, dir .. " is there already; nothing was changed", "EEXIST" end

  -- Where others may write, a driver would not be found afterwards, and `drivers` could be a link of theirs to anywhere.
  local ours, reason, remedy = trust.folder(uv.fs_lstat "drivers" and "drivers" or ".")
  if not ours then
    return nil, ("%s is not begun here, because %s%s"):format(dir, reason, remedy and ": " .. remedy or ""), "EPERM"
  end

  local text, map, code
  if args.svd then
    text, map, code = imported(args, dir, known.info)
    if not text then return nil, map, code end
  end
  local register = first_register(map)
  if not register then
    return nil, ("%s: no register of it can be read without a side effect; -p names another peripheral"):format(args.svd), "EINVAL"
  end
  local words = words_for(name, known, register, args.qemu)
  local made, why, failed = uv.fs_mkdir("drivers", tonumber("755", 8))
  if not made and failed ~= "EEXIST" then return nil, "make the folder drivers: " .. why, failed end
  local ok, message = write(dir, {
    ["registers.lua"] = text or fill(EXAMPLE, words), ["init.lua"] = fill(INIT, words),
    ["qemu.lua"] = wiring(known), ["model.lua"] = not known.qemu and fill(MODEL, words) or nil, [name .. "_spec.lua"] = fill(SPEC, words),
  })
  if not ok then
    if made then uv.fs_rmdir "drivers" end
    return nil, ("%s: %s; nothing was written"):format(dir, message)
  end

  local more = not known.qemu and "model.lua, " or wiring(known) and "qemu.lua, " or ""
  term.print(("%s: registers.lua, init.lua, %s%s_spec.lua"):format(dir, more, name))
  local device = known.qemu and known.qemu .. typed(args.qemu) or "sim:" .. name
  term.tell(("next: busted --lua=luajit %s; luio explore %s; luio run %s %s, and save its init.lua"):format(dir, device, dir, device))
  local others = known.info and match.others(known.info, name)
  if others then term.tell(("note: %s: of several the first by name is taken"):format(others)) end
  return 0
end

return {
  new = {
    options = function(p)
      p:argument("name", "The driver's name. Its folder becomes drivers/NAME."):argname "NAME"
      p:argument("id", "The device: 1234:11e8, arm,pl031, uio:NAME, or an address: 0000:00:04.0, qemu:NAME."):argname "ID":args "+"
      p:option("--svd", "A CMSIS-SVD file with its registers."):argname "FILE"
      p:option("-p --peripheral", "Import only this peripheral of the file. May be repeated."):count "*"
      common.machine(p)
      p:epilog "Example: luio new adc 1234:5678      luio new sound qemu:AC97"
    end,
    run = new,
  },
}
