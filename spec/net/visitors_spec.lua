--- Clients of `share` that send descriptors whose close blocks, that hold connections open, that are too many. Others come in all
--- the same, and the server ends on a signal. Also a server that sends such descriptors to its clients.

local files = require "spec.support.files"
local luio = require "luio"
local memif = require "luio.net.memif"
local program = require "spec.support.program"
local socket = require "luio.net.memif.socket"
local uv = require "luv"
local wait = require "spec.support.wait"

local PROGRAM = os.getenv "LUIO_PROGRAM" or "build/luio" -- of the sanitizers' stages

describe("examples/share.lua", function()
  local path, p, listener, open
  setup(function() -- accepts, and never reads
    listener = uv.new_tcp()
    listener:bind("127.0.0.1", 0)
    listener:listen(64, function() end)
  end)
  teardown(function() listener:close() end)
  before_each(function()
    path = os.tmpname()
    os.remove(path)
    open = {}
  end)
  after_each(function()
    for _, one in ipairs(open) do one:close() end
    if p then p:close() end
    os.remove(path)
  end)

  local function serve(...)
    p = program.start { "examples/share.lua", "none", path, ... }
    p:wait "is shared at"
  end

  local function joins(id)
    local client = assert(memif.connect(path, { id = id, mac = ("02:00:00:00:01:%02x"):format(id) }))
    table.insert(open, client)
    return client
  end

  -- n descriptors in a message of each name, so many times over, by a client that has ended then: the last to close them is
  -- somebody else.
  local function give(n, times, ...)
    local child = program.start { "spec/support/memif_hostile.lua", path, tostring(listener:getsockname().port), tostring(n),
      tostring(times), tostring(p.pid), ... }
    table.insert(open, child)
    assert.equal(0, child:status(), child:text())
    p:kill "sigcont"
  end

  local function ends()
    p:kill "sigterm"
    assert.equal(0, p:status(5))
  end

  it("ends when it is told to, whatever it was sent", function()
    serve()
    give(1, 1, "INIT", "ADD_REGION", "ADD_RING", "CONNECT", "DISCONNECT")
    p:wait "was refused: region 0: it is no memfd"
    p:wait "was refused: a descriptor with INIT"
    joins(1)
    ends()
  end)

  it("ends when it is told to, with messages that it did not come to take", function()
    serve()
    p:kill "sigstop"
    wait.till(5, "it is stopped", function() return files.read(("/proc/%d/stat"):format(p.pid)):match "%) T" end)
    give(1, 3, "INIT")
    joins(1)
    ends()
  end)

  it("lets others in while many are sent that block, and its descriptors are few", function()
    p = program.start({ "-c", "ulimit -n 64; exec " .. PROGRAM .. " examples/share.lua none " .. path }, { program = "/bin/sh" })
    p:wait "is shared at"
    for id = 1, 3 do
      give(200, 4, "INIT", "ADD_REGION")
      joins(id)
    end
    ends()
  end)

  it("lets others in beside silent connections that are renewed all the time", function()
    serve()
    local silent = program.start { "spec/support/memif_silent.lua", path, "20" }
    table.insert(open, silent)
    silent:wait "silent"
    for id = 1, 5 do joins(id) end
    ends()
  end)

  it("has room for other users than the one who fills it", function()
    if uv.getuid() ~= 0 then return pending "only root can be two users" end
    serve("--mode", "666", "--clients", "4", "--per-user", "2")
    local theirs = {}
    for i = 1, 3 do
      theirs[i] = program.start { "spec/support/memif_client.lua", path, tostring(i), ("02:00:00:00:01:%02x"):format(i), "echo", "65534" }
      table.insert(open, theirs[i])
      if i < 3 then theirs[i]:wait "joined" end
    end
    p:wait "was refused: 2 clients of user 65534 are there, no more of these are taken"
    joins(10)
    joins(11)
    ends()
  end)

  it("goes on when the process that accepts is killed", function()
    serve()
    local head = wait.till(5, "it is there", function() return p:children()[1] end)
    uv.kill(head, "sigkill")
    wait.till(10, "somebody joined", function()
      local client = memif.connect(path, { id = 1 })
      if client then table.insert(open, client) end
      return client
    end)
    ends()
  end)

  it("leaves no process behind", function()
    serve()
    joins(1)
    local head = p:children()[1]
    p:kill "sigkill"
    assert.equal(-9, p:status())
    assert.is_true(program.gone(head))
    assert.is_nil((socket.connect(path)))
  end)
end)

describe("a client of a server that sends what blocks", function()
  it("is told, and waits for nothing", function()
    local listener = uv.new_tcp() -- accepts, and never reads
    listener:bind("127.0.0.1", 0)
    listener:listen(64, function() end)
    local path = os.tmpname()
    os.remove(path)
    local p = program.start { "spec/support/memif_hostile_server.lua", path, tostring(listener:getsockname().port) }
    finally(function()
      p:close()
      listener:close()
      os.remove(path)
    end)
    p:wait "listening"
    for i = 1, 6 do
      local before = luio.now()
      local client, message, code = memif.connect(path)
      assert.is_true(luio.now() - before < 50) -- a close that waits takes 60 s
      assert.same({ nil, "EPROTO" }, { client, code }, p:text())
      assert.matches(i < 3 and "the server sent a descriptor" or "the server sent HELLO, not ACK", message)
    end
    -- Nor does a thread of libuv's, of which there are four.
    local answered
    uv.fs_stat(".", function() answered = true end)
    wait.till(10, "libuv's threads", function() return answered end)
  end)
end)
