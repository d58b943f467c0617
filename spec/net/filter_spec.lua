--- Filters against those of libpcap: the same frames, the same expressions, and what `tcpdump -O` lets through.
--- -O, because libpcap's optimizer moves tests about, and so decides otherwise on frames that are cut where a test looks.
---
--- More of it: LUIO_FILTER_SEED=7 LUIO_FILTER_COUNT=2000 busted spec/net/filter_spec.lua

local expressions = require "spec.net.expressions"
local ffi = require "ffi"
local files = require "spec.support.files"
local filter = require "luio.net.filter"
local frames = require "spec.net.frames"

local SEED, COUNT = tonumber(os.getenv "LUIO_FILTER_SEED" or 1), tonumber(os.getenv "LUIO_FILTER_COUNT" or 60)

-- Each feature, and each of its odd sides.
local EXPRESSIONS = {
  "", "ether host 02:00:00:00:00:01", "ether src 02-00-00-00-00-02", "ether dst ff:ff:ff:ff:ff:ff", "ether src and dst 2:0:0:0:0:1",
  "ether proto 0x88cc", "ether proto 1501", "ether proto 1500", "ether proto 66", "ether proto \\ip6", "ether broadcast", "broadcast", "multicast",
  "ip multicast", "ip6 multicast", "ether multicast", "arp", "rarp", "ip", "ip6", "icmp", "icmp6", "igmp", "tcp", "udp", "sctp", "ah", "esp", "pim", "vrrp",
  "host 10.0.0.1", "src host 10.0.0.1", "dst 10.0.0.2", "src or dst 10.0.0.2", "src and dst host 10.0.0.1", "ip host 10.1.2.3", "arp host 10.0.0.1",
  "rarp src 10.0.0.2", "host fe80::1", "ip6 src 2001:db8::2", "src and dst host fe80::1", "host 10.1", "host 167772161",
  "net 10.0.0.0/8", "net 10", "net 10.1", "net 10.0.0/24", "src net 192.168.1.64/26", "net 10.0.0.0 mask 255.0.0.0", "net 0.0.0.0/0", "net 0",
  "net fe80::/10", "dst net ff00::/8", "net 2001:db8::/33", "net ::/0", "net 2001:db8:0:1::5", "arp net 10.0.0.0/24",
  "port 80", "tcp port 80", "udp src port 53", "dst port 443", "src and dst port 80", "sctp port 22", "port 0", "port 65535",
  "portrange 22-80", "tcp portrange 80-22", "udp dst portrange 443", "src portrange 0-65535",
  "port 80 or 443", "tcp port (80 or 443 or 22)", "port 80 or not 443 and 22", "not port 80 and 443", "src port 80 or (443 and not 22)",
  "host 10.0.0.1 and 10.0.0.2", "port 80 or (tcp) or 443", "host 10.0.0.1 or fe80::1", "src net 10.0.0.0/8 or 192.168.0.0/16",
  "ip proto 6", "ip proto (6 or 17)", "ip6 proto 6", "ip6 proto 44", "proto 17", "ip proto \\udp", "ip proto 300", "ip6 proto \\ipv6-icmp", "ip proto \\gre",
  "vlan", "vlan 5", "vlan 0", "vlan and ip", "vlan and vlan and ip", "vlan 5 or ip", "not vlan and ip", "ip or vlan and tcp port 80",
  "vlan and ether[12:2] = 0x8100",
  "vlan 1 and host 10.0.0.1", "vlan and net fe80::/10", "(vlan) and (udp port 53)", "vlan and tcp[13] & 2 != 0", "vlan and icmp6[0] = 3",
  "less 60", "greater 60", "len <= 60", "len > 60", "len = 42", "less 13", "len - 14 = ip[2:2]",
  "ip[0] & 0xf != 5", "ip[6:2] & 0x1fff = 0", "ip[6:2] & 0x1fff != 0", "ip[8] < 64", "ip[12:4] = 0x0a000001", "ip[12:4] > 0x7fffffff",
  "ip[16:4] >= 2147483648",
  "tcp[tcpflags] & (tcp-syn|tcp-fin) != 0", "tcp[13] = 2", "tcp[0:2] = 80", "udp[2:2] != 53", "udp[4:2] > 10", "icmp[icmptype] = icmp-echo", "icmp[1] > 0",
  "icmp6[icmp6type] = 5", "ip6[6] = 58", "ip6[0] & 0xf0 = 0x60", "arp[6:2] = 1", "arp[14:4] = 0x0a000001", "ether[0] & 1 = 1", "ether[12:2] > 1500",
  "link[6:4] = 0x02000000",
  "sctp[0:2] = 22", "igmp[0] < 8", "ip[ip[0] & 0xf] > 100", "tcp[tcp[12] / 16 * 4] > 1", "ether[len - 1] > 100", "ether[len] = 0", "tcp[1000] = 0",
  "ip[2:4] / ip[8] > 70000",
  "ip[2:4] % 7 = 3", "ip[8] * ip[8] > 4000", "ether[2:4] * ether[3:4] > 65536", "- ether[0:4] < 5", "ether[0:4] + 0xffffffff > 5", "1 - 2 > 0",
  "1 << 31 = 2147483648",
  "ether[0] << ether[1] > 100", "ether[0:4] >> 28 = 0", "ether[0:4] ^ ether[4:4] = 0", "ether[0:4] | 0x80000000 > 0x80000000",
  "ether[0] / (ether[5] - ether[5]) = 0",
  "8 % 3 + 4 = 1", "2 * 7 % 4 = 6", "1 + ip[0] = 70", "ip[0] + tcp[0] > 5", "0x10 = 16", "010 = 8", "(ip[0]) = 69", "((1)) < (len)",
  "not ip", "!ip", "not not ip", "! (ip or ip6)", "not port 80", "ip and not tcp or udp", "ip or udp and tcp", "ip && !udp || arp",
  "tcp and (port 80 or host 10.0.0.1)",
  -- So large that a part of it becomes a function of its own.
  "(" .. ("port 1 or "):rep(40) .. "port 22 or tcp[60] > 5) and not port 443", "not (ip6 and " .. ("not port 53 and "):rep(40) .. "less 90) and ip6",
  "not (not ip and not arp)", "(port 80 or port 443 or port 22) and not vlan", "ip and not (port 80 or (not port 443 and port 22 or tcp[50] > 5))",
  "ip\tand\n(tcp\r\nor udp)",
}

