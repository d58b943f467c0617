/* parsers.c - fuzzes the C parsers of /sys and /proc, in one process and in memory: parsers SECONDS SEED [CASE]
 *
 * spec/fuzz/kernel drives all that reads such text, through umockdev and so some hundred times a second. Here the
 * parsers of runtime/ are compiled anew, with their calls of the C library and of libudev led to files in memory
 * (parsers.h): some ten thousand cases a second, under AddressSanitizer and UBSan. In each, a few of a machine's
 * files are broken, reads come back short, or interrupted, or fail. No parser may crash, and its results must hold:
 * spans within 64 bits and within what the kernel said, no RAM let through, names that drive no terminal.
 *
 * The lines of QEMU's test socket (qemu_line.c) are broken here, too: none that is broken may pass for another.
 *
 * The seed and its number determine a case; a finding prints both, and ends the run with status 1. */
#define PARSERS_C
#include "parsers.h"
#include "../../runtime/kernel.h"
#include "../../runtime/qemu.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>

#define MOST 65536

static uint64_t state, seed, number;

static uint32_t random_below(uint32_t n)
{
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return (uint32_t)(state >> 32) % n;
}

static bool one_in(uint32_t n)
{
  return random_below(n) == 0;
}

static void found(const char *format, ...) __attribute__((noreturn, format(printf, 1, 2)));

/* ---- The machine ------------------------------------------------------------------------------- */

#define CARD "/sys/devices/pci0000:00/0000:00:0c.0"
#define BOARD "/sys/devices/platform/dev7"

static const char iomem[] =
    "00000000-00000fff : Reserved\n00001000-0009fbff : System RAM\n"
    "00100000-0ffd67ff : System RAM\n  01000000-01e01d31 : Kernel code\n"
    "10000000-10000fff : dev7\n20000000-2fffffff : PCI Bus 0000:00\n"
    "  20000000-200fffff : 0000:00:04.0\n  20100000-2011ffff : 0000:00:05.0\n"
    "    20100000-2011ffff : e1000e\n  20200000-202fffff : PCI Bus 0000:01\n"
    "fed00000-fed003ff : HPET 0\n100000000-1ffffffff : System RAM\n";

static const char resource[] = "0x00000000feb00000 0x00000000feb0ffff 0x0000000000040200\n"
                               "0x0000000000000000 0x0000000000000000 0x0000000000000000\n"
                               "0x000000000000c000 0x000000000000c01f 0x0000000000040101\n"
                               "0x0000000000000000 0x0000000000000000 0x0000000000000000\n"
                               "0x00000000feb40000 0x00000000feb7ffff 0x0000000000142204\n"
                               "0x0000000000000000 0x0000000000000000 0x0000000000000000\n";

