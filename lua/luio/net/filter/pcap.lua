--- libpcap: the binding, as far as filters need it. It is loaded by the first filter, and nothing of it is kept: a
--- program is copied, then freed.
---
--- pcap_compile may take long in two ways. A name is looked up by the system's resolver, which may ask the network; and the
--- optimizer's time grows with the cube of an expression's length (400 ports: 5 s). So an expression that is long, or has a
--- word that is not certainly one of libpcap's own, is compiled in a process of its own (luio.host.lua_process), which a
--- deadline ends. A word that a newer libpcap knows only costs that process, some milliseconds.
---
--- Since libpcap 1.8 pcap_compile keeps its state to itself, so threads with Lua states of their own may each compile.

local ffi = require "ffi"
local lua_process = require "luio.host.lua_process"

ffi.cdef [[
typedef struct { uint16_t code; uint8_t jt, jf; uint32_t k; } luio_pcap_insn;
typedef struct { unsigned n; luio_pcap_insn *insns; } luio_pcap_program;
void *luio_pcap_open_dead(int, int) __asm__("pcap_open_dead");
int luio_pcap_compile(void *, luio_pcap_program *, const char *, int, uint32_t) __asm__("pcap_compile");
const char *luio_pcap_geterr(void *) __asm__("pcap_geterr");
void luio_pcap_freecode(luio_pcap_program *) __asm__("pcap_freecode");
void luio_pcap_close(void *) __asm__("pcap_close");
unsigned luio_pcap_filter(const luio_pcap_insn *, const uint8_t *, unsigned, unsigned) __asm__("bpf_filter");
]]

local M = {}

local ETHERNET = 1 -- DLT_EN10MB
local SNAPLEN = 262144 -- what a match returns, of which only that it is not 0 counts
local NETMASK_UNKNOWN = 0xffffffff
local KERNEL = 0xfffff000 -- SKF_AD_OFF: loads from there on are of what Linux knows of a packet beside its bytes
local LOADS = { [0x20] = true, [0x28] = true, [0x30] = true } -- BPF_LD | BPF_ABS, of 4, 2 and 1 bytes
local SHORT = 400 -- bytes of an expression; a shorter one is compiled in 10 ms
local LONG = 4096 -- what has more is not optimized: 400 ports take 5 s with the optimizer, 1 s without
local LIBRARIES = { "libpcap.so.0.8", "libpcap.so.1" } -- Debian's name, and that of others

-- Words and names of numbers that libpcap's scanner knows, so that they are never looked up.
local KEYWORDS = {}
for word in ([[
  src dst host net mask port portrange proto protochain less greater broadcast multicast and or not len length inbound outbound
  ether link ip ip6 arp rarp tcp udp sctp icmp icmp6 igmp igrp pim vrrp carp ah esp vlan mpls pppoed pppoes geneve llc
  atalk aarp decnet lat sca moprc mopdl iso esis isis clnp stp ipx netbeui
  icmptype icmpcode tcpflags tcp-fin tcp-syn tcp-rst tcp-push tcp-ack tcp-urg tcp-ece tcp-cwr
  icmp-echoreply icmp-unreach icmp-sourcequench icmp-redirect icmp-echo icmp-routeradvert icmp-routersolicit icmp-timxceed
  icmp-paramprob icmp-tstamp icmp-tstampreply icmp-ireq icmp-ireqreply icmp-maskreq icmp-maskreply
  ]]):gmatch "%S+" do KEYWORDS[word] = true end

-- An address of colons that the scanner takes whole: a MAC address, or one of IPv6.
local function is_address(word, colons)
  if word:match "^%x%x?:%x%x?:%x%x?:%x%x?:%x%x?:%x%x?$" then return true end
  local gaps = select(2, word:gsub("::", ""))
  return colons <= 7 and (gaps == 1 or gaps == 0 and colons == 7) and not word:find "[^%x:.]" and not word:find "%x%x%x%x%x"
end

local function is_own(word)
  if KEYWORDS[word] or word:match "^%d+$" or word:match "^0[xX]%x+$" then return true end
  if word:match "^%d[%d.]*%d$" then return not word:find("..", 1, true) and select(2, word:gsub("%.", "")) <= 3 end
  local _, colons = word:gsub(":", "")
  if colons == 1 then -- a place and a size: 12:2
    local place, size = word:match "^(.*):(.*)$"
    return (place == "" or is_own(place)) and (size == "" or is_own(size))
  end
  return colons > 1 and is_address(word, colons)
