--- A session at the prompt with a device of QEMU's: what it saves runs, on the same machine, and questions about the device are about
--- this one.

local files = require "spec.support.files"
local program = require "spec.support.program"
local uv = require "luv"

-- The output of a prompt that is fed these lines, and its status.
local function explore(args, lines)
  local input = files.write("lines", table.concat(lines, "\n") .. "\n")
  return files.shell(("timeout 300 %s explore %s < %s"):format(program.PATH, args, input))
end

local WORK = { "irqs()", "STATUS:update { RAISE_IRQ = 1 }", "FACTORIAL:write(5)", "luio.sleep(0.5)", "FACTORIAL" }

-- The text that a session shows from a line on.
local function saved(kind, first, args)
  local lines = { unpack(WORK) }
  table.insert(lines, kind)
  local out, status = explore(args or "qemu:edu", lines)
  assert.equal(0, status, out)
  return assert(("\n" .. out):match("\n(" .. first .. ".*)$"), out)
end

describe("a session with a qemu: device", function()
  teardown(files.clean)

  it("is a script that runs", function()
    local out, status = program.run("'" .. files.write("session.lua", saved("session()", "local luio")) .. "'")
    assert.equal(0, status, out)
    assert.equal("", out)
  end)

  it("is a spec that passes", function()
    local path = files.write("session_spec.lua", saved('session "spec"', "local luio"))
    local out, status = files.shell(('eval "$(%s env)"; timeout 300 busted --lua=luajit %s'):format(program.PATH, path))
    assert.equal(0, status, out)
    assert.truthy(out:find("1 success", 1, true), out)
  end)

  it("is a driver that starts", function()
    local text = saved('session "driver"', "local edu")
    local _, dir = files.write("drivers/edu/init.lua", text)
    local p = program.start { "run", dir .. "/drivers/edu", "qemu:edu" }
    p:wait "driver edu runs on device qemu:edu"
    p:kill "sigterm"
    assert.equal(0, p:status(), p:text())
  end)

  it("says how its machine was made", function()
    local text = saved("session()", "local luio", "qemu:edu,dma_mask=4095 --qemu '-name \"a b\"' --vectors intx")
    assert.truthy(text:find([[luio.open("qemu:edu,dma_mask=4095", { qemu = { "-name", "\"a b\"" }, vectors = "intx" })]], 1, true), text)
    assert.truthy(saved("session()", "local luio"):find('luio.open "qemu:edu")', 1, true))
    local out, status = program.run("'" .. files.write("session.lua", text) .. "'")
    assert.equal(0, status, out)
  end)

  it("has questions about the machine that is open", function()
    -- A second machine could not listen there.
    local socket = ("%s/build/spec/listen-%d"):format(uv.cwd(), uv.os_getpid())
    finally(function() os.remove(socket) end)
    local out, status = explore(("qemu:pci-serial,chardev=c --qemu '-chardev socket,id=c,server=on,wait=off,path=%s'"):format(socket),
      { "info()", "doctor()", "reopen()", "info()" })
    assert.equal(0, status, out)
    assert.equal(2, select(2, out:gsub("\nQEMU          %-audiodev none,id=luio%-audiodev %-chardev socket,", "")), out)
    assert.truthy(out:find("ok       QEMU: it runs: qemu:pci-serial", 1, true), out)
    assert.falsy(out:find("luio: ", 1, true), out)
  end)
end)