static struct {
  const char *path, *was;
  size_t length; /* of was; 0: it is text */
  char bytes[MOST + 1];
  size_t size;
  bool there;
} files[] = {
    {"/proc/iomem", iomem, 0, "", 0, false},
    {CARD "/vendor", "0x1234\n", 0, "", 0, false},
    {CARD "/device", "0x11e8\n", 0, "", 0, false},
    {CARD "/class", "0x00ff00\n", 0, "", 0, false},
    {CARD "/subsystem_vendor", "0x1af4\n", 0, "", 0, false},
    {CARD "/revision", "0x10\n", 0, "", 0, false},
    {CARD "/irq", "11\n", 0, "", 0, false},
    {CARD "/numa_node", "-1\n", 0, "", 0, false},
    {CARD "/resource", resource, 0, "", 0, false},
    {CARD "/uio/uio12/name", "uio_pci_generic\n", 0, "", 0, false},
    {CARD "/uio/uio12/version", "0.01.0\n", 0, "", 0, false},
    {CARD "/uio/uio12/event", "7\n", 0, "", 0, false},
    {CARD "/uio/uio12/maps/map0/name", "BAR 0\n", 0, "", 0, false},
    {CARD "/uio/uio12/maps/map0/addr", "0x00000000feb00000\n", 0, "", 0, false},
    {CARD "/uio/uio12/maps/map0/size", "0x0000000000010000\n", 0, "", 0, false},
    {CARD "/uio/uio12/maps/map0/offset", "0x0\n", 0, "", 0, false},
    {BOARD "/uio/uio7/name", "widget\n", 0, "", 0, false},
    {BOARD "/uio/uio7/version", "1.0\n", 0, "", 0, false},
    {BOARD "/uio/uio7/event", "7\n", 0, "", 0, false},
    {BOARD "/uio/uio7/maps/map0/name", "registers\n", 0, "", 0, false},
    {BOARD "/uio/uio7/maps/map0/addr", "0x10000000\n", 0, "", 0, false},
    {BOARD "/uio/uio7/maps/map0/size", "0x1000\n", 0, "", 0, false},
    {BOARD "/uio/uio7/maps/map0/offset", "0x0\n", 0, "", 0, false},
    {BOARD "/uio/uio7/maps/map1/addr", "0xffffffffffffffff\n", 0, "", 0, false},
    {BOARD "/uio/uio7/maps/map1/size", "0x4000\n", 0, "", 0, false},
    {BOARD "/uio/uio7/portio/port0/name", "regs\n", 0, "", 0, false},
    {BOARD "/uio/uio7/portio/port0/start", "0x3f8\n", 0, "", 0, false},
    {BOARD "/uio/uio7/portio/port0/size", "0x8\n", 0, "", 0, false},
    {BOARD "/uio/uio7/portio/port0/porttype", "port_x86\n", 0, "", 0, false},
    {BOARD "/of_node/compatible", "acme,widget\0generic-uio", 24, "", 0, false},
    {BOARD "/of_node/reg", "\0\0\0\0\x10\0\0\0\0\0\x08\0\0\0\0\0\x20\0\0\x80\0\0\x0f\0", 24, "", 0,
     false},
    {BOARD "/of_node/../#address-cells", "\0\0\0\2", 4, "", 0, false},
    {BOARD "/of_node/../#size-cells", "\0\0\0\1", 4, "", 0, false},
};
#define FILES (sizeof files / sizeof *files)

static void found(const char *format, ...)
{
  va_list args;
  va_start(args, format);
  fprintf(stderr, "fuzz parsers: case %llu of seed %llu: ", (unsigned long long)number,
          (unsigned long long)seed);
  vfprintf(stderr, format, args);
  va_end(args);
  fputc('\n', stderr);
  for (size_t i = 0; i < FILES; i++) {
    size_t n = files[i].length ? files[i].length : strlen(files[i].was);
    if (!files[i].there || files[i].size != n || memcmp(files[i].bytes, files[i].was, n) != 0) {
      fprintf(stderr, "  %s%s ", files[i].path, files[i].there ? " =" : " is away");
      for (size_t k = 0; files[i].there && k < files[i].size && k < 400; k++)
        fprintf(stderr, isprint((unsigned char)files[i].bytes[k]) ? "%c" : "\\x%02x",
                (unsigned char)files[i].bytes[k]);
      fputc('\n', stderr);
    }
  }
  exit(1);
}

/* ---- Mutations --------------------------------------------------------------------------------- */

static const char *const numbers[] = {"0",
                                      "1",
                                      "-1",
                                      "0x0",
                                      "4095",
                                      "4096",
                                      "65535",
                                      "65536",
                                      "2147483648",
                                      "4294967295",
                                      "4294967296",
                                      "0x7fffffffffffffff",
                                      "0x8000000000000000",
                                      "0xffffffffffffffff",
                                      "0x10000000000000000",
                                      "0xfffffffffffff000",
                                      "99999999999999999999",
                                      "0x",
                                      "007",
                                      " 5",
                                      "+5",
                                      "0x0000000000040101",
                                      "0x0000000000040200",
                                      "0x0000000020040200",
                                      "ffffffffffffffff",
                                      "ffffffff",
                                      "00000000",
                                      "fffffffffffffffff"};
static const char *const words[] = {"",
                                    " ",
                                    "\n",
                                    "\033[2J",
                                    "\233",
                                    "\302\233",
                                    "\177",
                                    "\377\376",
                                    "\342\202",
                                    "..",
                                    "/",
                                    "%s%n",
                                    "System RAM",
                                    "PCI Bus 0000:00",
                                    "0000:00:0c.0",
                                    "port_x86",
                                    ": ",
                                    "-",
                                    "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"};

static void exchange(size_t i, size_t at, size_t drop, const char *in, size_t n)
{
  char *bytes = files[i].bytes;
  if (files[i].size - drop + n > MOST)
    return;
  memmove(bytes + at + n, bytes + at + drop, files[i].size - at - drop);
  memcpy(bytes + at, in, n);
  files[i].size += n - drop;
}

