--- The documents (*.md): their code blocks, and which spec runs each of them.
---
--- A block of commands begins with "$ " (a transcript, with the output) or has the language `sh`. A block of Lua is a file of
--- the document's folder (the paragraph before it names it, `drivers/mine/init.lua`), a whole program, or a fragment.
--- spec/docs/documents_spec.lua runs all of these in order, and fails for a block of commands that no spec runs. Blocks that need a
--- terminal, a process beside them, or a device belong to the specs in M.ELSEWHERE.

local files = require "spec.support.files"
local uv = require "luv"

local M = {}

---@class Block
---@field path string      the document
---@field line integer     where it begins
---@field language string
---@field text string
---@field before string    the paragraph before it

--- Blocks that are not run in a folder of their own by spec/docs/documents_spec.lua: how they begin, and the spec that runs them.
M.ELSEWHERE = {
  { "^%$ luio %w+ qemu:", "spec/qemu/documents_spec.lua" },
  { "^%$ luio hub%.lua", "spec/qemu/documents_spec.lua" },
  { "^%$ head %-c 65536 ", "spec/qemu/documents_spec.lua" },
  { "^%$ luio explore %S+\n", "spec/tool/explore/transcript_spec.lua" },
  { "^%$ luio run", "spec/docs/reload_spec.lua" },
  { "^%$ luio examples/capture", "spec/guest/net/readme_spec.lua" },
  { "^%$ luio examples/serial", "spec/docs/serial_spec.lua" },
  { "^%$ luio examples/demo%.lua qemu:", "spec/qemu/documents_spec.lua" },
  { "^%$ grep [^\n]* /proc/iomem\n", "spec/guest/devmem_spec.lua" },
  { "^%$ spec/guest/run [^\n]*%-%- ", "spec/guest/documents_spec.lua" },
  { "^luio bind", "spec/guest/documents_spec.lua" },
  { "^printf [^\n]*/etc/luio/", "spec/guest/service_spec.lua" },
  { "^spec/guest/", "spec/guest/machine/documents_spec.lua" },
  { "^make demo", "spec/guest/machine/documents_spec.lua" },
  { "^make modules\n", "spec/guest/machine/documents_spec.lua" },
}

--- Documents whose blocks are run in order, in one folder, by a spec of their own; but those that need a guest.
M.WHOLE = { ["drivers/TUTORIAL.md"] = "spec/qemu/tutorial_spec.lua" }

--- Blocks that no spec runs: how they begin, and why.
M.NOT_RUN = {
  { "^make check ", "they run the specs, this one too" },
  { "^make %-C /lib/modules/", "they load a module into the kernel of the machine" },
}

