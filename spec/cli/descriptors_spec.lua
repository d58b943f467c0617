--- Out of descriptors: every command says so, whatever the limit; and every step of a program, whichever is the one that
--- finds none. Nothing else is given for the reason, and nothing ends by a signal.

local amount = require "spec.support.amount"
local files = require "spec.support.files"
local program = require "spec.support.program"

local SNAPSHOT = files.write("before.json", '{"luio":"snapshot","version":1,"device":"sim:edu","registers":[{"path":"ID","value":"0x010000ed"}]}')

local COMMANDS = {
  "--version", "--help", "list", "info sim:edu", "get sim:edu ID", "set sim:edu STATUS.RAISE_IRQ=1", "dump sim:edu", "snapshot sim:edu",
  "diff " .. SNAPSHOT .. " sim:edu", "watch sim:edu --for 0.1", "explore sim:edu -e 'ID:read()'", "run drivers/nothing sim:edu",
  "irq sim:edu --trigger IRQ_RAISE=1 --count 1", "dma sim:edu", "doctor", "doctor sim:edu", "lint drivers/edu", "types drivers/edu",
  "import svd spec/support/amount.lua", "env", "completion bash", "__complete list", "get uio99 ID", "bind 0000:00:99.0",
  "unbind 0000:00:99.0", "examples/demo.lua",
}

local LIMITS = {}
for n = 4, 40 do LIMITS[#LIMITS + 1] = n end -- with 3 the dynamic loader opens nothing, and says so
LIMITS = amount({ 4, 8, 13, 17, 35, 40 }, LIMITS)

-- Both streams and the status, without a shell's own words about signals.
local function limited(n, command)
  return files.shell(("(ulimit -n %d; exec timeout 30 %s %s) </dev/null"):format(n, program.PATH, command))
end

local function says_so(text)
  return (text:find("EMFILE", 1, true) or text:find("Too many open files", 1, true)) and text:find("ulimit", 1, true)
end

describe("with few descriptors", function()
  teardown(files.clean)

  for _, command in ipairs(COMMANDS) do
    it(("`luio %s` works as it does with many, or says that they were too few"):format(command), function()
      local _, usual = limited(256, command)
      for _, n in ipairs(LIMITS) do
        local out, status = limited(n, command)
        local what = ("ulimit -n %d: status %s: %s"):format(n, tostring(status), out)
        assert.is_true(status == usual or status == 1 and says_so(out) ~= nil, what)
        assert.is_nil(out:find "PANIC" or out:find "not found:" or out:find "traceback", what)
      end
    end)
  end
end)

-- Holds all descriptors but so many, and takes a step; for each number of them. What the step gave, or that it raised.
local STEPS = [==[
local ffi = require "ffi"
ffi.cdef "int open(const char *, int, ...); int close(int);"
local luio = require "luio"
local held = {}
local function leave(free)
  repeat held[#held + 1] = ffi.C.open("/", 0x280000) until held[#held] < 0 -- O_PATH, O_CLOEXEC
  held[#held] = nil
  for _ = 1, free do ffi.C.close(table.remove(held)) end
end
local function give_back()
  while held[1] do ffi.C.close(table.remove(held)) end
end
local function edu() return assert(luio.open "sim:edu") end
local steps = {
  ["luio.list"] = { function() return luio.list() end },
  ["luio.open"] = { function() return luio.open "sim:edu" end },
  ["luio.open of a real device"] = { function() return luio.open "uio99" end },
  ["luio.load"] = { function() return luio.load "drivers/edu" end },
  ["luio.start"] = { function() return luio.start("drivers/edu", "sim:edu") end },
  ["a reload"] = { function(dev) return dev:reload() end, function() return assert(luio.start("drivers/edu", "sim:edu")) end },
  ["an interrupt's start"] = { function(dev) return dev.irqs[0]:start() end, edu },
  ["DMA memory"] = { function(dev) return dev.dma:alloc(4096) end, edu },
  ["a network port"] = { function() return require("luio.net").open("sim:e1000e", { loopback = true }) end },
  ["a serial port"] = { function() return require("luio.serial").open "sim:uart16550" end },
  ["require"] = { function() return require "luio.net.pcapng" end },
  ["the kernel's events"] = { function() return require("luio.monitor").open() end },
  ["a return"] = { function(dev)
    dev.sim.plug()
    return dev:wait_return(5)
  end, function()
    local dev = edu()
    dev:watch_presence()
    dev.sim.unplug()
    luio.sleep(0.05)
    return dev
  end },
}
local step = steps[arg[1]]
luio.on_warning(function() end)
local function once(free)
  local dev = step[2] and step[2]()
  leave(free)
  local ok, result, message, code = pcall(step[1], dev)
  give_back()
  if ok and result then
    luio.close_all()
    return "fine"
  end
  luio.close_all()
  return ("%s %s %s"):format(ok and "nil" or "raised", tostring(ok and message or result):gsub("\n.*", ""), tostring(code))
end
luio.run(function()
  for free = 0, tonumber(arg[2]) do print(free, once(free)) end
end)
]==]

describe("a step of a program that finds no descriptor", function()
  local script
  setup(function() script = files.write("steps.lua", STEPS) end)
  teardown(files.clean)

  for _, step in ipairs { "luio.list", "luio.open", "luio.open of a real device", "luio.load", "luio.start", "a reload",
    "an interrupt's start", "DMA memory", "a network port", "a serial port", "require", "the kernel's events", "a return" } do
    it(("says so: %s"):format(step), function()
      local out, status = files.shell(("(ulimit -n 64; exec timeout 60 %s %s '%s' 16)"):format(program.PATH, script, step:gsub("'", "'\\''")))
      assert.equal(0, status, out)
      local refused, lines = false, 0
      for free, result in out:gmatch "(%d+)\t([^\n]*)\n" do
        lines = lines + 1
        local said = result:find("EMFILE", 1, true) or result:find("Too many open files", 1, true)
        refused = refused or said ~= nil
        local fine = result == "fine" or said or step:find "real" and tonumber(free) >= 8 and result:find "there is no device uio99"
        assert.is_truthy(fine, out)
      end
      assert.equal(17, lines, out)
      assert.is_true(refused or step == "a return" or step == "require", out)
    end)
  end
end)