static size_t place(size_t i)
{
  return random_below((uint32_t)files[i].size + 1);
}

static void mutate(size_t i)
{
  size_t at = place(i), end = at;
  char byte = (char)random_below(256);
  const char *in = "";
  switch (random_below(9)) {
  case 0: files[i].there = false; return;
  case 1: files[i].size = at; return;
  case 2: exchange(i, at, at < files[i].size, &byte, 1); return;
  case 3: exchange(i, at, 0, &byte, 1); return;
  case 4: { /* a line, many times */
    char line[256];
    while (at > 0 && files[i].bytes[at - 1] != '\n')
      at--;
    for (end = at;
         end < files[i].size && end - at < sizeof line - 1 && files[i].bytes[end] != '\n';)
      end++;
    size_t n = end - at;
    memcpy(line, files[i].bytes + at, n);
    line[n] = '\n';
    for (uint32_t k = random_below(one_in(50) ? 1000 : 4); k > 0; k--)
      exchange(i, at, 0, line, n + 1);
    return;
  }
  case 5: { /* something of another file */
    size_t j = random_below(FILES), n = files[j].size < 64 ? files[j].size : 64;
    char piece[64];
    memcpy(piece, files[j].bytes, n);
    exchange(i, at, 0, piece, n);
    return;
  }
  case 6: in = words[random_below(sizeof words / sizeof *words)]; break;
  default: /* a number in the place of one */
    while (at < files[i].size && !isxdigit((unsigned char)files[i].bytes[at]))
      at++;
    for (end = at; end < files[i].size && isalnum((unsigned char)files[i].bytes[end]);)
      end++;
    in = numbers[random_below(sizeof numbers / sizeof *numbers)];
  }
  exchange(i, at, end - at, in, strlen(in));
}

/* ---- Calls of the parsers ---------------------------------------------------------------------- */

#define FIRST 1000
static size_t at[FILES];
static int opened;

static int find(const char *path)
{
  for (size_t i = 0; i < FILES; i++)
    if (files[i].there && !strcmp(files[i].path, path))
      return (int)i;
  return -1;
}

int fuzz_open(const char *path, int flags)
{
  (void)flags;
  if (!strcmp(path, "/proc/self/pagemap"))
    return FIRST + (int)FILES;
  int i = find(path);
  if (i < 0) {
    errno = one_in(20) ? EACCES : ENOENT;
    return -1;
  }
  at[i] = 0;
  opened++;
  return FIRST + i;
}

ssize_t fuzz_read(int fd, void *to, size_t size)
{
  size_t i = (size_t)(fd - FIRST), left = files[i].size - at[i];
  if (one_in(40)) {
    errno = one_in(2) ? EIO : EINTR;
    return -1;
  }
  size_t n = size < left ? size : left;
  if (n > 1 && one_in(8))
    n = 1 + random_below((uint32_t)n);
  memcpy(to, files[i].bytes + at[i], n);
  at[i] += n;
  return (ssize_t)n;
}

ssize_t fuzz_pread(int fd, void *to, size_t size, off_t offset)
{
  (void)fd;
  (void)offset;
  for (size_t i = 0; i < size; i++)
    ((uint8_t *)to)[i] = (uint8_t)random_below(256);
  return one_in(10) ? (ssize_t)random_below((uint32_t)size) : (ssize_t)size;
}

int fuzz_close(int fd)
{
  if (fd < FIRST + (int)FILES)
    opened--;
  return 0;
}

FILE *fuzz_fopen(const char *path, const char *mode)
{
  (void)mode;
  int i = find(path);
  return i < 0 || !files[i].size ? NULL : fmemopen(files[i].bytes, files[i].size, "r");
}

static const char *const entries[] = {
    "map0",  "map1", "map2",           "map4",    "map5", "map-1", "map00", "port0",
    "port1", "..",   "map99999999999", "\033[2J", ".",    "port4", "port",  "map"};
static uint32_t left_in_folder;

DIR *fuzz_opendir(const char *path)
{
  (void)path;
  left_in_folder = random_below(12);
  opened++;
  return (DIR *)(void *)&left_in_folder;
}

