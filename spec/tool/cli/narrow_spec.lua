--- Terminals: one of 40 columns, where luio breaks its output between words; and a slow one.

local files = require "spec.support.files"
local program = require "spec.support.program"
local term = require "luio.text.term"
local tmux = require "spec.support.tmux"

-- Whether a line is a single word, which can't be broken.
local function one_word(line)
  return line:match "^%s*%S+$" ~= nil
end

describe("in 40 columns", function()
  for _, command in ipairs {
    "--help", "get --help", "dma --help", "run --help", "irq --help", "list", "info sim:edu", "get sim:edu STATUS ID",
    "set sim:edu STATUS.RAISE_IRQ=1", "set -n sim:edu DMA_CMD.RUN=1", "dump sim:edu", "dump sim:edu 0x0+0x20", "doctor sim:edu", "dma sim:edu -x",
    "explore sim:edu --read-only -e 'help() info() dump() return regs'",
  } do
    it("luio " .. command, function() -- but for messages on standard error, which stay one line
      local t = tmux.start(program.PATH .. " " .. command, { columns = 40, rows = 200 })
      finally(function() t:close() end)
      t:wait "status 0"
      local seen = 0
      for line in t:printed():match "^(.-)status 0":gmatch "[^\n]+" do
        line = line:gsub(" +$", "")
        assert.is_true(term.columns(line) <= 40 or one_word(line) or line:find "^luio: " ~= nil, line)
        seen = seen + 1
      end
      assert.is_true(seen > 0)
    end)
  end
end)

describe("on a terminal", function()
  teardown(files.clean)

  -- script(1) is one. It takes nothing more when its own output is full. The command is in a file, so that no other shell reads it.
  local function on_a_terminal(command, first)
    return files.shell(("script -qec 'sh %s' /dev/null </dev/null | { %s cat; }"):format(files.write("command.sh", command), first or ""))
  end

  it("that takes its time nothing is lost", function()
    local dumps = {}
    for i = 1, 12 do dumps[i] = "-e 'dump()'" end
    local out = on_a_terminal(("build/luio explore sim:e1000e %s; echo status $?"):format(table.concat(dumps, " ")), "sleep 1;")
    assert.matches("status 0", out)
    assert.is_true(#out > 200000)
    assert.equal(12, select(2, out:gsub("\nFCRTV ", "")))
  end)

  it("a program that a script starts prints, too", function()
    local out = on_a_terminal [[build/luio explore sim:edu -e 'dump() os.execute "echo heard"'; echo status $?]]
    assert.matches("\nheard\r?\nstatus 0\r?\n", out)
  end)
end)
