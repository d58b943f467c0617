/* find.c - all devices, and one by its address, with the capabilities of the way that leads to it.
 *
 * For one device, libudev reads that device only. A PCI address means its UIO device, if it has one: the one with the
 * lowest number, as in a listing. */
#include "device.h"

#include <ctype.h>
#include <errno.h>
#include <libudev.h>
#include <stdio.h>
#include <string.h>

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

/* The UIO device of a PCI device: among those whose parent it is, that with the lowest number. NULL: it has none. */
static struct udev_device *uio_of(struct udev *udev, struct udev_device *pci)
{
  const char *path = udev_device_get_syspath(pci);
  struct udev_device *lowest = NULL;
  struct udev_enumerate *e = udev_enumerate_new(udev);
  if (!e || udev_enumerate_add_match_parent(e, pci) < 0 ||
      udev_enumerate_add_match_subsystem(e, "uio") < 0 || udev_enumerate_scan_devices(e) < 0) {
    udev_enumerate_unref(e);
    return NULL;
  }
  struct udev_list_entry *entry;
  udev_list_entry_foreach (entry, udev_enumerate_get_list_entry(e)) {
    struct udev_device *uio = udev_device_new_from_syspath(udev, udev_list_entry_get_name(entry));
    struct udev_device *parent = uio ? udev_device_get_parent(uio) : NULL; /* borrowed from uio */
    bool ours = parent && !strcmp(udev_device_get_syspath(parent), path);
    if (ours && (!lowest || luio_compare_names(udev_device_get_sysname(uio),
                                               udev_device_get_sysname(lowest)) < 0)) {
      udev_device_unref(lowest);
      lowest = udev_device_ref(uio);
    }
    udev_device_unref(uio);
  }
  udev_enumerate_unref(e);
  return lowest;
}

static void set_capabilities(luio_info *info)
{
  info->capabilities = luio_backend_of(info)->capabilities;
}

int luio_list_open(luio_list **out, luio_error *err)
{
  return luio_discover(out, set_capabilities, err);
}

/* Of a known form. */
static int find(struct udev *udev, const char *subsystem, const char *name, luio_info *out)
{
  struct udev_device *dev = udev_device_new_from_subsystem_sysname(udev, subsystem, name);
  if (!dev)
    return errno == ENOENT ? -ENODEV : -errno;
  struct udev_device *uio = strcmp(subsystem, "pci") ? NULL : uio_of(udev, dev);
  struct udev_hwdb *hwdb = udev_hwdb_new(udev); /* none installed: no human names */
  luio_describe(out, uio ? uio : dev, hwdb);
  set_capabilities(out);
  udev_hwdb_unref(hwdb);
  udev_device_unref(uio);
  udev_device_unref(dev);
  return 0;
}

int luio_find(const char *address, luio_info *out, luio_error *err)
{
  char bdf[64];
  if (luio_devmem_is_address(address)) {
    int found = luio_devmem_find(address, out, err);
    if (found == 0)
      set_capabilities(out);
    return found;
  }
  bool pci = is_pci_address(address, bdf, sizeof bdf);
  if (!pci && !is_uio_address(address)) {
    char shown[61];
    luio_format(shown, sizeof shown, "%s", address);
    luio_clean(shown);
    return luio_fail(err, EINVAL, "\"%s\" is not a device address: uio0 or 0000:00:04.0", shown);
  }
  const char *name = pci ? bdf : address;
  char what[96];
  luio_format(what, sizeof what, "find %s", name);
  int rc = luio_need_descriptors(8, what, err); /* libudev leaves out what it can't read */
  if (rc < 0)
    return rc;
  struct udev *udev = udev_new();
  rc = udev ? find(udev, pci ? "pci" : "uio", name, out) : -ENOMEM;
  udev_unref(udev);
  if (rc == -ENODEV)
    return luio_fail(err, ENODEV, "there is no device %s: `luio list` shows what there is", name);
  return rc == 0 ? 0 : luio_fail(err, -rc, "find %s by libudev: %s", name, luio_errno_name(-rc));
}
