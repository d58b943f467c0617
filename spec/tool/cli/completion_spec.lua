--- Completion in shells: the candidates of `luio __complete`, and the expected result of a TAB in bash
--- and zsh.

local luio = require "luio"
local cli = require "luio.tool.cli"
local files = require "spec.support.files"
local tmux = require "spec.support.tmux"
local uv = require "luv"
local shell = files.shell

local ROOT = uv.cwd()
local LUIO = ROOT .. "/build/luio"

local function quoted(word) return "'" .. word:gsub("'", "'\\''") .. "'" end

-- The completions of the last word.
local function offered(...)
  local words = {}
  for i, word in ipairs { ... } do words[i] = quoted(word) end
  local out, status = shell(("%s __complete -- %s"):format(quoted(LUIO), table.concat(words, " ")))
  assert.equal(0, status)
  local list = {}
  for line in out:gmatch "[^\n]+" do table.insert(list, line) end
  return list
end

local function has(list, word)
  for _, candidate in ipairs(list) do
    if candidate == word then return true end
  end
  return false
end

describe("luio __complete", function()
  teardown(files.clean)

  it("offers commands, and none that is hidden", function()
    local list = offered ""
    for _, row in ipairs(cli.commands) do assert.is_true(has(list, row[1]), row[1]) end
    for _, row in ipairs(cli.hidden) do assert.is_false(has(list, row[1])) end
    assert.same({ "import" }, offered "im")
    assert.same({ "import" }, offered("help", "im"))
    assert.same({ "--help" }, offered "--h")
    assert.same({ ":files lua" }, offered "scri")
    assert.same({ ":files" }, offered("script.lua", "x"))
  end)

  it("offers options from the command's own parser; none twice", function()
    assert.same({ "--help", "--qemu", "--json" }, offered("list", ""))
    assert.same({ "-h", "--help", "--qemu", "--json" }, offered("list", "-"))
    assert.same({ "--json" }, offered("get", "sim:edu", "--j"))
    assert.same({}, offered("get", "sim:edu", "--json", "--j"))
    assert.same({}, offered("get", "sim:edu", "--", "--j"))
  end)

  it("offers devices: addresses, UIO names, simulated ones", function()
    assert.same({ "sim:e1000e", "sim:edu" }, offered("get", "sim:e"))
    assert.same({ "sim:edu" }, offered("get", "sim:ed"))
    assert.same({ "sim:edu", ":files" }, offered("diff", "a.json", "sim:ed"))
    for _, info in ipairs(luio.list()) do
      assert.is_true(has(offered("info", info.address:sub(1, 4)), info.address))
      if info.bus == "pci" then assert.is_true(has(offered("bind", ""), info.address)) end
    end
    assert.is_false(has(offered("bind", "s"), "sim:edu"))
  end)

  it("offers registers, fields and values of the device's map", function()
    assert.same({ "STATUS", "STATUS.COMPUTING", "STATUS.RAISE_IRQ" }, offered("get", "sim:edu", "ST"))
    assert.same({ "ID.MAGIC" }, offered("get", "sim:edu", "STATUS", "ID.MAG"))
    assert.same({ "DMA_CMD.DIRECTION=" }, offered("set", "sim:edu", "DMA_CMD.DI"))
    assert.same({ "DMA_CMD.DIRECTION=TO_DEVICE", "DMA_CMD.DIRECTION=TO_RAM" }, offered("set", "sim:edu", "DMA_CMD.DIRECTION="))
    assert.same({ "STATUS.COMPUTING=" }, offered("watch", "sim:edu", "--until", "STATUS.C"))
    assert.same({ "--until=STATUS.COMPUTING=" }, offered("watch", "sim:edu", "--until=STATUS.C"))
    assert.same({ "IRQ_RAISE=" }, offered("irq", "sim:edu", "--trigger", "IRQ_R"))
    assert.same({ "0x20:u32" }, offered("get", "sim:nothing", "0x20:u3"))
    assert.same({}, offered("get", "sim:nothing", "ST"))
  end)

  it("offers registers of the map that is on the line", function()
    -- Where nobody else may write, whatever the umask was when this was checked out.
    local dir = assert(uv.fs_mkdtemp "/tmp/luio-completion-XXXXXX")
    finally(function() os.execute("rm -r " .. dir) end)
    local map = dir .. "/map.lua"
    files.save(map, "return require('luio').registers { OWN = { 0, 32, FIELD = 0 } }")
    assert.same({ "OWN", "OWN.FIELD" }, offered("get", "sim:edu", "--map", map, ""))
    assert.same({ "OWN", "OWN.FIELD" }, offered("get", "--map=" .. map, "uio4711", "O"))
    assert.same({ "OWN", "OWN.FIELD" }, offered("dump", "--map=" .. map, "O")) -- without a device
    assert(uv.fs_mkdir(dir .. "/inside", 448))
    files.save(dir .. "/inside/init.lua", "return { name = 'inside', registers = require('luio').registers { OWN = { 0, 32, FIELD = 0 } } }")
    assert.same({ "OWN", "OWN.FIELD" }, offered("get", "sim:edu", "--map", dir .. "/inside", ""))
    assert.same({ "RDBAL", "RDBAL[0]", "RDBAL[1]" }, { "RDBAL", unpack(offered("get", "-m", "e1000e", "x", "RDBAL")) })
  end)

  it("offers drivers, choices, and files of the kind that is meant", function()
    assert.same({ "edu", ":files lua" }, offered("run", "ed"))
    assert.same({ "uart16550", ":files lua" }, offered("lint", "ua"))
    assert.same({ "--map=uart16550", ":files lua" }, offered("dump", "sim:edu", "--map=ua"))
    assert.same({ "svd" }, offered("import", "s"))
    assert.same({ ":files svd xml" }, offered("import", "svd", "chip"))
    assert.same({ ":files" }, offered("import", "svd", "chip.svd", "-o", ""))
    assert.same({ "bash", "zsh" }, offered("completion", ""))
    assert.same({ "address", "count", "random" }, offered("dma", "sim:edu", "--fill", ""))
  end)

  it("offers nothing where something goes wrong; why a map or a driver can't be had is in its answer, for the shell to show", function()
    assert.same({}, offered("nonsense", ""))
    assert.same({}, offered("get", "uio4711", "S"))
    assert.same({}, offered("get", "sim:edu", "--map", "/nowhere.lua", "S"))
    local broken = files.write("broken.lua", "error 'boo'")
    assert.same({ (":why %s:1: boo"):format(broken) }, offered("get", "sim:edu", "--map", broken, "S"))
  end)

  it("starts no model and opens no device", function()
    -- A model that leaves a mark when it is loaded.
    local mark = files.write("mark", "")
    local _, dir = files.write("unused", "")
    files.put(dir .. "/drivers/marked/model.lua", ("io.open(%q, 'w'):write 'started' return {}"):format(ROOT .. "/" .. mark))
    files.put(dir .. "/drivers/marked/init.lua",
      "local luio = require 'luio' return { name = 'marked', registers = luio.registers { A = { 0, 32 } } }")
    local out = shell(("export LUIO_DRIVERS=$PWD/%s; %s __complete -- get sim:mark; %s __complete -- get sim:marked ''"):format(
      dir, LUIO, LUIO))
    assert.equal("sim:marked\nA\n", out)
    assert.equal("", files.read(mark))
  end)
end)

