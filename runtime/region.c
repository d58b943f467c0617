/* region.c - opening a span of device memory, whichever way leads to it.
 *
 * On PCI, region N is BAR N. A memory BAR is mapped through /dev/uioX where the UIO driver offers
 * it as a map (matched by address: map N need not be BAR N), because that still works when secure
 * boot locks sysfs; else through sysfs resourceN. uio_pci_generic offers only 32-bit
 * non-prefetchable BARs, and none before Linux 5.x, so the second way is not an exception. I/O
 * BARs are reached by port instructions, and where a thread may not use these through resourceN, one
 * pread or pwrite per port access (port.c). Elsewhere, region N is UIO map N, and behind the last map
 * come the ports: a UIO device that has only those has port N as region N, as its PCI relative has BAR N. By
 * /dev/mem (devmem.c) there is one, the range that was named.
 *
 * A UIO map is mapped at file offset N pages, whole pages only (luio_map_reach); its first byte is `offset`
 * bytes into them. The map's stated size is often rounded up, the BAR's never: the BAR's counts, or what
 * the device tree says (devicetree.c). */
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int luio_region_kind(const luio_region *r)
{
  return r->kind;
}

uint64_t luio_region_size(const luio_region *r)
{
  return r->size;
}

uint64_t luio_region_addr(const luio_region *r)
{
  return r->addr;
}

int luio_region_writable(const luio_region *r)
{
  return r->writable;
}

const char *luio_region_name(const luio_region *r)
{
  return r->name;
}

volatile void *luio_region_base(const luio_region *r)
{
  return r->base;
}

bool luio_is_there(const luio_device *d)
{
  char dir[64];
  luio_format(dir, sizeof dir, "/sys/class/uio/%s", d->info.uio);
  if (d->mem_fd >= 0)
    return true;
  return access(d->info.sysfs, F_OK) == 0 && (!d->info.uio[0] || access(dir, F_OK) == 0);
}

/* sysfs gives no mapping of what a driver has claimed for itself: EINVAL. The same code has other causes. */
static void claimed(const luio_device *d, const luio_region *r, char *to, size_t size)
{
  luio_iomem m = {0};
  const char *driver = d->info.driver, *address = d->info.address;
  bool hidden = luio_iomem_look(r->addr, r->size, &m) < 0 || m.verdict == IOMEM_HIDDEN;
  bool kernels = driver[0] && !d->info.uio[0];
  if (m.verdict == IOMEM_CLAIMED && d->info.uio[0])
    luio_format(to, size,
                "%s has claimed it (/proc/iomem), and so the kernel lets nobody else map it: boot "
                "with iomem=relaxed, or use a UIO driver that offers it as a map",
                m.owner);
  else if (kernels && (hidden || m.verdict == IOMEM_CLAIMED))
    luio_format(to, size,
                "the kernel driver %s %s claimed it: `luio bind %s` gives the device to "
                "uio_pci_generic",
                driver, hidden ? "may have" : "has", address);
  else if (m.verdict == IOMEM_CLAIMED)
    luio_format(to, size, "%s has claimed it (/proc/iomem)", m.owner);
  else
    luio_format(to, size, "the kernel does not offer this region for mapping");
}

/* Why a region can't be opened or mapped, and what to do, in `to`. Where the code has several causes the device's state tells
 * which it is; a cause that is not known is not named. d: NULL where only the code is known. */
