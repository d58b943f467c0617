--- The ways to a device are tables of operations (runtime/backend.h), so that a new way is a new file. No other file may ask
--- which way a device, a region or DMA memory is reached by.

local files = require "spec.support.files"

-- The ways themselves, and the bus of simulated devices.
local WAYS = { "backend_[%w_]+%.c$", "/dma_sim%.c$", "/dma_qemu%.c$", "/qemu_messages%.c$", "/region_qemu%.c$", "/sim%.c$" }

-- Questions after a kind.
local QUESTIONS = {
  "strn?cmp%([^;]-[>.]bus%f[%W]", -- the name of a bus
  "%->own%f[^%w_]", -- belongs to the way alone
  "ops%->kind%s*[=!]=", "luio_region_kind%([^)]*%)%s*[=!]=",
  "[=!]=%s*&luio_%w+", -- a table of operations
}

local function is_way(path)
  for _, pattern in ipairs(WAYS) do
    if path:match(pattern) then return true end
  end
  return false
end

-- Of more than so many lines, none but those of the ways has a question. `code`: a line without what is no code.
local function never_asks(list, ways, code, questions, lines)
  local asked, seen = {}, 0
  for path in files.shell(list):gmatch "%S+" do
    local number = 0
    for line in ways(path) and function() end or io.lines(path) do
      number, seen = number + 1, seen + 1
      local text = code(line)
      for _, pattern in ipairs(questions) do
        if text:find(pattern) then
          table.insert(asked, ("%s:%d: %s"):format(path, number, line))
          break
        end
      end
    end
  end
  assert.is_true(seen > lines)
  assert.same({}, asked)
end

describe("the C runtime", function()
  it("asks after the kind of a device, a region or DMA memory in no file but the ways themselves", function()
    never_asks("ls runtime/*.c runtime/*.h", is_way, function(line) return line:gsub("/%*.-%*/", ""):gsub("^%s*%*.*", "") end, QUESTIONS, 1000)
  end)
end)

-- The same of Lua: luio.host.discovery says what a way offers. Names for people are printed, not compared.
local LUA_QUESTIONS = { "%.bus%s*[=~]=%s*\"%a", "[%w%)]%.sim%f[^%w_]", "region%.kind%s*[=~]=", "%f[%w]dev%.root%f[^%w_]", "device%.root%f[^%w_]" }
local LUA_WAYS = { ["lua/luio/sim.lua"] = true, ["lua/luio/model.lua"] = true, ["lua/luio/region.lua"] = true,
  ["lua/luio/device/view.lua"] = true }

describe("luio in Lua", function()
  it("asks after the bus of a device, its model or whether it is a view in no file but the ways themselves", function()
    never_asks("find lua/luio drivers -name '*.lua'", function(path) return LUA_WAYS[path] end,
      function(line) return line:gsub("%-%-.*", ""):gsub('require[ %(]*"[^"]*"', "") end, LUA_QUESTIONS, 10000)
  end)
end)