--- Every document of the source tree.
---@return string[]
function M.list()
  local list = {}
  local function walk(folder)
    for name, kind in uv.fs_scandir_next, assert(uv.fs_scandir(folder == "" and "." or folder)) do
      local path = folder == "" and name or folder .. "/" .. name
      if kind == "directory" then
        if name:sub(1, 1) ~= "." and path ~= "build" and path ~= "findings" then walk(path) end
      elseif name:match "%.md$" then
        list[#list + 1] = path
      end
    end
  end
  walk ""
  table.sort(list)
  return list
end

--- The code blocks of a document, in order.
---@param path string
---@return Block[]
function M.blocks(path)
  local list, block, before, n, ended = {}, nil, "", 0, false
  for line in (files.read(path) .. "\n"):gmatch "([^\n]*)\n" do
    n = n + 1
    local language = line:match "^```(.*)$"
    if block and language then
      list[#list + 1], block, before = block, nil, ""
    elseif block then
      block.text = block.text .. line .. "\n"
    elseif language then
      block = { path = path, line = n, language = language, text = "", before = before }
    elseif line == "" then
      ended = true
    else
      before, ended = (ended and "" or before) .. line .. " ", false
    end
  end
  assert(not block, path .. ": a block without an end")
  return list
end

--- The file that a block of Lua is, if the paragraph before it names one.
---@param block Block
---@return string?
function M.file(block)
  return block.language == "lua" and block.before:match "`([%w_/.-]+%.lua)`" or nil
end

--- Whether a block is a command's.
---@param block Block
---@return boolean
function M.is_command(block)
  return block.language == "sh" or block.text:sub(1, 2) == "$ "
end

--- The spec that runs a block which spec/docs/documents_spec.lua does not.
---@param block Block
---@return string?
function M.elsewhere(block)
  if not M.is_command(block) then return nil end
  local whole = M.WHOLE[block.path]
  for _, row in ipairs(M.ELSEWHERE) do
    if block.text:find(row[1]) and not (whole and not row[2]:find "^spec/guest/") then return row[2] end
  end
  return whole
end

--- Why no spec runs a block.
---@param block Block
---@return string?
function M.not_run(block)
  for _, row in ipairs(M.NOT_RUN) do
    if M.is_command(block) and block.text:find(row[1]) then return row[2] end
  end
end

--- Writes the files of a document that its blocks of Lua are.
---@param path string  the document
---@param dir string   where to
function M.write(path, dir)
  for _, block in ipairs(M.blocks(path)) do
    local name = M.file(block)
    if name then files.put(dir .. "/" .. name, block.text) end
  end
end

--- The blocks that a spec of M.ELSEWHERE runs.
---@param spec string
---@return Block[]
function M.of(spec)
  local list = {}
  for _, path in ipairs(M.list()) do
    for _, block in ipairs(M.blocks(path)) do
      if M.elsewhere(block) == spec then list[#list + 1] = block end
    end
  end
  assert(list[1], "no document has a block for " .. spec)
  return list
end

--- The commands of a transcript, each with what stands below it.
---@param block Block
---@return { command: string, expected: string }[]
function M.steps(block)
  local steps = {}
  for line in block.text:gmatch "([^\n]*)\n" do
    local command = line:match "^%$ (.*)$"
    if command then steps[#steps + 1] = { command = command, expected = "" }
    else steps[#steps].expected = steps[#steps].expected .. line .. "\n" end
  end
  return steps
end

--- Runs a command as a reader does who has luio in his PATH and has typed `eval "$(luio env)"`.
---@param dir string
---@param command string
---@return string output
---@return integer status
function M.run(dir, command)
  return files.shell(("cd '%s' && export PATH='%s/build':\"$PATH\" && eval \"$(luio env)\" && { timeout 100 %s; }"):format(dir, uv.cwd(), command))
end

--- A text without what differs from run to run: times and process numbers.
---@param text string
---@return string
function M.masked(text)
  return (text:gsub("[%d.]+ ms", "N ms"):gsub("[%d.]+ µs", "N µs"):gsub("[%d.]+ seconds", "N seconds"):gsub("worker %d+", "worker N")
    :gsub("kill %-9 %d+", "kill -9 N"):gsub("events waited %d+", "events waited N"):gsub("%d+ interrupts/s", "N interrupts/s"))
end

--- Whether a program printed what a document shows. A line "..." stands for any lines.
---@param expected string
---@param printed string
---@return boolean
function M.agrees(expected, printed)
  local function plain(text) return (text:gsub("%p", "%%%0")) end
  local pattern = "\n" .. plain(M.masked(expected))
  pattern = pattern:gsub("\n%%%.%%%.%%%.\n", "\n.-\n"):gsub("\n%%%.%%%.%%%.\n", "\n.-\n")
  return ("\n" .. M.masked(printed)):find("^" .. pattern .. "$") ~= nil
end

--- Whether luio.x.y is a function or a value of luio's: `luio.batch`, `luio.net.serve`.
---@param name string
---@return boolean
function M.is_name(name)
  local module, key = name:match "^(.*)%.([^.]*)$"
  local ok, value = pcall(require, module)
  return ok and type(value) == "table" and value[key] ~= nil
end

return M
