--- QEMU's monitor: commands and events, of a QEMU, and of a false one that this spec plays on the other end of the socket.

local json = require "luio.text.json"
local luio = require "luio"
local posix = require "luio.posix"
local qmp = require "luio.qemu.qmp"
local wait = require "spec.support.wait"
local ffi = require "ffi"

ffi.cdef [[ int luio_spec_qmp_socketpair(int, int, int, int *) __asm__("socketpair"); ]]

local GREETING = '{"QMP": {"version": {}, "capabilities": []}}\r\n'
local READY = '{"return": {}, "id": 1}\r\n'

local mine, its -- the ends of a socket: luio's, and that of the false QEMU

local function connect()
  local ends = ffi.new "int[2]"
  assert(ffi.C.luio_spec_qmp_socketpair(posix.AF_UNIX, 1, 0, ends) == 0) -- luv's closes its descriptors when it is collected
  mine, its = ends[0], ends[1]
end

local function says(text)
  while text ~= "" do
    local n = posix.write(its, text, #text)
    assert(n > 0)
    text = text:sub(n + 1)
  end
end

-- What luio has said meanwhile, in tables.
local said_to_it = ""
local function hears()
  local buffer = ffi.new "char[65536]"
  local poll = ffi.new(posix.pollfd, { its, posix.POLLIN, 0 })
  if posix.poll(poll, 1, 0) > 0 then
    local n = posix.read(its, buffer, 65536)
    if n > 0 then said_to_it = said_to_it .. ffi.string(buffer, n) end
  end
  local list = {}
  for line in said_to_it:gmatch "([^\n]*)\n" do table.insert(list, (json.decode(line))) end
  return list
end

local function greeted()
  says(GREETING .. READY)
  return assert(qmp.greet(mine, 4711))
end

local monitor
local ANSWER, OUTPUT, EVENTS, LIMIT = qmp.ANSWER, qmp.OUTPUT, qmp.EVENTS, qmp.LIMIT

before_each(function()
  connect()
  said_to_it = ""
end)

after_each(function()
  qmp.ANSWER, qmp.OUTPUT, qmp.EVENTS, qmp.LIMIT = ANSWER, OUTPUT, EVENTS, LIMIT
  if monitor then monitor:close() end
  monitor = nil
  posix.close(mine)
  if its then posix.close(its) end
end)

local function hang_up()
  posix.close(its)
  its = nil
end

describe("QEMU's monitor", function()
  it("is told a command with its arguments, in both forms", function()
    monitor = greeted()
    says '{"return": {"up": true}, "id": 2}\n'
    assert.same({ up = true }, { up = assert(monitor:command("set_link", { name = "n", up = false })).up })
    says '{"return": 5, "id": 3}\n'
    assert.equal(5, monitor:command { execute = "x", arguments = { list = { 1, 2 }, big = 2 ^ 53, more = 0xffffffffffffffffULL } })
    local all = hears()
    assert.same({ execute = "set_link", arguments = { name = "n", up = false }, id = 2 }, all[2])
    assert.equal("x", all[3].execute)
    assert.same({ 1, 2 }, { unpack(all[3].arguments.list) })
    assert.truthy(said_to_it:find('"big":9007199254740992,"list":[1,2],"more":18446744073709551615', 1, true), said_to_it)
  end)

  it("raises for what is no command, at the line that said it", function()
    monitor = greeted()
    local function refused(message, ...)
      local ok, why = pcall(function(...) monitor:command(...) end, ...)
      assert.is_false(ok)
      assert.matches("^spec/qemu/qmp_spec.lua:%d+: command", why)
      assert.truthy(why:find(message, 1, true), message .. " ~= " .. why)
    end
    refused("a command's name is a string, not a nil")
    refused("a command's name is a string, not a nil", {})
    refused("the arguments of x are a table, not a string", "x", "y")
    refused("no execut: command{ execute = NAME", { execut = "x" })
    refused("execute is a string, not a number", { execute = 5 })
    refused("the arguments are in the table", { execute = "x" }, { a = 1 })
    refused("JSON has no form for arguments.f: a function", "x", { f = print })
    refused("JSON has no form for arguments.a[2]: the number inf", "x", { a = { 1, math.huge } })
    refused("JSON has no form for arguments.s: text that is no UTF-8, at byte 2", "x", { s = "a\255" })
    refused("JSON has no form for arguments: a key that is a boolean", "x", { [true] = 1 })
    refused("JSON has no form for arguments.l: a list with the key x", "x", { l = { 1, x = 2 } })
    local own = {}
    own.own = own
    refused("JSON has no form for arguments.own: a table within itself", "x", own)
    assert.equal(1, #hears())
  end)

  it("has QEMU's words in the error, made harmless", function()
    monitor = greeted()
    says '{"error": {"class": "GenericError", "desc": "no \\u001b[2J device"}, "id": 2}\n'
    local _, message, code = monitor:command "device_del"
    assert.equal("device_del: QEMU: no \\x1b[2J device", message)
    assert.equal("EINVAL", code)
  end)

  it("takes commands of several tasks at once, and gives each its own answer", function()
    monitor = greeted()
    luio.run(function()
      local results, tasks = {}, {}
      for i = 1, 20 do tasks[i] = luio.spawn(function() results[i] = monitor:command("c", { i = i }) end) end
      wait.till(100, "the commands", function() return #hears() == 21 end)
      local answers = {}
      for i, command in ipairs(hears()) do
        if i > 1 then table.insert(answers, 1, ('{"return": %d, "id": %d}\n'):format(command.arguments.i * 10, command.id)) end
      end
      says(table.concat(answers))
      for i, task in ipairs(tasks) do
        assert(task:join(100))
        assert.equal(10 * i, results[i])
      end
    end)
  end)

  it("does not block other tasks while it works", function()
    monitor = greeted()
    luio.run(function()
      local result
      local asking = luio.spawn(function() result = monitor:command "slow" end)
      for _ = 1, 3 do luio.sleep(0.001) end
      assert.is_nil(result)
      says '{"return": "done", "id": 2}\n'
      assert(asking:join(100))
      assert.equal("done", result)
    end)
  end)

  it("drops the answer of a command whose task was cancelled, or whose deadline has passed", function()
    monitor = greeted()
    luio.run(function()
      local asking = luio.spawn(function() monitor:command "cancelled" end)
      asking:cancel()
      qmp.ANSWER = 0.01
      local _, message, code = monitor:command "late"
      assert.equal("ETIMEDOUT", code)
      assert.equal("late: QEMU (process 4711) has not answered within 0.01 s: is it stopped, or is its work that long?", message)
      qmp.ANSWER = ANSWER
      says '{"return": "a", "id": 2}\n{"error": {"desc": "b"}, "id": 3}\n{"return": "c", "id": 4}\n'
      assert.equal("c", monitor:command "third")
    end)
  end)

  it("keeps commands for a QEMU that does not read, up to an amount", function()
    monitor = greeted()
    qmp.ANSWER, qmp.OUTPUT = 0.01, 100000
    luio.run(function()
      local n, message, code = 0, nil, nil -- luacheck: ignore 311
      repeat
        n = n + 1
        message, code = select(2, monitor:command("x", { text = ("y"):rep(20000) }))
      until code ~= "ETIMEDOUT"
      assert.equal("EAGAIN", code)
      assert.matches("^x: QEMU %(process 4711%) has not read %d+ bytes of commands yet: is it stopped%?$", message)
      qmp.ANSWER = ANSWER
      local heard = {}
      wait.till(100, "all that was said", function()
        heard = hears()
        return #heard == n
      end)
      says(('{"return": true, "id": %d}\n'):format(n + 1))
      assert.is_true(monitor:command "after")
    end)
  end)

  it("says that QEMU has ended, to all", function()
    for _, half in ipairs { "", '{"return": {}, "i' } do
      monitor = greeted()
      local told = 0
      function monitor.on_end() told = told + 1 end
      luio.run(function()
        local codes, tasks = {}, {}
        for i = 1, 3 do tasks[i] = luio.spawn(function() codes[i] = select(3, monitor:command "x") end) end
        tasks[4] = luio.spawn(function() codes[4] = select(3, monitor:wait("X", 100)) end)
        says(half)
        hang_up()
        for _, task in ipairs(tasks) do assert(task:join(100)) end
        assert.same({ "EIO", "EIO", "EIO", "EIO" }, codes)
      end)
      assert.equal(1, told)
      assert.same({ nil, "y: QEMU has ended", "EIO" }, { monitor:command "y" })
      assert.same({ nil, "wait for QEMU's event X: QEMU has ended", "EIO" }, { monitor:wait("X", 1) })
      monitor:close()
      posix.close(mine)
      connect()
    end
  end)

  it("is not talked to any more after something that is no message", function()
    for text, why in pairs {
      ["garbage"] = 'said "garbage": line 1, column 1: expected a value', ["\0\27"] = "line 1, column 1: expected a value",
      ["[]"] = 'said "[]": no object', ["5"] = "no object", ["null"] = "no object", [""] = "it ends here",
      ['{"id": 2}'] = "neither a result nor an error", ['{"return": 1}'] = "an answer to no command", ['{"return": 1, "id": "2"}'] = "an answer to no command",
      ['{"return": 1, "id": 3}'] = "an answer to no command", ['{"return": 1, "id": 1.5}'] = "an answer to no command",
      ['{"error": 5, "id": 2}'] = "an error without a description", ['{"error": {"desc": {}}, "id": 2}'] = "an error without a description",
      ['{"event": 5}'] = "an event without a name", ['{"event": "A", "data": 5}'] = "whose data is no object",
      [("["):rep(1000)] = "brackets within each other",
    } do
      monitor = greeted()
      says(text .. "\n")
      local _, message, code = monitor:command "x"
      assert.equal("EPROTO", code, text)
      assert.truthy(message:find("^x: QEMU's monitor said ") and message:find(why, 1, true), message)
      assert.equal(message:gsub("^x", "y"), (select(2, monitor:command "y")))
      says '{"event": "AFTER"}\n' -- unread
      assert.equal("EPROTO", select(3, monitor:wait("AFTER", 100)))
      local over = false
      function monitor.on_end() over = true end
      hang_up()
      luio.run(function() wait.till(100, "the end is noticed all the same", function() return over end) end)
      monitor:close()
      posix.close(mine)
      connect()
    end
  end)

  it("takes a line of a megabyte, not one without an end", function()
    monitor = greeted()
    luio.run(function()
      local long = ("x"):rep(100000)
      qmp.LIMIT = 1000000
      local function talk(rest) -- in pieces, as a socket takes them
        return luio.spawn(function()
          while rest ~= "" do
            local n = posix.sendto(its, rest, #rest, posix.MSG_NOSIGNAL + 0x40, nil, 0)
            if n > 0 then rest = rest:sub(n + 1) else luio.sleep(0.001) end
          end
        end)
      end
      local talking = talk(('{"return": "%s", "id": 2}\n'):format(long:rep(9)))
      assert.equal(900000, #assert(monitor:command "long"))
      assert(talking:join(100))
      talking = talk(long:rep(11))
      local _, message, code = monitor:command "longer"
      assert.equal("EPROTO", code)
      assert.equal("longer: QEMU's monitor said more than 1000000 bytes in a line", message)
      talking:join(100)
    end)
  end)

  it("begins by a deadline, and only with QMP's greeting", function()
    qmp.ANSWER = 0.05
    local _, message, code = qmp.greet(mine, 4711)
    assert.equal("ETIMEDOUT", code)
    assert.matches("^qmp_capabilities: QEMU %(process 4711%) has not answered within 0.05 s", message)
    qmp.ANSWER = ANSWER
    says(READY)
    _, message, code = qmp.greet(mine, 4711)
    assert.equal("EPROTO", code)
    assert.truthy(message:find("it does not begin with QMP's greeting", 1, true), message)
    hang_up()
    _, message, code = qmp.greet(mine, 4711)
    assert.same({ "qmp_capabilities: QEMU has ended", "EIO" }, { message, code })
  end)
end)

describe("an event of QEMU's", function()
  it("is waited for, by name and data, before and after it came", function()
    monitor = greeted()
    says '{"event": "A", "data": {"device": "x"}, "timestamp": {"seconds": 1, "microseconds": 2}}\n{"event": "A", "data": {"device": "y"}}\n{"event": "B"}\n'
    luio.run(function()
      assert.equal("y", assert(monitor:wait("A", 100, { device = "y" })).data.device)
      assert.same({}, assert(monitor:wait("B", 100)).data)
      local first = assert(monitor:wait("A", 100))
      assert.equal("x", first.data.device)
      assert.equal(2, first.timestamp.microseconds)
      local _, message, code = monitor:wait("A", 0)
      assert.equal("ETIMEDOUT", code)
      assert.equal("wait for QEMU's event A: it did not come within 0 s; nor did another", message)
      local got
      local waiting = luio.spawn(function() got = monitor:wait("C", 100) end)
      says '{"event": "D"}\n{"event": "C", "data": {"n": 3}}\n'
      assert(waiting:join(100))
      assert.equal(3, got.data.n)
      _, message = monitor:wait("C", 0)
      assert.equal("wait for QEMU's event C: it did not come within 0 s; D did", message)
    end)
  end)

  it("reaches all who wait for it, and comes between answers", function()
    monitor = greeted()
    luio.run(function()
      local n, tasks = 0, {}
      for i = 1, 5 do
        tasks[i] = luio.spawn(function()
          assert(monitor:wait("A", 100))
          n = n + 1
        end)
      end
      tasks[3]:cancel()
      says '{"event": "A"}\n{"return": 7, "id": 2}\n{"event": "A"}\n'
      assert.equal(7, monitor:command "x")
      for i, task in ipairs(tasks) do assert(i == 3 or task:join(100)) end
      assert.equal(4, n)
      assert(monitor:wait("A", 100)) -- the second one was kept
    end)
  end)

  it("is kept with many others, of which the oldest are dropped and counted", function()
    qmp.EVENTS = 10
    monitor = greeted()
    for i = 1, 25 do says(('{"event": "E%d"}\n'):format(i)) end
    luio.run(function()
      assert(monitor:wait("E25", 100))
      assert.equal(14, monitor.dropped)
      local _, message = monitor:wait("E14", 0)
      assert.matches("E15, E16, .*E24 did %(14 were dropped%)$", message)
      assert(monitor:wait("E15", 0))
    end)
  end)

  it("is no longer waited for when the machine is closed", function()
    monitor = greeted()
    luio.run(function()
      local codes = {}
      local waiting = luio.spawn(function() codes[1] = select(3, monitor:wait("A", 100)) end)
      local asking = luio.spawn(function() codes[2] = select(3, monitor:command "x") end)
      monitor:close()
      assert(waiting:join(100) and asking:join(100))
      assert.same({ "ECANCELED", "ECANCELED" }, codes)
    end)
  end)
end)
