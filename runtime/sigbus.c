/* sigbus.c - placeholders over the registers of a device that is gone, and SIGBUS.
 *
 * The kernel does not remove mappings with the device. After a removal they read zeros or ones,
 * depending on the machine; after an unbind they still reach the device, which may have another
 * driver by then. The kernel revokes a sysfs resourceN mapping only if a kernel driver claims the
 * memory (CONFIG_IO_STRICT_DEVMEM); then the next access raises SIGBUS. So luio puts a placeholder
 * over the region itself: in luio_device_gone if Lua detects the removal first, in the SIGBUS
 * handler if an access does.
 *
 * The placeholder is a private mapping of a small file full of ones, over and over until the region
 * is covered, so that a BAR of gigabytes costs no memory; a page is copied only when it is written.
 * mmap with MAP_FIXED replaces pages atomically for other threads. The placeholder reads ones,
 * because a PCI read of a missing device gives ones, and drivers know that. On all ones luio checks
 * that the device is still present. The test costs nothing compared with a device read.
 *
 * The handler finds the region in a list that only grows, so that it needs no lock. The entry of a
 * closed region is emptied and used again. An entry is filled with its start last and emptied with
 * its start first. The handler does only loads, stores and mmap, which are safe in any context. It
 * runs on the thread that made the access. The device's other regions keep their mappings until
 * luio_device_gone, because they need not be revoked, too.
 *
 * The file's descriptor is open while any region is. After a process has closed its devices only
 * the handler remains, and passes every signal on. */
#include "kernel.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SMALLEST_FILE (64 * 1024ull)
#define MOST_PIECES 1024 /* mappings per region: a process may have 65530 */

struct luio_span {
  _Atomic uintptr_t start, end; /* start 0: not in use */
  _Atomic(luio_region *) region;
  struct luio_span *next;
};

static _Atomic(struct luio_span *) spans;
static _Atomic int ones_fd = -1;
static _Atomic uint64_t ones_size;
static unsigned regions;                                      /* in the list now */
static pthread_mutex_t list_lock = PTHREAD_MUTEX_INITIALIZER; /* of what changes the above */
static struct sigaction before;

/* ---- The placeholder --------------------------------------------------------------------------- */

/* With list_lock held: a file of ones, large enough to cover `span` in not too many pieces. */
static int ensure_ones(uint64_t span, luio_error *err)
{
  uint64_t want = SMALLEST_FILE, have = ones_size;
  while (want * MOST_PIECES < span)
    want *= 2;
  int fd = ones_fd;
  if (fd < 0) {
    fd = memfd_create("luio-gone", MFD_CLOEXEC);
    if (fd < 0)
      return luio_fail(err, errno, "prepare a placeholder: memfd_create: %s: raise `ulimit -n`",
                       luio_errno_name(errno));
    ones_fd = fd;
    have = 0;
  }
  uint8_t page[LUIO_PAGE];
  memset(page, 0xff, sizeof page);
  for (; have < want; have += sizeof page)
    if (pwrite(fd, page, sizeof page, (off_t)have) != (ssize_t)sizeof page)
      return luio_fail(err, errno, "prepare a placeholder of %llu KiB: %s%s",
                       (unsigned long long)want / 1024, luio_errno_name(errno),
                       errno == EFBIG ? ": raise `ulimit -f`" : "");
  ones_size = have;
  return 0;
}

/* Bare system calls: also from the signal handler, also below a sanitizer's interceptors. */
static bool cover(uintptr_t at, uintptr_t end)
{
  uint64_t piece = ones_size;
  for (; at < end; at += piece) {
    size_t size = end - at < piece ? end - at : piece;
    long got = syscall(SYS_mmap, at, size, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_FIXED | MAP_NORESERVE, (int)ones_fd, 0L);
    if ((uintptr_t)got != at)
      return false;
  }
  return true;
}

void luio_sigbus_cover(luio_region *r)
{
  uintptr_t at = (uintptr_t)r->map;
  /* Refused only when the process has no mapping left to give. Better none than the device's. */
  if (r->map && !cover(at, at + r->map_size))
    syscall(SYS_mprotect, at, r->map_size, PROT_NONE);
}

/* ---- SIGBUS ------------------------------------------------------------------------------------ */

static bool cover_region_at(uintptr_t address)
{
  for (struct luio_span *s = spans; s; s = s->next) {
    uintptr_t start = s->start, end = s->end;
    luio_region *r = s->region;
    if (!start || address < start || address >= end || s->start != start)
      continue;
    uint64_t none = UINT64_MAX;
    atomic_compare_exchange_strong(&r->fault, &none, address - (uintptr_t)r->base);
    r->gone = true;
    return cover(start, end);
  }
  return false;
}

static void on_sigbus(int sig, siginfo_t *info, void *context)
{
  int saved = errno;
  /* Positive: from a fault, not from kill(). */
  bool ours = info->si_code > 0 && cover_region_at((uintptr_t)info->si_addr);
  errno = saved;
  if (ours)
    return;
  if (before.sa_flags & SA_SIGINFO) {
    before.sa_sigaction(sig, info, context);
  } else if (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN) {
    before.sa_handler(sig);
  } else if (before.sa_handler == SIG_DFL || info->si_code > 0) {
    /* The access is repeated on return, or the signal sent again, and ends the process. */
    signal(sig, SIG_DFL);
    if (info->si_code <= 0)
      raise(sig);
  }
}

static void install(void)
{
  struct sigaction ours = {.sa_sigaction = on_sigbus, .sa_flags = SA_SIGINFO | SA_ONSTACK};
  sigemptyset(&ours.sa_mask);
  sigaction(SIGBUS, &ours, &before);
}

int luio_sigbus_add(luio_region *r, luio_error *err)
{
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_mutex_lock(&list_lock);
  int rc = ensure_ones(r->map_size, err);
  struct luio_span *s = spans;
  while (rc == 0 && s && s->region)
    s = s->next;
  if (rc == 0 && !s) {
    s = calloc(1, sizeof *s); /* for good */
    if (s) {
      s->next = spans;
      spans = s;
    } else {
      rc = luio_fail(err, ENOMEM, "map %s of %s: out of memory", r->name, r->device);
    }
  }
  if (rc == 0) {
    pthread_once(&once, install);
    regions++;
    r->span = s;
    s->region = r;
    s->end = (uintptr_t)r->map + r->map_size;
    s->start = (uintptr_t)r->map;
  } else if (!regions && ones_fd >= 0) {
    close(ones_fd);
    ones_fd = -1;
  }
  pthread_mutex_unlock(&list_lock);
  return rc;
}

void luio_sigbus_remove(luio_region *r)
{
  struct luio_span *s = r->span;
  if (!s)
    return;
  pthread_mutex_lock(&list_lock);
  s->start = 0;
  s->region = NULL;
  r->span = NULL;
  if (--regions == 0) {
    close(ones_fd);
    ones_fd = -1;
  }
  pthread_mutex_unlock(&list_lock);
}
