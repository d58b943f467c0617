/* devmem.c - a device that is a range of physical addresses: mem:0xADDR+0xLEN, by /dev/mem.
 *
 * For prototyping, as root, where no UIO driver exists. There is one region, the range, which begins at
 * its first byte and ends behind its last, whatever pages lie around it. The kernel knows of no device
 * there: no interrupt, no config space, no bus master to switch off, hence no DMA memory.
 *
 * Before anything is mapped, /proc/iomem is asked (iomem.c): RAM is refused, and what a kernel driver has
 * claimed, with its name; both however little of it lies in the range. So is, but for looking, the
 * BAR of a device that has a driver which did not claim it, as uio_pci_generic, and what UIO maps of a
 * UIO device's map: the proper way is at hand then. The kernel has checks of its own, which are explained when they
 * say no. A driver that claims the range later takes it away from us: where the kernel revokes the
 * mapping (CONFIG_IO_STRICT_DEVMEM) the next access raises SIGBUS, and luio_device_present sees it in
 * /proc/iomem in any case.
 *
 * The descriptor is opened with O_SYNC, by which the kernel maps uncached, and O_RDONLY to look. Two
 * owners of overlapping ranges are kept apart by a lock on just those bytes of /dev/mem. It belongs to
 * the descriptor (F_OFD_SETLK), for a process may have several such devices. */
#include "internal.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NODE "/dev/mem"
#define FORM "mem:0xADDR+0xLEN, as in mem:0xfea00000+0x1000"

enum { PHYSICAL_BITS = 52, ALIGNMENT = 8 };

static const luio_map *range_of(const luio_info *info)
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

/* ---- Who has it -------------------------------------------------------------------------------- */

/* What follows fills err with what comes behind "open mem:...: CODE: ". */

