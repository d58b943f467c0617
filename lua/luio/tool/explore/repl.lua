--- The prompt of `luio explore`: reads a chunk, runs it as a task, prints its results.
---
---     edu> STATUS
---     STATUS 0x20 = 0x00000080  RAISE_IRQ=1 COMPUTING=0
---     edu> for i = 1, 3 do
---       ..   print(i) end
---
--- The loop turns all the time: while a line is typed (luio.tool.explore.editor) and while a chunk waits, so
--- other tasks go on, and their output is shown above the prompt. Ctrl-C ends what runs
--- (luio.tool.explore.interrupt), or the line that is typed; an error ends its chunk; only Ctrl-D, `exit`, and
--- the signals that end programs end the session.
---
--- Without a terminal the same chunks come from `-e` or, line by line, from standard input: no prompt,
--- results printed alike, and the first error ends it.

local errors = require "luio.errors"
local uv = require "luv"
local luio = require "luio"
local chunk = require "luio.tool.explore.chunk"
local device = require "luio.device"
local interrupts = require "luio.tool.explore.interrupt"
local task = require "luio.loop.task"
local wait_slot = require "luio.loop.wait_slot"
local output = require "luio.tool.output"
local term = require "luio.text.term"
local values = require "luio.tool.explore.values"

local M = {}

local MAX_FRAMES = 6
local EXIT = { sigint = 130, sigterm = 143, sighup = 129 }

---@class luio.ReplSession
---@field env table                             the environment of chunks
---@field name string?                          the prompt's name; nil: the device's address
---@field notify fun(self, fn: fun(text: string)?)?  receives lines that are not results of a chunk
---@field silent (fun(self): string?)?          why the accesses since the last call were not answered

---@class luio.ReplOptions
---@field execute string[]?  chunks to run, then end
---@field history string?    its file; else the user's

-- ---- Errors --------------------------------------------------------------------------------------

-- The frames of the user's code above a level: chunks, scripts, drivers; not luio's, not C's.
local function frames(level)
  local list = {}
  for i = level + 1, level + 200 do
    local info = debug.getinfo(i, "Sln")
    if not info then break end
    if info.what ~= "C" and info.currentline >= 0 and not interrupts.is_ours(info.source) then
      local name = info.what ~= "main" and info.name and (" in %s"):format(info.name) or ""
      table.insert(list, { at = ("%s:%d"):format(info.short_src, info.currentline), name = name })
    end
  end
  return list
end

