/* dma_kept.c - DMA memory that outlives the process which used it.
 *
 * Under a guardian the memfds stay open when a worker dies, and with them the pages, at the same
 * physical addresses. The next worker gets the descriptors and the records of pages and named
 * buffers. It maps the pages with named buffers again. An allocation by name returns such a buffer
 * with its old contents and IOVA.
 *
 * The rest of the dead worker's memory has no owner, but the device may still know its addresses: an
 * interrupted transfer goes on as soon as bus master is on again. So that memory is neither allocated
 * nor returned to the kernel before the device is *settled*: it was reset, or the driver reports that
 * it has stopped (luio_device_settle). Until then the memory is in `later`, and its pages are mapped
 * and pinned, so that a page that moved in between is found before bus master is on.
 *
 * A page without a record was never given to a device (the worker was killed while it looked for a page
 * below a mask), so it is freed at once. If the worker had no privileges (`humble`), it may have removed
 * the record, so the page waits until the device is settled. Nothing else in such records is trusted: a
 * page's address must match the kernel's, or the start is refused. */
#include "dma.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- A buffer by its name ---------------------------------------------------------------------- */

static page *page_of(luio_dma *dma, const page_record *r)
{
  page *p = dma->pages;
  while (p && p->record != r)
    p = p->next;
  return p;
}

int luio_dma_take_kept(luio_dma *dma, const char *name, uint64_t size, uint64_t align,
                       uint64_t mask, live *l)
{
  buffer_record *r = NULL;
  for (int i = 0; dma->records && i < KEPT_BUFFERS && !r; i++)
    if (dma->records->buffers[i].used && !strcmp(dma->records->buffers[i].name, name))
      r = &dma->records->buffers[i];
  if (!r)
    return 0;
  page *p = page_of(dma, &dma->records->pages[r->page]);
  uint64_t iova = p->iova + r->offset;
  if (r->size != size || iova & (align - 1) || iova + size - 1 > mask) {
    luio_dma_warn(
        dma,
        "DMA buffer \"%s\" of %s was kept with %llu bytes at 0x%llx, which is not what is "
        "asked for now: its contents are gone",
        name, dma->who, (unsigned long long)r->size, (unsigned long long)iova);
    r->used = 0;
    luio_dma_put_back(dma->device->slots.settled ? &p->free : &p->later, r->offset, r->reserved);
    return 0;
  }
  l->record = r;
  l->buffer = (luio_dma_buffer){.addr = p->addr + r->offset,
                                .iova = iova,
                                .size = size,
                                .page_size = p->unit,
                                .owner = dma,
                                .page = p,
                                .reserved = r->reserved,
                                .kept = 1};
  return 1;
}

/* ---- Taking over ------------------------------------------------------------------------------- */

/* The records were written by a process that died, perhaps one without our privileges. */
static bool page_makes_sense(const luio_dma *dma, const page_record *r)
{
  if (r->store >= STORES || dma->stores[r->store].fd < 0)
    return false;
  const store *s = &dma->stores[r->store];
  uint64_t count = r->size / s->page_size;
  if (!dma->ops->believes(dma, r))
    return false;
  for (const page_record *other = dma->records->pages; other < r; other++)
    if (other->used && other->store == r->store && other->index < r->index + count &&
        r->index < other->index + other->size / s->page_size)
      return false; /* given twice */
  return r->size && r->size <= GIB && r->size % s->page_size == 0 && r->index <= s->pages &&
         count <= s->pages - r->index;
}

static bool buffer_makes_sense(const luio_dma *dma, const buffer_record *b)
{
  if (b->page >= KEPT_PAGES || !dma->records->pages[b->page].used)
    return false;
  for (const buffer_record *other = dma->records->buffers; other < b; other++)
    if (other->used && other->page == b->page && other->offset < b->offset + b->reserved &&
        b->offset < other->offset + other->reserved)
      return false;
  uint64_t size = dma->records->pages[b->page].size;
  return b->size && b->reserved >= b->size && b->reserved <= size &&
         b->offset <= size - b->reserved && b->offset % 64 == 0 && b->reserved % 64 == 0 &&
         memchr(b->name, 0, sizeof b->name);
}

/* The parts of a page that no named buffer has. */
static void find_gaps(luio_dma *dma, page *p)
{
  uint64_t at = 0;
  while (at < p->size) {
    const buffer_record *next = NULL;
    for (int i = 0; i < KEPT_BUFFERS; i++) {
      const buffer_record *b = &dma->records->buffers[i];
      if (b->used && b->page == luio_dma_record_number(dma, p->record) &&
          b->offset + b->reserved > at && (!next || b->offset < next->offset))
        next = b;
    }
    uint64_t end = next ? next->offset : p->size;
    if (end > at)
      luio_dma_put_back(&p->later, at, end - at);
    at = next ? next->offset + next->reserved : p->size;
  }
}

static int adopt_page(luio_dma *dma, page_record *r, luio_error *err)
{
  page *p;
  int rc = luio_dma_page_map(dma, (int)r->store, r->index, r->size, &p);
  if (rc < 0)
    return luio_fail(err, -rc, "map the kept DMA memory of %s: %s", dma->who, luio_errno_name(-rc));
  free(p->free); /* one extent, the whole page */
  p->free = NULL;
  p->record = r;
  p->iova = r->iova;
  if (dma->ops->pin)
    dma->ops->pin(dma, p);
  luio_error why;
  rc = luio_dma_page_moved(dma, p, &why);
  if (rc < 0) {
    luio_fail(
        err, ESTALE,
        "start %s anew: the process before died, and while no process held its DMA memory, %s",
        dma->who, why.message);
    luio_dma_page_forget(p);
    return rc;
  }
  find_gaps(dma, p);
  luio_dma_page_add(dma, p);
  return 0;
}

