--- The cross compiler's code for the accessors and fences on arm64, read from the library by objdump. Runs on the
--- host, after `make ARCH=arm64`. LuaJIT's code for the calls is counted by QEMU's trace (trace_spec.lua).

local files = require "spec.support.files"

local LIBRARY = "build/arm64/libluio.so"

-- Function -> its instructions up to the return, with single blanks, without the linker's padding.
local function instructions()
  local out, status = files.shell("aarch64-linux-gnu-objdump -d --no-show-raw-insn " .. LIBRARY)
  assert.equal(0, status, out)
  local all, current = {}, nil
  for line in out:gmatch "[^\n]+" do
    local name = line:match "^%x+ <([%w_]+)>:$"
    if name then
      current = {}
      all[name] = current
    elseif current then
      local text = line:match "^%s+%x+:%s+(.-)%s*$" -- none: "..." stands for zeros between functions
      if text == "ret" then current = nil elseif text then table.insert(current, (text:gsub("%s+", " "))) end
    end
  end
  return all
end

describe("for arm64", function()
  local code = instructions()

  local function memory_accesses(name)
    local found = {}
    for _, text in ipairs(assert(code[name], name)) do
      if text:find("[", 1, true) then table.insert(found, text) end
    end
    return found
  end

  -- By the width the instruction has: a byte, a half word, a word, two words.
  local LOAD = { [8] = "ldrb w0, [x0]", [16] = "ldrh w0, [x0]", [32] = "ldr w0, [x0]", [64] = "ldr x0, [x0]" }
  local STORE = { [8] = "strb w1, [x0]", [16] = "strh w1, [x0]", [32] = "str w1, [x0]", [64] = "str x1, [x0]" }

  for _, width in ipairs { 8, 16, 32, 64 } do
    for _, order in ipairs { "", width > 8 and "_swapped" or nil } do
      it(("read%d%s is one load of %d bits, write%d%s one store"):format(width, order, width, width, order), function()
        assert.same({ LOAD[width] }, memory_accesses(("luio_read%d%s"):format(width, order)))
        assert.same({ STORE[width] }, memory_accesses(("luio_write%d%s"):format(width, order)))
      end)
    end
  end

  -- Such memory takes no unaligned accesses and no dc zva; pairs and vectors may be made into several.
  it("copying to and from uncached memory is by bytes and words of it", function()
    for name, pattern in pairs { luio_copy_in = "^str", luio_copy_out = "^ldr", luio_fill = "^str" } do
      local seen = {}
      for _, text in ipairs(assert(code[name], name)) do
        assert.is_nil(text:match "^dc " or text:match "^[sl][td]p " or text:match "^[sl][td]u?r%a* [qdvx]" or text:match "^bl ", text)
        if text:match(pattern) then seen[text:match "^%a+ %a"] = true end
      end
      local verb = pattern:sub(2)
      assert.same({ [verb .. " w"] = true, [verb .. "b w"] = true }, seen)
    end
  end)

  it("each fence is the barrier that luio.h says", function()
    assert.same({ "dmb oshst" }, code.luio_fence_doorbell)
    assert.same({ "dmb oshld" }, code.luio_fence_flag)
    assert.same({ "dmb osh" }, code.luio_fence_full)
  end)
end)
