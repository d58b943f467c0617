/* device.c - a device: opening and closing it and its parts.
 *
 * Opening touches no register, does not unmask and does not enable bus master. The backend chooses the files to open
 * (backend_*.c); regions are opened on first use.
 *
 * Closing order: interrupt threads (they touch registers), messages off, bus master off with a read-back (the device writes no memory
 * after that), regions, DMA memory, files. */
#include "device.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* In a forked child: the device is gone. */
static void forked(void *of)
{
  luio_device *d = of;
  d->gone = true;
  for (int i = 0; i < LUIO_MAX_REGIONS; i++) {
    luio_region *r = d->regions[i];
    if (!r)
      continue;
    r->gone = true;
    r->ops->forked(r);
  }
  if (d->backend)
    d->backend->forked(d);
  luio_slots_forked(&d->slots);
  if (d->dma)
    luio_dma_forked(d->dma);
  d->irqs = NULL; /* their threads are not here */
  d->bus_master_on = false;
}

int luio_device_new(unsigned flags, const char *what, luio_device **out, luio_error *err)
{
  luio_device *d = calloc(1, sizeof *d);
  if (!d)
    return luio_fail(err, ENOMEM, "%s: out of memory", what);
  d->flags = flags;
  d->uio_fd = d->config_fd = d->mem_fd = -1;
  luio_slots_init(&d->slots);
  pthread_mutex_init(&d->command_lock, NULL);
  pthread_mutex_init(&d->irq_lock, NULL);
  int rc = luio_devnull_hold(what, err);
  if (rc < 0) {
    pthread_mutex_destroy(&d->command_lock);
    pthread_mutex_destroy(&d->irq_lock);
    free(d);
    return rc;
  }
  d->fork_watch = (struct luio_fork_watch){.forked = forked, .of = d};
  luio_fork_add(&d->fork_watch);
  *out = d;
  return 0;
}

void luio_device_free(luio_device *d)
{
  luio_fork_remove(&d->fork_watch);
  luio_devnull_release();
  for (int i = 0; i < LUIO_MAX_REGIONS; i++)
    luio_region_free(d->regions[i]);
  luio_dma_close(d->dma);
  if (d->backend)
    d->backend->close(d);
  luio_state_close(&d->slots);
  luio_guard_close(&d->slots); /* last: from here on it is of no concern to the guardian */
  pthread_mutex_destroy(&d->command_lock);
  pthread_mutex_destroy(&d->irq_lock);
  free(d);
}

/* Opens the files of a device that is described. */
static int open_described(luio_device *d, const luio_device *before, luio_error *err)
{
  luio_format(d->slots.address, sizeof d->slots.address, "%s", d->info.address);
  d->slots.repeats = d->backend->names_repeat;
  return d->backend->open(d, before, err);
}

int luio_device_open_files(luio_device *d, const char *address, const luio_device *before,
                           luio_error *err)
{
  /* arm64 kernels come with others, too, and what uio and pagemap count in are pages. */
  long page = sysconf(_SC_PAGESIZE);
  if (page != (long)LUIO_PAGE)
    return luio_fail(err, ENOTSUP,
                     "open %s: this kernel's pages have %ld bytes, and luio knows those of %llu: "
                     "boot one with such",
                     address, page, LUIO_PAGE);
  int rc = luio_find(address, &d->info, err);
  if (rc < 0)
    return rc;
  d->backend = luio_backend_of(&d->info);
  return open_described(d, before, err);
}

/* The end of both ways to open: the device is the caller's, or is freed. */
static int opened(luio_device *d, int rc, luio_device **out)
{
  if (rc < 0) {
    luio_device_free(d);
    return rc;
  }
  luio_config_watch(d);
  *out = d;
  return 0;
}

int luio_device_open(const char *address, unsigned flags, luio_device **out, luio_error *err)
{
  luio_device *d = NULL;
  char what[96];
  luio_format(what, sizeof what, "open %s", address);
  int rc = luio_device_new(flags, what, &d, err);
  return rc < 0 ? rc : opened(d, luio_device_open_files(d, address, NULL, err), out);
}

