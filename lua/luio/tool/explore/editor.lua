--- The line editor of the prompt: lives in the event loop, one key at a time.
---
--- libedit (luio.tool.explore.libedit) edits the line, and asks for each key when it needs one; keys come from
--- luio.tool.explore.keys, which turns the loop until there are some. So nothing ever blocks: tasks run between
--- two keys, and their output is shown above the prompt. For that the editor knows what libedit has drawn: the
--- prompt's width and the text (luio.tool.explore.text) say where the cursor is.
---
--- While a text is typed the terminal is in libedit's mode. While a complete text runs the terminal is in its
--- first mode, so that the code can read from it. Ctrl-C is a signal throughout.

local keys = require "luio.tool.explore.keys"
local libedit = require "luio.tool.explore.libedit"
local search = require "luio.tool.explore.search"
local term = require "luio.text.term"
local text = require "luio.tool.explore.text"

local M = {}

---@class luio.Editor
---@field editing boolean          a prompt is shown
---@field complete fun(before: string): integer, string[]  set by the owner: byte where the word begins, candidates
---@field package el luio.Libedit
---@field package keys luio.Keys
---@field package entries string[]  what Ctrl-R finds, the newest last
---@field package dumb boolean      the terminal knows no escape sequences
---@field package owner luio.EditorOwner
---@field package done string?      the line that was entered last
---@field package prompt string
---@field package prompt_width integer
---@field package unasked integer   turns in which libedit asked for no key
local Editor = {}
Editor.__index = Editor

-- ---- Opening -------------------------------------------------------------------------------------

local opened

--- The editor of the terminal on standard input and output. There is one.
---@param options { history: string[]? }
---@return luio.Editor?
---@return string? message
---@return string? code
function M.open(options)
  if opened then return nil, "the terminal has an editor already", "EBUSY" end
  local kind = os.getenv "TERM" or ""
  local self = setmetatable({ editing = false, entries = {}, dumb = kind == "" or kind == "dumb" }, Editor)
  local message, code
  self.el, message, code = libedit.open(function()
    self.unasked = 0
    return self.keys:next()
  end)
  if not self.el then return nil, message, code end
  self.keys, message, code = keys.open()
  if not self.keys then return nil, message, code end
  for _, entry in ipairs(options.history or {}) do self:remember(entry) end
  self:bind()
  opened = self
  return self
end

--- Adds a line for the arrow keys and Ctrl-R.
---@param entry string
function Editor:remember(entry)
  entry = text.valid(entry)
  table.insert(self.entries, entry)
  self.el:remember(entry)
end

--- Gives the terminal back.
function Editor:close()
  if opened ~= self then return end
  self:finish()
  self.keys:close()
  opened = nil
end

-- ---- Keys ----------------------------------------------------------------------------------------

--- Binds the keys.
function Editor:bind()
  local function key(names, name, fn)
    self.el:add(name, function() return fn(self) end)
    for _, k in ipairs(names) do self.el:bind(k, name) end
  end
  key({ "^M", "^J" }, "luio-enter", self.on_enter)
  -- A Ctrl-D typed while the terminal was not libedit's is a NUL when it comes.
  key({ "^D", "^@" }, "luio-leave-or-delete", self.on_leave)
  key({ "^_" }, "luio-abandon", self.on_abandon) -- keys.INTERRUPT
  key({ "^I" }, "luio-complete", self.on_complete)
  key({ "^^" }, "luio-paste", self.on_paste) -- keys.PASTE
  key({ "^R" }, "luio-search", self.on_search)
  for k, name in pairs {
    ["^W"] = "ed-delete-prev-word",
    ["\\e[3~"] = "ed-delete-next-char", ["\\e[1~"] = "ed-move-to-beg", ["\\e[4~"] = "ed-move-to-end",
    ["\\e[7~"] = "ed-move-to-beg", ["\\e[8~"] = "ed-move-to-end", ["\\e[H"] = "ed-move-to-beg", ["\\e[F"] = "ed-move-to-end",
    ["\\e[1;5C"] = "em-next-word", ["\\e[1;5D"] = "ed-prev-word", ["\\e[5C"] = "em-next-word", ["\\e[5D"] = "ed-prev-word",
  } do
    self.el:bind(k, name)
  end
