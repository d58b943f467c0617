/* dma_pages.c - pages for DMA memory: from the kernel, and where they are.
 *
 * One memfd per page size; page n of a size is at file offset n times that size. Shared, so that a
 * fork can't move pages by copy-on-write, and close-on-exec and not inherited, so that no child
 * keeps them. The kernel can't be asked for a page below an address, so pages that lie above a
 * narrow mask (edu: 28 bits) are held aside until one lies below, or none is left, and are then
 * given back.
 *
 * A region that a UIO driver has allocated is a page, too, of whatever size; it is the device's own,
 * mapped already, and its address was told by the kernel.
 *
 * IOVAs are physical addresses on real devices. On a simulated one the pool hands out addresses of
 * its own, as an IOMMU would; then any pages do. */
#include "dma.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23 /* Linux 5.14 */
#endif

#define MAX_ASIDE 4096 /* pages tried for a narrow mask */

/* Keeps one more reference of a memfd, in a message that nobody takes, in a socket of our own. When
 * a process is killed the kernel lets go of its files one after the other: /dev/uioX is to come
 * first, for uio_pci_generic clears bus master then, and the memory second. A file in a message goes
 * after the socket, and so after every file that the process has open, whatever their numbers. */
int luio_dma_park(luio_dma *dma, int fd)
{
  if (dma->sim)
    return 0;
  if (dma->park[0] < 0 && socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, dma->park) < 0)
    return -errno;
  char byte = 0;
  return guard_send(dma->park[0], &byte, 1, &fd, 1);
}

static int store_open(luio_dma *dma, store *s, luio_error *err)
{
  if (s->fd >= 0)
    return 0;
  int slot = GUARD_SMALL + (int)(s - dma->stores);
  /* The guardian must have it before the device hears of a page in it. */
  int fd = luio_guard_make(&dma->device->slots, slot, 0, err);
  if (fd < 0)
    return fd;
  int rc = luio_dma_park(dma, fd);
  if (rc == 0)
    rc = luio_guard_hold(&dma->device->slots, slot, err);
  if (rc < 0) {
    close(fd);
    return rc;
  }
  s->fd = fd;
  return 0;
}

/* Every page must be there before the device is told of it, and a page that can't be had must be
 * an error here, not a SIGBUS in whoever touches it first. */
static int populate(void *addr, uint64_t size)
{
  if (madvise(addr, size, MADV_POPULATE_WRITE) == 0)
    return 0;
  return errno == EFAULT ? -ENOMEM : -errno;
}

void luio_dma_punch(luio_dma *dma, int which, uint64_t index, uint64_t size)
{
  store *s = &dma->stores[which];
  fallocate(s->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)(index * s->page_size),
            (off_t)size);
}

static void free_extents(extent *e)
{
  for (extent *next; e; e = next) {
    next = e->next;
    free(e);
  }
}

void luio_dma_page_forget(page *p)
{
  munmap(p->addr, p->size);
  free_extents(p->free);
  free_extents(p->later);
  free(p);
}

int luio_dma_page_of_region(luio_dma *dma, luio_region *r, luio_error *err)
{
  page *p = calloc(1, sizeof *p);
  extent *e = calloc(1, sizeof *e);
  if (!p || !e) {
    free(p);
    free(e);
    return luio_fail(err, ENOMEM, "DMA memory for %s: out of memory", dma->who);
  }
  *e = (extent){.size = r->size};
  *p = (page){.addr = (uint8_t *)(uintptr_t)r->base, .size = r->size, .iova = r->addr, .free = e};
  p->next = dma->pages;
  dma->pages = p;
  dma->stats.pages++;
  dma->stats.mapped_bytes += p->size;
  return 0;
}

void luio_dma_page_release(luio_dma *dma, page *p)
{
  if (dma->of_regions) { /* what is mapped there is the region's */
    free_extents(p->free);
    free(p);
    return;
  }
  int which = p->store;
  uint64_t index = p->index, size = p->size;
  page_record *record = p->record;
  luio_dma_page_forget(p);
  luio_dma_punch(dma, which, index, size);
  if (record)
    record->used = 0;
}

int luio_dma_page_map(luio_dma *dma, int which, uint64_t index, uint64_t size, page **out)
{
  store *s = &dma->stores[which];
  int rc;
  page *p = calloc(1, sizeof *p);
  extent *e = calloc(1, sizeof *e);
  if (!p || !e) {
    free(p);
    free(e);
    return -ENOMEM;
  }
  *p = (page){.size = size, .store = which, .index = index, .free = e};
  *e = (extent){.size = size};
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
  *out = p;
  return 0;

fail:
  free(e);
  free(p);
  return rc;
}

/* Maps `size` bytes (whole pages of the store) at the end of its memfd. */
static int map_new(luio_dma *dma, int which, uint64_t size, page **out, luio_error *err)
{
  store *s = &dma->stores[which];
  int rc = store_open(dma, s, err);
  if (rc < 0)
    return rc;
  uint64_t count = size / s->page_size;
  if (ftruncate(s->fd, (off_t)((s->pages + count) * s->page_size)) < 0)
    return -errno;
  rc = luio_dma_page_map(dma, which, s->pages, size, out);
  if (rc == 0)
    s->pages += count;
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
    rc = tried < MAX_ASIDE ? map_new(dma, which, size, &p, err) : -ERANGE;
    if (rc < 0) {
      rc = tried ? -ERANGE : rc;
      break;
    }
    rc = page_address(dma, p, err);
    if (rc == 0 && reachable(p, mask)) {
      luio_dma_pin(dma, p);
      rc = page_address(dma, p, err); /* pinning may have moved it */
    }
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
  if (rc == 0 && (rc = luio_dma_note_page(dma, p, err)) < 0)
    luio_dma_page_release(dma, p);
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
