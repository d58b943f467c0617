--- A guest as a machine that somebody runs: stopped, put to sleep and woken from outside, by QEMU's control socket, while a script
--- is at work in it. For what the guest can't do to itself, or does not survive whole: after a sleep its files of the host are out
--- of reach (virtio's 9p forgets its queues), so the script must have loaded all that it needs, and the host ends the guest.
---
---     local m = machine.start("sleep", "spec/guest/machine/sleep.lua", { "--module", "button" })
---     m:wait "%[ready%]"
---     m:tell "stop"
---     m:close()

local json = require "dkjson"
local program = require "spec.support.program"
local uv = require "luv"
local wait = require "spec.support.wait"

local M = {}

---@class Machine
---@field program Program
local Machine = {}
Machine.__index = Machine

--- Boots a guest and starts a script in it.
---@param name string
---@param script string
---@param options string[]  for spec/guest/run
---@param arguments? string[]  for the script
---@return Machine
function M.start(name, script, options, arguments)
  local folder = assert(uv.fs_mkdtemp "/tmp/luio-machine-XXXXXX") -- a socket's path is short
  local self = setmetatable({ folder = folder, socket = folder .. "/qmp" }, Machine)
  local args = { "--name", name, "--timeout", "2400", "--qmp", self.socket }
  for _, list in ipairs { options, { "--", "build/luio", script }, arguments or {} } do
    for _, word in ipairs(list) do table.insert(args, tostring(word)) end
  end
  self.program = program.start(args, { program = "spec/guest/run" })
  return self
end

--- Waits until the script has printed a pattern, and returns its captures. An error of the script ends the wait.
---@param pattern string
---@param seconds? number  60
---@return string ...
function Machine:wait(pattern, seconds)
  local found
  wait.poll((seconds or 60) * wait.HANG, function()
    local text = self.program:text()
    found = { text:match(pattern) }
    return found[1] or text:find("[failed", 1, true) or self.program.exit
  end)
  if not found[1] then error(("%q did not come; the guest said:\n%s"):format(pattern, self.program:text()), 2) end
  return unpack(found)
end

--- Says a command to QEMU, and waits for its answer.
---@param command string  "stop"
function Machine:tell(command)
  if not self.pipe then
    local pipe = uv.new_pipe(false)
    self.pipe, self.said = pipe, ""
    local connected
    pipe:connect(self.socket, function(failure) connected = failure or true end)
    wait.till(10, "QEMU's control socket", function() return connected end)
    assert(connected == true, connected)
    pipe:read_start(function(_, data) self.said = self.said .. (data or "") end)
    self.asked = 0
    self:tell "qmp_capabilities"
  end
  self.asked = self.asked + 1
  self.pipe:write(json.encode { execute = command, id = self.asked } .. "\n")
  local answer = wait.till(30, "QEMU's answer to " .. command, function()
    return self.said:match(('%%b{}, "id": %d}'):format(self.asked)) or self.said:match(('[^\n]*"id": %d[^\n]*'):format(self.asked))
  end)
  assert(not answer:find('"error"', 1, true), answer)
end

--- Ends the guest, whatever it does.
function Machine:close()
  if not self.program.exit then pcall(self.tell, self, "quit") end
  wait.poll(10, function() return self.program.exit end)
  if self.pipe then
    local closed
    self.pipe:close(function() closed = true end)
    wait.poll(1, function() return closed end)
  end
  self.program:close()
  os.remove(self.socket)
  os.remove(self.folder)
end

return M
