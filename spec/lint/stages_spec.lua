--- Every spec is run by a stage of spec/run, and by the right ones; every file that a stage names is there.

local files = require "spec.support.files"

-- Specs in these folders need more than a simulated device. Every other spec belongs to the stage sim.
local ELSEWHERE = {
  ["spec/udev/"] = "^udev$", ["spec/dist/"] = "^dist$", ["spec/guest/"] = "^guest%-", ["spec/guest/arm64/"] = "^arm64$",
  ["spec/qemu/"] = "^qemu$", ["spec/backend/qemu_"] = "^qemu$",
  ["spec/backend/pci_spec"] = "^guest%-", ["spec/backend/uio_timer_spec"] = "^guest%-", ["spec/backend/generic_uio_spec"] = "^arm64$",
}

local function words(command)
  local out, status = files.shell(command)
  assert.equal(0, status, out)
  local list = {}
  for word in out:gmatch "%S+" do list[#list + 1] = word end
  return list
end

-- file -> the stages that run it
local stages = {}
for _, stage in ipairs(words "spec/run --list") do
  for _, path in ipairs(words("spec/run --files " .. stage)) do
    local found = words(("find '%s' -name '*_spec.lua'"):format(path))
    assert(found[1], ("stage %s: %s has no spec"):format(stage, path))
    for _, file in ipairs(found) do
      stages[file] = stages[file] or {}
      table.insert(stages[file], stage)
    end
  end
end

local function stage_of(file)
  local longest, stage = 0, "^sim$"
  for prefix, pattern in pairs(ELSEWHERE) do
    if file:sub(1, #prefix) == prefix and #prefix > longest then longest, stage = #prefix, pattern end
  end
  return stage
end

describe("every spec", function()
  local all = words "find spec -name '*_spec.lua'"

  it("is run by the stage that has what it needs", function()
    for _, file in ipairs(all) do
      local right = false
      for _, stage in ipairs(stages[file] or {}) do right = right or stage:find(stage_of(file)) ~= nil end
      assert.is_true(right, ("%s is run by %s, not by %s"):format(file, table.concat(stages[file] or { "no stage" }, ", "), stage_of(file)))
    end
  end)

  it("that is to come first is there", function()
    for _, file in ipairs(require "spec.support.longest") do assert.is_truthy(stages[file], file) end
  end)

  it("is run once by a stage", function()
    for file, list in pairs(stages) do
      local seen = {}
      for _, stage in ipairs(list) do
        assert.is_nil(seen[stage], ("stage %s has %s twice"):format(stage, file))
        seen[stage] = true
      end
    end
  end)
end)
