--- libedit: the binding, as far as the prompt's line editor (luio.tool.explore.editor) needs it.
---
--- EL_UNBUFFERED makes el_gets() take one key and return. The keys it
--- asks for come from a function of ours (EL_GETCFN), which is also asked when it wants more in the middle
--- of a key (an arrow's escape sequence). Its readline names (rl_callback_handler_install and so on) are
--- the same calls underneath; they are not used because they write through rl_line_buffer, a pointer into
--- a buffer that has moved when a line has grown past a thousand bytes.
---
--- The C functions here call back into Lua, so they may only be called from code that is not compiled
--- (jit.off below); a callback neither raises nor yields: `take_key` returns a handler's error.

local ffi = require "ffi"
local posix = require "luio.posix"
local text = require "luio.tool.explore.text"

jit.off(true, true)

local M = {}

ffi.cdef [[
typedef struct luio_editline luio_editline;
typedef struct luio_edithistory luio_edithistory;
typedef struct { const char *buffer, *cursor, *lastchar; } luio_lineinfo;
typedef struct { int num; const char *str; } luio_histevent;
luio_editline *el_init(const char *, void *, void *, void *);
const char *el_gets(luio_editline *, int *);
int el_set(luio_editline *, int, ...);
int el_get(luio_editline *, int, ...);
int el_source(luio_editline *, const char *);
void el_resize(luio_editline *);
const luio_lineinfo *el_line(luio_editline *);
int el_insertstr(luio_editline *, const char *);
void el_deletestr(luio_editline *, int);
int el_cursor(luio_editline *, int);
luio_edithistory *history_init(void);
int history(luio_edithistory *, luio_histevent *, int, ...);
]]

-- histedit.h
local EL_EDITOR, EL_SIGNAL, EL_BIND, EL_ADDFN, EL_HIST, EL_GETCFN = 2, 3, 4, 9, 10, 13
local EL_UNBUFFERED, EL_GETTC, EL_REFRESH, EL_PROMPT_ESC = 15, 17, 20, 21
local H_SETSIZE, H_ENTER = 1, 10

--- Results of a key's function: done; draw the line anew; beep; forget the line, and prompt anew
--- (CC_FATAL).
M.NORM, M.REFRESH, M.ERROR, M.AGAIN = 0, 4, 6, 7

local function int(n) return ffi.new("int", n) end -- a plain number would be passed as a double

---@class luio.Libedit
---@field prompt_bytes ffi.cdata*  what libedit shows before the line
---@field package keep table        what C points to
---@field package failure any       what a handler raised
local Libedit = {}
Libedit.__index = Libedit

-- libedit keeps wide characters; it needs to know that the terminal's are UTF-8.
local function set_locale()
  local LC_CTYPE, CODESET = 0, 14
  posix.setlocale(LC_CTYPE, "")
  if ffi.string(posix.nl_langinfo(CODESET)) ~= "UTF-8" then posix.setlocale(LC_CTYPE, "C.UTF-8") end
end

--- libedit on standard input and output, with the user's ~/.editrc. It is never ended: el_end would drop
--- keys that were typed ahead.
---@param next_key fun(): integer?  the next character; nil: none comes
---@return luio.Libedit?
---@return string? message
---@return string? code
function M.open(next_key)
  local ok, lib = pcall(ffi.load, "libedit.so.2")
  if not ok then return nil, ("line editing: %s: install libedit2"):format(lib), "ENOENT" end
  set_locale()
  local el = lib.el_init("luio", io.stdin, io.stdout, io.stderr)
  if el == nil then return nil, "line editing: el_init failed", "EIO" end
  local self = setmetatable({ lib = lib, el = el, keep = {} }, Libedit)
  self.history = lib.history_init()
  self.history_event = ffi.new "luio_histevent"
  lib.history(self.history, self.history_event, H_SETSIZE, int(0x7fffffff))
  lib.el_set(el, EL_HIST, ffi.cast("void *", lib.history), self.history)
  lib.el_set(el, EL_SIGNAL, int(0))
  lib.el_set(el, EL_EDITOR, "emacs")
  lib.el_set(el, EL_GETCFN, self:callback("int (*)(luio_editline *, int *)", function(out)
    local code = next_key()
    if not code then return 0 end
    out[0] = code
    return 1
  end, 0))
  lib.el_set(el, EL_PROMPT_ESC, self:callback("const char *(*)(luio_editline *)", function() return self.prompt_bytes end, nil), int(1))
  lib.el_source(el, nil)
  return self
end

-- A function that C calls: kept, and never raising.
---@private
function Libedit:callback(ctype, fn, failed)
  local pointer = ffi.cast(ctype, function(_, x)
    local ok, result = pcall(fn, x)
    if ok then return result end
    self.failure = result
    return failed
  end)
  table.insert(self.keep, pointer)
  return pointer
end

-- ---- Keys ----------------------------------------------------------------------------------------

--- Makes a function one that keys can be bound to.
---@param name string
---@param fn fun(): integer  returns NORM, REFRESH, ERROR or AGAIN
function Libedit:add(name, fn)
  self.lib.el_set(self.el, EL_ADDFN, name, name, self:callback("unsigned char (*)(luio_editline *, int)", fn, M.ERROR))
end

--- Binds a key to a function: libedit's, or one that was added.
---@param key string  "^I", "\\e[H"
---@param name string
function Libedit:bind(key, name)
  self.lib.el_set(self.el, EL_BIND, key, name, ffi.cast("char *", nil))
end

--- Begins to edit a line, or ends it: the terminal is libedit's, or as it was found. Beginning forgets
--- the line.
---@param on boolean
function Libedit:edit(on)
  self.lib.el_set(self.el, EL_UNBUFFERED, int(on and 1 or 0))
end

local count = ffi.new "int[1]"

--- Waits for one key, and handles it.
---@return any failure  what a handler raised
function Libedit:take_key()
  self.lib.el_gets(self.el, count)
  local failure = self.failure
  self.failure = nil
  return failure
end

-- ---- The line ------------------------------------------------------------------------------------

--- The typed line, and its part before the cursor.
---@return string all
---@return string before
function Libedit:line()
  local info = self.lib.el_line(self.el)
  return ffi.string(info.buffer, info.lastchar - info.buffer), ffi.string(info.buffer, info.cursor - info.buffer)
end

--- Inserts a text at the cursor.
---@param inserted string
function Libedit:insert(inserted)
  if inserted ~= "" then self.lib.el_insertstr(self.el, inserted) end
end

--- Deletes characters before the cursor.
---@param n integer
function Libedit:delete(n)
  self.lib.el_deletestr(self.el, n)
end

--- Moves the cursor by characters, at most to an end of the line.
---@param n integer
function Libedit:move(n)
  self.lib.el_cursor(self.el, n)
end

--- Exchanges the line for another.
---@param line string
function Libedit:replace(line)
  local all = self:line()
  self:move(#all)
  self:delete(text.characters(all))
  self:insert(line)
end

-- ---- The screen ----------------------------------------------------------------------------------

--- The prompt, from when the line is drawn next.
---@param prompt string  parts that take no room between two \1
function Libedit:set_prompt(prompt)
  self.prompt_bytes = ffi.new("char[?]", #prompt + 1, prompt)
end

--- Draws prompt and line anew, where the cursor is.
function Libedit:redraw()
  self.lib.el_set(self.el, EL_REFRESH)
end

--- The terminal has another size.
function Libedit:resized()
  self.lib.el_resize(self.el)
end

--- Columns and rows of the terminal, by which libedit wraps.
---@return integer columns
---@return integer rows
function Libedit:size()
  local n = ffi.new "int[1]"
  local function get(what)
    self.lib.el_get(self.el, EL_GETTC, ffi.cast("char *", what), ffi.cast("void *", n))
    return n[0]
  end
  return get "co", get "li"
end

--- Adds a line for the arrow keys.
---@param entry string
function Libedit:remember(entry)
  self.lib.history(self.history, self.history_event, H_ENTER, entry)
end

return M
