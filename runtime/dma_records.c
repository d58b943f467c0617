/* dma_records.c - the guardian's records of a DMA pool: its pages and its named buffers.
 *
 * The records lie in memory that the guardian keeps, for the worker after this one (dma_kept.c). A record's `used` is
 * set last, because this process may be killed between any two stores. */
#include "dma.h"

#include <errno.h>
#include <string.h>

uint32_t luio_dma_record_number(const luio_dma *dma, const page_record *r)
{
  return (uint32_t)(r - dma->records->pages);
}

bool luio_dma_has_buffers(const luio_dma *dma, const page_record *r)
{
  for (int i = 0; i < KEPT_BUFFERS; i++) {
    const buffer_record *b = &dma->records->buffers[i];
    if (b->used && b->page == luio_dma_record_number(dma, r))
      return true;
  }
  return false;
}

bool luio_dma_page_is_kept(const luio_dma *dma, const page *p)
{
  return p->record && luio_dma_has_buffers(dma, p->record);
}

int luio_dma_note_page(luio_dma *dma, page *p, luio_error *err)
{
  if (!dma->records)
    return 0;
  for (int i = 0; i < KEPT_PAGES; i++) {
    page_record *r = &dma->records->pages[i];
    if (r->used)
      continue;
    r->store = (uint32_t)p->store;
    r->index = p->index;
    r->size = p->size;
    r->iova = p->iova;
    r->used = 1;
    p->record = r;
    return 0;
  }
  return luio_fail(err, ENOSPC, "DMA memory for %s: a guardian keeps at most %d pages", dma->who,
                   KEPT_PAGES);
}

int luio_dma_note_buffer(luio_dma *dma, live *l, luio_error *err)
{
  if (!dma->records)
    return 0;
  page *p = l->buffer.page;
  for (int i = 0; i < KEPT_BUFFERS; i++) {
    buffer_record *r = &dma->records->buffers[i];
    if (r->used)
      continue;
    r->page = luio_dma_record_number(dma, p->record);
    r->offset = (uint64_t)((uint8_t *)l->buffer.addr - p->addr);
    r->size = l->buffer.size;
    r->reserved = l->buffer.reserved;
    memcpy(r->name, l->name, sizeof r->name);
    r->used = 1;
    l->record = r;
    return 0;
  }
  return luio_fail(err, ENOSPC, "DMA memory for %s: a guardian keeps at most %d named buffers",
                   dma->who, KEPT_BUFFERS);
}
