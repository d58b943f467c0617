--- A false QEMU: a machine with an edu in slot 4, as far as luio's start and a few accesses need one, that answers wrongly where a
--- spec wants it to. It is a program of its own, with the sockets of runtime/qemu.h as descriptors 3 and 4.
---
---     local false_qemu = require "spec.support.false_qemu"
---     false_qemu.use [[ if kind == "qtest" and n == 5 then return "garbage\n" end ]]   -- a function's text: see `fault` below
---     luio.open "qemu:edu"                                                           -- starts it
---     false_qemu.restore()

local ffi = require "ffi"

if not (arg and arg[0] and arg[0]:match "false_qemu%.lua$") then
  local files = require "spec.support.files"
  local uv = require "luv"
  local M = {}
  local path = uv.os_getenv "PATH"

  --- From now on this is what `qemu-system-x86_64` starts, with a fault: the text of a function of kind, "qtest" or "qmp", n, the
  --- number of the command of that kind, and line. What it returns is said in place of the answer. It may call hang() and close().
  ---@param fault string
  function M.use(fault)
    local code = files.write("fault.lua", ("return function(kind, n, line) %s\nend\n"):format(fault))
    M.program(("exec luajit '%s/spec/support/false_qemu.lua' '%s/%s'"):format(uv.cwd(), uv.cwd(), code))
  end

  --- The same with a shell script.
  ---@param script string
  function M.program(script)
    local program, folder = files.write("qemu-system-x86_64", "#!/bin/sh\n" .. script .. "\n")
    assert(uv.fs_chmod(program, 493))
    uv.os_setenv("PATH", uv.cwd() .. "/" .. folder .. ":" .. path)
  end

  --- The real one is started again.
  function M.restore() uv.os_setenv("PATH", path) end

  --- Where the real one is.
  ---@return string?
  function M.real()
    for folder in path:gmatch "[^:]+" do
      if uv.fs_access(folder .. "/qemu-system-x86_64", "X") then return folder .. "/qemu-system-x86_64" end
    end
  end

  return M
end

ffi.cdef [[
int read(int, void *, size_t); int write(int, const void *, size_t); int close(int);
typedef struct { int fd; int16_t events, revents; } pollfd; int poll(pollfd *, unsigned long, int);
]]
local C = ffi.C
local QTEST, QMP, ECAM, EDU = 3, 4, 0xb0000000, 0xb0020000
local config = { [0] = 0x11e81234, [0x08] = 0x00ff0010, [0x10] = 0, [0x3c] = 0x100 }
local memory = {}

function hang() -- luacheck: ignore 111 131
  while true do C.poll(nil, 0, 1000) end
end

function close(kind) C.close(kind == "qmp" and QMP or QTEST) end -- luacheck: ignore 111 131

local function say(fd, text)
  while text ~= "" do
    local n = C.write(fd, text, #text)
    if n <= 0 then os.exit(1) end
    text = text:sub(n + 1)
  end
end

local BITS = { b = 8, w = 16, l = 32, q = 64 }

local function read(addr, bits)
  if addr >= EDU and addr < EDU + 0x1000 then
    local word = config[addr - EDU - addr % 4] or 0
    return math.floor(word / 2 ^ (8 * (addr % 4))) % 2 ^ bits
  elseif addr >= ECAM and addr < ECAM + 0x10000000 then
    return 2 ^ math.min(bits, 32) - 1
  end
  return memory[addr] or addr % 0x100000 == 0 and 0x010000ed or 0
end

local function write(addr, bits, value)
  if addr == EDU + 0x10 then
    config[0x10] = value - value % 0x100000
  elseif addr >= EDU and addr < EDU + 0x40 and addr % 4 == 0 then
    local old = config[addr - EDU] or 0
    if addr == EDU + 4 then config[4] = old - old % 0x10000 + value % 0x10000 end
  elseif addr < ECAM or addr >= ECAM + 0x10000000 then
    memory[addr] = value % 2 ^ bits
  end
end

local function qtest(line)
  local verb, letter, rest = line:match "^(%a-)([bwlq]) 0x(.*)$"
  if verb == "read" or verb == "in" then return ("OK 0x%016x\n"):format(read(tonumber(rest, 16), BITS[letter])) end
  if verb == "write" or verb == "out" then
    local addr, value = rest:match "^(%x+) 0x(%x+)$"
    if verb == "write" then write(tonumber(addr, 16), BITS[letter], tonumber(value, 16)) end
  end
  return "OK\n"
end

local RESULTS = {
  ["query-pci"] = '[{"bus":0,"devices":[{"bus":0,"slot":4,"function":0,"qdev_id":"luio-device","id":{"vendor":4660,"device":4584},'
    .. '"class_info":{"class":255},"regions":[],"irq_pin":1}]}]',
  ["qom-list"] = '[{"name":"luio-device","type":"child<edu>"}]',
}

local function qmp(line)
  local name, id = line:match '"execute":"([%w_-]+)"', line:match '"id":(%d+)'
  return ('{"return": %s, "id": %s}\r\n'):format(RESULTS[name] or "{}", id)
end

local fault = dofile(arg[1])
local ends = { { fd = QTEST, kind = "qtest", answer = qtest, n = 0, text = "" }, { fd = QMP, kind = "qmp", answer = qmp, n = 0, text = "" } }
say(QMP, fault("qmp", 0, "") or '{"QMP": {"version": {"qemu": {"micro": 0, "minor": 2, "major": 7}}, "capabilities": []}}\r\n')
local buffer = ffi.new "char[65536]"
local polls = ffi.new "pollfd[2]"
while true do
  for i, one in ipairs(ends) do polls[i - 1] = { one.fd, 1, 0 } end
  C.poll(polls, 2, -1)
  for i, one in ipairs(ends) do
    if polls[i - 1].revents ~= 0 then
      local n = C.read(one.fd, buffer, 65536)
      if n <= 0 then os.exit(0) end
      one.text = one.text .. ffi.string(buffer, n)
      for line in one.text:gmatch "([^\n]*)\n" do
        one.n = one.n + 1
        say(one.fd, fault(one.kind, one.n, line) or one.answer(line))
      end
      one.text = one.text:match "[^\n]*$"
    end
  end
end
