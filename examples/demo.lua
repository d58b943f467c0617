#!/usr/bin/env luio
--- The tour: find a device, look at its registers, take its interrupt, move data by DMA, and change the
--- driver while it runs (a copy of it, in a folder of its own).
---
---     luio examples/demo.lua              on sim:edu, a simulated device
---     luio examples/demo.lua qemu:edu     on QEMU's, without a guest
---     luio examples/demo.lua uio0         on a real one
---
--- `make demo` runs the first two, `make demo-uio` the third in a guest. It drives a device by drivers/edu.

local luio = require "luio"
local paths = require "luio.driver.paths"
local reload_report = require "luio.reload.report"
local term = require "luio.text.term"
local uv = require "luv"

local address = arg[1] or "sim:edu"

local function step(title) term.print_all("\n" .. term.bold(title)) end
local function show(name, format, ...) term.print_all(("  %-14s %s"):format(name, format:format(...))) end
local function us(seconds) return ("%.0f µs"):format(seconds * 1e6) end

local function read(path)
  local f = assert(io.open(path))
  local text = f:read "*a"
  f:close()
  return text
end

local function write(path, text)
  local f = assert(io.open(path, "w"))
  f:write(text)
  f:close()
end

-- A copy of drivers/edu that may be changed.
local root
local function copy_driver()
  local from = assert(paths.find("edu", "init")):match "^(.*)/"
  root = assert(uv.fs_mkdtemp((os.getenv "TMPDIR" or "/tmp") .. "/luio-demo-XXXXXX"))
  local to = root .. "/drivers/edu"
  assert(uv.fs_mkdir(root .. "/drivers", 493) and uv.fs_mkdir(to, 493)) -- 0755
  for _, name in ipairs { "init.lua", "registers.lua" } do write(to .. "/" .. name, read(from .. "/" .. name)) end
  return to .. "/init.lua"
end

local ok, err = pcall(function()
  term.print_all(term.cyan(("luio %s: a Linux device driver in Lua, on %s"):format(luio.version, address)))

  step "Find it"
  local file = copy_driver()
  local dev = assert(luio.start(file, address))
  dev.on_warning = function() end -- shown at the end
  local edu, info, region = dev.driver, dev.info, dev.regions[0]
  show("device", "%s, %04x:%04x", dev.address, info.vendor, info.device)
  show("by", "%s", info.uio and ("/dev/%s (%s)"):format(info.uio, info.uio_name)
    or dev.qemu and "QEMU's model in C, without a guest: " .. dev.qemu.name or "a model in Lua: drivers/edu/model.lua")
  show("driver", "drivers/edu, loaded and started")
  show("region 0", "0x%x bytes at 0x%x, %s", region.size, region.addr, region.name)

  step "Look at its registers"
  for line in tostring(dev.regs):gmatch "[^\n]+" do term.print_all("  " .. line) end
  show("alive", "%s", edu.alive(dev) and "LIVENESS gives the complement of the written value" or "no: LIVENESS is wrong")

  step "Take its interrupt"
  local before = luio.now()
  local result, event, code = edu.factorial(dev, 10)
  local after = luio.now()
  if not result then error(("%s (%s)"):format(event, code), 0) end
  show("10!", "%d, by interrupt (IRQ_STATUS was 0x%x)", result, event.IRQ_STATUS)
  show("latency", "%s from the register write to the interrupt thread, %s more to Lua",
    us(event.time - before), us(after - event.time))

  step "Move data by DMA"
  local n = edu.MAX_TRANSFER
  local buffer, message = dev.dma:alloc(4096)
  if not buffer then error(message, 0) end
  local bytes = {}
  for i = 1, n do bytes[i] = string.char((i * 167 + 13) % 256) end
  bytes = table.concat(bytes)
  show("buffer", "4096 bytes at IOVA 0x%x, in a page of %d KiB", buffer.iova, buffer.page_size / 1024)
  buffer:write(0, bytes)
  assert(edu.to_device(dev, buffer, n))
  buffer:fill(0)
  assert(edu.from_device(dev, buffer, n))
  local back, wrong = buffer:read(0, n), 0
  for i = 1, n do
    if back:byte(i) ~= bytes:byte(i) then wrong = wrong + 1 end
  end
  show("round trip", "%d bytes there and back, %d differ", n, wrong)

  step "Change it while it runs"
  local good = read(file)
  write(file, good:gsub("return edu%s*$", "function edu.twice(dev, n) return 2 * (edu.factorial(dev, n)) end\n\nreturn edu\n"))
  local report = assert(dev:reload())
  show("saved", "%s", reload_report.line(report))
  show("new", "twice 5! is %d", edu.twice(dev, 5))
  write(file, (good:gsub("return edu%s*$", "return = edu\n")))
  local refused, why = dev:reload()
  show("saved", "%s", (why:gsub(root:gsub("%p", "%%%0") .. "/", "")))
  show("still", "5! is %d, by version %d", (edu.factorial(dev, 5)), dev.live.version.id)

  step "Account"
  local stats = dev.irqs[0]:stats()
  show("interrupts", "%d, delivered %d, lost %d", stats.interrupts, stats.delivered, stats.overflow)
  for _, warning in ipairs(dev.warnings) do show("note", "%s", term.dim(warning)) end
  assert(dev:close())
  if result ~= 3628800 then error("10! is 3628800: look at edu.factorial in drivers/edu/init.lua", 0) end
  if wrong > 0 then error("the data came back changed: does edu.dma say that it does DMA?", 0) end
  if refused then error("a file with a syntax error was taken", 0) end
  if stats.overflow > 0 then error("interrupts were lost: does edu.irq acknowledge them?", 0) end
end)

if root then
  for _, name in ipairs { "/drivers/edu/init.lua", "/drivers/edu/registers.lua" } do uv.fs_unlink(root .. name) end
  for _, name in ipairs { "/drivers/edu", "/drivers", "" } do uv.fs_rmdir(root .. name) end
end

if not ok then
  term.print_all(term.red("\nThe demo failed: " .. tostring(err)))
  return 1
end

term.print_all(term.green "\nAll as it should be." .. " Next: " .. (address:match "^sim:"
  and "the same driver on QEMU's edu, `luio examples/demo.lua qemu:edu`; or change drivers/edu/init.lua and run this again."
  or address:match "^qemu:" and "`make demo-uio`, the same driver on a real /dev/uio0, with Debian's kernel in a guest."
  or "read drivers/edu/init.lua, and write your own beside it."))
