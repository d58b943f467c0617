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
    if (luio_qemu_unplugged(own(d)))
      return -ENODEV;
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
    if (luio_qemu_unplugged(own(d)))
      return -ENODEV;
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

/* A device that went by another way than a slot of ours leaves config space that reads as ones. */
static bool present(luio_device *d)
{
  uint16_t vendor;
  return config_read(d, PCI_VENDOR, &vendor, 2) == 2 && vendor != 0xffff;
}

/* As the kernel does on unbind, should it be there still. */
static void leave(luio_device *d)
{
  uint16_t command;
  if (config_read(d, PCI_COMMAND, &command, 2) != 2)
    return;
  command &= (uint16_t)~PCI_COMMAND_MASTER;
  config_write(d, PCI_COMMAND, &command, 2);
}

/* What its config space says of it. */
static int describe(struct luio_qemu_own *o, luio_info *info, luio_error *err)
{
  uint32_t word[16] = {0};
  o->pulled = o->function->pulled;
  for (unsigned i = 0; i < 16; i++) {
    int rc = luio_qemu_read(o->qemu, QEMU_MEMORY, o->function->ecam + 4 * i, 32, &word[i], 1, err);
    if (rc < 0)
      return rc;
  }
  if ((word[0] & 0xffff) == 0xffff || luio_qemu_unplugged(o))
    return luio_fail(err, ENODEV, "it is unplugged");
  info->vendor = word[0] & 0xffff;
  info->device = word[0] >> 16;
  info->revision = word[2] & 0xff;
  info->class_code = word[2] >> 8;
  info->subvendor = word[11] & 0xffff;
  info->subdevice = word[11] >> 16;
  info->capabilities = luio_qemu_way.capabilities;
  if (!(word[15] >> 8 & 0xff))
    info->capabilities &= ~(unsigned)LUIO_HAS_INTERRUPTS;
  memcpy(info->bars, o->function->bars, sizeof info->bars);
  return 0;
}

/* As hotplug.c does for devices of the kernel's, by which files are opened anew. */
static int same(const luio_info *a, const luio_info *b, luio_error *err)
{
  if (a->vendor != b->vendor || a->device != b->device || a->class_code != b->class_code)
    return luio_fail(err, ENODEV, "it came back as another device: %04x:%04x, it was %04x:%04x",
                     b->vendor, b->device, a->vendor, a->device);
  for (int i = 0; i < LUIO_MAX_BARS; i++)
    if (a->bars[i].kind != b->bars[i].kind)
      return luio_fail(err, ENODEV, "it came back with another BAR %d: another device?", i);
  return 0;
}

static int come_back(luio_device *d, luio_error *err)
{
  struct luio_qemu_own *o = own(d);
  luio_info now = d->info;
  luio_error why;
  uint64_t events;
  int rc = luio_qemu_check(o->qemu, &why);
  if (rc < 0) /* its machine is another one then, with other memory */
    return luio_fail(err, ENODEV, "take %s again: %s: close it and open it anew", d->info.address,
                     why.message);
  rc = luio_qemu_settle(o->qemu, &why);
  if (rc == 0)
    rc = describe(o, &now, &why);
  if (rc == 0)
    rc = same(&d->info, &now, &why);
  if (rc < 0) {
    o->pulled = o->function->pulled - 1; /* it stays gone */
    return luio_fail(err, -rc, "take %s again: %s", d->info.address, why.message);
  }
  (void)!read(o->event_fd, &events, sizeof events); /* of the one before it */
  d->info = now;
  for (int i = 0; i < LUIO_MAX_REGIONS; i++)
    if (d->regions[i]) {
      d->regions[i]->addr = now.bars[i].addr;
      d->regions[i]->size = now.bars[i].size;
      d->regions[i]->gone = false;
    }
  d->gone = false;
  luio_config_watch(d);
  return 0;
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
  luio_error why;
  struct luio_qemu_function *f;
  struct luio_qemu_own *o = calloc(1, sizeof *o);
  if (!o)
    return luio_fail(err, ENOMEM, "open %s: out of memory", name);
  int rc = luio_qemu_settle(q, &why);
  int taken = rc < 0 ? rc : luio_qemu_take(q, bus, devfn, &f);
  if (taken < 0) {
    free(o);
    return luio_fail(err, -taken, "open %s: %s", name,
                     rc < 0            ? why.message
                     : taken == -EBUSY ? "it is open in this process"
                                       : "the machine has no such PCI function");
  }
  *o = (struct luio_qemu_own){.qemu = q, .function = f, .event_fd = -1};
  pthread_mutex_init(&o->messages.lock, NULL);
  d->own = o;
  d->backend = &luio_qemu_way;
  d->config_writable = d->intx_by_command = true;
  luio_format(info->address, sizeof info->address, "%s", name);
  luio_format(info->bus, sizeof info->bus, "pci");
  luio_format(info->driver, sizeof info->driver, "qemu");
  info->numa_node = -1;
  rc = describe(o, info, &why);
  return rc < 0 ? luio_fail(err, -rc, "open %s: %s", name, why.message) : 0;
}
