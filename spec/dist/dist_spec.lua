--- The files of `make dist`, on a board that has a C library and nothing else (spec/support/board.lua): this machine's
--- architecture directly, the other one by qemu-user.

local board = require "spec.support.board"
local files = require "spec.support.files"
local json = require "dkjson"
local luio = require "luio"
local program = require "spec.support.program"
local tmux = require "spec.support.tmux"
local uv = require "luv"

for _, arch in ipairs { "amd64", "arm64" } do
  describe("the file for a board, " .. arch, function()
    local b, why
    setup(function() b, why = board.make(arch) end)
    teardown(files.clean)

    local function on_board(name, fn)
      it(name, function()
        if not b then return pending(why) end
        fn()
      end)
    end

    on_board("says which it is, and needs no library but the C library's", function()
      assert.same({ ("luio %s\n"):format(luio.version), 0 }, { b:run "--version" })
      b:put("/tmp/maps.lua", [[
        require "luio"; require "luio.net"; require "lxp"
        assert(require("ffi").load "libedit.so.2")
        for line in io.lines "/proc/self/maps" do print(line:match "%S+$") end]])
      local out, status = b:run "/tmp/maps.lua"
      assert.equal(0, status, out)
      local known = {}
      for path in out:gmatch "(/%S+%.so%S*)" do known[path:match "[^/]+$"] = true end
      for _, name in ipairs { "libluio.so.0", "libudev.so.1", "libedit.so.2", "libc.so.6" } do assert.is_true(known[name], name .. "\n" .. out) end
    end)

    on_board("asks for glibc 2.35 at most, as its README says", function()
      local newest = 0
      for minor in files.shell(("readelf -V '%s%s'/bin/luio '%s%s'/lib/luio/*"):format(b.root, b.prefix, b.root, b.prefix)):gmatch "GLIBC_2%.(%d+)" do
        newest = math.max(newest, tonumber(minor))
      end
      assert.equal(35, newest)
      assert.matches("glibc 2%.35 or newer", files.read(b.root .. b.prefix .. "/README"))
    end)

    on_board("lists the devices", function()
      local out, status = b:run "list --json"
      assert.equal(0, status, out)
      assert.same(#luio.list(), #json.decode(out))
    end)

    on_board("runs a driver on a simulated device, guarded, until it is told to stop", function()
      local p = program.start({ "-c", "exec " .. b:shell "run edu sim:edu" }, { program = "/bin/sh" })
      finally(function() p:close() end)
      p:wait("driver edu runs on device sim:edu 1234:11e8; Ctrl%-C stops it", 30)
      if b.native then
        p:kill("sigkill", p:children()[1])
        p:wait("died of SIGKILL; restart 1 of 5.*driver edu runs again", 30)
      end
      p:kill "sigterm"
      assert.equal(0, p:status(20))
    end)

    on_board("compiles, and has right what its LuaJIT alone has wrong, in threads, too", function()
      local parts = { "local function count() local total = 0" }
      for _, case in ipairs(require "spec.support.compiler.cases") do
        local long = case.fault == "traversal" and not b.native -- emulated
        if not long and (not case.arch or (case.arch == "arm64") == (arch == "arm64")) then
          table.insert(parts, ("do local wrong = 0\n%s\ntotal = total + wrong end"):format(case.code))
        end
      end
      table.insert(parts, "print((jit.status()), total) end count() require('luv').new_thread(count):join()")
      b:put("/tmp/states.lua", table.concat(parts, "\n"))
      assert.same({ "true\t0\ntrue\t0\n", 0 }, { b:run "/tmp/states.lua" })
    end)

    on_board("reads registers, imports a map, and shows the demo", function()
      assert.same({ "ID 0x0 = 0x010000ed  MAJOR=1 MINOR=0 MAGIC=0xed\n", 0 }, { b:run "get sim:edu ID" })
      b:put("/tmp/x.svd", [[<device><name>X</name><peripherals><peripheral><name>P</name><baseAddress>0</baseAddress><registers><register>
        <name>R</name><addressOffset>4</addressOffset><size>32</size></register></registers></peripheral></peripherals></device>]])
      local out, status = b:run "import svd /tmp/x.svd"
      assert.equal(0, status, out)
      assert.matches("R += { 0x0*4, 32", out)
      out, status = b:run "/opt/luio/share/luio/examples/demo.lua"
      assert.equal(0, status, out)
      assert.matches("\nAll as it should be", out)
    end)

    on_board("has no libpcap, and a filter says so", function()
      b:put("/tmp/filter.lua", 'print(require("luio.net.filter").compile "tcp port 80")\n')
      local out, status = b:run "/tmp/filter.lua"
      assert.equal(0, status, out)
      assert.matches("^nil\tfilter \"tcp port 80\": there is no libpcap %(libpcap.so.0.8, .*install libpcap0.8\tENOENT\n", out)
    end)

    on_board("names file and line of an error in the library, and in a driver", function()
      b:put("/tmp/x.lua", 'require("luio").open(1)\n')
      local out, status = b:run "/tmp/x.lua"
      assert.equal(1, status)
      assert.matches("^luio: /tmp/x.lua:1: luio.open wants an address, not number", out)
      assert.is_nil(out:find("luio/tool/cli", 1, true), out) -- luio's own files are left out of tracebacks
      b:put("/tmp/where.lua", 'print(debug.getinfo(require("luio").open, "S").short_src)\n')
      out, status = b:run "/tmp/where.lua"
      assert.same({ "luio/init.lua\n", 0 }, { out, status })
      b:put("/tmp/broken/init.lua", "return {\n")
      out, status = b:run "run /tmp/broken sim:edu"
      assert.equal(1, status)
      assert.matches("/tmp/broken/init.lua:2?1?: ", out)
      out, status = b:run "env"
      assert.same({ "luio: luio's modules are in the program, where luajit can't find them; `luio FILE.lua` runs a script\n", 1 }, { out, status })
    end)

    on_board("has the licence and the source of everything in it", function()
      local dir = b.root .. b.prefix .. "/share/doc/luio/licences"
      local sources = files.read(dir .. "/SOURCES")
      local n = 0
      for name in sources:gmatch "([^\n]+): source package %S+ %S+\n" do
        n = n + 1
        assert.matches("[Cc]opyright", files.read(dir .. "/" .. name))
      end
      assert.equal(select(2, sources:gsub("\n", "")), n)
      for _, name in ipairs { "libluajit-5.1-2", "lua-luv", "libuv1", "lua-expat", "libexpat1", "lua-argparse", "lua-dkjson", "gcc-12-base" } do
        assert.is_truthy(sources:find(name .. ": ", 1, true), name)
      end
      for library in files.shell(("ls '%s%s/lib/luio'"):format(b.root, b.prefix)):gmatch "(lib%a+)%.so" do
        assert.is_truthy(library == "libluio" or sources:match(library .. "%d+: "), library)
      end
      assert.is_truthy(uv.fs_stat(dir .. "/luio"))
    end)

    on_board("explores at a terminal of which the board knows nothing #tmux", function()
      local t = tmux.start(b:shell "explore sim:edu", { env = { TERM = "xterm-256color" } })
      finally(function() t:close() end)
      t:wait "sim:edu>"
      t:type "FACTORIAL:write(5)\n"
      t:type "FACTORIAL:read()\n"
      t:wait "120 = 0x78"
      assert.is_nil(t:screen():match "dumb")
    end)
  end)
end
