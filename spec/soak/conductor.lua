--- The long run, in the guest that spec/soak/run boots: starts its members, disturbs them by all events of a driver's long
--- life, and checks their progress and their use of resources each minute.
---
---     one       `luio run` on an edu: saved and reloaded, also with faults in the file; killed
---     two       `luio run --bind` on an edu below a slot, which is emptied and filled; killed
---     serial    two UARTs and a line
---     share     a card shared by memif; its clients come and are killed: one that echoes, one that floods the port,
---               one that is idle
---     traffic   another card on the same wire: numbered frames to that first client, and back
---
--- Their output is in build/guest/soak/out/NAME.log afterwards.
---
--- The effect of a disturbance is awaited with a deadline that only a hang misses, because this machine may be slow.

package.path = package.path .. ";./?.lua" -- started from the checkout
local counts = require "spec.soak.counts"
local files = require "spec.support.files"
local live = require "luio.reload.live"
local ledger = require "spec.soak.ledger"
local luio = require "luio"
local program = require "spec.support.program"
local qmp = require "spec.support.qmp"
local slots = require "spec.support.slot"
local usage = require "spec.soak.usage"
local uv = require "luv"
local wait = require "spec.support.wait"

io.stdout:setvbuf "line"

local SECONDS = tonumber(arg[1])
local MINUTE = 60
local PATIENCE = 120 -- seconds, for what takes one
local EDU, SLOT = "0000:00:04.0", "0000:01:00.0"
local CARD, OTHER_CARD, ONE, TWO = "0000:00:05.0", "0000:00:09.0", "0000:00:0a.0", "0000:00:0b.0"
local MAC = "02:00:00:00:00:0%d" -- of client N

local log = ledger.new()
local tally = { saves = 0, refused = 0, kills = 0, plugs = 0, clients = 0, late = 0 }
local began = luio.now()
local over = false
local hugepages = usage.machine().hugepages -- free at first

-- ---- Members -------------------------------------------------------------------------------------

local folder = select(2, files.write("here", ""))
local socket = folder .. "/share.sock"
local function counts_of(name) return ("%s/%s.counts"):format(folder, name) end

local members = {}

local function start(name, args)
  members[name] = program.start(args)
  return members[name]
end

local DRIVER = files.read "spec/soak/driver.lua"

local function driver(name, version)
  files.put(("%s/%s/init.lua"):format(folder, name),
    (DRIVER:gsub("VERSION, COUNTS = [^\n]*", ("VERSION, COUNTS = %d, %q"):format(version, counts_of(name)), 1)))
end

local function run(name, device, ...)
  driver(name, 1)
  return start(name, { "run", ("%s/%s"):format(folder, name), device, "--restart", "1000000", "--backoff", "0.05", ... })
end

local function count(name, what) return counts.read(counts_of(name))[what] or 0 end

-- ---- Disturbances --------------------------------------------------------------------------------

-- Waits until something is so; that it is not is a failure of the run, which goes on.
local function expect(what, fn)
  if wait.poll(PATIENCE, function() return over or fn() end) then return end
  log:fail(("not within %d s: %s"):format(PATIENCE, what))
end

local function goes_on(name)
  local before = count(name, "rounds")
  expect(name .. " goes on", function() return count(name, "rounds") > before + 2 end)
end

-- A version that is killed in its first second is not tried again (luio.reload.follow), so kills wait until it has stood that.
local saving = false
local function kill(name)
  if name == "one" and not wait.poll(PATIENCE, function() return over or not saving end) then return end
  local pid = members[name]:children()[1]
  if not pid then return end
  local before = count(name, "starts")
  members[name]:kill("sigkill", pid)
  tally.kills = tally.kills + 1
  expect(name .. " is started again", function() return count(name, "starts") > before end)
  goes_on(name)
end

-- Every third save has a fault, and is refused.
local version = 1
local function save()
  saving = true
  local p = members.one
  if tally.saves % 3 == 2 then
    local before = select(2, p:text():gsub("reload refused", ""))
    files.save(folder .. "/one/init.lua", DRIVER .. "\nthis is no Lua")
    expect("a save is refused", function() return select(2, p:text():gsub("reload refused", "")) > before end)
    tally.refused = tally.refused + 1
  else
    version = version + 1
    driver("one", version)
    expect("version " .. version, function() return count("one", "version") == version end)
  end
  tally.saves = tally.saves + 1
  luio.sleep(3 * live.PROBATION)
  goes_on "one"
  saving = false
end

local slot
local function plug()
  local before = count("two", "starts")
  slot:power_off()
  luio.sleep(math.random() * 0.5)
  slot:plug()
  tally.plugs = tally.plugs + 1
  expect("two is started after its device came back", function() return count("two", "starts") > before end)
  goes_on "two"
end

local KINDS = { "echo", "flood", "stall" }
local function client(n)
  local p = start("client" .. n, { "spec/support/memif_client.lua", socket, tostring(n), MAC:format(n), KINDS[n] })
  expect(KINDS[n] .. " has joined", function() return p:text():find "joined" or p.exit end)
  -- On a machine that is busy otherwise a client may take longer than the server's deadline: the server disconnects it, with the reason, and it is counted.
  local late = p.exit and p:text():find("it was not done with its introduction", 1, true)
  if p.exit and not late then log:fail(("client %s ended: %s"):format(KINDS[n], p:text())) end
  if late then
    tally.late = tally.late + 1
    return p:close()
  end
  tally.clients = tally.clients + 1
  local stay = luio.now() + 2 + math.random() * 8
  wait.poll(60, function() return over or luio.now() > stay end)
  p:close()
