--- Reads an SVD file into a tree of nodes.
---
--- expat streams, so nothing is held twice, and this file decides element by element what is kept. An
--- element with one value (<name>, <size>) becomes a key of its node. An element that repeats
--- (registers, fields, enumerated values) becomes a node in `kids`, in the file's order; the
--- containers between them (<registers>, <fields>) vanish. An element with no meaning here is skipped
--- with all that is in it, and noted.
---
--- The file is not trusted. SVD needs no DTD, so one is refused before its entities are read, which
--- leaves nothing to expand. Depth, elements, length of a text and of a single token, and the whole
--- size have limits; expat would otherwise buffer a tag that never ends, reading it from its start
--- again with every chunk.

local lxp = require "lxp"
local fail = require("luio.registers.import.fail").fail

local M = {}

--- Limits of a file. The largest public files have 15 MB and 200,000 elements that are kept.
M.limits = {
  bytes = 64 * 2 ^ 20,
  nodes = 10 ^ 6,
  depth = 40,
  text = 128 * 1024, -- of one element: a licence is a long one
  name = 1024, -- of a text that is not prose
  token = 2 ^ 20, -- a tag with its attributes, a comment
}

local CHUNK = 64 * 1024

local function set(words)
  local t = {}
  for word in words:gmatch "%S+" do t[word] = true end
  return t
end

local inherited = "size access protection resetValue resetMask "
local dim = "dim dimIncrement dimIndex dimName "

-- element -> what states a value in it
local leaves = {
  device = set(inherited .. [[vendor vendorID name series version description licenseText headerSystemFilename
    headerDefinitionsPrefix addressUnitBits width]]),
  cpu = set "name endian",
  peripheral = set(inherited .. dim .. [[name version description alternatePeripheral groupName prependToName
    appendToName headerStructName disableCondition baseAddress]]),
  addressBlock = set "offset size usage protection",
  interrupt = set "name description value",
  cluster = set(inherited .. dim .. "name description alternateCluster headerStructName addressOffset"),
  register = set(inherited .. dim .. [[name displayName description alternateGroup alternateRegister addressOffset
    dataType modifiedWriteValues readAction]]),
  field = set(dim .. [[name description lsb msb bitOffset bitWidth bitRange access modifiedWriteValues readAction
    resetValue]]),
  enumeratedValues = set "name headerEnumName usage",
  enumeratedValue = set "name description value isDefault",
  writeConstraint = set "writeAsRead useEnumeratedValues",
  range = set "minimum maximum",
  dimArrayIndex = set "headerEnumName",
}

-- element -> the nodes in it
local nodes = {
  device = set "cpu peripheral",
  peripheral = set "addressBlock interrupt dimArrayIndex register cluster",
  cluster = set "register cluster dimArrayIndex",
  register = set "field writeConstraint dimArrayIndex",
  field = set "enumeratedValues writeConstraint dimArrayIndex",
  enumeratedValues = set "enumeratedValue",
  dimArrayIndex = set "enumeratedValue",
  writeConstraint = set "range",
}

-- element -> the containers in it, which are read through
local containers = { device = set "peripherals", peripheral = set "registers", register = set "fields" }

-- Nothing of a register map is in these; they are skipped without the word "unknown".
local no_news = { vendorExtensions = true, sauRegionsConfig = true }

local prose = set "description licenseText dimIndex"

local NONE = {}
local SKIP = {} -- the node of everything inside a skipped element

-- Without a pattern that looks at a long run of spaces once per space.
local function trim(text)
  local first, last = text:find "%S", #text
  if not first then return "" end
  while text:find("^%s", last) do last = last - 1 end
  return text:sub(first, last)
end

---@class luio.SvdNode
---@field tag string
---@field line integer
---@field parent luio.SvdNode?
---@field from string?           derivedFrom
---@field kids luio.SvdNode[]?
---@field [string] string        values, trimmed; never empty

---@class luio.SvdReader
local Reader = {}
Reader.__index = Reader

---@private
function Reader:line() return (self.parser:pos()) end

-- expat is stopped first: it must not go on calling with a reader that gave up.
---@private
function Reader:stop(code, format, ...)
  if self.failure then return end
  self.failure = { code = code, line = self:line(), text = format:format(...) }
  self.parser:stop()
end

---@private
function Reader:open(tag, attributes)
  if self.failure then return end
  local depth, above = self.depth + 1, self.stack[self.depth]
  if depth > M.limits.depth then return self:stop("E2BIG", "elements nest more than %d deep", M.limits.depth) end
  local node = SKIP
  if not above then
    if tag ~= "device" then return self:stop("EINVAL", "the file is <%s>, not <device>: no SVD file", tag:sub(1, 60)) end
    node = self:node(tag, nil, attributes)
    self.root = node
  elseif above == SKIP then
    node = SKIP
  elseif self.leaf then
    self.notes:add("unsupported", "line " .. self:line(), "<%s> inside <%s> is skipped", tag:sub(1, 60), self.leaf)
  elseif (leaves[above.tag] or NONE)[tag] then
    node, self.leaf, self.size = above, tag, 0
    self.texts = {}
  elseif (containers[above.tag] or NONE)[tag] then
    node = above
  elseif (nodes[above.tag] or NONE)[tag] then
    node = self:node(tag, above, attributes)
  elseif not no_news[tag] and above.tag ~= "cpu" then
    self.notes:add("unsupported", "line " .. self:line(), "<%s> in <%s> is skipped", tag:sub(1, 60), above.tag)
  end
  self.depth = depth
  self.stack[depth] = node
