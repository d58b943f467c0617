--- A serial port as a pseudo-terminal: examples/serial.lua --pty on a simulated UART that echoes, with the usual
--- clients.

local files = require "spec.support.files"
local tmux = require "spec.support.tmux"
local uv = require "luv"
local wait = require "spec.support.wait"

local EXAMPLE = "examples/serial.lua sim:uart16550"
-- One that holds the sender off by itself: what is lost then is lost by us.
local CAREFUL = "examples/serial.lua sim:drivers/uart16550/model_tl16c550c.lua"

describe("examples/serial.lua", function()
  local link, out, pid

  local function start(options, example)
    out = files.write("out", "")
    link = out:gsub("out$", "tty")
    local started = files.shell(("build/luio %s --pty %s %s > %s 2>&1 & echo $!"):format(example or EXAMPLE, link, options or "", out))
    pid = assert(tonumber(started:match "%d+"))
    wait.till(10, "the pseudo-terminal is there", function() return files.read(out):find "Ctrl%-C ends it" end)
  end

  local function said(pattern) return function() return files.read(out):find(pattern) end end

  after_each(function()
    if not pid then return end
    os.execute(("kill %d 2>/dev/null"):format(pid))
    wait.till(10, "it has ended", function() return os.execute(("kill -0 %d 2>/dev/null"):format(pid)) ~= 0 end)
    pid = nil
  end)

  local function ask(text) -- a client that comes, says something, hears the answer, and goes
    return (files.shell(([[exec 3<>%s; printf '%s\n' >&3; timeout 5 head -n 1 <&3]]):format(link, text)))
  end

  it("carries what a client says, and what comes back, to one client after the other", function()
    start()
    assert.equal("first\n", ask "first")
    wait.till(5, "it has gone", said "the client has gone")
    assert.equal("second\n", ask "second")
  end)

  it("follows the speed, stop bits and flow control that a client sets; says what can't be had", function()
    start "--bits 7 --parity even"
    assert.equal("", (files.shell(("stty -F %s 9600 cstopb crtscts 2>&1"):format(link))))
    assert.equal("slow\n", ask "slow") -- that stty came and went may not have been seen
    wait.till(5, "it follows", said "9600 7E2 rts/cts")
    files.shell(("stty -F %s 2000000 -cstopb -crtscts"):format(link))
    assert.equal("still\n", ask "still")
    wait.till(5, "it says so", said "2000000 baud can't be had")
  end)

  it("leaves the line alone with --fixed", function()
    start "--fixed"
    files.shell(("stty -F %s 9600"):format(link))
    assert.equal("x\n", ask "x")
    assert.is_nil(files.read(out):find "9600")
  end)

  it("waits for a client that does not read, and loses nothing with flow control", function()
    start("--flow rts/cts", CAREFUL)
    local text = ("0123456789abcde\n"):rep(512)
    local sent, got = files.write("sent", text), files.write("got", "")
    -- It writes all before it reads; the echo of 8 KiB has to wait somewhere.
    files.shell(("exec 3<>%s; cat %s >&3; sleep 0.3; timeout 20 head -c %d <&3 > %s"):format(link, sent, #text, got))
    assert.equal(text, files.read(got))
  end)

  it("hears a client that comes, says something and goes at once", function()
    start "--fixed"
    for _ = 1, 5 do files.shell(("printf hello > %s"):format(link)) end
    wait.till(5, "all has been taken", said "the client has gone")
    os.execute(("kill %d"):format(pid))
    wait.till(5, "it has ended", said "from the client %d+ bytes")
    assert.matches("from the client 25 bytes", files.read(out))
  end)

  it("sends what a client has written when it is ended, until it is ended once more, and says what it gave up", function()
    start "--baud 1200 --fixed"
    files.shell(("head -c 2000 /dev/zero | tr '\\0' x > %s"):format(link))
    wait.till(5, "it has been taken", said "the client has gone")
    os.execute(("kill %d"):format(pid))
    wait.till(5, "it says how long it takes", said "%d+ bytes are still to be sent, %d+ s; Ctrl%-C gives them up\n")
    os.execute(("kill %d"):format(pid))
    wait.till(5, "it has ended", said "serial: %d+ bytes were given up\n$")
    assert.matches("from the client 2000 bytes", files.read(out))
  end)

  it("talks to picocom", function()
    if os.execute "command -v picocom >/dev/null" ~= 0 then return pending "picocom is not installed" end
    start()
    local screen = tmux.start("picocom -q -b 19200 " .. link)
    finally(function() screen:close() end)
    wait.till(10, "it is there", said "19200 8N1")
    screen:type "hello from picocom"
    screen:wait "hello from picocom"
    screen:key "C-a"
    screen:key "C-x"
    wait.till(10, "it has gone", said "the client has gone")
  end)

  it("is a terminal on its standard input and output without --pty", function()
    local heard = files.shell(("printf 'ping\\n' | timeout 20 build/luio %s 2>/dev/null"):format(EXAMPLE))
    assert.equal("ping\n", heard)
  end)

  it("says what is wrong with its arguments, and with the device", function()
    for _, one in ipairs {
      { "sim:uart16550 --bits 9", 2, "serial: --bits: bits is 5 to 8, not 9" },
      { "sim:uart16550 --baud x", 2, "malformed argument 'x'" },
      { "sim:uart16550 --baud 100000", 1, "100000 baud can't be had from 1843200 Hz: 115200" },
      { "sim:edu", 1, "serial: sim:edu: driver edu is no serial driver" },
    } do
      local text, status = files.shell(("build/luio examples/serial.lua %s 2>&1 </dev/null"):format(one[1]))
      assert.is_truthy(text:find("^serial: ") and text:find(one[3], 1, true), text)
      assert.equal(one[2], status, text)
    end
  end)

  it("leaves no link behind", function()
    start()
    os.execute(("kill %d"):format(pid))
    wait.till(10, "it has ended", function() return os.execute(("kill -0 %d 2>/dev/null"):format(pid)) ~= 0 end)
    pid = nil
    assert.matches("from the client 0 bytes, to it 0, unheard 0", files.read(out))
    assert.is_nil(uv.fs_lstat(link))
  end)
end)
