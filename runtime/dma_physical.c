/* dma_physical.c - DMA memory of a real device: pages at their physical addresses.
 *
 * The device gets the physical addresses of /proc/self/pagemap, so no IOMMU may translate for it. The page must not
 * move: it is pinned (dma_pin.c); where pinning is forbidden, its address is looked up again. Hugepages are tried
 * first. Without one, a buffer of at most one small page gets a small page, with a warning.
 *
 * Memory from its UIO driver takes precedence (dma_regions.c). A device whose DMA is not cache-coherent gets no other
 * memory. */
#include "dma.h"

#include <errno.h>
#include <string.h>

/* Pages next to each other in our address space are not so in memory: only one small page will do. */
static int grow(luio_dma *dma, uint64_t size, uint64_t align, uint64_t mask, page **out,
                luio_error *err)
{
  int which = luio_dma_store_for(size, align);
  luio_error why = {.code = 0};
  int rc = luio_dma_page_take(dma, which, dma->stores[which].page_size, mask, out, &why);
  if (rc == 0)
    return 0;
  if (!why.code && size <= LUIO_PAGE && align <= LUIO_PAGE) {
    int small = luio_dma_page_take(dma, SMALL, LUIO_PAGE, mask, out, &why);
    if (small == 0) {
      char remedy[256];
      luio_dma_warn(dma,
                    "%llu bytes of DMA memory for %s are in small pages: %llu free hugepages of 2 "
                    "MiB: %s",
                    (unsigned long long)size, dma->who,
                    (unsigned long long)luio_dma_free_hugepages(2 * MIB),
                    luio_dma_more_hugepages(2 * MIB, remedy, sizeof remedy));
      return 0;
    }
    if (small != -ENOMEM)
      rc = small;
  }
  if (why.code)
    return luio_fail(err, why.code, "%s", why.message);
  return luio_dma_no_pages(dma, rc, size, mask, err);
}

static int address(luio_dma *dma, page *p, luio_error *err)
{
  return luio_pagemap_lookup(dma->pagemap_fd, p->addr, &p->iova, err);
}

/* A page's address is looked up once: a page of the pool is one page of its size. */
static bool believes(const luio_dma *dma, const page_record *r)
{
  return r->size == dma->stores[r->store].page_size;
}

/* ---- Pages that the kernel has moved ------------------------------------------------------------- */

/* The buffers in a page, for people: " (3 buffers, "ring" among them)", or nothing. */
static void describe_buffers(const luio_dma *dma, const page *p, char *to, size_t size)
{
  const char *name = NULL;
  unsigned n = 0;
  to[0] = '\0';
  for (const live *l = dma->buffers; l; l = l->next) {
    if (l->buffer.page != p)
      continue;
    n++;
    if (l->name[0])
      name = l->name;
  }
  if (n == 1 && name)
    luio_format(to, size, " (buffer \"%s\")", name);
  else if (n)
    luio_format(to, size, " (%u buffer%s%s%s%s)", n, n == 1 ? "" : "s", name ? ", \"" : "",
                name ? name : "", name ? "\" among them" : "");
}

static int moved(const luio_dma *dma, const page *p, luio_error *err)
{
  uint64_t now = 0;
  luio_error why;
  char buffers[128];
  int rc = luio_pagemap_lookup(dma->pagemap_fd, p->addr, &now, &why);
  if (rc == 0 && now == p->iova)
    return 0;
  describe_buffers(dma, p, buffers, sizeof buffers);
  if (rc < 0)
    return luio_fail(err, ESTALE, "a page of DMA memory of %s%s at 0x%llx is gone: %s", dma->who,
                     buffers, (unsigned long long)p->iova, why.message);
  return luio_fail(err, ESTALE, "a page of DMA memory of %s%s moved from 0x%llx to 0x%llx",
                   dma->who, buffers, (unsigned long long)p->iova, (unsigned long long)now);
}

/* ---- The pool ---------------------------------------------------------------------------------- */

static const struct luio_dma_ops physical = {
    .device_writes = true,
    .grow = grow,
    .address = address,
    .pin = luio_dma_pin,
    .moved = moved,
    .believes = believes,
    .release = luio_dma_page_release,
};

static int open_physical(luio_device *d, luio_dma **out, luio_error *err)
{
  luio_dma *dma = luio_dma_new(d, &physical, err);
  if (!dma)
    return -ENOMEM;
  dma->pagemap_fd = luio_pagemap_open(dma->who, err);
  luio_dma_pin_open(dma);
  int rc = dma->pagemap_fd < 0 ? dma->pagemap_fd : luio_dma_adopt(dma, err);
  if (rc < 0) {
    luio_dma_close(dma);
    return rc;
  }
  *out = dma;
  return 0;
}

static bool brings_memory(const luio_device *d)
{
  for (int i = 0; i < LUIO_MAX_MAPS; i++)
    if (d->info.maps[i].present && d->info.maps[i].at_open)
      return true;
  return false;
}

/* With no group there is no IOMMU; "identity" means addresses pass through unchanged. */
static int check_iommu(const luio_device *d, luio_error *err)
{
  char type[32];
  int rc = luio_sysfs_text(d->info.sysfs, "iommu_group/type", type, sizeof type);
  if (rc < 0 && rc != -ENOENT)
    return luio_fail(err, -rc,
                     "DMA memory for %s: whether an IOMMU translates for it can't be read from "
                     "%s/iommu_group/type: %s",
                     d->info.address, d->info.sysfs, luio_errno_name(-rc));
  if (rc == 0 && strcmp(type, "identity"))
    return luio_fail(err, ENOTSUP,
                     "DMA memory for %s: the IOMMU translates for it (%s), so physical "
                     "addresses would fault: boot with iommu=pt",
                     d->info.address, type);
  return 0;
}

int luio_dma_of_sysfs(luio_device *d, luio_dma **out, luio_error *err)
{
  int rc = check_iommu(d, err);
  if (rc < 0)
    return rc;
  if (brings_memory(d))
    return luio_dma_of_regions(d, out, err);
  if (d->info.incoherent)
    return luio_fail(err, ENOTSUP,
                     "DMA memory for %s: its DMA does not look into the CPU's caches (no "
                     "dma-coherent in the device tree), so it would miss what is written to "
                     "ordinary memory: use a UIO driver that brings memory (uio_dmem_genirq)",
                     d->info.address);
  return open_physical(d, out, err);
}
