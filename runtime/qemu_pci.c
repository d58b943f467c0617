/* qemu_pci.c - the part of firmware: buses get numbers, and BARs addresses.
 *
 * The machine has an ECAM, config space as memory (that of q35 is switched on first): each access of config space is one access of
 * memory. Addresses are given out upwards from the start of a window and never taken back. Below a
 * bridge 64-bit addresses are for prefetchable BARs alone (PCI-to-PCI Bridge Architecture 1.2, section 3.2.5). */
#include "qemu.h"

#include <errno.h>

enum {
  CLASS = 0x08,
  HEADER = 0x0c,
  BAR0 = 0x10,
  BUSES = 0x18,        /* bridges: primary, secondary, subordinate */
  BRIDGE_PORTS = 0x1c, /* base, limit, secondary status */
  BRIDGE_MEMORY = 0x20,
  BRIDGE_PREFETCH = 0x24,
  BRIDGE_PREFETCH_BASE_HIGH = 0x28,
  BRIDGE_PREFETCH_LIMIT_HIGH = 0x2c,
  BRIDGE_PORTS_HIGH = 0x30,
  PCIEXBAR = 0x60, /* q35's host bridge: Intel 3 Series Express Chipset datasheet, 5.1.15 */
};

/* Where the windows of q35 are free with up to 2 GiB of memory: hw/i386/pc_q35.c, hw/pci-host/q35.c. */
static const luio_qemu_board q35 = {
    .ecam = 0xb0000000,
    .memory = {0xc0000000, 0xfbffffff},
    .prefetch = {0x800000000, 0xfffffffff},
    .io = {0x1000, 0xffff},
};

enum { MEMORY, PREFETCH, PORTS, WINDOWS };
static const uint64_t bridge_unit[WINDOWS] = {1 << 20, 1 << 20, 4096};

struct scan {
  luio_qemu *q;
  luio_qemu_window window[WINDOWS];
  uint64_t next[WINDOWS];
  unsigned buses; /* numbers given out */
  int rc;
  luio_error *err;
};

static uint32_t get(struct scan *s, uint64_t ecam, unsigned offset, unsigned width)
{
  uint32_t value = 0;
  if (s->rc == 0)
    s->rc = luio_qemu_read(s->q, QEMU_MEMORY, ecam + offset, width, &value, 1, s->err);
  return value;
}

static void put(struct scan *s, uint64_t ecam, unsigned offset, unsigned width, uint32_t value)
{
  if (s->rc == 0)
    s->rc = luio_qemu_write(s->q, QEMU_MEMORY, ecam + offset, width, &value, 1, s->err);
}

/* One dword of the host bridge, by the ports that every PC has. */
static void put_by_ports(struct scan *s, unsigned offset, uint32_t value)
{
  uint32_t address = 0x80000000 | offset;
  if (s->rc == 0)
    s->rc = luio_qemu_write(s->q, QEMU_PORTS, 0xcf8, 32, &address, 1, s->err);
  if (s->rc == 0)
    s->rc = luio_qemu_write(s->q, QEMU_PORTS, 0xcfc, 32, &value, 1, s->err);
}

static uint64_t up(uint64_t value, uint64_t unit)
{
  return (value + unit - 1) & ~(unit - 1);
}

/* An address for size bytes; 0: the window is full. */
static uint64_t take(struct scan *s, int w, uint64_t size)
{
  uint64_t at = up(s->next[w], size);
  if (at < s->next[w] || at > s->window[w].last || size - 1 > s->window[w].last - at)
    return 0;
  s->next[w] = at + size;
  return at;
}

/* ---- BARs -------------------------------------------------------------------------------------- */

/* Places BAR i; how many of the registers it takes. */
static int place(struct scan *s, struct luio_qemu_function *f, int i)
{
  unsigned at = BAR0 + 4 * (unsigned)i;
  luio_bar *bar = &f->bars[i];
  put(s, f->ecam, at, 32, ~0u);
  uint32_t low = get(s, f->ecam, at, 32), high = 0;
  bar->map = -1;
  if (!low)
    return 1;
  bool ports = low & 1;
  uint64_t mask = ports ? low & ~3u : low & ~15u;
  bar->kind = ports ? LUIO_BAR_IO : LUIO_BAR_MEM;
  bar->is64 = !ports && (low & 6) == 4;
  bar->prefetchable = !ports && low & 8;
  bar->flags =
      ports ? 0x100 : 0x200 | (bar->prefetchable ? 0x2000 : 0) | (bar->is64 ? 0x100000 : 0);
  if (bar->is64) {
    put(s, f->ecam, at + 4, 32, ~0u);
    high = get(s, f->ecam, at + 4, 32);
    mask |= (uint64_t)high << 32;
  } else if (ports)
    mask |= 0xffffffffffff0000; /* the upper half may be fixed at 0 */
  else
    mask |= 0xffffffff00000000;
  bar->size = ~mask + 1;
  int w = ports ? PORTS : bar->is64 && (bar->prefetchable || !f->bus) ? PREFETCH : MEMORY;
  bar->addr = take(s, w, bar->size);
  put(s, f->ecam, at, 32, (uint32_t)bar->addr);
  if (bar->is64)
    put(s, f->ecam, at + 4, 32, (uint32_t)(bar->addr >> 32));
  if (!bar->addr)
    bar->kind = LUIO_BAR_NONE; /* the window is full: as a BAR that firmware could not place */
  return bar->is64 ? 2 : 1;
}