-- The user caused an error that luio itself raises: the message names his line. (A nil where luio did
-- not expect one is a fault of luio's.)
local function with_user_line(message, frame)
  local place, rest = message:match "^(.-:%d+): (.*)$"
  if not frame or not place or not interrupts.is_ours("@" .. place) or rest:match "^attempt to " then return message end
  return ("%s: %s"):format(frame.at, rest)
end

-- The handler of xpcall: the message, and below it where it came from, as far as that says more.
local function explain(err)
  local list = frames(2)
  local first = list[1]
  local message = with_user_line(errors.text(err), first)
  if err == interrupts.INTERRUPTED or message == "the task was cancelled" then
    return { interrupted = true, text = first and ("interrupted at %s"):format(first.at) or "interrupted" }
  end
  if #list == 1 and message:sub(1, #first.at) == first.at then list = {} end
  local lines = { message }
  for i, frame in ipairs(list) do
    if i > MAX_FRAMES then
      table.insert(lines, ("  ... %d more"):format(#list - MAX_FRAMES))
      break
    end
    table.insert(lines, ("  %s%s"):format(frame.at, frame.name))
  end
  return { text = table.concat(lines, "\n") }
end

-- ---- Running a chunk -----------------------------------------------------------------------------

---@class luio.Repl
---@field session luio.ReplSession
---@field editor luio.Editor?
---@field interrupt luio.Interrupt
---@field running luio.Task?
---@field cancelled luio.Task?   the chunk that had its first Ctrl-C
---@field leaving string?        the signal that ends the session
---@field silent string?         why the last chunk's accesses were not answered
---@field pending string         lines of a chunk that is not complete
---@field unfinished boolean?    the last output did not end its line
local Repl = {}
Repl.__index = Repl

local function pack(...) return { n = select("#", ...), ... } end

-- Runs a function as a task until it has ended: true and the text to print, or false and what went
-- wrong. `show` makes that text of its results; it runs in the task, too, so it can be interrupted.
---@private
function Repl:run(code, show)
  local finished, failure, text
  local wake
  task.spawn(function()
    self.running = task.current() -- it runs until its first wait before spawn returns
    self.interrupt:runs(self.running)
    local ok, err = xpcall(function()
      local results = pack(code())
      text = show and show(results)
    end, explain)
    if not ok then failure = err end
    finished = true
    if wake then wake() end
  end)
  while not finished do
    wait_slot.await(3600, function(w)
      wake = w
      return function() wake = nil end
    end)
  end
  self.running = nil
  self.interrupt:runs(nil)
  if failure then return false, failure end
  return true, text
end

-- Runs a chunk. Statements show nothing, words to the prompt their text.
---@private
function Repl:evaluate(c)
  local env = self.session.env
  if c.kind == "help" then return self:run(function() env.help() end) end
  if c.kind == "explain" or c.kind == "search" then
    local find = c.kind == "explain" and require("luio.tool.explore.help").name or require("luio.tool.explore.explain").search
    return self:run(function()
      local text, message = find(self.session, c.word, { width = self:columns() })
      return text or error(message or ("nothing is known of " .. c.word), 0)
    end, function(results) return results[1] end)
  end
  return self:run(c.code, c.kind == "expression" and function(results)
    if results.n > 0 then env._ = results[1] end
    return values.results(results, self:columns())
  end)
end

-- Why registers that the last chunk read gave values that are none; and whether that was said of the chunk before.
---@private
function Repl:unanswered()
  local session, before = self.session, self.silent
  self.silent = session.silent and session:silent() or nil
  return self.silent, before ~= nil and before == self.silent
end

-- A signal, told by the loop.
---@private
function Repl:signal(name)
  if name ~= "sigint" then self.leaving = name end
  if self.running then
    if self.cancelled == self.running or name ~= "sigint" then self.interrupt:keep_raising() end
    self.cancelled = self.running
    self.running:cancel()
  elseif self.editor then
    self.editor:interrupt(name == "sigint" and "interrupt" or "leave")
  end
end

-- Keeps the tasks that are started meanwhile, to cancel at the end those that still wait.
local function watch_tasks()
  local spawn, tasks = luio.spawn, setmetatable({}, { __mode = "k" })
  function luio.spawn(...)
    local t = spawn(...)
    tasks[t] = true
    return t
  end
  return function()
    luio.spawn = spawn
    for t in pairs(tasks) do t:cancel() end
  end
end

---@private
function Repl:columns()
  return self.editor and (self.editor:size()) or 80
end

-- ---- Output while a line is typed ----------------------------------------------------------------

-- Output while a line is typed belongs above it.
---@private
function Repl:divert()
  local real_print, real_write = print, io.write
  local stdout, part = io.stdout, "" -- of a line whose end is yet to come
  local function flush()
    if part ~= "" then real_write(part) end
    part = ""
  end
  local function line(ready)
    if self.editor.editing then
      self.editor:above(part .. ready)
      part = ""
    else
      flush()
      self.unfinished = nil
      real_print(ready)
    end
  end
  term.sink = line
  -- Text that is printed at the prompt was mostly written by others. Bytes as they are: io.write.
  _G.print = function(...)
    local texts = {}
    for i = 1, select("#", ...) do texts[i] = tostring((select(i, ...))) end
    line(term.ready(table.concat(texts, "\t")))
  end
  io.write = function(...) -- luacheck: ignore 122
    if io.output() ~= stdout then return real_write(...) end
    local text = table.concat { ... }
    if not self.editor.editing then
      flush()
      if text ~= "" then self.unfinished = text:sub(-1) ~= "\n" end
      return real_write(...)
    end
    local lines, rest = (part .. text):match "^(.*)\n(.-)$"
    part = rest or part .. text
    if lines then self.editor:above(lines) end
    return stdout
  end
  return function()
    _G.print, io.write, term.sink = real_print, real_write, nil -- luacheck: ignore 122
  end
end

-- ---- The prompt ----------------------------------------------------------------------------------

---@private
function Repl:say(text)
  self.editor:above(term.ready(text))
end

---@private
function Repl:prompts()
  local env = self.session.env
  local name = self.session.name or env.dev and env.dev.address or "luio"
  local first = term.clean(name) .. "> "
  local more = (" "):rep(math.max(#first - 3, 0)) .. ".. "
  local function bold(text)
    if not term.colour then return text end
    return ("\1\27[1m\1%s\1\27[0m\1 "):format(text:sub(1, -2))
  end
  return bold(first), bold(more)
end

local function banner(session)
  local env = session.env
  local dev, regs = rawget(env, "dev") or env.dev, rawget(env, "regs") or env.regs
  local lines = { tostring(dev) }
  if regs then
    local n, source = regs.map.total, regs.map.source
    lines[2] = output.count(n, "register") .. (source and (", %s"):format(source:gsub("^%./", "")) or "")
  else
    local broken = session.target and session.target:missing()
    lines[2] = broken and "no register map" or "no register map: --map FILE names one"
  end
  if dev and dev.read_only then
    table.insert(lines, "read-only: every write is refused" .. (dev.info.is_range and "; --write allows them" or ""))
  end
  table.insert(lines, "help(), ?NAME explain; Ctrl-D leaves")
  return lines
end

-- Runs an entered chunk, and shows its results. True: the session ends.
---@private
function Repl:enter(c)
  if c.kind == "leave" then return true end
  local ok, result = self:evaluate(c)
  if self.unfinished then io.stdout:write "\n" end
  self.unfinished = nil
  if not ok then
    self:say(result.interrupted and term.yellow(result.text) or term.red(result.text))
  elseif result then
    self:say(result)
  end
  local silent, said = self:unanswered()
  if silent and not said then self:say(term.yellow("note: " .. silent)) end
  if ok and c.name and not self.said_local then
    self.said_local = true
    self:say(term.dim(("note: a local is gone with its line; without `local`, %s stays"):format(c.name)))
  end
  return false
end

-- Keeps a whole text in the history.
---@private
function Repl:remember(text)
  local entry, note = self.history:add(text)
  if entry then self.editor:remember(entry) end
  if note then io.stdout:write(term.ready("note: " .. note), "\n") end
end

-- Reads until there is something to run, over as many lines as it takes. nil: the session ends, by this event.
---@private
function Repl:read_chunk()
  local first, more = self:prompts()
  self.pending = ""
  local whole
  local event = self.editor:read {
    prompt = first,
    entered = function(line)
      local text = self.pending .. line
      local c = chunk.read(text, "prompt", self.session.env)
      if c.kind == "incomplete" then
        self.pending = text .. "\n"
        return more
      end
      self.pending = ""
      self:remember(text)
      if c.kind == "error" then io.stdout:write(term.ready(term.red(c.message)), "\n") end
      if c.kind == "error" or c.kind == "empty" then return first end
      whole = c
    end,
    abandoned = function()
      self.pending = ""
      return first
    end,
  }
  return whole, event
end

---@private
function Repl:complete(before)
  local text = self.pending .. before
  local start, list = require("luio.tool.explore.complete").line(self.session.env, text)
  return start - #self.pending, list
end

---@private
function Repl:interactive()
  local history = require("luio.tool.explore.history").open(self.options.history)
  self.history = history
  local editor, message, code = require("luio.tool.explore.editor").open { history = history.entries }
  if not editor then return nil, message, code end
  self.editor = editor
  editor.complete = function(before) return self:complete(before) end
  local undivert = self:divert()
  local on_failure, on_warning = task.on_failure, device.settings.on_warning
  luio.on_task_failure(function(t, traceback)
    self:say(term.red(("task %s failed: %s"):format(t.name, traceback:match "^[^\n]*")))
  end)
  luio.on_warning(function(text) self:say("warning: " .. text) end)
  if self.session.notify then self.session:notify(function(text) self:say(text) end) end
  local signals = {}
  for name, fn in pairs { sigwinch = editor.resized, sigcont = editor.continued } do
    local signal = assert(uv.new_signal())
    signal:start(name, function() fn(editor) end)
    signal:unref()
    table.insert(signals, signal)
  end

  local ok, status = xpcall(function()
    for _, line in ipairs(banner(self.session)) do self:say(line) end
    if history.note then self:say("note: " .. history.note) end
    while true do
      local c, event = self:read_chunk()
      if not self.leaving and event then return event == "eof" and 0 or EXIT.sighup end
      if not self.leaving and self:enter(c) then return 0 end
      if self.leaving then return EXIT[self.leaving] end
    end
  end, errors.traceback)

  if self.session.notify then self.session:notify(nil) end
  luio.on_task_failure(on_failure)
  luio.on_warning(on_warning)
  undivert()
  editor:close()
  local open = #signals
  for _, signal in ipairs(signals) do signal:close(function() open = open - 1 end) end
  while open > 0 do uv.run "nowait" end
  if not ok then return nil, status end
  return status
end

-- ---- Without a terminal --------------------------------------------------------------------------

local function say_error(text)
  term.tell("luio: " .. text)
end

-- A script's lines as chunks: each is a chunk as at the prompt, with as many lines as it needs. A prompt's `local` ends with its
-- line; a script's is meant for the lines below.
local function chunks_of(text)
  local number, from, pending = 0, 1, nil
  local rest = (text .. (text:sub(-1) == "\n" and "" or "\n")):gmatch "(.-)\r?\n"
  return function(env)
    for line in rest do
      number = number + 1
      if not pending then from = number end
      pending = pending and pending .. "\n" .. line or line
      local c = chunk.read(pending, "stdin", env, from)
      if c.kind == "statement" and (pending:find "^%s*local%s+[%a_][%w_%s,]*=" or pending:find "^%s*local%s+function%s") then
        c = chunk.read((pending:gsub("local", "", 1)), "stdin", env, from)
      end
      if c.kind ~= "incomplete" then
        pending = nil
        return c, from
      end
    end
    if pending then
      local c = chunk.read(pending, "stdin", env, from)
      pending = nil
      return c, from
    end
  end
end

-- The chunks of -e.
local function chunks_given(texts)
  local i = 0
  return function(env)
    i = i + 1
    return texts[i] and chunk.read(texts[i], "-e", env)
  end
end

-- One chunk after the other; the first that fails ends it. One that read values which are none fails, but is shown.
---@private
function Repl:chunks(chunks)
  local status = 0
  for c, number in chunks, self.session.env do
    if c.kind == "leave" then return status end
    if c.kind == "incomplete" or c.kind == "error" then
      say_error(c.message)
      return 1
    elseif c.kind ~= "empty" then
      local ok, result = self:evaluate(c)
      if not ok then
        local placed = not number or result.text:match("^[^\n]*"):find "stdin:%d"
        say_error(placed and result.text or ("stdin:%d: %s"):format(number, result.text))
        return self.leaving and EXIT[self.leaving] or result.interrupted and EXIT.sigint or 1
      end
      if result then term.print_all(result) end
      local silent, said = self:unanswered()
      if silent and not said then say_error(silent) end
      if silent then status = 1 end
    end
  end
  return status
end

-- The same, with other output on standard error. A task that fails counts as a chunk that does.
---@private
function Repl:batch(chunks)
  local session, on_failure, failed = self.session, task.on_failure, false
  luio.on_task_failure(function(t, traceback)
    failed = true
    say_error(("task %s failed: %s"):format(t.name, traceback))
  end)
  if session.notify then
    session:notify(term.tell)
  end
  local ok, status = pcall(self.chunks, self, chunks)
  if session.notify then session:notify(nil) end
  luio.on_task_failure(on_failure)
  if not ok then return nil, errors.text(status) end
  return status == 0 and failed and 1 or status
end

--- Runs a session to its end. The device stays open: its opener closes it.
---@param session luio.ReplSession
---@param options? luio.ReplOptions
---@return integer? status  0; 1: a chunk failed (without a terminal); 128 + the signal that ended it
---@return string? message  why it could not begin
---@return string? code
function M.run(session, options)
  local self = setmetatable({ session = session, options = options or {}, pending = "" }, Repl)
  local chunks
  if self.options.execute then
    chunks = chunks_given(self.options.execute)
  elseif uv.guess_handle(0) ~= "tty" or uv.guess_handle(1) ~= "tty" then
    if uv.guess_handle(0) == "tty" then say_error "a script is read from the terminal, until Ctrl-D: standard output is none" end
    chunks = chunks_of(io.read "*a")
  end
  local message, code
  self.interrupt, message, code = interrupts.start(function(name) self:signal(name) end)
  if not self.interrupt then return nil, message, code end
  local forget = watch_tasks()
  local ok, status
  ok, status, message, code = pcall(chunks and self.batch or self.interactive, self, chunks)
  forget()
  self.interrupt:stop()
  if not ok then return nil, errors.text(status) end
  return status, message, code
end

return M
