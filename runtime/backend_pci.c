/* backend_pci.c - PCI devices: config space and BARs by sysfs, the interrupt by the UIO driver that is bound.
 *
 * Region N is BAR N. A memory BAR is mapped through /dev/uioX if the UIO driver offers it as a map, because that works
 * even when secure boot locks sysfs; otherwise through sysfs resourceN. Maps are matched by address: map N need not be
 * BAR N. resourceN is common: uio_pci_generic offers only 32-bit non-prefetchable BARs, and none before Linux 5.x. I/O
 * BARs are reached by port instructions, or through resourceN if the thread may not use them. The region has the BAR's
 * size, because a map's stated size is often rounded up.
 *
 * A UIO driver may make several UIO devices of one PCI device, one per vector. Each is opened by its own name (the PCI
 * address means the lowest number) and has its own lock, so each may have its own handle or process. Only the first
 * handle, by the lock on `config`, may write config space, switch bus master and have DMA memory. With two, one
 * handle's memory could not be freed safely while the other keeps bus master on. */
#include "ways.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* ---- Opening ----------------------------------------------------------------------------------- */

/* Uses the guardian's config descriptor instead of ours. The lock is on that descriptor, so it passes
 * from worker to worker without a gap. */
static void take_kept_config(luio_device *d)
{
  int fd = d->slots.kept[GUARD_CONFIG];
  if (fd < 0)
    return;
  close(d->config_fd);
  d->config_fd = fd;
  d->slots.kept[GUARD_CONFIG] = -1;
  d->config_writable = (fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDWR;
}

/* Makes the device ours: tells the guardian, which then has the lock; without one we lock it
 * ourselves. The lock is on the config file, taken before /dev/uioX is opened: one who comes too
 * late must not open it, for closing it again would clear the owner's bus master. `before`: it was
 * ours, went away and is back; NULL: it was not. */
static int own(luio_device *d, const luio_device *before, luio_error *err)
{
  bool again = before && before->slots.guarded;
  int rc = again    ? luio_guard_reopen(&before->slots, &d->slots, err)
           : before ? 0
                    : luio_guard_open(&d->slots, err);
  if (rc == -EAGAIN)
    return luio_locked(d, "", err);
  if (rc < 0)
    return rc;
  if (!again && !d->slots.guarded)
    return luio_lock(d, d->config_fd, err);
  take_kept_config(d);
  luio_guard_stops_by(&d->slots, d->config_fd);
  return 0;
}

/* Whether its PCI device has more UIO devices; d->place: how many of them come before it. */
static bool has_siblings(luio_device *d)
{
  unsigned numbers[LUIO_SIBLINGS];
  unsigned n = luio_uio_siblings(d->info.sysfs, numbers);
  for (d->place = 0; d->place < n; d->place++) {
    char name[16];
    luio_format(name, sizeof name, "uio%u", numbers[d->place]);
    if (!strcmp(name, d->info.uio))
      return n > 1;
  }
  d->place = 0;
  return false;
}

static int open_config(luio_device *d, luio_error *err)
{
  char path[320];
  luio_format(path, sizeof path, "%s/config", d->info.sysfs);
  if (!(d->flags & LUIO_READ_ONLY)) {
    d->config_fd = open(path, O_RDWR | O_CLOEXEC);
    d->config_writable = d->config_fd >= 0;
  }
  /* An ordinary user may still map and wait; calls that need the command register fail later. */
  if (d->config_fd < 0)
    d->config_fd = open(path, O_RDONLY | O_CLOEXEC);
  if (d->config_fd >= 0)
    return 0;
  int code = errno;
  return luio_fail(err, code, "open %s: %s: %s", path, luio_errno_name(code),
                   !luio_is_there(d) ? "the device is gone: list again"
                   : code == ENOENT  ? "this kernel offers no such file for the device"
                                     : "see dmesg");
}

static bool takes_pci(const luio_info *info)
{
  return !strcmp(info->bus, "pci");
}

static int open_pci(luio_device *d, const luio_device *before, luio_error *err)
{
  const luio_info *info = &d->info;
  bool read_only = d->flags & LUIO_READ_ONLY;
  /* To look at a PCI device its BARs do; opening /dev/uioX would mean closing it again. */
  bool shared = read_only || d->flags & LUIO_SHARED;
  if (!info->uio[0] && info->driver[0] && !read_only)
    return luio_fail(err, EBUSY,
                     "open %s: EBUSY: the kernel driver %s has it: `luio bind %s` gives it to "
                     "uio_pci_generic; or open read-only to look",
                     info->address, info->driver, info->address);
  int rc = open_config(d, err);
  if (rc < 0)
    return rc;
  bool siblings = info->uio[0] && has_siblings(d);
  /* A device that was gone keeps its function; another handle that is not back yet may have the first. */
  bool again = before && before->one_of_several;
  rc = !shared && !again ? own(d, before, err) : 0;
  d->one_of_several = again || (siblings && rc == -EBUSY);
  if (rc < 0 && !d->one_of_several)
    return rc;
  if (d->one_of_several)
    d->config_writable = false;
  d->intx_by_command = !strcmp(info->uio_name, "uio_pci_generic");
  rc = info->uio[0] && !shared ? luio_uio_open(d, err) : 0;
  return rc == 0 && siblings && !shared ? luio_lock(d, d->uio_fd, err) : rc;
}

/* uio_pci_generic clears bus master when its node is closed, which must not be the first thing that does. */
static void close_pci(luio_device *d)
{
  if (d->config_fd >= 0)
    close(d->config_fd);
  if (d->uio_fd >= 0)
    close(d->uio_fd);
}

/* ---- Regions ----------------------------------------------------------------------------------- */

static bool has_bar(const luio_device *d, unsigned index)
{
  return index < LUIO_MAX_BARS && d->info.bars[index].kind != LUIO_BAR_NONE;
}

static int open_resource(luio_device *d, luio_region *r, char *path, size_t size, luio_error *err)
{
  luio_format(path, size, "%s/resource%u", d->info.sysfs, r->index);
  int fd = open(path, (r->writable ? O_RDWR : O_RDONLY) | O_CLOEXEC);
  if (fd < 0) {
    int code = errno;
    if (code == ENOENT && access(d->info.sysfs, F_OK) == 0)
      return luio_fail(err, ENOTSUP,
                       "open %s: ENOENT: this kernel offers no such file for the device", path);
    const char *why = r->writable ? luio_read_only(path) : NULL;
    char text[256];
    if (why)
      code = EROFS;
    else
      why = luio_bars_remedy(d, code);
    return luio_fail(err, code, "open %s: %s: %s", path, luio_errno_name(code),
                     why ? why : luio_region_remedy(d, r, code, true, text, sizeof text));
  }
  return fd;
}

static int map_by_uio(luio_device *d, luio_region *r, int fd, luio_error *err)
{
  int map = d->info.bars[r->index].map;
  char path[64];
  luio_format(r->name, sizeof r->name, "BAR%u by %s map%d", r->index, d->info.uio, map);
  luio_format(path, sizeof path, "/dev/%s", d->info.uio);
  return luio_region_map(d, r, fd, (uint64_t)map, d->info.maps[map].offset, path, err);
}

/* A read-only device uses resourceN, because closing /dev/uioX would clear the bus master bit of the
 * process that drives the device. Under lockdown only the UIO map works. It is used if bus master is
 * off, because under lockdown no process can switch it on. Otherwise the error of resourceN is
 * returned. */
static int map_under_lockdown(luio_device *d, luio_region *r)
{
  uint32_t command;
  char path[64];
  if (d->info.bars[r->index].map < 0 || luio_config_read(d, PCI_COMMAND, 16, &command, NULL) < 0 ||
      command & PCI_COMMAND_MASTER)
    return -EPERM;
  luio_format(path, sizeof path, "/dev/%s", d->info.uio);
  int fd = open(path, (r->writable ? O_RDWR : O_RDONLY) | O_CLOEXEC);
  if (fd < 0)
    return -errno;
  int rc = map_by_uio(d, r, fd, NULL);
  close(fd); /* closed in truth when the mapping goes */
  return rc;
}

static int open_bar(luio_device *d, luio_region *r, luio_error *err)
{
  const luio_bar *bar = &d->info.bars[r->index];
  char path[320];
  r->addr = bar->addr;
  r->size = bar->size;
  if (bar->kind == LUIO_BAR_IO) {
    r->ops = &luio_port_ops;
    int denied = luio_port_open(r);
    luio_format(r->name, sizeof r->name,
                denied ? "BAR%u by resource%u" : "BAR%u by port instructions", r->index, r->index);
    r->fd = open_resource(d, r, path, sizeof path, denied ? err : NULL);
    return denied && r->fd < 0 ? r->fd : 0;
  }
  if (bar->map >= 0 && d->uio_fd >= 0)
    return map_by_uio(d, r, d->uio_fd, err);
  luio_format(r->name, sizeof r->name, "BAR%u by resource%u", r->index, r->index);
  int fd = open_resource(d, r, path, sizeof path, err);
  if (fd < 0)
    return fd;
  int rc = luio_region_map(d, r, fd, 0, bar->addr & (LUIO_PAGE - 1), path, err);
  close(fd); /* the mapping stays */
  return rc == -EPERM && map_under_lockdown(d, r) == 0 ? 0 : rc;
}

/* ---- Config space and interrupts --------------------------------------------------------------- */

static ssize_t config_read(luio_device *d, unsigned offset, void *to, size_t size)
{
  ssize_t got = pread(d->config_fd, to, size, (off_t)offset);
  return got < 0 ? -errno : got;
}

static ssize_t config_write(luio_device *d, unsigned offset, const void *from, size_t size)
{
  ssize_t got = pwrite(d->config_fd, from, size, (off_t)offset);
  return got < 0 ? -errno : got;
}

/* uio_pci_generic has no irqcontrol: clearing INTX_DISABLE does it. */
static int unmask(luio_device *d, enum luio_line *line, luio_error *err)
{
  return d->intx_by_command ? luio_intx_unmask(d, line, err) : luio_uio_unmask(d, line, err);
}

static int mask(luio_device *d, luio_error *err)
{
  return d->intx_by_command ? luio_intx_mask(d, err) : luio_uio_mask(d, err);
}

/* ---- Going and coming back --------------------------------------------------------------------- */

static bool present(luio_device *d)
{
  uint16_t command;
  return luio_uio_present(d) &&
         config_read(d, PCI_COMMAND, &command, sizeof command) == (ssize_t)sizeof command &&
         command != 0xffff;
}

/* The device's next owner concerns neither the guardian nor our lock. */
static void leave(luio_device *d)
{
  luio_devnull_replace(d->config_fd);
  if (d->bars_taken)
    guard_bars_leave(d->info.sysfs);
  d->bars_taken = false;
  luio_guard_gone(&d->slots);
}

/* PCI addresses stay, uio numbers don't. Of several UIO devices of a PCI device it is the one that comes at the same place. */
static int address_now(const luio_device *d, char address[64], luio_error *err)
{
  unsigned numbers[LUIO_SIBLINGS];
  luio_format(address, 64, "%s", d->info.address);
  unsigned n = d->place ? luio_uio_siblings(d->info.sysfs, numbers) : 1;
  if (d->place >= n)
    return luio_fail(err, ENODEV,
                     "%s is not there: it has %u UIO devices, and this was the one at place %u",
                     d->info.address, n, d->place);
  if (d->place)
    luio_format(address, 64, "uio%u", numbers[d->place]);
  return 0;
}

static void take_files(luio_device *d, luio_device *now)
{
  int config_fd = d->config_fd;
  luio_uio_take_files(d, now);
  d->config_fd = now->config_fd;
  now->config_fd = config_fd;
  d->config_writable = now->config_writable;
  d->intx_by_command = now->intx_by_command;
  d->one_of_several = now->one_of_several;
  luio_guard_stops_by(&d->slots, d->one_of_several ? -1 : d->config_fd);
}

static void forked(luio_device *d)
{
  luio_devnull_replace(d->config_fd);
  luio_devnull_replace(d->uio_fd);
}

const struct luio_backend luio_pci = {
    .capabilities = LUIO_HAS_SYSFS | LUIO_HAS_CONFIG | LUIO_HAS_BARS | LUIO_HAS_INTERRUPTS |
                    LUIO_HAS_DMA | LUIO_CAN_LEAVE | LUIO_CAN_BIND,
    .takes = takes_pci,
    .open = open_pci,
    .close = close_pci,
    .has_region = has_bar,
    .region = open_bar,
    .interrupt = luio_uio_interrupt,
    .no_messages = "by UIO a PCI device has INTx alone (uio_pci_generic has no other): leave "
                   "`vectors` out, or say \"intx\"",
    .unmask = unmask,
    .mask = mask,
    .dma = luio_dma_of_sysfs,
    .config_read = config_read,
    .config_write = config_write,
    .present = present,
    .leave = leave,
    .address_now = address_now,
    .unlock = luio_uio_unlock,
    .take_files = take_files,
    .forked = forked,
};
