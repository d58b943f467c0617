--- Filters against tcpdump's: the same frames, the same expressions, and the frames that `tcpdump EXPRESSION` lets through.
---
--- More of it: LUIO_FILTER_SEED=7 LUIO_FILTER_COUNT=2000 busted spec/net/filter_spec.lua

local amount = require "spec.support.amount"
local expressions = require "spec.net.expressions"
local ffi = require "ffi"
local files = require "spec.support.files"
local filter = require "luio.net.filter"
local frames = require "spec.net.frames"
local page = require "spec.support.page"
local pcap = require "luio.net.filter.pcap"

local SEED, COUNT = tonumber(os.getenv "LUIO_FILTER_SEED" or 1), tonumber(os.getenv "LUIO_FILTER_COUNT" or amount(60, 60))

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
  -- Long ones.
  "(" .. ("port 1 or "):rep(40) .. "port 22 or tcp[60] > 5) and not port 443", "not (ip6 and " .. ("not port 53 and "):rep(40) .. "less 90) and ip6",
  "not (not ip and not arp)", "(port 80 or port 443 or port 22) and not vlan", "ip and not (port 80 or (not port 443 and port 22 or tcp[50] > 5))",
  "ip\tand\n(tcp\r\nor udp)",
  -- Link layers beside Ethernet II, tunnels, tags.
  "llc", "llc u", "llc i", "llc s", "llc sabme", "stp", "ipx", "netbeui", "iso", "isis", "esis", "clnp", "l1", "iso proto 131", "ether proto \\stp",
  "atalk", "aarp", "decnet", "decnet src 1.2", "lat", "sca", "moprc", "mopdl", "ether proto 0xfe", "ether proto 0xaa", "igrp", "carp", "byte 12 = 8",
  "mpls", "mpls 5", "mpls and ip", "mpls 5 and mpls and host 10.0.0.1", "pppoed", "pppoes", "pppoes 3", "pppoes and ip and tcp port 80",
  "pppoes and ip6", "geneve", "geneve 5", "geneve 7 and ip and host 10.0.0.1", "vlan and pppoes and ip", "vlan and mpls",
  "ip6 protochain 17", "ip6 protochain \\tcp", "ip protochain 6", "protochain 17", "not ip6 protochain 6 and ip6",
  -- Names, of what the system's files have.
  "port http", "udp port domain", "portrange ssh-http", "host localhost", "ip host localhost", "net loopback",
  "ether proto \\arp", "ip proto \\icmp", "tcp port (http or https)",
  "icmp6[icmp6type] = icmp6-echo", "tcp[tcpflags] = tcp-ack | tcp-cwr", "length >= 60", "host 0x0a000001", "net 10.0.0.0/8 and not net 10.1",
  "ether host 0200.0000.0001", "ether src 02.00.00.00.00.01", "ether[6:4] = 0x02000000 and not ether broadcast",
}

local corpus, path, memory

setup(function()
  corpus = frames.make(amount(3000, 3000), SEED)
  for _, frame in ipairs(frames.cut(frames.make(20, SEED + 1))) do table.insert(corpus, frame) end
  path = files.write("corpus.pcap", frames.pcap(corpus))
  memory = page.new()
end)
teardown(function()
  memory:close()
  files.clean()
end)

local function quote(text) return "'" .. text:gsub("'", [['\'']]) .. "'" end