static const char *remedy(const luio_device *d, const luio_region *r, int code, bool resource,
                          char *to, size_t size)
{
  bool there = !d || luio_is_there(d);
  const char *why = "see dmesg";
  if (code == EACCES)
    why = resource ? "sysfs resources are root's: run as root"
                   : "run as root, or give the file to a group you are in with a udev rule";
  else if (code == EPERM && luio_locked_down())
    why = "kernel lockdown (secure boot) forbids it: use a UIO driver that offers the region as "
          "a map, or boot without lockdown";
  else if (code == EPERM)
    why = "this process may not: is it in a container?";
  else if (!there || (!d && (code == ENODEV || code == ENOENT)))
    why = "the device is gone: list again";
  else if (code == ENODEV)
    why = "the kernel has no mapping of it to give";
  else if (code == ENOMEM)
    why = "too little address space (ulimit -v), or too many mappings (sysctl vm.max_map_count)";
  luio_format(to, size, "%s", why);
  if (code == EINVAL && there && d && resource)
    claimed(d, r, to, size);
  return to;
}

int luio_region_map(const luio_device *d, luio_region *r, int fd, uint64_t page_index,
                    uint64_t first, const char *path, luio_error *err)
{
  uint64_t span = (first + r->size + LUIO_PAGE - 1) & ~(LUIO_PAGE - 1);
  if (r->size == 0 || span < r->size || span > (uint64_t)1 << 46)
    return luio_fail(err, ERANGE, "map %s of %s: a size of 0x%llx bytes makes no sense", r->name,
                     r->device, (unsigned long long)r->size);
  int prot = PROT_READ | (r->writable ? PROT_WRITE : 0);
  void *p = mmap(NULL, span, prot, MAP_SHARED, fd, (off_t)(page_index * LUIO_PAGE));
  if (p == MAP_FAILED) {
    int code = errno;
    char why[256];
    remedy(d, r, code, strstr(path, "/resource") != NULL, why, sizeof why);
    return luio_fail(err, code, "map %s of %s: mmap %s, 0x%llx bytes: %s: %s", r->name, r->device,
                     path, (unsigned long long)span, luio_errno_name(code), why);
  }
  /* A child must not hold, nor core dumps read, device memory: reading it can have side effects. */
  madvise(p, span, MADV_DONTFORK);
  madvise(p, span, MADV_DONTDUMP);
  r->map = p;
  r->map_size = span;
  r->base = (volatile uint8_t *)p + first;
  return 0;
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
                     why ? why : remedy(d, r, code, true, text, sizeof text));
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

/* To look, resourceN is taken: closing /dev/uioX would clear the bus master of whoever drives the
 * device. Under lockdown only the UIO map is left. It does where bus master is off, for lockdown lets
 * no process switch it on. The error of resourceN stays when it does not. */
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
    r->kind = LUIO_REGION_PORT;
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

/* What UIO does not map: its reason, and the other way. */
static int no_whole_pages(luio_device *d, const luio_region *r, int code, luio_error *err)
{
  const luio_map *m = &d->info.maps[r->index];
  unsigned long long at = r->addr & ~7ull, end = r->addr + m->length;
  char why[96];
  if (code == ENODEV)
    luio_format(why, sizeof why, "begins at 0x%llx, within a page", (unsigned long long)m->addr);
  else
    luio_format(why, sizeof why, "has 0x%llx bytes", (unsigned long long)m->size);
  return luio_fail(err, code,
                   "map map%u of %s: mmap /dev/%s: %s: UIO maps whole pages, and this %s; as root "
                   "mem:0x%llx+0x%llx reaches it, by /dev/mem",
                   r->index, r->device, d->info.uio, luio_errno_name(code), why, at, end - at);
}

/* Memory of the kernel's own UIO rounds up to pages; physical memory it takes as it is stated, ENODEV where that does not begin
 * with a page, EINVAL for a page that it has only in part (uio_mmap_physical). Then the whole pages there are will do. */
