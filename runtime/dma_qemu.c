/* dma_qemu.c - DMA memory of a QEMU machine's device: the machine's own memory, at the addresses that it has there. */
#include "dma.h"
#include "qemu.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static luio_qemu *machine(const luio_dma *dma)
{
  return ((const struct luio_qemu_own *)dma->device->own)->qemu;
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
  int rc = luio_qemu_memory_take(q, whole, align, mask, &addr);
  if (rc < 0)
    return luio_fail(err, -rc,
                     "%llu bytes of DMA memory for %s below 0x%llx: the machine has %llu MiB, and "
                     "no free piece is so large and lies there: free buffers, or give it more: "
                     "memory = BYTES",
                     (unsigned long long)size, dma->who, (unsigned long long)mask,
                     (unsigned long long)(q->config.memory >> 20));
  page *p = calloc(1, sizeof *p);
  extent *e = calloc(1, sizeof *e);
  if (!p || !e) {
    free(p);
    free(e);
    luio_qemu_memory_release(q, addr, whole);
    return luio_fail(err, ENOMEM, "DMA memory for %s: out of memory", dma->who);
  }
  *e = (extent){.size = whole};
  *p = (page){
      .addr = luio_qemu_memory_at(q, addr), .size = whole, .unit = whole, .iova = addr, .free = e};
  memset(p->addr, 0, whole); /* another device's may have been there */
  luio_dma_page_add(dma, p);
  *out = p;
  return 0;
}

static void release(luio_dma *dma, page *p)
{
  luio_qemu_memory_release(machine(dma), p->iova, p->size);
  luio_dma_free_extents(p->free);
  free(p);
}

static const struct luio_dma_ops ops = {
    .grow = grow,
    .release = release,
};

int luio_dma_of_qemu(luio_device *d, luio_dma **out, luio_error *err)
{
  luio_dma *dma = luio_dma_new(d, &ops, err);
  if (!dma)
    return -ENOMEM;
  *out = dma;
  return 0;
}
