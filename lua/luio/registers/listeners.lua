--- Listeners to the accesses through a map, and their arguments.
---
--- A map is bound several times where a driver runs: for its user (`dev.regs`) and for each version of the driver's code. They
--- share one list of listeners, so that `dev.regs:on_access(f)` gets the driver's accesses, and goes on over a reload. Each
--- listener has a key, which a warning names: "on_access" is the user's, "journal" that of the prompt's journal
--- (luio.tool.explore.journal). Neither takes the other's place.
---
--- A listener does not hear of the accesses that it makes itself, which would call it again without end. A listener that raises is
--- removed, with a warning: the access was made, and its caller gets the value. Errors that are no text (a task that is cancelled,
--- Ctrl-C) are not the listener's, and go on.

local runtime = require "luio.ffi"
local errors = require "luio.errors"
local values = require "luio.registers.values"

local M = {}

--- An access to a register, as a listener gets it.
---@class luio.Access
---@field register string     its path
---@field reg luio.Register
---@field looking boolean     it was read to be shown: printing, a snapshot
---@field shown boolean       and was shown alone
---@field direction "read"|"write"
---@field value integer|ffi.cdata*
---@field time number         seconds on luio.now()'s clock, after the access
---@field source string?      the script's file:line
local Access = {}
Access.__index = Access

--- "read STATUS = 0x00000080  RAISE_IRQ=1 COMPUTING=0  (demo.lua:12)". Touches nothing.
function Access:__tostring()
  local fields = values.fields(self.reg, self.value)
  return ("%-5s %s = %s%s%s%s"):format(self.direction, self.register, values.hex(self.value, self.reg.def.width),
    fields ~= "" and "  " .. fields or "", self.looking and "  (to show it)" or "", self.source and ("  (%s)"):format(self.source) or "")
end

--- A function that is called at each access to a device's registers.
---@class luio.Listener
---@field key string
---@field after fun(access: luio.Access)
---@field before fun(reg: luio.Register, value: any)?  called before each write
---@field busy table<thread|string, boolean>  in which coroutines it runs now

---@class luio.Listeners
---@field list luio.Listener[]
---@field package roots table<luio.Registers, true>  weak: those that share it
---@field package reclass fun(root: luio.Registers)  called when the first comes, or the last goes
local Listeners = {}
Listeners.__index = Listeners

--- An empty list.
---@param reclass fun(root: luio.Registers)  has a map's registers know whether there is somebody who listens
---@return luio.Listeners
function M.new(reclass)
  return setmetatable({ list = {}, roots = setmetatable({}, { __mode = "k" }), reclass = reclass }, Listeners)
end

--- A bound map is to share it.
---@param root luio.Registers
function Listeners:add(root) self.roots[root] = true end

--- A bound map has another.
---@param root luio.Registers
function Listeners:remove(root) self.roots[root] = nil end

--- Sets the listener of a key; nil removes it.
---@param key string
---@param after fun(access: luio.Access)?
---@param before? fun(reg: luio.Register, value: any)
function Listeners:set(key, after, before)
  local list = {} -- a new one: the old may be gone through just now
  for _, one in ipairs(self.list) do
    if one.key ~= key then table.insert(list, one) end
  end
  if after then table.insert(list, { key = key, after = after, before = before, busy = setmetatable({}, { __mode = "k" }) }) end
  self.list = list
  for root in pairs(self.roots) do self.reclass(root) end
end

-- Calls one listener, unless it is its own access.
local function tell(self, one, reg, fn, ...)
  local here = coroutine.running() or "main"
  if one.busy[here] then return end
  one.busy[here] = true
  local ok, thrown = pcall(fn, ...)
  one.busy[here] = nil
  if ok then return end
  if type(thrown) ~= "string" then error(thrown, 0) end
  for _, still in ipairs(self.list) do
    if still == one then -- else it has put another in its place
      self:set(one.key, nil)
      break
    end
  end
  reg.root.device:warn(("%s: the function raised, and is not called any more: %s"):format(one.key, errors.text(thrown)))
end

--- Before a write.
---@param reg luio.Register
---@param value any
function Listeners:before(reg, value)
  for _, one in ipairs(self.list) do
    if one.before then tell(self, one, reg, one.before, reg, value) end
  end
end

--- The script's line that made an access: the first frame outside of luio.
---@return string? place  "file:line"
function M.caller()
  for level = 3, 60 do
    local info = debug.getinfo(level, "Sl")
    if not info then return nil end
    if info.what ~= "C" and info.currentline > 0 and not errors.is_ours(info.source) then
      return ("%s:%d"):format(info.short_src, info.currentline)
    end
  end
end

--- After an access.
---@param reg luio.Register
---@param direction "read"|"write"
---@param value integer|ffi.cdata*
function Listeners:after(reg, direction, value)
  if not self.list[1] then return end -- the last one went away during the access
  local width = reg.def.width
  local access = setmetatable({
    register = reg.path, reg = reg, direction = direction, looking = reg.root.looking ~= false, shown = reg.root.looking == "shown",
    value = type(value) == "number" and value % 2 ^ width or value, -- bit operations are signed
    time = runtime.now(), source = M.caller(),
  }, Access)
  for _, one in ipairs(self.list) do tell(self, one, reg, one.after, access) end
end

return M