static int open_map(luio_device *d, luio_region *r, luio_error *err)
{
  const luio_map *m = &d->info.maps[r->index];
  uint64_t within = m->addr & (LUIO_PAGE - 1), reach = luio_map_reach(m);
  /* uio_pdrv_genirq gives the page and the offset in it, others both in one. */
  uint64_t first = m->offset ? m->offset : within;
  char path[64];
  r->addr = m->addr + (within ? 0 : m->offset);
  r->size = m->length;
  luio_format(r->name, sizeof r->name, "map%u", r->index);
  luio_format(path, sizeof path, "/dev/%s", d->info.uio);
  int rc = luio_region_map(d, r, d->uio_fd, r->index, first, path, err);
  if (rc == -EINVAL && m->size & (LUIO_PAGE - 1) && reach > first) {
    r->size = reach - first;
    luio_format(r->name, sizeof r->name, "map%u, the whole pages of its 0x%llx bytes", r->index,
                (unsigned long long)m->size);
    rc = luio_region_map(d, r, d->uio_fd, r->index, first, path, err);
  }
  bool odd = (rc == -ENODEV && within) || (rc == -EINVAL && m->size & (LUIO_PAGE - 1));
  return odd && luio_is_there(d) ? no_whole_pages(d, r, -rc, err) : rc;
}

/* The first region that is not a map. */
static unsigned first_port(const luio_device *d)
{
  unsigned n = LUIO_MAX_MAPS;
  while (n > 0 && !d->info.maps[n - 1].present)
    n--;
  return n;
}

static int open_port(luio_device *d, luio_region *r, luio_error *err)
{
  unsigned i = r->index - first_port(d);
  const luio_port *p = &d->info.ports[i];
  r->kind = LUIO_REGION_PORT;
  r->addr = p->start;
  r->size = p->size;
  luio_format(r->name, sizeof r->name, "port%u by port instructions", i);
  /* The kernel names what kind of port it is: only of one does it say how they are reached. */
  if (strcmp(p->porttype, "port_x86"))
    return luio_fail(err, ENOTSUP,
                     "open port%u of %s: it is a %s: only its UIO driver's own way leads there", i,
                     r->device, p->porttype[0] ? p->porttype : "port of no known type");
  int rc = luio_port_open(r);
  if (rc == 0)
    return 0;
  return luio_fail(err, -rc, "open port%u of %s: ioperm of 0x%llx+0x%llx: %s: %s", i, r->device,
                   (unsigned long long)r->addr, (unsigned long long)r->size, luio_errno_name(-rc),
                   rc == -EPERM    ? "it takes CAP_SYS_RAWIO, which root has, and no lockdown "
                                     "(secure boot)"
                   : rc == -ENOSYS ? "this processor has no port instructions"
                                   : "see dmesg");
}

static int open_sim(luio_device *d, luio_region *r)
{
  r->kind = LUIO_REGION_SIM;
  r->addr = d->info.bars[r->index].addr;
  r->size = d->info.bars[r->index].size;
  r->sim = d->sim;
  luio_format(r->name, sizeof r->name, "region%u", r->index);
  return 0;
}

static bool exists(const luio_device *d, unsigned index)
{
  if (d->sim || !strcmp(d->info.bus, "pci"))
    return index < LUIO_MAX_BARS && d->info.bars[index].kind != LUIO_BAR_NONE;
  unsigned n = first_port(d);
  if (index < n)
    return d->info.maps[index].present;
  return index < n + LUIO_MAX_PORTS && d->info.ports[index - n].present;
}

static int open_region(luio_device *d, luio_region *r, unsigned index, luio_error *err)
{
  r->kind = LUIO_REGION_MEMORY;
  r->index = index;
  r->fd = -1;
  r->writable = !(d->flags & LUIO_READ_ONLY);
  r->fault = UINT64_MAX;
  luio_format(r->device, sizeof r->device, "%s", d->info.address);
  if (d->sim)
    return open_sim(d, r);
  if (!strcmp(d->info.bus, "mem"))
    return luio_devmem_region(d, r, err);
  if (!strcmp(d->info.bus, "pci"))
    return open_bar(d, r, err);
  return index < first_port(d) ? open_map(d, r, err) : open_port(d, r, err);
}

