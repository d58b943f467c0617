/* uio.c - /dev/uioX: opening it, its interrupt, its memory maps.
 *
 * Devices on PCI (backend_pci.c) and elsewhere (backend_uio.c) have the same node. read() gives the count of interrupts,
 * write() is the UIO driver's irqcontrol, and a map is mapped at file offset N pages.
 *
 * Only the owner opens the node, and closes it last, because uio_pci_generic clears bus master when any descriptor of
 * it is closed. */
#include "parts.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static int by_number(const void *a, const void *b)
{
  const unsigned *x = a, *y = b;
  return (*x > *y) - (*x < *y);
}

unsigned luio_uio_siblings(const char *sysfs, unsigned numbers[LUIO_SIBLINGS])
{
  char path[320];
  unsigned n = 0;
  int used;
  luio_format(path, sizeof path, "%s/uio", sysfs);
  DIR *dir = opendir(path);
  for (struct dirent *e; dir && n < LUIO_SIBLINGS && (e = readdir(dir));)
    n += sscanf(e->d_name, "uio%u%n", &numbers[n], &used) == 1 && !e->d_name[used];
  if (dir)
    closedir(dir);
  qsort(numbers, n, sizeof *numbers, by_number);
  return n;
}

/* Gives /dev/uioX a high number. The kernel closes a killed process's files from the highest number down, and this one has to be
 * closed before the sockets that hold DMA memory (luio_dma_park), whose numbers are low: bus master is off after this close. */
static int lift(int fd)
{
  struct rlimit limit;
  rlim_t least = 512;
  if (fd < 0 || getrlimit(RLIMIT_NOFILE, &limit) < 0)
    return fd;
  if (least > limit.rlim_cur / 2)
    least = limit.rlim_cur / 2;
  int high = fcntl(fd, F_DUPFD_CLOEXEC, (int)least);
  if (high < 0)
    return fd; /* all of them are in use */
  close(fd);
  return high;
}

static int open_node(luio_device *d, luio_error *err)
{
  char path[64];
  luio_format(path, sizeof path, "/dev/%s", d->info.uio);
  int mode = d->flags & LUIO_READ_ONLY ? O_RDONLY : O_RDWR;
  d->uio_fd = lift(open(path, mode | O_CLOEXEC | O_NONBLOCK));
  if (d->uio_fd >= 0) {
    struct pollfd now = {.fd = d->uio_fd, .events = POLLIN};
    d->always_err = poll(&now, 1, 0) > 0 && now.revents & POLLERR;
    return 0;
  }
  int code = errno;
  const char *remedy = luio_bars_remedy(d, code);
  if (remedy)
    ;
  else if (!luio_is_there(d))
    remedy = "the device is gone: list again";
  else if (code == EPERM && geteuid() == 0)
    remedy = "this process may not, though it is root's: is it in a container that was not given "
             "the node?";
  else if (code == EACCES || code == EPERM)
    remedy = "run as root, or as one of the group luio, which `make install-system` makes (luio "
             "doctor says more)";
  else if (code == ENOENT)
    remedy = "no such node: is udev running, is /dev a devtmpfs?";
  else if (code == ENXIO)
    remedy = "no driver is behind the node: was it made by hand, or left over?";
  else
    remedy = "its UIO driver may refuse: see dmesg";
  return luio_fail(err, code, "open %s: %s: %s", path, luio_errno_name(code), remedy);
}

/* The memory that the UIO driver has allocated just now. It frees it when the last descriptor is closed. */
static int find_memory(luio_device *d, luio_error *err)
{
  char dir[64], name[32];
  luio_format(dir, sizeof dir, "/sys/class/uio/%s", d->info.uio);
  for (int i = 0; i < LUIO_MAX_MAPS; i++) {
    luio_map *m = &d->info.maps[i];
    if (!m->present || !m->at_open)
      continue;
    luio_format(name, sizeof name, "maps/map%d/addr", i);
    int rc = luio_sysfs_u64(dir, name, &m->addr);
    if (rc == 0 && m->addr == UINT64_MAX)
      rc = -ENOMEM;
    else if (rc == 0 && m->addr + (m->size - 1) < m->addr)
      rc = -ERANGE;
    if (rc < 0)
      return luio_fail(err, -rc,
                       "open %s: map%d, memory that its UIO driver allocates (0x%llx bytes): %s: "
                       "%s",
                       d->info.address, i, (unsigned long long)m->size, luio_errno_name(-rc),
                       rc == -ENOMEM
                           ? "no piece of that size is free: free memory, or reserve it (cma=)"
                           : "see dmesg");
  }
  return 0;
}

