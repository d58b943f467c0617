--- Frames for filters: of every kind that a filter tells apart, whole ones, odd ones, and all kinds of cut ones; and a pcap
--- file of them, in which frame i is the one of second i.

local M = {}

local function u16(n) return string.char(math.floor(n / 256) % 256, n % 256) end
local function u32(n) return u16(math.floor(n / 65536)) .. u16(n % 65536) end

--- Few addresses, so that filters hit some.
M.MACS = { "\2\0\0\0\0\1", "\2\0\0\0\0\2", "\1\0\94\0\0\5", ("\255"):rep(6) }
M.IP4 = { "10.0.0.1", "10.0.0.2", "10.1.2.3", "192.168.1.77", "224.0.0.5", "255.255.255.255", "0.0.0.0" }
M.IP6 = { "fe80::1", "2001:db8::2", "ff02::1", "2001:db8:0:1::5" }
M.PORTS = { 22, 53, 80, 443, 8080, 65535, 0 }

local IP6_BYTES = {
  "\254\128" .. ("\0"):rep(13) .. "\1", "\32\1\13\184" .. ("\0"):rep(11) .. "\2", "\255\2" .. ("\0"):rep(13) .. "\1",
  "\32\1\13\184\0\0\0\1" .. ("\0"):rep(7) .. "\5",
}

local function bytes4(text)
  local a, b, c, d = text:match "(%d+).(%d+).(%d+).(%d+)"
  return string.char(a, b, c, d)
end