end

---@private
function Reader:node(tag, above, attributes)
  self.count = self.count + 1
  if self.count > M.limits.nodes then self:stop("E2BIG", "more than %d elements", M.limits.nodes) end
  local node = { tag = tag, line = self:line(), parent = above }
  if above then
    above.kids = above.kids or {}
    table.insert(above.kids, node)
    for _, name in ipairs(attributes) do
      if name == "derivedFrom" then
        local from = trim(attributes[name])
        if #from > M.limits.name then self:stop("E2BIG", "derivedFrom has more than %d bytes", M.limits.name) end
        node.from = from ~= "" and from or nil
      else
        self.notes:add("unsupported", "line " .. node.line, "attribute %s of <%s> is skipped", name:sub(1, 60), tag)
      end
    end
  end
  return node
end

---@private
function Reader:close(tag)
  if self.failure then return end
  local node = self.stack[self.depth]
  self.depth = self.depth - 1
  if self.leaf and node ~= SKIP then
    local text = trim(table.concat(self.texts))
    self.leaf = nil
    if text == "" then return end
    if #text > M.limits.name and not prose[tag] then
      return self:stop("E2BIG", "<%s> has more than %d bytes", tag, M.limits.name)
    end
    if node[tag] and node[tag] ~= text then
      self.notes:add("contradiction", "line " .. self:line(), "<%s> is stated twice: the last one counts", tag)
    end
    node[tag] = text
  end
end

---@private
function Reader:text(text)
  if self.failure or self.stack[self.depth] == SKIP then return end
  if self.leaf then
    self.size = self.size + #text
    if self.size > M.limits.text then return self:stop("E2BIG", "<%s> has more than %d bytes", self.leaf, M.limits.text) end
    table.insert(self.texts, text)
  elseif text:find "%S" then
    self.notes:add("unsupported", "line " .. self:line(), "text outside of any element that has one is skipped")
  end
end

-- Side effects are what a map is most lacking, and some vendors have them in comments only: within a register or field. The
-- text around those is a template of the format.
---@private
function Reader:comment(text)
  local within = self.stack[self.depth]
  if type(within) ~= "table" or not (within.tag == "register" or within.tag == "field") then return end
  for _, word in ipairs { "readAction", "modifiedWriteValues" } do
    if text:find(word, 1, true) then
      self.notes:add("access", "line " .. self:line(), "a comment speaks of %s here: not applied, see for yourself", word)
    end
  end
end

---@private
function Reader:feed(text)
  for i = 1, #text, CHUNK do
    local piece = text:sub(i, i + CHUNK - 1)
    self.fed = self.fed + #piece
    if self.fed > M.limits.bytes then fail("E2BIG", nil, "the file has more than %d MiB", M.limits.bytes / 2 ^ 20) end
    local ok, message = self.parser:parse(piece)
    if not ok then self:malformed(message) end
    local _, _, at = self.parser:pos()
    if self.fed - at > M.limits.token then
      fail("E2BIG", self:line(), "a tag or comment of more than %d bytes", M.limits.token)
    end
  end
end

---@private
function Reader:malformed(message)
  local stop = self.failure
  if stop then fail(stop.code, stop.line, "%s", stop.text) end
  fail("EINVAL", self:line(), "not well-formed XML: %s", message)
end

-- The encoding is in the first line. expat knows four; a one-byte one is read as ISO-8859-1, which
-- has its ASCII: only descriptions can suffer.
---@private
function Reader:encoding(text)
  local name = text:sub(1, 200):match "^%s*<%?xml[^>]-encoding%s*=%s*[\"']([^\"']+)[\"']"
  if not name or ({ ["utf-8"] = 1, ["utf-16"] = 1, ["iso-8859-1"] = 1, ["us-ascii"] = 1 })[name:lower()] then return end
  self.notes:add("unsupported", "line 1", "encoding %s is read as ISO-8859-1", name:sub(1, 60))
  self.parser:setencoding "iso-8859-1"
end

--- Reads a whole file.
---@param read fun(): string?  next piece of it, nil at its end
---@param notes luio.SvdNotes
---@return luio.SvdNode device
function M.read(read, notes)
  local self = setmetatable({ notes = notes, depth = 0, stack = {}, count = 0, fed = 0 }, Reader)
  self.parser = lxp.new({
    StartElement = function(_, tag, attributes) self:open(tag, attributes) end,
    EndElement = function(_, tag) self:close(tag) end,
    CharacterData = function(_, text) self:text(text) end,
    Comment = function(_, text) self:comment(text) end,
    StartDoctypeDecl = function() self:stop("EINVAL", "a DTD (<!DOCTYPE) is refused: SVD has none") end,
  }, nil, false)
  local first = true
  while true do
    local piece = read()
    if not piece then break end
    if first and piece ~= "" then
      self:encoding(piece)
      first = false
    end
    self:feed(piece)
  end
  local ok, message = self.parser:parse()
  if not ok then self:malformed(message .. ", where the file ends") end
  self.parser:close()
  return self.root
end

return M
