--- The other end of a simulated UART's cable: region 1 of drivers/uart16550's models (model_uart.lua lists its registers).

local M = {}

M.ECHO, M.OBEYS_RTS, M.OBEYS_XON, M.SILENT = 1, 2, 4, 8
M.PARITY, M.FRAMING, M.BREAK = 0x100, 0x200, 0x400

---@class luio.FarEnd
local Far = {}
Far.__index = Far

--- Takes the far end of a port's cable.
---@param port luio.serial.Port
---@param control? integer  CONTROL's bits; 0: it sends and obeys only on command
---@return luio.FarEnd
function M.of(port, control)
  local far = setmetatable({ region = port.dev.regions[1] }, Far)
  far:control(control or 0)
  return far
end

function Far:control(bits) self.region:write32(0x20, bits) end

--- Sends a text, as fast as the line is.
function Far:send(text)
  for i = 1, #text, 7 do
    local part, value = text:sub(i, i + 6), 0ULL
    for k = #part, 1, -1 do value = value * 256 + part:byte(k) end
    self.region:write64(0x00, value * 256 + #part)
  end
end

--- Sends one character with something wrong.
function Far:send_marked(byte, mark) self.region:write32(0x08, byte + mark) end

--- The received bytes that have not been taken.
function Far:receive()
  local parts = {}
  while true do
    local value = self.region:read64(0x10)
    local n = tonumber(value % 256)
    if n == 0 then return table.concat(parts) end
    for _ = 1, n do
      value = value / 256
      parts[#parts + 1] = string.char(tonumber(value % 256))
    end
  end
end

function Far:queued() return self.region:read32(0x18) end
function Far:received() return self.region:read32(0x1c) end
--- CTS 1, DSR 2, RI 4, DCD 8
function Far:drive(lines) self.region:write32(0x24, lines) end
--- DTR 1, RTS 2, OUT1 4, OUT2 8, a break 16
function Far:sees() return self.region:read32(0x28) end
function Far:breaks() return self.region:read32(0x2c) end
--- LCR's low bits and the speed of the last character.
function Far:format() return self.region:read32(0x30), self.region:read32(0x34) end


return M
