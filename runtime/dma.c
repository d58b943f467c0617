/* dma.c - memory a device can reach, carved from hugepages.
 *
 * A pool per device. It takes pages from the kernel (dma_pages.c), 2 MiB each, or 1 GiB for larger
 * buffers. A page is contiguous in physical memory; a buffer is a piece of one page, so it is
 * contiguous too. Free pieces of a page are a sorted list of extents; the first that fits size,
 * alignment and address mask is taken, and when none does, the next page.
 *
 * Buffers that are freed go back to their page; pages go back to the kernel only in
 * luio_dma_close, which the device calls after bus master is off. Under a guardian those that hold
 * named buffers stay in their memfd, for the next worker (dma_kept.c). */
#include "dma.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SIM_FIRST_IOVA (2 * MIB) /* not 0: a forgotten address register must not hit a buffer */

/* ---- Pieces ------------------------------------------------------------------------------------ */

/* Cuts size bytes from a free extent of the page; the offset in it, or UINT64_MAX. */
static uint64_t cut(page *p, uint64_t size, uint64_t align, uint64_t mask)
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

/* ---- Why not ------------------------------------------------------------------------------------ */

static uint64_t free_hugepages(uint64_t page_size)
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

/* What gives more of them, and why it can't be done here. */
static const char *more_hugepages(uint64_t page_size, char *text, size_t size)
{
  const char *file = page_size == GIB ? HUGEPAGES_1G : HUGEPAGES, *read_only = luio_read_only(file);
  luio_format(text, size, "echo %d > %s%s%s%s", page_size == GIB ? 1 : 32, file,
              read_only ? " (" : "", read_only ? read_only : "", read_only ? ")" : "");
  return text;
}

static int explain(luio_dma *dma, int rc, uint64_t size, uint64_t mask, luio_error *err)
{
  unsigned long long bytes = size, limit = mask;
  uint64_t huge = size > 2 * MIB ? GIB : 2 * MIB;
  const char *name = size > 2 * MIB ? "1 GiB" : "2 MiB";
  char remedy[256];
  if (rc == -EMFILE || rc == -ENFILE)
    return luio_fail(err, -rc, "%llu bytes of DMA memory for %s: %s: too many open files", bytes,
                     dma->who, luio_errno_name(-rc));
  if (dma->of_regions)
    return luio_fail(err, -rc,
                     "%llu bytes of DMA memory for %s below 0x%llx: its UIO driver has brought "
                     "%llu, in %llu regions, and no free piece is so large and lies there: free "
                     "buffers, or have the driver bring more",
                     bytes, dma->who, limit, (unsigned long long)dma->stats.mapped_bytes,
                     (unsigned long long)dma->stats.pages);
  if (rc == -ERANGE && dma->sim && !dma->stats.buffers)
    return luio_fail(
        err, ERANGE,
        "%llu bytes of DMA memory for %s below 0x%llx: simulated devices get addresses "
        "from 0x%llx on: widen the mask",
        bytes, dma->who, limit, (unsigned long long)SIM_FIRST_IOVA);
  if (rc == -ERANGE && dma->sim)
    return luio_fail(err, ERANGE,
                     "%llu bytes of DMA memory for %s below 0x%llx: all of it is in "
                     "use: free buffers",
                     bytes, dma->who, limit);
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
        dma->who, (unsigned long long)free_hugepages(huge), name,
        more_hugepages(huge, remedy, sizeof remedy));
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

/* ---- Allocating -------------------------------------------------------------------------------- */

