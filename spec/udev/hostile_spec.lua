--- Text from elsewhere that reaches a terminal. Every command that prints is fed names and texts that would drive a terminal,
--- hide text or pass for a line of luio's own: by sysfs, /proc, a snapshot, a map, a driver, an SVD file, file names. Its output
--- must be readable text, in which only luio's own sequences are sent.
---
--- A command that has no case here fails.

local cli = require "luio.tool.cli"
local term = require "luio.text.term"
local udev = require "spec.support.umockdev"
local files = require "spec.support.files"

-- ESC and C1 sequences, a bell, a bidirectional override, a byte that is no UTF-8, and a line of its own.
local LINE = "EVIL\27[31m\27]0;title\7\194\155\226\128\174\243\160\129\129\255"
local HOSTILE = LINE .. "\nluio: all is well"

-- As Lua source of plain ASCII: umockdev-run takes arguments that are valid in the locale only.
local function source(text)
  return '"' .. text:gsub("[^%w ]", function(c) return ("\\%03d"):format(c:byte()) end) .. '"'
end

-- Runs before each case: files with hostile contents and names, and luio(...), a command in this process: what it printed on
-- both streams, and on standard output alone.
local PRELUDE = ([[
  local LINE, HOSTILE = %s, %s
  local uv, files = require "luv", require "spec.support.files"
  local sysfs, term = require "luio.host.sysfs", require "luio.text.term"
  local root = os.getenv "UMOCKDEV_DIR"
  local DEVICE = "/sys/devices/pci0000:00/0000:00:04.0"
  term.colour = true -- which is when escape sequences are sent at all
  sysfs.proc = root .. "/proc"
  put("/proc/1/comm", "init\n")
  put("/proc/812/cmdline", "luio\0" .. HOSTILE .. "\0")
  put("/proc/812/fd/x", "")
  assert(uv.fs_symlink(DEVICE .. "/config", root .. "/proc/812/fd/7"))
  put("/proc/cmdline", "iommu=" .. LINE .. "\n")

  -- A kernel with a UIO driver, in which every write fails.
  require("luio.host.binding").run_dir = root .. "/run/luio/bind"
  for _, file in ipairs { "bind", "unbind" } do put("/sys/bus/pci/drivers/uio_pci_generic/" .. file, "") end
  put("/sys/bus/pci/drivers_probe", "")
  require("luio.host.process").write = function(path) return nil, ("write %%s: EIO"):format(path), "EIO" end

  -- A map whose words are hostile, in a file whose name is.
  local MAP = root .. "/maps/" .. HOSTILE .. ".lua"
  put("/maps/" .. HOSTILE .. ".lua", ("local H = %%q return require('luio').registers { name = H, description = H, "
    .. "A = { 0x04, 32, 'rw', description = H, section = H, F = { 0, values = { [H] = 1, NONE = 0 }, description = H } }, "
    .. "B = { 0x08, 32, 'ro', read_effect = H }, C = { 0x60, 32, 'wo' }, D = { 0x64, 32, 'wo' }, "
    .. "E = { 0x20, 32, 'rw', F = { 7, values = { [H] = 1 } } }, G = { 0x24, 32, 'ro', F = { 4, values = { [H] = 1 } } } }"):format(HOSTILE))
  -- A map that does not load, and says so in hostile words.
  put("/maps/broken.lua", ("error(%%q, 0)"):format(HOSTILE))

  -- Drivers: one that matches, one that does not load, one whose folder's name is hostile; a model beside the first.
  put("/drivers/evil/init.lua", ("local M = { name = 'evil', match = { pci = '1234:11e8' } } "
    .. "function M.start(dev) dev:warn(%%q) return nil, %%q, 'EIO' end return M"):format(HOSTILE, HOSTILE))
  put("/drivers/evil/model.lua", "local n = 0 return { regions = { [0] = { size = 4096 } }, read = function() n = n + 1 return n end, write = function() end }")
  put("/drivers/broken/init.lua", ("error(%%q, 0)"):format(HOSTILE))
  put("/drivers/" .. HOSTILE .. "/init.lua", "return { name = 'x', match = { pci = ('x'):rep(3) } }")
  put("/drivers/" .. HOSTILE .. "/model.lua", "return {}")
  uv.os_setenv("LUIO_DRIVERS", root)

  local function luio(...)
    local both, _, out = command(...)
    return { both, out }
  end
]]):format(source(LINE), source(HOSTILE))