static void drop_unrecorded_of(luio_dma *dma, int which)
{
  store *s = &dma->stores[which];
  uint64_t at = 0;
  while (at < s->pages) {
    const page_record *next = NULL;
    for (int i = 0; i < KEPT_PAGES; i++) {
      const page_record *r = &dma->records->pages[i];
      if (r->used && (int)r->store == which && r->index >= at && (!next || r->index < next->index))
        next = r;
    }
    uint64_t end = next ? next->index : s->pages;
    if (end > at)
      luio_dma_punch(dma, which, at, (end - at) * s->page_size);
    at = next ? next->index + next->size / s->page_size : s->pages;
  }
}

static void punch_unrecorded(luio_dma *dma)
{
  for (int i = 0; dma->unrecorded && i < STORES; i++)
    if (dma->stores[i].fd >= 0)
      drop_unrecorded_of(dma, i);
}

/* Pages without a record: no device was told of them, or it is settled. */
static void drop_unrecorded(luio_dma *dma)
{
  if (dma->ops->drop)
    dma->ops->drop(dma);
  else
    punch_unrecorded(dma);
  dma->unrecorded = false;
}

static int take_stores(luio_dma *dma, luio_error *err)
{
  luio_device *d = dma->device;
  for (int i = 0; i < STORES; i++) {
    store *s = &dma->stores[i];
    struct stat st;
    int fd = d->slots.kept[GUARD_SMALL + i];
    d->slots.kept[GUARD_SMALL + i] = -1;
    if (fd < 0)
      continue;
    s->fd = fd;
    if (fstat(fd, &st) < 0)
      return luio_fail(err, errno, "take over the DMA memory of %s: fstat: %s", dma->who,
                       luio_errno_name(errno));
    s->pages = (uint64_t)st.st_size / s->page_size;
    int rc = luio_dma_park(dma, fd);
    if (rc < 0)
      return luio_fail(err, -rc, "take over the DMA memory of %s: %s", dma->who,
                       luio_errno_name(-rc));
  }
  return 0;
}

static void copy_records(void *to, const void *from)
{
  memcpy(to, from, sizeof(records));
}

int luio_dma_adopt(luio_dma *dma, luio_error *err)
{
  if (!dma->device->slots.guarded)
    return 0;
  void *at = NULL;
  int rc = take_stores(dma, err);
  if (rc == 0)
    rc = luio_memfd_map(&dma->device->slots, GUARD_RECORDS, sizeof *dma->records, "records",
                        copy_records, &at, err);
  if (rc < 0)
    return rc;
  dma->records = at;
  for (int i = 0; i < KEPT_PAGES; i++) {
    page_record *r = &dma->records->pages[i];
    if (r->used && !page_makes_sense(dma, r))
      r->used = 0;
    if (r->used && dma->ops->claim)
      dma->ops->claim(dma, r->iova, r->size);
  }
  for (int i = 0; i < KEPT_BUFFERS; i++) {
    buffer_record *b = &dma->records->buffers[i];
    if (b->used && !buffer_makes_sense(dma, b))
      b->used = 0;
  }
  dma->unrecorded = true;
  if (!dma->device->slots.humble)
    drop_unrecorded(dma);
  for (int i = 0; i < KEPT_PAGES; i++) {
    page_record *r = &dma->records->pages[i];
    bool wanted = luio_dma_has_buffers(dma, r) || !dma->device->slots.settled;
    if (r->used && wanted && (rc = adopt_page(dma, r, err)) < 0)
      return rc;
  }
  if (dma->device->slots.settled)
    luio_dma_settle(dma);
  return 0;
}

void luio_dma_settle(luio_dma *dma)
{
  pthread_mutex_lock(&dma->lock);
  for (page *p = dma->pages; p; p = p->next)
    while (p->later) {
      extent *e = p->later;
      p->later = e->next;
      luio_dma_put_back(&p->free, e->offset, e->size);
      free(e);
    }
  for (int i = 0; dma->records && i < KEPT_PAGES; i++) {
    page_record *r = &dma->records->pages[i];
    if (r->used && !page_of(dma, r)) {
      luio_dma_punch(dma, (int)r->store, r->index, r->size);
      r->used = 0;
    }
  }
  drop_unrecorded(dma);
  pthread_mutex_unlock(&dma->lock);
}

/* All that is in the stores and not in the pool. */
static uint64_t not_mapped(const luio_dma *dma)
{
  uint64_t bytes = 0, mapped = dma->stats.mapped_bytes;
  for (int i = 0; i < STORES; i++) {
    struct stat st;
    if (dma->stores[i].fd >= 0 && fstat(dma->stores[i].fd, &st) == 0)
      bytes += (uint64_t)st.st_blocks * 512;
  }
  return bytes > mapped ? bytes - mapped : 0;
}

uint64_t luio_dma_unsettled(luio_dma *dma)
{
  uint64_t bytes = 0;
  pthread_mutex_lock(&dma->lock);
  if (dma->unrecorded && !dma->ops->drop)
    bytes = not_mapped(dma);
  for (const page *p = dma->pages; p; p = p->next)
    for (const extent *e = p->later; e; e = e->next)
      bytes += e->size;
  for (int i = 0; dma->records && !dma->unrecorded && i < KEPT_PAGES; i++) {
    const page_record *r = &dma->records->pages[i];
    if (r->used && !page_of(dma, r))
      bytes += r->size;
  }
  pthread_mutex_unlock(&dma->lock);
  return bytes;
}
