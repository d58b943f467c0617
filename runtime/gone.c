/* gone.c - devices that go away: what comes in place of their registers, and SIGBUS.
 *
 * The kernel does not take mappings away with the device. After a removal they read zeros or ones,
 * depending on the machine; after an unbind they still reach the device, which may be driven by
 * somebody else by then. Only where a driver of its own claims the memory does the kernel take a
 * sysfs resourceN mapping away (CONFIG_IO_STRICT_DEVMEM), and then the next access raises SIGBUS. So
 * we put a placeholder over the region ourselves, as soon as we know: luio_device_gone when Lua
 * knows first, the SIGBUS handler when an access does.
 *
 * The placeholder is a private mapping of a small file full of ones, over and over until the region
 * is covered, so that a BAR of gigabytes costs no memory; a page is copied only when something
 * writes to it. mmap with MAP_FIXED exchanges pages atomically for other threads. Why ones: that is
 * what a PCI read of nothing gives, drivers know it, and luio takes it as the sign to ask whether the
 * device is still there. That test costs nothing beside a device read, and no read that a driver
 * can rely on is left without an answer: it was ones, and gone says why.
 *
 * The handler finds the region in a list that only grows, so that it needs no lock: an entry whose
 * region is closed is emptied and used again. An entry is filled with its start last and emptied
 * with its start first. It does nothing but loads, stores and mmap, which are safe anywhere. It
 * runs on whichever thread made the access. The device's other regions stay as they are until
 * luio_device_gone: they are the same device, but not known to be gone with it.
 *
 * The file's descriptor is there while any region is: a process that closes its devices is as it
 * was before, but for the handler, which then passes everything on. */
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
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
static unsigned regions;                                       /* guarded now */
static pthread_mutex_t guard_lock = PTHREAD_MUTEX_INITIALIZER; /* of what changes the above */
static struct sigaction before;

/* ---- The placeholder --------------------------------------------------------------------------- */

/* With guard_lock held: a file of ones, large enough to cover `span` in not too many pieces. */
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

void luio_place_cover(luio_region *r)
{
  uintptr_t at = (uintptr_t)r->map;
  /* Refused only when the process has no mapping left to give. Better none than the device's. */
  if (r->map && !cover(at, at + r->map_size))
    syscall(SYS_mprotect, at, r->map_size, PROT_NONE);
}

/* ---- SIGBUS ------------------------------------------------------------------------------------ */

static bool place_at(uintptr_t address)
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
  bool ours = info->si_code > 0 && place_at((uintptr_t)info->si_addr);
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

int luio_place_guard(luio_region *r, luio_error *err)
{
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_mutex_lock(&guard_lock);
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
  pthread_mutex_unlock(&guard_lock);
  return rc;
}

void luio_place_spare(luio_region *r)
{
  struct luio_span *s = r->span;
  if (!s)
    return;
  pthread_mutex_lock(&guard_lock);
  s->start = 0;
  s->region = NULL;
  r->span = NULL;
  if (--regions == 0) {
    close(ones_fd);
    ones_fd = -1;
  }
  pthread_mutex_unlock(&guard_lock);
}

int luio_region_gone(const luio_region *r)
{
  return r->gone;
}

uint64_t luio_region_fault(const luio_region *r)
{
  return r->fault;
}

/* ---- Devices ----------------------------------------------------------------------------------- */

int luio_device_present(luio_device *d)
{
  if (d->gone)
    return 0;
  for (int i = 0; i < LUIO_MAX_REGIONS; i++)
    if (d->regions[i] && d->regions[i]->gone)
      return 0;
  if (d->mem_fd >= 0 && luio_devmem_claimed(d))
    return 0;
  if (d->uio_fd >= 0) {
    /* The node goes with the device; a new one of the same name is another file. */
    struct pollfd source = {.fd = d->uio_fd, .events = POLLIN};
    struct stat node;
    if (fstat(d->uio_fd, &node) == 0 && node.st_nlink == 0)
      return 0;
    if (!d->always_err && poll(&source, 1, 0) > 0 && source.revents & (POLLERR | POLLNVAL))
      return 0;
  }
  if (d->config_fd >= 0) {
    uint16_t command;
    ssize_t n = pread(d->config_fd, &command, sizeof command, PCI_COMMAND);
    if (n != (ssize_t)sizeof command || command == 0xffff)
      return 0;
  }
  return 1;
}

/* Another thread may be in a system call with it: the number stays, what it means is exchanged. What it is exchanged for is
 * open since the first device was (luio_fork_add), so this takes no new descriptor. */
void luio_lead_nowhere(int fd)
{
  if (fd >= 0)
    dup3(luio_nowhere(), fd, O_CLOEXEC);
}