int luio_device_region(luio_device *d, unsigned index, luio_region **out, luio_error *err)
{
  if (index < LUIO_MAX_REGIONS && d->regions[index]) {
    *out = d->regions[index];
    return 0;
  }
  if (!exists(d, index)) {
    char have[64] = "";
    for (unsigned i = 0; i < LUIO_MAX_REGIONS; i++) {
      size_t n = strlen(have);
      if (exists(d, i))
        luio_format(have + n, sizeof have - n, " %u", i);
    }
    return luio_fail(err, ENOENT, "%s has no region %u; it has:%s", d->info.address, index,
                     have[0] ? have : " none");
  }
  if (d->gone)
    return luio_fail(err, ENODEV, "open region %u of %s: the device is gone", index,
                     d->info.address);
  luio_region *r = calloc(1, sizeof *r);
  if (!r)
    return luio_fail(err, ENOMEM, "open region %u of %s: out of memory", index, d->info.address);
  int rc = open_region(d, r, index, err);
  if (rc == 0 && r->map)
    rc = luio_sigbus_add(r, err);
  if (rc < 0) {
    luio_region_free(r);
    return rc;
  }
  *out = d->regions[index] = r;
  return 0;
}

/* The new mapping is made elsewhere first: one that fails leaves the placeholder in place. */
int luio_region_return(luio_device *d, luio_region *r, luio_error *err)
{
  luio_region n = {0};
  if (!exists(d, r->index))
    return luio_fail(err, ENODEV, "%s came back without its region %u: another device?",
                     d->info.address, r->index);
  int rc = open_region(d, &n, r->index, err);
  if (rc < 0)
    return rc;
  if (n.kind != r->kind) {
    rc = luio_fail(err, ENODEV, "region %u of %s came back as another kind: another device?",
                   r->index, d->info.address);
    goto fail;
  }
  if (n.map && n.map_size == r->map_size &&
      mremap(n.map, n.map_size, n.map_size, MREMAP_MAYMOVE | MREMAP_FIXED, r->map) == r->map) {
    n.base = (volatile uint8_t *)r->map + (n.base - (volatile uint8_t *)n.map);
    n.map = r->map;
  } else if (n.map) {
    luio_sigbus_remove(r);
    munmap(r->map, r->map_size);
    r->map = n.map;
    r->map_size = n.map_size;
    rc = luio_sigbus_add(r, err);
  }
  luio_port_close(&n);
  luio_port_close(r);
  r->size = n.size;
  r->addr = n.addr;
  r->base = n.base;
  if (r->kind == LUIO_REGION_PORT)
    luio_port_open(r); /* as it was allowed a moment ago, or by resourceN */
  memcpy(r->name, n.name, sizeof r->name);
  memcpy(r->device, n.device, sizeof r->device);
  if (n.fd >= 0) {
    if (r->fd >= 0)
      close(r->fd);
    r->fd = n.fd;
  }
  r->fault = UINT64_MAX;
  r->gone = false;
  return rc;

fail:
  luio_port_close(&n);
  if (n.map)
    munmap(n.map, n.map_size);
  if (n.fd >= 0)
    close(n.fd);
  return rc;
}

void luio_region_free(luio_region *r)
{
  if (!r)
    return;
  luio_sigbus_remove(r);
  luio_port_close(r);
  if (r->map)
    munmap(r->map, r->map_size);
  if (r->fd >= 0)
    close(r->fd);
  free(r);
}

int luio_region_gone(const luio_region *r)
{
  return r->gone;
}

uint64_t luio_region_fault(const luio_region *r)
{
  return r->fault;
}

/* ---- Checked access --------------------------------------------------------------------------- */

