/* iomem.c - finds the owner of a physical address range in /proc/iomem.
 *
 * The file is a tree, indented by two blanks a level: bus windows, in them devices, in those the
 * ranges that a driver has claimed. The file does not mark claims (IORESOURCE_BUSY), so they are
 * recognised by name:
 *
 *   System RAM...               memory, whatever is nested in it
 *   PCI Bus ..., 0000:00:04.0   a bridge's window, a BAR: a claim is nested inside
 *   Reserved, pnp 00:02         from the firmware; not a driver's claim
 *   a device's name             in /sys/bus/{platform,amba}/devices; "pl031@9010000", as the device
 *                               tree has it, is the device 9010000.pl031. Its driver link decides
 *   pcie@10000000               with buses or BARs inside: a host bridge's window
 *   anything else               a claim, by the name of its maker
 *
 * An entry of an unknown kind counts as a claim, because a wrong refusal can be looked into, and a wrong
 * access can't be undone. A truncated file, or one with data after a NUL, is an error, because the missing
 * part could be memory. Without CAP_SYS_ADMIN all addresses are 0; then nothing is known. */
#include "kernel.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MOST_TEXT (4u << 20) /* a server with many BARs has some hundred KiB */

struct entry {
  uint64_t first, last;
  unsigned level;
  char name[64];
};

struct tree {
  struct entry *entries;
  size_t count, capacity;
};

/* ---- Reading ----------------------------------------------------------------------------------- */

static int read_all(const char *path, char **out)
{
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0)
    return -errno;
  size_t size = 0, capacity = 0;
  char *text = NULL;
  int rc = 0;
  for (;;) {
    if (size + 1 >= capacity) {
      capacity = capacity ? 2 * capacity : 16384;
      char *more = capacity > MOST_TEXT ? NULL : realloc(text, capacity);
      if (!more) {
        rc = capacity > MOST_TEXT ? -EFBIG : -ENOMEM;
        break;
      }
      text = more;
    }
    ssize_t got = read(fd, text + size, capacity - size - 1);
    if (got < 0 && errno == EINTR)
      continue;
    if (got < 0)
      rc = -errno;
    if (got <= 0)
      break;
    size += (size_t)got;
  }
  close(fd);
  if (rc < 0) {
    free(text);
    return rc;
  }
  text[size] = '\0';
  if (strlen(text) != size || (size && text[size - 1] != '\n')) {
    free(text);
    return -EBADMSG;
  }
  *out = text;
  return 0;
}

/* "  fea00000-feafffff : 0000:00:04.0" */
static int parse_line(const char *line, struct entry *e)
{
  unsigned blanks = (unsigned)strspn(line, " ");
  unsigned long long first, last;
  int used = 0;
  if (!isxdigit((unsigned char)line[blanks]) ||
      sscanf(line + blanks, "%16llx-%16llx : %n", &first, &last, &used) != 2 || !used ||
      last < first)
    return -EBADMSG;
  e->first = first;
  e->last = last;
  e->level = blanks / 2;
  luio_format(e->name, sizeof e->name, "%s", line + blanks + used);
  luio_clean(e->name);
  return 0;
}

static int parse(char *text, struct tree *tree)
{
  char *rest = text;
  for (char *line; (line = strsep(&rest, "\n"));) {
    if (!*line)
      continue;
    if (tree->count == tree->capacity) {
      size_t capacity = tree->capacity ? 2 * tree->capacity : 128;
      struct entry *more = realloc(tree->entries, capacity * sizeof *more);
      if (!more)
        return -ENOMEM;
      tree->entries = more;
      tree->capacity = capacity;
    }
    int rc = parse_line(line, &tree->entries[tree->count]);
    if (rc < 0)
      return rc;
    tree->count++;
  }
  return tree->count ? 0 : -ENODATA;
}

/* ---- Judging ----------------------------------------------------------------------------------- */

static bool begins(const char *name, const char *with)
{
  return !strncmp(name, with, strlen(with));
}

static bool is_bar(const char *name)
{
  unsigned domain, bus, slot, function;
  int used = 0;
  return sscanf(name, "%x:%2x:%2x.%1x%n", &domain, &bus, &slot, &function, &used) == 4 &&
         !name[used];
}

static bool is_pci(const char *name)
{
  return begins(name, "PCI Bus ") || is_bar(name);
}

