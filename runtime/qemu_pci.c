/* qemu_pci.c - the part of firmware: buses get numbers, and BARs addresses.
 *
 * The machine has an ECAM, config space as memory (that of q35 is switched on first): each access of config space is one access of
 * memory. Addresses are given out upwards from the start of a window; those of a slot for hot-plug (qemu_hotplug.c) anew when it
 * gets a device, which may need more than the one before. Below a
 * bridge 64-bit addresses are for prefetchable BARs alone (PCI-to-PCI Bridge Architecture 1.2, section 3.2.5). */
#include "qemu.h"

#include <errno.h>
#include <string.h>

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
  CAPABILITIES = 0x34,
  CAPABILITY_EXPRESS = 0x10,
  STATUS_CAPABILITIES = 1 << 4,
  MSI = 0x05, /* capabilities */
  MSIX = 0x11,
  PCIEXBAR = 0x60, /* q35's host bridge: Intel 3 Series Express Chipset datasheet, 5.1.15 */
};

/* Where the windows of q35 are free with up to 2 GiB of memory: hw/i386/pc_q35.c, hw/pci-host/q35.c. */
static const luio_qemu_board q35 = {
    .ecam = 0xb0000000,
    .memory = {0xc0000000, 0xfbffffff},
    .prefetch = {0x800000000, 0xfffffffff},
    .io = {0x1000, 0xffff},
};

enum { MEMORY, PREFETCH, PORTS, WINDOWS = QEMU_WINDOWS };
static const uint64_t bridge_unit[WINDOWS] = {1 << 20, 1 << 20, 4096},
                      slot_room[WINDOWS] = {16 << 20, 256 << 20, 4096};

