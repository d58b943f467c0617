--- Out of descriptors: every command says so, at every limit, and so does every step of a program that finds none.
--- No other reason is given, and no process ends by a signal.

local amount = require "spec.support.amount"
local files = require "spec.support.files"
local program = require "spec.support.program"
local scarcity = require "spec.support.scarcity"

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

describe("a step of a program that finds no descriptor", function()
  for _, step in ipairs { "luio.list", "luio.open", "luio.open of what is not there", "luio.load", "luio.start", "a reload",
    "an interrupt's start", "DMA memory", "a network port", "a serial port", "require", "the kernel's events", "a return" } do
    it("says so: " .. step, function() scarcity.check(step, "sim:edu", "drivers/edu") end)
  end
end)