static int check(const luio_region *r, uint64_t offset, unsigned width, const char *verb,
                 luio_error *err)
{
  if (width != 8 && width != 16 && width != 32 && width != 64)
    return luio_fail(err, EINVAL, "%s %s %s: there is no access of %u bits: 8, 16, 32 or 64", verb,
                     r->device, r->name, width);
  unsigned bytes = width / 8;
  if (offset > r->size || r->size - offset < bytes)
    return luio_fail(err, ERANGE, "%s%u %s %s: offset 0x%llx is outside its 0x%llx bytes", verb,
                     width, r->device, r->name, (unsigned long long)offset,
                     (unsigned long long)r->size);
  if (offset % bytes)
    return luio_fail(err, EINVAL, "%s%u %s %s: offset 0x%llx is not aligned to %u bytes", verb,
                     width, r->device, r->name, (unsigned long long)offset, bytes);
  if (r->kind == LUIO_REGION_PORT && width == 64)
    return luio_fail(err, EINVAL, "%s64 %s %s: port I/O has no access of 64 bits", verb, r->device,
                     r->name);
  return 0;
}

static int gone(const luio_region *r, const char *verb, unsigned width, uint64_t offset,
                luio_error *err)
{
  uint64_t fault = r->fault;
  if (fault != UINT64_MAX)
    return luio_fail(err, ENODEV, "%s%u %s %s at 0x%llx: the device is gone (SIGBUS at 0x%llx)",
                     verb, width, r->device, r->name, (unsigned long long)offset,
                     (unsigned long long)fault);
  return luio_fail(err, ENODEV, "%s%u %s %s at 0x%llx: the device is gone", verb, width, r->device,
                   r->name, (unsigned long long)offset);
}

static int port_failed(const luio_region *r, ssize_t got, const char *verb, uint64_t offset,
                       luio_error *err)
{
  if (r->fd < 0)
    return luio_fail(err, EPERM,
                     "%s %s %s at 0x%llx: EPERM: this thread may not use its ports, and root was "
                     "given up before it asked",
                     verb, r->device, r->name, (unsigned long long)offset);
  int code = got < 0 ? errno : EIO;
  char why[256];
  return luio_fail(err, code, "%s %s %s at 0x%llx: %s: %s", verb, r->device, r->name,
                   (unsigned long long)offset, luio_errno_name(code),
                   remedy(NULL, r, code, true, why, sizeof why));
}

static int read_port(luio_region *r, uint64_t offset, unsigned width, uint64_t *value,
                     luio_error *err)
{
  if (luio_port_usable(r)) {
    *value = luio_port_in(r->addr + offset, width);
    return 0;
  }
  union {
    uint8_t u8;
    uint16_t u16;
    uint32_t u32;
  } v = {0};
  ssize_t got = r->fd < 0 ? -1 : pread(r->fd, &v, width / 8, (off_t)offset);
  if (got != (ssize_t)(width / 8))
    return port_failed(r, got, "read", offset, err);
  *value = width == 8 ? v.u8 : width == 16 ? v.u16 : v.u32;
  return 0;
}

static int write_port(luio_region *r, uint64_t offset, unsigned width, uint64_t value,
                      luio_error *err)
{
  if (luio_port_usable(r)) {
    luio_port_out(r->addr + offset, width, value);
    return 0;
  }
  uint8_t u8 = (uint8_t)value;
  uint16_t u16 = (uint16_t)value;
  uint32_t u32 = (uint32_t)value;
  const void *from = width == 8 ? (void *)&u8 : width == 16 ? (void *)&u16 : (void *)&u32;
  ssize_t got = r->fd < 0 ? -1 : pwrite(r->fd, from, width / 8, (off_t)offset);
  return got == (ssize_t)(width / 8) ? 0 : port_failed(r, got, "write", offset, err);
}

