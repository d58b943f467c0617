/* pagemap.c - looks up a page's physical address, and detects wrong answers.
 *
 * /proc/self/pagemap has 8 bytes per page: bit 63 present, bits 0..54 the frame number. Without
 * CAP_SYS_ADMIN the kernel shows frame 0, with the other bits unchanged. Frame 0 is always refused,
 * because a device would write to physical address 0. The kernel checks the capability when the
 * file is opened, so a descriptor opened as root goes on working after privileges are dropped.
 * (Documentation/admin-guide/mm/pagemap.rst)
 *
 * While the kernel tries to move a page, the page is not present. The kernel also tries that with pinned
 * pages, and puts them back. So a missing page is touched, which waits for the end of the attempt, and
 * looked up again. */
#include "kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/uio.h>
#include <unistd.h>

#define PRESENT ((uint64_t)1 << 63)
#define FRAME (((uint64_t)1 << 55) - 1)
#define FRAMES ((uint64_t)1 << 52) /* of 4096 bytes: the range of a 64-bit address */
#define TRIES 1000

/* Reads a byte of the page by a system call: of a page with a memory error that is EFAULT and no SIGBUS. */
static int touch(const void *addr)
{
  char byte;
  struct iovec to = {&byte, 1}, from = {(void *)addr, 1};
  return process_vm_readv(getpid(), &to, 1, &from, 1, 0) == 1 ? 0 : -errno;
}

int luio_pagemap_lookup(int fd, const void *addr, uint64_t *physical, luio_error *err)
{
  uint64_t entry;
  off_t at = (off_t)((uintptr_t)addr / LUIO_PAGE * sizeof entry);
  for (int i = 0;; i++) {
    ssize_t got = pread(fd, &entry, sizeof entry, at);
    if (got != (ssize_t)sizeof entry)
      return luio_fail(err, EFAULT, "look up %p in /proc/self/pagemap: %s", addr,
                       got < 0 ? luio_errno_name(errno) : "short read");
    if (entry & PRESENT)
      break;
    int rc = i < TRIES ? touch(addr) : -EFAULT;
    if (rc < 0)
      return luio_fail(err, EFAULT, "look up %p in /proc/self/pagemap: no page is there (%s)", addr,
                       luio_errno_name(-rc));
  }
  if (!(entry & FRAME))
    return luio_fail(err, EPERM,
                     "physical addresses are hidden (/proc/self/pagemap shows frame 0): run with "
                     "CAP_SYS_ADMIN, e.g. as root");
  if ((entry & FRAME) >= FRAMES)
    return luio_fail(err, EFAULT,
                     "look up %p in /proc/self/pagemap: frame 0x%llx is beyond 64 address bits",
                     addr, (unsigned long long)(entry & FRAME));
  *physical = (entry & FRAME) * LUIO_PAGE + (uintptr_t)addr % LUIO_PAGE;
  return 0;
}

int luio_pagemap_open(const char *who, luio_error *err)
{
  int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
  if (fd < 0)
    return luio_fail(err, errno, "DMA memory for %s: open /proc/self/pagemap: %s", who,
                     luio_errno_name(errno));
  /* Our own stack is as good a page as any to ask about. */
  volatile char probe = 1;
  uint64_t physical;
  luio_error why;
  int rc = luio_pagemap_lookup(fd, (const void *)&probe, &physical, &why);
  if (rc < 0) {
    close(fd);
    return luio_fail(err, why.code, "DMA memory for %s: %s", who, why.message);
  }
  return fd;
}
