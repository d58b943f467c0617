/* backend_uio.c - UIO devices that are not on PCI: from a board's device tree, or from a kernel driver of their own.
 *
 * Region N is UIO map N; the ports follow the last map. So a device with ports only has port N as region N, as a PCI
 * device has BAR N. A map is mapped at file offset N pages of /dev/uioX, whole pages only (luio_map_reach); its first
 * byte is `offset` bytes into them. The stated size is often rounded up, so the size in the device tree takes
 * precedence (devicetree.c). Ports are reached by port instructions only.
 *
 * There is no config space, so luio cannot stop the device; its driver or its UIO driver must. */
#include "ways.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

/* ---- Regions ----------------------------------------------------------------------------------- */

/* The error for memory that UIO does not map: the reason, and the other way. */
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

/* UIO rounds the size of the kernel's own memory up to pages. Physical memory keeps the stated address and size
 * (uio_mmap_physical): mmap fails with ENODEV if the address is not at a page boundary, with EINVAL for a page that is
 * only partly in the map. In that case the map's whole pages are mapped. */
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
  r->ops = &luio_port_ops;
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

static bool has_region(const luio_device *d, unsigned index)
{
  unsigned n = first_port(d);
  if (index < n)
    return d->info.maps[index].present;
  return index < n + LUIO_MAX_PORTS && d->info.ports[index - n].present;
}

static int open_region(luio_device *d, luio_region *r, luio_error *err)
{
  return r->index < first_port(d) ? open_map(d, r, err) : open_port(d, r, err);
}

/* ---- The device -------------------------------------------------------------------------------- */

/* There is only /dev/uioX to lock, which the guardian has no part in. */
static int open_uio(luio_device *d, const luio_device *before, luio_error *err)
{
  bool shared = d->flags & (LUIO_READ_ONLY | LUIO_SHARED);
  int rc = luio_uio_open(d, err);
  if (rc == 0 && !shared)
    rc = luio_lock(d, d->uio_fd, err);
  if (rc == 0 && !shared && !before)
    rc = luio_guard_open(&d->slots, err);
  return rc;
}

static void close_uio(luio_device *d)
{
  if (d->uio_fd >= 0)
    close(d->uio_fd);
}

static bool present(luio_device *d)
{
  return luio_uio_present(d);
}

static void leave(luio_device *d)
{
  luio_guard_gone(&d->slots);
}

/* Its number may be another by now; its parent has its place in sysfs. */
static int address_now(const luio_device *d, char address[64], luio_error *err)
{
  luio_list *list;
  int rc = luio_discover(&list, NULL, err);
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

static void forked(luio_device *d)
{
  luio_devnull_replace(d->uio_fd);
}

const struct luio_backend luio_uio = {
    .capabilities = LUIO_HAS_SYSFS | LUIO_HAS_INTERRUPTS | LUIO_HAS_DMA | LUIO_CAN_LEAVE,
    .no_config = "it is not a PCI device",
    .open = open_uio,
    .close = close_uio,
    .has_region = has_region,
    .region = open_region,
    .interrupt = luio_uio_interrupt,
    .unmask = luio_uio_unmask,
    .mask = luio_uio_mask,
    .dma = luio_dma_of_sysfs,
    .present = present,
    .leave = leave,
    .address_now = address_now,
    .unlock = luio_uio_unlock,
    .take_files = luio_uio_take_files,
    .forked = forked,
};
