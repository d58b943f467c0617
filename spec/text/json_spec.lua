--- Reading JSON that comes from anywhere.

local dkjson = require "dkjson"
local files = require "spec.support.files"
local json = require "luio.text.json"

local function refuses(text, message)
  local value, why, code = json.decode(text)
  assert.is_nil(value)
  assert.equal(message, why, text)
  assert.equal("EINVAL", code)
end

describe("luio.text.json", function()
  it("reads what is JSON", function()
    local t = assert(json.decode ' {"a": [1, -2.5e3, 0, true, false, "x"], "b":{} ,"c": [ ], "n": null}\n')
    assert.same({ 1, -2500, 0, true, false, "x" }, { unpack(t.a) })
    assert.is_true(json.is_array(t.a) and json.is_array(t.c) and not json.is_array(t.b))
    assert.is_nil(t.n)
    assert.equal('q" \\ / \8\12\10\13\9 \127 \195\164 \226\130\172 \240\157\132\158', json.decode [["q\" \\ \/ \b\f\n\r\t \u007f \u00e4 \u20ac \ud834\udd1e"]])
    assert.equal(5, json.decode "5")
  end)

  it("reads what the writer that we use writes", function()
    local value = { a = { b = { 1, 2, { c = "\1\31\"\\ü" } } }, d = 0.1, e = -1e300 }
    for _, indent in ipairs { true, false } do
      local back = assert(json.decode(dkjson.encode(value, { indent = indent })))
      assert.equal(value.a.b[3].c, back.a.b[3].c)
      assert.same({ 0.1, -1e300, 2 }, { back.d, back.e, back.a.b[2] })
    end
  end)

  it("says where something is wrong", function()
    for text, message in pairs {
      [""] = "line 1, column 1: it ends here", ["{"] = "line 1, column 2: expected a key in quotes", ["{\n  a: 1}"] = "line 2, column 3: expected a key in quotes",
      ['{"a" 1}'] = "line 1, column 6: expected a colon", ['{"a":1 "b":2}'] = "line 1, column 8: expected a comma or }",
      ["[1 2]"] = "line 1, column 4: expected a comma or ]",
      ["[1,]"] = "line 1, column 4: expected a value", ["[1,"] = "line 1, column 4: it ends here", ['"abc'] = "line 1, column 1: text without an end",
      ['{"a":1,\n"a":2}'] = 'line 2, column 1: the key "a" is there twice', ["[1] 2"] = "line 1, column 5: something behind the end",
      ["nil"] = "line 1, column 1: expected a value", ["[NaN]"] = "line 1, column 2: expected a value", ["[1e999]"] = "line 1, column 2: a number too large",
      ["[01]"] = "line 1, column 3: expected a comma or ]", ["[.5]"] = "line 1, column 2: expected a value", ["[0x10]"] = "line 1, column 3: expected a comma or ]",
      ['"\\x"'] = "line 1, column 2: an unknown escape", ['"a\nb"'] = "line 1, column 3: a control character in text",
      ['"\\u12"'] = "line 1, column 3: \\u without four hexadecimal digits", ['"\\ud800"'] = "line 1, column 3: half of a surrogate pair",
      ['"\\ud800\\u0041"'] = "line 1, column 3: half of a surrogate pair", ["// c\n1"] = "line 1, column 1: expected a value",
      ["\127ELF\1\0"] = "line 1, column 1: expected a value",
    } do refuses(text, message) end
  end)

  it("has a limit to depth, whatever is nested", function()
    local deep = json.DEPTH
    assert(json.decode(("["):rep(deep) .. ("]"):rep(deep)))
    for _, text in ipairs { ("["):rep(deep + 1) .. ("]"):rep(deep + 1), ("["):rep(1e6), ('{"a":'):rep(1e5) } do
      local value, message = json.decode(text)
      assert.is_nil(value)
      assert.matches("^line 1, column %d+: more than 64 brackets within each other$", message)
    end
  end)

  it("has a limit to a file's size, and names what can't be read", function()
    finally(files.clean)
    local _, message, code = json.read "/dev/zero"
    assert.same({ "/dev/zero has more than 64 MiB", "EFBIG" }, { message, code })
    _, message, code = json.read "/nowhere"
    assert.same({ "/nowhere: No such file or directory", "ENOENT" }, { message, code })
    _, message, code = json.read "/"
    assert.same({ "/: Is a directory", "EISDIR" }, { message, code })
  end)

  it("writes on one line exactly what it is given", function()
    for text, value in pairs {
      ['{"a":[1,2,{"b":true}],"c":"\\"\\\\\\n\\u0001ü"}'] = { a = { 1, 2, { b = true } }, c = '"\\\n\1ü' },
      ["{}"] = {}, ["[]"] = setmetatable({}, json.ARRAY), ["9007199254740992"] = 2 ^ 53, ["-0.10000000000000001"] = -0.1,
      ["18446744073709551615"] = 0xffffffffffffffffULL, ["-5"] = -5LL, ['"\244\143\191\191"'] = "\244\143\191\191",
    } do
      assert.equal(text, (json.encode(value)))
    end
    assert.equal(0.1, json.decode(assert(json.encode(0.1))))
  end)

  it("names what it can't write", function()
    for said, value in pairs {
      ["a.b[2]: a function"] = { a = { b = { 1, print } } }, ["the number nan"] = 0 / 0, ["a list with the key 3"] = { 1, [3] = 3 },
      ["a key that is a number"] = { [0] = 1 }, ["a cdata"] = require("ffi").new "int[1]",
    } do
      assert.same({ nil, said, "EINVAL" }, { json.encode(value) })
    end
    for _, text in ipairs { "\128", "\192\128", "\224\159\191", "\237\160\128", "\240\143\191\191", "\244\144\128\128", "\245\128\128\128", "\195" } do
      assert.same({ nil, "text that is no UTF-8, at byte 2", "EINVAL" }, { json.encode("a" .. text) })
    end
  end)
end)
