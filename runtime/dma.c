/* dma.c - memory a device can reach, carved from pages.
 *
 * A device has one pool. A table of operations gives the source of its pages and their device addresses: kernel pages
 * at physical addresses (dma_physical.c), pages at addresses that luio assigns (dma_sim.c), or regions from a UIO
 * driver (dma_regions.c). A page is contiguous for the device. A buffer is part of one page, so it is contiguous too.
 * Allocation takes the first free piece (dma_pool.c) that fits size, alignment and address mask; if none fits, it adds
 * a page.
 *
 * Freed buffers return to their page. Pages return to the kernel only in luio_dma_close, which the
 * device calls after bus master is off. Under a guardian, pages with named buffers stay in their
 * memfd for the next worker (dma_kept.c). */
#include "dma.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

/* ---- Allocating -------------------------------------------------------------------------------- */

static int validate(luio_dma *dma, uint64_t size, uint64_t align, uint64_t mask, luio_error *err)
{
  if (size == 0 || size > GIB)
    return luio_fail(err, EINVAL, "DMA memory for %s: a buffer has 1 byte to 1 GiB, not %llu bytes",
                     dma->who, (unsigned long long)size);
  if (align & (align - 1) || align > GIB)
    return luio_fail(err, EINVAL,
                     "DMA memory for %s: an alignment is a power of two up to 1 GiB, "
                     "not %llu",
                     dma->who, (unsigned long long)align);
  if (mask & (mask + 1))
    return luio_fail(err, EINVAL, "DMA memory for %s: an address mask is 2^n - 1, not 0x%llx",
                     dma->who, (unsigned long long)mask);
  if (size - 1 > mask)
    return luio_fail(err, ERANGE, "DMA memory for %s: %llu bytes don't fit below 0x%llx", dma->who,
                     (unsigned long long)size, (unsigned long long)mask);
  return 0;
}

static void hand_out(luio_dma *dma, live *l)
{
  l->next = dma->buffers;
  dma->buffers = l;
  dma->stats.buffers++;
  dma->stats.bytes += l->buffer.size;
}

static int check_name(luio_dma *dma, const char *name, luio_error *err)
{
  if (!name[0] || strlen(name) >= LUIO_DMA_NAME)
    return luio_fail(err, EINVAL, "DMA memory for %s: a name has 1 to %d characters", dma->who,
                     LUIO_DMA_NAME - 1);
  for (live *l = dma->buffers; l; l = l->next)
    if (!strcmp(l->name, name))
      return luio_fail(
          err, EEXIST,
          "DMA memory for %s: there is a buffer named \"%s\" already; one that outlives "
          "a reload or a crash is kept in dev.state, and allocated where it is not there",
          dma->who, name);
  return 0;
}

/* A piece of a page, not yet handed out. With the lock held. */
static int carve(luio_dma *dma, live *l, uint64_t size, uint64_t align, uint64_t mask,
                 luio_error *err)
{
  uint64_t reserved = (size + 63) & ~63ull, offset = UINT64_MAX;
  int rc = 0;
  page *p;
  for (p = dma->pages; p; p = p->next)
    if ((offset = luio_dma_cut(p, reserved, align, mask)) != UINT64_MAX)
      break;
  if (!p) {
    rc = dma->ops->grow(dma, reserved, align, mask, &p, err);
    if (rc == 0 && (offset = luio_dma_cut(p, reserved, align, mask)) == UINT64_MAX)
      rc = luio_fail(err, ENOMEM,
                     "%llu bytes of DMA memory for %s aligned to %llu: no page is so "
                     "aligned",
                     (unsigned long long)size, dma->who, (unsigned long long)align);
  }
  if (rc == 0)
    l->buffer = (luio_dma_buffer){.addr = p->addr + offset,
                                  .iova = p->iova + offset,
                                  .size = size,
                                  .page_size = p->unit,
                                  .uncached = dma->ops->uncached,
                                  .owner = dma,
                                  .page = p,
                                  .reserved = reserved};
  return rc;
}

