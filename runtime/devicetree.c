/* devicetree.c - facts that only the device tree has: the end of a device's registers, and whether
 * its DMA is cache-coherent.
 *
 * The kernel shows the tree's nodes as folders and their properties as files, in big-endian words ("cells"). A
 * device's folder in sysfs has a link to its node. A missing or malformed property is ignored. */
#include "kernel.h"

#include <endian.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MOST_CELLS 64

/* A property's cells, as many as there is room for; -1: there is none. */
static int cells(const char *node, const char *property, uint32_t *to, int most)
{
  char path[PATH_MAX];
  if (!luio_format(path, sizeof path, "%s/%s", node, property))
    return -1;
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0)
    return -1;
  ssize_t got = read(fd, to, (size_t)most * sizeof *to);
  close(fd);
  if (got < 0 || got % (ssize_t)sizeof *to)
    return -1;
  int n = (int)(got / (ssize_t)sizeof *to);
  for (int i = 0; i < n; i++)
    to[i] = be32toh(to[i]);
  return n;
}

/* How many cells a number in a node's `reg` has is said by the node above. */
static int width(const char *node, const char *property, int otherwise)
{
  char above[PATH_MAX];
  uint32_t n;
  if (!luio_format(above, sizeof above, "%s/..", node) || cells(above, property, &n, 1) != 1)
    return otherwise;
  return n <= 2 ? (int)n : -1;
}

static uint64_t join(const uint32_t *cell, int n)
{
  uint64_t value = 0;
  for (int i = 0; i < n; i++)
    value = value << 32 | cell[i];
  return value;
}

/* uio_pdrv_genirq's map N is the Nth entry of `reg`, rounded to pages. Addresses are those of the
 * node's own bus; only the offset within a page is the same on every bus. */
void luio_devicetree_lengths(luio_info *info)
{
  char node[PATH_MAX];
  uint32_t cell[MOST_CELLS];
  if (!luio_format(node, sizeof node, "%s/of_node", info->sysfs))
    return;
  int n = cells(node, "reg", cell, MOST_CELLS);
  int address = width(node, "#address-cells", 2), size = width(node, "#size-cells", 1);
  if (address < 1 || size < 1)
    return;
  for (int i = 0; i < LUIO_MAX_MAPS && (i + 1) * (address + size) <= n; i++) {
    luio_map *m = &info->maps[i];
    const uint32_t *entry = cell + (ptrdiff_t)i * (address + size);
    uint64_t length = join(entry + address, size);
    if (m->present && length && length <= m->length &&
        (join(entry, address) & (LUIO_PAGE - 1)) == m->offset &&
        ((m->offset + length + LUIO_PAGE - 1) & ~(LUIO_PAGE - 1)) == m->size)
      m->length = length;
  }
}

/* As the kernel decides it: by the nearest node on the way up that says something. A PCI device has
 * no node as a rule, but its bridge to the rest of the machine has. */
bool luio_devicetree_coherent(const char *sysfs)
{
#if defined(__x86_64__) /* all there is looks */
  return sysfs != NULL;
#endif
  static const char root[] = "/sys/firmware/devicetree/base";
  char device[PATH_MAX], path[PATH_MAX], node[PATH_MAX], *end;
  if (access(root, F_OK) < 0)
    return true; /* ACPI: machines that are not are rare, and their tables no user's to read */
  luio_format(device, sizeof device, "%s", sysfs);
  do {
    luio_format(path, sizeof path, "%s/of_node", device);
    if (realpath(path, node))
      break;
    if (!(end = strrchr(device, '/')))
      return false;
    *end = '\0';
  } while (true);
  for (; !strncmp(node, root, sizeof root - 1); *end = '\0') {
    if (luio_format(path, sizeof path, "%s/dma-coherent", node) && access(path, F_OK) == 0)
      return true;
    if (luio_format(path, sizeof path, "%s/dma-noncoherent", node) && access(path, F_OK) == 0)
      return false;
    end = strrchr(node, '/');
  }
  return false;
}
