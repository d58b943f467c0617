/* dma_regions.c - DMA memory from a UIO driver (uio_dmem_genirq): regions of the device.
 *
 * The kernel's allocator has made the memory suitable for the device, also for one whose DMA is not cache-coherent, and
 * UIO gives its address. It is mapped already, uncached, and is freed when /dev/uioX is closed. Each region is one page
 * of the pool, of any size. */
#include "dma.h"

#include <errno.h>
#include <stdlib.h>

static int grow(luio_dma *dma, uint64_t size, uint64_t align, uint64_t mask, page **out,
                luio_error *err)
{
  (void)align;
  (void)out;
  return luio_fail(err, ENOMEM,
                   "%llu bytes of DMA memory for %s below 0x%llx: its UIO driver has brought "
                   "%llu, in %llu regions, and no free piece is so large and lies there: free "
                   "buffers, or have the driver bring more",
                   (unsigned long long)size, dma->who, (unsigned long long)mask,
                   (unsigned long long)dma->stats.mapped_bytes,
                   (unsigned long long)dma->stats.pages);
}

/* The mapping is the region's. */
static void release(luio_dma *dma, page *p)
{
  (void)dma;
  luio_dma_free_extents(p->free);
  free(p);
}

/* The kernel's allocator keeps it where it is, and no guardian keeps it. */
static const struct luio_dma_ops regions = {
    .device_writes = true,
    .uncached = true,
    .ends_with_device = true,
    .grow = grow,
    .release = release,
};

static int add(luio_dma *dma, const luio_region *r, luio_error *err)
{
  page *p = calloc(1, sizeof *p);
  extent *e = calloc(1, sizeof *e);
  if (!p || !e) {
    free(p);
    free(e);
    return luio_fail(err, ENOMEM, "DMA memory for %s: out of memory", dma->who);
  }
  *e = (extent){.size = r->size};
  *p = (page){.addr = (uint8_t *)(uintptr_t)r->base,
              .size = r->size,
              .unit = r->size,
              .iova = r->addr,
              .free = e};
  luio_dma_page_add(dma, p);
  return 0;
}

int luio_dma_of_regions(luio_device *d, luio_dma **out, luio_error *err)
{
  luio_dma *dma = luio_dma_new(d, &regions, err);
  if (!dma)
    return -ENOMEM;
  for (unsigned i = LUIO_MAX_MAPS; i-- > 0;) { /* the first of them is the first to be used */
    luio_region *r;
    if (!d->info.maps[i].present || !d->info.maps[i].at_open)
      continue;
    int rc = luio_device_region(d, i, &r, err);
    if (rc == 0)
      rc = add(dma, r, err);
    if (rc < 0) {
      luio_dma_close(dma);
      return rc;
    }
  }
  *out = dma;
  return 0;
}
