--- The words of memif, the packet interface over shared memory of VPP (libmemif and DPDK's net_memif speak it, too): version 2.0,
--- as VPP's src/plugins/memif/memif.h describes it. Facts only; the code is luio's own.
---
--- Two processes, a *server* ("master") that listens on a unix socket of packets (SOCK_SEQPACKET), and a *client* ("slave").
--- All memory is the client's. A message is 128 bytes; descriptors go along by SCM_RIGHTS.
---
---     server                                   client
---       HELLO        versions, limits    --->
---                                        <---  INIT        version, interface id, mode, secret, name
---       ACK                              --->
---                                        <---  ADD_REGION  number, size; a memfd          (each is acknowledged)
---                                        <---  ADD_RING    direction, region, offset, log2 of its size; an eventfd
---                                        <---  CONNECT     name of the interface
---       CONNECTED                        --->
---       DISCONNECT   code, reason       <--->  at any time
---
--- A ring is 128 bytes and its descriptors. There are two a queue pair, both with buffers of the client's:
---
---     to the server ("S2M")   the client fills buffers and moves the head behind them; the server moves the tail
---     to the client ("M2S")   the client puts empty buffers before the head; the server fills them and moves the tail
---
--- so the head is always the client's to write, and the tail the server's; both run freely through 16 bits. The side
--- that takes frames out of a ring sets a flag in it (MASK_INT) when it does not want to be woken by the ring's
--- eventfd.

local ffi = require "ffi"

local M = {}

M.COOKIE = 0x3e31f20
M.VERSION = 0x0200
M.ETHERNET = 0 -- mode
M.S2M = 1 -- flag of ADD_RING: to the server
M.MASK_INT = 1 -- flag of a ring: do not wake me
M.NEXT = 1 -- flag of a descriptor: the frame goes on in the next one
M.MESSAGE, M.DESCRIPTOR = 128, 16 -- bytes
M.MOST_LOG2 = 14 -- of a ring's size: indices have 16 bits

M.NAMES = { [0] = "NONE", "ACK", "HELLO", "INIT", "ADD_REGION", "ADD_RING", "CONNECT", "CONNECTED", "DISCONNECT" }
for number = 0, #M.NAMES do M[M.NAMES[number]] = number end

--- Bytes of a ring, from its beginning.
M.FLAGS_AT, M.HEAD_AT, M.TAIL_AT, M.DESCRIPTORS_AT = 4, 6, 64, 128

--- A descriptor. Length and offset are unsigned on the wire; signed: a value larger than any region becomes negative, and is
--- refused for that.
M.descriptor_t = ffi.typeof "struct { uint16_t flags, region; int32_t length, offset, metadata; }"

M.message_t = ffi.typeof [[struct __attribute__((packed)) {
  uint16_t type;
  union {
    struct __attribute__((packed)) {
      uint8_t name[32];
      uint16_t min_version, max_version, max_region, max_m2s_ring, max_s2m_ring;
      uint8_t max_log2_ring_size;
    } hello;
    struct __attribute__((packed)) { uint16_t version; uint32_t id; uint8_t mode; uint8_t secret[24]; uint8_t name[32]; } init;
    struct __attribute__((packed)) { uint16_t index; uint64_t size; } add_region;
    struct __attribute__((packed)) {
      uint16_t flags, index, region; uint32_t offset; uint8_t log2_ring_size; uint16_t private_hdr_size;
    } add_ring;
    struct __attribute__((packed)) { uint8_t name[32]; } connect;
    struct __attribute__((packed)) { uint32_t code; uint8_t text[96]; } disconnect;
    uint8_t bytes[126];
  };
}]]
assert(ffi.sizeof(M.message_t) == M.MESSAGE)

--- A text in a field of fixed size, up to its first 0; control characters become "?", because the text is
--- shown.
---@param field ffi.cdata*
---@return string
function M.text(field)
  return (ffi.string(field, ffi.sizeof(field)):match "^[^%z]*":gsub("[^\32-\126]", "?"))
end

--- Puts a text into a field, cut so that a 0 follows.
---@param field ffi.cdata*
---@param text string
function M.put(field, text)
  local n = math.min(#text, ffi.sizeof(field) - 1)
  ffi.fill(field, ffi.sizeof(field))
  ffi.copy(field, text, n)
end

--- An empty message.
---@param type integer
---@return ffi.cdata*
function M.message(type)
  local message = M.message_t()
  message.type = type
  return message
end

--- Its name, for messages to people.
---@param type integer
---@return string
function M.name(type)
  return M.NAMES[type] or ("message %d"):format(type)
end

return M
