/* dma_pool.c - shared by the files of a DMA pool: free pieces of its pages, and its warnings.
 *
 * The free pieces of a page are a sorted list of extents; neighbours are joined. */
#include "dma.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- Pieces ------------------------------------------------------------------------------------ */

uint64_t luio_dma_cut(page *p, uint64_t size, uint64_t align, uint64_t mask)
{
  for (extent **at = &p->free; *at; at = &(*at)->next) {
    extent *e = *at;
    /* Aligned as the device sees it: the IOVA, not the pointer. */
    uint64_t start = ((p->iova + e->offset + align - 1) & ~(align - 1)) - p->iova;
    uint64_t skip = start - e->offset;
    if (skip > e->size || e->size - skip < size || p->iova + start + size - 1 > mask)
      continue;
    uint64_t rest = e->size - skip - size;
    if (skip && rest) {
      extent *after = calloc(1, sizeof *after);
      if (!after)
        return UINT64_MAX;
      *after = (extent){.offset = start + size, .size = rest, .next = e->next};
      e->size = skip;
      e->next = after;
    } else if (skip) {
      e->size = skip;
    } else if (rest) {
      e->offset += size;
      e->size = rest;
    } else {
      *at = e->next;
      free(e);
    }
    return start;
  }
  return UINT64_MAX;
}

/* Puts a piece back and joins it with its neighbours. Without memory for an extent it is lost to
 * the pool until the device is closed: harmless, and still not the device's to misuse. */
void luio_dma_put_back(extent **list, uint64_t offset, uint64_t size)
{
  extent **at = list;
  extent *before = NULL;
  while (*at && (*at)->offset < offset) {
    before = *at;
    at = &(*at)->next;
  }
  extent *after = *at;
  if (before && before->offset + before->size == offset) {
    before->size += size;
    if (after && before->offset + before->size == after->offset) {
      before->size += after->size;
      before->next = after->next;
      free(after);
    }
  } else if (after && offset + size == after->offset) {
    after->offset = offset;
    after->size += size;
  } else {
    extent *e = calloc(1, sizeof *e);
    if (!e)
      return;
    *e = (extent){.offset = offset, .size = size, .next = after};
    *at = e;
  }
}

void luio_dma_free_extents(extent *e)
{
  for (extent *next; e; e = next) {
    next = e->next;
    free(e);
  }
}

/* ---- Warnings ---------------------------------------------------------------------------------- */

void luio_dma_warn(luio_dma *dma, const char *format, ...)
{
  size_t said = strlen(dma->warning);
  if (said && luio_format(dma->warning + said, sizeof dma->warning - said, "; "))
    said += 2;
  va_list args;
  va_start(args, format);
  vsnprintf(dma->warning + said, sizeof dma->warning - said, format, args);
  va_end(args);
}

const char *luio_dma_warning(luio_dma *dma)
{
  pthread_mutex_lock(&dma->lock);
  memcpy(dma->taken, dma->warning, sizeof dma->taken);
  dma->warning[0] = '\0';
  pthread_mutex_unlock(&dma->lock);
  return dma->taken[0] ? dma->taken : NULL;
}

/* ---- Pages that the kernel has moved ------------------------------------------------------------- */

int luio_dma_page_moved(const luio_dma *dma, const page *p, luio_error *err)
{
  return dma->ops->moved ? dma->ops->moved(dma, p, err) : 0;
}
