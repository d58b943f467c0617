#!/bin/sh
# luassert 1.9.0 under LuaJIT: `is_not_nil` and `is_falsy` pass for the same NULL pointer, and `is_nil` fails.
#
# Affected: specs of code that returns C pointers through the FFI. A NULL pointer is a cdata, so it is no nil to
# `type()`, while `== nil` holds. luassert's is_nil asks for the type, its truthy, falsy and equals compare by `==`: so one
# NULL pointer "is not nil", "is falsy" and "equals nil". A spec of a function that returns NULL on failure passes by
# `assert.is_not_nil`; `assert.is_true(pointer ~= nil)` says what is meant.
# Packages: luajit 2.1.0~beta3+git20220320+dfsg-4.1+deb12u1, lua-luassert 1.9.0-1, lua-say 1.4.1-2. Seen: the lines below.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
(cd "$folder" && apt-get -q -oAPT::Sandbox::User=root download "luajit=2.1.0~beta3+git20220320+dfsg-4.1+deb12u1" \
  "lua-luassert=1.9.0-1" "lua-say=1.4.1-2" >/dev/null && for deb in *.deb; do dpkg -x "$deb" .; done)

cat >"$folder/null.lua" <<'END'
local assert = require "luassert"
local null = require("ffi").new "void *"
local function passes(name, ...) print(("%-10s %s"):format(name, pcall(assert[name], ...) and "passes" or "fails")) end
passes("is_not_nil", null)
passes("is_nil", null)
passes("is_falsy", null)
passes("equals", nil, null)
passes("is_true", null ~= nil)
END
LUA_PATH="$folder/usr/share/lua/5.1/?.lua;$folder/usr/share/lua/5.1/?/init.lua" \
  "$folder/usr/bin/luajit" "$folder/null.lua" >"$folder/seen"
cat "$folder/seen"
diff "$folder/seen" - <<'END'
is_not_nil passes
is_nil     fails
is_falsy   passes
equals     passes
is_true    fails
END
