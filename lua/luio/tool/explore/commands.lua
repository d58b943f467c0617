--- The functions at the prompt: the program's commands, on the open device.
---
--- Each comes with a line of help: `help()` lists them, `?dump` shows one. Places are given as text
--- ("STATUS.RAISE_IRQ", "0x20:u32", "RX*"), or as registers: STATUS, CHANNEL[2].CTRL.

local addresses = require "luio.host.address"
local report = require "luio.host.report"
local change = require "luio.tool.explore.change"
local doctor = require "luio.host.doctor"
local hexdump = require "luio.text.hexdump"
local inspect = require "luio.host.inspect"
local output = require "luio.tool.output"
local luio = require "luio"
local place = require "luio.tool.explore.place"
local record = require "luio.tool.explore.record"
local reload_report = require "luio.reload.report"
local script = require "luio.tool.explore.script"
local hex = require("luio.registers.show").hex
local snapshots = require "luio.tool.explore.snapshots"
local term = require "luio.text.term"
local watch = require "luio.tool.explore.watch"

local M = {}

-- Expected failures are errors here: at a prompt they end the line, and say why.
local function check(value, message, ...)
  if value == nil then error(message, 0) end
  return value, message, ...
end

-- The path of a place: registers and blocks are given as they are.
local function find(self, what)
  if type(what) == "table" and rawget(what, "path") then
    if rawget(what, "root") then return { { reg = what, label = what.path } } end
    what = what.path
  elseif what == self.regs then
    return check(self.target:all())
  elseif type(what) ~= "string" then
    error(("a place is a register, or text as \"STATUS.FIELD\" or \"0x20:u32\", not %s"):format(tostring(what)), 0)
  end
  return check(self.target:find(check(place.parse(what))))
end

