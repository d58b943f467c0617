--- `make` alone installs nothing, builds from anywhere to anywhere, and tells clangd how each file is compiled.

local files = require "spec.support.files"
local json = require "dkjson"
local uv = require "luv"

-- A folder whose apt-get and sudo leave a file called `installed` beside them.
local function no_installing()
  local _, dir = files.write("apt-get", "#!/bin/sh\ntouch \"${0%/*}/installed\"\n")
  files.shell(("cp %s/apt-get %s/sudo && chmod +x %s/*"):format(dir, dir, dir))
  return uv.cwd() .. "/" .. dir
end

describe("make", function()
  teardown(files.clean)

  it("prints the one line for Debian and the libraries' names where something is missing, and installs nothing", function()
    local dir = no_installing()
    local out, status = files.shell(("env -u MAKEFLAGS -u LUIO_SETUP PATH='%s':\"$PATH\" PKG_CONFIG_LIBDIR=/nonexistent make BUILD='%s/build'")
      :format(dir, dir))
    assert.equal(2, status)
    assert.matches("On Debian 12:\n  sudo apt%-get install %-%-no%-install%-recommends [%l].*libluajit%-5%.1%-dev.*\n"
      .. "Elsewhere, luio is built with a C compiler, pkg%-config, and the headers of LuaJIT 2%.1 and libudev%.", out)
    assert.is_nil(uv.fs_stat(dir .. "/installed"))
  end)

  it("builds outside of the checkout a program that finds its modules and drivers", function()
    local dir = files.shell("mktemp -d"):match "%S+"
    finally(function() files.shell(("rm -rf '%s'"):format(dir)) end)
    local made, failed = files.shell(("env -u MAKEFLAGS make -s BUILD='%s' CFLAGS=-O0 '%s/luio' '%s/libluio.so'"):format(dir, dir, dir))
    assert.equal(0, failed, made)
    assert.same({ "ID 0x0 = 0x010000ed  MAJOR=1 MINOR=0 MAGIC=0xed\n", 0 }, { files.shell(("cd / && '%s/luio' get sim:edu ID"):format(dir)) })
  end)

  it("lists how each C file is compiled, as clangd reads it", function()
    local listed = {}
    for _, entry in ipairs(assert(json.decode(files.read "build/compile_commands.json"))) do
      assert.equal(uv.cwd(), entry.directory)
      assert.equal(entry.file, entry.arguments[#entry.arguments])
      listed[entry.file] = entry.arguments
    end
    for file in files.shell "ls runtime/*.c runtime/board/*.c spec/support/*.c":gmatch "%S+" do assert(listed[file], file) end
    local words = {}
    for i, word in ipairs(listed["runtime/main.c"]) do words[i] = "'" .. word .. "'" end
    assert.same({ "", 0 }, { files.shell(table.concat(words, " ") .. " -fsyntax-only") })
  end)
end)
