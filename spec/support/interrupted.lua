--- A program that is sent a signal once it says that it is ready: no guess at how long it takes.

local files = require "spec.support.files"

--- Starts a command, waits until it has printed `ready` (100 s at most), sends the signal, waits for its end.
---@param command string
---@param ready string   plain text
---@param signal string  "INT"
---@return string output  both streams
---@return integer status
return function(command, ready, signal)
  local path = files.write("output", "")
  local _, status = files.shell(([[
    timeout -s KILL 300 %s >'%s' 2>&1 & pid=$!
    i=0
    until grep -qF '%s' '%s' || [ $i -ge 2000 ]; do sleep 0.05; i=$((i + 1)); done
    grep -qF '%s' '%s' || { kill -KILL $pid; echo "it never said that it is ready" >>'%s'; exit 1; }
    kill -%s $pid
    wait $pid]]):format(command, path, ready, path, ready, path, path, signal))
  return files.read(path), status
end
