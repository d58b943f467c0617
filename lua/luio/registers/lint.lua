--- Suspects in a well-formed map: above all missing side effects.
---
--- Register descriptions rarely say what reading or writing does; names and descriptions often give
--- it away. These are guesses: each says what to check in the datasheet, and an overlay is the place
--- to put the answer; "no" is `read_effect = false` or `write_effect = false`.

local M = {}

-- A part of a name, between underscores or at a change from letters to digits: RX_FIFO, FIFO0.
local function has_word(name, words)
  for part in name:upper():gmatch "%a+" do
    if words[part] then return part end
  end
end

local function set(text)
  local s = {}
  for word in text:gmatch "%S+" do s[word] = true end
  return s
end

local FIFO = set "FIFO RXFIFO RXDATA RXD RBR RDR RHR RXDR RXBUF RBUF"
local STATUS = set "ISR INTSTAT INTSTATUS IRQSTATUS IFR RIS MIS ICSR INTFLAG IFLAG"
local FLAGS = set "STATUS STAT STS FLAG FLAGS"
local CLEAR = set "CLR CLEAR ICR IFC INTCLR IRQCLR"
local ACKNOWLEDGE = set "ACK CLR CLEAR ICR IFC INTCLR IRQCLR EOI"
local SET = set "SETR INTENSET IFS INTSET BSRR SET"

-- Names of registers whose write may set something off. The last word of the name counts, because
-- START_ADDRESS holds a value.
local TRIGGER = set "CMD COMMAND GO START TRIGGER TRIG DOORBELL DBELL KICK RESET RST SRST SWRST SWRESET SOFTRST FLUSH ABORT"
local WORDY = set "CMD COMMAND DOORBELL DBELL" -- more than a bit or two
local RESETS = set "RESET RST SRST SWRST SWRESET SOFTRST"
local MANY_RESETS = 4 -- in one register: a reset controller, whose bits hold the modules in reset

local function last_word(name)
  return name:upper():match "(%a+)[%d_]*$"
end

-- START beside END or STOP is where a range starts, or one of two that hold their value.
local function of_pair(name, siblings)
  local upper = name:upper()
  if not upper:find "START" then return false end
  for sibling in pairs(siblings) do
    local other = sibling:upper()
    if other ~= upper and (other == upper:gsub("START", "END") or other == upper:gsub("START", "STOP")) then return true end
  end
  return false
end

-- A field that says what writing it does; or that does it by its access, and is not written with the others.
local function says_effect(f)
  return f.write_effect or f.access ~= "rw"
end

local function text_of(def)
  return ((def.description or "") .. " "):lower()
end

-- Side effects that a description mentions.
local phrases = {
  { { "clear%w* on read", "clear%w* by read", "read%w* clear", "cleared when read", "read to clear", "reading this register clears" }, "rc",
    "reading seems to clear it: access = \"rc\" or read_effect" },
  { { "write 1 to clear", "writ%w+ 1 clear", "writ%w+ a 1 clear", "writ%w+ one clear", "w1c", "write one to clear", "cleared by writing 1",
      "cleared by writing a 1" }, "w1c", "writing 1 seems to clear it: access = \"w1c\"" },
  { { "pops? ", "next word from the fifo", "read%w* from the fifo" }, "effect", "reading seems to take data out: read_effect" },
  { { "self.?clear", "clears itself", "automatically cleared", "auto.?clear", "set by software.*cleared by hardware" }, "sc",
    "the hardware seems to clear it: access = \"sc\"" },
}

local function by_description(def, name, report)
  local text, no = text_of(def), def.answered
  for _, phrase in ipairs(phrases) do
    local of_reading = phrase[2] == "rc" or phrase[2] == "effect"
    local known = of_reading and no.read or not of_reading and no.write
      or phrase[2] == "rc" and def.read_effect or phrase[2] == "effect" and def.read_effect
      or phrase[2] == "w1c" and def.access == "w1c" or phrase[2] == "sc" and (def.access ~= "rw" or def.write_effect)
    if not known then
      for _, pattern in ipairs(phrase[1]) do
        if text:find(pattern) then
          report(name, phrase[3])
          break
        end
      end
    end
  end