-- uio0 with hostile names, a PCI device that a kernel driver of such a name has, one that is free.
local function tree()
  local platform = udev.uio(0, { name = LINE, ["maps/map0/name"] = LINE, version = LINE })
  local pci = udev.pci(4, { config = udev.config(0x103), power_state = LINE, modalias = LINE, driver_override = LINE })
  return platform .. udev.device("/devices/platform/tree", "platform", { ["of_node/compatible"] = LINE .. "\0" })
    .. pci:gsub("E: SUBSYSTEM=pci\n", "%0L: driver=../../../bus/pci/drivers/EVIL\27[31m\n") .. udev.pci(5, { config = udev.config(0x103) })
end

-- The calls of each command. `quiet`: its output has no text of the device's. `json`: the spec that has its documents.
local CASES = {
  list = { [[luio "list"]], [[luio("list", "--json")]] },
  info = { [[luio("info", "uio0")]], [[luio("info", "0000:00:04.0")]], [[luio("info", "0000:00:04.0", "--json")]],
    [[luio("info", LINE)]] },
  get = { [[luio("get", "sim:edu", "A", "B", "--map", MAP)]], [[luio("get", "sim:edu", "A", "--map", MAP, "--json")]],
    [[luio("get", "sim:edu", "A", "--map", root .. "/maps/broken.lua")]], [[luio("get", "sim:edu", HOSTILE)]],
    [[luio("get", "sim:" .. HOSTILE, "A")]] },
  set = { [[luio("set", "sim:edu", "E=0x80", "--map", MAP)]], [[luio("set", "sim:edu", "E=0x80", "--map", MAP, "--json")]],
    [[luio("set", "sim:edu", "B=1", "--map", MAP)]], [[luio("set", "sim:edu", "A=" .. HOSTILE)]] },
  dump = { [[luio("dump", "sim:edu", "--map", MAP)]], [[luio("dump", "sim:edu", "0x0+0x10", "--map", MAP)]],
    [[luio("dump", "sim:edu", "--map", MAP, "--json")]] },
  snapshot = { [[luio("snapshot", "sim:edu", "--map", MAP)]], [[luio("snapshot", "sim:edu", "-o", root .. "/nowhere/" .. HOSTILE)]] },
  diff = { [[(function()
      local json = require "dkjson"
      local function save(name, value)
        put("/" .. name, json.encode { luio = "snapshot", version = 1, device = HOSTILE, map = HOSTILE, registers = {
          { path = "A" .. HOSTILE, value = value }, { path = "B" .. HOSTILE .. value, skipped = HOSTILE } } })
        return root .. "/" .. name
      end
      return { luio("diff", save("a" .. HOSTILE, "0x1"), save("b", "0x2")), luio("diff", root .. "/b", root .. "/b", "--map", MAP),
        luio("diff", HOSTILE, "b") }
    end)()]], [[(function()
      local json = require "dkjson"
      local function save(name, value, skipped)
        put("/" .. name, json.encode { luio = "snapshot", version = 1, device = HOSTILE, map = MAP, registers = {
          { path = "A", region = 0, offset = 4, width = 32, value = value }, { path = "B", region = 0, offset = 8, width = 32, skipped = skipped },
          { path = "E", region = 0, offset = 32, width = 32, value = value } } })
        return root .. "/" .. name
      end
      local a, b = save("a", "0x00000001", HOSTILE), save("b", "0x00000080", LINE)
      return { luio("diff", a, b), luio("diff", a, b, "--map", MAP), luio("diff", a, b, "--json") }
    end)()]] },
  watch = { [[luio("watch", "sim:edu", "A", "B", "--map", MAP, "--for", "0.01", "--interval", "0.005", "--force-read")]],
    [[luio("watch", "sim:evil", "A", "--map", MAP, "--for", "0.01", "--interval", "0.005", "--json")]],
    [[luio("watch", "sim:edu", "B", "--map", MAP)]] },
  explore = { [[luio("explore", "sim:edu", "--map", MAP, "-e", "?A", "-e", "dump()", "-e", "regs", "-e", "?E.F", "-e", "A")]],
    [[luio("explore", "sim:edu", "-e", "nothing", "--map", HOSTILE)]],
    [[luio("explore", "sim:edu", "-e", "list()", "-e", "info '0000:00:04.0'")]],
    [[luio("explore", "sim:edu", "-e", ("error(%q, 0)"):format(HOSTILE))]] },
  run = { json = "spec/tool/cli/json_spec.lua", [[luio("run", "evil", "sim:evil", "--no-guardian")]], [[luio("run", "broken", "sim:evil", "--no-guardian")]],
    [[luio("run", HOSTILE, "--no-guardian")]] },
  irq = { [[luio("irq", "sim:edu", "--map", MAP, "--capture", "G", "--ack", "D=G", "--trigger", "C=0x10", "--count", "1")]],
    [[luio("irq", "sim:edu", "--map", MAP, "--capture", "G", "--for", "0.01", "--json")]],
    [[luio("irq", "sim:edu", "--map", MAP, "--capture", HOSTILE, "--for", "0.01")]] },
  dma = { [[luio("dma", "sim:edu", "--json")]], [[luio("dma", "sim:edu", "--file", root .. "/nowhere/" .. HOSTILE)]], [[luio("dma", "sim:edu", "--fill", HOSTILE)]] },
  bind = { [[luio("bind", "0000:00:04.0", "--dry-run")]], [[luio("bind", "0000:00:04.0", "--driver", HOSTILE)]],
    [[luio("bind", "0000:00:04.0", "--dry-run", "--json")]] },
  unbind = { [[luio("unbind", "0000:00:04.0")]], [[(function()
      put("/sys/devices/pci0000:00/0000:00:05.0/driver_override", "")
      put("/run/luio/bind/0000:00:05.0", "driver \nbound uio_pci_generic\nid 1234:11e8\n")
      return luio("unbind", "0000:00:05.0", "--json")
    end)()]], [[luio("unbind", HOSTILE)]] },
  doctor = { [[luio "doctor"]], [[luio("doctor", "0000:00:04.0")]], [[luio("doctor", "uio0")]],
    [[luio("doctor", "0000:00:04.0", "--json")]] },
  import = { [[(function()
      put("/chip.svd", require("spec.registers.import.fixtures").HEAD .. "<peripheral><name>P</name><description>EVIL\194\155\226\128\174</description>"
        .. "<baseAddress>0x1000</baseAddress><registers><register><name>A</name><description>EVIL\194\155\226\128\174</description>"
        .. "<addressOffset>0</addressOffset></register></registers></peripheral>" .. require("spec.registers.import.fixtures").TAIL)
      return { luio("import", "svd", root .. "/chip.svd"), luio("import", "svd", root .. "/" .. HOSTILE) }
    end)()]] },
  new = { [[luio("new", "evil", LINE)]], [[luio("new", HOSTILE, "1234:11e8")]], [[luio("new", "evil", "arm,x", "--svd", root .. "/" .. HOSTILE)]] },
  lint = { [[luio("lint", MAP)]], [[luio("lint", MAP, "--json")]], [[luio("lint", root .. "/maps/broken.lua")]], [[luio("lint", HOSTILE)]] },
  types = { [[luio("types", MAP)]], [[luio("types", HOSTILE)]] },
  env = { [[(function()
      local path = package.path
      package.path = "/" .. LINE .. "/?.lua;" .. path
      local said = luio "env"
      package.path = path
      return said
    end)()]] },
  completion = { quiet = true, [[luio("completion", "bash")]], [[luio("completion", "zsh")]] },
  -- A candidate that a terminal would obey is not offered at all.
  __complete = { quiet = true, [[luio("__complete", "--", "get", "sim:")]], [[luio("__complete", "--", "run", "")]],
    [[luio("__complete", "--", "get", "sim:edu", "--map", MAP, "")]], [[luio("__complete", "--", "get", "uio")]] },
  __man = { quiet = true, [[luio "__man"]] },
}

