/* backend_sim.c - simulated devices: the driver's side of a model, as a way to a device.
 *
 * sim.c is the bus. It also plays the kernel and uio_pci_generic: config space, the INTx level, a count on an eventfd.
 * So a simulated device looks like a PCI device here; luio_sim_address gives the addresses of its regions. */
#include "ways.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

/* ---- Regions ----------------------------------------------------------------------------------- */

static int read_sim(luio_region *r, uint64_t offset, unsigned width, uint64_t *value,
                    luio_error *err)
{
  return luio_sim_access(r->own, LUIO_SIM_READ, r, offset, width, value, err);
}

static int write_sim(luio_region *r, uint64_t offset, unsigned width, uint64_t value,
                     luio_error *err)
{
  return luio_sim_access(r->own, LUIO_SIM_WRITE, r, offset, width, &value, err);
}

/* Its `gone` is all there is to it: the model is not reached any more. */
static void nothing(luio_region *r)
{
  (void)r;
}

static const struct luio_region_ops sim_ops = {
    .kind = LUIO_REGION_SIM,
    .read = read_sim,
    .write = write_sim,
    .leave = nothing,
    .forked = nothing,
    .close = nothing,
};

static bool has_region(const luio_device *d, unsigned index)
{
  return index < LUIO_MAX_BARS && d->info.bars[index].kind != LUIO_BAR_NONE;
}

static int open_region(luio_device *d, luio_region *r, luio_error *err)
{
  (void)err;
  r->ops = &sim_ops;
  r->addr = d->info.bars[r->index].addr;
  r->size = d->info.bars[r->index].size;
  r->own = d->own;
  luio_format(r->name, sizeof r->name, "region%u", r->index);
  return 0;
}

/* ---- Config space, interrupts, DMA memory ------------------------------------------------------ */

static ssize_t config_read(luio_device *d, unsigned offset, void *to, size_t size)
{
  for (size_t at = 0, n; at < size; at += n) {
    uint32_t value;
    n = size - at < 4 ? size - at : 4;
    luio_sim_config_read(d->own, offset + (unsigned)at, 8 * (unsigned)n, &value);
    value = htole32(value);
    memcpy((uint8_t *)to + at, &value, n);
  }
  return (ssize_t)size;
}

static ssize_t config_write(luio_device *d, unsigned offset, const void *from, size_t size)
{
  uint32_t value = 0;
  memcpy(&value, from, size);
  luio_sim_config_write(d->own, offset, 8 * (unsigned)size, le32toh(value));
  return (ssize_t)size;
}

static int interrupt(luio_device *d, luio_irq_config *config, luio_error *err)
{
  (void)err;
  config->source = LUIO_IRQ_EVENTFD;
  config->fd = luio_sim_event_fd(d->own);
  return 0;
}

/* ---- The device -------------------------------------------------------------------------------- */

static int open_sim(luio_device *d, const luio_device *before, luio_error *err)
{
  (void)before;
  return d->flags & (LUIO_READ_ONLY | LUIO_SHARED) ? 0 : luio_guard_open(&d->slots, err);
}

/* It has no files. */
static void close_sim(luio_device *d)
{
  (void)d;
}

/* As the kernel does on unbind. */
static void leave(luio_device *d)
{
  uint32_t command;
  luio_sim_config_read(d->own, PCI_COMMAND, 16, &command);
  luio_sim_config_write(d->own, PCI_COMMAND, 16, command & ~(uint32_t)PCI_COMMAND_MASTER);
}

static int come_back(luio_device *d, luio_error *err)
{
  (void)err;
  for (int i = 0; i < LUIO_MAX_REGIONS; i++)
    if (d->regions[i])
      d->regions[i]->gone = false;
  d->gone = false;
  luio_config_watch(d);
  return 0;
}

const struct luio_backend luio_simulated = {
    .capabilities = LUIO_HAS_CONFIG | LUIO_HAS_BARS | LUIO_HAS_INTERRUPTS | LUIO_HAS_DMA,
    .no_interrupt = "its model declares none; poll it",
    .no_messages = "a model has the one interrupt",
    .names_repeat = true,
    .open = open_sim,
    .close = close_sim,
    .has_region = has_region,
    .region = open_region,
    .interrupt = interrupt,
    .unmask = luio_intx_unmask,
    .mask = luio_intx_mask,
    .dma = luio_dma_of_sim,
    .config_read = config_read,
    .config_write = config_write,
    .leave = leave,
    .come_back = come_back,
    .forked = close_sim,
};

static void describe(luio_info *info, const luio_sim *sim, const char *name)
{
  const luio_sim_config *c = luio_sim_identity(sim);
  luio_format(info->address, sizeof info->address, "sim:%s", name);
  luio_format(info->bus, sizeof info->bus, "sim");
  luio_format(info->driver, sizeof info->driver, "model");
  info->vendor = c->vendor;
  info->device = c->device;
  info->subvendor = c->subvendor;
  info->subdevice = c->subdevice;
  info->class_code = c->class_code;
  info->revision = c->revision;
  info->numa_node = -1;
  info->capabilities = luio_simulated.capabilities;
  if (!c->n_vectors)
    info->capabilities &= ~(unsigned)LUIO_HAS_INTERRUPTS;
  for (int i = 0; i < LUIO_MAX_BARS; i++) {
    info->bars[i].map = -1;
    if (!c->region_size[i])
      continue;
    info->bars[i].kind = LUIO_BAR_MEM;
    info->bars[i].addr = luio_sim_address(sim, i);
    info->bars[i].size = c->region_size[i];
  }
}

void luio_sim_prepare(luio_device *d, luio_sim *sim, const char *name)
{
  d->backend = &luio_simulated;
  d->own = sim;
  d->config_writable = d->intx_by_command = true;
  describe(&d->info, sim, name);
}
