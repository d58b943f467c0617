/* devmem.c - ranges of physical addresses, mem:0xADDR+0xLEN: parses the address, and decides whether the range is allowed.
 *
 * For prototyping, as root, where no UIO driver exists; backend_mem.c opens them. /proc/iomem is read before a range is
 * mapped (iomem.c). luio refuses RAM and ranges that a kernel driver has claimed, even if they overlap the range by one
 * byte; the error names the driver. Except for reading, luio also refuses BARs of a device whose driver did not claim
 * them (uio_pci_generic), and the maps of a UIO device, because these can be opened by PCI address or UIO name. The
 * kernel makes checks of its own; the error explains a refusal. */
#include "kernel.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FORM "mem:0xADDR+0xLEN, as in mem:0xfea00000+0x1000"

enum { PHYSICAL_BITS = 52, ALIGNMENT = 8 };

const luio_map *luio_devmem_range(const luio_info *info)
{
  return &info->maps[0];
}

/* ---- The address ------------------------------------------------------------------------------- */

bool luio_devmem_is_address(const char *s)
{
  return !strncmp(s, "mem:", 4);
}

/* "0x" and hexadecimal digits. -ERANGE: more than 64 bits. */
static int parse_hex(const char **s, uint64_t *value)
{
  const char *p = *s;
  if (p[0] != '0' || p[1] != 'x' || !isxdigit((unsigned char)p[2]))
    return -EINVAL;
  size_t digits = strspn(p + 2, "0123456789abcdefABCDEF");
  char *end;
  errno = 0;
  *value = strtoull(p, &end, 16);
  *s = p + 2 + digits;
  return errno == ERANGE ? -ERANGE : 0;
}

static int parse(const char *address, uint64_t *addr, uint64_t *size, luio_error *err)
{
  const char *s = address + 4;
  char shown[61];
  luio_format(shown, sizeof shown, "%s", address);
  luio_clean(shown);
  int addr_rc = parse_hex(&s, addr);
  if (addr_rc == -EINVAL)
    return luio_fail(err, EINVAL, "%s: the address is not hexadecimal: " FORM, shown);
  if (!*s)
    return luio_fail(err, EINVAL, "%s: the range has no length: " FORM, shown);
  if (*s++ != '+')
    return luio_fail(err, EINVAL, "%s: between address and length is a +: " FORM, shown);
  int size_rc = parse_hex(&s, size);
  if (size_rc == -EINVAL || *s)
    return luio_fail(err, EINVAL, "%s: the length is not hexadecimal: " FORM, shown);
  uint64_t limit = 1ull << PHYSICAL_BITS;
  if (addr_rc < 0 || size_rc < 0 || *addr >= limit || *size > limit - *addr)
    return luio_fail(err, EINVAL, "%s: the range ends beyond the last physical address, %d bits",
                     shown, PHYSICAL_BITS);
  if (!*size)
    return luio_fail(err, EINVAL, "%s: a range of 0 bytes", shown);
  if (*addr % ALIGNMENT)
    return luio_fail(
        err, EINVAL,
        "%s: 0x%llx is not a multiple of %d, so no access in it would be aligned as its "
        "offset is: begin at 0x%llx",
        shown, (unsigned long long)*addr, ALIGNMENT,
        (unsigned long long)(*addr - *addr % ALIGNMENT));
  return 0;
}

/* ---- Owner of the range -------------------------------------------------------------------------------- */

/* The functions below fill err with the text behind "open mem:...: CODE: ". */

static int not_shown(luio_error *err)
{
  if (geteuid() != 0)
    return luio_fail(err, EACCES, LUIO_DEVMEM " is root's: run as root");
  return luio_fail(
      err, EPERM,
      "/proc/iomem hides its addresses (all are 0), so what is there can't be checked: "
      "this process has no CAP_SYS_ADMIN: is it in a container?");
}

static int claimed(const luio_iomem *m, luio_error *err)
{
  unsigned long long first = m->first, last = m->last;
  if (m->verdict == IOMEM_RAM)
    return luio_fail(err, EPERM,
                     "0x%llx-0x%llx is %s (/proc/iomem): " LUIO_DEVMEM
                     " is for device registers; to share memory with a device there is DMA memory",
                     first, last, m->owner);
  if (m->device[0])
    return luio_fail(
        err, EBUSY,
        "the kernel driver %s has 0x%llx-0x%llx of %s (/proc/iomem): `luio bind %s` gives "
        "it to UIO, `luio unbind %s` leaves it free",
        m->owner, first, last, m->device, m->device, m->device);
  return luio_fail(
      err, EBUSY,
      "%s has 0x%llx-0x%llx (/proc/iomem): if that is a driver, unbind it; ranges that "
      "the kernel itself uses cannot be released",
      m->owner, first, last);
}

