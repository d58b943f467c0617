#!/bin/sh
# LuaJIT of Debian 12 compiles four pieces of ordinary code to wrong values, at its own settings and in silence.
#
# Affected: state machines, queues, functions with `...`, fields of 64-bit registers. Each program below prints one
# number, interpreted (-joff) and compiled; both should be the same.
#   state   a table `{ on = true }` that is made anew in a loop: the branch is decided by the constructor's value
#           (mended upstream by 9f452bbe and c42c62e7, 2023)
#   queue   `#items` in the loop's condition, while another name for the same table is appended to: the old length
#           (4ef96cff, 2022)
#   rest    `local a, b = ...` in a loop: the values of the neighbours (6bda30d8, 2022)
#   field   bit.rshift of a uint64_t that was masked by a constant: 0 (9e043724, 2023)
# Package: luajit 2.1.0~beta3+git20220320+dfsg-4.1+deb12u1, x86-64. Seen: state 500, compiled 971; queue 20, 33; rest 200, 0; field
# 300, 57. The compiled number depends on when the loop gets hot, so only its being another is checked.
set -eu
version=2.1.0~beta3+git20220320+dfsg-4.1+deb12u1
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
apt-get -q -oAPT::Sandbox::User=root download "luajit:amd64=$version" "libluajit-5.1-common=$version" >/dev/null
for deb in *.deb; do dpkg -x "$deb" .; done

cat >state.lua <<'END'
local state, on = { on = true }, 0
for _ = 1, 1000 do
  if state.on then
    on = on + 1
    state = { on = false }
  else
    state = { on = true }
  end
end
print(on)
END
cat >queue.lua <<'END'
local queue, longest = {}, 0
local function push(x) queue.items[#queue.items + 1] = x end
for i = 1, 300 do
  local items, steps = {}, 0
  queue.items = items
  while #items < 20 and steps < 100 do
    push(i)
    steps = steps + 1
  end
  longest = math.max(longest, steps)
end
print(longest)
END
cat >rest.lua <<'END'
local function count(...)
  local right = 0
  for _ = 1, 200 do
    local a, b = ...
    if a == 11 and b == 22 then right = right + 1 end
  end
  return right
end
count(11, 22)
print(count(11, 22, 33))
END
cat >field.lua <<'END'
local right = 0
for i = 1, 300 do
  if bit.rshift(bit.band(0x1200000000ULL * i, 0xffff00000000ULL), 32) == (0x12ULL * i) % 0x10000ULL then right = right + 1 end
end
print(right)
END

for name in state queue rest field; do
  interpreted=$(usr/bin/luajit -joff $name.lua) compiled=$(usr/bin/luajit $name.lua)
  printf '%s interpreted %s, compiled %s\n' $name "$interpreted" "$compiled" >&2
  [ "$interpreted" = "$compiled" ] && verdict=same || verdict=differs
  echo "$name $interpreted $verdict"
done >seen
diff seen - <<'END'
state 500 differs
queue 20 differs
rest 200 differs
field 300 differs
END