static void place_all(struct scan *s, struct luio_qemu_function *f, int n)
{
  for (int i = 0; i < n && s->rc == 0;)
    i += place(s, f, i);
}

/* ---- Bridges ----------------------------------------------------------------------------------- */

static void scan_bus(struct scan *s, unsigned bus);

static uint64_t limit_of(struct scan *s, int w)
{
  s->next[w] = up(s->next[w], bridge_unit[w]);
  return s->next[w] - 1;
}

static void bridge(struct scan *s, const struct luio_qemu_function *f)
{
  uint64_t base[WINDOWS], limit[WINDOWS];
  unsigned bus = ++s->buses;
  put(s, f->ecam, BUSES, 32, f->bus | bus << 8 | 0xff0000);
  for (int w = 0; w < WINDOWS; w++)
    base[w] = limit_of(s, w) + 1;
  scan_bus(s, bus);
  put(s, f->ecam, BUSES + 2, 8, s->buses);
  for (int w = 0; w < WINDOWS; w++)
    limit[w] = limit_of(s, w); /* below the base where nothing is: the window is off then */
  put(s, f->ecam, BRIDGE_PORTS, 16,
      (uint32_t)(base[PORTS] >> 8 & 0xf0) | (uint32_t)(limit[PORTS] & 0xf000));
  put(s, f->ecam, BRIDGE_PORTS_HIGH, 32, 0);
  put(s, f->ecam, BRIDGE_MEMORY, 32,
      (uint32_t)(base[MEMORY] >> 16 & 0xfff0) | (uint32_t)(limit[MEMORY] & 0xfff00000));
  put(s, f->ecam, BRIDGE_PREFETCH, 32,
      (uint32_t)(base[PREFETCH] >> 16 & 0xfff0) | (uint32_t)(limit[PREFETCH] & 0xfff00000));
  put(s, f->ecam, BRIDGE_PREFETCH_BASE_HIGH, 32, (uint32_t)(base[PREFETCH] >> 32));
  put(s, f->ecam, BRIDGE_PREFETCH_LIMIT_HIGH, 32, (uint32_t)(limit[PREFETCH] >> 32));
  put(s, f->ecam, PCI_COMMAND, 16, PCI_COMMAND_IO | PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER);
}

/* Whether the function is the first of several. */
static bool function(struct scan *s, unsigned bus, unsigned devfn)
{
  uint64_t ecam = s->q->board.ecam + ((uint64_t)bus << 20) + (devfn << 12);
  uint32_t id = get(s, ecam, PCI_VENDOR, 32);
  if (s->rc < 0 || (id & 0xffff) == 0xffff)
    return false;
  if (s->q->n_functions == QEMU_FUNCTIONS) {
    s->rc =
        luio_fail(s->err, E2BIG, "a QEMU machine of more than %d PCI functions", QEMU_FUNCTIONS);
    return false;
  }
  struct luio_qemu_function *f = &s->q->functions[s->q->n_functions++];
  *f = (struct luio_qemu_function){.bus = bus, .devfn = devfn, .ecam = ecam};
  unsigned header = get(s, ecam, HEADER, 32) >> 16;
  if ((header & 0x7f) == 1) {
    place_all(s, f, 2);
    bridge(s, f);
  } else {
    place_all(s, f, LUIO_MAX_BARS);
    uint32_t decodes = 0;
    for (int i = 0; i < LUIO_MAX_BARS; i++)
      decodes |= f->bars[i].kind == LUIO_BAR_MEM  ? PCI_COMMAND_MEMORY
                 : f->bars[i].kind == LUIO_BAR_IO ? PCI_COMMAND_IO
                                                  : 0;
    put(s, ecam, PCI_COMMAND, 16, decodes);
  }
  return header & 0x80;
}

static void scan_bus(struct scan *s, unsigned bus)
{
  for (unsigned slot = 0; slot < 32 && s->rc == 0; slot++)
    if (function(s, bus, slot << 3))
      for (unsigned fn = 1; fn < 8; fn++)
        function(s, bus, slot << 3 | fn);
}

int luio_qemu_enumerate(luio_qemu *q, luio_error *err)
{
  if (!q->kind->tree)
    q->board = q35;
  const luio_qemu_board *b = &q->board;
  struct scan s = {.q = q, .err = err, .window = {b->memory, b->prefetch, b->io}};
  for (int w = 0; w < WINDOWS; w++)
    s.next[w] = s.window[w].first;
  if (!q->kind->tree) {
    put_by_ports(&s, PCIEXBAR + 4, 0);
    put_by_ports(&s, PCIEXBAR, (uint32_t)b->ecam | 1);
  }
  scan_bus(&s, 0);
  return s.rc;
}