-- ---- Shells ----------------------------------------------------------------------------------------

local function installed(program)
  return (os.execute("command -v " .. program .. " >/dev/null")) == 0
end

-- A shell in a terminal, in a folder with a few files.
local function open(command, lines)
  local dir = select(2, files.write("chip.svd", ""))
  for _, name in ipairs { "my chip.svd", "notes.txt", "own.lua" } do files.save(dir .. "/" .. name, "") end
  os.execute(("mkdir -p '%s/sub'"):format(dir))
  local t = tmux.start(("cd '%s' && exec %s"):format(dir, command), {
    columns = 120, env = { PATH = ROOT .. "/build:" .. os.getenv "PATH", HISTFILE = "", HOME = ROOT .. "/" .. dir },
  })
  for _, line in ipairs(lines) do t:type(line .. "\n") end
  t:type "PS1='> '; echo ready-$((40 + 2))\n"
  t:wait "ready-42"
  return t
end

-- Types text and TAB: the line becomes what is expected, up to the cursor, where a mark is typed.
local function becomes(t, text, expected)
  t:key("C-e", "C-u", "C-l")
  t:wait_last ">"
  t:type(text)
  t:key "Tab"
  pcall(t.wait_last, t, "> " .. expected:gsub(" $", "")) -- the screen has no spaces at the ends of lines
  t:type "#"
  t:wait_last("> " .. expected .. "#")
