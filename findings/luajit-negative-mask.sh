#!/bin/sh
# LuaJIT of Debian 12, x86-64: a negative number becomes 2^63 when it meets a uint64_t.
#
# Affected: masks of 64-bit registers and addresses. The `bit` functions convert all arguments to uint64_t when one
# of them is one, and bit.bnot() of a number is negative; so `bit.band(value, bit.bnot(0xf))`, the usual way to clear four
# bits, gives 0 or 2^63 instead of the value without them. A mask of the same type (0xfULL) is right. The conversion of
# a negative double depends on the CPU's instruction: arm64 keeps the low bits. Later versions of LuaJIT define it.
# Package: luajit 2.1.0~beta3+git20220320+dfsg-4.1+deb12u1. Seen: the four lines below.
set -eu
version=2.1.0~beta3+git20220320+dfsg-4.1+deb12u1
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
(cd "$folder" && apt-get -q -oAPT::Sandbox::User=root download "luajit:amd64=$version" >/dev/null && dpkg -x luajit_*.deb .)

cat >"$folder/mask.lua" <<'END'
local value = 0x123456789abcdef0ULL
print("value without its low 4 bits, mask bit.bnot(0xf):    0x" .. bit.tohex(bit.band(value + 5, bit.bnot(0xf)), 16))
print("value without its low 4 bits, mask bit.bnot(0xfULL): 0x" .. bit.tohex(bit.band(value + 5, bit.bnot(0xfULL)), 16))
print("all ones in a uint64_t, written as -1:               0x" .. bit.tohex(bit.bor(0ULL, -1), 16))
print("all ones in a uint64_t, written as -1ULL:            0x" .. bit.tohex(bit.bor(0ULL, -1ULL), 16))
END
"$folder/usr/bin/luajit" "$folder/mask.lua" >"$folder/seen"
cat "$folder/seen"
diff "$folder/seen" - <<'END'
value without its low 4 bits, mask bit.bnot(0xf):    0x0000000000000000
value without its low 4 bits, mask bit.bnot(0xfULL): 0x123456789abcdef0
all ones in a uint64_t, written as -1:               0x8000000000000000
all ones in a uint64_t, written as -1ULL:            0xffffffffffffffff
END
