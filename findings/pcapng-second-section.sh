#!/bin/sh
# A pcapng file of two sections: tshark 4.0 gives the second section's packets the first one's interface name, and
# tcpdump 4.99 with libpcap 1.10.3 stops at a second section of the other byte order.
#
# Affected: captures that were joined by `cat`, which the format allows (a section header block may begin at any block,
# and each section has its own byte order and its own interfaces). Interface ids start at 0 in each section. tshark's
# frame.interface_name looks up section 2's interface 0 in section 1; frame.section_number tells them apart.
# libpcap keeps the first section's byte order, and takes the length of the next section's blocks for too large.
# Packages: tshark 4.0.17-0+deb12u3, tcpdump 4.99.3-1, libpcap0.8 1.10.3-1. Seen: the lines below.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
for package in tshark=4.0.17-0+deb12u3 libwireshark16=4.0.17-0+deb12u3 libwiretap13=4.0.17-0+deb12u3 \
  libwsutil14=4.0.17-0+deb12u3 libwireshark-data=4.0.17-0+deb12u3 tcpdump=4.99.3-1 libpcap0.8=1.10.3-1 \
  libsmi2ldbl liblua5.2-0 libc-ares2 libnghttp2-14 libbrotli1 libsnappy1v5 libglib2.0-0 libxml2 libicu72; do
  apt-get -q -oAPT::Sandbox::User=root download "$package" >/dev/null
done
for deb in *.deb; do dpkg -x "$deb" .; done
PATH="$folder/usr/bin:$PATH" LD_LIBRARY_PATH=$(echo "$folder"/usr/lib/*-linux-gnu)
export PATH LD_LIBRARY_PATH

python3 - <<'END'
import struct

def block(order, kind, body):
    body += bytes(-len(body) % 4)
    size = 12 + len(body)
    return struct.pack(order + "II", kind, size) + body + struct.pack(order + "I", size)

def section(order, interface):
    name = struct.pack(order + "HH", 2, len(interface)) + interface + struct.pack(order + "HH", 0, 0)
    frame = bytes.fromhex("ffffffffffff020000000001080600010800060400010200000000010a0000010000000000000a000002")
    return (block(order, 0x0A0D0D0A, struct.pack(order + "IHHq", 0x1A2B3C4D, 1, 0, -1))
            + block(order, 1, struct.pack(order + "HHI", 1, 0, 262144) + name)
            + block(order, 6, struct.pack(order + "IIIII", 0, 0, 1000000, len(frame), len(frame)) + frame))

open("same-order.pcapng", "wb").write(section("<", b"east") + section("<", b"west"))
open("other-order.pcapng", "wb").write(section("<", b"east") + section(">", b"west"))
END

for file in same-order other-order; do
  echo "$file, tshark: frame, section, interface"
  tshark -r $file.pcapng -T fields -e frame.number -e frame.section_number -e frame.interface_name 2>/dev/null
  echo "$file, tcpdump: packets, complaint"
  tcpdump -nr $file.pcapng 2>complaint | wc -l
  grep pcap_loop complaint || echo none
done >seen
cat seen
diff seen - <<'END'
same-order, tshark: frame, section, interface
1	1	east
2	2	east
same-order, tcpdump: packets, complaint
2
none
other-order, tshark: frame, section, interface
1	1	east
2	2	east
other-order, tcpdump: packets, complaint
1
tcpdump: pcap_loop: pcapng block size 469762048 > maximum 16777216
END