int luio_region_read(luio_region *r, uint64_t offset, unsigned width, uint64_t *value,
                     luio_error *err)
{
  int rc = check(r, offset, width, "read", err);
  if (rc < 0)
    return rc;
  if (r->gone)
    return gone(r, "read", width, offset, err);
  if (r->kind == LUIO_REGION_SIM)
    return luio_sim_access(r->sim, LUIO_SIM_READ, r, offset, width, value, err);
  if (r->kind == LUIO_REGION_PORT)
    return read_port(r, offset, width, value, err);
  const volatile uint8_t *p = r->base + offset;
  switch (width) {
  case 8: *value = luio_read8(p); break;
  case 16: *value = luio_read16(p); break;
  case 32: *value = luio_read32(p); break;
  default: *value = luio_read64(p); break;
  }
  /* All ones may be a register, or what reading a missing device gives. */
  if (*value == UINT64_MAX >> (64 - width) && r->gone)
    return gone(r, "read", width, offset, err);
  return 0;
}

int luio_region_write(luio_region *r, uint64_t offset, unsigned width, uint64_t value,
                      luio_error *err)
{
  int rc = check(r, offset, width, "write", err);
  if (rc < 0)
    return rc;
  if (!r->writable)
    return luio_fail(err, EACCES, "write%u %s %s: the device was opened read-only", width,
                     r->device, r->name);
  if (width < 64 && value >> width)
    return luio_fail(err, EINVAL, "write%u %s %s: 0x%llx does not fit in %u bits", width, r->device,
                     r->name, (unsigned long long)value, width);
  if (r->gone)
    return gone(r, "write", width, offset, err);
  if (r->kind == LUIO_REGION_SIM)
    return luio_sim_access(r->sim, LUIO_SIM_WRITE, r, offset, width, &value, err);
  if (r->kind == LUIO_REGION_PORT)
    return write_port(r, offset, width, value, err);
  volatile uint8_t *p = r->base + offset;
  switch (width) {
  case 8: luio_write8(p, (uint8_t)value); break;
  case 16: luio_write16(p, (uint16_t)value); break;
  case 32: luio_write32(p, (uint32_t)value); break;
  default: luio_write64(p, value); break;
  }
  return r->gone ? gone(r, "write", width, offset, err) : 0;
}

/* ---- Many accesses of one register ------------------------------------------------------------- */

static uint64_t element(const void *from, unsigned width, uint64_t i)
{
  switch (width) {
  case 8: return ((const uint8_t *)from)[i];
  case 16: return ((const uint16_t *)from)[i];
  case 32: return ((const uint32_t *)from)[i];
  default: return ((const uint64_t *)from)[i];
  }
}

static void set_element(void *to, unsigned width, uint64_t i, uint64_t value)
{
  switch (width) {
  case 8: ((uint8_t *)to)[i] = (uint8_t)value; break;
  case 16: ((uint16_t *)to)[i] = (uint16_t)value; break;
  case 32: ((uint32_t *)to)[i] = (uint32_t)value; break;
  default: ((uint64_t *)to)[i] = value; break;
  }
}

int luio_region_read_many(luio_region *r, uint64_t offset, unsigned width, void *to, uint64_t n,
                          luio_error *err)
{
  uint64_t value = 0;
  int rc = check(r, offset, width, "read", err);
  if (rc == 0 && r->kind == LUIO_REGION_PORT && !r->gone && luio_port_usable(r)) {
    luio_port_ins(r->addr + offset, width, to, n);
    return r->gone ? gone(r, "read", width, offset, err) : 0;
  }
  for (uint64_t i = 0; rc == 0 && i < n; i++) {
    rc = luio_region_read(r, offset, width, &value, err);
    if (rc == 0)
      set_element(to, width, i, value);
  }
  return rc;
}

int luio_region_write_many(luio_region *r, uint64_t offset, unsigned width, const void *from,
                           uint64_t n, luio_error *err)
{
  int rc = check(r, offset, width, "write", err);
  if (rc == 0 && r->kind == LUIO_REGION_PORT && r->writable && !r->gone && luio_port_usable(r)) {
    luio_port_outs(r->addr + offset, width, from, n);
    return r->gone ? gone(r, "write", width, offset, err) : 0;
  }
  for (uint64_t i = 0; rc == 0 && i < n; i++)
    rc = luio_region_write(r, offset, width, element(from, width, i), err);
  return rc;
}