-- Frames lie at the end of a page behind which there is none: a look beyond a frame ends the process.
ffi.cdef [[
void *luio_filter_spec_mmap(void *, size_t, int, int, int, int64_t) __asm__("mmap64");
int luio_filter_spec_mprotect(void *, size_t, int) __asm__("mprotect");
int luio_filter_spec_munmap(void *, size_t) __asm__("munmap");
]]
local PAGE, READ_WRITE, PRIVATE_ANONYMOUS = 4096, 3, 0x22

local corpus, path, memory

setup(function()
  corpus = frames.make(600, SEED)
  path = files.write("corpus.pcap", frames.pcap(corpus))
  local two = ffi.C.luio_filter_spec_mmap(nil, 2 * PAGE, READ_WRITE, PRIVATE_ANONYMOUS, -1, 0)
  memory = ffi.cast("uint8_t *", two)
  assert(ffi.C.luio_filter_spec_mprotect(memory + PAGE, PAGE, 0) == 0)
end)
teardown(function()
  ffi.C.luio_filter_spec_munmap(memory, 2 * PAGE)
  files.clean()
end)

local function place(frame)
  local at = memory + (PAGE - #frame)
  ffi.copy(at, frame, #frame)
  return at
end

local function quote(text) return "'" .. text:gsub("'", [['\'']]) .. "'" end

-- What tcpdump makes of each: a set of frames' numbers, or why it takes it not. One shell for all.
local function theirs(list)
  local script = {}
  for i, text in ipairs(list) do
    table.insert(script, ("tcpdump -O -r %s -w %s.%d -- %s 2>%s.err.%d || :"):format(quote(path), quote(path), i, quote(text), quote(path), i))
  end
  local at = files.write("tcpdump.sh", table.concat(script, "\n"))
  os.execute("sh " .. quote(at))
  os.remove(at)
  local results = {}
  for i = 1, #list do
    local out, err = ("%s.%d"):format(path, i), ("%s.err.%d"):format(path, i)
    local f = io.open(out, "rb")
    local content = f and f:read "*a" or ""
    if f then f:close() end
    if #content >= 24 then
      local set = {}
      for _, second in ipairs(frames.seconds(content)) do set[second] = true end
      results[i] = set
    else
      results[i] = files.read(err)
    end
    os.remove(out)
    os.remove(err)
  end
  return results
end

local function hex(text) return (text:gsub(".", function(c) return ("%02x"):format(c:byte()) end)) end

-- The frames that one of the two lets through and the other does not.
local function differences(text, set)
  local f = assert(filter.compile(text))
  local list = {}
  for i, frame in ipairs(corpus) do
    local ours = f.match(place(frame), #frame)
    if ours ~= (set[i] or false) then
      table.insert(list, ("%s: frame %d: %s, libpcap %s: %s"):format(text, i, tostring(ours), tostring(set[i] or false), hex(frame)))
    end
  end
  return list
end

-- libpcap looks for a 0 or a large shift in the right operand's first number only, whatever else that operand holds.
local function their_quirk(why) return why:find("division by zero", 1, true) or why:find("modulus by zero", 1, true) or why:find("shift by more", 1, true) end

describe("a filter", function()
  it("lets the same frames through as libpcap's, for each kind of primitive", function()
    local results, hits = theirs(EXPRESSIONS), 0
    for i, text in ipairs(EXPRESSIONS) do
      if type(results[i]) == "string" then error(("tcpdump takes %q not: %s"):format(text, results[i])) end
      assert.same({}, differences(text, results[i]))
      if next(results[i]) then hits = hits + 1 end
    end
    assert.is_true(hits > #EXPRESSIONS * 0.8, "most of them match something: " .. hits)
  end)

  it("does so for random ones", function()
    local make, list = expressions.generator(SEED), {}
    for i = 1, COUNT do list[i] = make() end
    local compared = 0
    for i, result in ipairs(theirs(list)) do
      if type(result) == "table" then
        assert.same({}, differences(list[i], result))
        compared = compared + 1
      elseif filter.compile(list[i]) and not their_quirk(result) then
        error(("tcpdump takes %q not: %s"):format(list[i], result))
      end
    end
    assert.is_true(compared > COUNT * 0.9, compared .. " compared")
  end)

  it("does not take what libpcap does not take, and says where it is wrong and what was expected", function()
    local wrong = {
      { "tcp port foo", 'column 10, "foo": a port\'s number' }, { "port 70000", "0 to 65535" },
      { "host", "at its end: a value was expected after host" }, { "tpc", "did you mean tcp?" }, { "ip and", "at its end: a primitive" },
      { "ip tcp", 'column 4, "tcp": and, or' }, { "(ip", '")" was expected' }, { "ip)", "column 3" },
      { "1.2.3.4", "host, net, port" }, { "80", "at its end: a comparison" }, { "ip or 80", "what it is" }, { "tcp and 10.0.0.1", "host, net, port" },
      { "ip[0]", "at its end: a comparison" }, { "ip[0:3] = 1", "column 6" }, { "ip[0 = 1", '"]" was expected' }, { "len", "a comparison" },
      { "host 1.2.3.256", "up to 255" }, { "net 10.0.0.1/8", "bits outside of the mask" }, { "net 10.0.0.0/33", "up to 32" },
      { "host 10.0.0.0/8", "net was expected" },
      { "net fe80::1/10", "bits outside" }, { "net fe80::/129", "up to 128" }, { "host fe80::1::2", "neither an IPv6 nor a MAC" }, { "host 1:2:3", "neither" },
      { "host 02:00:00:00:00:01", "ether host" }, { "ether host 10.0.0.1", "a MAC address" }, { "ip host fe80::1", "ip6 was expected" },
      { "tcp host 10.0.0.1", "ip, arp or rarp" },
      { "arp port 80", "tcp, udp or sctp" }, { "portrange 80", nil }, { "port 80-90", "a port's number" }, { "vlan 4096", "0 to 4095" }, { "ether", "a qualifier" },
      { "ip broadcast", "only ether broadcast" }, { "arp multicast", "ether, ip or ip6" }, { "tcp proto 6", "ether, ip or ip6" },
      { "ip proto tcp", "its name as \\tcp" },
      { "src proto 6", "no direction" }, { "ip[0] / 0 = 1", "divided by 0" }, { "ip[0] << 32 = 1", "up to 31" }, { "len > 4294967296", "below 4294967296" },
      { "len > 09", "octal" }, { "ip; tcp", "no filter has such a character" }, { "less ip", "a length after less" }, { "host (ip)", "a value was expected" },
      { "port 80 or (443 and tcp)", "only values" }, { "esp[0] = 1", "no looking into" }, { "ether proto 0xfe", "not known here" },
      { "host example.org", "names are not looked up" }, { ("("):rep(200) .. "ip" .. (")"):rep(200), "nested too deeply" }, { "- 1", "a comparison" },
    }
    local texts = {}
    for i, one in ipairs(wrong) do texts[i] = one[1] end
    for i, result in ipairs(theirs(texts)) do
      local text, words = wrong[i][1], wrong[i][2]
      local f, message, code = filter.compile(text)
      if words then
        assert.same({ nil, "EINVAL" }, { f, code }, text)
        assert.is_truthy(message:find(words, 1, true), message)
      else
        assert.is_table(f, message)
      end
      -- What libpcap does take: names it looks up, frames and a depth that are not known here.
      local only_here = text:find "^%(%(" or text == "ether proto 0xfe" or text == "ip broadcast" or text == "host 1.2.3.256"
      if words and not only_here then assert.is_string(result, text) end
    end
  end)

  it("has an end: a text that is too long is refused", function()
    local _, message, code = filter.compile(("ip or "):rep(4000) .. "ip")
    assert.equal("E2BIG", code)
    assert.matches("16384", message)
    assert.is_false(assert(filter.compile(("port 80 or "):rep(1400) .. "port 80")).match(ffi.new("uint8_t[14]"), 14))
    assert.has_error(function() filter.compile(5) end)
  end)

  it("makes no garbage, and is compiled #jit", function()
    local f = assert(filter.compile "udp port 53 and ip[2:4] * 3 > 7 or tcp[tcpflags] & tcp-syn != 0 or net fe80::/10 or vlan 5")
    local match, buffers = f.match, {}
    for i, frame in ipairs(corpus) do
      buffers[i] = ffi.new("uint8_t[?]", #frame)
      ffi.copy(buffers[i], frame, #frame) -- given to ffi.new, the string's final 0 would go beyond the array
    end
    local function all(rounds)
      local n = 0
      for _ = 1, rounds do
        for i = 1, #corpus do
          if match(buffers[i], #corpus[i]) then n = n + 1 end
        end
      end
      return n
    end
    all(200) -- compiled now
    collectgarbage()
    collectgarbage "stop"
    local before = collectgarbage "count"
    all(500)
    local grown = collectgarbage "count" - before
    collectgarbage "restart"
    assert.is_true(grown < 64, grown .. " KiB for 300,000 frames")
  end)
end)
