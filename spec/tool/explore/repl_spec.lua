--- `luio explore` as a person uses it: in a real terminal, under tmux; and without one.

local files = require "spec.support.files"
local interrupted = require "spec.support.interrupted"
local program = require "spec.support.program"
local tmux = require "spec.support.tmux"
local uv = require "luv"
local shell = files.shell

local LUIO = program.PATH
local EXPLORE = LUIO .. " explore sim:edu"

describe("luio explore without a terminal", function()
  teardown(files.clean)

  it("runs chunks in one session, and prints what expressions give", function()
    local out, status = shell(EXPLORE .. [[ -e 'x = 6' -e 'x * 7' -e STATUS -e 'ID:get "MAGIC", nil' -e '?ID' </dev/null]])
    assert.equal(0, status)
    assert.matches("^42 = 0x2a\nSTATUS 0x20 = 0x00000000  RAISE_IRQ=0 COMPUTING=0\n237 = 0xed  nil\nID  0x0, 32 bits", out)
    assert.is_nil(out:find "\27")
  end)

  it("runs standard input line by line, as the prompt: values shown, several lines where they are needed", function()
    local script = files.write("lines.txt", table.concat({
      "-- a comment", "STATUS", "x = {", "  1,", "}", "x", "for i = 1, 2 do", "  print(i)", "end", "", "local function f()", "  return 7", "end",
      "f()", "?STATUS.RAISE_IRQ", "??factorial", "help irqs", "= 1 + 1", "exit", "print 'not this'",
    }, "\r\n"))
    local out, status = shell(EXPLORE .. " < " .. script)
    assert.equal(0, status)
    assert.matches("^STATUS 0x20 = 0x00000000  RAISE_IRQ=0 COMPUTING=0\n{ 1 }\n1\n2\n7\nSTATUS%.RAISE_IRQ  bit 7.*\nirqs%(.-more\n2\n$", out)
    assert.same({ "1\n", 0 }, { shell("printf 'x = 1\nx' | " .. EXPLORE) })
  end)

  it("ends a script at the first line that fails, which it names", function()
    for text, message in pairs {
      ["print(1)\n\n?NOPE\nprint(2)\n"] = "stdin:3: no register NOPE\n",
      ["print(1)\n\n\nx = {\n 1 +\n nil }\nprint(2)\n"] = "stdin:6: attempt to perform arithmetic on a nil value\n",
      ["print(1)\na b\nprint(2)\n"] = "stdin:2: '=' expected near 'b'\n",
      ["print(1)\n= nope()\n"] = "stdin:2: attempt to call global 'nope' (a nil value)\n",
      ["print(1)\nget 'NOPE'\n"] = "stdin:2: the map has no register NOPE\n  stdin:2\n",
      ["print(1)\nfor i = 1, 2 do\nprint(2)\n"] = "stdin:3: 'end' expected (to close 'for' at line 2) near '<eof>'\n",
    } do
      assert.same({ "1\nluio: " .. message, 1 }, { shell(EXPLORE .. " < " .. files.write("script.lua", text)) })
    end
  end)

  it("helps with every name and function there is, in parentheses, quotes or neither", function()
    local forms = { "help irqs", "help(irqs)", "help 'irqs'", 'help("irqs")', "?irqs" }
    local out, status = shell(EXPLORE .. " < " .. files.write("help.txt", table.concat(forms, "\n")))
    assert.equal(("irqs([{ capture =, ack = }])  shows interrupts as they come; taken so; false: no\n  more\n"):rep(#forms), out)
    assert.equal(0, status)
    local every = { "_", "exit", "STATUS", "STATUS.RAISE_IRQ", "luio.sleep", "luio.open", "string.format", "print" }
    local list = shell(EXPLORE .. " -e 'help()'")
    for name in list:gmatch "\n  ([%a]+)[^\n]*" do every[#every + 1] = name end
    local lines = {}
    for _, name in ipairs(every) do table.insert(lines, ("print '== %s'\nhelp %s\n"):format(name, name)) end
    out, status = shell(EXPLORE .. " < " .. files.write("help.txt", table.concat(lines)))
    assert.equal(0, status, out)
    for _, name in ipairs(every) do assert.is_truthy(out:find(("== %s\n%s"):format(name, name), 1, true), name .. "\n" .. out) end
    assert.matches("^luio%.sleep  a function, .*luio/loop/[%w_]+%.lua:%d+\n  Waits", (shell(EXPLORE .. " -e 'help(luio.sleep)'")))
    assert.matches("^STATUS  0x20, 32 bits", (shell(EXPLORE .. " -e 'help(STATUS)'")))
    assert.same({ "luio: no register nope\n", 1 }, { shell(EXPLORE .. " -e 'help nope'") })
  end)

  it("shows an array's registers by looking, with what is not read and how many there are more", function()
    local map = files.write("arrays.lua", [[return require("luio").registers {
      TABLE = { 0x0, 32, "ro", count = 20, ADDR = 0 },
      CHANNEL = { 0x80, count = 2, stride = 8, block = { CTRL = { 0, 32 }, DATA = { 4, 32, read_effect = "pops" } } } }]])
    local out = shell(("%s --map %s -e TABLE -e CHANNEL -e '{ CHANNEL }'"):format(EXPLORE, map))
    assert.matches("^TABLE: 20 elements of 0x4 bytes at 0x0\nTABLE%[0%]   0x0 = 0x010000ed  ADDR=1\n", out)
    assert.matches('\nTABLE%[15%] 0x3c = %x+[^\n]*\n%.%.%. 4 more registers: dump "TABLE" shows all\nCHANNEL: 2', (out:gsub("= 0x", "= ")))
    assert.matches("\nCHANNEL%[1%]%.CTRL 0x88 = [^\n]*\nCHANNEL%[1%]%.DATA 0x8c   %(not read: pops%)\n{ CHANNEL: 2[^\n]* %.%.%. }\n$", out)
  end)

  it("runs a script on standard input whose locals are for the lines below", function()
    local script = files.write("script.lua", "local a = 5\nprint(a)\nluio.sleep(0.01)\nprint(STATUS:get 'COMPUTING')\n")
    assert.same({ "5\n0\n", 0 }, { shell(EXPLORE .. " < " .. script) })
    assert.same({ "237 = 0xed\n", 0 }, { shell("echo 'ID:read() % 256' | " .. EXPLORE) })
  end)

  it("ends at the first error, with its line, and status 1", function()
    local script = files.write("script.lua", "print(1)\nlocal function f() error 'boo' end\n\nf()\nprint(2)\n")
    assert.same({ "1\nluio: stdin:2: boo\n  stdin:2 in f\n  stdin:4\n", 1 }, { shell(EXPLORE .. " < " .. script) })
    assert.same({ "luio: -e:1: STATUS has no field X\n", 1 }, { shell(EXPLORE .. [[ -e 'STATUS:get "X"' -e 'print(1)']]) })
    assert.same({ "luio: -e:1: '=' expected near 'b'\n", 1 }, { shell(EXPLORE .. " -e 'a b'") })
    assert.same({ "nil  STATUS: COMPUTING is 0, not 1 after 0.01 s  (ETIMEDOUT)\n", 0 },
      { shell(EXPLORE .. " -e 'STATUS:wait({ COMPUTING = 1 }, 0.01)'") })
  end)

  it("counts a task that fails", function()
    local out, status = shell(EXPLORE .. [[ -e 'luio.spawn(function() error "boo" end) ; x = 1' -e x]])
    assert.equal(1, status)
    assert.matches("^luio: task %-e:1 failed: %-e:1: boo\n.*\n1\n$", out)
  end)

  it("can be interrupted while it waits and while it is busy", function()
    for chunk, signal in pairs { ["luio.sleep(60)"] = "INT", ["while true do end"] = "INT", ["while true do luio.sleep(1) end"] = "TERM" } do
      local out, status = interrupted(("%s -e 'print \"ready\" %s'"):format(EXPLORE, chunk), "ready", signal)
      assert.same({ "ready\nluio: interrupted at -e:1\n", signal == "INT" and 130 or 143 }, { out, status })
    end
  end)

  it("says what is wrong with how it was called", function()
    local out, status = shell(LUIO .. " explore sim:nope -e 1")
    assert.equal(1, status)
    assert.matches('^luio: there is no model "nope"', out)
    assert.equal(2, select(2, shell(LUIO .. " explore")))
  end)
end)

describe("luio explore #tmux", function()
  local t, state

  local function open(options, arguments)
    options = options or {}
    state = state or uv.cwd() .. "/" .. select(2, files.write("x", "")) .. "/state"
    options.env = options.env or {}
    options.env.XDG_STATE_HOME = options.env.XDG_STATE_HOME or state
    options.env.HOME = "/nonexistent"
    t = tmux.start(("%s %s"):format(EXPLORE, arguments or ""), options)
    t:wait_last "sim:edu>"
    return t
  end

  -- Enters a line, and waits for what comes of it: what is typed while a chunk runs is echoed among that.
  local function enter(line, output)
    t:type(line .. "\n")
    return t:wait(("sim:edu> %s\n%ssim:edu>"):format(line, output and output .. "\n" or ""))
  end

  local function leave(status)
    t:key "C-d"
    local screen = t:wait(("\nstatus %d\nisig icanon echo"):format(status or 0))
    t:close()
    return screen
  end

  after_each(function()
    if t then t:close() end
  end)

  teardown(files.clean)

  it("shows what is in scope, prints values and registers, and leaves by Ctrl-D", function()
    open()
    assert.matches("^device sim:edu 1234:11e8\n11 registers, .*registers%.lua\nhelp%(%)", t:screen())
    enter("1 + 127", "128 = 0x80")
    enter("STATUS", "STATUS 0x20 = 0x00000000  RAISE_IRQ=0 COMPUTING=0")
    enter "x = 5"
    enter("x, nil", "5  nil")
    enter("{ x, y = x }", "{ 5, y = 5 }")
    leave()
  end)

  it("takes several lines, and tells errors in a few", function()
    open()
    t:type "function f(x)\nif x then error 'boo' end\nreturn 1\nend\n"
    t:wait "sim:edu> function f(x)\n      .. if x then error 'boo' end\n      .. return 1\n      .. end\nsim:edu>"
    enter("f(1)", "prompt:2: boo\n  prompt:2 in f\n  prompt:1")
    enter("a b", "prompt:1: '=' expected near 'b'")
    enter("STATUS:get 'X'", "prompt:1: STATUS has no field X")
    enter("nil + 1", "prompt:1: attempt to perform arithmetic on a nil value")
    t:type "for i = 1, 2 do\n"
    t:wait_last "      .."
    t:key "C-c"
    t:wait_last "sim:edu>"
    leave()
  end)

  it("completes registers, fields and names; explains and searches", function()
    open { rows = 70 }
    t:type "STAT"
    t:key "Tab"
    t:wait_last "sim:edu> STATUS"
    t:type ":get \"RAI"
    t:key "Tab"
    t:wait_last 'sim:edu> STATUS:get "RAISE_IRQ'
    t:key "C-u"
    t:type "IRQ_"
    t:key "Tab"
    t:wait "IRQ_ACK     IRQ_RAISE   IRQ_STATUS\nsim:edu> IRQ_"
    t:key "C-u"
    t:type "for _, r in ipairs {\nLIVE"
    t:wait_last "      .. LIVE"
    t:key "Tab"
    t:wait_last "      .. LIVENESS"
    t:key "C-c"
    t:wait_last "sim:edu>"
    t:type "?STATUS\n"
    t:wait "RAISE_IRQ  rw"
    t:type "??clears\n"
    t:wait "IRQ_ACK"
    t:type "?\n"
    t:wait "snapshot("
    leave()
  end)

  it("recalls entries across sessions, those of several lines as one", function()
    state = nil
    open()
    enter("STATUS:read()", "0")
    t:type "for i = 1, 2 do\nprint('i is', i)\nend\n"
    t:wait "i is    2\nsim:edu>"
    enter "x = 7"
    enter "x = 7"
    leave()
    open()
    t:key "Up"
    t:wait_last "sim:edu> x = 7"
    t:key "Up"
    t:wait "sim:edu> for i = 1, 2 do\nprint('i is', i)\nend"
    t:key "Enter"
    t:wait "end\ni is    1\ni is    2\nsim:edu>"
    t:key "C-r"
    t:type "read"
    t:wait_last "search 'read': STATUS:read()"
    t:key "Enter"
    t:wait "sim:edu> STATUS:read()\n0\nsim:edu>"
    t:key "C-r"
    t:type "i"
    t:wait "search 'i': for i = 1, 2 do\nprint('i is', i)\nend"
    t:type "X"
    t:wait "not found: 'iX': for i"
    t:key("BSpace", "BSpace")
    t:type "="
    t:key "C-r"
    t:wait_last "search '=': x = 7"
    t:key "C-r"
    t:wait "search '=': for i"
    t:key "C-g"
    t:wait_last "sim:edu>"
    leave()
  end)

  it("lets Ctrl-C end what runs, not the session", function()
    open()
    for _, chunk in ipairs {
      "luio.sleep(60)", "while true do end", "local function f() return f() end f()", "while true do luio.sleep(0.001) end",
    } do
      local line = "print 'begun' " .. chunk
      t:type(line .. "\n")
      t:wait(line .. "\nbegun")
      t:key "C-c"
      t:wait(line .. "\nbegun\n^Cinterrupted at prompt:1\nsim:edu>")
    end
    for _, chunk in ipairs { "luio.sleep, 60", "function() while 1 do end end" } do
      -- A pcall that catches the first Ctrl-C does not catch the second.
      local line = ("while 1 do print 'begun' pcall(%s) end"):format(chunk)
      t:type(line .. "\n")
      t:wait(line .. "\nbegun")
      t:key "C-c"
      t:wait(line .. "\nbegun\n^Cbegun")
      t:key "C-c"
      t:wait(line .. "\nbegun\n^Cbegun\n^Cinterrupted at prompt:1\nsim:edu>")
    end
    t:type "luio.spawn(function() luio.sleep(0.05) print 'stuck' while true do end end)\n"
    t:wait "\nstuck\nsim:edu>"
    uv.sleep(50)
    t:key "C-c" -- a task that keeps the loop from turning
    t:wait "failed: interrupted\n"
    t:type "'half"
    t:wait_last "sim:edu> 'half"
    t:key "C-c"
    t:wait "sim:edu> 'half^C\nsim:edu>"
    t:key("C-r") -- in the middle of a key, too
    t:type "spawn"
    t:wait "search 'spawn': luio.spawn"
    t:key "C-c"
    t:wait_last "sim:edu>"
    t:key("Escape", "C-c")
    leave()
  end)

  it("shows what comes meanwhile above the prompt, and leaves the line as it is", function()
    local go = files.write("go.txt", "")
    assert(os.remove(go))
    open { columns = 72, env = { GO = go } }
    enter "irqs(true)"
    enter "function say() io.write 'a' print 'bc' end"
    enter "function comes() IRQ_RAISE:write(1) say() end"
    enter "function told() return io.open(os.getenv 'GO') end"
    enter "function go() repeat luio.sleep(0.01) until told() comes() end"
    enter("luio.spawn(go) and 1", "1")
    t:type "a half typed line that is surely longer than the terminal is wide, and"
    t:key("Left", "Left", "Left", "Left")
    t:wait "\nde, and"
    assert(io.open(go, "w")):close()
    local screen = t:wait "interrupt 1"
    assert.is_truthy(screen:find("\nabc\n", 1, true), screen)
    local rest = "\nsim:edu> a half typed line that is surely longer than the terminal is wi\nde, and"
    assert.equal(rest, screen:sub(-#rest), screen)
    t:type "X"
    t:wait "de,X and"
    t:resize(40, 24)
    t:wait "\nsim:edu> a half typed line that is surel\ny longer than the terminal is wide,X and"
    t:key("BSpace", "BSpace")
    t:wait_last "y longer than the terminal is wide and"
    t:resize(78, 24)
    t:wait "\nsim:edu> a half typed line that is surely longer than the terminal is wide and"
    assert.is_nil(t:screen():find("sim:edu> a half.*sim:edu> a half"))
    t:key "C-c"
    leave()
  end)

  it("takes a paste as one text, and long ones", function()
    open()
    t:paste "local a = 1\nfor i = 1, 2 do\n\tprint('sum', a + i)\nend\n"
    t:wait_last "end"
    t:key "Enter"
    t:wait "sum     2\nsum     3\nsim:edu>"
    t:paste("s = '" .. ("é"):rep(1500) .. "' return #s")
    t:key "Enter"
    t:wait_last "sim:edu>"
    enter("#s", "3000 = 0xbb8")
    t:paste(("n = (n or 0) + 1\n"):rep(30)) -- more rows than the screen has
    t:wait "n = (n or 0) + 1\nn = (n or 0) + 1"
    t:key("C-a", "C-e")
    t:type(" -- " .. ("x"):rep(200))
    t:key "Enter"
    t:wait_last "sim:edu>"
    enter("n", "30 = 0x1e")
    enter("'né' -- ü", '"né"')
    t:key "C-r"
    t:type "é' -- ü"
    t:wait_last "search 'é' -- ü': 'né' -- ü"
    t:key "C-c"
    leave()
  end)

  it("works in 40 columns and without colour", function()
    open({ columns = 40, env = { NO_COLOR = "1" } }, "--read-only")
    t:type "STATUS:write(1)\n"
    t:wait "read-only"
    t:wait_last "sim:edu>"
    assert.is_nil(t:screen(true):find "\27")
    t:type "exit\n"
    t:wait "status 0\nisig icanon echo"
    t:close()
    open()
    assert.is_truthy(t:screen(true):find("\27[1msim:edu>", 1, true))
    leave()
  end)

  it("gives the terminal to what runs, and takes it back", function()
    open()
    t:type "select(2, print 'asks', io.read())\n"
    t:wait "\nasks"
    t:type "hello\n"
    t:wait 'hello\n"hello"\nsim:edu>'
    enter("io.write 'no newline' and nil", "no newline\nnil")
    t:type "abc"
    t:tmux("run-shell", ("kill -STOP %d; stty -F #{pane_tty} sane; kill -CONT %d"):format(t:child(), t:child()))
    t:type "d"
    t:wait_last "sim:edu> abcd"
    t:key "C-c"
    leave()
  end)

  it("leaves the terminal as it was when it is killed", function()
    for _, chunk in ipairs { "half a line", "print 'begun' while true do pcall(function() while true do end end) end\n" } do
      open()
      t:type(chunk)
      t:wait(chunk == "half a line" and "sim:edu> half a line" or "\nbegun")
      uv.kill(t:child(), "sigterm")
      t:wait "status 143\nisig icanon echo"
      t:close()
    end
  end)

  it("ends with its terminal", function()
    for _, chunk in ipairs {
      "half a line", "print 'begun' luio.sleep(60)\n", "print 'begun' while true do pcall(function() while true do end end) end\n",
    } do
      open()
      t:type(chunk)
      t:wait(chunk == "half a line" and "sim:edu> half a line" or "\nbegun")
      local pid = t:child()
      t:close()
      assert.is_true(program.gone(pid), chunk)
    end
  end)

  it("goes on when the history can't be kept, and says so", function()
    open { env = { XDG_STATE_HOME = "/proc/nowhere" } }
    assert.matches("\nnote: the history is not kept: ENOENT[^\n]*\n", t:screen())
    leave()
  end)
end)
