--- Steps of a program with few descriptors (spec/support/scarce.lua): each works, or says that there were too few.

local assert = require "luassert"
local files = require "spec.support.files"
local program = require "spec.support.program"

local M = {}

local MOST = 20 -- descriptors left, at most

--- Takes a step with 0 descriptors, 1, and so on.
---@param step string
---@param device string
---@param driver string
function M.check(step, device, driver)
  local out, status = files.shell(("(ulimit -n 80; exec timeout 100 %s spec/support/scarce.lua \"%s\" %d %s %s)"):format(
    program.PATH, step, MOST, device, driver))
  assert.equal(0, status, out)
  local fine, lines = false, 0
  for result in out:gmatch "%d+\t([^\n]*)\n" do
    lines = lines + 1
    local said = result:find("EMFILE", 1, true) or result:find("Too many open files", 1, true)
    fine = not said and (result == "fine" or step == "luio.open of what is not there" and result:find "there is no device uio99" ~= nil)
    assert.is_truthy(fine or said, out)
  end
  assert.equal(MOST + 1, lines, out)
  assert.is_true(fine, out) -- with the most of them
end

return M