end

-- The same expectations of all: what is typed, and what the line then is.
local LINES = {
  { "luio imp", "luio import " },
  { "luio get sim:ed", "luio get sim:edu " },
  { "luio get sim:edu STATUS.R", "luio get sim:edu STATUS.RAISE_IRQ " },
  { "luio get sim:edu STA", "luio get sim:edu STATUS" }, -- no space: fields may follow
  { "luio set sim:edu DMA_CMD.DIR", "luio set sim:edu DMA_CMD.DIRECTION=" },
  { "luio set sim:edu DMA_CMD.DIRECTION=TO_D", "luio set sim:edu DMA_CMD.DIRECTION=TO_DEVICE " },
  { "luio set sim:edu DMA_CMD.RUN=1,DIRECTION=TO_R", "luio set sim:edu DMA_CMD.RUN=1,DIRECTION=TO_RAM " },
  { "luio watch sim:edu --until=STATUS.COM", "luio watch sim:edu --until=STATUS.COMPUTING=" },
  { "luio get 'sim:ed", "luio get 'sim:edu' " },
  { 'luio get sim:edu "STATUS.R', 'luio get sim:edu "STATUS.RAISE_IRQ" ' },
  { "luio get x --map e1000e 'RXDCTL[1].HT", "luio get x --map e1000e 'RXDCTL[1].HTHRESH' " },
  { "luio get sim:edu 0x20:u3", "luio get sim:edu 0x20:u32 " },
  { "luio import svd ch", "luio import svd chip.svd " },
  { "luio import svd my", "luio import svd my\\ chip.svd " },
  { "luio lint su", "luio lint sub/" },
  { "luio dump sim:edu --map=ow", "luio dump sim:edu --map=own.lua " },
  { "luio dump sim:edu --map=uart", "luio dump sim:edu --map=uart16550 " },
  { "luio snapshot sim:edu >no", "luio snapshot sim:edu >notes.txt " },
  { ROOT .. "/build/luio complet", ROOT .. "/build/luio completion " },
}

