--- luio runs its own Lua and that of the folders and files that were named. It runs no file that another user put into root's
--- current folder. Every command is called in a folder that is set with traps; a trap that is run leaves a mark.

local cli = require "luio.tool.cli"
local files = require "spec.support.files"
local program = require "spec.support.program"
local uv = require "luv"

local ROOT = uv.cwd()
local NOBODY = 65534
local is_root = uv.getuid() == 0

local made = {}

-- A folder of the user's own below /tmp, whose way there nobody else can change.
local function folder()
  local dir = assert(uv.fs_realpath(assert(uv.fs_mkdtemp "/tmp/luio-trust-XXXXXX")))
  table.insert(made, dir)
  return dir
end

local function in_folder(dir, command)
  return files.shell(("cd '%s' && %s"):format(dir, command))
end

local function luio(dir, args)
  return in_folder(dir, ("timeout 20 %s %s"):format(program.PATH, args))
end

-- Lua that leaves a mark, and then is what it stands for.
local function trap(dir, name, rest)
  return ("local f = io.open('%s/mark', 'a') f:write('%s\\n') f:close() %s"):format(dir, name, rest or "")
end

local function marks(dir)
  local f = io.open(dir .. "/mark")
  local text = f and f:read "*a" or ""
  if f then f:close() end
  os.remove(dir .. "/mark")
  return text
end

local REGISTERS = "return require('luio').registers { TRAP = { 0, 32 } }"

-- Every name that luio, or a module it uses, may ask for.
local function set_traps(dir)
  for _, name in ipairs { "luv", "argparse", "dkjson", "bit", "ffi", "lxp", "lpeg", "jit", "jit/opt", "jit/vmdef", "jit/util", "luio", "luio/tool/cli", "luio/init" } do
    files.put(("%s/%s.lua"):format(dir, name), trap(dir, name))
  end
  for _, name in ipairs { "luv.so", "lxp.so", "libluio.so", "libluio.so.0" } do files.put(dir .. "/" .. name, "no library") end
  -- Its own, and one in the place of luio's.
  for _, name in ipairs { "evil", "edu" } do
    local at = ("%s/drivers/%s/"):format(dir, name)
    files.put(at .. "init.lua", trap(dir, "driver", ("return { name = '%s', match = { pci = '1234:11e8' } }"):format(name)))
    files.put(at .. "registers.lua", trap(dir, "map", REGISTERS))
    files.put(at .. "model.lua", trap(dir, "model", "return {}"))
  end
  files.put(dir .. "/snapshot.json", '{ "luio": "snapshot", "version": 1, "device": "sim:edu", "map": "drivers/evil", '
    .. '"registers": [ { "path": "ID", "value": "0x00000000" } ] }')
  files.put(dir .. "/chip.svd", require("spec.registers.import.fixtures").HEAD .. require("spec.registers.import.fixtures").TAIL)
end

-- The calls of each command where the traps are. A command without an entry fails.
local CALLS = {
  list = { "list", "list --json" }, info = { "info sim:edu", "info sim:evil" }, get = { "get sim:edu ID", "get sim:edu ID --map evil" },
  set = { "set sim:edu LIVENESS=1" }, dump = { "dump sim:edu" }, snapshot = { "snapshot sim:edu" },
  diff = { "diff snapshot.json sim:edu", "diff snapshot.json snapshot.json" },
  watch = { "watch sim:edu ID --for 0.01 --interval 0.01" }, explore = { "explore sim:edu -e 'return list(), ID:read()'" },
  run = { "run evil", "run edu uio4711 --wait=0.01", "run evil sim:edu --no-guardian" },
  irq = { "irq sim:edu --for 0.01" }, dma = { "dma sim:edu" }, bind = { "bind 0000:ff:1f.7 --dry-run" }, unbind = { "unbind 0000:ff:1f.7" },
  doctor = { "doctor", "doctor sim:edu" }, import = { "import svd chip.svd" }, lint = { "lint edu", "lint evil" },
  new = { "new trap 1234:11e8", "new trap 1234:11e8 --svd chip.svd" }, types = { "types edu", "types evil" }, env = { "env" }, completion = { "completion bash" },
  __complete = { "__complete -- ''", "__complete -- get ''", "__complete -- get sim:edu ''", "__complete -- get sim:evil ''",
    "__complete -- get sim:edu -m drivers/evil T", "__complete -- get sim:edu -m ./drivers/evil/registers.lua T",
    "__complete -- get sim:drivers/evil T", "__complete -- run ''" },
  __man = { "__man" },
}