void luio_device_gone(luio_device *d)
{
  if (atomic_exchange(&d->gone, true))
    return;
  for (int i = 0; i < LUIO_MAX_REGIONS; i++) {
    luio_region *r = d->regions[i];
    if (!r)
      continue;
    r->gone = true;
    luio_place_cover(r);
    if (r->kind == LUIO_REGION_PORT) {
      luio_lead_nowhere(r->fd);
      luio_port_close(r);
    }
  }
  luio_lead_nowhere(d->config_fd);
  if (d->sim) { /* as the kernel does on unbind */
    uint32_t command;
    luio_sim_config_read(d->sim, PCI_COMMAND, 16, &command);
    luio_sim_config_write(d->sim, PCI_COMMAND, 16, command & ~(uint32_t)PCI_COMMAND_MASTER);
  }
  d->bus_master_on = false;
  if (d->bars_taken)
    guard_bars_leave(d->info.sysfs);
  d->bars_taken = false;
  /* Whoever has it next is none of the guardian's business, nor of our lock. */
  if (d->guarded && !d->sim)
    luio_guard_gone(d);
}

/* Where it is now: PCI addresses stay, uio numbers don't. Of several UIO devices of a PCI device it is the one that comes at
 * the same place. */
static int find_again(const luio_device *d, char address[64], luio_error *err)
{
  luio_list *list;
  if (d->place) {
    unsigned numbers[LUIO_SIBLINGS];
    unsigned n = luio_uio_siblings(d->info.sysfs, numbers);
    if (d->place >= n)
      return luio_fail(err, ENODEV,
                       "%s is not there: it has %u UIO devices, and this was the one at place %u",
                       d->info.address, n, d->place);
    luio_format(address, 64, "uio%u", numbers[d->place]);
    return 0;
  }
  if (!strcmp(d->info.bus, "pci") || !strcmp(d->info.bus, "mem")) {
    luio_format(address, 64, "%s", d->info.address);
    return 0;
  }
  int rc = luio_list_open(&list, err);
  if (rc < 0)
    return rc;
  bool found = false;
  for (size_t i = 0; !found && i < luio_list_count(list); i++) {
    const luio_info *info = luio_list_get(list, i);
    found = !strcmp(info->sysfs, d->info.sysfs);
    if (found)
      luio_format(address, 64, "%s", info->address);
  }
  luio_list_close(list);
  return found ? 0
               : luio_fail(err, ENODEV, "%s is not there: nothing at %s", d->info.address,
                           d->info.sysfs);
}

static int same(const luio_device *d, const luio_device *now, luio_error *err)
{
  const luio_info *a = &d->info, *b = &now->info;
  if (a->vendor != b->vendor || a->device != b->device || a->class_code != b->class_code)
    return luio_fail(err, ENODEV, "%s came back as another device: %04x:%04x, it was %04x:%04x",
                     b->address, b->vendor, b->device, a->vendor, a->device);
  if (a->uio[0] && !b->uio[0])
    return luio_fail(err, ENODEV,
                     "%s is there, but no UIO driver is bound to it: bind %s (driver_override, "
                     "drivers_probe), with a udev rule so that it happens by itself",
                     b->address, a->driver);
  return 0;
}

int luio_device_return(luio_device *d, luio_error *err)
{
  char address[64];
  if (!d->gone)
    return 0;
  if (d->irqs)
    return luio_fail(err, EBUSY, "take %s again: its interrupt thread still runs", d->info.address);
  if (d->dma && luio_dma_is_of_regions(d->dma))
    return luio_fail(err, ENOTSUP,
                     "take %s again: its DMA memory was its UIO driver's, and went with it: close "
                     "it and open it anew",
                     d->info.address);
  if (d->sim) {
    for (int i = 0; i < LUIO_MAX_REGIONS; i++)
      if (d->regions[i])
        d->regions[i]->gone = false;
    d->gone = false;
    luio_config_watch(d);
    return 0;
  }
  luio_device *now;
  char what[96];
  luio_format(what, sizeof what, "take %s again", d->info.address);
  int rc = luio_device_new(d->flags, what, &now, err);
  if (rc < 0)
    return rc;
  /* Our own lock must not be in our way, where /dev is no devtmpfs. */
  if (d->uio_fd >= 0)
    close(d->uio_fd);
  if (d->mem_fd >= 0)
    close(d->mem_fd);
  d->uio_fd = d->mem_fd = -1;
  rc = find_again(d, address, err);
  if (rc == 0)
    rc = luio_device_open_files(now, address, d, err);
  if (rc == 0)
    rc = same(d, now, err);
  if (rc == 0) {
    int uio_fd = now->uio_fd, config_fd = now->config_fd;
    now->uio_fd = d->uio_fd;
    now->config_fd = d->config_fd;
    d->uio_fd = uio_fd;
    d->config_fd = config_fd;
    d->mem_fd = now->mem_fd;
    now->mem_fd = -1;
    d->config_writable = now->config_writable;
    d->one_of_several = now->one_of_several;
    if (!d->one_of_several)
      luio_guard_stops_by(d->info.address, d->config_fd);
    d->always_err = now->always_err;
    d->info = now->info;
    d->gone = false;
    luio_config_watch(d);
  }
  for (int i = 0; rc == 0 && i < LUIO_MAX_REGIONS; i++)
    if (d->regions[i])
      rc = luio_region_return(d, d->regions[i], err);
  if (rc < 0 && d->gone && d->guarded)
    luio_guard_gone(d); /* it may hold what was opened */
  else if (rc < 0)
    luio_device_gone(d);
  luio_device_free(now);
  return rc;
}
