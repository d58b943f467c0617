--- Random filters, in the syntax of pcap-filter(7).

local frames = require "spec.net.frames"

local M = {}

--- A function that makes one at each call.
---@param seed integer
---@return fun(): string
function M.generator(seed)
  local random, one = frames.generator(seed)
  local arithmetic

  local function chance(n) return random(n) == 1 end

  local function host()
    local proto = one { "", "", "ip ", "arp ", "rarp " }
    local dir = one { "", "src ", "dst ", "src or dst ", "src and dst " }
    if chance(4) then return one { "", "ip6 " } .. dir .. "host " .. one(frames.IP6) end
    local kind = dir == "" and "host " or one { "host ", "" }
    return proto .. dir .. kind .. one(frames.IP4)
  end
  local function net()
    local dir = one { "", "src ", "dst ", "src and dst " }
    return dir .. "net " .. one {
      "10.0.0.0/8", "10", "10.1", "192.168.1.64/26", "0.0.0.0/0", "224.0.0.0/4", "10.0.0.0 mask 255.255.0.0", "fe80::/10", "2001:db8::/48", "ff00::/8",
      "::/0", "10.0.0/24", "2001:db8:0:1::5",
    }
  end
  local function port()
    local proto, dir = one { "", "", "tcp ", "udp ", "sctp " }, one { "", "src ", "dst ", "src or dst ", "src and dst " }
    if chance(4) then return proto .. dir .. "portrange " .. one { "22-80", "80-22", "0-65535", "443", "53-53" } end
    if chance(10) then return proto .. dir .. "port " .. one { "http", "domain", "ssh" } end
    local text = proto .. dir .. "port " .. one(frames.PORTS)
    if chance(4) then text = text .. one { " or ", " and " } .. one { "", "not " } .. one(frames.PORTS) end
    if chance(6) then text = proto .. dir .. "port (" .. one(frames.PORTS) .. " or " .. one(frames.PORTS) .. ")" end
    return text
  end
  local function ether()
    return "ether " .. one { "host ", "src ", "dst ", "src or dst " } .. one { "02:00:00:00:00:01", "2:0:0:0:0:2", "ff:ff:ff:ff:ff:ff", "01-00-5e-00-00-05" }
  end
  local function proto()
    return one {
      "ether proto 0x800", "ether proto 0x88cc", "ether proto 66", "ether proto \\arp", "ether proto 1501", "ip proto 47", "ip proto \\udp", "ip6 proto 58",
      "ip6 proto 300", "proto 6", "proto (6 or 17)", "ether proto 0x8100", "ip6 protochain 17", "ip6 protochain 6", "ip protochain 6", "protochain 17",
      "ether proto \\lat", "ether proto 0xfe", "ether proto 0xaa",
    }
  end
  local function word()
    return one {
      "ip", "ip6", "arp", "rarp", "tcp", "udp", "sctp", "icmp", "icmp6", "igmp", "ah", "esp", "pim", "vrrp", "broadcast", "ether broadcast", "multicast",
      "ether multicast", "ip multicast", "ip6 multicast", "less 60", "greater 60", "less 14", "vlan", "vlan 5", "vlan 4095", "mpls", "mpls 5", "pppoed",
      "pppoes", "pppoes 3", "geneve", "geneve 7", "llc", "llc u", "llc i", "llc s", "iso", "isis", "esis", "clnp", "stp", "ipx", "netbeui", "atalk", "aarp",
      "decnet", "lat", "sca", "moprc", "mopdl", "carp", "igrp", "byte 12 = 8",
    }
  end
  local function load(depth)
    local index = depth > 0 and chance(5) and arithmetic(depth - 1) or one { "0", "1", "2", "6", "8", "9", "12", "13", "20", "33", "60" }
    return one { "ether", "ip", "ip6", "tcp", "udp", "icmp", "icmp6", "arp", "sctp", "igmp" } .. "[" .. index .. one { "", "", ":1", ":2", ":4" } .. "]"
  end
  function arithmetic(depth)
    if depth <= 0 or chance(3) then return one { "0", "1", "5", "64", "0x0f", "4294967295", "65536", "len", load(0), load(0), load(0), "tcp-syn", "tcpflags" } end
    local kind = random(6)
    if kind == 1 then return "(" .. arithmetic(depth - 1) .. ")" end
    if kind == 2 then return load(depth) end
    if kind == 3 then return "- " .. arithmetic(depth - 1) end
    local op = one { "+", "-", "*", "/", "%", "&", "|", "^", "<<", ">>" }
    local right = arithmetic(depth - 1)
    if (op == "/" or op == "%") and chance(2) then right = one { "2", "3", "7" } end
    if (op == "<<" or op == ">>") and chance(2) then right = one { "1", "8", "31" } end
    return arithmetic(depth - 1) .. " " .. op .. " " .. right
  end
  local function relation()
    return arithmetic(random(3)) .. " " .. one { "=", "==", "!=", "<", "<=", ">", ">=" } .. " " .. arithmetic(random(2) - 1)
  end
  local function primitive() return one { host, net, port, ether, proto, word, word, relation, relation }() end
  local function expression(depth)
    if depth <= 0 or chance(4) then return primitive() end
    local kind = random(8)
    if kind == 1 then return one { "not ", "! ", "!" } .. expression(depth - 1) end
    if kind <= 3 then return "(" .. expression(depth - 1) .. ")" end
    return expression(depth - 1) .. one { " and ", " or ", " && ", " || " } .. expression(depth - 1)
  end
  return function() return expression(random(4) - 1) end
end

return M