int luio_uio_open(luio_device *d, luio_error *err)
{
  int rc = open_node(d, err);
  return rc < 0 ? rc : find_memory(d, err);
}

bool luio_uio_present(const luio_device *d)
{
  if (d->uio_fd < 0)
    return true;
  /* The node goes with the device; a new one of the same name is another file. */
  struct pollfd source = {.fd = d->uio_fd, .events = POLLIN};
  struct stat node;
  if (fstat(d->uio_fd, &node) == 0 && node.st_nlink == 0)
    return false;
  return d->always_err || poll(&source, 1, 0) <= 0 || !(source.revents & (POLLERR | POLLNVAL));
}

/* Our own lock would be in our way, where /dev is no devtmpfs. */
void luio_uio_unlock(luio_device *d)
{
  if (d->uio_fd >= 0)
    close(d->uio_fd);
  d->uio_fd = -1;
}

void luio_uio_take_files(luio_device *d, luio_device *now)
{
  int uio_fd = d->uio_fd;
  d->uio_fd = now->uio_fd;
  now->uio_fd = uio_fd;
  d->always_err = now->always_err;
}

/* ---- Interrupts -------------------------------------------------------------------------------- */

int luio_uio_interrupt(luio_device *d, luio_irq_config *config, luio_error *err)
{
  if (d->uio_fd < 0)
    return luio_fail(err, ENOTSUP, "interrupt of %s: no UIO driver is bound: luio bind %s",
                     d->info.address, d->info.address);
  /* The UIO core answers read() with EIO exactly when the driver gave it no interrupt. A count that
   * is there already is of the time before, and may be taken: the unmask that follows makes a
   * line that is still asserted fire again. */
  uint32_t count;
  if (read(d->uio_fd, &count, sizeof count) < 0 && errno == EIO)
    return luio_fail(err, ENOTSUP, "%s has no interrupt: %s got none for it; poll it",
                     d->info.address, d->info.uio_name);
  char dir[64];
  uint64_t event = d->info.event;
  luio_format(dir, sizeof dir, "/sys/class/uio/%s", d->info.uio);
  luio_sysfs_u64(dir, "event", &event);
  config->source = LUIO_IRQ_UIO;
  config->fd = d->uio_fd;
  config->baseline = (uint32_t)event;
  return 0;
}

/* By writing to /dev/uioX, which is the UIO driver's irqcontrol. *known: whether it has one. */
static int irqcontrol(luio_device *d, int32_t on, const char *verb, bool *known, luio_error *err)
{
  *known = true;
  if (d->uio_fd < 0)
    return luio_fail(err, ENOTSUP, "%s the interrupt of %s: no UIO driver is bound", verb,
                     d->info.address);
  ssize_t got = write(d->uio_fd, &on, sizeof on);
  if (got == (ssize_t)sizeof on)
    return 0;
  int code = got < 0 ? errno : EIO;
  *known = code != ENOSYS;
  return luio_fail(err, code, "%s by writing %d to /dev/%s: %s: %s", verb, on, d->info.uio,
                   luio_errno_name(code),
                   code == EIO      ? "the device has no interrupt, or is gone"
                   : code == ENOSYS ? "its UIO driver has no irqcontrol"
                                    : "see dmesg");
}

int luio_uio_unmask(luio_device *d, enum luio_line *line, luio_error *err)
{
  bool known;
  if (line)
    *line = LUIO_LINE_UNSEEN;
  int rc = irqcontrol(d, 1, "unmask", &known, err);
  return known ? rc : 0; /* no irqcontrol: its handler does not mask */
}

int luio_uio_mask(luio_device *d, luio_error *err)
{
  bool known;
  return irqcontrol(d, 0, "mask", &known, err);
}
