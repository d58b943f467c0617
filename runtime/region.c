/* region.c - regions: opening them, mapping them, and the checked access.
 *
 * The backend chooses the file of a region (backend_*.c). This file makes the checks that are the same for all, and has
 * the mapped memory region, which several backends share; I/O ports are in region_port.c.
 *
 * The first byte of a region may lie anywhere in its first page, so the mapping is of whole pages and `base` points into
 * them. When a device goes away its mapping stays; a placeholder replaces it (sigbus.c). */
#include "registers.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int luio_region_kind(const luio_region *r)
{
  return r->ops->kind;
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
  if (!(d->info.capabilities & LUIO_HAS_SYSFS))
    return true;
  return access(d->info.sysfs, F_OK) == 0 && (!d->info.uio[0] || access(dir, F_OK) == 0);
}

/* sysfs gives no mapping of what a driver has claimed for itself: EINVAL. The same code has other causes. */
static void claimed(const luio_device *d, const luio_region *r, char *to, size_t size)
{
  luio_iomem m = {0};
  const char *driver = d->info.driver, *address = d->info.address;
  bool hidden = luio_iomem_query(r->addr, r->size, &m) < 0 || m.verdict == IOMEM_HIDDEN;
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

/* Where the code has several causes the device's state tells which it is; a cause that is not known is not named. */
const char *luio_region_remedy(const luio_device *d, const luio_region *r, int code, bool resource,
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
    luio_region_remedy(d, r, code, strstr(path, "/resource") != NULL, why, sizeof why);
    return luio_fail(err, code, "map %s of %s: mmap %s, 0x%llx bytes: %s: %s", r->name, r->device,
                     path, (unsigned long long)span, luio_errno_name(code), why);
  }
  /* A child must not hold, nor core dumps read, device memory: reading it can have side effects. */
  madvise(p, span, MADV_DONTFORK);
  madvise(p, span, MADV_DONTDUMP);
  r->ops = &luio_memory_ops;
  r->map = p;
  r->map_size = span;
  r->base = (volatile uint8_t *)p + first;
  return 0;
}

/* ---- Memory ------------------------------------------------------------------------------------ */

static void leave_memory(luio_region *r)
{
  luio_sigbus_cover(r);
}

/* At the address that it had, where it can be: the pages are exchanged at once. */
static int take_over_memory(luio_region *r, luio_region *now, luio_error *err)
{
  int rc = 0;
  if (now->map_size == r->map_size && mremap(now->map, now->map_size, now->map_size,
                                             MREMAP_MAYMOVE | MREMAP_FIXED, r->map) == r->map) {
    now->base = (volatile uint8_t *)r->map + (now->base - (volatile uint8_t *)now->map);
  } else {
    luio_sigbus_remove(r);
    munmap(r->map, r->map_size);
    r->map = now->map;
    r->map_size = now->map_size;
    rc = luio_sigbus_add(r, err);
  }
  r->base = now->base;
  return rc;
}

static void close_memory(luio_region *r)
{
  luio_sigbus_remove(r);
  munmap(r->map, r->map_size);
}

const struct luio_region_ops luio_memory_ops = {
    .kind = LUIO_REGION_MEMORY,
    .leave = leave_memory,
    .take_over = take_over_memory,
    .forked = leave_memory, /* nothing is mapped there; an access finds ones */
    .close = close_memory,
};

/* ---- Opening ----------------------------------------------------------------------------------- */

static int open_region(luio_device *d, luio_region *r, unsigned index, luio_error *err)
{
  r->index = index;
  r->fd = -1;
  r->writable = !(d->flags & LUIO_READ_ONLY);
  r->fault = UINT64_MAX;
  luio_format(r->device, sizeof r->device, "%s", d->info.address);
  return d->backend->region(d, r, err);
}

int luio_device_region(luio_device *d, unsigned index, luio_region **out, luio_error *err)
{
  if (index < LUIO_MAX_REGIONS && d->regions[index]) {
    *out = d->regions[index];
    return 0;
  }
  if (!d->backend->has_region(d, index)) {
    char have[64] = "";
    for (unsigned i = 0; i < LUIO_MAX_REGIONS; i++) {
      size_t n = strlen(have);
      if (d->backend->has_region(d, i))
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

/* The new one is opened beside the old: one that fails leaves the placeholder in place. */
int luio_region_return(luio_device *d, luio_region *r, luio_error *err)
{
  luio_region now = {0};
  if (!d->backend->has_region(d, r->index))
    return luio_fail(err, ENODEV, "%s came back without its region %u: another device?",
                     d->info.address, r->index);
  int rc = open_region(d, &now, r->index, err);
  if (rc < 0)
    return rc;
  if (now.ops != r->ops) {
    now.ops->close(&now);
    return luio_fail(err, ENODEV, "region %u of %s came back as another kind: another device?",
                     r->index, d->info.address);
  }
  rc = r->ops->take_over(r, &now, err);
  r->size = now.size;
  r->addr = now.addr;
  memcpy(r->name, now.name, sizeof r->name);
  memcpy(r->device, now.device, sizeof r->device);
  r->fault = UINT64_MAX;
  r->gone = false;
  return rc;
}

void luio_region_leave(luio_region *r)
{
  r->gone = true;
  r->ops->leave(r);
}

void luio_region_free(luio_region *r)
{
  if (r && r->ops)
    r->ops->close(r);
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
  if (width == 64 && r->ops->no64)
    return luio_fail(err, EINVAL, "%s64 %s %s: %s", verb, r->device, r->name, r->ops->no64);
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

int luio_region_read(luio_region *r, uint64_t offset, unsigned width, uint64_t *value,
                     luio_error *err)
{
  int rc = check(r, offset, width, "read", err);
  if (rc < 0)
    return rc;
  if (r->gone)
    return gone(r, "read", width, offset, err);
  if (!r->base)
    return r->ops->read(r, offset, width, value, err);
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
  if (!r->base)
    return r->ops->write(r, offset, width, value, err);
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
  if (rc == 0 && r->ops->read_burst && !r->gone && r->ops->read_burst(r, offset, width, to, n))
    return r->gone ? gone(r, "read", width, offset, err) : 0;
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
  if (rc == 0 && r->ops->write_burst && r->writable && !r->gone &&
      r->ops->write_burst(r, offset, width, from, n))
    return r->gone ? gone(r, "write", width, offset, err) : 0;
  for (uint64_t i = 0; rc == 0 && i < n; i++)
    rc = luio_region_write(r, offset, width, element(from, width, i), err);
  return rc;
}
