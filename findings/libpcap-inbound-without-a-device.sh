#!/bin/sh
# libpcap compiles `inbound` for a handle without a device (pcap_open_dead) to a filter that matches no packet, and so does
# `not inbound`. pcap_compile returns 0 and leaves no message.
#
# Affected: programs that compile tcpdump expressions themselves and run them by bpf_filter on frames in memory: packet
# brokers, user-space network drivers, readers of capture formats that libpcap does not know. `inbound`, `outbound` and
# `ifindex N` become a load from offset 0xfffff004 or 0xfffff008 (Linux's SKF_AD_OFF), which only the kernel answers. In user
# space the load is outside of the frame, and such a load makes the whole program return 0, whatever stands around it.
# For a handle of a capture file (pcap_open_offline) pcap_compile refuses the same expression with a message.
# Package: libpcap0.8 1.10.3-1, x86-64. Seen: both expressions compile for the dead handle and match 0 of 1 frames; `arp`
# matches 1; for the file's handle both are refused.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
apt-get -q -oAPT::Sandbox::User=root download libpcap0.8:amd64=1.10.3-1 libdbus-1-3:amd64 libsystemd0:amd64 \
  luajit:amd64=2.1.0~beta3+git20220320+dfsg-4.1+deb12u1 libluajit-5.1-common=2.1.0~beta3+git20220320+dfsg-4.1+deb12u1 >/dev/null
for deb in *.deb; do dpkg -x "$deb" .; done

cat >inbound.lua <<'LUA'
local ffi = require "ffi"
ffi.cdef [[
  typedef struct { unsigned n; void *insns; } program;
  void *pcap_open_dead(int, int);
  void *pcap_open_offline(const char *, char *);
  int pcap_compile(void *, program *, const char *, int, uint32_t);
  const char *pcap_geterr(void *);
  unsigned bpf_filter(const void *, const uint8_t *, unsigned, unsigned);
]]
local pcap = ffi.load "libpcap.so.0.8"
-- An empty capture file of Ethernet frames, and a broadcast ARP frame.
local f = assert(io.open("empty.pcap", "wb"))
f:write("\xd4\xc3\xb2\xa1\2\0\4\0\0\0\0\0\0\0\0\0\0\0\4\0\1\0\0\0")
f:close()
local frame = ffi.new "uint8_t[60]"
ffi.fill(frame, 6, 0xff)
frame[12], frame[13] = 8, 6
local handles = {
  { "dead", pcap.pcap_open_dead(1, 262144) },
  { "file", pcap.pcap_open_offline("empty.pcap", ffi.new "char[256]") },
}
for _, handle in ipairs(handles) do
  assert(handle[2] ~= nil)
  for _, text in ipairs { "arp", "inbound", "not inbound" } do
    local p = ffi.new "program"
    local refused = pcap.pcap_compile(handle[2], p, text, 1, 0) < 0
    if refused then io.stderr:write(handle[1], ": ", text, ": ", ffi.string(pcap.pcap_geterr(handle[2])), "\n") end
    print(handle[1], text, refused and "refused" or pcap.bpf_filter(p.insns, frame, 60, 60) ~= 0 and "matches" or "does not match")
  end
end
LUA
LD_LIBRARY_PATH=$(echo usr/lib/*-linux-gnu) usr/bin/luajit inbound.lua >seen
diff seen - <<'END'
dead	arp	matches
dead	inbound	does not match
dead	not inbound	does not match
file	arp	matches
file	inbound	refused
file	not inbound	refused
END
