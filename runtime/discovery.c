/* discovery.c - all devices, by libudev.
 *
 * A listing has the UIO devices, each with its parent, then every PCI device without a UIO driver,
 * because it can be bound to one. describe.c fills in each. Devices are never opened. */
#include "kernel.h"

#include <errno.h>
#include <libudev.h>
#include <stdlib.h>
#include <string.h>

struct luio_list {
  size_t count, capacity;
  luio_info *infos;
};

/* ---- Listing ----------------------------------------------------------------------------------- */

static luio_info *append(luio_list *list)
{
  if (list->count == list->capacity) {
    size_t capacity = list->capacity ? list->capacity * 2 : 16;
    luio_info *infos = realloc(list->infos, capacity * sizeof *infos);
    if (!infos)
      return NULL;
    list->infos = infos;
    list->capacity = capacity;
  }
  return &list->infos[list->count++];
}

/* Whether it is known by its UIO device's name: PCI devices have an address of their own. */
static bool is_called_uio(const luio_info *info)
{
  return !strcmp(info->address, info->uio);
}

static bool listed(const luio_list *list, const char *address)
{
  for (size_t i = 0; i < list->count; i++)
    if (!is_called_uio(&list->infos[i]) && !strcmp(list->infos[i].address, address))
      return true;
  return false;
}

static int scan(luio_list *list, struct udev *udev, const char *subsystem, struct udev_hwdb *hwdb)
{
  struct udev_enumerate *e = udev_enumerate_new(udev);
  if (!e)
    return -ENOMEM;
  int rc = udev_enumerate_add_match_subsystem(e, subsystem);
  if (rc >= 0)
    rc = udev_enumerate_scan_devices(e);
  struct udev_list_entry *entry;
  udev_list_entry_foreach (entry, udev_enumerate_get_list_entry(e)) {
    struct udev_device *dev = udev_device_new_from_syspath(udev, udev_list_entry_get_name(entry));
    if (!dev)
      continue; /* gone since the scan */
    bool uio = !strcmp(subsystem, "uio");
    if (uio || !listed(list, udev_device_get_sysname(dev))) {
      luio_info *info = append(list);
      if (!info) {
        udev_device_unref(dev);
        rc = -ENOMEM;
        break;
      }
      luio_describe(info, dev, hwdb);
    }
    udev_device_unref(dev);
  }
  udev_enumerate_unref(e);
  return rc < 0 ? rc : 0;
}

/* PCI first. Of several UIO devices of one PCI device the lowest number: that is the one its address means. */
static int by_address(const void *a, const void *b)
{
  const luio_info *x = a, *y = b;
  int pci = is_called_uio(x) - is_called_uio(y);
  if (pci)
    return pci;
  int address = luio_compare_names(x->address, y->address);
  return address ? address : luio_compare_names(x->uio, y->uio);
}

int luio_discover(luio_list **out, void (*complete)(luio_info *info), luio_error *err)
{
  int room =
      luio_need_descriptors(8, "list devices", err); /* libudev leaves out what it can't read */
  if (room < 0)
    return room;
  luio_list *list = calloc(1, sizeof *list);
  struct udev *udev = udev_new();
  struct udev_hwdb *hwdb = udev ? udev_hwdb_new(udev) : NULL; /* none installed: no human names */
  int rc = list && udev ? 0 : -ENOMEM;
  if (rc == 0)
    rc = scan(list, udev, "uio", hwdb);
  if (rc == 0)
    rc = scan(list, udev, "pci", hwdb);
  udev_hwdb_unref(hwdb);
  udev_unref(udev);
  if (rc < 0) {
    luio_list_close(list);
    return luio_fail(err, -rc, "list devices by libudev: %s%s", luio_errno_name(-rc),
                     rc == -ENOENT ? ": is /sys mounted?" : "");
  }
  for (size_t i = 0; complete && i < list->count; i++)
    complete(&list->infos[i]);
  if (list->count)
    qsort(list->infos, list->count, sizeof *list->infos, by_address);
  *out = list;
  return 0;
}

size_t luio_list_count(const luio_list *list)
{
  return list->count;
}

const luio_info *luio_list_get(const luio_list *list, size_t i)
{
  return i < list->count ? &list->infos[i] : NULL;
}

void luio_list_close(luio_list *list)
{
  if (!list)
    return;
  free(list->infos);
  free(list);
}
