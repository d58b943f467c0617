local storm = {
  name = "storm", match = { pci = "1234:4712" }, registers = require "drivers.storm.registers",
  irq = { capture = "SEQUENCE", ack = "ACK", capacity = 65536 }, -- seconds of them: Lua may be kept from its processor
}

local luio = require "luio"

function storm.start(dev)
  dev.state.seen = dev.state.seen or 0
  luio.spawn(function()
    while true do
      local event = dev.irqs[0]:wait(60)
      if event then
        if event.SEQUENCE ~= dev.state.seen + 1 then
          dev.state.wrong = ("%d after %d"):format(event.SEQUENCE, dev.state.seen)
        end
        dev.state.seen = event.SEQUENCE
      end
    end
  end)
  return true
end

function storm.answer() return 1 end

return storm