static bool is_nobodys(const char *name)
{
  return is_pci(name) || begins(name, "pnp ") || !strcasecmp(name, "reserved");
}

/* A host bridge's window that is called as its node: PCI is inside. "PCI MMCONFIG", "PCI ECAM" are
 * config space: the kernel's. */
static bool is_window(const struct tree *t, size_t i)
{
  if (begins(t->entries[i].name, "PCI "))
    return false;
  for (size_t j = i + 1; j < t->count && t->entries[j].level > t->entries[i].level; j++)
    if (is_pci(t->entries[j].name))
      return true;
  return false;
}

/* 0: no device of that name; 1: a device without a driver; 2: a device with a driver (its name is filled in). */
static int device_of(const char *name, char *driver, size_t size)
{
  static const char *const buses[] = {"platform", "amba"};
  char device[64], path[160], target[256];
  const char *at = strchr(name, '@');
  if (strchr(name, '/') || strchr(name, ' ') || name[0] == '.')
    return 0;
  if (at && at[1])
    luio_format(device, sizeof device, "%s.%.*s", at + 1, (int)(at - name), name);
  else
    luio_format(device, sizeof device, "%s", name);
  for (size_t i = 0; i < sizeof buses / sizeof *buses; i++) {
    luio_format(path, sizeof path, "/sys/bus/%s/devices/%s", buses[i], device);
    if (access(path, F_OK) < 0)
      continue;
    luio_format(path, sizeof path, "/sys/bus/%s/devices/%s/driver", buses[i], device);
    ssize_t n = readlink(path, target, sizeof target - 1);
    if (n <= 0)
      return 1;
    target[n] = '\0';
    const char *slash = strrchr(target, '/');
    luio_format(driver, size, "%s", slash ? slash + 1 : target);
    return 2;
  }
  return 0;
}

static void claim(const struct tree *t, size_t i, int verdict, const char *owner, luio_iomem *out)
{
  const struct entry *e = &t->entries[i];
  out->verdict = verdict;
  out->first = e->first;
  out->last = e->last;
  luio_format(out->owner, sizeof out->owner, "%s", owner);
  out->device[0] = '\0';
  /* The BAR it is in. */
  for (unsigned level = e->level; i-- > 0 && level > 0;) {
    const struct entry *above = &t->entries[i];
    if (above->level >= level)
      continue;
    level = above->level;
    if (is_bar(above->name)) {
      luio_format(out->device, sizeof out->device, "%s", above->name);
      return;
    }
  }
}

static void judge(const struct tree *t, uint64_t addr, uint64_t size, luio_iomem *out)
{
  uint64_t last = addr + size - 1;
  /* Memory is mapped by pages: where RAM begins within ours, it would be mapped with it. */
  uint64_t page_first = addr & ~(LUIO_PAGE - 1), page_last = last | (LUIO_PAGE - 1);
  bool hidden = true;
  out->verdict = IOMEM_FREE;
  for (size_t i = 0; i < t->count && out->verdict == IOMEM_FREE; i++) {
    const struct entry *e = &t->entries[i];
    hidden = hidden && !e->first && !e->last;
    /* The innermost entry that contains the whole range names it. */
    if (e->first <= addr && e->last >= last)
      luio_format(out->name, sizeof out->name, "%s", e->name);
    if (begins(e->name, "System RAM") && e->first <= page_last && e->last >= page_first)
      claim(t, i, IOMEM_RAM, e->name, out);
  }
  if (hidden)
    out->verdict = IOMEM_HIDDEN;
  if (out->verdict != IOMEM_FREE)
    return;
  for (size_t i = 0; i < t->count; i++) {
    const struct entry *e = &t->entries[i];
    char driver[64];
    if (e->first > last || e->last < addr)
      continue;
    if (is_nobodys(e->name) || is_window(t, i))
      continue;
    int known = device_of(e->name, driver, sizeof driver);
    if (known == 1)
      continue;
    claim(t, i, IOMEM_CLAIMED, known ? driver : e->name, out);
    return;
  }
}

int luio_iomem_query(uint64_t addr, uint64_t size, luio_iomem *out)
{
  struct tree tree = {0};
  char *text = NULL;
  memset(out, 0, sizeof *out);
  int rc = read_all("/proc/iomem", &text);
  if (rc == 0)
    rc = parse(text, &tree);
  if (rc == 0)
    judge(&tree, addr, size, out);
  free(tree.entries);
  free(text);
  return rc;
}
