package.path = package.path .. ";./?.lua" -- started from the checkout
local counts = require "spec.soak.counts"
local luio = require "luio"
local edu = assert(luio.load "drivers/edu")
local VERSION, COUNTS = 1, ""

--- A member of the long run: transfers there and back, and interrupts, as fast as they come. The conductor writes COUNTS and
--- VERSION, kills the process, saves the file, and pulls the device out.
local d = {
  name = "soak", registers = edu.registers, irq = edu.irq, dma = edu.dma, quiesce = edu.quiesce, durable = { "starts" }, VERSION = VERSION,
}

-- One round: true, or a text of the fault; nil, message, code: it was cut off.
local function round(dev, buffer, text)
  local ok, message, code
  buffer:write(0, text)
  ok, message, code = edu.to_device(dev, buffer, #text)
  if not ok then return nil, message, code end
  buffer:fill(0)
  ok, message, code = edu.from_device(dev, buffer, #text)
  if not ok then return nil, message, code end
  ok, message, code = edu.factorial(dev, 5)
  if not ok then return nil, message, code end
  -- The device is on its way out: QEMU reads 0 where nothing is, and hardware all ones, which luio knows.
  if ok == 0 then return nil, "nothing answers", "ENODEV" end
  local back = buffer:read(0, #text)
  return ok == 120 and back == text, ("5! is %d, %q came back for %q"):format(ok, back, text)
end

-- The state that distinguishes a lost interrupt from a late one: its cause, its mask, the counts.
local function seen(dev)
  local command, stats = dev.config and dev.config:command(), dev.irqs[0]:stats()
  return ("; IRQ_STATUS 0x%x, INTx %s, %d interrupts, %d delivered"):format(dev.regs.IRQ_STATUS:read(),
    command and command.intx_disable and "masked" or "let through", stats.interrupts, stats.delivered)
end

local function work(dev, c)
  while true do
    local right, message, code = round(dev, dev.state.buffer, ("%d %014d"):format(VERSION, c.rounds))
    if right then
      c.rounds = c.rounds + 1
    elseif code == "ENODEV" then
      return -- `start` comes again with the device
    else
      c.wrong = c.wrong + 1
      print(("WRONG: %s (start %d, round %d)%s"):format(message, c.starts, c.rounds, code == "ETIMEDOUT" and seen(dev) or ""))
      io.stdout:flush()
    end
    c:save()
    luio.sleep(0.01)
  end
end

-- Transfers that the previous version or process began end first, and their interrupts are dropped.
local function wait_until_idle(dev)
  local ok, message, code = dev.regs.DMA_CMD:wait({ RUN = 0 }, 2)
  if ok then ok, message, code = dev.regs.STATUS:wait({ COMPUTING = 0 }, 2) end
  if not ok then return nil, message, code end
  dev.regs.IRQ_ACK:write(dev.regs.IRQ_STATUS:read()) -- what comes later has no cause
  while dev.irqs[0]:wait(0.05) do end
  return true
end

function d.start(dev)
  local idle, message, code = wait_until_idle(dev)
  if not idle then return nil, message, code end
  dev.state.starts = (dev.state.starts or 0) + 1
  local c = counts.new(COUNTS, { "rounds", "wrong", "starts", "version" })
  c.starts, c.version = c.starts + 1, VERSION
  c:save()
  dev.state.buffer = dev.state.buffer or assert(dev.dma:alloc(4096, { name = "data" }))
  luio.spawn(work, dev, c)
  return true
end

return d
