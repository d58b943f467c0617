#!/bin/sh
# luv's poll handle on a socket whose peer has closed with unread data: the callback gets EBADF although the descriptor is good,
# libuv stops watching while bytes are there to be read, and luv writes "EBADF: bad file descriptor" to standard error, where no
# program asked for it.
#
# Affected: Lua programs that give luv a descriptor of their own (a socket of QEMU's or of vhost-user, /dev/uioX) and read it by
# themselves. The kernel answers EPOLLIN together with EPOLLERR then, and libuv makes EBADF of any EPOLLERR. A reader that
# believes the error, or closes the handle at it, loses the last message, which is the one that says why the peer went. poll(2) in
# place of the handle shows POLLIN, and the bytes are read. luv prints before it calls the callback (src/poll.c).
# Packages: lua-luv 1.44.2-0-1, libuv1 1.44.2-1+deb12u1, x86-64. Seen: one callback, "EBADF"; the handle is not active; 4 bytes are read
# after that; the line on standard error.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
luajit=2.1.0~beta3+git20220320+dfsg-4.1+deb12u1
apt-get -q -oAPT::Sandbox::User=root download lua-luv:amd64=1.44.2-0-1 libuv1:amd64=1.44.2-1+deb12u1 \
  luajit:amd64=$luajit libluajit-5.1-2:amd64=$luajit libluajit-5.1-common=$luajit >/dev/null
for deb in *.deb; do dpkg -x "$deb" .; done

cat >reset.lua <<'END'
package.cpath = "./usr/lib/x86_64-linux-gnu/lua/5.1/?.so"
local ffi = require "ffi"
local uv = require "luv"
ffi.cdef [[
  int socketpair(int, int, int, int *);
  long read(int, void *, size_t); long write(int, const void *, size_t); int close(int);
  struct pollfd { int fd; short events, revents; }; int poll(struct pollfd *, unsigned long, int);
]]
local AF_UNIX, SOCK_STREAM, POLLIN = 1, 1, 1
local pair = ffi.new "int[2]"
assert(ffi.C.socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0)
local ours, theirs = pair[0], pair[1]
assert(ffi.C.write(ours, "question", 8) == 8) -- the peer never reads it
assert(ffi.C.write(theirs, "why!", 4) == 4)
assert(ffi.C.close(theirs) == 0)

local handle = uv.new_poll(ours)
handle:start("r", function(err) print("callback", err) end)
uv.run "nowait"
print("active", handle:is_active())
local one = ffi.new("struct pollfd", ours, POLLIN, 0)
ffi.C.poll(one, 1, 0)
print("poll(2) says POLLIN", one.revents % 2 == POLLIN)
print("read", tonumber(ffi.C.read(ours, ffi.new "char[16]", 16)))
END
LD_LIBRARY_PATH=$(echo usr/lib/*-linux-gnu) usr/bin/luajit reset.lua >seen 2>errors
diff seen - <<'END'
callback	EBADF
active	false
poll(2) says POLLIN	true
read	4
END
diff errors - <<'END'
EBADF: bad file descriptor
END
