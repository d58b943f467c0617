--- The program: run to its end as a shell does, or as a process whose output and end a spec waits for.
---
---     local out, status = program.run "get sim:edu STATUS"
---
---     local p = program.start { "run", "drivers/edu", "sim:edu" }
---     p:wait "driver edu runs"             -- a Lua pattern in its output (both streams), by a deadline
---     p:kill "sigterm"
---     assert.equal(0, p:status())
---     p:close()                            -- kills it and its children if they still run

local assert = require "luassert"
local json = require "dkjson"
local uv = require "luv"
local files = require "spec.support.files"
local wait = require "spec.support.wait"

local M = {}

-- ---- To its end ----------------------------------------------------------------------------------

--- Its path, as a word of a shell, from any folder.
M.PATH = "'" .. uv.cwd() .. "/build/luio'"

--- Returns its output (both streams) and its exit status.
---@param args string
---@return string output
---@return integer status
function M.run(args)
  return files.shell(("timeout 300 %s %s"):format(M.PATH, args))
end

--- The same in a folder.
---@param folder string
---@param args string
---@return string output
---@return integer status
function M.run_in(folder, args)
  return files.shell(("cd '%s' && timeout 300 %s %s"):format(folder, M.PATH, args))
end

--- The document that it prints with --json; its exit status; all of its output.
---@param args string
---@return table? document
---@return integer status
---@return string output
function M.json(args)
  local out, status = M.run(args .. " --json")
  return json.decode(out:match "%b{}" or "null"), status, out
end

--- It ends with this status and a single line, which has these words in it.
---@param args string
---@param status integer
---@param words string  plain text
function M.refuses(args, status, words)
  local out, got = M.run(args)
  assert.equal(status, got, args .. "\n" .. out)
  assert.matches("^luio: [^\n]*\n$", out)
  assert.is_truthy(out:find(words, 1, true), out)
end

-- ---- As a process --------------------------------------------------------------------------------

---@class Program
---@field pid integer
local Program = {}
Program.__index = Program

-- The program of a sanitizer's stage goes with its library.
local SANITIZED = os.getenv "LUIO_PROGRAM"

local function environment(sanitized, more)
  local list = { unpack(more or {}) }
  for name, value in pairs(uv.os_environ()) do
    if name ~= "LUIO_LIBRARY" or sanitized then list[#list + 1] = name .. "=" .. value end
  end
  return list
end

--- Starts build/luio, or in the stages of sanitizers the one that LUIO_PROGRAM names.
---@param args string[]
---@param options? { program: string?, environment: string[]? }  environment: "NAME=VALUE", beside our own
---@return Program
function M.start(args, options)
  local path = files.write("output.txt", "")
  local out = assert(uv.fs_open(path, "a", 420))
  local self = setmetatable({ path = path }, Program)
  local other = options and options.program
  self.handle, self.pid = uv.spawn(other or SANITIZED or "build/luio", {
    args = args, stdio = { nil, out, out }, env = environment(not other and SANITIZED, options and options.environment),
    detached = true, -- a group of its own
  }, function(status, signal)
    self.exit = signal ~= 0 and -signal or status
    self.ended = uv.hrtime()
    self.handle:close()
  end)
  uv.fs_close(out)
  if not self.handle then error(self.pid) end
  return self
end

--- Its output so far.
---@return string
function Program:text()
  return files.read(self.path)
end

--- Waits until a pattern is in the output; its captures, or all of it.
---@param pattern string
---@param seconds? number  10
---@return string ...
function Program:wait(pattern, seconds)
  local found = wait.poll((seconds or 10) * wait.HANG, function()
    local captures = { self:text():match(pattern) }
    return captures[1] and captures
  end)
  if not found then error(("%q did not come; the output:\n%s"):format(pattern, self:text()), 2) end
  return unpack(found)
end

--- How often a pattern is in what it has printed so far.
---@param pattern string
---@return integer
function Program:count(pattern)
  return select(2, self:text():gsub(pattern, ""))
end

--- Waits for its end: the exit status, negative the signal.
---@param seconds? number  10
---@return integer
function Program:status(seconds)
  return wait.poll((seconds or 10) * wait.HANG, function() return self.exit end) or error("it did not end; the output:\n" .. self:text(), 2)
end

--- The processes it has started.
---@return integer[]
function Program:children()
  local list = {}
  local f = io.open(("/proc/%d/task/%d/children"):format(self.pid, self.pid))
  for pid in (f and f:read "*a" or ""):gmatch "%d+" do list[#list + 1] = tonumber(pid) end
  if f then f:close() end
  return list
end

---@param signal string  "sigkill"
---@param pid? integer   itself
function Program:kill(signal, pid)
  assert(uv.kill(pid or self.pid, signal))
end

--- Ctrl-C twice, as two strokes. A second signal within 50 ms of the time that the guardian saw the first counts as the same stroke,
--- and one that comes before the guardian saw the first is lost.
function Program:ctrl_c_twice()
  self:kill "sigint"
  local seen = wait.poll(10, function()
    local pending = files.read(("/proc/%d/status"):format(self.pid)):match "ShdPnd:%s*%x*(%x)\n"
    return tonumber(pending, 16) % 4 < 2 -- SIGINT is 2
  end)
  assert.is_truthy(seen, "the guardian has not seen SIGINT")
  uv.sleep(100)
  self:kill "sigint"
end

--- Whether a process is there and no zombie.
---@param pid integer
---@return boolean
function M.alive(pid)
  local f = io.open(("/proc/%d/stat"):format(pid))
  local state = f and (f:read "*a" or ""):match "%) (%a)" -- it may go between open and read
  if f then f:close() end
  return state ~= nil and state ~= "Z" and state ~= "X"
end

--- Waits until a process is gone.
---@param pid integer
---@param seconds? number
---@return boolean?
function M.gone(pid, seconds)
  return wait.poll((seconds or 5) * wait.HANG, function() return not M.alive(pid) end)
end

--- Ends it, with all that it started. Idempotent.
function Program:close()
  if not self.exit then
    local children = self:children()
    pcall(uv.kill, self.pid, "sigkill")
    for _, pid in ipairs(children) do pcall(uv.kill, pid, "sigkill") end
    wait.poll(5, function() return self.exit end)
  end
  os.remove(self.path)
end

return M
