--- The documents' commands for QEMU's devices, as they stand there.

local arm_board = require "spec.support.arm_board"
local documents = require "spec.support.documents"
local files = require "spec.support.files"
local uv = require "luv"

describe("make demo", function()
  -- `make -o all` takes what is built already.
  local MAKE = "env -u MAKEFLAGS -u MAKELEVEL make -s -o all -o deps-run demo"

  it("shows one driver on a model and on QEMU's device", function()
    local out, status = files.shell(MAKE)
    assert.equal(0, status, out)
    for _, address in ipairs { "sim:edu", "qemu:edu" } do
      assert.truthy(out:find("a Linux device driver in Lua, on " .. address, 1, true), out)
    end
    assert.equal(2, select(2, out:gsub("10!            3628800, by interrupt", "")), out)
    assert.equal(2, select(2, out:gsub("All as it should be", "")), out)
  end)

  it("says how to get QEMU where there is none", function()
    -- A PATH with everything but QEMU.
    local _, dir = files.write("x", "")
    assert(os.execute(("for d in $(echo $PATH | tr : ' '); do ln -s $d/* '%s' 2>/dev/null; done; rm -f '%s'/qemu-*"):format(dir, dir)) == 0)
    local out, status = files.shell(("PATH='%s/%s' %s"):format(require("luv").cwd(), dir, MAKE))
    assert.equal(0, status, out)
    assert.truthy(out:match "\nQEMU's edu comes next, where there is a QEMU: apt install qemu%-system%-x86\n$", out)
    assert.falsy(out:find("qemu:edu", 1, true) and out:find("on qemu:edu", 1, true))
  end)
end)

describe("the documents", function()
  teardown(files.clean)

  for _, block in ipairs(documents.of "spec/qemu/documents_spec.lua") do
    it(("have commands for a device of QEMU's that work: %s:%d"):format(block.path, block.line), function()
      if not arm_board.there then
        for _, step in ipairs(documents.steps(block)) do
          if step.command:find("qemu:virt/", 1, true) then return pending(arm_board.MISSING) end
        end
      end
      local _, dir = files.write("x", "")
      documents.write(block.path, dir)
      finally(function() -- a QEMU that the block has started, and did not come to end
        local pid = uv.fs_stat(dir .. "/pid") and tonumber(files.read(dir .. "/pid"))
        if pid then uv.kill(pid, "sigkill") end
      end)
      assert.equal(0, select(2, files.shell(("cp -r examples '%s'"):format(dir))))
      for _, step in ipairs(documents.steps(block)) do
        local printed = documents.run(dir, step.command)
        if not documents.agrees(step.expected, printed) then
          assert.equal(documents.masked(step.expected), documents.masked(printed), step.command)
        end
      end
    end)
  end
end)