describe("in a folder that others may write to", function()
  local dir

  setup(function()
    dir = folder()
    set_traps(dir)
    -- Another user's, where that can be had; else one that everybody may write to, which comes to the same.
    if is_root then assert(os.execute(("chown -R %d '%s'"):format(NOBODY, dir)) == 0)
    else assert(os.execute(("chmod -R a+w '%s'"):format(dir)) == 0) end
  end)

  teardown(function()
    for _, one in ipairs(made) do os.execute(("rm -rf '%s'"):format(one)) end
  end)

  for _, rows in ipairs { cli.commands, cli.hidden } do
    for _, row in ipairs(rows) do
      it(("luio %s runs nothing of it"):format(row[1]), function()
        for _, args in ipairs(assert(CALLS[row[1]], "no call for luio " .. row[1])) do
          local out, status = luio(dir, args)
          assert.equal("", marks(dir), args .. "\n" .. out)
          assert.is_true(status < 124, args .. "\n" .. out)
          assert.is_nil(out:find("no library", 1, true) or out:find("file too short", 1, true) or out:find "TRAP", args .. "\n" .. out)
        end
      end)
    end
  end

  it("neither do luio --version and --help, nor what LUA_PATH brings along", function()
    for _, before in ipairs { "", "LUA_PATH=';;' LUA_CPATH=';;' ", "LUA_PATH='./?.lua;?.lua;;' LUA_CPATH='./?.so;;' " } do
      assert.equal(0, select(2, in_folder(dir, before .. program.PATH .. " --version")))
      assert.equal(0, select(2, in_folder(dir, before .. program.PATH .. " --help")))
      assert.equal("", marks(dir))
    end
  end)

  it("neither does the demonstration, which takes a driver of luio's", function()
    local out, status = luio(dir, ROOT .. "/examples/demo.lua")
    assert.equal("", marks(dir), out)
    assert.equal(0, status, out)
  end)

  it("neither does plain luajit with what luio env prints, whatever was set before", function()
    for _, before in ipairs { "unset LUA_PATH LUA_CPATH", "export LUA_PATH=';;' LUA_CPATH=';;'", "export LUA_PATH='./?.lua;;'" } do
      local out, status = in_folder(dir, ([[%s; eval "$(%s env)"
        luajit -e 'require "luio" require "argparse" require "dkjson" print(package.path .. ";" .. package.cpath)']]):format(
        before, program.PATH))
      assert.equal(0, status, out)
      assert.equal("", marks(dir))
      for entry in out:gmatch "[^;\n]+" do assert.equal("/", entry:sub(1, 1)) end
    end
  end)

  it("and a Lua of another version, which busted may be started by, keeps its own folders", function()
    local said = files.shell(([[unset LUA_PATH LUA_CPATH
      eval "$(%s env)"; eval "$(%s env)"; printf '%%s\n' "$LUA_PATH_5_4" "$LUA_CPATH_5_3"]]):format(program.PATH, program.PATH))
    assert.equal(";;\n;;\n", said)
    local out, status = files.shell(("eval \"$(%s env)\"; busted --lua=luajit --version"):format(program.PATH))
    assert.equal(0, status, out)
  end)

  it("a driver there is refused by name, and why and what else can be done is said, by doctor, too", function()
    local reason = is_root and "is user " .. NOBODY .. "'s" or "may be written by anybody"
    local out, status = luio(dir, "run evil")
    assert.equal(1, status)
    assert.is_truthy(out:find(reason, 1, true) and out:find("LUIO_DRIVERS=" .. dir, 1, true), out)
    out = luio(dir, "doctor")
    assert.is_truthy(out:find(("note     drivers: %s/drivers is not used, because %s"):format(dir, dir), 1, true), out)
    assert.is_truthy(out:find(reason, 1, true), out)
    -- Relative entries of LUIO_DRIVERS are held to the same rule: they mean wherever one is.
    out = in_folder(dir, "LUIO_DRIVERS=. " .. program.PATH .. " lint evil")
    assert.is_truthy(out:find("is not taken", 1, true), out)
    assert.equal("", marks(dir))
  end)

  it("what is named is run: a path, a folder in LUIO_DRIVERS, a script with what its author has put beside it", function()
    luio(dir, "lint drivers/evil")
    assert.equal("map\ndriver\n", marks(dir))
    in_folder(dir, ("LUIO_DRIVERS='%s' %s lint evil"):format(dir, program.PATH))
    assert.equal("map\ndriver\n", marks(dir))
    files.put(dir .. "/script.lua", "print(require('mine').x, require 'argparse' ~= true)")
    files.put(dir .. "/mine.lua", "return { x = 'mine' }")
    if is_root then assert(os.execute(("chown %d '%s/script.lua' '%s/mine.lua'"):format(NOBODY, dir, dir)) == 0) end
    assert.equal("mine\ttrue\n", (luio("/", ("'%s/script.lua'"):format(dir))))
    assert.equal("", marks(dir)) -- argparse is the system's
  end)

  if is_root then
    it("what a third party has put beside a named file is not taken for its author's", function()
      local shared = folder()
      assert(os.execute(("chmod 1777 '%s'"):format(shared)) == 0) -- as /tmp
      files.save(shared .. "/script.lua", "print(pcall(require, 'mine'))")
      files.save(shared .. "/driver.lua", "require 'bit' local ok, why = pcall(require, 'mine') print(why) "
        .. "return { name = 'driver', start = function() return nil, 'enough' end }")
      files.save(shared .. "/map.lua", "return (require('luio').registers { overlay = 'map.overlay.lua', A = { 0, 32 } })")
      for _, name in ipairs { "mine", "bit", "map.overlay" } do
        files.save(("%s/%s.lua"):format(shared, name), trap(shared, name, "return {}"))
        assert(os.execute(("chown %d '%s/%s.lua'"):format(NOBODY, shared, name)) == 0)
      end
      for _, args in ipairs { "script.lua", "run ./driver.lua sim:edu --no-guardian", "lint ./map.lua" } do
        local out = luio(shared, args)
        assert.equal("", marks(shared), args .. "\n" .. out)
        assert.is_truthy(out:find("is user " .. NOBODY .. "'s", 1, true), args .. "\n" .. out)
      end
      -- A FIFO would keep whoever opens it.
      assert(os.execute(("cd '%s' && rm map.overlay.lua && mkfifo map.overlay.lua && chown %d map.overlay.lua"):format(shared, NOBODY)) == 0)
      local out, status = luio(shared, "lint ./map.lua")
      assert.equal(1, status)
      assert.is_truthy(out:find("is user " .. NOBODY .. "'s", 1, true), out)
    end)

    it("what a third party has put where a file is written is not followed", function()
      local shared = folder()
      assert(os.execute(("chown %d '%s'"):format(NOBODY, shared)) == 0)
      local target = folder() .. "/target"
      files.save(target, "root's")
      assert(os.execute(("ln -s '%s' '%s/x.json.tmp' && ln -s '%s' '%s/x.json'"):format(target, shared, target, shared)) == 0)
      assert.equal(0, select(2, luio(shared, "snapshot sim:edu -o x.json")))
      assert.equal("root's", files.read(target))
      assert.matches("LIVENESS", files.read(shared .. "/x.json"))
    end)
  end
end)

