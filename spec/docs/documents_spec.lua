--- The documents are true: their commands are run in order, in a folder of their own, and print what stands there; their Lua is
--- loaded, and run where it is a program; their links and the names of files in them lead somewhere.

local documents = require "spec.support.documents"
local files = require "spec.support.files"
local uv = require "luv"

local function at(block) return ("%s:%d"):format(block.path, block.line) end

local function run_transcript(dir, block)
  for _, step in ipairs(documents.steps(block)) do
    local printed = documents.run(dir, (step.command:gsub("^make demo$", "luio examples/demo.lua")))
    if not documents.agrees(step.expected, printed) then
      assert.equal(documents.masked(step.expected), documents.masked(printed), at(block) .. ": " .. step.command)
    end
  end
end

local function run_lua(dir, block)
  local name = documents.file(block)
  local chunk, message = loadstring(block.text, "=" .. at(block))
  assert(chunk, message)
  if name then
    files.put(dir .. "/" .. name, block.text)
  elseif block.text:match '^local %w+ = require "luio' and not block.text:match "\nreturn " then
    files.save(dir .. "/program.lua", block.text)
    local printed, status = documents.run(dir, "luio program.lua")
    assert.equal(0, status, at(block) .. ": " .. printed)
  end
end

-- Of names with a folder that are taken for files.
local SUFFIXES = { lua = true, c = true, h = true, md = true, mk = true, rules = true }

describe("the documents", function()
  teardown(files.clean)

  for _, path in ipairs(documents.list()) do
    it(path .. " has blocks that are true", function()
      local _, dir = files.write("x", "")
      assert.equal(0, select(2, files.shell(("cp -r drivers examples '%s'"):format(dir))))
      for _, block in ipairs(documents.blocks(path)) do
        local elsewhere = documents.elsewhere(block)
        if elsewhere then
          assert.is_truthy(uv.fs_stat(elsewhere), at(block) .. " is said to be run by " .. elsewhere)
          assert.is_truthy(files.read(elsewhere):find "documents%.[oe][fl]", elsewhere .. " takes no block of the documents")
        elseif documents.not_run(block) then
          assert.is_string(documents.not_run(block))
        elseif block.language == "lua" then
          run_lua(dir, block)
        elseif documents.is_command(block) then
          assert(block.language == "text", at(block) .. ": no spec runs these commands (spec/support/documents.lua)")
          run_transcript(dir, block)
        else
          assert(block.language == "text", at(block) .. ": a block is lua, sh or text")
        end
      end
    end)

    it(path .. " has commands in blocks with a fence only, where they are found", function()
      local fenced, after_blank = false, true
      for line in files.read(path):gmatch "([^\n]*)\n" do
        if line:match "^```" then fenced = not fenced end
        assert(fenced or not (after_blank and line:match "^    %S"), path .. " has an indented block: " .. line)
        after_blank = line == ""
      end
    end)

    it(path .. " has links that lead to a file, and to a heading in it", function()
      local folder = path:match "^(.*/)" or ""
      local text = files.read(path):gsub("\n```.-\n```", "")
      for link in text:gmatch "%]%(([^)%s]+)%)" do
        if not link:match "^https?:" then
          local target, heading = link:match "^([^#]*)#?(.*)$"
          target = target == "" and path or folder .. target
          assert(uv.fs_stat(target), ("%s: the link %s leads nowhere"):format(path, link))
          if heading ~= "" then
            local found = false
            for title in ("\n" .. files.read(target)):gmatch "\n#+ ([^\n]*)" do
              found = found or title:lower():gsub("[^%w _-]", ""):gsub(" ", "-") == heading
            end
            assert(found, ("%s: %s has no heading for #%s"):format(path, target, heading))
          end
        end
      end
    end)

    it(path .. " names files and modules that are there", function()
      local folder = path:match "^(.*/)" or ""
      local text = files.read(path):gsub("\n```.-\n```", "")
      local made = {}
      for _, block in ipairs(documents.blocks(path)) do made[documents.file(block) or 0] = true end
      local function there(name) return made[name] or uv.fs_stat(name) or uv.fs_stat(folder .. name) end
      for word in text:gmatch "[%w_/.*{}-]+" do
        local name = word:gsub("%.$", "")
        if SUFFIXES[name:match "^[%w_]+/[%w_/.-]+%.(%a+)$" or ""] then
          assert(there(name), ("%s names %s, which is not there"):format(path, name))
        end
      end
      if path == "CHANGELOG.md" then return end -- it has former names, too
      for module in text:gmatch "`(luio%.[%l_.]+)`" do
        local as_path = "lua/" .. module:gsub("%.", "/")
        local is_module = uv.fs_stat(as_path .. ".lua") or uv.fs_stat(as_path .. "/init.lua")
        assert(is_module or documents.is_name(module), ("%s names %s, which is neither a module nor a name of one"):format(path, module))
      end
    end)
  end

  it("README.md and ARCHITECTURE.md stay short", function()
    assert.is_true(#files.read "README.md" <= 10240)
    assert.is_true(#files.read "ARCHITECTURE.md" <= 14336)
  end)
end)