int luio_dma_alloc_named(luio_dma *dma, const char *name, uint64_t size, uint64_t align,
                         uint64_t mask, luio_dma_buffer **out, luio_error *err)
{
  align = align ? align : 64; /* a cache line: no buffer shares one with another */
  mask = mask ? mask : UINT64_MAX;
  int rc = validate(dma, size, align, mask, err);
  if (rc < 0)
    return rc;
  live *l = calloc(1, sizeof *l);
  if (!l)
    return luio_fail(err, ENOMEM, "DMA memory for %s: out of memory", dma->who);
  pthread_mutex_lock(&dma->lock);
  rc = name ? check_name(dma, name, err) : 0;
  bool kept = rc == 0 && name && luio_dma_take_kept(dma, name, size, align, mask, l);
  if (rc == 0 && !kept)
    rc = carve(dma, l, size, align, mask, err);
  if (rc == 0) {
    if (name)
      luio_format(l->name, sizeof l->name, "%s", name);
    hand_out(dma, l);
  }
  pthread_mutex_unlock(&dma->lock);
  if (rc < 0) {
    free(l);
    return rc;
  }
  if (!kept && l->buffer.uncached)
    luio_fill(l->buffer.addr, 0, size);
  else if (!kept)
    memset(l->buffer.addr, 0, size);
  if (!kept && name) {
    pthread_mutex_lock(&dma->lock);
    rc = luio_dma_note_buffer(dma, l, err);
    pthread_mutex_unlock(&dma->lock);
    if (rc < 0) {
      luio_dma_free(&l->buffer);
      return rc;
    }
  }
  *out = &l->buffer;
  return 0;
}

int luio_dma_alloc(luio_dma *dma, uint64_t size, uint64_t align, uint64_t mask,
                   luio_dma_buffer **out, luio_error *err)
{
  return luio_dma_alloc_named(dma, NULL, size, align, mask, out, err);
}

void luio_dma_free(luio_dma_buffer *buffer)
{
  if (!buffer)
    return;
  luio_dma *dma = buffer->owner;
  pthread_mutex_lock(&dma->lock);
  live **at = &dma->buffers;
  while (*at && &(*at)->buffer != buffer)
    at = &(*at)->next;
  live *l = *at;
  if (l) {
    *at = l->next;
    page *p = buffer->page;
    if (l->record)
      l->record->used = 0;
    luio_dma_put_back(&p->free, (uint64_t)((uint8_t *)buffer->addr - p->addr), buffer->reserved);
    dma->stats.buffers--;
    dma->stats.bytes -= buffer->size;
  }
  pthread_mutex_unlock(&dma->lock);
  free(l);
}

void *luio_dma_find(luio_dma *dma, uint64_t iova, uint64_t size)
{
  void *found = NULL;
  pthread_mutex_lock(&dma->lock);
  for (live *l = dma->buffers; l && !found; l = l->next) {
    const luio_dma_buffer *b = &l->buffer;
    if (iova >= b->iova && iova - b->iova <= b->size && size <= b->size - (iova - b->iova))
      found = (uint8_t *)b->addr + (iova - b->iova);
  }
  pthread_mutex_unlock(&dma->lock);
  return found;
}

/* ---- Pages that the kernel has moved ------------------------------------------------------------- */

/* As luio_dma_page_moved, with what to do about it. */
static int verify(const luio_dma *dma, const page *p, luio_error *err)
{
  luio_error found;
  int rc = luio_dma_page_moved(dma, p, &found);
  if (rc == 0)
    return 0;
  return luio_fail(err, ESTALE, "%s. %s%s", found.message,
                   p->pinned ? "It was pinned, which should prevent that: see dmesg"
                             : "It was not pinned, which prevents that: ",
                   p->pinned ? "" : luio_dma_pin_remedy(dma->unpinned));
}

int luio_dma_verify(const luio_dma_buffer *buffer, luio_error *err)
{
  luio_dma *dma = buffer->owner;
  pthread_mutex_lock(&dma->lock);
  int rc = verify(dma, buffer->page, err);
  pthread_mutex_unlock(&dma->lock);
  return rc;
}