describe("in a folder with a driver of a name that luio has", function()
  it("a script that names drivers/edu gets luio's; one that names a path gets that", function()
    local dir = folder()
    finally(function() os.execute(("rm -rf '%s'"):format(dir)) end)
    set_traps(dir)
    local script = folder() .. "/script.lua"
    files.save(script, [[
      local luio = require "luio"
      for _, name in ipairs { "drivers/edu", "drivers/edu/", "edu" } do assert(luio.load(name).factorial) end
      local dev = assert(luio.start("drivers/edu", "sim:edu"))
      assert(dev.driver.factorial(dev, 5) == 120)
      dev:close()]])
    local out, status = luio(dir, script)
    assert.same({ "", 0, "" }, { out, status, marks(dir) })
    files.save(script, "require('luio').load(arg[1])")
    for _, path in ipairs { "./drivers/edu", dir .. "/drivers/edu/init.lua", "drivers/edu/init.lua" } do
      luio(dir, ("%s %s"):format(script, path))
      assert.not_equal("", marks(dir), path)
      set_traps(dir)
    end
  end)
end)

describe("in a folder of one's own", function()
  teardown(function()
    for _, one in ipairs(made) do os.execute(("rm -rf '%s'"):format(one)) end
  end)

  it("drivers/ is used, last, and doctor says so; not once others may write to any of it", function()
    local dir = folder()
    for _, name in ipairs { "mine", "edu" } do
      files.put(("%s/drivers/%s/registers.lua"):format(dir, name), REGISTERS)
      files.put(("%s/drivers/%s/init.lua"):format(dir, name), ("return { name = '%s' }"):format(name))
    end
    assert.equal("1 register, 0 findings\n", (luio(dir, "lint mine")))
    assert.equal("11 registers, 0 findings\n", (luio(dir, "lint edu"))) -- luio's own
    assert.is_truthy(luio(dir, "doctor"):find(("ok       drivers: %s/drivers is used, too"):format(dir), 1, true))
    for _, path in ipairs { "", "/drivers", "/drivers/mine", "/drivers/mine/registers.lua" } do
      for _, mode in ipairs { "g+w", "o+w" } do
        assert(os.execute(("chmod %s '%s%s'"):format(mode, dir, path)) == 0)
        local out, status = luio(dir, "lint mine")
        assert.equal(1, status, path .. mode)
        assert.is_truthy(out:find("is not taken, because " .. dir .. path .. " may be written by", 1, true), out)
        assert(os.execute(("chmod go-w '%s%s'"):format(dir, path)) == 0)
      end
    end
    assert.equal("1 register, 0 findings\n", (luio(dir, "lint mine")))
  end)

  it("a symbolic link to where others may write is followed, and refused", function()
    local dir, elsewhere = folder(), folder()
    files.put(elsewhere .. "/registers.lua", REGISTERS)
    assert(os.execute(("mkdir '%s/drivers' && chmod o+w '%s' && ln -s '%s' '%s/drivers/mine'"):format(dir, elsewhere, elsewhere, dir)) == 0)
    local out, status = luio(dir, "lint mine")
    assert.equal(1, status)
    assert.is_truthy(out:find(elsewhere .. " may be written by anybody", 1, true), out)
  end)

  it("a copy of edu in the checkout is a driver by its name from anywhere, and by its path there", function()
    local dir = folder()
    assert(os.execute(("mkdir -p '%s/build' && cp -R '%s/lua' '%s/drivers' '%s' && cp '%s/build/luio' '%s/build/libluio.so' '%s/build'"):format(
      dir, ROOT, ROOT, dir, ROOT, ROOT, dir)) == 0)
    assert(os.execute(("cd '%s/drivers' && cp -R edu mine && sed -i 's/drivers\\.edu/drivers.mine/; s/name = \"edu\"/name = \"mine\"/' mine/*.lua"):format(dir)) == 0)
    local own = ("'%s/build/luio' "):format(dir)
    assert.equal("11 registers, 0 findings\n", (in_folder("/", own .. "lint mine")))
    assert.is_truthy(in_folder(dir, own .. "get sim:mine ID"):find("0x010000ed", 1, true))
    local p = program.start({ "run", dir .. "/drivers/mine", "sim:mine" }, { program = dir .. "/build/luio" })
    p:wait "driver mine runs"
    p:kill "sigterm"
    assert.equal(0, p:status())
    p:close()
  end)
end)