struct dirent *fuzz_readdir(DIR *dir)
{
  static struct dirent e;
  (void)dir;
  if (!left_in_folder--)
    return NULL;
  snprintf(e.d_name, sizeof e.d_name, "%s",
           entries[random_below(one_in(3) ? sizeof entries / sizeof *entries : 2)]);
  return &e;
}

int fuzz_closedir(DIR *dir)
{
  (void)dir;
  opened--;
  return 0;
}

int fuzz_access(const char *path, int mode)
{
  (void)path;
  (void)mode;
  return one_in(2) ? 0 : -1;
}

ssize_t fuzz_readlink(const char *path, char *to, size_t size)
{
  (void)path;
  size_t n = random_below((uint32_t)size + 1);
  memset(to, one_in(2) ? '/' : 'd', n);
  return one_in(3) ? -1 : (ssize_t)n;
}

char *fuzz_realpath(const char *path, char *to)
{
  (void)path;
  return one_in(2) ? strcpy(to, "/sys/firmware/devicetree/base/soc/dev7") : NULL;
}

/* A device is its path; its parent is what that lies in. */
struct udev_device {
  const char *path, *name, *subsystem, *driver;
  struct udev_device *parent;
};

static struct udev_device card = {CARD, "0000:00:0c.0", "pci", "uio_pci_generic", NULL},
                          board = {BOARD, "dev7", "platform", NULL, NULL},
                          card_uio = {CARD "/uio/uio12", "uio12", "uio", NULL, &card},
                          board_uio = {BOARD "/uio/uio7", "uio7", "uio", NULL, &board};

const char *fuzz_sysattr(struct udev_device *dev, const char *attr)
{
  char path[512];
  snprintf(path, sizeof path, "%s/%s", dev->path, attr);
  int i = find(path);
  if (i < 0)
    return NULL;
  files[i].bytes[files[i].size] = '\0';
  size_t n = strlen(files[i].bytes); /* as libudev: up to a NUL, without the end of the last line */
  while (n > 0 && files[i].bytes[n - 1] == '\n')
    n--;
  static char values[8][MOST + 1];
  static unsigned next;
  char *value = values[next++ % 8];
  memcpy(value, files[i].bytes, n);
  value[n] = '\0';
  return value;
}

const char *fuzz_syspath(struct udev_device *dev)
{
  return dev->path;
}

const char *fuzz_name(struct udev_device *dev, const char *what)
{
  const char *name = *what == 'd' ? dev->driver : what[1] == 'y' ? dev->name : dev->subsystem;
  return name && one_in(60) ? words[random_below(sizeof words / sizeof *words)] : name;
}

/* udev's rules give properties, whatever text they like. */
const char *fuzz_property(struct udev_device *dev, const char *name)
{
  (void)dev;
  (void)name;
  return one_in(2) ? words[random_below(sizeof words / sizeof *words)] : NULL;
}

struct udev_device *fuzz_parent(struct udev_device *dev)
{
  return one_in(50) ? NULL : dev->parent;
}

/* ---- Invariants -------------------------------------------------------------------------------- */

static void check_clean(const char *text, size_t size, const char *what)
{
  if (!memchr(text, '\0', size))
    found("%s has no end", what);
  for (const unsigned char *c = (const unsigned char *)text; *c; c++)
    if (*c < 0x20 || *c == 0x7f || (*c == 0xc2 && c[1] < 0xa0) ||
        (c == (const unsigned char *)text && (*c & 0xc0) == 0x80))
      found("%s has control characters", what);
}
#define CLEAN(field) check_clean(info->field, sizeof info->field, #field)