end

-- Each disturbance again and again, all beside each other.
local function again(fn, ...)
  local args = { ... }
  return luio.spawn(function()
    while not over do
      fn(unpack(args))
      local pause = luio.now() + 1 + math.random() * 3
      wait.poll(60, function() return over or luio.now() > pause end)
    end
  end)
end

-- ---- The sample ----------------------------------------------------------------------------------

-- Of a process; for the line a minute: MiB/threads/descriptors.
local function resources(label, pid, short)
  local now = usage.of(pid)
  if not now then return end -- just killed
  table.insert(short, ("%s %.1f/%d/%d"):format(label, now.rss, now.threads, now.descriptors))
  log:used(label .. " rss", now.rss, now.rss / 4 + 4, " MiB")
  log:used(label .. " threads", now.threads, 0)
  log:used(label .. " descriptors", now.descriptors, 0)
end

local function sample()
  local short = {}
  for _, what in ipairs { "saves", "refused", "kills", "plugs", "clients" } do log:done(what, tally[what]) end
  for _, name in ipairs { "one", "two" } do
    log:done(name .. " rounds", count(name, "rounds"))
    log:wrong(name .. " wrong", count(name, "wrong"))
    resources(name .. " guardian", members[name].pid, short)
    resources(name .. " worker", members[name]:children()[1], short)
  end
  log:done("serial bytes", count("serial", "bytes"))
  log:wrong("serial wrong", count("serial", "wrong"))
  for _, what in ipairs { "sent", "received" } do log:done("frames " .. what, count("traffic", what)) end
  log:wrong("frames wrong", count("traffic", "wrong"))
  for _, name in ipairs { "serial", "share", "traffic" } do
    if members[name].exit then log:fail(("%s ended with %d: %s"):format(name, members[name].exit, members[name]:text():sub(-400))) end
    resources(name, members[name].pid, short)
  end
  resources("conductor", uv.os_getpid(), short)
  local machine = usage.machine()
  log:used("memory", machine.memory, 48, " MiB")
  log:used("kernel", machine.kernel, 16, " MiB")
  log:used("hugepages in use", hugepages - machine.hugepages, 2)
  print(log:sample(luio.now() - began, ("MiB/threads/descriptors: %s; memory %.0f MiB, hugepages %d"):format(table.concat(short, ", "),
    machine.memory, hugepages - machine.hugepages)))
end

-- ---- The run -------------------------------------------------------------------------------------

local function told_to_stop() return uv.fs_stat "/run/out/stop" ~= nil end

local function begin()
  math.randomseed(os.time())
  slot = slots.below(SLOT, { driver = "edu", id = "edu2", bus = "rp" })
  run("one", EDU):wait("runs on", PATIENCE)
  run("two", SLOT, "--bind"):wait("runs on", PATIENCE)
  start("serial", { "spec/soak/serial.lua", ONE, TWO, counts_of "serial" })
  local share = { "examples/share.lua", CARD, socket }
  for n = 1, #KINDS do
    table.insert(share, "--client")
    table.insert(share, ("%d=%s"):format(n, MAC:format(n)))
  end
  start("share", share)
  expect("the shared port's socket", function() return uv.fs_stat(socket) end)
  start("traffic", { "spec/soak/traffic.lua", OTHER_CARD, MAC:format(1), counts_of "traffic" })
end

-- The first few errors that a member printed.
local function complaints(name)
  local n = 0
  for line in members[name]:text():gmatch "[^\n]*WRONG[^\n]*" do
    n = n + 1
    if n <= 5 then log:fail(("%s: %s"):format(name, line)) end
  end
end

-- All members end on request, and leave nothing behind.
local function finish()
  for _, name in ipairs { "traffic", "share", "serial", "one", "two" } do
    local p = members[name]
    if not p.exit then p:kill "sigterm" end
    local ended = wait.poll(PATIENCE, function() return p.exit end)
    if not ended then log:fail(name .. " did not end") elseif p.exit ~= 0 then
      log:fail(("%s ended with %d: %s"):format(name, p.exit, p:text():sub(-400)))
    end
    complaints(name)
    files.save(("/run/out/%s.log"):format(name), p:text())
    p:close()
  end
  local free = usage.machine().hugepages
  if free ~= hugepages then log:fail(("%d hugepages are free, of %d before"):format(free, hugepages)) end
end

luio.run(function()
  begin()
  local tasks = { again(save), again(plug), again(kill, "one"), again(kill, "two") }
  for n = 1, #KINDS do table.insert(tasks, again(client, n)) end
  local next_sample = MINUTE
  while not over do
    luio.sleep(0.5)
    local now = luio.now() - began
    over = now >= SECONDS or told_to_stop()
    if now >= next_sample or over then
      sample()
      next_sample = next_sample + MINUTE
    end
  end
  for _, task in ipairs(tasks) do
    local ok, message = task:join(2 * PATIENCE)
    if not ok then log:fail(message) end
  end
  finish()
end)
qmp.close()
files.clean()
print(("\n%s\n"):format(log:table()))
for _, text in ipairs(log.failures) do print("FAILED: " .. text) end
if tally.late > 0 then print(("%d clients came too late to be let in"):format(tally.late)) end
print(("soak: %.0f s, %s"):format(luio.now() - began, #log.failures == 0 and "nothing failed, nothing grew" or #log.failures .. " failures"))
os.exit(#log.failures == 0 and 0 or 1, true)
