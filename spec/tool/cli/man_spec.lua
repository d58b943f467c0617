--- The manual page: it names all there is, and formats without a complaint.

local luio = require "luio"
local cli = require "luio.tool.cli"
local files = require "spec.support.files"
local shell = files.shell

local LUIO = require("spec.support.program").PATH

local function installed(program)
  return (os.execute("command -v " .. program .. " >/dev/null")) == 0
end

describe("luio(1)", function()
  local page, path
  setup(function()
    local status
    page, status = shell(LUIO .. " __man")
    assert.equal(0, status)
    path = files.write("luio.1", page)
  end)
  teardown(files.clean)

  -- As it is read, without bold and underline.
  local function read()
    return (shell(("groff -man -Tutf8 -P-cbou '%s'"):format(path)))
  end

  it("has every command, with all of its arguments and options, and its examples", function()
    local plain = page:gsub("\\f[BIR]", ""):gsub("\\%-", "-"):gsub("\\%(aq", "'")
    for _, row in ipairs(cli.commands) do
      local command = assert(cli.find(row[1]))
      local section = plain:match("\n%.SS " .. row[1] .. "\n(.-)\n%.S[SH] ")
      assert.is_string(section, row[1])
      local parser = cli.parser(command)
      for _, option in ipairs(parser._options) do
        for _, alias in ipairs(option._public_aliases) do
          if alias ~= "-h" and alias ~= "--help" then
            -- The whole word: -o is not in --option.
            assert.is_truthy(section:find("%f[%w-]" .. alias:gsub("%p", "%%%0") .. "%f[^%w-]"), row[1] .. " " .. alias)
          end
        end
      end
      for _, argument in ipairs(parser._arguments) do
        assert.is_truthy(section:gsub("%s+", " "):find(argument._description:sub(1, 20), 1, true), row[1] .. " " .. argument._name)
      end
      assert.is_truthy(section:find(".EX", 1, true), row[1] .. " has no example")
    end
    for _, row in ipairs(cli.hidden) do assert.is_nil(page:find(row[1], 1, true)) end
  end)

  it("explains addresses, places, exit status, environment and files", function()
    for _, heading in ipairs { "NAME", "SYNOPSIS", "DESCRIPTION", "COMMANDS", "DEVICES", "PLACES", '"LOOKING CHANGES NOTHING"', '"EXIT STATUS"',
      "ENVIRONMENT", "FILES", "EXAMPLES", '"SEE ALSO"' } do
      assert.is_truthy(page:find("\n.SH " .. heading .. "\n", 1, true), heading)
    end
    for _, name in ipairs { "LUIO_DRIVERS", "LUIO_LIBRARY", "NO_COLOR", "CLICOLOR_FORCE", "XDG_STATE_HOME", luio.version } do
      assert.is_truthy(page:find(name, 1, true), name)
    end
  end)

  it("is written in places that the parser takes", function()
    local place = require "luio.tool.explore.place"
    local section = page:match '\n%.SH PLACES\n(.-)\n%.SH '
    local n = 0
    for text in section:gmatch "%.TP\n\\fB(.-)\\fR\n" do
      assert(place.parse((text:gsub("\\%-", "-"))))
      n = n + 1
    end
    assert.is_true(n >= 7)
  end)

  it("says the same each time", function()
    assert.equal(page, (shell("cd / && " .. LUIO .. " __man")))
  end)

  it("formats without a warning from groff", function()
    if not installed "groff" then return pending "no groff" end
    assert.equal("", (shell(("groff -man -Tutf8 -ww -z '%s'"):format(path))))
    local text = read()
    assert.matches("\n +luio get uio0 STATUS.RAISE_IRQ\n", text)
    assert.matches("%-%-force%-read\n", text)
    for line in text:gmatch "[^\n]+" do assert.is_true(#line:gsub("[\128-\191]", "") <= 80, line) end
  end)

  it("formats without a complaint from mandoc", function()
    if not installed "mandoc" then return pending "no mandoc" end
    assert.equal("", (shell(("mandoc -T lint '%s'"):format(path))))
  end)
end)
