--- `luio bind`, `luio unbind`: a PCI device to a UIO driver, and back.

local common = require "luio.tool.cli.common"
local binding = require "luio.host.binding"
local output = require "luio.tool.output"
local term = require "luio.text.term"

local function notes(result)
  for _, note in ipairs(result.notes) do term.tell(("luio: %s: %s"):format(result.address, note)) end
end

-- One document, with the notes in it.
local function json(result)
  output.json {
    address = result.address, driver = result.driver, uio = result.uio, unchanged = result.unchanged, steps = result.steps,
    notes = output.list(result.notes),
  }
  return 0
end

local function bind(args)
  if not args.driver:match "^[%w_%-]+$" then return nil, ("%q is not the name of a driver"):format(args.driver), "USAGE" end
  local result, message, code = binding.bind(args.address, { driver = args.driver, force = args.force, dry_run = args.dry_run })
  if not result then return nil, message, code end
  if args.json then return json(result) end
  if args.dry_run and not result.unchanged then
    term.print_all(result.steps)
  else
    term.print(("%s: %s%s%s"):format(result.address, result.driver, result.uio and ", as " .. result.uio or "",
      result.unchanged and " (it was so already)" or ""))
  end
  notes(result)
  return 0
end

local function unbind(args)
  local result, message, code = binding.unbind(args.address, { force = args.force })
  if not result then return nil, message, code end
  if args.json then return json(result) end
  term.print(("%s: %s"):format(result.address, result.driver or "no driver"))
  notes(result)
  return 0
end

return {
  bind = {
    options = function(p)
      p:argument("address", "A PCI address: 0000:00:04.0."):argname("ADDRESS"):convert(common.address)
      p:option("--driver", "The UIO driver."):default "uio_pci_generic"
      p:flag("--force", "Bind a device that the system uses.")
      p:flag("--dry-run", "Change nothing; print the commands.")
      p:flag("--json", "Print JSON.")
      p:epilog "Example: luio bind 0000:00:04.0"
    end,
    run = bind,
  },
  unbind = {
    options = function(p)
      p:argument("address", "A PCI address, or uio0."):argname("ADDRESS"):convert(common.address)
      p:flag("--force", "Unbind a device that a process drives.")
      p:flag("--json", "Print JSON.")
      p:epilog "Example: luio unbind 0000:00:04.0"
    end,
    run = unbind,
  },
}