static void check_info(const luio_info *info)
{
  CLEAN(address), CLEAN(uio), CLEAN(uio_name), CLEAN(uio_version), CLEAN(bus), CLEAN(driver),
      CLEAN(sysfs), CLEAN(compatible), CLEAN(problem);
  if (info->vendor > 0xffff || info->device > 0xffff || info->class_code > 0xffffff ||
      info->revision > 0xff || info->irq < 0)
    found("numbers that are too large");
  int n = 0;
  for (int i = 0; i < LUIO_MAX_MAPS; i++) {
    const luio_map *m = &info->maps[i];
    CLEAN(maps[i].name);
    n += m->present;
    if (!m->present)
      continue;
    if (!m->size || m->size > (uint64_t)1 << 46 || m->addr + (m->size - 1) < m->addr ||
        m->offset >= 4096)
      found("map%d is 0x%llx+0x%llx, offset 0x%llx", i, (unsigned long long)m->addr,
            (unsigned long long)m->size, (unsigned long long)m->offset);
    if (!m->length || m->length > m->size)
      found("map%d has 0x%llx bytes of 0x%llx", i, (unsigned long long)m->length,
            (unsigned long long)m->size);
  }
  if (n != info->n_maps)
    found("%d maps are %d", n, info->n_maps);
  for (int i = 0; i < LUIO_MAX_PORTS; i++) {
    const luio_port *p = &info->ports[i];
    CLEAN(ports[i].name), CLEAN(ports[i].porttype);
    if (p->present && (!p->size || p->start > 0xffff || p->size > 0x10000 - p->start))
      found("port%d is 0x%llx+0x%llx", i, (unsigned long long)p->start,
            (unsigned long long)p->size);
  }
  for (int i = 0; i < LUIO_MAX_BARS; i++) {
    const luio_bar *b = &info->bars[i];
    if (b->kind && (!b->size || b->size > (uint64_t)1 << 46 || b->addr + (b->size - 1) < b->addr))
      found("BAR%d is 0x%llx+0x%llx", i, (unsigned long long)b->addr, (unsigned long long)b->size);
    if (b->map >= LUIO_MAX_MAPS || (b->map >= 0 && !info->maps[b->map].present))
      found("BAR%d is map %d", i, b->map);
  }
}

/* Line by line, whatever stands before it. */
static bool is_memory(uint64_t first, uint64_t last)
{
  files[0].bytes[files[0].size] = '\0';
  for (const char *line = files[0].bytes, *end = line + files[0].size; line < end; line++) {
    unsigned long long from, to;
    if (sscanf(line, " %16llx-%16llx : System RAM", &from, &to) == 2 &&
        strstr(line, " : System RAM") &&
        strstr(line, " : System RAM") < line + strcspn(line, "\n") && from <= (last | 4095) &&
        to >= (first & ~4095ull))
      return true;
    line += strcspn(line, "\n");
  }
  return false;
}

static void check_iomem(void)
{
  static const uint64_t ranges[][2] = {
      {0x10000000, 0x1000},  {0x20000000, 0x1000},   {0xfed00000, 0x400}, {0x1000, 8},
      {0x100000000, 0x1000}, {0xfffffff000, 0x1000}, {0x30000000, 8},     {0, 0x1000}};
  const uint64_t *range = ranges[random_below(sizeof ranges / sizeof *ranges)];
  luio_iomem m;
  int rc = luio_iomem_query(range[0], range[1], &m);
  check_clean(m.name, sizeof m.name, "a range's name");
  check_clean(m.owner, sizeof m.owner, "an owner's name");
  if (rc == 0 && m.verdict == IOMEM_FREE && is_memory(range[0], range[0] + range[1] - 1))
    found("0x%llx is memory, and free to be mapped", (unsigned long long)range[0]);
}