describe("completion in", function()
  local terminal
  after_each(function()
    if terminal then terminal:close() end
    terminal = nil
    files.clean()
  end)

  -- A PCI device's address has colons and points; a machine without one has nothing to try that on.
  local function addresses(t)
    local infos = luio.list()
    if not infos[1] then return end
    local typed, n = infos[1].address:sub(1, -2), 0
    for _, info in ipairs(infos) do n = n + (info.address:sub(1, #typed) == typed and 1 or 0) end
    if n == 1 then becomes(t, "luio info " .. typed, "luio info " .. infos[1].address .. " ") end
  end

  local function bash(lines)
    if not installed "tmux" then
      pending "no tmux"
      return false
    end
    table.insert(lines, 'eval "$(luio completion bash)"')
    terminal = open("bash --norc --noprofile -i", lines)
    for _, line in ipairs(LINES) do becomes(terminal, line[1], line[2]) end
    becomes(terminal, "luio get x --map e1000e RXDCTL[1].HT", "luio get x --map e1000e RXDCTL[1].HTHRESH ")
    addresses(terminal)
    return true
  end

  it("bash", function()
    if not bash {} then return end
    becomes(terminal, "true; luio get sim:ed", "true; luio get sim:edu ")
  end)

  it("bash with the bash-completion package", function()
    local package = "/usr/share/bash-completion/bash_completion"
    if not uv.fs_stat(package) then return pending("no " .. package) end
    if not bash { ". " .. package } then return end
    becomes(terminal, "sudo luio get sim:ed", "sudo luio get sim:edu ")
  end)

  it("bash that breaks words at other places", function() bash { "COMP_WORDBREAKS=${COMP_WORDBREAKS//[:=]/}" } end)

  it("zsh", function()
    if not installed "tmux" then return pending "no tmux" end
    if not installed "zsh" then return pending "no zsh" end
    terminal = open("zsh -f -i", { "autoload -Uz compinit && compinit -u -D; setopt no_beep", 'eval "$(luio completion zsh)"' })
    for _, line in ipairs(LINES) do becomes(terminal, line[1], line[2]) end
    becomes(terminal, "luio get x --map e1000e RXDCTL\\[1\\].HT", "luio get x --map e1000e RXDCTL\\[1\\].HTHRESH ")
    becomes(terminal, "luio get x --map e1000e RXDCT", "luio get x --map e1000e RXDCTL\\[")
    addresses(terminal)
  end)

  it("bash and zsh that find the installed files by themselves", function()
    local package = "/usr/share/bash-completion/bash_completion"
    if not installed "tmux" or not installed "zsh" or not uv.fs_stat(package) then return pending "no tmux, zsh or bash-completion" end
    local dir = ROOT .. "/" .. select(2, files.write("_luio", (shell(LUIO .. " completion zsh"))))
    shell(("mkdir -p '%s/completions' && '%s' completion bash > '%s/completions/luio'"):format(dir, LUIO, dir))
    terminal = open("bash --norc --noprofile -i", { ("BASH_COMPLETION_USER_DIR='%s'"):format(dir), ". " .. package })
    becomes(terminal, "luio get sim:edu STATUS.R", "luio get sim:edu STATUS.RAISE_IRQ ")
    terminal:close()
    terminal = open("zsh -f -i", { ("fpath=('%s' $fpath)"):format(dir), "autoload -Uz compinit && compinit -u -D" })
    becomes(terminal, "luio get sim:edu STATUS.R", "luio get sim:edu STATUS.RAISE_IRQ ")
    becomes(terminal, "luio get sim:edu ID.MAG", "luio get sim:edu ID.MAGIC ")
  end)

  it("zsh says what it needs", function()
    if not installed "zsh" then return pending "no zsh" end
    local out = shell(("zsh -f -c 'eval \"$(%s completion zsh)\"'"):format(LUIO))
    assert.equal("luio: completion needs: autoload -Uz compinit && compinit\n", out)
  end)

  it("bash, asked directly: only what stands before the cursor counts", function()
    local script = files.write("ask.sh", ([[
      source <(%s completion bash)
      PATH=%s/build:$PATH
      COMP_LINE=$1 COMP_POINT=${2:-${#1}}
      _luio
      printf '%%s\n' "${COMPREPLY[@]}"
    ]]):format(LUIO, ROOT))
    local function ask(line, point) return (shell(("bash %s %s %s"):format(script, quoted(line), point or ""))) end
    assert.equal("edu\n", ask "luio get sim:ed")
    -- Two that begin differently: they are shown, and nothing is inserted.
    local broken = files.write("broken.lua", "error 'boo'")
    assert.equal(("luio: %s/%s:1: boo\n \n"):format(ROOT, broken), ask(("luio get sim:edu --map %s/%s S"):format(ROOT, broken)))
    local models = ask "luio get s"
    assert.matches("sim:e1000e\nsim:edu\n", models)
    assert.equal("", (models:gsub("sim:[%w_]+\n", ""))) -- and other drivers'
    assert.equal("get\n", ask("luio get sim:edu STATUS", 6))
    assert.equal("TO_DEVICE\nTO_RAM\n", ask "luio set sim:edu DMA_CMD.DIRECTION=")
    assert.equal("STATUS.RAISE_IRQ\n", ask "luio  get 2>/dev/null\tsim:edu   STATUS.R")
    assert.equal("STATUS.RAISE_IRQ\n", ask [[luio get 'sim:'"edu" STATUS.R]])
    assert.equal("\n", ask "luio get '; touch /tmp/x $(echo x)' `ls` S")
  end)
end)