end

---@private
function Editor:on_paste()
  local pasted = self.keys.pasted
  self.keys.pasted = nil
  if not pasted or pasted == "" then return libedit.NORM end
  self.el:insert(pasted)
  return libedit.REFRESH
end

---@private
function Editor:on_enter()
  local line = self.el:line()
  self:new_line()
  local prompt = self.owner.entered(line)
  if prompt then
    self:set_prompt(prompt)
    return libedit.AGAIN
  end
  self.done = line
  return libedit.NORM
end

---@private
function Editor:on_abandon()
  if self.keys.event ~= "interrupt" then return libedit.ERROR end
  self.keys.event = nil
  self:new_line "^C"
  self:set_prompt(self.owner.abandoned())
  return libedit.AGAIN
end

---@private
function Editor:on_leave()
  local all, before = self.el:line()
  if all == "" then
    self.keys:tell "eof"
    return libedit.NORM
  elseif #before == #all then
    return libedit.ERROR
  end
  self.el:move(1)
  self.el:delete(1)
  return libedit.REFRESH
end

---@private
function Editor:on_search()
  local prompt = self.prompt
  local line, key = search.run(self.entries, (self.el:line()), {
    key = function() return self.keys:next() end,
    show = function(...) self:show(...) end,
  })
  self:show(prompt, line)
  if key and key ~= keys.INTERRUPT then self.keys:put_back(key) end
  return libedit.NORM
end

---@private
function Editor:on_complete()
  local _, before = self.el:line()
  local start, list = self.complete(before)
  if not list or #list == 0 then return libedit.ERROR end
  local typed = before:sub(start)
  local common = text.common_prefix(list)
  if #common > #typed or (#list == 1 and common ~= typed) then
    self.el:delete(text.characters(typed))
    self.el:insert(common)
    return libedit.REFRESH
  elseif #list == 1 then
    return libedit.ERROR
  end
  local columns, rows = self:size()
  self:above(term.ready(text.columns(list, columns, math.max(3, math.floor(rows / 2)))))
  return libedit.NORM
end

-- ---- Showing -------------------------------------------------------------------------------------

--- Columns and rows of the terminal.
---@return integer columns
---@return integer rows
function Editor:size()
  return self.el:size()
end

--- Sets the text in front of the line.
---@param prompt string  with what has no width between \1
function Editor:set_prompt(prompt)
  self.prompt = prompt
  self.prompt_width = select(2, text.extent((prompt:gsub("\1[^\1]*\1", "")), 1e9, 0))
  self.el:set_prompt(prompt)
end

-- To the first row of the prompt, with nothing below it.
---@private
function Editor:erase()
  if self.dumb then
    io.stdout:write "\n"
    return
  end
  local columns, rows = self:size()
  local _, before = self.el:line()
  local row = text.extent(before, columns, self.prompt_width)
  row = math.min(row, rows - 1)
  io.stdout:write(row > 0 and ("\27[%dA"):format(row) or "", "\r\27[J")
end

-- Behind the last character that is typed.
---@private
function Editor:to_end()
  if self.dumb then return end
  local columns = self:size()
  local all, before = self.el:line()
  local row, column = text.extent(all, columns, self.prompt_width)
  local down = row - text.extent(before, columns, self.prompt_width)
  io.stdout:write(down > 0 and ("\27[%dB"):format(down) or "", "\r", column > 0 and ("\27[%dC"):format(column) or "")
end

-- Behind the line, which stays on the screen.
---@private
function Editor:new_line(mark)
  self:to_end()
  io.stdout:write(mark or "", "\r\n")
  io.stdout:flush()
end