-- Every string in what a case returned, with its standard output where that is a document.
local function each(said, fn)
  if type(said[1]) == "table" then
    for _, one in ipairs(said) do each(one, fn) end
  else
    fn(said[1], said[2])
  end
end

local function check(command, text, out)

  local shown = ("%s: %q"):format(command, text)
  assert.is_nil(text:find("EVIL[\27\194\226\243\255]"), shown)
  local rest = text:gsub("\27%[%d*[mK]", ""):gsub("\r", "") -- luio's own
  assert.is_nil(rest:find "[%z\1-\8\11-\31\127]", shown)
  assert.equal(rest, (term.ready(rest)), shown) -- nothing else that is not to be sent
  assert.is_nil(("\n" .. rest):find("\nluio: all is well", 1, true), shown)
  if not out:match "^[{%[]" then return false end
  local said, status = files.shell(("jq empty '%s'"):format(files.write("out.json", out)))
  assert.equal(0, status, shown .. "\n" .. said)
  return true
end

-- Whether a command can answer in JSON: asked of its options.
local function has_json(row)
  local flag = false
  local parser = setmetatable({}, { __call = function(self) return self end, __index = function(self)
    return function(_, name)
      flag = flag or name == "--json"
      return self
    end
  end })
  local command = require("luio.tool.cli." .. row[3])[row[1]]
  if command.options then command.options(parser) end
  return flag