end

local function any_field(def, access)
  for _, f in ipairs(def.fields) do
    if f.access == access then return true end
  end
  return def.access == access
end

-- Whether a field's name sounds like something that writing it sets off, and the map does not say so.
local function suspected(f, siblings)
  local word = last_word(f.name)
  return TRIGGER[word] and word ~= "TRIG" -- of a field that mostly says which edge or level triggers
    and f.bits <= (WORDY[word] and 8 or 2) and not says_effect(f) and not f.answered.write and not of_pair(f.name, siblings)
end

-- undo() and regs:restore() write values that can be read; they never read a register that can't be read.
local function check_writes(path, def, report, siblings)
  if not (def.readable and def.writable) or def.write_effect or def.answered.write then return end
  local answered, names, resets = false, {}, 0
  for _, f in ipairs(def.fields) do
    answered = answered or f.write_effect or f.access == "sc"
    if suspected(f, def.field) then
      table.insert(names, f.name)
      if RESETS[last_word(f.name)] then resets = resets + 1 end
    end
  end
  local word = last_word(def.name)
  if TRIGGER[word] and not answered and def.access == "rw" and not of_pair(def.name, siblings) then
    report(path, word .. ": does writing it set something off? then write_effect = \"what it does\", or a field with access = \"sc\"")
  elseif names[1] and not (resets == #names and resets >= MANY_RESETS) then
    table.sort(names)
    report(path .. "." .. names[1], table.concat(names, ", ")
      .. ": does writing it set something off? then access = \"sc\" if the hardware clears it, or write_effect")
  end
end

local function check_register(path, def, report, acknowledged, siblings)
  local word, no = has_word(def.name, FIFO), def.answered
  if word and def.readable and not def.read_effect and not no.read then
    report(path, ("%s: does reading it take data out? then read_effect = \"pops the FIFO\""):format(word))
  end
  local of_interrupts = def.name:upper():find "INT" or def.name:upper():find "IRQ"
  word = has_word(def.name, STATUS) or of_interrupts and has_word(def.name, FLAGS)
  if word and def.writable and not no.write and not any_field(def, "w1c") and not any_field(def, "w0c") then
    report(path, "an interrupt status that can be written: is it write-1-to-clear? then access = \"w1c\"")
  elseif word and def.readable and not def.writable and not no.read and not def.read_effect and not acknowledged then
    report(path, "an interrupt status that can't be written: does reading clear it? then access = \"rc\"")
  end
  word = not no.write and has_word(def.name, CLEAR)
  if word and def.access == "rw" then
    report(path, ("%s: a register that clears something is rarely rw: \"wo\" or \"w1c\"?"):format(word))
  end
  word = not no.write and has_word(def.name, SET)
  if word and def.access == "rw" then
    report(path, ("%s: a register that sets something is rarely rw: \"wo\" or \"w1s\"?"):format(word))
  end
  check_writes(path, def, report, siblings)
  by_description(def, path, report)
  for _, f in ipairs(def.fields) do
    local name = path .. "." .. f.name
    by_description(f, name, report)
    if f.name:upper():find "^RESERVED" or f.name:upper():find "^RSVD" or f.name:upper():find "^RES%d*$" then
      if f.access == "rw" then report(name, "a reserved field that is rw: \"preserve\", \"zero\" or \"one\"") end
    end
  end
end

---@class luio.LintFinding
---@field path string
---@field text string

--- Findings for every register, once per definition (not per element of an array).
---@param map luio.Map
---@return luio.LintFinding[]
function M.check(map)
  local findings = {}
  local function report(path, text) table.insert(findings, { path = path, text = text }) end
  local function walk(block, prefix)
    -- Where there is a register to acknowledge with, the status is not what clears.
    local acknowledged
    for name in pairs(block.child) do acknowledged = acknowledged or has_word(name, ACKNOWLEDGE) end
    for _, def in ipairs(block.children) do
      local path = prefix .. def.name
      if def.kind == "block" then walk(def, path .. ".") else check_register(path, def, report, acknowledged, block.child) end
    end
  end
  walk(map, "")
  return findings
end

return M
