/* hotplug.c - devices that go away and come back.
 *
 * luio_device_present checks every sign of a removal. luio_device_gone disconnects the device from
 * its users: placeholders cover its registers (sigbus.c), and /dev/null replaces the files of its
 * descriptors. luio_device_return finds the device again, reopens its files and replaces them in the
 * same handle, so that regions, buffers and Lua objects stay valid. */
#include "device.h"

#include <errno.h>

int luio_device_present(luio_device *d)
{
  if (d->gone)
    return 0;
  for (int i = 0; i < LUIO_MAX_REGIONS; i++)
    if (d->regions[i] && d->regions[i]->gone)
      return 0;
  return !d->backend->present || d->backend->present(d);
}

void luio_device_gone(luio_device *d)
{
  if (atomic_exchange(&d->gone, true))
    return;
  for (int i = 0; i < LUIO_MAX_REGIONS; i++)
    if (d->regions[i])
      luio_region_leave(d->regions[i]);
  d->bus_master_on = false;
  d->backend->leave(
      d); /* its vectors are given back at the return, or at the close: threads may be at them */
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

/* The files are opened as a device of their own, and exchanged when all of them are there. */
static int open_anew(luio_device *d, luio_error *err)
{
  luio_device *now;
  char what[96], address[64];
  luio_format(what, sizeof what, "take %s again", d->info.address);
  int rc = luio_device_new(d->flags, what, &now, err);
  if (rc < 0)
    return rc;
  d->backend->unlock(d);
  rc = d->backend->address_now(d, address, err);
  if (rc == 0)
    rc = luio_device_open_files(now, address, d, err);
  if (rc == 0)
    rc = same(d, now, err);
  if (rc == 0) {
    d->backend->take_files(d, now);
    d->info = now->info;
    d->gone = false;
    luio_config_watch(d);
  }
  for (int i = 0; rc == 0 && i < LUIO_MAX_REGIONS; i++)
    if (d->regions[i])
      rc = luio_region_return(d, d->regions[i], err);
  if (rc < 0 && d->gone)
    luio_guard_gone(&d->slots); /* the slots may hold the new descriptors */
  else if (rc < 0)
    luio_device_gone(d);
  luio_device_free(now);
  return rc;
}

int luio_device_return(luio_device *d, luio_error *err)
{
  if (!d->gone)
    return 0;
  if (d->irqs)
    return luio_fail(err, EBUSY, "take %s again: its interrupt thread still runs", d->info.address);
  luio_vectors_off(d);
  if (d->dma && luio_dma_ends_with_device(d->dma))
    return luio_fail(err, ENOTSUP,
                     "take %s again: its DMA memory was its UIO driver's, and went with it: close "
                     "it and open it anew",
                     d->info.address);
  return d->backend->come_back ? d->backend->come_back(d, err) : open_anew(d, err);
}
