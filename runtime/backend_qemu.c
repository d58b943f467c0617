/* backend_qemu.c - QEMU's devices without a guest, as a way to a device.
 *
 * To the driver it is a PCI device: config space, BARs, INTx masked at each interrupt and unmasked by the command
 * register, DMA memory. Its BARs are not mapped; each access is a message (qemu_bus.c). */
#include "qemu.h"
#include "ways.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

static struct luio_qemu_own *own(const luio_device *d)
{
  return d->own;
}

/* ---- Regions ----------------------------------------------------------------------------------- */

static bool has_region(const luio_device *d, unsigned index)
{
  return index < LUIO_MAX_BARS && d->info.bars[index].kind != LUIO_BAR_NONE;
}

static int open_region(luio_device *d, luio_region *r, luio_error *err)
{
  (void)err;
  const luio_bar *bar = &d->info.bars[r->index];
  r->ops = bar->kind == LUIO_BAR_IO ? &luio_qemu_port_ops : &luio_qemu_memory_ops;
  r->addr = bar->addr;
  r->size = bar->size;
  r->own = d->own;
  luio_format(r->name, sizeof r->name, "BAR%u", r->index);
  return 0;
}

/* ---- Config space, interrupts ------------------------------------------------------------------ */

static unsigned bits(unsigned offset, size_t size)
{
  return size >= 4 && offset % 4 == 0 ? 32 : size >= 2 && offset % 2 == 0 ? 16 : 8;
}

static ssize_t config_read(luio_device *d, unsigned offset, void *to, size_t size)
{
  luio_error why;
  for (size_t at = 0; at < size;) {
    unsigned width = bits(offset + (unsigned)at, size - at);
    int rc = luio_qemu_read(own(d)->qemu, QEMU_MEMORY, own(d)->function->ecam + offset + at, width,
                            (uint8_t *)to + at, 1, &why);
    if (rc < 0)
      return rc;
    at += width / 8;
  }
  return (ssize_t)size;
}

static ssize_t config_write(luio_device *d, unsigned offset, const void *from, size_t size)
{
  luio_error why;
  for (size_t at = 0; at < size;) {
    unsigned width = bits(offset + (unsigned)at, size - at);
    int rc = luio_qemu_write(own(d)->qemu, QEMU_MEMORY, own(d)->function->ecam + offset + at, width,
                             (const uint8_t *)from + at, 1, &why);
    if (rc < 0)
      return rc;
    at += width / 8;
  }
  return (ssize_t)size;
}

static int interrupt(luio_device *d, luio_irq_config *config, luio_error *err)
{
  (void)err;
  config->source = LUIO_IRQ_EVENTFD;
  config->fd = own(d)->event_fd;
  return 0;
}

/* ---- The device -------------------------------------------------------------------------------- */

static int open_qemu(luio_device *d, const luio_device *before, luio_error *err)
{
  (void)before;
  struct luio_qemu_own *o = own(d);
  o->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  if (o->event_fd < 0)
    return luio_fail(err, errno, "open %s: eventfd: %s: raise `ulimit -n`", d->info.address,
                     luio_errno_name(errno));
  if (d->info.capabilities & LUIO_HAS_INTERRUPTS) {
    int rc = luio_qemu_listen(o->qemu, o->function->ecam, o->event_fd, err);
    if (rc < 0)
      return rc;
  }
  return d->flags & (LUIO_READ_ONLY | LUIO_SHARED) ? 0 : luio_guard_open(&d->slots, err);
}

static void close_qemu(luio_device *d)
{
  struct luio_qemu_own *o = own(d);
  luio_qemu_leave(o->qemu, o->event_fd);
  if (o->event_fd >= 0)
    close(o->event_fd);
  pthread_mutex_destroy(&o->messages.lock);
  luio_qemu_let_go(o->qemu, o->function);
  free(o);
}

static bool present(luio_device *d)
{
  return luio_qemu_check(own(d)->qemu, NULL) == 0;
}

static void leave(luio_device *d)
{
  (void)d;
}

/* Its machine is another one then, with other memory. */
static int come_back(luio_device *d, luio_error *err)
{
  return luio_fail(err, ENODEV, "take %s again: its QEMU has ended: close it and open it anew",
                   d->info.address);
}

/* qemu.c has the machine. */
static void forked(luio_device *d)
{
  luio_devnull_replace(own(d)->event_fd);
}

const struct luio_backend luio_qemu_way = {
    .capabilities = LUIO_HAS_CONFIG | LUIO_HAS_BARS | LUIO_HAS_INTERRUPTS | LUIO_HAS_DMA,
    .no_interrupt = "it has no interrupt pin; poll it",
    .names_repeat = true,
    .open = open_qemu,
    .close = close_qemu,
    .has_region = has_region,
    .region = open_region,
    .interrupt = interrupt,
    .unmask = luio_intx_unmask,
    .mask = luio_intx_mask,
    .messages = &luio_qemu_message_ops,
    .dma = luio_dma_of_qemu,
    .config_read = config_read,
    .config_write = config_write,
    .present = present,
    .leave = leave,
    .come_back = come_back,
    .forked = forked,
};

int luio_qemu_prepare(luio_device *d, luio_qemu *q, unsigned bus, unsigned devfn, const char *name,
                      luio_error *err)
{
  luio_info *info = &d->info;
  struct luio_qemu_function *f;
  struct luio_qemu_own *o = calloc(1, sizeof *o);
  uint32_t word[16] = {0};
  if (!o)
    return luio_fail(err, ENOMEM, "open %s: out of memory", name);
  int taken = luio_qemu_take(q, bus, devfn, &f);
  if (taken < 0) {
    free(o);
    return luio_fail(err, -taken, "open %s: %s", name,
                     taken == -EBUSY ? "it is open in this process"
                                     : "the machine has no such PCI function");
  }
  *o = (struct luio_qemu_own){.qemu = q, .function = f, .event_fd = -1};
  pthread_mutex_init(&o->messages.lock, NULL);
  d->own = o;
  d->backend = &luio_qemu_way;
  d->config_writable = d->intx_by_command = true;
  for (unsigned i = 0; i < 16; i++) {
    int rc = luio_qemu_read(q, QEMU_MEMORY, f->ecam + 4 * i, 32, &word[i], 1, err);
    if (rc < 0)
      return rc;
  }
  luio_format(info->address, sizeof info->address, "%s", name);
  luio_format(info->bus, sizeof info->bus, "pci");
  luio_format(info->driver, sizeof info->driver, "qemu");
  info->vendor = word[0] & 0xffff;
  info->device = word[0] >> 16;
  info->revision = word[2] & 0xff;
  info->class_code = word[2] >> 8;
  info->subvendor = word[11] & 0xffff;
  info->subdevice = word[11] >> 16;
  info->numa_node = -1;
  info->capabilities = luio_qemu_way.capabilities;
  if (!(word[15] >> 8 & 0xff))
    info->capabilities &= ~(unsigned)LUIO_HAS_INTERRUPTS;
  memcpy(info->bars, f->bars, sizeof info->bars);
  return 0;
}
