--- Filters: the cost of one for each packet, and the time to compile one.
---
--- The packets are the specs' frames of every kind, whole ones, in an order that no branch predictor learns. The peer is
--- libpcap's own interpreter, called by FFI with the same program; to compile, pcap_compile alone. `loop` is the loop with a
--- filter that lets everything through. LuaJIT's code for a filter depends on the first packet, by a factor
--- of two. So each sample compiles anew and begins with another packet.

local ffi = require "ffi"
local amount = require("tools").amount

local N, WARM = amount(1000000), amount(200000)
local FRAMES, ORDER = 512, 65536
local ROUNDS = amount(25)
local COMPILED = amount(300)
local EXPRESSIONS = {
  { "loop", "" },
  { "tcp port 80" },
  { "host 10.0.0.1 and not arp" },
  { "vlan and udp" },
  { "ip6 and not tcp", "ip6 and not tcp" },
  { "tcp flags", "tcp[tcpflags] & (tcp-syn|tcp-fin) != 0" },
  { "udp port 53, not a net", "udp port 53 and not net 10.0.0.0/8" },
  { "10 ports", "port 1 or 2 or 3 or 4 or 5 or 6 or 7 or 8 or 9 or 10" },
}

local M = { name = "filter" }

-- A loop of its own for each sample, as a program has.
local LOOP = [[
  local match, at, length, order, from, n, mask = ...
  local hits = 0
  for i = from, from + n - 1 do
    local k = order[i % mask]
    if match(at[k], length[k]) then hits = hits + 1 end
  end
  return hits]]

function M.run(tools)
  local C = require("luio.ffi").C
  package.path = tools.root .. "/?.lua;" .. package.path
  local filter = require "luio.net.filter"
  local frames = require "spec.net.frames"
  local pcap = require "luio.net.filter.pcap"

  local whole, kept = {}, {}
  for _, frame in ipairs(frames.make(4 * FRAMES, 1)) do
    if #frame >= 60 and #whole < FRAMES then table.insert(whole, frame) end
  end
  local at, length, order = ffi.new("const uint8_t *[?]", #whole), ffi.new("int32_t[?]", #whole), ffi.new("int32_t[?]", ORDER)
  for i, frame in ipairs(whole) do
    kept[i] = ffi.new("uint8_t[?]", #frame)
    ffi.copy(kept[i], frame, #frame)
    at[i - 1], length[i - 1] = kept[i], #frame
  end
  local random = frames.generator(7)
  for i = 0, ORDER - 1 do order[i] = random(#whole) - 1 end

  local function timed(make)
    local sample = 0
    return function()
      sample = sample + 1
      jit.flush()
      local count, match, first = loadstring(LOOP), make(), sample * 977
      count(match, at, length, order, first, WARM, ORDER)
      local from = C.luio_now()
      count(match, at, length, order, first, N, ORDER)
      return tonumber(C.luio_now() - from) / N
    end
  end
  local function compiling(compile, text)
    return function()
      local from = C.luio_now()
      for _ = 1, COMPILED do compile(text, 10) end
      return tonumber(C.luio_now() - from) / 1000 / COMPILED
    end
  end

  local rows, compiled = {}, {}
  for _, one in ipairs(EXPRESSIONS) do
    local name, text = one[1], one[2] or one[1]
    local t = tools.take_turns(ROUNDS, {
      luio = timed(function() return assert(filter.compile(text)).match end),
      peer = timed(function() return pcap.interpreter(assert(pcap.compile(text, 10))) end),
    })
    table.insert(rows, {
      name = "filter: " .. name, unit = "ns", luio = t.luio, peer = t.peer, aim = "1.00",
      note = name == "loop" and "peer: libpcap's interpreter" or nil,
    })
    if name == "tcp port 80" or name == "10 ports" then
      local c = tools.take_turns(ROUNDS, { luio = compiling(filter.compile, text), peer = compiling(pcap.compile, text) })
      table.insert(compiled, { name = "filter, to compile: " .. name, unit = "us", luio = c.luio, peer = c.peer, note = "peer: pcap_compile alone" })
    end
  end
  for _, row in ipairs(compiled) do table.insert(rows, row) end
  return rows
end

return M
