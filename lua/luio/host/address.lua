--- Addresses of devices that are made for the process that opens them: a simulated one (`sim:edu`), and one of a QEMU machine
--- (`qemu:edu`). The kernel knows nothing of them, and nobody else has them.

local M = {}

--- The kind of such an address, and the rest of it; nil: it is an address of the kernel's.
---@param address string
---@return "sim"|"qemu"|nil kind
---@return string? rest  the model's name; what QEMU's -device takes
function M.made(address)
  local kind, rest = address:match "^(%a+):(.+)$"
  if kind == "sim" or kind == "qemu" then return kind, rest end
end

--- Finds a device that is made when it is opened: it is for that, and ends again. Set by luio.
---@type (fun(address: string): luio.Info?, string?, string?)?
M.find_made = nil

return M
