--- Busted's output for spec/run: `busted -o spec/support/report.lua`. Dots, failures and the sum are plainTerminal's; added are
---
---   a line for each spec that failed: the command that runs it alone
---   LUIO_CLAIMS  a folder that several processes of one stage have in common: each goes through all of the stage's files in
---                the same order, the longest first (longest.lua), and runs those that it is the first to claim. The spec that
---                runs is in running.PARENT there: spec/run tells from it where a process hung or crashed
---   LUIO_TIMES   a file that gets a line for each spec and each file: its kind, seconds, seconds of CPU time (with that of
---                processes that it has waited for), the file, the spec
---
--- LUIO_STAGE is the stage's name.

local ffi = require "ffi"
local uv = require "luv"

local STAGE, CLAIMS, TIMES = os.getenv "LUIO_STAGE" or "sim", os.getenv "LUIO_CLAIMS", os.getenv "LUIO_TIMES"

ffi.cdef [[
  struct luio_spec_usage { struct { long seconds, microseconds; } time[2]; long rest[14]; };
  int getrusage(int who, struct luio_spec_usage *);
  int flock(int fd, int operation);
]]

-- The argument of --filter for a failing spec: a Lua pattern that finds its name alone, as a word of a shell.
local function filter(name)
  local line, more = name:match "^([^\n]*)(\n?)"
  line = "^" .. line:gsub("[%^%$%(%)%%%.%[%]%*%+%-%?]", "%%%0") .. (more == "" and "$" or "")
  return "'" .. line:gsub("'", "'\\''") .. "'"
end

-- The command that runs a spec alone; all of its file, if that failed outside of its specs.
local function again(busted, failure)
  local element = failure.element
  local file = element.descriptor == "file" and element.name
  local at = element
  while not file and at do
    at = busted.parent(at)
    file = at and at.descriptor == "file" and at.name
  end
  if not file then return nil end
  local one = element.descriptor == "it" and " --filter=" .. filter(failure.name) or ""
  return ("again: spec/run %s %s%s"):format(STAGE, file, one)
end

-- Sorts busted's files: the longest first, then the others as they were. `--shuffle-files` has its own order.
local function longest_first(files)
  local place, before = {}, {}
  for i, name in ipairs(require "spec.support.longest") do place[name] = i end
  for i, file in ipairs(files) do before[file] = i end
  table.sort(files, function(a, b)
    local x, y = place[a.name] or math.huge, place[b.name] or math.huge
    if x == y then return before[a] < before[b] end
    return x < y
  end)
end

-- The file is made by one process only.
local function claim(file)
  local fd = uv.fs_open(CLAIMS .. "/" .. file:gsub("/", "+"), "wx", 420)
  if fd then uv.fs_close(fd) end
  return fd ~= nil
end

local function cpu()
  local sum, usage = 0, ffi.new "struct luio_spec_usage"
  for _, who in ipairs { 0, -1 } do -- RUSAGE_SELF, RUSAGE_CHILDREN
    ffi.C.getrusage(who, usage)
    for i = 0, 1 do sum = sum + tonumber(usage.time[i].seconds) + tonumber(usage.time[i].microseconds) / 1e6 end
  end
  return sum
end

return function(options)
  local busted = require "busted"
  local elements = {} -- by what the handler keeps of them: a copy without its place in the tree
  local handler = require "busted.outputHandlers.plainTerminal"(options)
  local on = function(event, fn, first)
    busted.subscribe(event, function(...)
      fn(...)
      return nil, true
    end, first and { priority = 1 })
  end

  local format = handler.format
  function handler.format(element, ...)
    local formatted = format(element, ...)
    elements[formatted] = element
    return formatted
  end

  local lock
  if CLAIMS then
    on({ "suite", "start" }, function(root)
      if not root.randomseed then longest_first(busted.children(root)) end
    end)
    local running = ("%s/running.%d"):format(CLAIMS, uv.os_getppid()) -- of timeout, which spec/run has started
    on({ "file", "start" }, function(file)
      if not claim(file.name) then getmetatable(file.run).__call = function() end end
    end)
    on({ "test", "start" }, function(element)
      local f = assert(io.open(running, "w"))
      f:write(handler.getFullName(element), "\n")
      f:close()
    end)
    on({ "exit" }, function() os.remove(running) end)
    -- One process at a time says what became of it.
    on({ "suite", "end" }, function()
      lock = assert(uv.fs_open(CLAIMS .. "/lock", "w", 420))
      ffi.C.flock(lock, 2) -- LOCK_EX
    end, true)
  end

  if TIMES then
    local out = assert(io.open(TIMES, "a"))
    out:setvbuf "line"
    local file, since = "", {}
    for _, kind in ipairs { "file", "test" } do
      on({ kind, "start" }, function(element)
        if kind == "file" then file = element.name end
        since[kind] = { busted.monotime(), cpu() }
      end)
      on({ kind, "end" }, function(element)
        out:write(("%s\t%.3f\t%.3f\t%s\t%s\n"):format(kind, busted.monotime() - since[kind][1], cpu() - since[kind][2], file,
          kind == "test" and handler.getFullName(element):gsub("\n.*", "") or ""))
      end)
    end
  end

  on({ "suite", "end" }, function()
    local printed = {}
    for _, list in ipairs { handler.failures, handler.errors } do
      for _, failure in ipairs(list) do
        local line = again(busted, { element = elements[failure], name = failure.name })
        if line and not printed[line] then io.write(next(printed) and "" or "\n", line, "\n") end
        if line then printed[line] = true end
      end
    end
    io.flush()
    if lock then uv.fs_close(lock) end
  end)

  return handler
end
