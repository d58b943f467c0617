--- `qemu:/path/of/socket`: a QEMU that somebody else started, and that goes on when its devices are closed.
---
--- The path is that of its QMP socket. All else is asked there: the test socket's path, and the file of its memory. lua/luio/host/README.md
--- has the arguments that such a QEMU needs; where one is missing the error has it.
---
--- The other process names a file that luio then writes to. So it must be this user's or root's, and so must the owners of its
--- sockets and its file; nobody else may be able to replace these (luio.host.trust).

local bit = require "bit"
local ffi = require "ffi"
local errors = require "luio.errors"
local machine = require "luio.qemu.machine"
local posix = require "luio.posix"
local qmp = require "luio.qemu.qmp"
local runtime = require "luio.ffi"
local trust = require "luio.host.trust"
local uv = require "luv"
local C, err = runtime.C, runtime.err

local M = {}

--- Seconds in which QEMU's monitor greets a client. It has room for one, and makes others wait. For specs.
M.GREETING = 10

local ARGUMENTS = {
  qtest = "-chardev socket,id=qtest,path=PATH,server=on,wait=off -object qtest,id=luio,chardev=qtest",
  memory = "-object memory-backend-file,id=memory,size=256M,mem-path=FILE,share=on -M q35,memory-backend=memory -m 256M",
  halt = "-bios FILE, FILE with 65536 bytes 0xf4 (hlt)",
}

-- ---- Sockets -------------------------------------------------------------------------------------

-- Connects without waiting. The socket, or nil, message, code.
local function connect(path)
  local real, reason, remedy = trust.socket(path)
  if not real then
    local missing = not uv.fs_lstat(path)
    return nil, ("%s%s"):format(reason, remedy and ": " .. remedy or ""), missing and "ENOENT" or "EACCES"
  end
  local address = posix.sockaddr_un(posix.AF_UNIX)
  if #real >= ffi.sizeof(address.path) then return nil, ("%s: a socket's path has at most 107 bytes"):format(real), "ENAMETOOLONG" end
  ffi.copy(address.path, real)
  local fd = posix.socket(posix.AF_UNIX, posix.SOCK_STREAM + posix.SOCK_CLOEXEC + posix.SOCK_NONBLOCK, 0)
  if fd < 0 then return posix.failure("socket", "raise `ulimit -n`") end
  local function give_up(...)
    posix.close(fd)
    return nil, ...
  end
  if posix.connect(fd, address, ffi.sizeof(address)) < 0 then
    local _, message, code = posix.failure("connect to " .. real, {
      ECONNREFUSED = "nobody listens there: has its QEMU ended?",
      EAGAIN = "it has a client, and others that wait: QEMU's sockets take one",
    })
    return give_up(message, code == "EAGAIN" and "EBUSY" or code)
  end
  local peer, size = ffi.new "struct { int pid; unsigned uid, gid; }", ffi.new("unsigned[1]", 12)
  if posix.getsockopt(fd, posix.SOL_SOCKET, posix.SO_PEERCRED, peer, size) < 0 then
    return give_up(select(2, posix.failure("ask for the owner of " .. real)))
  end
  if peer.uid ~= 0 and peer.uid ~= posix.geteuid() then
    return give_up(("%s is a socket of user %d's process, who could have luio write to any file: run luio as that user"):format(real,
      peer.uid), "EACCES")
  end
  return fd, peer.pid
end

-- A path that QEMU knows, as this process does.
local function path_of(text, pid)
  if text:sub(1, 1) == "/" then return text end
  return ("/proc/%d/cwd/%s"):format(pid, text)
end

-- ---- What QEMU has -------------------------------------------------------------------------------

local function ask(monitor, path, property)
  return monitor:command_now("qom-get", { path = path, property = property })
end

-- What its processors do: "a program"; "soon": nothing yet, they are at the first instruction; nil: they have halted there.
local function at_work(monitor)
  local registers, message, code = monitor:command_now("human-monitor-command", { ["command-line"] = "info registers -a" })
  if not registers then return nil, message, code end
  local works
  for eip, hlt, cr0 in registers:gmatch "EIP=(%x+)[^\n]-HLT=(%d).-CR0=(%x+)" do
    if bit.band(tonumber(cr0, 16), 1) ~= 0 or tonumber(eip, 16) < 0xfff0 then return "a program" end
    if hlt ~= "1" then works = "soon" end
  end
  return works
