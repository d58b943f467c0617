--- Runs one benchmark, `luio child.lua NAME`, and prints its rows as spec/bench/run reads them:
--- "row", name, unit, luio's samples, the peer's, aim, note, with tabs between.

local here = arg[0]:match "^(.*)/[^/]*$" or "."
package.path = ("%s/?.lua;%s"):format(here, package.path)

for _, row in ipairs(require(arg[1]).run(require "tools")) do
  io.write(table.concat({
    "row", row.name, row.unit, table.concat(row.luio, ","), table.concat(row.peer or {}, ","), row.aim or "", row.note or "",
  }, "\t"), "\n")
end