/* What QEMU's test socket says: a line, whole or broken, at the end of its memory. */
static void check_qemu_line(void)
{
  static const char *const lines[] = {
      "OK",          "OK 0x0000000000000000", "OK 0xffffffffffffffff", "OK 0x1234", "IRQ raise 20",
      "IRQ lower 0", "FAIL Unknown",          "IRQ raise 999999999",   ""};
  static const char bytes[] = "OK 0x1f9IRQraiselow\n\t-+gG";
  char line[65] = "";
  const char *from = lines[random_below(sizeof lines / sizeof *lines)];
  size_t size = strlen(from);
  memcpy(line, from, size);
  for (uint32_t n = random_below(4); n > 0; n--) {
    size_t where = random_below((uint32_t)size + 1);
    char c = one_in(4) ? (char)random_below(256) : bytes[random_below(sizeof bytes)];
    if (one_in(3) && where < size) {
      memmove(line + where, line + where + 1, size - where - 1);
      size--;
    } else if (one_in(2) && size < sizeof line - 1) {
      memmove(line + where + 1, line + where, size - where);
      line[where] = c;
      size++;
    } else if (where < size)
      line[where] = c;
  }
  char *exact = malloc(size ? size : 1), again[96];
  memcpy(exact, line, size);
  struct luio_qemu_line_text said = luio_qemu_parse(exact, size);
  free(exact);
  /* Written again, without zeros in front, it is the same line. */
  int n = said.kind == QEMU_DONE ? snprintf(again, sizeof again, "OK")
          : said.kind == QEMU_VALUE
              ? snprintf(again, sizeof again, "OK 0x%llx", (unsigned long long)said.value)
          : said.kind == QEMU_RISEN
              ? snprintf(again, sizeof again, "IRQ raise %llu", (unsigned long long)said.value)
          : said.kind == QEMU_FALLEN
              ? snprintf(again, sizeof again, "IRQ lower %llu", (unsigned long long)said.value)
              : 0;
  size_t head = said.kind == QEMU_VALUE ? 5 : 10, digits = (size_t)n > head ? (size_t)n - head : 0;
  bool same = said.kind == QEMU_NONSENSE ||
              (said.kind == QEMU_DONE && size == 2 && !memcmp(line, "OK", 2)) ||
              (said.kind != QEMU_DONE && size >= (size_t)n && !memcmp(line, again, head) &&
               !memcmp(line + size - digits, again + head, digits) &&
               strspn(line + head, "0") >= size - head - digits);
  if (!same)
    found("a line of QEMU's is taken for \"%s\": \"%.*s\"", again, (int)size, line);
  if (said.kind == QEMU_NONSENSE && (size == strlen(from) && !memcmp(line, from, size)) && *from &&
      strncmp(from, "FAIL", 4) != 0)
    found("a line of QEMU's is not understood: \"%s\"", from);
}

static void run_case(void)
{
  luio_info info;
  state = (seed + 1) * 0x9e3779b97f4a7c15ull ^ (number + 1) * 0xbf58476d1ce4e5b9ull;
  for (size_t i = 0; i < FILES; i++) {
    files[i].size = files[i].length ? files[i].length : strlen(files[i].was);
    memcpy(files[i].bytes, files[i].was, files[i].size);
    files[i].there = true;
  }
  uint32_t which = random_below(4);
  size_t first = which == 0   ? 0
                 : which == 1 ? 1
                 : which == 2 ? 1
                              : 16,
         last = which == 0   ? 1
                : which == 3 ? FILES
                             : 16;
  for (uint32_t k = 1 + random_below(one_in(2) ? 1 : 8); k > 0; k--)
    mutate(first + random_below((uint32_t)(last - first)));
  if (which == 0) {
    check_iomem();
  } else {
    memset(&info, 0xa5, sizeof info);
    luio_describe(&info, which == 1 ? &card : which == 2 ? &card_uio : &board_uio, NULL);
    check_info(&info);
  }
  if (one_in(16)) {
    uint64_t physical = 0;
    luio_error err;
    if (luio_pagemap_lookup(0, &info, &physical, &err) == 0 &&
        (physical >> 12 == 0 || physical % 4096 != (uintptr_t)&info % 4096))
      found("a page at 0x%llx", (unsigned long long)physical);
    luio_devicetree_coherent(CARD);
  }
  check_qemu_line();
  if (opened)
    found("%d files are left open", opened);
}

int main(int argc, char **argv)
{
  double seconds = argc > 1 ? atof(argv[1]) : 10;
  seed = argc > 2 ? strtoull(argv[2], NULL, 10) : (uint64_t)time(NULL);
  if (argc > 3) {
    number = strtoull(argv[3], NULL, 10);
    run_case();
    printf("fuzz parsers: case %s of seed %s: no finding\n", argv[3], argv[2]);
    return 0;
  }
  const struct itimerval limit = {
      .it_value = {.tv_sec = 20}}; /* of the processor's time, for 4096 cases */
  struct timespec began, now;
  clock_gettime(CLOCK_MONOTONIC, &began);
  double passed = 0;
  while (passed < seconds) {
    setitimer(ITIMER_PROF, &limit, NULL);
    for (int k = 0; k < 4096; k++, number++)
      run_case();
    clock_gettime(CLOCK_MONOTONIC, &now);
    passed = (double)(now.tv_sec - began.tv_sec) + (double)(now.tv_nsec - began.tv_nsec) * 1e-9;
  }
  printf("fuzz parsers: %llu cases in %.0f s, %.0f a second, no finding (seed %llu)\n",
         (unsigned long long)number, passed, (double)number / passed, (unsigned long long)seed);
  return 0;
}
