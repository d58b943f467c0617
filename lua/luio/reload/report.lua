--- The report of a reload (luio.reload.live): a table for programs, and the same as a line for people. Changes are listed as
--- functions and registers of the driver; if neither changed, as files. A file that differs only in comments and layout has the
--- same code.
---
---     version 2: sign +IRQ_ACK; kept 3 values of state; 0.214 ms without a driver (loading 1.702 ms); events waited 0, lost 0
---     reload refused in stage, version 1 goes on: edu.lua:12: '=' expected near 'end'
---     version 1: its files hold its code again

local M = {}

--- The result of a reload.
---@class luio.ReloadReport
---@field ok boolean
---@field step "stage"|"quiesce"|"migrate"|"swap"|"probation"  the last one
---@field version integer         that is at work now
---@field message string?         the error
---@field code string?            its errno name
---@field functions { added: string[], changed: string[], removed: string[] }?  changed: also in what they use
---@field registers { added: string[], changed: string[], removed: string[] }?  of the map's first level
---@field files string[]?         with other code, or removed
---@field later boolean?          it came at a bad time, and the files were not looked at
---@field again boolean?          nothing was exchanged: a save took back one that was refused or undone
---@field kept { state: integer, buffers: integer, interrupts: integer }?
---@field loading number?         seconds: the old version at work, but Lua busy
---@field pause number?           seconds without a driver
---@field waited integer?         events that waited for the new version
---@field lost integer?           events lost to a full ring meanwhile

local function listed(sign, names)
  local list = {}
  for i, name in ipairs(names) do list[i] = sign .. name end
  return list
end

--- A report as one line.
---@param report luio.ReloadReport
---@return string
function M.line(report)
  if not report.ok then
    local what = report.later and "put off" or report.step == "probation" and "undone" or "refused"
    return ("reload %s in %s, version %d goes on: %s"):format(what, report.step, report.version, report.message)
  end
  if report.again then return ("version %d: its files hold its code again"):format(report.version) end
  local parts = {}
  for _, differ in ipairs { report.functions, report.registers } do
    for _, list in ipairs { listed("", differ.changed), listed("+", differ.added), listed("-", differ.removed) } do
      for _, name in ipairs(list) do table.insert(parts, name) end
    end
  end
  if not parts[1] and report.files[1] then parts[1] = ("code of %s changed"):format(table.concat(report.files, ", ")) end
  local kept = {}
  for _, what in ipairs { { "state", "value of state", "values of state" }, { "buffers", "buffer", "buffers" } } do
    local n = report.kept[what[1]]
    if n > 0 then table.insert(kept, ("%d %s"):format(n, n == 1 and what[2] or what[3])) end
  end
  return ("version %d: %s; kept %s; %.3f ms without a driver (loading %.3f ms); events waited %d, lost %d"):format(
    report.version, parts[1] and table.concat(parts, " ") or "nothing changed",
    kept[1] and table.concat(kept, ", ") or "the device", report.pause * 1e3, report.loading * 1e3, report.waited, report.lost)
end

return M