struct scan {
  luio_qemu *q;
  luio_qemu_window window[WINDOWS];
  uint64_t next[WINDOWS];
  unsigned buses; /* numbers given out */
  bool numbers;   /* there are more */
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

/* Where the PCI Express capability of a function is in memory; 0: it has none. */
static uint64_t express(struct scan *s, const struct luio_qemu_function *f)
{
  uint32_t at = get(s, f->ecam, CAPABILITIES, 8) & ~3u;
  for (int n = 0; at >= 0x40 && n < 48 && s->rc == 0; n++) {
    uint32_t head = get(s, f->ecam, at, 16);
    if ((head & 0xff) == CAPABILITY_EXPRESS)
      return f->ecam + at;
    at = head >> 8 & ~3u;
  }
  return 0;
}

/* Room for a device that may come, as far as there is some. */
static void reserve(struct scan *s, const uint64_t base[WINDOWS])
{
  for (int w = 0; w < WINDOWS; w++) {
    uint64_t end = base[w] + slot_room[w];
    if (s->next[w] < end && end - 1 <= s->window[w].last)
      s->next[w] = end;
  }
}

static void bridge(struct scan *s, const struct luio_qemu_function *f)
{
  uint64_t base[WINDOWS], limit[WINDOWS];
  unsigned bus = ++s->buses;
  struct luio_qemu_slot slot = {.capability = express(s, f), .bus = bus};
  put(s, f->ecam, BUSES, 32, f->bus | bus << 8 | 0xff0000);
  for (int w = 0; w < WINDOWS; w++)
    base[w] = limit_of(s, w) + 1;
  scan_bus(s, bus);
  put(s, f->ecam, BUSES + 2, 8, s->buses);
  bool taken = false;
  for (unsigned i = 0; i < s->q->n_functions; i++)
    taken |= s->q->functions[i].bus == bus && s->q->functions[i].here;
  bool takes_devices = slot.capability && luio_qemu_slot_usable(s->q, slot.capability, taken);
  if (takes_devices)
    reserve(s, base);
  for (int w = 0; w < WINDOWS; w++) {
    limit[w] = limit_of(s, w); /* below the base where nothing is: the window is off then */
    slot.window[w] = (luio_qemu_window){base[w], limit[w]};
  }
  slot.last_bus = s->buses;
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
  if (takes_devices && s->rc == 0) {
    luio_qemu_bus_begin(s->q);
    luio_qemu_slot_add(s->q, &slot);
    luio_qemu_bus_end(s->q);
  }
}

/* Its place in the table: that of the one that was there before it, or a new one. NULL: nothing answers. */
static struct luio_qemu_function *entry(struct scan *s, unsigned bus, unsigned devfn)
{
  luio_qemu *q = s->q;
  uint64_t ecam = q->board.ecam + ((uint64_t)bus << 20) + (devfn << 12);
  uint16_t vendor = 0xffff;
  unsigned i = 0;
  if (s->rc < 0)
    return NULL;
  luio_qemu_bus_begin(q); /* it can't be unplugged between the look at it and `here` */
  luio_qemu_transfer(q, QEMU_MEMORY, ecam + PCI_VENDOR, 16, &vendor, NULL, 1);
  bool there = !q->failure.code && vendor != 0xffff;
  while (there && i < q->n_functions &&
         (q->functions[i].bus != bus || q->functions[i].devfn != devfn))
    i++;
  if (there && i < QEMU_FUNCTIONS) {
    struct luio_qemu_function *f = &q->functions[i];
    if (i == q->n_functions)
      q->n_functions++;
    f->bus = bus;
    f->devfn = devfn;
    f->ecam = ecam;
    f->here = true;
  }
  if (q->failure.code) {
    s->rc = -q->failure.code;
    *s->err = q->failure;
  }
  luio_qemu_bus_end(q);
  if (there && i == QEMU_FUNCTIONS)
    s->rc =
        luio_fail(s->err, E2BIG, "a QEMU machine of more than %d PCI functions", QEMU_FUNCTIONS);
  return there && s->rc == 0 ? &q->functions[i] : NULL;
}

/* Somebody may have used it before, and it must not answer at addresses that others get meanwhile: its decoding and bus master go off,
 * and its messages. */
static void quieten(struct scan *s, const struct luio_qemu_function *f)
{
  put(s, f->ecam, PCI_COMMAND, 16, 0);
  if (!(get(s, f->ecam, PCI_COMMAND, 32) >> 16 & STATUS_CAPABILITIES))
    return;
  unsigned at = get(s, f->ecam, CAPABILITIES, 8) & ~3u;
  for (int n = 0; at >= 0x40 && n < 48 && s->rc == 0; n++) {
    uint32_t head = get(s, f->ecam, at, 32);
    unsigned on = (head & 0xff) == MSI ? 1 << 0 : (head & 0xff) == MSIX ? 1 << 15 : 0;
    if (head >> 16 & on)
      put(s, f->ecam, at + 2, 16, head >> 16 & ~on);
    at = head >> 8 & 0xfc;
  }
}

/* Whether the function is the first of several. */
static bool function(struct scan *s, unsigned bus, unsigned devfn)
{
  struct luio_qemu_function *f = entry(s, bus, devfn);
  if (!f)
    return false;
  uint64_t ecam = f->ecam;
  memset(f->bars, 0, sizeof f->bars);
  quieten(s, f);
  unsigned header = get(s, ecam, HEADER, 32) >> 16;
  if ((header & 0x7f) == 1 && s->numbers) {
    place_all(s, f, 2);
    bridge(s, f);
  } else if ((header & 0x7f) == 0) {
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
  struct scan s = {.q = q, .numbers = true, .err = err, .window = {b->memory, b->prefetch, b->io}};
  for (int w = 0; w < WINDOWS; w++)
    s.next[w] = s.window[w].first;
  if (!q->kind->tree) {
    put_by_ports(&s, PCIEXBAR + 4, 0);
    put_by_ports(&s, PCIEXBAR, (uint32_t)b->ecam | 1);
  }
  scan_bus(&s, 0);
  return s.rc;
}

/* Bridges in it get no bus numbers: none are left between those of the ports. */
static int enumerate_slot(luio_qemu *q, const struct luio_qemu_slot *slot, luio_error *err)
{
  struct scan s = {.q = q, .err = err};
  for (int w = 0; w < WINDOWS; w++) {
    s.next[w] = slot->window[w].first;
    s.window[w] = slot->window[w];
  }
  for (unsigned fn = 0; fn < 8 && s.rc == 0; fn++)
    if (!function(&s, slot->bus, fn) && fn == 0)
      break;
  return s.rc;
}

void luio_qemu_was_reset(luio_qemu *q)
{
  pthread_mutex_lock(&q->lock);
  luio_qemu_bus_begin(q);
  for (unsigned i = 0; i < q->n_functions; i++)
    if (q->functions[i].here) {
      q->functions[i].here = false;
      atomic_fetch_add(&q->functions[i].pulled, 1);
    }
  q->forgotten = true;
  luio_qemu_tell(q, LUIO_QEMU_UNPLUGGED | LUIO_QEMU_PLUGGED);
  luio_qemu_bus_end(q);
  pthread_mutex_unlock(&q->lock);
}

int luio_qemu_settle(luio_qemu *q, luio_error *err)
{
  int rc = 0;
  pthread_mutex_lock(&q->lock);
  if (q->forgotten) {
    luio_qemu_bus_begin(q);
    q->n_slots = 0;
    luio_qemu_bus_end(q);
    rc = luio_qemu_enumerate(q, err);
    q->forgotten = rc < 0;
  }
  luio_qemu_bus_begin(q);
  luio_qemu_slots_look(q); /* QMP's answer may have been faster than the interrupt */
  luio_qemu_bus_end(q);
  for (unsigned i = 0; rc == 0 && i < q->n_slots; i++) {
    luio_qemu_bus_begin(q);
    bool fresh = q->slots[i].fresh;
    q->slots[i].fresh = false;
    luio_qemu_bus_end(q);
    if (fresh)
      rc = enumerate_slot(q, &q->slots[i], err);
  }
  pthread_mutex_unlock(&q->lock);
  return rc;
}
