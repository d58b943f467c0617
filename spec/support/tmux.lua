--- A real terminal for specs: a program under tmux, typed into and looked at as a person would.
---
---     local t = tmux.start("build/luio explore sim:edu")
---     t:wait "edu> "                         -- a plain text somewhere on the screen, by a deadline
---     t:type "STATUS\n"
---     print(t:screen())
---     t:close()
---
--- Each has a server of its own behind a private socket, which `close` ends; others are never touched.

local uv = require "luv"
local wait = require "spec.support.wait"

local M = {}

local n = 0

---@class Terminal
local Terminal = {}
Terminal.__index = Terminal

local function quote(text)
  return "'" .. text:gsub("'", "'\\''") .. "'"
end

function Terminal:tmux(...)
  local words = { "tmux", "-L", self.socket, "-f", "/dev/null" }
  for _, word in ipairs { ... } do words[#words + 1] = quote(word) end
  local f = assert(io.popen(table.concat(words, " ") .. " 2>&1"))
  local out = f:read "*a"
  f:close()
  return out
end

--- Starts a shell command in a terminal of its own. The command's exit status and the state that it
--- leaves the terminal in appear below it.
---@param command string
---@param options? { columns: integer?, rows: integer?, env: table<string, string>? }
---@return Terminal
function M.start(command, options)
  options = options or {}
  n = n + 1
  local self = setmetatable({ socket = ("luio-%d-%d"):format(uv.os_getpid(), n) }, Terminal)
  local env = { "-u", "LUIO_LIBRARY", "-u", "NO_COLOR", "-u", "CLICOLOR_FORCE", "LC_ALL=C.UTF-8" }
  for name, value in pairs(options.env or {}) do env[#env + 1] = ("%s=%s"):format(name, quote(value)) end
  -- The shell gets the Ctrl-C, too, and would end with it; ignored it would be for the command as well.
  command = ("trap : INT; %s; echo \"status $?\"; stty -a | grep -o -E -e '-?(icanon|echo|isig)\\>' | tr '\\n' ' '; exec sleep 600"):format(command)
  self:tmux("new-session", "-d", "-x", tostring(options.columns or 80), "-y", tostring(options.rows or 24),
    ("exec env %s sh -c %s"):format(table.concat(env, " "), quote(command))) -- exec: not every $SHELL does by itself
  return self
end

--- Types text; "\n" is Enter.
---@param text string
function Terminal:type(text)
  for part, enter in text:gmatch "([^\n]*)(\n?)" do
    if part ~= "" then self:tmux("send-keys", "-l", "--", part) end
    if enter ~= "" then self:tmux("send-keys", "Enter") end
  end
end

--- Presses keys by tmux's names: "C-c", "Up", "Tab", "BSpace".
function Terminal:key(...)
  self:tmux("send-keys", ...)
end

--- Pastes text as a terminal does.
function Terminal:paste(text)
  self:tmux("set-buffer", "-b", "spec", "--", text)
  self:tmux("paste-buffer", "-p", "-r", "-b", "spec")
end

--- The lines that were printed, also where the terminal has broken them.
---@return string
function Terminal:printed()
  return self:tmux("capture-pane", "-p", "-J")
end

--- The text of the screen: no spaces at the ends of lines, no empty lines at the end.
---@param with_colour boolean?
---@return string
function Terminal:screen(with_colour)
  local out = with_colour and self:tmux("capture-pane", "-p", "-e") or self:tmux("capture-pane", "-p")
  return (out:gsub("%s+\n", "\n"):gsub("%s+$", ""))
end

--- The last line that is not empty.
---@return string
function Terminal:last()
  return self:screen():match "([^\n]*)$"
end

--- Waits until a text is on the screen; an error that shows the screen, if it does not come.
---@param text string  plain
---@param seconds? number
---@return string screen
function Terminal:wait(text, seconds)
  local screen
  return wait.still((seconds or 10) * wait.HANG, function()
    screen = self:screen()
    return screen:find(text, 1, true) and screen
  end) or error(("%q did not appear; the screen:\n%s"):format(text, screen), 2)
end

--- Waits until the last line is this one.
---@param line string  without spaces at its end
---@param seconds? number
---@return string screen
function Terminal:wait_last(line, seconds)
  local screen
  return wait.still((seconds or 10) * wait.HANG, function()
    screen = self:screen()
    return screen:match "([^\n]*)$" == line and screen
  end) or error(("the last line did not become %q; the screen:\n%s"):format(line, screen), 2)
end

---@param columns integer
---@param rows integer
function Terminal:resize(columns, rows)
  self:tmux("resize-window", "-x", tostring(columns), "-y", tostring(rows))
end

--- The process that the terminal's shell runs.
---@return integer?
function Terminal:child()
  local shell = self:tmux("display-message", "-p", "#{pane_pid}"):match "%d+"
  local f = io.open(("/proc/%s/task/%s/children"):format(shell, shell))
  local pid = f and f:read "*n"
  if f then f:close() end
  return pid
end

--- Ends the terminal and what runs in it. Idempotent.
function Terminal:close()
  if self.closed then return end
  self.closed = true
  self:tmux "kill-server"
  os.remove(("/tmp/tmux-%d/%s"):format(uv.getuid(), self.socket))
end

return M
