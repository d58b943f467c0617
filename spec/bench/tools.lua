--- Tools of every benchmark: paths, the twins, and taking turns.

local M = {}

M.here = debug.getinfo(1, "S").source:match "^@(.*)/[^/]*$" or "."
M.root = M.here .. "/../.."
M.out = M.root .. "/build/bench"
M.program = M.root .. "/build/luio"

local SMOKE = 100 -- a smoke run does this part of the work

M.smoke = os.getenv "LUIO_BENCH_SMOKE" ~= nil

--- How often a benchmark does something: `n` times, or in a smoke run (`spec/bench/run --smoke`) a small part of that.
---@param n integer
---@return integer
function M.amount(n)
  return M.smoke and math.ceil(n / SMOKE) or n
end

--- A word for the shell.
---@param s string
---@return string
function M.quote(s)
  return "'" .. s:gsub("'", "'\\''") .. "'"
end

--- Everything a command prints.
---@param command string
---@return string
function M.output(command)
  local pipe = assert(io.popen(command))
  local text = pipe:read "*a"
  pipe:close()
  return text
end

--- Debian's python3, the peer of start-up and memory. Not the first of the PATH: that may be a
--- shell script that looks for one, or a build of somebody's own.
---@return string path
function M.python()
  local path = M.output("command -pv python3"):match "^%S+"
  if not path then error("there is no python3 to compare with", 0) end
  return path
end

--- The C twins.
---@return ffi.namespace*
function M.twin()
  require "luio.ffi" -- loads libluio.so, which the twins need by the same name
  local ffi = require "ffi"
  local f = assert(io.open(M.here .. "/twin.h"))
  local text = f:read "*a"
  f:close()
  ffi.cdef((text:gsub("#[^\n]*\n", "")))
  return ffi.load(M.out .. "/libtwin.so")
end

--- Rows that were measured in the guest, from what it printed: "row", then name, unit, luio, peer, aim, note, with tabs.
---@param text string
---@return table[]
function M.rows(text)
  local rows = {}
  for line in text:gmatch "[^\n]+" do
    local name, unit, luio, peer, aim, note = line:match "^row\t([^\t]*)\t([^\t]*)\t([^\t]*)\t([^\t]*)\t([^\t]*)\t([^\t]*)$"
    if name then
      local function list(t)
        local numbers = {}
        for n in t:gmatch "[^,]+" do numbers[#numbers + 1] = tonumber(n) end
        return numbers
      end
      rows[#rows + 1] = { name = name, unit = unit, luio = list(luio), peer = list(peer), aim = aim, note = note }
    end
  end
  if #rows == 0 then error("the guest measured nothing: " .. text, 0) end
  return rows
end

--- Calls every function of `who` once per round, in turn, and keeps what they return. The first
--- round, of cold caches and loops not yet compiled, is thrown away.
---@param rounds integer
---@param who table<string, fun(): any>
---@return table<string, any[]>
function M.take_turns(rounds, who)
  local names, samples = {}, {}
  for name in pairs(who) do
    table.insert(names, name)
    samples[name] = {}
  end
  table.sort(names)
  for round = 0, rounds do
    for i = 1, #names do
      local name = names[(i + round - 1) % #names + 1] -- so that none is always first
      local value = who[name]()
      if round > 0 then table.insert(samples[name], value) end
    end
  end
  return samples
end

return M