--- Shows another text in the line, behind another prompt.
---@param prompt string
---@param line string
function Editor:show(prompt, line)
  self:erase()
  io.stdout:flush()
  self.el:replace(line)
  self:set_prompt(prompt)
  self.el:redraw()
end

-- Where a text is taller than the screen, libedit loses the cursor when it moves from one end to the other,
-- and writes outside of its rows with the characters that follow (re_fastputc, 3.1-20221030). So such
-- a text is drawn anew after each key.
---@private
function Editor:redraw_tall()
  local columns, rows = self:size()
  local all = self.el:line()
  if #all < columns and not all:find("\n", 1, true) then return end
  if text.extent(all, columns, self.prompt_width) + 1 < rows then return end
  self:erase()
  self.el:redraw()
end

--- Shows a text above the prompt, which stays as it is; without one it is just printed.
---@param shown string  ready for a terminal (luio.text.term)
function Editor:above(shown)
  if self.editing then self:erase() end
  io.stdout:write(shown, "\n")
  io.stdout:flush()
  if self.editing then self.el:redraw() end
end

--- The program was stopped and goes on: meanwhile the shell had the terminal, and left it in its own mode.
function Editor:continued()
  if not self.editing then return end
  local all, before = self.el:line()
  self.el:edit(false)
  if not self.dumb then io.stdout:write "\r\27[J" end
  io.stdout:flush()
  self.el:edit(true) -- forgets the line
  self:paste_mode(true)
  self.el:insert(all)
  self.el:move(text.characters(before) - text.characters(all))
  io.stdout:write "\r"
  io.stdout:flush()
  self.el:redraw()
end

--- The terminal has another size.
function Editor:resized()
  self.el:resized()
  if not self.editing then return end
  self:erase() -- terminals wrap anew what they show; one that does not keeps a line too many
  self.el:redraw()
end

-- ---- Editing a line ------------------------------------------------------------------------------

local MAX_UNASKED = 2000

--- Interrupts the editing of a line. "interrupt" begins a new one; with any other event `read` returns.
---@param event string
function Editor:interrupt(event)
  self.keys:tell(event)
end

-- Whether the terminal marks pasted text.
---@private
function Editor:paste_mode(on)
  if self.dumb then return end
  io.stdout:write(on and "\27[?2004h" or "\27[?2004l")
  io.stdout:flush()
end

--- From here on until `finish` the terminal is libedit's.
function Editor:start()
  self.done = nil
  io.stdout:flush()
  self.el:edit(true)
  self:paste_mode(true)
  self.editing = true
  self.keys:start()
end

--- Gives the terminal back.
function Editor:finish()
  if not self.editing then return end
  if not self.done then self:new_line() end
  self.editing = false
  self.keys:stop()
  self:paste_mode(false)
  self.el:edit(false)
end

---@class luio.EditorOwner
---@field prompt string                    parts that take no room, like colours, between two \1
---@field entered fun(line: string): string?  a line was entered: the prompt for the next; nil: it is the last
---@field abandoned fun(): string          Ctrl-C: the prompt to begin anew with

--- Lets lines be typed, until one is the last. Not from a task or a callback: it turns the loop.
---@param owner luio.EditorOwner
---@return string? event  why it ended before: "eof", "hangup", or `interrupt`'s argument
function Editor:read(owner)
  self.owner = owner
  self.unasked = 0
  self:set_prompt(owner.prompt)
  self:start()
  while not self.done and (not self.keys.event or self.keys.event == "interrupt") do
    self.unasked = self.unasked + 1
    local failure = self.el:take_key()
    -- It does not ask for one where the terminal is gone (or the user's ~/.editrc has strings bound to keys).
    if self.unasked > MAX_UNASKED then self.keys:tell "hangup" end
    if not self.done then self:redraw_tall() end
    if failure then self:above(term.ready("luio: line editing: " .. tostring(failure))) end
  end
  self:finish()
  local event = self.keys.event
  self.keys.event = nil
  return event
end

return M
