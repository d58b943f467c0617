--- Ctrl-R: looks for an entry of the history while its parts are typed.
---
--- The newest entry that contains the typed text is shown; Ctrl-R again: an older one. Ctrl-G gives up,
--- any other key takes the entry and is then handled as usual. libedit's own search takes the typed
--- text for a regular expression, and compiles that for each entry: with a long history it takes
--- seconds.

local text = require "luio.tool.explore.text"

local M = {}

local CTRL_G, BACKSPACE, CTRL_R, DELETE = 7, 8, 18, 127

---@class luio.SearchScreen
---@field key fun(): integer?                  the next key; nil: none comes
---@field show fun(prompt: string, line: string)

--- Searches, until a key ends it.
---@param entries string[]  the newest last
---@param original string   the line's text
---@param screen luio.SearchScreen
---@return string line  the line's new text
---@return integer? key  still to be done; nil: it was Ctrl-G, or none came
function M.run(entries, original, screen)
  local word, at, found, fits = "", #entries + 1, original, true
  local function search(from)
    for i = from, 1, -1 do
      if entries[i]:find(word, 1, true) then
        at, found = i, entries[i]
        return true
      end
    end
    return word == ""
  end
  while true do
    screen.show(("%s '%s': "):format(fits and "search" or "not found:", word), found)
    local key = screen.key()
    if key == CTRL_R then
      fits = search(at - 1)
    elseif key == BACKSPACE or key == DELETE then
      word = word:gsub("[^\128-\191][\128-\191]*$", "")
      fits = search(#entries)
    elseif key == CTRL_G then
      return original
    elseif key and key >= 32 then
      word = word .. text.encode(key)
      fits = search(math.min(at, #entries))
    else
      return found, key
    end
  end
end

return M
