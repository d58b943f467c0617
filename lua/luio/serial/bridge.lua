--- Carries bytes between a serial port and a pseudo-terminal, both ways, and the one's settings to the other.
---
---     local bridge = require("luio.serial.bridge").new(port, pty)
---     luio.run(function() assert(bridge:run()) end)     -- until bridge:stop() is called
---
--- Only the bytes of the last read are kept here. A client that does not read fills the kernel's few KiB, then the port's
--- receive ring, and there the port's flow control decides; one that writes faster than the line is slow waits, for nothing more
--- is taken from it meanwhile. While no client has the terminal open, the port is as a closed one: received bytes are dropped
--- (`unheard`), and DTR is off. A new client finds no old bytes.

local relay = require "luio.port.relay"
local luio = require "luio"
local errors = require "luio.errors"
local settings = require "luio.serial.settings"

local M = {}

local LOOK = 0.1 -- seconds between looks for a client
local PATIENCE = 1 -- seconds of a wait
local PIECE = 4096 -- bytes
local LAST = 32 -- pieces that are taken at the end: a client that goes on writing must not keep us

--- A bridge between a serial port and a pseudo-terminal.
---@class luio.serial.Bridge
---@field to_client integer   bytes
---@field from_client integer bytes that were written to the port by the end of `run`
---@field unheard integer     bytes that came while there was no client, or that it did not take before the end
---@field unsent integer      bytes of a client's that were taken and not written to the port when the bridge ended
---@field clients integer     that have come
---@field connected boolean
---@field package stopped boolean?
local Bridge = {}
Bridge.__index = Bridge

--- A bridge; it carries nothing before `run`. Stop it before you close the ends.
---@param port luio.serial.Port
---@param pty luio.serial.Pty
---@param options? { fixed: boolean?, tell: fun(line: string)? }  the line stays as it is, whatever clients set; told of events, in words
---@return luio.serial.Bridge
function M.new(port, pty, options)
  options = options or {}
  return setmetatable({
    port = port, pty = pty, fixed = options.fixed, tell = options.tell or function() end, to_client = 0, from_client = 0, unheard = 0,
    unsent = 0, clients = 0, connected = false,
  }, Bridge)
end

-- A device that is gone may return; an end that fails for good ends the bridge.
local function wait_while_gone(self, message, code)
  if code == "ETIMEDOUT" or self.stopped then return end
  if code == "ENODEV" then return luio.sleep(LOOK) end
  self.why = self.why or { message, code }
  self:stop()
end

-- The line gets the client's settings.
local function follow(self)
  if self.fixed then return end
  local line, hang_up = self.pty:line()
  if not line then return end
  self.hang_up = hang_up
  if line.baud == 0 then return self.port:set_lines { dtr = false } end
  local now, changes = self.port.settings, {}
  if now.stop == 1.5 and line.stop == 2 then line.stop = 1.5 end
  local changed = false
  for _, key in ipairs { "baud", "stop", "flow" } do
    if line[key] ~= now[key] then changes[key], changed = line[key], true end
  end
  if not changed then return end
  local print_of = ("%d %s"):format(line.baud, line.flow) .. line.stop
  if print_of == self.refused then return end -- said once
  local ran, ok, message = pcall(self.port.configure, self.port, changes)
  self.refused = not (ran and ok) and print_of or nil
  if ran and ok then self.tell(settings.text(self.port.settings)) else self.tell(errors.text(ran and message or ok)) end
end

local function come(self)
  self.connected, self.clients, self.hang_up = true, self.clients + 1, true
  self.unheard = self.unheard + self.port:available()
  self.port:discard "rx"
  follow(self)
  self.port:set_lines { dtr = true }
  self.tell "a client has come"
end

local function leave(self)
  self.connected = false
  if self.hang_up then self.port:set_lines { dtr = false } end
  self.tell "the client has gone"
end

-- From the client to the port.
local function attend_client(self)
  local due = luio.now() + PATIENCE
  while not self.stopped do
    if not self.connected then
      if self.pty:connected() then come(self) else luio.sleep(LOOK) end
    else
      local text, changed = self.pty:read()
      if not text then
        leave(self)
      elseif changed or luio.now() >= due then
        due = luio.now() + PATIENCE
        follow(self)
      end
      self.taken = self.taken + #(text or "")
      local done = 0
      while text and done < #text and not self.stopped do
        local n, message, code, written = self.port:write(text:sub(done + 1), PATIENCE)
        done = done + (n or written or 0)
        if not n then wait_while_gone(self, message, code) end
      end
      if text == "" and not changed then
        local ok, message, code = self.pty:readable(PATIENCE)
        if not ok then wait_while_gone(self, message, code) end
      end
    end
  end
end

-- Bytes that were read from the port are dropped.
local function drop(self)
  self.unheard, self.in_hand = self.unheard + self.in_hand, 0
end

-- From the port to the client.
local function attend_port(self)
  while not self.stopped do
    local text, message, code = self.port:read_some(PIECE, PATIENCE)
    if not text then wait_while_gone(self, message, code) end
    self.in_hand = #(text or "")
    while self.in_hand > 0 and not self.stopped do
      local n = self.connected and self.pty:write(text, #text - self.in_hand)
      if not n then
        drop(self)
        break
      end
      self.in_hand, self.to_client = self.in_hand - n, self.to_client + n
      if n == 0 then
        local ok, why, why_code = self.pty:writable(PATIENCE)
        if not ok then wait_while_gone(self, why, why_code) end
      end
    end
  end
end

-- Reads the rest that clients had written when the bridge was told to end: the kernel keeps a few KiB. As much as the
-- port has room for.
local function take_rest(self)
  for _ = 1, LAST do
    local text, changed = self.pty:read()
    if not text or text == "" and not changed or self.port.closed then return end
    self.taken = self.taken + #text
    if not self.port:write(text, 0) then return end
  end
end

--- Carries bytes until it is stopped, or an end fails for good. In a task.
---@return true? ok  it was stopped
---@return string? message
---@return string? code
function Bridge:run()
  self.port:set_lines { dtr = false }
  local written = self.port:stats().tx_written
  self.taken, self.in_hand = 0, 0
  local ok, message, code = relay.run(self, { { attend_client }, { attend_port } })
  -- The tasks were ended where they stood.
  take_rest(self)
  local given = self.port:stats().tx_written - written
  self.from_client, self.unsent = self.from_client + given, self.unsent + self.taken - given
  drop(self)
  return ok, message, code
end

--- Ends `run`, at once. Idempotent.
function Bridge:stop() relay.stop(self) end

return M