-- tcpdump's result for each expression: a set of frames' numbers, or its message. One shell runs all.
local function theirs(list)
  local script = {}
  for i, text in ipairs(list) do
    table.insert(script, ("tcpdump -r %s -w %s.%d -- %s 2>%s.err.%d || :"):format(quote(path), quote(path), i, quote(text), quote(path), i))
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
  local match = assert(filter.compile(text)).match
  local list = {}
  for i, frame in ipairs(corpus) do
    local ours = match(memory:place(frame), #frame)
    if ours ~= (set[i] or false) then
      table.insert(list, ("%s: frame %d: %s, tcpdump %s: %s"):format(text, i, tostring(ours), tostring(set[i] or false), hex(frame)))
    end
  end
  return list
end

-- Both refuse it, for the same reason.
local function assert_refused(text, why)
  local f, message, code = filter.compile(text)
  local reason = why:match "tcpdump: ([^\n]+)"
  assert.same({ nil, "EINVAL" }, { f, code }, text)
  assert.is_truthy(message:find(reason, 1, true), ("%s; tcpdump: %s"):format(message, reason))
end

describe("a filter", function()
  it("lets the same frames through as tcpdump's, for each kind of primitive", function()
    local results, barren = theirs(EXPRESSIONS), {}
    for i, text in ipairs(EXPRESSIONS) do
      if type(results[i]) == "string" then
        assert_refused(text, results[i])
      else
        assert.same({}, differences(text, results[i]))
        if not next(results[i]) then table.insert(barren, text) end
      end
    end
    assert.is_true(#barren < #EXPRESSIONS * 0.2, "these match nothing: " .. table.concat(barren, "; "))
  end)

  it("does so for random ones, and refuses those that tcpdump refuses", function()
    local make, list = expressions.generator(SEED), {}
    for i = 1, COUNT do list[i] = make() end
    local compared = 0
    for i, result in ipairs(theirs(list)) do
      if type(result) == "string" then
        assert_refused(list[i], result)
      else
        assert.same({}, differences(list[i], result))
        compared = compared + 1
      end
    end
    assert.is_true(compared > COUNT * 0.6, compared .. " compared")
  end)

  it("does not take what tcpdump does not take, and says why in libpcap's words, with the expression", function()
    local wrong = {
      "tcp port foo", "port 70000", "host", "ip and", "ip tcp", "(ip", "ip)", "1.2.3.4 and", "80", "ip[0]", "ip[0:3] = 1", "ip[0 = 1", "len", "host 1.2.3.256",
      "net 10.0.0.1/8", "net 10.0.0.0/33", "host 10.0.0.0/8", "net fe80::1/10", "net fe80::/129", "host fe80::1::2", "host 02:00:00:00:00:01",
      "ether host 10.0.0.1", "ip host fe80::1", "tcp host 10.0.0.1", "arp port 80", "vlan 4096", "mpls 2000000", "arp multicast", "src proto 6", "ip[0] / 0 = 1",
      "ip[0] << 32 = 1", "ip; tcp", "less ip", "esp[0] = 1", "gateway localhost", "wlan", "type mgt", "on eth0", "ip and arp", "ip6 and tcp[13] = 2",
    }
    local results = theirs(wrong)
    for i, text in ipairs(wrong) do
      assert.is_string(results[i], text)
      assert_refused(text, results[i])
    end
    local _, message = filter.compile "ip tcp"
    assert.equal([[filter "ip tcp": libpcap: can't parse filter expression: syntax error; pcap-filter(7) has the syntax]], message)
  end)

  it("refuses what the bytes of a packet do not tell", function()
    for _, text in ipairs { "inbound", "outbound and tcp", "not inbound", "ifindex 3" } do
      local f, message, code = filter.compile(text)
      assert.same({ nil, "EINVAL" }, { f, code }, text)
      assert.matches("only the kernel knows them", message)
    end
    local _, message, code = filter.compile "ip broadcast"
    assert.equal("EINVAL", code)
    assert.matches("netmask not known", message)
    _, message, code = filter.compile "tcp\0 and port 80"
    assert.equal("EINVAL", code)
    assert.matches("zero byte", message)
    assert.has_error(function() filter.compile(5) end, "a filter is a string, not number")
  end)

  it("looks names up by a deadline, in a process of its own, and nothing else", function()
    local _, message, code = filter.compile("host www.example.org", 0)
    assert.equal("ETIMEDOUT", code)
    assert.matches('^filter "host www.example.org": it was not compiled within 0 s: names are looked up', message)
    for _, text in ipairs {
      "", "tcp port 80 or 443", "host 10.0.0.1 and not arp", "ether host 02:00:00:00:00:01", "host fe80::1", "net ::/0", "net 2001:db8::/33", "1:2:3:4:5:6:7:8",
      "host ::ffff:10.0.0.1", "tcp[tcpflags] & (tcp-syn|tcp-fin) != 0", "ip[2:4] % 7 = 3", "ether[0x0c:2]=0x0800", "portrange 22-80", "icmp[icmptype]=icmp-echo",
    } do
      assert.is_false(pcap.may_look_up(text), text)
    end
    for _, text in ipairs {
      "host a", "a", "host 1-2", "portrange 1-2.example.org", "portrange 1-2-3", "host 1..2", "host 1.2.3.4.5", "port http", "host \\tcp", "proto \\tcp", "abc:de:f",
      "host 12:34:abc", "host 1::2:example", "host 1:2:3:4:5:6:7::8", "1::2::a", "tcp-syn1", "portx", "ip_", "host 10.0.0.1a", "abcd", "$a", "10.a",
    } do
      assert.is_true(pcap.may_look_up(text), text)
    end
  end)

  it("is interpreted by libpcap where LuaJIT can't load it", function()
    local list = {}
    for i = 1, 80 do list[i] = "port " .. i end
    -- With protochain libpcap does not optimize; each port jumps to what is behind the last one.
    local text = "(ip6 protochain 17 or " .. table.concat(list, " or ") .. ") and less 90"
    local f = assert(filter.compile(text))
    assert.is_true(f.source == nil)
    assert.same({}, differences(text, theirs({ text })[1]))
    assert.is_string(assert(filter.compile "ip6 protochain 17 or port 22").source)
  end)

  it("takes 220 ports, which are more than LuaJIT loads", function()
    local list = {}
    for i = 1, 220 do list[i] = "port " .. i * 7 end
    local f = assert(filter.compile(table.concat(list, " or "), 600)) -- seconds
    assert.is_nil(f.source)
    local frame = ffi.new "uint8_t[60]"
    frame[12], frame[14], frame[23] = 0x08, 0x45, 17 -- UDP, no fragment
    local function to(port)
      frame[36], frame[37] = math.floor(port / 256), port % 256
      return f.match(frame, 60)
    end
    for _, i in ipairs { 1, 2, 110, 219, 220 } do
      assert.same({ true, false }, { to(i * 7), to(i * 7 + 1) })
    end
    assert.is_false(to(221 * 7))
  end)

  it("has an end: a text that is too long is refused", function()
    local _, message, code = filter.compile(("ip or "):rep(4000) .. "ip")
    assert.equal("E2BIG", code)
    assert.matches("16384", message)
  end)

  it("names the package where there is no libpcap", function()
    local load = ffi.load
    finally(function()
      ffi.load, package.loaded["luio.net.filter.pcap"] = load, pcap
    end)
    ffi.load = function(name) error(name .. ": cannot open shared object file") end
    package.loaded["luio.net.filter.pcap"] = nil
    local program, message, code = require("luio.net.filter.pcap").compile("tcp", 10)
    assert.same({ nil, "there is no libpcap (libpcap.so.0.8, libpcap.so.1), which compiles filters: install libpcap0.8", "ENOENT" }, { program, message, code })
  end)

  it("makes no garbage, and is compiled #jit", function()
    local texts = {
      "udp port 53 and ip[2:4] * 3 > 7 or tcp[tcpflags] & tcp-syn != 0 or net fe80::/10 or vlan 5", "ether[0:4] * ether[6:4] > 5 or ip6 protochain 6",
      "ip[2:4] / (ip[8] + 1) % 1000 > 7 and ether[0] << ether[1] != 5",
    }
    local buffers = {}
    for i, frame in ipairs(corpus) do
      buffers[i] = ffi.new("uint8_t[?]", #frame)
      ffi.copy(buffers[i], frame, #frame) -- given to ffi.new, the string's final 0 would go beyond the array
    end
    for _, text in ipairs(texts) do
      local match = assert(filter.compile(text)).match
      local function all(rounds)
        local n = 0
        for _ = 1, rounds do
          for i = 1, #corpus do
            if match(buffers[i], #corpus[i]) then n = n + 1 end
          end
        end
        return n
      end
      all(100) -- compiled now
      collectgarbage()
      collectgarbage "stop"
      local before = collectgarbage "count"
      all(200)
      local grown = collectgarbage "count" - before
      collectgarbage "restart"
      assert.is_true(grown < 64, ("%s: %g KiB for %d frames"):format(text, grown, 200 * #corpus))
    end
  end)
end)