static int not_shown(luio_error *err)
{
  if (geteuid() != 0)
    return luio_fail(err, EACCES, NODE " is root's: run as root");
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
                     "0x%llx-0x%llx is %s (/proc/iomem): " NODE
                     " is for device registers; to share memory with a device there is DMA memory",
                     first, last, m->owner);
  if (m->device[0])
    return luio_fail(
        err, EBUSY,
        "the kernel driver %s has 0x%llx-0x%llx of %s (/proc/iomem): `luio bind %s` gives "
        "it to UIO, `luio unbind %s` leaves it free",
        m->owner, first, last, m->device, m->device, m->device);
  return luio_fail(err, EBUSY,
                   "%s has 0x%llx-0x%llx (/proc/iomem): if that is a driver, unbind it; what the "
                   "kernel itself has it does not give away",
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
  if (luio_list_open(&list, NULL) < 0)
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
  int rc = luio_iomem_look(range->addr, range->size, m);
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
  luio_format(info.node, sizeof info.node, NODE);
  info.capabilities = LUIO_CAN_LEAVE; /* a kernel driver can claim the range */
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

bool luio_devmem_claimed(const luio_device *d)
{
  luio_iomem m;
  const luio_map *range = range_of(&d->info);
  return luio_iomem_look(range->addr, range->size, &m) == 0 &&
         (m.verdict == IOMEM_CLAIMED || m.verdict == IOMEM_RAM);
}

/* ---- The lock ---------------------------------------------------------------------------------- */

/* Whether a process has a descriptor of /dev/mem with a lock in the range: its fdinfo says
 * "lock:	1: OFDLCK ADVISORY  WRITE -1 00:05:4 4271898624 4272947199". */
static bool holds(const char *pid, const luio_map *range)
{
  char path[320], target[16], line[256];
  luio_format(path, sizeof path, "/proc/%s/fd", pid);
  DIR *dir = opendir(path);
  bool found = false;
  for (struct dirent *e; dir && !found && (e = readdir(dir));) {
    luio_format(path, sizeof path, "/proc/%s/fd/%s", pid, e->d_name);
    ssize_t n = readlink(path, target, sizeof target);
    if (n != (ssize_t)strlen(NODE) || memcmp(target, NODE, (size_t)n))
      continue;
    luio_format(path, sizeof path, "/proc/%s/fdinfo/%s", pid, e->d_name);
    FILE *f = fopen(path, "re");
    while (f && fgets(line, sizeof line, f)) {
      unsigned long long first, last;
      found |= sscanf(line, "lock: %*d: OFDLCK %*s %*s %*d %*s %llu %llu", &first, &last) == 2 &&
               overlaps(range, first, last - first + 1);
    }
    if (f)
      fclose(f);
  }
  if (dir)
    closedir(dir);
  return found;
}

static int holder(const luio_map *range)
{
  DIR *proc = opendir("/proc");
  int pid = 0;
  for (struct dirent *e; proc && !pid && (e = readdir(proc));)
    if (isdigit((unsigned char)e->d_name[0]) && holds(e->d_name, range))
      pid = atoi(e->d_name);
  if (proc)
    closedir(proc);
  return pid;
}

static int take_lock(const luio_device *d, luio_error *err)
{
  const luio_map *range = range_of(&d->info);
  struct flock lock = {.l_type = F_WRLCK,
                       .l_whence = SEEK_SET,
                       .l_start = (off_t)range->addr,
                       .l_len = (off_t)range->size};
  if (fcntl(d->mem_fd, F_OFD_SETLK, &lock) == 0)
    return 0;
  if (errno != EAGAIN && errno != EACCES)
    return luio_fail(err, errno, "lock %s: %s", d->info.address, luio_errno_name(errno));
  int pid = holder(range);
  if (pid > 0)
    return luio_fail(err, EBUSY,
                     "open %s: EBUSY: process %d drives it, or some of it; stop that one, or open "
                     "read-only to look",
                     d->info.address, pid);
  return luio_fail(err, EBUSY, "open %s: EBUSY: another luio process drives it, or some of it",
                   d->info.address);
}

/* ---- Opening ----------------------------------------------------------------------------------- */

bool luio_locked_down(void)
{
  char lockdown[80] = "";
  luio_sysfs_text("/sys/kernel/security", "lockdown", lockdown, sizeof lockdown);
  return strstr(lockdown, "[integrity]") || strstr(lockdown, "[conf");
}

static int open_failed(const luio_device *d, int code, luio_error *err)
{
  const char *why = "see dmesg";
  if (code == EACCES)
    why = "it is root's: run as root";
  else if (code == ENOENT)
    why = "no such node: a container, or a kernel without CONFIG_DEVMEM; where it has that, `mknod "
          "-m 640 " NODE " c 1 1`";
  else if (code == ENXIO || code == ENODEV)
    why = "this kernel has no CONFIG_DEVMEM: give the device a UIO driver";
  else if (code == EPERM && luio_locked_down())
    why = "the kernel is locked down (secure boot): use a UIO driver that offers the region as a "
          "map, switch secure boot off, or boot without lockdown=";
  else if (code == EPERM)
    why = "this process has no CAP_SYS_RAWIO: is it in a container?";
  return luio_fail(err, code, "open %s: open " NODE ": %s: %s", d->info.address,
                   luio_errno_name(code), why);
}

static int allowed(const luio_device *d, bool drivers, luio_error *err)
{
  luio_error why;
  luio_iomem m;
  const luio_map *range = range_of(&d->info);
  int rc = ask_iomem(range, &m, &why);
  if (rc == 0 && drivers)
    rc = has_driver(range, &why);
  return rc == 0 ? 0
                 : luio_fail(err, -rc, "open %s: %s: %s", d->info.address, luio_errno_name(-rc),
                             why.message);
}

int luio_devmem_open(luio_device *d, luio_error *err)
{
  bool read_only = d->flags & LUIO_READ_ONLY;
  int rc = allowed(d, !read_only, err);
  if (rc < 0)
    return rc;
  d->mem_fd = open(NODE, (read_only ? O_RDONLY : O_RDWR) | O_SYNC | O_CLOEXEC);
  if (d->mem_fd < 0)
    return open_failed(d, errno, err);
  return read_only || d->flags & LUIO_SHARED ? 0 : take_lock(d, err);
}

int luio_devmem_region(luio_device *d, luio_region *r, luio_error *err)
{
  const luio_map *range = range_of(&d->info);
  r->addr = range->addr;
  r->size = range->size;
  luio_format(r->name, sizeof r->name, "memory by " NODE);
  int rc = allowed(d, false, err); /* once more: what has come since the device was opened counts */
  if (rc < 0)
    return rc;
  rc = luio_region_map(d, r, d->mem_fd, range->addr / LUIO_PAGE, range->offset, NODE, err);
  if (rc == -EPERM)
    return luio_fail(
        err, EPERM,
        "map %s: EPERM: the kernel keeps some page of it to itself. CONFIG_STRICT_DEVMEM: "
        "RAM; CONFIG_IO_STRICT_DEVMEM: a page in which a driver has claimed anything "
        "(`cat /proc/iomem`), which booting with iomem=relaxed allows. With a UIO driver "
        "neither is in the way",
        d->info.address);
  if (rc == -EINVAL)
    return luio_fail(
        err, EINVAL,
        "map %s: EINVAL: this machine has no such physical address, or the kernel has mapped "
        "it with another kind of caching",
        d->info.address);
  return rc;
}
