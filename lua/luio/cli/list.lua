--- `luio list`: every UIO device, and every PCI device that could become one. Opens nothing.

local luio = require "luio"
local output = require "luio.output"
local match = require "luio.match"

local function describe(info)
  local name = table.concat({ info.vendor_name or "", info.device_name or "" }, " "):match "^%s*(.-)%s*$"
  if name == "" then name = info.compatible[1] or info.bus ~= "pci" and info.uio_name or "" end
  return info.problem and ("%s [%s]"):format(name, info.problem) or name
end

local function run(args)
  local infos, message, code = luio.list()
  if not infos then return nil, message, code end
  for _, info in ipairs(infos) do info.luio_driver = match.driver_of(info) end
  if args.json then
    output.json(infos)
    return 0
  end
  local rows = { { "ADDRESS", "UIO", "ID", "KERNEL DRIVER", "LUIO DRIVER", "DEVICE" } }
  for _, info in ipairs(infos) do
    table.insert(rows, {
      info.address,
      info.uio or "-",
      info.vendor and ("%04x:%04x"):format(info.vendor, info.device) or "-",
      info.driver or "-",
      info.luio_driver or "-",
      describe(info),
    })
  end
  output.table(rows)
  return 0
end

return {
  list = {
    options = function(p)
      p:flag("--json", "As JSON.")
      p:epilog "Example: luio list"
    end,
    run = run,
  },
}
