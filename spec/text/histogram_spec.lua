--- Histograms of times, and how they are shown.

local histogram = require "luio.text.histogram"

local function of(list)
  local h = histogram.new()
  for _, us in ipairs(list) do h:add(us / 1e6) end
  return h
end

local function repeated(us, n, list)
  for _ = 1, n do table.insert(list, us) end
  return list
end

describe("a histogram", function()
  it("is empty at first: nothing to show", function()
    local h = histogram.new()
    assert.same({}, h:lines(80))
    assert.same({}, h:buckets())
    assert.is_nil(h:percentile(0.5))
    assert.equal(0, h:plain().count)
  end)

  it("keeps least and greatest as they are, and percentiles to 2 %", function()
    local h, list = histogram.new(), {}
    for i = 1, 1000 do list[i] = i * 0.37 end
    for _, us in ipairs(list) do h:add(us / 1e6) end
    assert.equal(list[1] / 1e6, h.min)
    assert.equal(list[1000] / 1e6, h.max)
    for _, share in ipairs { 0.01, 0.25, 0.5, 0.9, 0.99, 1 } do
      local exact = list[share * 1000] / 1e6
      assert.is_true(math.abs(h:percentile(share) - exact) <= 0.025 * exact, tostring(share))
    end
  end)

  it("has powers of two in microseconds as buckets: each is the first of its own", function()
    local h = histogram.new()
    for power = 0, 40 do h:add(2 ^ power / 1e6) end
    local buckets = h:buckets()
    assert.equal(41, #buckets)
    for i, bucket in ipairs(buckets) do assert.same({ from = 2 ^ (i - 1), to = 2 ^ i, count = 1 }, bucket) end
  end)

  it("has one bucket for all below a microsecond, 0 and less included", function()
    assert.same({ { from = 0, to = 1, count = 4 } }, of({ 0.9, 0.01, 0, -1 }):buckets())
  end)

  it("counts the same compiled", function()
    local h = histogram.new()
    for i = 1, 100000 do h:add((i % 100 + 1) / 1e6) end
    local sum = 0
    for _, bucket in ipairs(h:buckets()) do sum = sum + bucket.count end
    assert.equal(100000, sum)
    assert.same({ from = 32, to = 64, count = 32000 }, h:buckets()[6])
  end)

  it("is plain data with microseconds for JSON", function()
    local plain = of({ 3, 5, 5, 100 }):plain()
    assert.same({ 4, 3, 100 }, { plain.count, plain.min_us, plain.max_us })
    assert.same({ from = 4, to = 8, count = 2 }, plain.buckets_us[2])
  end)
end)

describe("its lines", function()
  it("are a sum and a bar for each bucket, the longest as wide as the terminal lets it", function()
    local list = repeated(5, 100, repeated(20, 50, repeated(40, 1, {})))
    for _, columns in ipairs { 40, 80, 200 } do
      local lines = of(list):lines(columns)
      local longest = 0
      for _, line in ipairs(lines) do longest = math.max(longest, #line:gsub("[\128-\191]", "")) end
      assert.equal(columns - 1, longest)
    end
    local lines = of(list):lines(40)
    assert.matches("^  min 5%.00 µs   median [45]%.%d%d µs$", lines[1])
    assert.matches("^  p99 [12]%d%.%d µs   max 40%.0 µs$", lines[2])
    assert.same({
      "      4 µs      100  ##################",
      "      8 µs        0",
      "     16 µs       50  #########",
      "     32 µs        1  #",
    }, { unpack(lines, 3) })
  end)

  it("leave out what is empty for long", function()
    local lines = of({ 1, 1.1e6 }):lines(80)
    assert.equal(4, #lines)
    assert.equal("      1 µs        1  " .. ("#"):rep(58), lines[2])
    assert.equal("       ...", lines[3])
    assert.equal("    1.05 s        1  " .. ("#"):rep(58), lines[4])
  end)

  it("are the time itself, when there is one", function()
    assert.same({ "  12.5 µs" }, of({ 12.5 }):lines(80))
  end)
end)

describe("a time", function()
  it("is three digits and a unit", function()
    for text, seconds in pairs {
      ["0.30 µs"] = 0.3e-6, ["4.25 µs"] = 4.25e-6, ["10.0 µs"] = 9.999e-6, ["42.5 µs"] = 42.5e-6, ["100 µs"] = 99.96e-6,
      ["1.00 ms"] = 0.9996e-3, ["12.3 ms"] = 12.3e-3, ["2.50 s"] = 2.5, ["1234 s"] = 1234,
    } do
      assert.equal(text, histogram.time(seconds))
    end
  end)
end)
