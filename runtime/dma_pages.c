/* dma_pages.c - pages for DMA memory: from the kernel, and where they are.
 *
 * One memfd per page size; page n of a size is at file offset n times that size. Shared, so that a
 * fork can't move pages by copy-on-write, and close-on-exec and not inherited, so that no child
 * keeps them. The kernel can't be asked for a page below an address, so pages that lie above a
 * narrow mask (edu: 28 bits) are held aside until one lies below, or none is left, and are then
 * given back.
 *
 * IOVAs are physical addresses on real devices. On a simulated one the pool hands out addresses of
 * its own, as an IOMMU would; then any pages do. */
#include "dma.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14 */
#endif

#define MAX_ASIDE 4096 /* pages tried for a narrow mask */

static int store_open(luio_dma *dma, store *s)
{
  if (s->fd >= 0)
    return 0;
  char name[96];
  luio_format(name, sizeof name, "luio-dma %s", dma->who);
  s->fd = memfd_create(name, MFD_CLOEXEC | s->flags);
  return s->fd < 0 ? -errno : 0;
}

/* Every page must be there before the device is told of it, and a page that can't be had must be
 * an error here, not a SIGBUS in whoever touches it first. */
static int populate(void *addr, uint64_t size)
{
  if (madvise(addr, size, MADV_POPULATE_WRITE) == 0)
    return 0;
  return errno == EFAULT ? -ENOMEM : -errno;
}

void luio_dma_page_release(luio_dma *dma, page *p)
{
  store *s = &dma->stores[p->store];
  munmap(p->addr, p->size);
  fallocate(s->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)(p->index * s->page_size),
            (off_t)p->size);
  for (extent *e = p->free, *next; e; e = next) {
    next = e->next;
    free(e);
  }
  free(p);
}

/* Maps `size` bytes (whole pages of the store) at the end of its memfd. */
static int page_map(luio_dma *dma, int which, uint64_t size, page **out)
{
  store *s = &dma->stores[which];
  int rc = store_open(dma, s);
  if (rc < 0)
    return rc;
  page *p = calloc(1, sizeof *p);
  extent *e = calloc(1, sizeof *e);
  if (!p || !e) {
    free(p);
    free(e);
    return -ENOMEM;
  }
  uint64_t count = size / s->page_size;
  *p = (page){.size = size, .store = which, .index = s->pages, .free = e};
  *e = (extent){.size = size};
  if (ftruncate(s->fd, (off_t)((s->pages + count) * s->page_size)) < 0) {
    rc = -errno;
    goto fail;
  }
  p->addr =
      mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, s->fd, (off_t)(p->index * s->page_size));
  if (p->addr == MAP_FAILED) {
    rc = -errno;
    goto fail;
  }
  madvise(p->addr, size, MADV_DONTFORK);
  rc = populate(p->addr, size);
  if (rc == 0 && which == SMALL && mlock(p->addr, size) < 0 && !dma->sim)
    rc = -errno; /* sim: nothing looks at where it is, so swapping it is fine */
  if (rc < 0) {
    munmap(p->addr, size);
    goto fail;
  }
  s->pages += count;
  *out = p;
  return 0;

fail:
  free(e);
  free(p);
  return rc;
}

static int page_address(luio_dma *dma, page *p, luio_error *err)
{
  if (!dma->sim)
    return luio_pagemap_lookup(dma->pagemap_fd, p->addr, &p->iova, err);
  uint64_t align = p->size & (p->size - 1) ? dma->stores[p->store].page_size : p->size;
  p->iova = (dma->next_iova + align - 1) & ~(align - 1);
  return 0;
}

static bool reachable(const page *p, uint64_t mask)
{
  return p->iova <= mask && p->size - 1 <= mask - p->iova;
}

/* Takes pages until one is wholly below mask. -ERANGE: there were pages, but none there. */
int luio_dma_page_take(luio_dma *dma, int which, uint64_t size, uint64_t mask, page **out,
                       luio_error *err)
{
  page *aside = NULL, *p = NULL;
  int rc = 0, tried = 0;
  for (;; tried++) {
    rc = tried < MAX_ASIDE ? page_map(dma, which, size, &p) : -ERANGE;
    if (rc < 0) {
      rc = tried ? -ERANGE : rc;
      break;
    }
    rc = page_address(dma, p, err);
    if (rc == 0 && reachable(p, mask))
      break;
    p->next = aside;
    aside = p;
    p = NULL;
    if (rc < 0)
      break;
    if (dma->sim) { /* the next address would only be higher */
      rc = -ERANGE;
      break;
    }
  }
  while (aside) {
    page *next = aside->next;
    luio_dma_page_release(dma, aside);
    aside = next;
  }
  if (rc < 0)
    return rc;
  if (dma->sim)
    dma->next_iova = p->iova + p->size;
  p->next = dma->pages;
  dma->pages = p;
  dma->stats.pages++;
  dma->stats.mapped_bytes += p->size;
  *out = p;
  return 0;
}
