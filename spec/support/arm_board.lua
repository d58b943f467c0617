--- QEMU's ARM board, for specs that need it: the program is a package of its own. They are pending without it.

local M = {}

--- Whether it is installed.
M.there = os.execute "command -v qemu-system-aarch64 >/dev/null" == 0

--- The reason of a pending spec.
M.MISSING = "qemu-system-aarch64 is not installed: apt install qemu-system-arm"

--- `describe`, or one pending spec in its place.
---@param name string
---@param block fun()
function M.describe(name, block)
  local busted, pending = require "busted", require "spec.support.pending"
  busted.describe(name, function()
    if M.there then return block() end
    busted.it("runs on QEMU's ARM board", function() return pending(M.MISSING) end)
  end)
end

return M
