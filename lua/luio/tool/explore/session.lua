--- A session with a device: the scope of the prompt of `luio explore`.
---
--- The environment of its chunks (`session.env`) has the device, every register of the map under its own
--- name, luio, Lua's globals, and the functions of luio.tool.explore.commands. A name in capitals that nothing
--- has is an error, not nil: at a prompt it is a misspelt register.
---
--- The device is owned as by its driver, so that interrupts can be waited for; but nothing is unmasked
--- or enabled until it is asked for (irqs(), start()). A device that is removed or unbound is closed at
--- once, because its old mappings would reach its next owner's device; reopen() takes it again. A range
--- of physical addresses is read-only without `--write`.

local luio = require "luio"
local driver = require "luio.driver"
local journal = require "luio.tool.explore.journal"
local match = require "luio.driver.match"
local near = require "luio.registers.near"
local show = require "luio.registers.show"
local target = require "luio.tool.explore.target"
local task = require "luio.loop.task"
local term = require "luio.text.term"

local M = {}

---@class luio.Session
---@field target luio.Target
---@field dev luio.Device
---@field regs luio.Registers?
---@field env table
---@field journal luio.Journal
---@field args { device: string, map: string?, read_only: boolean?, write: boolean? }
---@field gone boolean?
local Session = {}
Session.__index = Session

-- ---- Names ---------------------------------------------------------------------------------------

local function environment(self)
  local commands = require("luio.tool.explore.commands").new(self)
  return setmetatable({}, {
    __index = function(_, name)
      if name == "dev" then return self.dev end
      if name == "regs" then return self.regs end
      if name == "driver" then return self.dev.driver or self.target.driver end
      local command = commands[name]
      if command ~= nil then return command end
      local map = self.regs and self.regs.map
      if map and (map.child[name] or map.whole and map.whole.child[name]) then return self.regs[name] end
      local global = _G[name]
      if global == nil and type(name) == "string" and name:match "^%u[%u%d_]+$" then
        error(("there is no %s%s"):format(name, map and near.hint(name, map.child)
          or ": no register map is loaded: " .. (self.target.no_map or "the device is closed")), 2)
      end
      return global
    end,
  })
end

-- ---- Lines that come by themselves ---------------------------------------------------------------

--- Sets the output for lines that come by themselves: interrupts, a device that goes away.
---@param fn fun(text: string)?
function Session:notify(fn)
  self.listener = fn
end

--- Says something beside what runs.
---@param text string
function Session:say(text)
  if self.listener then self.listener(text) else term.print(text) end
end

-- ---- Opening and losing --------------------------------------------------------------------------

local function attach(self, t)
  self.target, self.dev, self.regs, self.gone = t, t.dev, t.regs, nil
  t.dev.regs = t.regs
  t.dev.on_warning = function(message) self:say("warning: " .. message) end
  self.journal = journal.new(t, self.journal)
  self.journal.say = function(text) self:say(text) end
end

-- A driver has started: its accesses are the session's, too.
local function adopt(self)
  self.regs = self.dev.regs or self.regs
  self.target.regs = self.regs
  self.journal:listen()
end

local function lose(self, why)
  if self.gone then return end
  self.gone = true
  local ok, message = self.dev:close()
  self:say(("%s %s; reopen() takes it again"):format(self.args.device, why))
  if not ok then self:say("warning: " .. message) end
end

local function concerns(self, event)
  local info = self.dev.info
  return event.address == info.address or event.address == info.uio
end

-- Watches for the device to go away and to come back.
local function watch_hotplug(self)
  local monitor = luio.monitor() -- without one nothing is lost but the news
  if not monitor then return end
  self.monitor = monitor
  self.hotplug = luio.spawn(function()
    while true do
      local event, _, code = monitor:wait(3600)
      if event and concerns(self, event) then
        local action = event.action
        if action == "remove" or (action == "unbind" and event.subsystem == "pci" and self.target.how == "own") then
          lose(self, action == "remove" and "is gone" or "was taken from its driver")
        elseif self.gone and (action == "add" or action == "bind") then
          self:say(("%s is there again: reopen()"):format(self.args.device))
        end
      elseif code == "ENOBUFS" then
        self:say "warning: hot-plug events were lost; reopen() if the device does not answer"
      elseif not event and code ~= "ETIMEDOUT" then
        return
      end
    end
  end)
end

local function open_target(args)
  local read_only = args.read_only or args.device:match "^mem:" and not args.write
  return target.open(args.device, { how = read_only and "read" or "own", map = args.map, write = args.write })
end

--- Opens a session.
---@param args { device: string, map: string?, read_only: boolean?, write: boolean? }
---@return luio.Session?
---@return string? message
---@return string? code
function M.open(args)
  local t, message, code = open_target(args)
  if not t then return nil, message, code end
  local self = setmetatable({ args = args }, Session)
  attach(self, t)
  self.env = environment(self)
  if t.dev.info.can_leave then watch_hotplug(self) end
  return self
end

--- Opens the device again: after it was gone, after close(), or to begin anew. The journal goes on.
---@return boolean? ok
---@return string? message
---@return string? code
function Session:reopen()
  self:irqs(false)
  local ok, message, code = self.dev:close()
  if not ok then return nil, message, code end
  local t
  t, message, code = open_target(self.args)
  if not t then return nil, message, code end
  attach(self, t)
  for _, note in ipairs(t.notes) do self:say("note: " .. note) end
  if t:missing() then self:say("note: " .. t:missing()) end
  return true
end

