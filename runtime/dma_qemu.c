/* dma_qemu.c - DMA memory of a QEMU machine's device: the machine's own memory, at the addresses that it has there.
 *
 * The pool has a store, whose file is the machine's memory; page n is the chunk n of 2 MiB. Other devices of the machine have
 * other chunks of the same file. */
#include "dma.h"
#include "qemu.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

static luio_qemu *machine(const luio_dma *dma)
{
  return ((const struct luio_qemu_own *)dma->device->own)->qemu;
}

static uint64_t index_of(const luio_qemu *q, uint64_t addr)
{
  return (addr - q->kind->ram) / QEMU_CHUNK;
}

/* The owner of its chunks: a number that the device of the next worker has, too, and no other device of the machine. */
static uint16_t owner_of(const luio_dma *dma)
{
  const struct luio_qemu_function *f = ((const struct luio_qemu_own *)dma->device->own)->function;
  if (f)
    return (uint16_t)((f->bus << 8 | f->devfn) + 1);
  return (uint16_t)(0x8000 | (dma->device->info.maps[0].addr >> 9 & 0x7fff));
}

static int grow(luio_dma *dma, uint64_t size, uint64_t align, uint64_t mask, page **out,
                luio_error *err)
{
  luio_qemu *q = machine(dma);
  uint64_t whole = (size + QEMU_CHUNK - 1) / QEMU_CHUNK * QEMU_CHUNK, addr;
  if (q->kind->ram > mask)
    return luio_fail(err, ERANGE,
                     "%llu bytes of DMA memory for %s below 0x%llx: the machine's memory begins at "
                     "0x%llx, which the device does not reach",
                     (unsigned long long)size, dma->who, (unsigned long long)mask,
                     (unsigned long long)q->kind->ram);
  int rc = luio_qemu_memory_take(q, owner_of(dma), whole, align, mask, &addr);
  if (rc < 0)
    return luio_fail(err, -rc,
                     "%llu bytes of DMA memory for %s below 0x%llx: the machine has %llu MiB, and "
                     "no free piece is so large and lies there: free buffers, or give it more: "
                     "memory = BYTES",
                     (unsigned long long)size, dma->who, (unsigned long long)mask,
                     (unsigned long long)(q->config.memory >> 20));
  page *p;
  rc = luio_dma_page_map(dma, HUGE_2M, index_of(q, addr), whole, &p);
  if (rc < 0) {
    luio_qemu_memory_release(q, addr, whole);
    return luio_fail(err, -rc, "DMA memory for %s: map memory of the machine's: %s", dma->who,
                     luio_errno_name(-rc));
  }
  p->iova = addr;
  memset(p->addr, 0, whole); /* another device's may have been there */
  rc = luio_dma_note_page(dma, p, err);
  if (rc < 0) {
    luio_dma_page_release(dma, p);
    luio_qemu_memory_release(q, addr, whole);
    return rc;
  }
  luio_dma_page_add(dma, p);
  *out = p;
  return 0;
}

static void release(luio_dma *dma, page *p)
{
  uint64_t addr = p->iova, size = p->size;
  luio_dma_page_release(dma, p);
  luio_qemu_memory_release(machine(dma), addr, size);
}

static bool believes(const luio_dma *dma, const page_record *r)
{
  const luio_qemu *q = machine(dma);
  return luio_qemu_is_kept(q) && r->store == HUGE_2M && r->index > 0 &&
         r->iova == q->kind->ram + r->index * QEMU_CHUNK;
}

static void claim(luio_dma *dma, uint64_t iova, uint64_t size)
{
  luio_qemu_memory_claim(machine(dma), owner_of(dma), iova, size);
}

/* Whether a chunk is in the pool, or will be. */
static bool has(const void *of, uint64_t addr)
{
  const luio_dma *dma = of;
  for (const page *p = dma->pages; p; p = p->next)
    if (addr >= p->iova && addr - p->iova < p->size)
      return true;
  for (int i = 0; dma->records && i < KEPT_PAGES; i++) {
    const page_record *r = &dma->records->pages[i];
    if (r->used && addr >= r->iova && addr - r->iova < r->size)
      return true;
  }
  return false;
}

static void drop(luio_dma *dma)
{
  luio_qemu_memory_forget(machine(dma), owner_of(dma), has, dma);
}

static const struct luio_dma_ops ops = {
    .grow = grow,
    .claim = claim,
    .believes = believes,
    .drop = drop,
    .release = release,
};

int luio_dma_of_qemu(luio_device *d, luio_dma **out, luio_error *err)
{
  luio_dma *dma = luio_dma_new(d, &ops, err);
  if (!dma)
    return -ENOMEM;
  luio_qemu *q = machine(dma);
  store *s = &dma->stores[HUGE_2M];
  s->fd = fcntl(q->memory, F_DUPFD_CLOEXEC, 0);
  s->pages = q->config.memory / QEMU_CHUNK;
  int rc = s->fd < 0 ? luio_fail(err, errno, "DMA memory for %s: %s: raise `ulimit -n`", dma->who,
                                 luio_errno_name(errno))
                     : 0;
  if (rc == 0 && q->guard.given) /* another's machine is not kept, nor is its memory */
    rc = luio_dma_adopt(dma, err);
  if (rc < 0) {
    luio_dma_close(dma);
    return rc;
  }
  *out = dma;
  return 0;
}