int luio_dma_check(luio_device *d, luio_error *err)
{
  luio_dma *dma = d->dma;
  luio_error found, why;
  bool master = d->info.capabilities & LUIO_HAS_CONFIG;
  if (!dma || (master && !d->bus_master_on))
    return 0;
  int rc = 0;
  pthread_mutex_lock(&dma->lock);
  for (const page *p = dma->pages; p && rc == 0; p = p->next)
    rc = verify(dma, p, &found);
  pthread_mutex_unlock(&dma->lock);
  if (rc == 0)
    return 0;
  if (master && luio_bus_master(d, 0, &why) < 0)
    return luio_fail(err, ESTALE, "%s; and its bus master is still on: %s", found.message,
                     why.message);
  return luio_fail(err, ESTALE, "%s", found.message);
}

/* ---- Figures --------------------------------------------------------------------------------- */

void luio_dma_get_stats(const luio_dma *dma, luio_dma_stats *out)
{
  pthread_mutex_t *lock = (pthread_mutex_t *)&dma->lock;
  pthread_mutex_lock(lock);
  *out = dma->stats;
  out->pinned = 0;
  for (const page *p = dma->pages; p; p = p->next)
    out->pinned += p->pinned;
  pthread_mutex_unlock(lock);
}

/* ---- Pools ------------------------------------------------------------------------------------- */

luio_dma *luio_dma_new(luio_device *device, const struct luio_dma_ops *ops, luio_error *err)
{
  const char *who = device->info.address;
  luio_dma *dma = calloc(1, sizeof *dma);
  if (!dma) {
    luio_fail(err, ENOMEM, "DMA memory for %s: out of memory", who);
    return NULL;
  }
  luio_format(dma->who, sizeof dma->who, "%s", who);
  pthread_mutex_init(&dma->lock, NULL);
  dma->ops = ops;
  dma->device = device;
  dma->pagemap_fd = dma->ring_fd = dma->park[0] = dma->park[1] = -1;
  dma->stores[SMALL] = (store){.page_size = LUIO_PAGE, .fd = -1};
  dma->stores[HUGE_2M] = (store){.page_size = 2 * MIB, .fd = -1};
  dma->stores[HUGE_1G] = (store){.page_size = GIB, .fd = -1};
  return dma;
}

bool luio_dma_ends_with_device(const luio_dma *dma)
{
  return dma->ops->ends_with_device;
}

void luio_dma_forked(luio_dma *dma)
{
  for (int i = 0; i < STORES; i++)
    luio_devnull_replace(dma->stores[i].fd);
  luio_devnull_replace(dma->park[0]);
  luio_devnull_replace(dma->park[1]);
  luio_devnull_replace(dma->pagemap_fd);
  luio_devnull_replace(
      dma->ring_fd); /* or the pages would stay pinned as long as the child lives */
  for (live *l = dma->buffers; l; l = l->next)
    l->record = NULL;
  /* The pages are not mapped here. Their places are kept with nothing in them, or they would become the child's
   * heap, which closing the device would take away. */
  for (page *p = dma->pages; p; p = p->next) {
    p->record = NULL;
    /* Refused only when the process has no mapping left to give. */
    (void)mmap(p->addr, p->size, PROT_READ | PROT_WRITE,
               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, -1, 0);
  }
  dma->records = NULL; /* not mapped here */
}

void luio_dma_close(luio_dma *dma)
{
  if (!dma)
    return;
  if (dma->ops->close)
    dma->ops->close(dma);
  luio_dma_unpin(dma);
  for (live *l = dma->buffers, *next; l; l = next) {
    next = l->next;
    free(l);
  }
  for (page *p = dma->pages, *next; p; p = next) {
    next = p->next;
    if (luio_dma_page_is_kept(dma, p))
      luio_dma_page_forget(p);
    else
      dma->ops->release(dma, p);
  }
  if (dma->records)
    munmap(dma->records, sizeof *dma->records);
  for (int i = 0; i < 2; i++)
    if (dma->park[i] >= 0)
      close(dma->park[i]);
  for (int i = 0; i < STORES; i++)
    if (dma->stores[i].fd >= 0)
      close(dma->stores[i].fd);
  if (dma->pagemap_fd >= 0)
    close(dma->pagemap_fd);
  pthread_mutex_destroy(&dma->lock);
  free(dma);
}