describe("a driver that loops when it is loaded", function()
  local dir

  setup(function()
    dir = folder()
    local loop = "(function() while true do pcall(function() while true do end end) end end)()"
    files.put(dir .. "/drivers/loops/init.lua", ("return { name = 'loops', match = { pci = %s } }"):format(loop))
    files.put(dir .. "/drivers/loops/registers.lua", "return " .. loop)
  end)

  teardown(function()
    for _, one in ipairs(made) do os.execute(("rm -rf '%s'"):format(one)) end
  end)

  it("keeps list and info from nothing; list says that it is left out", function()
    local out, status = luio(dir, "list")
    assert.equal(0, status)
    assert.is_truthy(out:find("note: only running drivers/loops would tell its match", 1, true), out)
    assert.equal(0, select(2, luio(dir, "info sim:edu")))
  end)

  it("keeps TAB from nothing: it is not asked what it matches, and its map is given up", function()
    for _, words in ipairs { "get ''", "get sim:edu ID", "get sim:loops X", "get uio4711 X" } do
      assert.equal(0, select(2, luio(dir, "__complete -- " .. words)), words)
    end
    assert.equal("ID\n", luio(dir, "__complete -- get sim:edu ID"):match "^ID\n")
  end)

  it("is named by doctor, which goes on", function()
    local out, status = luio(dir, "doctor")
    assert.equal(1, status)
    assert.is_truthy(out:find("driver loops does not load: it did not come to an end within 5 s", 1, true), out)
  end)
end)