static bool overlaps(const luio_map *range, uint64_t addr, uint64_t size)
{
  return size && addr <= range->addr + range->size - 1 && range->addr <= addr + size - 1;
}

/* A device in sysfs with a driver that is there, though it claimed nothing. */
static int has_driver(const luio_map *range, luio_error *err)
{
  luio_list *list;
  int rc = 0;
  if (luio_discover(&list, NULL, NULL) < 0)
    return 0; /* a machine without sysfs has none */
  for (size_t i = 0; rc == 0 && i < luio_list_count(list); i++) {
    const luio_info *info = luio_list_get(list, i);
    const char *driver = info->driver[0] ? info->driver : info->uio_name;
    bool here = false;
    for (int j = 0; info->driver[0] && j < LUIO_MAX_BARS; j++)
      here |= info->bars[j].kind == LUIO_BAR_MEM &&
              overlaps(range, info->bars[j].addr, info->bars[j].size);
    for (int j = 0; j < LUIO_MAX_MAPS; j++)
      here |= info->maps[j].present &&
              overlaps(range, info->maps[j].addr, luio_map_reach(&info->maps[j]));
    if (here && info->uio[0])
      rc = luio_fail(err, EBUSY, "%s is there, and %s has it: open %s instead, or this read-only",
                     info->address, driver, info->address);
    else if (here)
      rc = luio_fail(
          err, EBUSY,
          "%s is there, and the kernel driver %s has it: `luio unbind %s` leaves it free; "
          "or open read-only to look",
          info->address, driver, info->address);
  }
  luio_list_close(list);
  return rc;
}

/* 0: it may be mapped, as far as /proc/iomem goes. *m is filled in any case. */
static int ask_iomem(const luio_map *range, luio_iomem *m, luio_error *err)
{
  int rc = luio_iomem_query(range->addr, range->size, m);
  if (rc == -EACCES)
    return not_shown(err);
  if (rc < 0)
    return luio_fail(
        err, -rc, "/proc/iomem can't be %s, so what is there can't be checked: is /proc mounted?",
        rc == -EBADMSG ? "understood" : "read");
  if (m->verdict == IOMEM_HIDDEN)
    return not_shown(err);
  return m->verdict == IOMEM_FREE ? 0 : claimed(m, err);
}

int luio_devmem_find(const char *address, luio_info *out, luio_error *err)
{
  luio_info info = {.numa_node = -1, .n_maps = 1};
  luio_map *range = &info.maps[0];
  luio_error why;
  luio_iomem m;
  int rc = parse(address, &range->addr, &range->size, err);
  if (rc < 0)
    return rc;
  range->length = range->size;
  luio_format(info.address, sizeof info.address, "mem:0x%llx+0x%llx",
              (unsigned long long)range->addr, (unsigned long long)range->size);
  luio_format(info.bus, sizeof info.bus, "mem");
  luio_format(info.node, sizeof info.node, LUIO_DEVMEM);
  range->present = 1;
  range->offset = range->addr & (LUIO_PAGE - 1);
  rc = ask_iomem(range, &m, &why);
  luio_format(range->name, sizeof range->name, "%s", m.name);
  if (m.verdict == IOMEM_CLAIMED)
    luio_format(info.driver, sizeof info.driver, "%s", m.owner);
  if (rc == 0)
    rc = has_driver(range, &why);
  if (rc < 0)
    luio_format(info.problem, sizeof info.problem, "%s", why.message);
  for (int i = 0; i < LUIO_MAX_BARS; i++)
    info.bars[i].map = -1;
  *out = info;
  return 0;
}

int luio_devmem_allowed(const luio_device *d, bool drivers, luio_error *err)
{
  luio_error why;
  luio_iomem m;
  const luio_map *range = luio_devmem_range(&d->info);
  int rc = ask_iomem(range, &m, &why);
  if (rc == 0 && drivers)
    rc = has_driver(range, &why);
  return rc == 0 ? 0
                 : luio_fail(err, -rc, "open %s: %s: %s", d->info.address, luio_errno_name(-rc),
                             why.message);
}

bool luio_devmem_claimed(const luio_device *d)
{
  luio_iomem m;
  const luio_map *range = luio_devmem_range(&d->info);
  return luio_iomem_query(range->addr, range->size, &m) == 0 &&
         (m.verdict == IOMEM_CLAIMED || m.verdict == IOMEM_RAM);
}