-- LCG, so that a seed is the same everywhere.
local function generator(seed)
  local state = seed % 2 ^ 31
  local function random(n)
    state = (state * 1103515245 % 2 ^ 31 + 12345) % 2 ^ 31
    return math.floor(state / 65536) % n + 1
  end
  return random, function(list) return list[random(#list)] end
end
M.generator = generator

local function build(random, one)
  local function noise(n)
    local list = {}
    for i = 1, n do list[i] = string.char(random(256) - 1) end
    return table.concat(list)
  end
  local function transport(kind)
    local ports = u16(one(M.PORTS)) .. u16(one(M.PORTS))
    if kind == 6 then return ports .. u32(random(1000)) .. u32(random(1000)) .. "\80" .. string.char(random(64) - 1) .. noise(6 + random(20)) end
    if kind == 17 or kind == 132 then return ports .. noise(4 + random(30)) end
    return string.char(random(16) - 1, random(3) - 1) .. noise(6 + random(20))
  end
  local function ip4()
    local kind = one { 6, 6, 6, 17, 17, 1, 1, 2, 132, 9, 47, 50, 51, 58, 103, 112 }
    local words = random(4) == 1 and 5 + random(4) or random(12) == 1 and random(16) - 1 or 5
    local fragment = random(4) == 1 and one { 0x2000, 0x2001, 0x0010, 0x4000, 0x1fff } or 0
    local data = transport(kind)
    return string.char(0x40 + words, random(8) - 1) .. u16(20 + #data) .. u16(random(65535)) .. u16(fragment) .. string.char(random(255), kind)
      .. noise(2) .. bytes4(one(M.IP4)) .. bytes4(one(M.IP4)) .. noise(math.max(0, words - 5) * 4) .. data
  end
  local function ip6()
    local kind = one { 6, 17, 58, 132, 44, 0, 50 }
    local data = kind == 44 and string.char(one { 6, 17, 58 }, 0) .. u16(one { 0, 8, 1 }) .. noise(4) .. transport(17) or transport(kind)
    return "\96\0\0\0" .. u16(#data) .. string.char(kind, 64) .. one(IP6_BYTES) .. one(IP6_BYTES) .. data
  end
  -- IPv6 with a chain of extension headers before TCP or UDP: hop by hop, routing, destination, authentication.
  local function ip6_chain()
    local kind = one { 6, 17 }
    local data, header = transport(kind), kind
    for _ = 1, random(3) do
      local before = one { 0, 43, 60, 51 }
      local words = random(2) - 1
      data = string.char(header, before == 51 and 2 * words or words) .. noise(6 + 8 * words) .. data
      header = before
    end
    return "\96\0\0\0" .. u16(#data) .. string.char(header, 64) .. one(IP6_BYTES) .. one(IP6_BYTES) .. data
  end
  local function mpls()
    local list = {}
    for i = random(3), 1, -1 do table.insert(list, u16(0) .. string.char(one { 0x50, 0x30 } + (i == 1 and 1 or 0), 64)) end
    return table.concat(list) .. ip4()
  end
  local function pppoe() return "\17\0" .. u16(one { 1, 3 }) .. u16(60) .. one { "\0\33" .. ip4(), "\0\87" .. ip6() } end
  local function geneve()
    local inner = "\8\0" .. ip4()
    local data = u16(53) .. u16(6081) .. u16(0) .. u16(0) .. "\0\0\101\88\0\0" .. string.char(one { 5, 7 }) .. "\0" .. one(M.MACS) .. one(M.MACS) .. inner
    return "\69\0" .. u16(20 + #data) .. u16(1) .. u16(0) .. "\64\17" .. u16(0) .. bytes4(one(M.IP4)) .. bytes4(one(M.IP4)) .. data
  end
  local function arp()
    return u16(1) .. u16(0x800) .. "\6\4" .. u16(random(2)) .. one(M.MACS) .. bytes4(one(M.IP4)) .. one(M.MACS) .. bytes4(one(M.IP4))
  end
  local kinds = {
    function() return u16(0x800) .. ip4() end, function() return u16(0x800) .. ip4() end, function() return u16(0x800) .. ip4() end,
    function() return u16(0x86dd) .. ip6() end, function() return u16(0x86dd) .. ip6() end,
    function() return u16(0x806) .. arp() end, function() return u16(0x8035) .. arp() end,
    function() return u16(one { 0x88b5, 0x88cc, 0x9000, 1501, 1500 }) .. noise(random(60)) end,
    function()
      local head = one { "\66\66\3", "\170\170\3\0\0\0", "\170\170\3\8\0\7\128\155", "\254\254\3", "\254\254\3\131", "\254\254\3\130\27\1\0\20",
        "\224\224\3", "\240\240\127", "\255\255\0" }
      return u16(random(1500)) .. head .. noise(random(60))
    end,
    function()
      local kind = one { 0x6001, 0x6002, 0x6003, 0x6004, 0x6007, 0x809b, 0x80f3, 0x8137 }
      return u16(kind) .. u16(30) .. string.char(one { 0x02, 0x06, 0x81, 0x26, 0x0e }) .. noise(10 + random(40))
    end,
    function() return u16(0x86dd) .. ip6_chain() end,
    function() return u16(0x8847) .. mpls() end,
    function() return u16(one { 0x8863, 0x8864, 0x8864 }) .. pppoe() end,
    function() return u16(0x800) .. geneve() end,
    function() return noise(random(80)) end,
  }
  local type_and_data = one(kinds)()
  if random(4) == 1 then
    for _ = 1, random(2) do
      type_and_data = u16(one { 0x8100, 0x8100, 0x88a8, 0x9100 }) .. u16(one { 1, 5, 0x6005, 4095, 0 }) .. type_and_data
    end
  end
  return one(M.MACS) .. one(M.MACS) .. type_and_data
end

--- So many frames: a third of them cut somewhere, mostly in their headers.
---@param n integer
---@param seed integer
---@return string[]
function M.make(n, seed)
  local random, one = generator(seed)
  local list = {}
  for i = 1, n do
    local frame = build(random, one)
    if random(3) == 1 then frame = frame:sub(1, random(math.min(#frame, 90))) end
    list[i] = frame
  end
  return list
end

--- Frames, and each of them at every length from nothing to whole.
---@param list string[]
---@return string[]
function M.cut(list)
  local all = {}
  for _, frame in ipairs(list) do
    for length = 0, #frame do table.insert(all, frame:sub(1, length)) end
  end
  return all
end

local function little(n, bytes)
  local list = {}
  for i = 1, bytes do list[i] = string.char(math.floor(n / 256 ^ (i - 1)) % 256) end
  return table.concat(list)
end

--- The file: classic pcap.
---@param frames string[]
---@return string
function M.pcap(frames)
  local list = { little(0xa1b2c3d4, 4), little(2, 2), little(4, 2), ("\0"):rep(8), little(65535, 4), little(1, 4) }
  for i, frame in ipairs(frames) do
    table.insert(list, little(i, 4) .. little(0, 4) .. little(#frame, 4) .. little(#frame, 4) .. frame)
  end
  return table.concat(list)
end

--- The seconds of a pcap file's packets.
---@param file string
---@return integer[]
function M.seconds(file)
  local list, at = {}, 25
  local function number(from)
    local a, b, c, d = file:byte(from, from + 3)
    return a + b * 256 + c * 65536 + d * 16777216
  end
  while at + 15 <= #file do
    table.insert(list, number(at))
    at = at + 16 + number(at + 8)
  end
  return list
end

return M