end

-- Refuses a machine that has a program at work: it would use the devices, too.
local function check_idle(monitor)
  local kind, message, code = ask(monitor, "/machine", "type")
  if not kind then return nil, message, code end
  if not kind:find "q35" then return nil, ("its machine is %s, and luio knows q35 (-M q35)"):format(kind), "ENOTSUP" end
  local status
  status, message, code = monitor:command_now "query-status"
  if not status then return nil, message, code end
  if not status.running then
    return nil, ("its machine stands still (%s), and its devices' timers with it: start it without -S, or `cont` in its monitor"):format(
      status.status), "ENOTSUP"
  end
  local deadline = runtime.now() + M.GREETING
  while true do
    local works
    works, message, code = at_work(monitor)
    if message then return nil, message, code end
    if not works then return true end
    if works == "a program" or runtime.now() > deadline then
      return nil, "its processor runs a program (a firmware, a guest), which would use the devices, too: start it with " .. ARGUMENTS.halt,
        "EBUSY"
    end
    uv.sleep(10)
  end
end

-- The socket with that label, as QEMU names it.
local function chardev(monitor, label)
  local list, message, code = monitor:command_now "query-chardev"
  if not list then return nil, message, code end
  for _, one in ipairs(list) do
    if one.label == label then return one.filename end
  end
  return nil, ("it has a test socket, and no -chardev %s"):format(label), "ENOTSUP"
end

-- The path of the test socket. QEMU may not have noticed yet that a client before us has ended.
local function test_socket(monitor, pid)
  local objects, message, code = monitor:command_now("qom-list", { path = "/objects" })
  if not objects then return nil, message, code end
  local label
  for _, one in ipairs(objects) do
    if one.type == "child<qtest>" then label = ask(monitor, "/objects/" .. one.name, "chardev") end
  end
  if not label then return nil, "it has no test socket: start it with " .. ARGUMENTS.qtest, "ENOTSUP" end
  local deadline = runtime.now() + M.GREETING
  while true do
    local name
    name, message, code = chardev(monitor, label)
    if not name then return nil, message, code end
    local path = name:match "^disconnected:unix:(.+),server=on$"
    if path then return path_of(path, pid) end
    if not name:match "^unix:.+,server=on$" then
      return nil, ("its test socket is %s, and no server that listens: start it with %s"):format(name, ARGUMENTS.qtest), "ENOTSUP"
    end
    if runtime.now() > deadline then return nil, "its test socket has another client, and takes one", "EBUSY" end
    uv.sleep(10)
  end
end

-- The file of its memory, opened; and how many bytes of it are memory.
local function memory_file(monitor, pid)
  local where = ask(monitor, "/machine", "memory-backend")
  local function refuse(reason) return nil, ("%s: start it with %s"):format(reason, ARGUMENTS.memory), "ENOTSUP" end
  if not where or where == "" then return refuse "its memory is in no file" end
  local kind = ask(monitor, where, "type")
  if kind ~= "memory-backend-file" then return refuse(("its memory is a %s, which is in no file"):format(tostring(kind))) end
  if ask(monitor, where, "share") ~= true then return refuse "the file of its memory is a copy of its own (no share=on)" end
  local path, size = ask(monitor, where, "mem-path"), ask(monitor, where, "size")
  if type(path) ~= "string" or type(size) ~= "number" then return refuse "it does not name the file of its memory" end
  local real, reason, remedy = trust.file(path_of(path, pid))
  if not real then
    local why = "the file of its memory (mem-path): %s%s; name it by an absolute path"
    return nil, why:format(reason, remedy and ": " .. remedy or ""), "EACCES"
  end
  local fd = posix.open(real, posix.O_RDWR + posix.O_CLOEXEC)
  if fd < 0 then return posix.failure("open " .. real) end
  local length = posix.lseek(fd, 0, 2)
  if length < size then
    posix.close(fd)
    return nil, ("%s has %d bytes, and QEMU says %d: was it replaced?"):format(real, tonumber(length), size), "ENOTSUP"
  end
  return fd, size
