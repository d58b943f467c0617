/* dma_sim.c - DMA memory of a simulated device: pages at addresses that the pool gives out, as an IOMMU would.
 *
 * A model reaches it through luio_sim_dma_read and luio_sim_dma_write. So any pages will do, and the pool can make
 * several small ones contiguous. */
#include "dma.h"

#include <errno.h>

#define FIRST (2 * MIB)   /* not 0: a forgotten address register must not hit a buffer */
#define MOST (1ull << 47) /* the addresses given out are far below */

static int explain(const luio_dma *dma, int rc, uint64_t size, uint64_t mask, luio_error *err)
{
  if (rc != -ERANGE)
    return luio_dma_no_pages(dma, rc, size, mask, err);
  if (dma->stats.buffers)
    return luio_fail(err, ERANGE,
                     "%llu bytes of DMA memory for %s below 0x%llx: all of it is in "
                     "use: free buffers",
                     (unsigned long long)size, dma->who, (unsigned long long)mask);
  return luio_fail(err, ERANGE,
                   "%llu bytes of DMA memory for %s below 0x%llx: simulated devices get addresses "
                   "from 0x%llx on: widen the mask",
                   (unsigned long long)size, dma->who, (unsigned long long)mask,
                   (unsigned long long)FIRST);
}

static int grow(luio_dma *dma, uint64_t size, uint64_t align, uint64_t mask, page **out,
                luio_error *err)
{
  int which = luio_dma_store_for(size, align);
  luio_error why = {.code = 0};
  int rc = luio_dma_page_take(dma, which, dma->stores[which].page_size, mask, out, &why);
  if (rc < 0 && !why.code) {
    uint64_t unit = align > LUIO_PAGE ? align : LUIO_PAGE;
    int small = luio_dma_page_take(dma, SMALL, (size + unit - 1) & ~(unit - 1), mask, out, &why);
    if (small != -ENOMEM)
      rc = small;
  }
  if (why.code)
    return luio_fail(err, why.code, "%s", why.message);
  return rc < 0 ? explain(dma, rc, size, mask, err) : 0;
}

static int address(luio_dma *dma, page *p, luio_error *err)
{
  (void)err;
  uint64_t align = p->size & (p->size - 1) ? p->unit : p->size;
  p->iova = (dma->next_iova + align - 1) & ~(align - 1);
  return 0;
}

static void claim(luio_dma *dma, uint64_t iova, uint64_t size)
{
  if (dma->next_iova < iova + size)
    dma->next_iova = iova + size;
}

static bool believes(const luio_dma *dma, const page_record *r)
{
  return r->iova && r->iova % dma->stores[r->store].page_size == 0 && r->iova <= MOST - r->size;
}

static void close_sim(luio_dma *dma)
{
  luio_sim_set_memory(dma->device->own, NULL, NULL);
}

static const struct luio_dma_ops simulated = {
    .ascending = true,
    .grow = grow,
    .address = address,
    .claim = claim,
    .believes = believes,
    .release = luio_dma_page_release,
    .close = close_sim,
};

static void *find(void *of, uint64_t iova, uint64_t size)
{
  return luio_dma_find(of, iova, size);
}

int luio_dma_of_sim(luio_device *d, luio_dma **out, luio_error *err)
{
  luio_dma *dma = luio_dma_new(d, &simulated, err);
  if (!dma)
    return -ENOMEM;
  dma->next_iova = FIRST;
  int rc = luio_dma_adopt(dma, err);
  if (rc < 0) {
    luio_dma_close(dma);
    return rc;
  }
  luio_sim_set_memory(d->own, find, dma);
  *out = dma;
  return 0;
}