--- Ends the session: listeners end, the device is closed.
---@return boolean? ok
---@return string? message
---@return string? code
function Session:close()
  self:irqs(false)
  if self.hotplug then self.hotplug:cancel() end
  if self.monitor then self.monitor:close() end
  self.hotplug, self.monitor = nil, nil
  return self.dev:close()
end

--- The reason why accesses since the last call were not answered (luio.Target.silent); with `all`, why no access would be.
---@param all boolean?
---@return string?
function Session:silent(all)
  local regions = all and self.dev.info.bars or self.target.touched
  self.target.touched = {}
  return not self.gone and self.target:silent(regions) or nil
end

-- ---- Drivers and interrupts ----------------------------------------------------------------------

--- Starts the driver that matches, on the device that is open: its interrupts and its DMA are on then.
---@param name string?  another driver
---@return table? driver
---@return string? message
---@return string? code
function Session:start(name)
  local d, message, code = self.target.driver, nil, nil
  if name then d, message, code = driver.load(name) end
  if not d and not name then -- it may have been mended since
    name, d, message = match.driver_of(self.dev.info)
  end
  if not d then return nil, name and message or ("%s: %s"):format(self.dev.address, message), code or "ENOENT" end
  if self.dev.driver then return nil, ("driver %s runs already"):format(self.dev.driver.name), "EBUSY" end
  if self.dev.read_only then return nil, "the device is open read-only", "EACCES" end
  self:irqs(false)
  local stopped
  stopped, message, code = self.dev.irqs[0]:close() -- the driver states its own top half
  if not stopped then return nil, message, code end
  local dev
  dev, message, code = driver.start(d, self.dev)
  if not dev then -- it has closed the device
    local ok, why = self:reopen()
    if not ok then message = ("%s; and then: %s"):format(message, why) end
    return nil, message, code
  end
  adopt(self)
  return d
end

local LINES_PER_SECOND = 5

-- "IRQ_STATUS=0x1" of an event's captured registers.
local function captured(event)
  local parts = {}
  for name, value in pairs(event) do
    if name ~= "time" and name ~= "count" and name ~= "overflow" then
      table.insert(parts, ("%s=%s"):format(name, show.value(value)))
    end
  end
  table.sort(parts)
  return table.concat(parts, " ")
end

local function listen(self, irq)
  local total, shown, window, silent = 0, 0, luio.now(), 0
  while true do
    local event, message, code = irq:wait(1)
    local now = luio.now()
    if now - window >= 1 then
      if silent > 0 then self:say(("... and %d more interrupts, %d in all"):format(silent, total)) end
      window, shown, silent = now, 0, 0
    end
    if event then
      total = total + event.count
      local masked = irq.source.setup.unmask == false
      self.journal:interrupt(irq.source.setup)
      if shown < LINES_PER_SECOND then
        shown = shown + 1
        self:say(("interrupt %d  %s%s"):format(total, captured(event), masked and "  (left masked: acknowledge it, then unmask())" or ""))
      else
        silent = silent + event.count
      end
    elseif code ~= "ETIMEDOUT" then
      if not self.gone and code ~= "ECANCELED" then self:say("interrupts end: " .. message) end
      return
    end
  end
end

-- The top half: the given one, else the one set up by hand, else the driver's. Nothing: each is left masked.
local function set_up(self, irq, given)
  local by_hand = next(irq.source.setup) ~= nil
  if given or not by_hand and not irq:started() and self.target.driver then
    if given and self.dev.driver then
      return nil, ("driver %s runs, and states what takes its interrupts"):format(self.dev.driver.name), "EBUSY"
    end
    local from = given and { name = "", irq = given } or self.target.driver
    local setup, message, code = driver.top_half(from, self.dev, 0)
    if message then return nil, given and message:gsub("^irq of driver : ", "irqs: ") or message, code end
    if setup and irq:started() then
      local ok
      ok, message, code = irq:exchange(setup)
      if ok then self.journal:exchanged(setup) end
      return ok, message, code
    end
    if setup then irq:setup(setup) end
    if setup then return true end
  end
  if not by_hand and not irq:started() then
    irq:setup { unmask = false }
    return true, 'nothing says how to acknowledge: each is left masked until unmask(); irqs { capture = "STATUS", ack = "CLEAR" } says it'
  end
  return true
end

--- Starts or stops showing interrupts as they come. They are taken by the top half that is given here, or by
--- dev.irqs[0]:setup; else with the matching driver's top half, which acknowledges them. Without one each is left
--- masked.
---@param on boolean|{ capture: any, ack: any, unmask: boolean? }  as a driver's `irq`: names of registers, or offsets
---@return boolean? ok
---@return string? message  after true: a remark
---@return string? code
function Session:irqs(on)
  if not on then
    if self.listening then self.listening:cancel() end
    self.listening = nil
    return true
  end
  local irq, given = self.dev.irqs[0], type(on) == "table" and on or nil
  local listening = self.listening and self.listening.status == "waiting"
  if listening and not given then return true, "interrupts are shown already" end
  local ok, note, code = true, nil, nil
  local masked = irq.source.setup.unmask == false -- maybe: one may have come
  if given or not self.dev.driver then ok, note, code = set_up(self, irq, given) end
  local message = note
  if ok then ok, message, code = irq:start() end
  if ok and (masked or irq.source.setup.unmask == false) then
    ok, message, code = irq:unmask()
    if ok and masked then self.journal:unmasked() end -- the first is the script's own
  end
  if not ok then return nil, message, code end
  if not listening then self.listening = task.spawn(function() listen(self, irq) end) end
  return true, note
end

return M
