--- The rule for users who could have put a file somewhere, by itself: owners, modes, sticky folders.
--- spec/tool/cli/trust_spec.lua applies it to real folders.

local trust = require "luio.host.trust"

local ME, OTHER = 1000, 1001
local S_STICKY = 0x200

local function stat(uid, mode, gid) return { uid = uid, gid = gid or uid, mode = tonumber(mode, 8) } end

local function mine(more)
  local w = { uids = { [0] = true, [ME] = true }, gids = {} }
  for key, value in pairs(more or {}) do w[key] = value end
  return w
end

describe("what is found without being named", function()
  it("is taken from root and from the user, where nobody else may write", function()
    for _, uid in ipairs { 0, ME } do
      for _, mode in ipairs { "755", "700", "1755", "644" } do assert.is_nil(trust.fault(stat(uid, mode), mine())) end
    end
  end)

  it("is not taken from another, whatever its mode", function()
    for _, mode in ipairs { "755", "700", "1777", "000" } do
      for _, passing in ipairs { true, false } do
        assert.equal("is user 1001's", (trust.fault(stat(OTHER, mode), mine(), passing)))
      end
    end
    -- Root trusts no user.
    assert.equal("is user 1000's", (trust.fault(stat(ME, "755"), { uids = { [0] = true }, gids = {} })))
  end)

  it("is not taken from where a group or anybody may write; the group of one's own counts, too, and root's", function()
    assert.same({ "may be written by anybody", "chmod go-w" }, { trust.fault(stat(ME, "777"), mine()) })
    assert.same({ "may be written by anybody", "chmod go-w" }, { trust.fault(stat(ME, "702"), mine(), true) })
    assert.same({ "may be written by group 1000", "chmod g-w" }, { trust.fault(stat(ME, "775"), mine()) })
    assert.same({ "may be written by group 0", "chmod g-w" }, { trust.fault(stat(0, "775"), mine(), true) })
  end)

  it("may lie below a sticky folder, not in it; nobody is told to change that folder's mode", function()
    local tmp = stat(0, "1777")
    assert.is_true(tmp.mode >= S_STICKY)
    assert.is_nil(trust.fault(tmp, mine(), true))
    assert.same({ "may be written by anybody" }, { trust.fault(tmp, mine(), false) })
    assert.same({ "may be written by group 7" }, { trust.fault(stat(0, "1775", 7), mine(), false) })
  end)

  it("may be in the hands of those who could change the named file", function()
    assert.is_nil(trust.fault(stat(OTHER, "644"), mine { uids = { [0] = true, [OTHER] = true } }))
    assert.is_nil(trust.fault(stat(ME, "664", 7), mine { gids = { [7] = true } }))
    assert.equal("may be written by group 8", (trust.fault(stat(ME, "664", 8), mine { gids = { [7] = true } })))
    assert.equal("may be written by anybody", (trust.fault(stat(ME, "666", 7), mine { gids = { [7] = true } })))
    assert.is_nil(trust.fault(stat(OTHER, "666"), mine { all = true }))
  end)
end)