/* A new page for a buffer, hugepages first. */
static int grow(luio_dma *dma, uint64_t size, uint64_t align, uint64_t mask, page **out,
                luio_error *err)
{
  int which = size > 2 * MIB || align > 2 * MIB ? HUGE_1G : HUGE_2M;
  luio_error why = {.code = 0};
  if (dma->of_regions)
    return explain(dma, -ENOMEM, size, mask, err);
  int rc = luio_dma_page_take(dma, which, dma->stores[which].page_size, mask, out, &why);
  if (rc == 0)
    return 0;
  uint64_t small = (size + LUIO_PAGE - 1) & ~(LUIO_PAGE - 1);
  /* Pages next to each other in our address space are not so in memory: only one page will do. On
   * a simulated device we say what is next to what. */
  bool one_page = small == LUIO_PAGE && align <= LUIO_PAGE;
  if (!why.code && (one_page || dma->sim)) {
    if (dma->sim && align > LUIO_PAGE)
      small = (size + align - 1) & ~(align - 1);
    int fallback = luio_dma_page_take(dma, SMALL, small, mask, out, &why);
    if (fallback == 0 && dma->sim)
      return 0; /* a model does not care */
    if (fallback == 0) {
      char remedy[256];
      luio_dma_warn(dma,
                    "%llu bytes of DMA memory for %s are in small pages: %llu free hugepages of 2 "
                    "MiB: %s",
                    (unsigned long long)size, dma->who, (unsigned long long)free_hugepages(2 * MIB),
                    more_hugepages(2 * MIB, remedy, sizeof remedy));
      return 0;
    }
    if (fallback != -ENOMEM)
      rc = fallback;
  }
  if (why.code)
    return luio_fail(err, why.code, "%s", why.message);
  return explain(dma, rc, size, mask, err);
}

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
    if ((offset = cut(p, reserved, align, mask)) != UINT64_MAX)
      break;
  if (!p) {
    rc = grow(dma, reserved, align, mask, &p, err);
    if (rc == 0 && (offset = cut(p, reserved, align, mask)) == UINT64_MAX)
      rc = luio_fail(err, ENOMEM,
                     "%llu bytes of DMA memory for %s aligned to %llu: no page is so "
                     "aligned",
                     (unsigned long long)size, dma->who, (unsigned long long)align);
  }
  if (rc == 0)
    l->buffer =
        (luio_dma_buffer){.addr = p->addr + offset,
                          .iova = p->iova + offset,
                          .size = size,
                          .page_size = dma->of_regions ? p->size : dma->stores[p->store].page_size,
                          .uncached = dma->of_regions,
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

/* What lies in a page, for people: " (3 buffers, "ring" among them)", or nothing. */
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

int luio_dma_page_moved(const luio_dma *dma, const page *p, luio_error *err)
{
  if (dma->sim || dma->of_regions) /* the kernel's own allocator keeps it where it is */
    return 0;
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

/* The same, with what to do about it. */
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

/* ---- Warnings and figures ------------------------------------------------------------------------ */

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

static luio_dma *pool(luio_device *device, const char *who)
{
  luio_dma *dma = calloc(1, sizeof *dma);
  if (!dma)
    return NULL;
  luio_format(dma->who, sizeof dma->who, "%s", who);
  pthread_mutex_init(&dma->lock, NULL);
  dma->device = device;
  dma->pagemap_fd = dma->ring_fd = dma->park[0] = dma->park[1] = -1;
  dma->stores[SMALL] = (store){.page_size = LUIO_PAGE, .fd = -1};
  dma->stores[HUGE_2M] = (store){.page_size = 2 * MIB, .fd = -1};
  dma->stores[HUGE_1G] = (store){.page_size = GIB, .fd = -1};
  return dma;
}

int luio_dma_open_physical(luio_device *device, luio_dma **out, luio_error *err)
{
  const char *who = device->info.address;
  luio_dma *dma = pool(device, who);
  if (!dma)
    return luio_fail(err, ENOMEM, "DMA memory for %s: out of memory", who);
  dma->pagemap_fd = luio_pagemap_open(who, err);
  luio_dma_pin_open(dma);
  int rc = dma->pagemap_fd < 0 ? dma->pagemap_fd : luio_dma_adopt(dma, err);
  if (rc < 0) {
    luio_dma_close(dma);
    return rc;
  }
  *out = dma;
  return 0;
}

int luio_dma_open_regions(luio_device *device, luio_dma **out, luio_error *err)
{
  const char *who = device->info.address;
  luio_dma *dma = pool(device, who);
  if (!dma)
    return luio_fail(err, ENOMEM, "DMA memory for %s: out of memory", who);
  dma->of_regions = true;
  for (unsigned i = LUIO_MAX_MAPS; i-- > 0;) { /* the first of them is the first to be used */
    luio_region *r;
    if (!device->info.maps[i].present || !device->info.maps[i].at_open)
      continue;
    int rc = luio_device_region(device, i, &r, err);
    if (rc == 0)
      rc = luio_dma_page_of_region(dma, r, err);
    if (rc < 0) {
      luio_dma_close(dma);
      return rc;
    }
  }
  *out = dma;
  return 0;
}

bool luio_dma_is_of_regions(const luio_dma *dma)
{
  return dma->of_regions;
}

int luio_dma_open_sim(luio_device *device, luio_dma **out, luio_error *err)
{
  const char *who = device->info.address;
  luio_dma *dma = pool(device, who);
  if (!dma)
    return luio_fail(err, ENOMEM, "DMA memory for %s: out of memory", who);
  dma->sim = true;
  dma->next_iova = SIM_FIRST_IOVA;
  int rc = luio_dma_adopt(dma, err);
  if (rc < 0) {
    luio_dma_close(dma);
    return rc;
  }
  *out = dma;
  return 0;
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
  if (dma->sim)
    luio_sim_set_dma(dma->device->sim, NULL);
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
      luio_dma_page_release(dma, p);
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
