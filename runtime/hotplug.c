/* hotplug.c - devices that go away and come back.
 *
 * luio_device_present asks everything that tells of a removal. luio_device_gone takes the device away
 * from those who use it: placeholders cover its registers (sigbus.c), /dev/null replaces what its
 * descriptors lead to. luio_device_return finds the device again, opens its files anew and exchanges
 * them in the same handle, so that regions, buffers and Lua objects stay what they are. */
#include "internal.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

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

void luio_device_gone(luio_device *d)
{
  if (atomic_exchange(&d->gone, true))
    return;
  for (int i = 0; i < LUIO_MAX_REGIONS; i++) {
    luio_region *r = d->regions[i];
    if (!r)
      continue;
    r->gone = true;
    luio_sigbus_cover(r);
    if (r->kind == LUIO_REGION_PORT) {
      luio_devnull_replace(r->fd);
      luio_port_close(r);
    }
  }
  luio_devnull_replace(d->config_fd);
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
