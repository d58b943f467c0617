/* backend_qemu_node.c - devices of a QEMU machine's device tree, as a way to a device.
 *
 * To the driver it is a UIO device that is not on PCI (backend_uio.c), behind uio_pdrv_genirq: region N is map N, an interrupt takes
 * the line off until it is unmasked (qemu_lines.c), there is no config space. Nothing is mapped; each access is a message. DMA reaches
 * the machine's memory, and looks into the caches, whatever the tree says of the real board: QEMU's does. */
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

/* By which a machine's devices are told apart. */
static uint64_t place(const luio_info *info)
{
  return info->maps[0].addr + info->maps[0].offset;
}

static bool has_region(const luio_device *d, unsigned index)
{
  return index < LUIO_MAX_MAPS && d->info.maps[index].present;
}

static int open_region(luio_device *d, luio_region *r, luio_error *err)
{
  (void)err;
  const luio_map *m = &d->info.maps[r->index];
  r->ops = &luio_qemu_memory_ops;
  r->addr = m->addr + m->offset;
  r->size = m->length;
  r->own = d->own;
  luio_format(r->name, sizeof r->name, "map%u", r->index);
  return 0;
}

/* ---- Interrupts -------------------------------------------------------------------------------- */

static int interrupt(luio_device *d, luio_irq_config *config, luio_error *err)
{
  (void)err;
  config->source = LUIO_IRQ_EVENTFD;
  config->fd = own(d)->event_fd;
  return 0;
}

/* EIO as of UIO, where there is no interrupt. */
static int no_line(const luio_device *d, const char *what, luio_error *err)
{
  return luio_fail(err, EIO, "%s the interrupt of %s: it has none", what, d->info.address);
}

static int unmask(luio_device *d, enum luio_line *line, luio_error *err)
{
  if (line)
    *line = LUIO_LINE_UNSEEN;
  if (own(d)->line < 0)
    return no_line(d, "unmask", err);
  luio_qemu *q = own(d)->qemu;
  luio_qemu_bus_begin(q);
  bool high = luio_qemu_line_on(q, (unsigned)own(d)->line);
  luio_qemu_bus_end(q);
  if (line)
    *line = high ? LUIO_LINE_HELD : LUIO_LINE_LOW;
  return luio_qemu_check(q, err);
}

static int mask(luio_device *d, luio_error *err)
{
  if (own(d)->line < 0)
    return no_line(d, "mask", err);
  luio_qemu *q = own(d)->qemu;
  luio_qemu_bus_begin(q);
  luio_qemu_line_off(q, (unsigned)own(d)->line);
  luio_qemu_bus_end(q);
  return luio_qemu_check(q, err);
}

/* ---- The device -------------------------------------------------------------------------------- */

static int open_node(luio_device *d, const luio_device *before, luio_error *err)
{
  (void)before;
  struct luio_qemu_own *o = own(d);
  o->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  if (o->event_fd < 0)
    return luio_fail(err, errno, "open %s: eventfd: %s: raise `ulimit -n`", d->info.address,
                     luio_errno_name(errno));
  if (d->info.capabilities & LUIO_HAS_INTERRUPTS) {
    int line = o->line;
    o->line = -1; /* until it is ours */
    luio_qemu_bus_begin(o->qemu);
    int rc = luio_qemu_line_open(o->qemu, (unsigned)line, o->edge, o->event_fd);
    luio_qemu_bus_end(o->qemu);
    if (rc < 0)
      return luio_fail(err, -rc, "open %s: line %d of its interrupt controller: %s",
                       d->info.address, line,
                       rc == -EBUSY ? "another open device has it" : "there is none");
    o->line = line;
  }
  return d->flags & (LUIO_READ_ONLY | LUIO_SHARED) ? 0 : luio_guard_open(&d->slots, err);
}

static void close_node(luio_device *d)
{
  struct luio_qemu_own *o = own(d);
  if (o->line >= 0) {
    luio_qemu_bus_begin(o->qemu);
    luio_qemu_line_close(o->qemu, (unsigned)o->line);
    luio_qemu_bus_end(o->qemu);
  }
  if (o->event_fd >= 0)
    close(o->event_fd);
  luio_qemu_let_node_go(o->qemu, place(&d->info));
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

static void forked(luio_device *d)
{
  luio_devnull_replace(own(d)->event_fd);
}

const struct luio_backend luio_qemu_node_way = {
    .capabilities = LUIO_HAS_INTERRUPTS | LUIO_HAS_DMA,
    .no_config = "it is not a PCI device",
    .no_interrupt = "its device tree gives it none; poll it",
    .no_messages = "it is not a PCI device: it has one line",
    .names_repeat = true,
    .open = open_node,
    .close = close_node,
    .has_region = has_region,
    .region = open_region,
    .interrupt = interrupt,
    .unmask = unmask,
    .mask = mask,
    .dma = luio_dma_of_qemu,
    .present = present,
    .leave = leave,
    .come_back = come_back,
    .forked = forked,
};

int luio_qemu_prepare_node(luio_device *d, luio_qemu *q, const luio_info *info, int line, bool edge,
                           luio_error *err)
{
  struct luio_qemu_own *o = calloc(1, sizeof *o);
  if (!o)
    return luio_fail(err, ENOMEM, "open %s: out of memory", info->address);
  int rc = luio_qemu_take_node(q, place(info));
  if (rc < 0) {
    free(o);
    return luio_fail(err, -rc, "open %s: %s", info->address,
                     rc == -EBUSY ? "it is open in this process"
                                  : "no more devices of one device tree can be open");
  }
  *o = (struct luio_qemu_own){.qemu = q, .line = line, .edge = edge, .event_fd = -1};
  d->own = o;
  d->backend = &luio_qemu_node_way;
  d->info = *info;
  d->info.capabilities = luio_qemu_node_way.capabilities;
  if (line < 0)
    d->info.capabilities &= ~(unsigned)LUIO_HAS_INTERRUPTS;
  d->info.numa_node = -1;
  return 0;
}
