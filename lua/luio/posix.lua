--- The functions of the C library that luio calls by FFI, each declared once; and errno as nil, message, code.
---
---     local posix = require "luio.posix"
---     local fd = posix.open("/dev/ptmx", posix.O_RDWR + posix.O_CLOEXEC)
---     if fd < 0 then return posix.failure("open /dev/ptmx", "is /dev/pts mounted?") end
---
--- They have names of their own in FFI (luio_posix_open), because a script may declare open(2) differently. Two declarations
--- differ from the C library's. Variadic functions have the arguments that luio gives them; integers and pointers are passed
--- alike on x86-64 and arm64. Functions that return ssize_t return `int` here: luio moves less than 2^31 bytes at once, and a
--- number of 64 bits would be an object for the collector.
---
--- A function is declared when it is first used, because LuaJIT keeps more than half a KiB for each.

local ffi = require "ffi"

local M = {}

-- $NAME is the C library's function of that name, $NAME:FUNCTION another one of it.
local DECLARATIONS = [[
int $open(const char *, int);
int $close(int);
int $read(int, void *, size_t);
int $write(int, const void *, size_t);
int $writev(int, const void *, int);
int64_t $lseek(int, int64_t, int);
int $ftruncate(int, int64_t);
int $fsync(int);
int $fileno(void *);
int $dup2(int, int);
int $fcntl(int, int, int);
int $flock(int, int);
int $ioctl(int, unsigned long, void *);
int $ioctl_value:ioctl(int, unsigned long, unsigned long);
int $poll(void *, unsigned long, int);
int $eventfd(unsigned, int);
int $epoll_create1(int);
int $epoll_ctl(int, int, int, void *);
int $epoll_wait(int, void *, int, int);

int $socket(int, int, int);
int $bind(int, const void *, unsigned);
int $listen(int, int);
int $connect(int, const void *, unsigned);
int $getsockopt(int, int, int, void *, unsigned *);
int $sendto(int, const void *, size_t, int, const void *, unsigned);
int $sendmsg(int, const void *, int);
int $recvmsg(int, void *, int);

void *$mmap(void *, size_t, int, int, int, int64_t);
int $munmap(void *, size_t);
int $madvise(void *, size_t, int);
int $memfd_create(const char *, unsigned);
void *$memcpy(void *, const void *, size_t);
int $memcmp(const void *, const void *, size_t);

int $fork(void);
void $_exit(int);
int $waitpid(int, int *, int);
int $prctl(int, unsigned long, unsigned long, unsigned long, unsigned long);
void *$signal(int, void *);
unsigned $umask(unsigned);
unsigned $geteuid(void);

int $clock_gettime(int, int64_t *);
char *$setlocale(int, const char *);
char *$nl_langinfo(int);
int $wcwidth(int);
]]

setmetatable(M, {
  __index = function(_, name)
    local result, other, arguments = DECLARATIONS:match("([^\n]*)%$" .. name .. "%f[:(]:?([%w_]*)(%b())")
    if not result then return nil end
    ffi.cdef(('%sluio_posix_%s%s __asm__("%s");'):format(result, name, arguments, other ~= "" and other or name))
    M[name] = ffi.C["luio_posix_" .. name]
    return M[name]
  end,
})

-- ---- Types and numbers of Linux, of several callers ----------------------------------------------

M.pollfd = ffi.typeof "struct { int fd; int16_t events, revents; }"
M.sockaddr_un = ffi.typeof "struct { uint16_t family; char path[108]; }"

M.EINTR, M.EIO, M.EAGAIN = 4, 5, 11
M.O_RDWR, M.O_NOCTTY, M.O_NONBLOCK, M.O_CLOEXEC = 2, 0x100, 0x800, 0x80000
M.F_GETFL, M.F_SETFL = 3, 4
M.POLLIN, M.POLLOUT, M.POLLHUP = 1, 4, 0x10
M.AF_UNIX, M.AF_INET = 1, 2
M.SOL_SOCKET, M.SO_PEERCRED = 1, 17
M.SOCK_STREAM, M.SOCK_DGRAM, M.SOCK_SEQPACKET, M.SOCK_NONBLOCK, M.SOCK_CLOEXEC = 1, 2, 5, 0x800, 0x80000
M.MSG_NOSIGNAL = 0x4000
M.LOCK_EX, M.LOCK_NB = 2, 4

-- ---- Errors --------------------------------------------------------------------------------------

--- A failed call's errno, as nil, message, code: "open /dev/ptmx: ENOENT: is /dev/pts mounted?".
---@param what string  that was tried
---@param remedy? string|table<string, string>  what to do; or that by code
---@param number? integer  errno, where another call came between
---@return nil
---@return string message
---@return string code  "ENOENT"
function M.failure(what, remedy, number)
  number = number or ffi.errno() -- before the require, which may load a module
  local code = require("luio.ffi").errno_name(number)
  if type(remedy) == "table" then remedy = remedy[code] end
  return nil, ("%s: %s%s"):format(what, code, remedy and ": " .. remedy or ""), code
end

return M