-- And which of them are a range's.
local function find_all(self, ...)
  if select("#", ...) == 0 then return check(self.target:all()), {} end
  local all, ranges = {}, {}
  for i = 1, select("#", ...) do
    local what = select(i, ...)
    local list = find(self, what)
    if type(what) == "string" and check(place.parse(what)).kind == "range" then
      table.insert(ranges, { first = #all + 1, last = #all + #list })
    end
    for _, found in ipairs(list) do table.insert(all, found) end
  end
  return all, ranges
end

local function show(lines)
  term.print_all(lines)
end

local function read_all(self, list)
  local records = {}
  for i, found in ipairs(list) do records[i] = record.read(self.target, found) end
  return records
end

local function printable(t, lines)
  return setmetatable(t, { __tostring = function(v) return table.concat(lines(v), "\n") end })
end

---@class luio.PromptCommand
---@field [1] string    how it is called
---@field [2] string    what it does
---@field [3] function

-- ---- Looking -------------------------------------------------------------------------------------

local function looking(self)
  return {
    { "dump(PLACE, ...)", "shows registers, all or some; none whose read has a side effect", "dump", (function(...)
      local list, ranges = find_all(self, ...)
      show(record.dump(read_all(self, list), ranges, output.columns()))
    end) },
    { "get(PLACE)", "reads a register, field or bits; shows it, returns the value", "get", function(what)
      local list = find(self, what)
      if list[2] then
        local name = type(what) == "table" and rawget(what, "path") or tostring(what)
        error(("%s names several registers: dump() shows them"):format(name), 0)
      end
      local reason, _, hidden = self.target:left_out(list[1].reg)
      if reason then
        local reg = list[1].reg
        local hint = reg.def.readable and not hidden and ("; %s:read() does it all the same"):format(reg.path) or ""
        error(("%s: %s%s"):format(list[1].label, reason, hint), 0)
      end
      local r = record.read(self.target, list[1])
      self.journal:looked(list[1], r.value, r.part)
      return r.part or r.value
    end },
    { "reg(PLACE)", "the register there, to read and write: reg \"0x20:u32\"", "reg", function(what)
      local list = find(self, what)
      return list[1].reg
    end },
    { "snapshot(PLACE, ...)", "what the registers hold now: snap = snapshot()", "snapshot", (function(...)
      local s = snapshots.of(self.target, read_all(self, (find_all(self, ...))))
      return printable(s, function()
        return { ("snapshot of %s, %d registers, %s: diff(it), save(it, \"FILE\")"):format(s.device, #s.registers, s.time) }
      end)
    end) },
    { "diff(SNAP [, SNAP])", "what differs from a snapshot (or its file): now, or in another", "diff", (function(before, after)
      if type(before) == "string" then before = check(snapshots.load(before)) end
      if type(after) == "string" then after = check(snapshots.load(after)) end
      if type(before) ~= "table" or type(before.registers) ~= "table" then error("diff wants a snapshot: snap = snapshot()", 0) end
      after = after or snapshots.again(before, self.target, function(_, list) return read_all(self, list) end)
      local list = snapshots.diff(before, after, self.regs and self.regs.map)
      return printable(list, function()
        local lines = {}
        for _, d in ipairs(list) do
          for _, line in ipairs(snapshots.lines(d)) do table.insert(lines, line) end
        end
        return lines[1] and lines or { "nothing differs" }
      end)
    end) },
    { "save(SNAP, FILE)", "writes a snapshot for `luio diff`", "save", function(snap, path)
      if type(snap) ~= "table" or type(path) ~= "string" then error("save(snapshot, \"FILE\")", 0) end
      local plain = {}
      for key, value in pairs(snap) do plain[key] = value end
      check(output.file(path, output.encode(plain) .. "\n"))
    end },
    { "watch(PLACE, ... [, SECONDS])", "prints what changes, until Ctrl-C or so many seconds", "watch", function(...)
      local args, n = { ... }, select("#", ...)
      local seconds = type(args[n]) == "number" and args[n] or nil
      local list = find_all(self, unpack(args, 1, seconds and n - 1 or n))
      local w = watch.new(self.target, list)
      for _, row in ipairs(w.rows) do term.print_all(record.line(row.record, { columns = output.columns() })) end
      while not seconds or luio.now() - w.started < seconds do
        luio.sleep(0.05)
        for _, c in ipairs(w:sample()) do term.print(watch.text(c)) end
      end
    end },
  }
end

-- What a command on "this device" is told: of one of a QEMU machine that which is open. Its address would mean another machine.
local function this(self)
  return self.dev.address, self.dev.qemu and not self.dev.gone and addresses.info_of(self.dev) or nil
end

-- Commands that open nothing: about any device, by its address.
local function knowing(self)
  return {
    { "info([ADDRESS])", "all about this device, or another: regions, interrupt, IOMMU, who holds it", "info", (function(address)
      local own, info = this(self)
      show(report.lines(report.of(not address and info or check(inspect.find(address or own))), output.columns()))
    end) },
    { "list()", "what devices there are, and what drives them", "list", function()
      output.table(report.rows(check(report.devices())))
    end },
    { "doctor([ADDRESS])", "what would stop a driver of this device, or of another, and the remedy", "doctor", (function(address)
      local own, info = this(self)
      show((doctor.lines(check(doctor.device(address or own, not address and info or nil)), output.columns())))
    end) },
    { "hexdump(BUFFER [, FROM [, N]])", "bytes of a DMA buffer (dev.dma:alloc), or of a string", "hexdump", function(what, from, n)
      local text = type(what) == "string"
      local size = text and #what or type(what) == "table" and what.iova and what.size
      if not size then error("hexdump wants a DMA buffer or a string", 0) end
      from = from or 0
      if type(from) ~= "number" or from ~= from or from < 0 or from > size then error(("hexdump: FROM is 0 to %d"):format(size), 0) end
      if n ~= nil and (type(n) ~= "number" or n ~= n or n < 0) then error("hexdump: N is a number of bytes", 0) end
      local options = {
        size = size, from = from, to = n and math.min(from + n, size), columns = output.columns(), address = not text and what.iova or nil,
        read = function(offset, length) return text and what:sub(offset + 1, offset + length) or what:read(offset, length) end,
      }
      for line in hexdump.lines(options) do term.print(line) end
    end },
  }
end

-- ---- Changing ------------------------------------------------------------------------------------

local function changing(self)
  return {
    { "set(\"PLACE=VALUE\" [, \"read\"])", "writes, and shows the value before and after", "set", function(text, how)
      if type(text) ~= "string" or how ~= nil and how ~= "read" then
        error("set(\"STATUS.RAISE_IRQ=1\"), or STATUS:write(...), STATUS:update {...}; set(\"0x4:u32=5\", \"read\") reads around it", 0)
      end
      local c = check(change.plan(self.target, check(place.assignment(text)), how == "read"))
      check(c:apply())
      return printable(c, function()
        local width = c.reg.def.width
        local lines = { ("%s %s := %s%s"):format(c.reg.path, c.old and hex(c.old, width) or ("(%s)"):format(c.why_unread),
          hex(c.written, width), c.readback and " -> " .. hex(c.readback, width) or "") }
        for _, more in ipairs(change.lines(c)) do table.insert(lines, more) end
        return lines
      end)
    end },
    { "undo([N])", "takes the last N register writes back, where that can be done", "undo", function(n)
      if n ~= nil and (type(n) ~= "number" or n < 1 or n % 1 ~= 0) then error("undo(N): how many writes, from 1", 0) end
      local result = self.journal:undo(n or 1)
      term.print_all(result.done)
      term.print_all(result.refused)
      if not result.done[1] and not result.refused[1] then term.print "nothing to undo: no register was written" end
    end },
    { "session([\"spec\"|\"driver\"])", "the session as a script (or a spec, or a driver) to save", "session", function(form)
      if form ~= nil and not script.has(form) then error("session(), session \"spec\" or session \"driver\"", 0) end
      term.print_all(check(script.write(self.journal, form)))
    end },
    { "start([DRIVER])", "starts the matching driver: driver.FUNCTION(dev, ...) works then", "start", function(name)
      local d = check(self:start(name))
      term.print(("driver %s runs"):format(d.name))
    end },
    { "reload()", "takes the driver's files as they are now, while it runs; also :reload", "reload", function()
      if not self.dev.live then error("no driver runs: start()", 0) end
      term.print_all(reload_report.line(self.dev.live:reload()))
    end },
    { "irqs([{ capture =, ack = }])", "shows interrupts as they come; taken so; false: no more", "irqs", function(how)
      if how ~= nil and type(how) ~= "boolean" and type(how) ~= "table" then
        error("irqs(), irqs { capture = \"STATUS\", ack = \"CLEAR\" } or irqs(false)", 0)
      end
      local _, note = check(self:irqs(how == nil or how))
      if note then term.print(note) end
    end },
    { "unmask()", "lets the next interrupt through by hand", "unmask", function()
      check(self.dev:unmask())
      self.journal:unmasked()
    end },
    { "reopen()", "closes the device and opens it again", "reopen", function()
      check(self:reopen())
      term.print(tostring(self.dev))
    end },
  }
end

--- The functions of a session, by name; `help` among them, which can be called, and has the texts.
---@param self luio.Session
---@return table<string, any>
function M.new(self)
  local commands, rows = {}, {}
  for _, list in ipairs { looking(self), knowing(self), changing(self) } do
    for _, row in ipairs(list) do
      table.insert(rows, row)
      commands[row[3]] = row[4]
    end
  end
  local help = {}
  for _, row in ipairs(rows) do help[row[3]] = ("%s  %s"):format(row[1], row[2]) end
  help.help = "help([NAME])  lists this, or explains a register or a function"
  commands.help = setmetatable(help, {
    __call = function(_, ...)
      local columns = output.columns()
      if select("#", ...) > 0 then
        local help_texts = require "luio.tool.explore.help"
        local name = help_texts.name_of(self, (...))
        if not name then error(("help of what? %s has no name here: help \"NAME\""):format(tostring((...))), 0) end
        for line in (check(help_texts.name(self, name, { width = columns or 80 })) .. "\n"):gmatch "(.-)\n" do term.print(line) end
        return
      end
      local function say(call, text)
        if columns and columns < 76 then
          term.print("  " .. call)
          show(term.wrap(text, columns, "      "))
        else
          show(term.wrap(text, columns, (" "):rep(34), term.pad("  " .. call, 34)))
        end
      end
      for _, row in ipairs(rows) do say(row[1], row[2]) end
      say("?NAME, help NAME, ??WORD", "explains a register or a function; searches names and descriptions")
      say("dev, regs, driver, luio", "the device, its registers (each under its own name, too)")
      show(term.wrap({ "STATUS shows it,", "STATUS:read(),", "STATUS:write { F = 1 },", "STATUS:update { F = 1 },",
        "STATUS:wait({ F = 0 }, SECONDS)." }, columns))
    end,
    __tostring = function() return "help() lists what there is" end,
  })
  commands.luio = luio
  return commands
end

return M
