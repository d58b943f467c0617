--- The API reference (`make doc`): it has what users meet, and no reference in it leads nowhere.

local files = require "spec.support.files"
local luacats = require "lua.doc.luacats"
local luio = require "luio"

local DOC = "build/doc"

describe("make doc", function()
  local made, status
  setup(function() made, status = files.shell "env -u MAKEFLAGS make -s doc" end)

  it("makes pages, and complains of nothing", function()
    assert.equal(0, status, made)
    assert.equal("", (made:gsub("%f[^\n%z]  %u+ +build/doc[%w/]*\n", "")))
  end)

  it("has a page for each module and class that users meet, and each function of `luio` on the first", function()
    local first = files.read(DOC .. "/modules/luio.html")
    for name, value in pairs(luio) do
      if type(value) ~= "table" then assert(first:find(('<a name = "%s"></a>'):format(name), 1, true), name .. " is not in the reference") end
    end
    for _, page in ipairs(require "lua.doc.pages") do assert.matches("<h1>Module", files.read(("%s/modules/%s.html"):format(DOC, page[1]))) end
    for _, class in ipairs { "Device", "Region", "Irq", "Dma", "Buffer", "Register", "Registers", "Task", "Pool", "net.Port", "serial.Port" } do
      assert.matches("<h1>Class", files.read(("%s/classes/luio.%s.html"):format(DOC, class)))
    end
  end)

  it("has each function of luio.h and of the headers that it includes", function()
    local tags = files.read(DOC .. "/c.tag")
    local n = 0
    for header in files.shell("ls runtime/luio*.h"):gmatch "%S+" do
      for declaration in files.read(header):gmatch "\nLUIO_API ([^;]*);" do
        local name = declaration:match "([%w_]+)%("
        assert(tags:find(("<name>%s</name>"):format(name), 1, true), name .. " is not in the reference")
        n = n + 1
      end
    end
    assert(n > 100)
  end)

  it("has no link that leads nowhere", function()
    local pages, anchors = {}, {}
    for path in files.shell("cd " .. DOC .. " && find . -name '*.html' -not -path './c/search/*'"):gmatch "%./(%S+)" do
      local text = files.read(DOC .. "/" .. path)
      pages[path], anchors[path] = text, {}
      for anchor in text:gmatch ' name ?= ?"([^"]*)"' do anchors[path][anchor] = true end
      for anchor in text:gmatch ' id="([^"]*)"' do anchors[path][anchor] = true end
    end
    local lost = {}
    for path, text in pairs(pages) do
      for target in text:gmatch '%s[hs]r[ec]f?="([^"]*)"' do
        if not target:match "^%a+:" then
          local file, anchor = target:match "^([^#]*)#?(.*)$"
          file = file == "" and path or (path:match "^(.*/)" or "") .. file
          repeat
            local before = file
            file = file:gsub("[^/]+/%.%./", "", 1)
          until file == before
          local there = pages[file] and (anchor == "" or anchors[file][anchor]) or not pages[file] and io.open(DOC .. "/" .. file)
          if not there then table.insert(lost, path .. " -> " .. target) end
        end
      end
    end
    table.sort(lost)
    assert.same({}, lost)
  end)

  it("says ??? of no reference", function()
    assert.equal("", (files.shell(("grep -rlF '???' %s/modules %s/classes"):format(DOC, DOC))))
  end)
end)

describe("the reader of LuaCATS annotations", function()
  it("parts a type from the text behind it", function()
    for line, kind in pairs {
      ["integer  bytes"] = "integer", ["string? message"] = "string?", ['"read"|"write" which'] = '"read"|"write"',
      ["fun(a: integer, b: string): boolean, string?  text"] = "fun(a: integer, b: string): boolean, string?",
      ["table<string, { x: integer }>? by name"] = "table<string, { x: integer }>?", ["(luio.A|luio.B)[] list"] = "(luio.A|luio.B)[]",
    } do
      local found, rest = luacats.split_type(line)
      assert.equal(kind, found)
      assert.matches("^%l+$", rest == "by name" and "text" or rest == "" and "text" or rest)
    end
  end)
end)
