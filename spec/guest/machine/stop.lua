--- In the guest: works all the time, and says how far it is, while the host stops the machine and lets it go on.

package.path = package.path .. ";./?.lua" -- started from the checkout
local luio = require "luio"
local work = require "spec.guest.machine.work"

local ROUNDS = tonumber(arg[1])

work.run(function()
  local w = work.start()
  local longest = 0
  for i = 1, ROUNDS do
    local before = luio.now()
    w:works()
    longest = math.max(longest, luio.now() - before)
    print(("[round %d]"):format(i))
  end
  local _, lost = w:counted()
  local _, restarts = w.program:text():gsub("restart", "")
  print(("[longest %.2f, warnings %d, lost %d, restarts %d]"):format(longest, #w.said, lost, restarts))
  w:close()
end)