int luio_device_open_sim(luio_sim *sim, const char *name, unsigned flags, luio_device **out,
                         luio_error *err)
{
  luio_device *d = NULL;
  char what[96];
  luio_format(what, sizeof what, "open sim:%s", name);
  int rc = luio_device_new(flags, what, &d, err);
  if (rc < 0)
    return rc;
  luio_sim_prepare(d, sim, name);
  return opened(d, open_described(d, NULL, err), out);
}

int luio_device_open_qemu(luio_qemu *qemu, unsigned bus, unsigned slot, unsigned function,
                          const char *name, unsigned flags, luio_device **out, luio_error *err)
{
  luio_device *d = NULL;
  char what[96];
  luio_format(what, sizeof what, "open %s", name);
  int rc = luio_device_new(flags, what, &d, err);
  if (rc < 0)
    return rc;
  rc = luio_qemu_prepare(d, qemu, bus, slot << 3 | function, name, err);
  return opened(d, rc < 0 ? rc : open_described(d, NULL, err), out);
}

int luio_device_open_qemu_node(luio_qemu *qemu, const luio_info *info, int line, int edge,
                               unsigned flags, luio_device **out, luio_error *err)
{
  luio_device *d = NULL;
  char what[96];
  luio_format(what, sizeof what, "open %s", info->address);
  int rc = luio_device_new(flags, what, &d, err);
  if (rc < 0)
    return rc;
  rc = luio_qemu_prepare_node(d, qemu, info, line, edge, err);
  return opened(d, rc < 0 ? rc : open_described(d, NULL, err), out);
}

const luio_info *luio_device_info(const luio_device *d)
{
  return &d->info;
}

int luio_device_dma(luio_device *d, luio_dma **out, luio_error *err)
{
  int rc = luio_function_is_ours(d, "DMA memory", err);
  if (rc < 0)
    return rc;
  if (!d->dma && d->flags & LUIO_READ_ONLY)
    return luio_fail(err, EACCES, "DMA memory for %s: it was opened read-only", d->info.address);
  if (!d->backend->dma)
    return luio_fail(err, ENOTSUP, "DMA memory for %s: %s", d->info.address, d->backend->no_dma);
  if (!d->dma)
    rc = d->backend->dma(d, &d->dma, err);
  *out = d->dma;
  return rc;
}

int luio_device_settle(luio_device *d, luio_error *err)
{
  int rc = 0;
  d->slots.settled = true;
  if (d->dma)
    luio_dma_settle(d->dma);
  else if (d->slots.kept[GUARD_RECORDS] >= 0) {
    luio_dma *ignored;
    rc = luio_device_dma(d, &ignored, err); /* settles what it takes over */
  }
  return rc;
}

int luio_device_unsettled(luio_device *d, uint64_t *bytes, luio_error *err)
{
  luio_dma *dma = d->dma;
  int rc = 0;
  if (!dma && d->slots.kept[GUARD_RECORDS] >= 0)
    rc = luio_device_dma(d, &dma, err);
  *bytes = rc == 0 && dma ? luio_dma_unsettled(dma) : 0;
  return rc;
}

int luio_device_close(luio_device *d, luio_error *err)
{
  if (!d)
    return 0;
  while (d->irqs) {
    int rc = luio_irq_close(d->irqs, LUIO_STOP_NS, err);
    if (rc < 0)
      return rc;
  }
  luio_vectors_off(d);
  if (d->bus_master_on) {
    /* A device that is gone can't be switched off, nor does it need to be. */
    luio_error ignored;
    luio_bus_master(d, 0, &ignored);
  }
  if (d->bars_taken && !d->gone && !d->bus_master_on)
    guard_bars_give_back(d->info.sysfs); /* without root nothing happens: the guardian does it */
  luio_device_free(d);
  return 0;
}
