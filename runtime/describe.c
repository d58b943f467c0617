/* describe.c - reads one device's description from sysfs, and checks every value.
 *
 * Everything is text, read through libudev. Missing, malformed or contradictory values are left out
 * and named in `problem`, so one broken device neither hides the others nor passes a wrong size to
 * mmap. Control characters in names are replaced, because names are printed on terminals. */
#include "kernel.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <libudev.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* include/linux/ioport.h */
#define IORESOURCE_IO 0x100ull
#define IORESOURCE_MEM 0x200ull
#define IORESOURCE_PREFETCH 0x2000ull
#define IORESOURCE_MEM_64 0x100000ull
#define IORESOURCE_UNSET 0x20000000ull

/* No device memory is larger; a map beyond it is a malformed one. 64 TiB = 46 address bits. */
#define ABSURD ((uint64_t)1 << 46)

static void problem(luio_info *info, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Problems are collected, "; " between them, as far as there is room. */
static void problem(luio_info *info, const char *format, ...)
{
  size_t n = strlen(info->problem);
  if (n && n + 2 < sizeof info->problem) {
    memcpy(info->problem + n, "; ", 3);
    n += 2;
  }
  va_list args;
  va_start(args, format);
  int wrote = vsnprintf(info->problem + n, sizeof info->problem - n, format, args);
  va_end(args);
  if (wrote >= (int)(sizeof info->problem - n))
    memcpy(info->problem + sizeof info->problem - 4, "...", 4);
  luio_clean(info->problem); /* it quotes what it found */
}

static void copy(luio_info *info, char *to, size_t size, const char *from, const char *what)
{
  if (!from)
    from = "";
  if (!luio_format(to, size, "%s", from))
    problem(info, "%s is longer than %zu bytes", what, size - 1);
  luio_clean(to);
}

/* ---- Attributes -------------------------------------------------------------------------------- */

static bool number(luio_info *info, struct udev_device *dev, const char *attr, uint64_t *value)
{
  const char *text = udev_device_get_sysattr_value(dev, attr);
  *value = 0;
  if (!text) {
    problem(info, "%s is missing", attr);
    return false;
  }
  int rc = luio_parse_u64(text, value);
  if (rc)
    problem(info, "%s is \"%.40s\", not a %snumber", attr, text, rc == -ERANGE ? "64-bit " : "");
  return rc == 0;
}

/* A number that has a limit; one that breaks it is left out, as 0. */
static uint64_t number_to(luio_info *info, struct udev_device *dev, const char *attr, uint64_t most)
{
  uint64_t value;
  if (number(info, dev, attr, &value) && value > most) {
    problem(info, "%s is 0x%llx, more than 0x%llx", attr, (unsigned long long)value,
            (unsigned long long)most);
    value = 0;
  }
  return value;
}

/* Which of the folders `dir`/`prefix`0 to `limit` - 1 there are, a bit for each. The folder is
 * listed, not probed for files, so that a map with no files at all is noticed, too. */
static unsigned numbered(luio_info *info, struct udev_device *dev, const char *dir,
                         const char *prefix, int limit)
{
  char path[PATH_MAX];
  DIR *d = NULL;
  if (luio_format(path, sizeof path, "%s/%s", udev_device_get_syspath(dev), dir))
    d = opendir(path);
  if (!d)
    return 0; /* a device without maps has no maps/ */
  unsigned found = 0;
  int beyond = 0;
  for (struct dirent *e; (e = readdir(d));) {
    int i = 0;
    char name[16];
    while (i < limit && luio_format(name, sizeof name, "%s%d", prefix, i) &&
           strcmp(e->d_name, name))
      i++;
    if (i < limit)
      found |= 1u << i;
    else if (e->d_name[0] != '.')
      beyond++;
  }
  closedir(d);
  if (beyond)
    problem(info, "%s/ holds %d more than %s0 to %s%d", dir, beyond, prefix, prefix, limit - 1);
  return found;
}

static void read_maps(luio_info *info, struct udev_device *dev)
{
  unsigned there = numbered(info, dev, "maps", "map", LUIO_MAX_MAPS);
  for (int i = 0; i < LUIO_MAX_MAPS; i++) {
    if (!(there & 1u << i))
      continue; /* a kernel driver may leave gaps */
    char attr[64];
    luio_map *m = &info->maps[i];
    luio_format(attr, sizeof attr, "maps/map%d/size", i);
    bool fine = number(info, dev, attr, &m->size);
    luio_format(attr, sizeof attr, "maps/map%d/addr", i);
    fine &= number(info, dev, attr, &m->addr);
    luio_format(attr, sizeof attr, "maps/map%d/offset", i);
    /* Kernels before 2.6.30 have no offset file. */
    if (udev_device_get_sysattr_value(dev, attr))
      fine &= number(info, dev, attr, &m->offset);
    luio_format(attr, sizeof attr, "maps/map%d/name", i);
    copy(info, m->name, sizeof m->name, udev_device_get_sysattr_value(dev, attr), attr);
    if (fine && (m->size == 0 || m->size > ABSURD)) {
      problem(info, "map%d has a size of 0x%llx bytes", i, (unsigned long long)m->size);
      fine = false;
    }
    if (fine && m->addr == UINT64_MAX) { /* uio_dmem_genirq's DMEM_MAP_ERROR */
      m->at_open = 1;
      m->addr = 0;
    }
    if (fine && m->addr + (m->size - 1) < m->addr) {
      problem(info, "map%d at 0x%llx ends beyond 64 bits", i, (unsigned long long)m->addr);
      fine = false;
    }
    if (fine && m->offset >= LUIO_PAGE) {
      problem(info, "map%d has an offset of 0x%llx, more than a page", i,
              (unsigned long long)m->offset);
      fine = false;
    }
    m->length = m->size;
    m->present = fine;
    info->n_maps += fine;
  }
}

static void read_ports(luio_info *info, struct udev_device *dev)
{
  unsigned there = numbered(info, dev, "portio", "port", LUIO_MAX_PORTS);
  for (int i = 0; i < LUIO_MAX_PORTS; i++) {
    if (!(there & 1u << i))
      continue;
    char attr[64];
    luio_port *p = &info->ports[i];
    luio_format(attr, sizeof attr, "portio/port%d/start", i);
    bool fine = number(info, dev, attr, &p->start);
    luio_format(attr, sizeof attr, "portio/port%d/size", i);
    fine &= number(info, dev, attr, &p->size);
    luio_format(attr, sizeof attr, "portio/port%d/name", i);
    copy(info, p->name, sizeof p->name, udev_device_get_sysattr_value(dev, attr), attr);
    luio_format(attr, sizeof attr, "portio/port%d/porttype", i);
    copy(info, p->porttype, sizeof p->porttype, udev_device_get_sysattr_value(dev, attr), attr);
    if (fine && (p->size == 0 || p->start > 0xffff || p->size > 0x10000 - p->start)) {
      problem(info, "port%d spans 0x%llx+0x%llx", i, (unsigned long long)p->start,
              (unsigned long long)p->size);
      fine = false;
    }
    p->present = fine;
    info->n_ports += fine;
  }
}

/* Only whole pages can be mapped, so the offset is part of the size. (On PCI the BAR counts.) */
static void read_lengths(luio_info *info)
{
  for (int i = 0; i < LUIO_MAX_MAPS; i++) {
    luio_map *m = &info->maps[i];
    if (m->present && m->offset < m->size)
      m->length = m->size - m->offset;
  }
  luio_devicetree_lengths(info);
}

/* ---- PCI --------------------------------------------------------------------------------------- */

/* sscanf's %llx would take a sign, and the largest number for one that does not fit. */
static bool three_numbers(const char *line, uint64_t *a, uint64_t *b, uint64_t *c)
{
  char word[3][128]; /* as large as the line */
  int used = 0;
  return sscanf(line, "%127s %127s %127s %n", word[0], word[1], word[2], &used) == 3 &&
         !line[used] && !luio_parse_u64(word[0], a) && !luio_parse_u64(word[1], b) &&
         !luio_parse_u64(word[2], c);
}

/* `resource`: a line per BAR, "start end flags", zeros where there is none. */
static void read_bars(luio_info *info, struct udev_device *dev)
{
  for (int i = 0; i < LUIO_MAX_BARS; i++)
    info->bars[i].map = -1;
  const char *text = udev_device_get_sysattr_value(dev, "resource");
  if (!text) {
    problem(info, "resource is missing");
    return;
  }
  for (int i = 0; i < LUIO_MAX_BARS; i++) {
    if (!*text) {
      problem(info, "resource has %d lines, not one for each BAR", i);
      return;
    }
    uint64_t start, end, flags;
    char line[128];
    size_t n = strcspn(text, "\n");
    bool whole = luio_format(line, sizeof line, "%.*s", (int)n, text);
    text += n + (text[n] == '\n');
    if (!whole || !three_numbers(line, &start, &end, &flags)) {
      problem(info, "line %d of resource is \"%.40s\"", i + 1, line);
      continue;
    }
    if (!(flags & (IORESOURCE_IO | IORESOURCE_MEM)) || (start == 0 && end == 0))
      continue;
    luio_bar *bar = &info->bars[i];
    if (end < start || end - start >= ABSURD) {
      problem(info, "BAR%d ends at 0x%llx before its start or too far behind it", i,
              (unsigned long long)end);
      continue;
    }
    if (flags & IORESOURCE_UNSET) { /* then start is 0 or stale: RAM, or another device */
      problem(info, "BAR%d was given no address", i);
      continue;
    }
    bar->kind = flags & IORESOURCE_IO ? LUIO_BAR_IO : LUIO_BAR_MEM;
    bar->addr = start;
    bar->size = end - start + 1;
    bar->flags = flags;
    bar->prefetchable = !!(flags & IORESOURCE_PREFETCH);
    bar->is64 = !!(flags & IORESOURCE_MEM_64);
  }
}

uint64_t luio_map_reach(const luio_map *m)
{
  return m->addr & (LUIO_PAGE - 1) ? 0 : m->size & ~(LUIO_PAGE - 1);
}

/* Which map is which BAR: by address, for their numbers need not agree. The kernel gives a map's
 * addr either with the sub-page offset or, from uio_pci_generic, page-aligned beside it. A BAR whose pages UIO does not
 * map all is left to resourceN. */
static void match_maps(luio_info *info)
{
  for (int m = 0; m < LUIO_MAX_MAPS; m++) {
    const luio_map *map = &info->maps[m];
    if (!map->present)
      continue;
    bool found = false;
    uint64_t within = map->addr & (LUIO_PAGE - 1), start = map->addr - within;
    start += map->offset ? map->offset : within;
    for (int b = 0; b < LUIO_MAX_BARS; b++) {
      luio_bar *bar = &info->bars[b];
      if (bar->kind != LUIO_BAR_MEM || bar->addr != start)
        continue;
      found = true;
      uint64_t pages =
          ((bar->addr & (LUIO_PAGE - 1)) + bar->size + LUIO_PAGE - 1) & ~(LUIO_PAGE - 1);
      if (map->size > pages)
        problem(info, "map%d claims 0x%llx bytes of a BAR%d of 0x%llx", m,
                (unsigned long long)map->size, b, (unsigned long long)bar->size);
      else if (luio_map_reach(map) >= pages)
        bar->map = m;
    }
    if (!found)
      problem(info, "map%d at 0x%llx is no BAR", m, (unsigned long long)map->addr);
  }
}

static void read_pci(luio_info *info, struct udev_device *dev)
{
  struct {
    const char *attr;
    uint32_t *to, most;
    bool wanted;
  } ids[] = {{"vendor", &info->vendor, 0xffff, true},
             {"device", &info->device, 0xffff, true},
             {"class", &info->class_code, 0xffffff, true},
             {"subsystem_vendor", &info->subvendor, 0xffff, false},
             {"subsystem_device", &info->subdevice, 0xffff, false},
             {"revision", &info->revision, 0xff, false}};
  for (size_t i = 0; i < sizeof ids / sizeof *ids; i++)
    if (ids[i].wanted || udev_device_get_sysattr_value(dev, ids[i].attr))
      *ids[i].to = (uint32_t)number_to(info, dev, ids[i].attr, ids[i].most);
  if (udev_device_get_sysattr_value(dev, "irq"))
    info->irq = (int)number_to(info, dev, "irq", INT_MAX);
  const char *node = udev_device_get_sysattr_value(dev, "numa_node");
  if (node && strcmp(node, "-1")) {
    uint64_t value;
    if (luio_parse_u64(node, &value) == 0 && value <= INT_MAX)
      info->numa_node = (int)value;
    else
      problem(info, "numa_node is \"%.40s\"", node);
  }
  read_bars(info, dev);
}

/* "vendor,part\0vendor,other\0": libudev stops at the first NUL, so the file is read here. */
static void read_compatible(luio_info *info, struct udev_device *dev)
{
  char path[PATH_MAX];
  FILE *f = NULL;
  if (luio_format(path, sizeof path, "%s/of_node/compatible", udev_device_get_syspath(dev)))
    f = fopen(path, "re");
  if (!f)
    return;
  size_t n = fread(info->compatible, 1, sizeof info->compatible, f);
  fclose(f);
  if (n == sizeof info->compatible) {
    problem(info, "of_node/compatible is longer than %zu bytes", n - 1);
    n--;
  }
  info->compatible[n] = '\0';
  while (n > 0 && !info->compatible[n - 1])
    n--;
  for (size_t i = 0; i < n; i++)
    if (!info->compatible[i])
      info->compatible[i] = ' ';
  luio_clean(info->compatible);
}

static void read_names(luio_info *info, struct udev_device *dev, struct udev_hwdb *hwdb)
{
  const char *modalias = udev_device_get_sysattr_value(dev, "modalias");
  if (!hwdb || !modalias)
    return;
  struct udev_list_entry *e;
  udev_list_entry_foreach (e, udev_hwdb_get_properties_list_entry(hwdb, modalias, 0)) {
    const char *key = udev_list_entry_get_name(e), *value = udev_list_entry_get_value(e);
    if (!strcmp(key, "ID_VENDOR_FROM_DATABASE"))
      copy(info, info->vendor_name, sizeof info->vendor_name, value, "the vendor's name");
    else if (!strcmp(key, "ID_MODEL_FROM_DATABASE"))
      copy(info, info->device_name, sizeof info->device_name, value, "the device's name");
  }
}

/* ---- One device -------------------------------------------------------------------------------- */

/* A path that is cut could be another device's, a bridge's above it. */
static void copy_path(luio_info *info, struct udev_device *dev)
{
  const char *path = udev_device_get_syspath(dev);
  copy(info, info->sysfs, sizeof info->sysfs, path, "the sysfs path");
  if (strcmp(info->sysfs, path))
    info->sysfs[0] = '\0';
}

/* Whether it is a PCI device. */
static bool read_parent(luio_info *info, struct udev_device *dev, struct udev_hwdb *hwdb)
{
  const char *bus = udev_device_get_subsystem(dev);
  bool pci = bus && !strcmp(bus, "pci");
  copy(info, info->bus, sizeof info->bus, bus, "the bus name");
  copy(info, info->driver, sizeof info->driver, udev_device_get_driver(dev), "the driver's name");
  copy_path(info, dev);
  if (pci) {
    copy(info, info->address, sizeof info->address, udev_device_get_sysname(dev), "the address");
    read_pci(info, dev);
  }
  read_compatible(info, dev);
  info->incoherent = !luio_devicetree_coherent(udev_device_get_syspath(dev));
  read_names(info, dev, hwdb);
  return pci;
}

static void blank(luio_info *info)
{
  memset(info, 0, sizeof *info);
  info->numa_node = -1;
  for (int i = 0; i < LUIO_MAX_BARS; i++)
    info->bars[i].map = -1;
}

/* A UIO device's own part. */
static void read_uio(luio_info *info, struct udev_device *dev)
{
  copy(info, info->uio, sizeof info->uio, udev_device_get_sysname(dev), "the UIO name");
  copy(info, info->address, sizeof info->address, info->uio, "the address");
  luio_format(info->node, sizeof info->node, "/dev/%s", info->uio);
  const char *name = udev_device_get_sysattr_value(dev, "name");
  if (!name || !*name)
    problem(info, "name is %s", name ? "empty" : "missing");
  copy(info, info->uio_name, sizeof info->uio_name, name, "name");
  copy(info, info->uio_version, sizeof info->uio_version,
       udev_device_get_sysattr_value(dev, "version"), "version");
  number(info, dev, "event", &info->event);
  const char *shared = udev_device_get_property_value(dev, "LUIO_SHARED_BARS");
  info->shared_bars = shared && !strcmp(shared, "1");
  read_maps(info, dev);
  read_ports(info, dev);
}

void luio_describe(luio_info *info, struct udev_device *dev, struct udev_hwdb *hwdb)
{
  const char *subsystem = udev_device_get_subsystem(dev);
  bool uio = subsystem && !strcmp(subsystem, "uio");
  struct udev_device *parent = uio ? udev_device_get_parent(dev) : dev; /* borrowed from dev */
  blank(info);
  if (uio)
    read_uio(info, dev);
  bool pci = false;
  if (parent && udev_device_get_subsystem(parent))
    pci = read_parent(info, parent, hwdb);
  else
    copy_path(info, dev);
  if (!pci)
    read_lengths(info);
  else if (uio)
    match_maps(info);
}
