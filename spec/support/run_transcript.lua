--- A document's transcript of `luio run`, typed as it stands there: saves and a crash, each followed by what the program prints then.

local assert = require "luassert"
local documents = require "spec.support.documents"
local files = require "spec.support.files"
local program = require "spec.support.program"
local uv = require "luv"
local wait = require "spec.support.wait"

local M = {}

-- Waits until the guardian keeps code with this line: a version that has passed its probation. A reader takes longer than that.
local function await_kept(guardian, line)
  local folder = ("/proc/%d/fd/"):format(guardian)
  wait.till(10, "the guardian keeps code with " .. line, function()
    for fd in uv.fs_scandir_next, assert(uv.fs_scandir(folder)) do
      local is_state = (uv.fs_readlink(folder .. fd) or ""):match "^/memfd:luio%-state"
      local kept = is_state and io.open(folder .. fd, "rb") -- nil: it is closed by now
      local text = kept and kept:read "*a"
      if kept then kept:close() end
      if text and text:find(line, 1, true) then return true end
    end
  end)
end

-- The first line of a text that another one does not have.
local function changed_line(text, before)
  for line in text:gmatch "[^\n]+" do
    if not before:find(line, 1, true) then return line end
  end
end

-- The last lines of the program, as many as are expected, once they are there.
local function lines_of(p, printed, wanted)
  local lines
  wait.poll(60, function()
    lines = {}
    for line in p:text():gmatch "[^\n]*\n" do table.insert(lines, line) end
    return #lines >= printed + wanted
  end)
  return lines
end

local function follow(run, dir, block, place)
  local p, driver, printed = nil, nil, 0
  for _, step in ipairs(documents.steps(block)) do
    local line
    local options = step.command:match "^luio (run .*)$"
    if options then
      driver = dir .. "/" .. options:match "^run (%S+)" .. "/init.lua"
      p = program.start({ "-c", ("cd '%s' && exec '%s/build/luio' %s"):format(dir, uv.cwd(), (options:gsub(" &$", ""))) },
        { program = "/bin/sh" })
      run.program = p
    elseif step.command:find "^kill" then
      p:kill("sigkill", p:children()[1])
    else
      local before = files.read(driver)
      assert.equal(0, select(2, files.shell(("cd '%s' && %s"):format(dir, step.command))))
      line = changed_line(files.read(driver), before)
    end
    local _, wanted = step.expected:gsub("\n", "")
    local lines = lines_of(p, printed, wanted)
    assert.equal(documents.masked(step.expected), documents.masked(table.concat(lines, "", printed + 1)), place .. ": " .. step.command)
    printed = #lines
    if line and step.expected:find "^version [^\n]* without a driver [^\n]*\n$" then await_kept(p.pid, line) end
  end
  p:kill(block.text:find "Ctrl%-C" and "sigint" or "sigterm")
  assert.equal(0, p:status())
end

--- Types it, and stops the program.
---@param dir string  where it is typed
---@param block Block
---@param place string  of the block, for messages
function M.follow(dir, block, place)
  local run = {}
  local ok, fault = pcall(follow, run, dir, block, place)
  if run.program then run.program:close() end
  if not ok then error(fault, 0) end
end

return M
