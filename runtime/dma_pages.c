/* dma_pages.c - pages for DMA memory: allocation from the kernel.
 *
 * One memfd per page size; page n of a size is at file offset n times that size. Mappings are
 * shared, so that a fork can't move pages by copy-on-write. They are not inherited, and the memfd
 * is close-on-exec, so that no child keeps pages. The kernel can't allocate a page below an
 * address. So for a narrow mask (edu: 28 bits) pages above it are held aside until one lies below
 * it, or no page is left; then they are freed.
 *
 * The pool's kind gives a page's device address (luio_dma_ops). */
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

/* Keeps one more reference of a memfd, in an unread message in a socket of our own. The kernel
 * closes a killed process's files one after the other. /dev/uioX must be closed before the memory,
 * because uio_pci_generic clears bus master at that close. A file in a message is released with the socket, or, if nobody else
 * has it, after every other file of the process. The socket is closed after /dev/uioX, whose number is higher (uio.c). */
int luio_dma_park(luio_dma *dma, int fd)
{
  if (!dma->ops->device_writes)
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

/* Every page must be present before the device gets its address. A page that can't be allocated
 * must be an error here, not a SIGBUS at its first access. */
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

void luio_dma_page_forget(page *p)
{
  munmap(p->addr, p->size);
  luio_dma_free_extents(p->free);
  luio_dma_free_extents(p->later);
  free(p);
}

void luio_dma_page_release(luio_dma *dma, page *p)
{
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
  *p = (page){.size = size, .unit = s->page_size, .store = which, .index = index, .free = e};
  *e = (extent){.size = size};
  p->addr =
      mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, s->fd, (off_t)(p->index * s->page_size));
  if (p->addr == MAP_FAILED) {
    rc = -errno;
    goto fail;
  }
  madvise(p->addr, size, MADV_DONTFORK);
  rc = populate(p->addr, size);
  if (rc == 0 && which == SMALL && mlock(p->addr, size) < 0 && dma->ops->device_writes)
    rc = -errno; /* otherwise nothing looks at where it is, so swapping it is fine */
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

void luio_dma_page_add(luio_dma *dma, page *p)
{
  p->next = dma->pages;
  dma->pages = p;
  dma->stats.pages++;
  dma->stats.mapped_bytes += p->size;
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
    rc = dma->ops->address(dma, p, err);
    if (rc == 0 && reachable(p, mask) && dma->ops->pin) {
      dma->ops->pin(dma, p);
      rc = dma->ops->address(dma, p, err); /* pinning may have moved it */
    }
    if (rc == 0 && reachable(p, mask))
      break;
    p->next = aside;
    aside = p;
    p = NULL;
    if (rc < 0)
      break;
    if (dma->ops->ascending) {
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
  if (dma->ops->claim)
    dma->ops->claim(dma, p->iova, p->size);
  luio_dma_page_add(dma, p);
  *out = p;
  return 0;
}

int luio_dma_store_for(uint64_t size, uint64_t align)
{
  return size > 2 * MIB || align > 2 * MIB ? HUGE_1G : HUGE_2M;
}

/* ---- Why there is none ------------------------------------------------------------------------- */

uint64_t luio_dma_free_hugepages(uint64_t page_size)
{
  char dir[96];
  uint64_t n = 0;
  luio_format(dir, sizeof dir, "/sys/kernel/mm/hugepages/hugepages-%llukB",
              (unsigned long long)(page_size / 1024));
  luio_sysfs_u64(dir, "free_hugepages", &n);
  return n;
}

#define HUGEPAGES "/proc/sys/vm/nr_hugepages"
#define HUGEPAGES_1G "/sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages"

/* The remedy for want of pages, and why there is none here. */
const char *luio_dma_more_hugepages(uint64_t page_size, char *text, size_t size)
{
  const char *file = page_size == GIB ? HUGEPAGES_1G : HUGEPAGES, *read_only = luio_read_only(file);
  luio_format(text, size, "echo %d > %s%s%s%s", page_size == GIB ? 1 : 32, file,
              read_only ? " (" : "", read_only ? read_only : "", read_only ? ")" : "");
  return text;
}

int luio_dma_no_pages(const luio_dma *dma, int rc, uint64_t size, uint64_t mask, luio_error *err)
{
  unsigned long long bytes = size, limit = mask;
  uint64_t huge = size > 2 * MIB ? GIB : 2 * MIB;
  const char *name = size > 2 * MIB ? "1 GiB" : "2 MiB";
  char remedy[256];
  if (rc == -EMFILE || rc == -ENFILE)
    return luio_fail(err, -rc, "%llu bytes of DMA memory for %s: %s: too many open files", bytes,
                     dma->who, luio_errno_name(-rc));
  if (rc == -ERANGE)
    return luio_fail(err, ERANGE,
                     "%llu bytes of DMA memory for %s below 0x%llx: no free %s page lies there: "
                     "reserve more at boot (hugepages=N on the kernel command line), or widen the "
                     "device's address mask",
                     bytes, dma->who, limit, name);
  if (rc == -ENOMEM)
    return luio_fail(
        err, ENOMEM,
        "%llu bytes of DMA memory for %s: %llu free hugepages of %s, one is needed: %s", bytes,
        dma->who, (unsigned long long)luio_dma_free_hugepages(huge), name,
        luio_dma_more_hugepages(huge, remedy, sizeof remedy));
  if (rc == -EAGAIN || rc == -EPERM)
    return luio_fail(err, ENOMEM, "%llu bytes of DMA memory for %s: mlock: %s: raise `ulimit -l`",
                     bytes, dma->who, luio_errno_name(-rc));
  if (rc == -EFBIG)
    return luio_fail(err, EFBIG, "%llu bytes of DMA memory for %s: memfd: EFBIG: raise `ulimit -f`",
                     bytes, dma->who);
  return luio_fail(err, -rc,
                   "%llu bytes of DMA memory for %s: memfd of %s pages: %s: does this "
                   "kernel have hugetlbfs?",
                   bytes, dma->who, name, luio_errno_name(-rc));
}
