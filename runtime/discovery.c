/* discovery.c - what devices there are, by libudev.
 *
 * A listing is the UIO devices, each with its parent, and then every PCI device that no UIO driver
 * has: those can become one. What is said of each is describe.c's. Devices are never opened. */
#include "internal.h"

#include <ctype.h>
#include <errno.h>
#include <libudev.h>
#include <stdio.h>
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

static bool listed(const luio_list *list, const char *address)
{
  for (size_t i = 0; i < list->count; i++)
    if (!strcmp(list->infos[i].bus, "pci") && !strcmp(list->infos[i].address, address))
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
      if (uio) {
        luio_describe_uio(info, dev, hwdb);
      } else {
        luio_describe_pci(info, dev, hwdb);
      }
    }
    udev_device_unref(dev);
  }
  udev_enumerate_unref(e);
  return rc < 0 ? rc : 0;
}

/* By length first, which puts "uio2" before "uio10" and domain ffff before 10000; digits of a PCI address are
 * hexadecimal, which strverscmp does not know. */
static int by_length(const char *a, const char *b)
{
  size_t m = strlen(a), n = strlen(b);
  return m != n ? (m > n) - (m < n) : strcmp(a, b);
}

/* PCI first. Of several UIO devices of one PCI device the lowest number: that is the one its address means. */
static int by_address(const void *a, const void *b)
{
  const luio_info *x = a, *y = b;
  int pci = !strcmp(y->bus, "pci") - !strcmp(x->bus, "pci");
  if (pci)
    return pci;
  int address = by_length(x->address, y->address);
  return address ? address : by_length(x->uio, y->uio);
}

int luio_list_open(luio_list **out, luio_error *err)
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

/* ---- Finding one ------------------------------------------------------------------------------- */

static bool is_uio_address(const char *s)
{
  if (strncmp(s, "uio", 3) || !s[3] || strlen(s) > 12)
    return false;
  for (s += 3; *s; s++)
    if (!isdigit((unsigned char)*s))
      return false;
  return true;
}

/* "0000:00:04.0", and "00:04.0" in domain 0. Domains beyond ffff exist: Intel's VMD has 10000. */
static bool is_pci_address(const char *s, char *full, size_t size)
{
  unsigned domain = 0, bus, slot, function;
  int used = 0;
  if (s[strspn(s, "0123456789abcdefABCDEF:.")]) /* sscanf would take signs, blanks and 0x */
    return false;
  if (sscanf(s, "%8x:%2x:%2x.%1x%n", &domain, &bus, &slot, &function, &used) != 4 || s[used]) {
    domain = 0;
    used = 0;
    if (sscanf(s, "%2x:%2x.%1x%n", &bus, &slot, &function, &used) != 3 || s[used])
      return false;
  }
  return luio_format(full, size, "%04x:%02x:%02x.%x", domain, bus, slot, function);
}

int luio_find(const char *address, luio_info *out, luio_error *err)
{
  char bdf[64];
  bool pci = false;
  if (luio_devmem_is_address(address))
    return luio_devmem_find(address, out, err);
  if (!is_uio_address(address) && !(pci = is_pci_address(address, bdf, sizeof bdf))) {
    char shown[61];
    luio_format(shown, sizeof shown, "%s", address);
    luio_clean(shown);
    return luio_fail(err, EINVAL, "\"%s\" is not a device address: uio0 or 0000:00:04.0", shown);
  }
  luio_list *list;
  int rc = luio_list_open(&list, err);
  if (rc < 0)
    return rc;
  rc = -ENODEV;
  for (size_t i = 0; i < list->count && rc; i++) {
    const luio_info *info = &list->infos[i];
    if (!strcmp(pci ? info->address : info->uio, pci ? bdf : address)) {
      *out = *info;
      rc = 0;
    }
  }
  luio_list_close(list);
  return rc ? luio_fail(err, ENODEV, "there is no device %s: `luio list` shows what there is",
                        pci ? bdf : address)
            : 0;
}