end

-- ---- Attaching -----------------------------------------------------------------------------------

-- Closes what was opened when a later step fails.
local function attach(path, answer)
  local opened, monitor = {}, nil
  local function give_up(...)
    if monitor then monitor:close() end
    for _, fd in ipairs(opened) do posix.close(fd) end
    return nil, ...
  end
  local fd, pid, code = connect(path)
  if not fd then return nil, pid, code end
  table.insert(opened, fd)
  local message
  monitor, message, code = qmp.greet(fd, pid, M.GREETING)
  if not monitor and code == "ETIMEDOUT" then
    return give_up(("it did not greet within %g s: it has another client (QEMU's sockets take one), or is no QEMU's monitor"):format(
      M.GREETING), "EBUSY")
  elseif not monitor then
    return give_up(message, code)
  end
  local ok
  ok, message, code = check_idle(monitor)
  if not ok then return give_up(message, code) end
  local test_path
  test_path, message, code = test_socket(monitor, pid)
  if not test_path then return give_up(message, code) end
  local memory, size
  memory, size, code = memory_file(monitor, pid)
  if not memory then return give_up(size, code) end
  table.insert(opened, memory)
  local test
  test, message, code = connect(test_path)
  if not test then return give_up("its test socket: " .. message, code) end
  posix.fcntl(test, posix.F_SETFL, 0) -- the runtime waits in send
  local running, out = ffi.new "luio_qemu_running", ffi.new "luio_qemu *[1]"
  local name = "the QEMU at " .. path
  running.name, running.machine, running.qtest, running.qmp, running.memory = name, "q35", test, fd, memory
  running.size, running.answer_ns = size, answer * 1e9
  if C.luio_qemu_attach(running, out, err) < 0 then
    monitor:close()
    return runtime.failure()
  end
  return out[0], monitor, name
end

-- The only device that may be meant.
local function only(list, path)
  local names, found = {}, nil
  for _, one in ipairs(list) do
    local own = one.address == "00:00.0" or one.address:match "^00:1f" -- q35's
    if not own and not one.bridge then
      found = one
      table.insert(names, one.id or one.address)
    end
  end
  if names[1] and not names[2] then return found.id or found.address end
  if not found then return nil, "it has no PCI device beside q35's own: start it with -device NAME", "ENODEV" end
  return nil, ("it has %s: name one, as qemu:%s,id=%s"):format(table.concat(names, ", "), path, names[1]), "EINVAL"
end

--- Opens a device of a QEMU that runs.
---@param text string  "/path/of/socket,id=NAME", or without id=
---@param options luio.OpenOptions
---@param answer number  seconds in which QEMU answers an access
---@return luio.Device?
---@return string? message
---@return string? code
function M.open(text, options, answer)
  local path, rest = text:gsub(",,", "\0"):match "^([^,]*),?(.*)$"
  path, rest = path:gsub("%z", ","), rest:gsub("%z", ",")
  local function failed(message, code)
    local what = ("attach to the QEMU at %s: "):format(path)
    message = errors.text(message)
    return nil, message:sub(1, #what) == what and message or what .. message, code
  end
  local id = rest:match "^id=([^,]+)$"
  if rest ~= "" and not id then return failed(("after the path comes ,id=NAME, not %s"):format(rest), "EINVAL") end
  if options.qemu then return failed("it runs already: more arguments (--qemu) are for one that luio starts", "EINVAL") end
  local handle, monitor, name = attach(path, answer)
  if not handle then
    return failed(monitor, name)
  end
  local dev, message, code = machine.join(handle, monitor, name, function(list)
    if id then return id end
    return only(list, path)
  end, function(chosen) return M.address(path, chosen) end, options)
  if not dev then return failed(message, code) end
  return dev
end

--- The address of a device of it. An address has room for 63 bytes, so of a long path the end is in it.
---@param path string
---@param id string
---@return string
function M.address(path, id)
  local whole = ("qemu:%s,id=%s"):format(path, id)
  local over = #whole - 63
  return over > 0 and ("qemu:...%s,id=%s"):format(path:sub(over + 4), id) or whole
end

return M