end

--- Whether pcap_compile may look something up for it: false, when it certainly does not.
---@param text string
---@return boolean
function M.may_look_up(text)
  text = text:gsub("portrange%s+%d+%-%d+%f[^%w_.-]", "portrange ")
  for word in text:gmatch "[%w\\$:][%w_.:$-]*" do
    if not is_own(word) then return true end
  end
  return false
end

local P

local function library()
  if P then return P end
  for _, name in ipairs(LIBRARIES) do
    local ok, lib = pcall(ffi.load, name)
    if ok then
      P = lib
      return P
    end
  end
  return nil, ("there is no libpcap (%s), which compiles filters: install libpcap0.8"):format(table.concat(LIBRARIES, ", ")), "ENOENT"
end

-- The program's bytes.
local function compile(lib, text)
  local handle = lib.luio_pcap_open_dead(ETHERNET, SNAPLEN)
  if handle == nil then return nil, "pcap_open_dead: no memory", "ENOMEM" end
  local program = ffi.new "luio_pcap_program"
  local bytes, message, code
  if lib.luio_pcap_compile(handle, program, text, #text <= LONG and 1 or 0, NETMASK_UNKNOWN) < 0 then
    message, code = "libpcap: " .. ffi.string(lib.luio_pcap_geterr(handle)), "EINVAL"
    if message:find("syntax error", 1, true) then message = message .. "; pcap-filter(7) has the syntax" end
  else
    bytes = ffi.string(program.insns, program.n * ffi.sizeof "luio_pcap_insn")
    lib.luio_pcap_freecode(program)
  end
  lib.luio_pcap_close(handle)
  return bytes, message, code
end

-- In a process of its own. Its answer is JSON, so the bytes are hexadecimal.
local function compile_apart(lib, text, seconds)
  local answer, message, code = lua_process.run(seconds, function()
    local bytes, why, number = compile(lib, text)
    return { bytes = bytes and bytes:gsub(".", function(c) return ("%02x"):format(c:byte()) end), message = why, code = number }
  end)
  if not answer then
    if code == "ETIMEDOUT" then
      message = ("it was not compiled within %g s: names are looked up by the system's resolver, and many ports or hosts in one "
        .. "filter take long"):format(seconds)
    end
    return nil, message, code
  end
  if not answer.bytes then return nil, answer.message, answer.code end
  return (answer.bytes:gsub("%x%x", function(hex) return string.char(tonumber(hex, 16)) end))
end

---@class luio.net.BpfProgram
---@field n integer
---@field insns ffi.cdata*  luio_pcap_insn[n], as pcap/bpf.h's struct bpf_insn

--- Compiles an expression for Ethernet.
---@param text string
---@param seconds number  the deadline, where it is compiled in a process of its own
---@return luio.net.BpfProgram?
---@return string? message
---@return string? code
function M.compile(text, seconds)
  if text:find("\0", 1, true) then return nil, "it has a zero byte", "EINVAL" end
  local lib, message, code = library()
  if not lib then return nil, message, code end
  local bytes
  if #text > SHORT or M.may_look_up(text) then
    bytes, message, code = compile_apart(lib, text, seconds)
  else
    bytes, message, code = compile(lib, text)
  end
  if not bytes then return nil, message, code end
  local n = #bytes / ffi.sizeof "luio_pcap_insn"
  local insns = ffi.new("luio_pcap_insn[?]", n)
  ffi.copy(insns, bytes, #bytes)
  for i = 0, n - 1 do
    if insns[i].k >= KERNEL and LOADS[insns[i].code] then
      return nil, "it asks for inbound, outbound or ifindex, which are not in a packet; only the kernel knows them", "EINVAL"
    end
  end
  return { n = n, insns = insns }
end

--- A predicate that has libpcap interpret a program.
---@param program luio.net.BpfProgram
---@return fun(data: ffi.cdata*, length: integer): boolean
function M.interpreter(program)
  local run, insns = library().luio_pcap_filter, program.insns
  return function(data, length) return run(insns, data, length, length) ~= 0 end
end

return M