end

describe("text from elsewhere", function()
  local all = {}
  for _, rows in ipairs { cli.commands, cli.hidden } do
    for _, row in ipairs(rows) do table.insert(all, row) end
  end

  teardown(files.clean)

  for _, row in ipairs(all) do
    local command = row[1]
    it(("comes out of luio %s as text, and as JSON that jq reads"):format(command), function()
      local cases = assert(CASES[command], "no case for luio " .. command)
      local seen, document = false, false
      for _, code in ipairs(cases) do
        each(udev.run(tree(), PRELUDE .. "return " .. code), function(text, out)
          document = check(command, text, out) or document
          seen = seen or text:find("EVIL", 1, true) ~= nil
        end)
      end
      assert.equal(not cases.quiet, seen) -- it did come that far
      if has_json(row) and not cases.json then assert.is_true(document, "no case with --json gave a document") end
    end)
  end

  it("is written by no other file than luio.text.term, or a prompt that draws itself", function()
    local own = {
      ["text/term.lua"] = true, ["tool/explore/repl.lua"] = true, ["tool/explore/editor.lua"] = true, ["tool/output.lua"] = true,
    }
    local list = io.popen "find lua/luio -name '*.lua'"
    for path in list:lines() do
      for line in not own[path:match "^lua/luio/(.*)$"] and io.lines(path) or function() end do
        local code = line:gsub("%-%-.*", ""):gsub("%-u2 '.*", ""):gsub("p:epilog .*", ""):gsub('"[^"]*"', '""')
        for _, way in ipairs { '%f[%w_.]print%s*[("]', "io%.write", "stderr:write", "stdout:write" } do
          assert.is_nil(code:match(way), path .. ": " .. line)
        end
      end
    end
    list:close()
  end)
end)
