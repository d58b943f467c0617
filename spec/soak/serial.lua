--- A member of the long run: two UARTs with a line between them. Each must receive the other's bytes, whole and in order.
---
---     luio spec/soak/serial.lua ONE TWO COUNTS      COUNTS: the file to write counters to

package.path = package.path .. ";./?.lua" -- started from the checkout
local counts = require "spec.soak.counts"
local luio = require "luio"
local serial = require "luio.serial"

local one, two = assert(serial.open(arg[1], { baud = 115200 })), assert(serial.open(arg[2], { baud = 115200 }))
local c = counts.new(arg[3], { "bytes", "wrong" })

local stopping = counts.until_told()

luio.run(function()
  local n = 0
  while not stopping() do
    for _, way in ipairs { { one, two }, { two, one } } do
      n = n + 1
      local text = ("%08d "):format(n):rep(20)
      assert(way[1]:write(text, 30))
      local got = way[2]:read(#text, 60)
      if got == text then
        c.bytes = c.bytes + #text
      else
        c.wrong = c.wrong + 1
        print(("WRONG: %q for %q"):format(tostring(got), text))
        io.stdout:flush()
      end
    end
    c:save()
  end
end)
assert(one:close())
assert(two:close())
