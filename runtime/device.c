/* device.c - opening a device: files, lock, and the order in which it is let go.
 *
 * Opening touches no register, does not unmask and does not enable bus master. What is opened
 * here are /dev/uioX (interrupts, maps) and the PCI config file; regions come on first use.
 *
 * Closing goes from the loudest to the quietest: interrupt threads first (they touch registers),
 * then bus master off with a read-back (after which the device writes no memory), then regions,
 * then DMA memory, then files. A descriptor of /dev/uioX is closed last of all: uio_pci_generic
 * clears bus master at that moment, which must not be the first thing that does.
 *
 * A UIO driver may make several UIO devices of one PCI device, one for each vector. Each is opened by its own name (the PCI
 * address means the lowest number) and has a lock of its own, so that several handles and several processes may have one each.
 * What there is only once, config space to be written, and with it bus master and DMA memory, belongs to the first that was
 * opened, by the lock on `config`: the memory of one handle could not be freed safely while another holds bus master on. */
#include "internal.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* Who holds our lock: /proc/locks names the process, "1: FLOCK ADVISORY WRITE 812 00:06:123 0 EOF". */
static int lock_holder(int fd)
{
  struct stat st;
  FILE *f = fopen("/proc/locks", "re");
  if (!f)
    return 0;
  char line[256];
  int holder = 0;
  while (fstat(fd, &st) == 0 && fgets(line, sizeof line, f)) {
    int pid;
    unsigned major_nr, minor_nr;
    unsigned long inode;
    if (sscanf(line, "%*d: FLOCK %*s %*s %d %x:%x:%lu", &pid, &major_nr, &minor_nr, &inode) == 4 &&
        inode == st.st_ino && major_nr == major(st.st_dev) && minor_nr == minor(st.st_dev))
      holder = pid;
  }
  fclose(f);
  return holder;
}

static int busy(const luio_device *d, int fd, luio_error *err)
{
  int pid = lock_holder(fd);
  const char *name = d->one_of_several ? d->info.uio : d->info.address;
  if (pid == getpid())
    return luio_fail(err, EBUSY, "open %s: EBUSY: this process (%d) drives it already", name, pid);
  if (pid > 0)
    return luio_fail(err, EBUSY,
                     "open %s: EBUSY: process %d drives it; stop that one, or open "
                     "read-only to look",
                     name, pid);
  return luio_fail(err, EBUSY, "open %s: EBUSY: another luio process drives it", name);
}

static int take_lock(const luio_device *d, int fd, luio_error *err)
{
  if (flock(fd, LOCK_EX | LOCK_NB) == 0)
    return 0;
  if (errno == EWOULDBLOCK)
    return busy(d, fd, err);
  return luio_fail(err, errno, "lock %s: %s", d->info.address, luio_errno_name(errno));
}

/* The guardian's config descriptor instead of ours. The lock is on that one, and so goes from worker to
 * worker without a gap. */
static void take_kept_config(luio_device *d)
{
  int fd = d->kept[GUARD_CONFIG];
  if (fd < 0)
    return;
  close(d->config_fd);
  d->config_fd = fd;
  d->kept[GUARD_CONFIG] = -1;
  d->config_writable = (fcntl(fd, F_GETFL) & O_ACCMODE) == O_RDWR;
}

/* Makes the device ours: tells the guardian, which then has the lock; without one we lock it
 * ourselves. The lock is on the config file, taken before /dev/uioX is opened: one who comes too
 * late must not open it, for closing it again would clear the owner's bus master. `before`: it was
 * ours, went away and is back; NULL: it was not. */
static int own_pci(luio_device *d, const luio_device *before, luio_error *err)
{
  bool again = before && before->guarded;
  int rc = again ? luio_guard_reopen(before, d, err) : before ? 0 : luio_guard_open(d, err);
  if (rc == -EAGAIN)
    return busy(d, d->config_fd, err);
  if (rc < 0)
    return rc;
  if (!again && !d->guarded)
    return take_lock(d, d->config_fd, err);
  take_kept_config(d);
  luio_guard_stops_by(d->info.address, d->config_fd);
  return 0;
}

static int by_number(const void *a, const void *b)
{
  const unsigned *x = a, *y = b;
  return (*x > *y) - (*x < *y);
}

unsigned luio_uio_siblings(const char *sysfs, unsigned numbers[LUIO_SIBLINGS])
{
  char path[320];
  unsigned n = 0;
  int used;
  luio_format(path, sizeof path, "%s/uio", sysfs);
  DIR *dir = opendir(path);
  for (struct dirent *e; dir && n < LUIO_SIBLINGS && (e = readdir(dir));)
    n += sscanf(e->d_name, "uio%u%n", &numbers[n], &used) == 1 && !e->d_name[used];
  if (dir)
    closedir(dir);
  qsort(numbers, n, sizeof *numbers, by_number);
  return n;
}

/* Whether its PCI device has more UIO devices; d->place: how many of them come before it. */
static bool has_siblings(luio_device *d)
{
  unsigned numbers[LUIO_SIBLINGS];
  unsigned n = luio_uio_siblings(d->info.sysfs, numbers);
  for (d->place = 0; d->place < n; d->place++) {
    char name[16];
    luio_format(name, sizeof name, "uio%u", numbers[d->place]);
    if (!strcmp(name, d->info.uio))
      return n > 1;
  }
  d->place = 0;
  return false;
}

int luio_function_is_ours(const luio_device *d, const char *what, luio_error *err)
{
  if (!d->one_of_several)
    return 0;
  int pid = lock_holder(d->config_fd);
  char who[32] = "another process";
  if (pid == getpid())
    luio_format(who, sizeof who, "this process");
  else if (pid > 0)
    luio_format(who, sizeof who, "process %d", pid);
  return luio_fail(err, EBUSY,
                   "%s of %s: EBUSY: it is one of several UIO devices of %s, whose config space, "
                   "bus master and DMA memory "
                   "belong to the one that was opened first, by %s: use that one's",
                   what, d->info.uio, d->info.address, who);
}

static int open_uio(luio_device *d, luio_error *err)
{
  char path[64];
  luio_format(path, sizeof path, "/dev/%s", d->info.uio);
  int mode = d->flags & LUIO_READ_ONLY ? O_RDONLY : O_RDWR;
  d->uio_fd = open(path, mode | O_CLOEXEC | O_NONBLOCK);
  if (d->uio_fd >= 0) {
    struct pollfd now = {.fd = d->uio_fd, .events = POLLIN};
    d->always_err = poll(&now, 1, 0) > 0 && now.revents & POLLERR;
    return 0;
  }
  int code = errno;
  const char *remedy = luio_bars_remedy(d, code);
  if (remedy)
    ;
  else if (!luio_is_there(d))
    remedy = "the device is gone: list again";
  else if (code == EPERM && geteuid() == 0)
    remedy = "this process may not, though it is root's: is it in a container that was not given "
             "the node?";
  else if (code == EACCES || code == EPERM)
    remedy = "run as root, or as one of the group luio, which `make install-system` makes (luio "
             "doctor says more)";
  else if (code == ENOENT)
    remedy = "no such node: is udev running, is /dev a devtmpfs?";
  else if (code == ENXIO)
    remedy = "no driver is behind the node: was it made by hand, or left over?";
  else
    remedy = "its UIO driver may refuse: see dmesg";
  return luio_fail(err, code, "open %s: %s: %s", path, luio_errno_name(code), remedy);
}

/* What the UIO driver has allocated just now. It frees it when the last descriptor is closed. */
static int find_memory(luio_device *d, luio_error *err)
{
  char dir[64], name[32];
  luio_format(dir, sizeof dir, "/sys/class/uio/%s", d->info.uio);
  for (int i = 0; i < LUIO_MAX_MAPS; i++) {
    luio_map *m = &d->info.maps[i];
    if (!m->present || !m->at_open)
      continue;
    luio_format(name, sizeof name, "maps/map%d/addr", i);
    int rc = luio_sysfs_u64(dir, name, &m->addr);
    if (rc == 0 && m->addr == UINT64_MAX)
      rc = -ENOMEM;
    else if (rc == 0 && m->addr + (m->size - 1) < m->addr)
      rc = -ERANGE;
    if (rc < 0)
      return luio_fail(err, -rc,
                       "open %s: map%d, memory that its UIO driver allocates (0x%llx bytes): %s: "
                       "%s",
                       d->info.address, i, (unsigned long long)m->size, luio_errno_name(-rc),
                       rc == -ENOMEM
                           ? "no piece of that size is free: free memory, or reserve it (cma=)"
                           : "see dmesg");
  }
  return 0;
}

static int open_config(luio_device *d, luio_error *err)
{
  char path[320];
  luio_format(path, sizeof path, "%s/config", d->info.sysfs);
  if (!(d->flags & LUIO_READ_ONLY)) {
    d->config_fd = open(path, O_RDWR | O_CLOEXEC);
    d->config_writable = d->config_fd >= 0;
  }
  /* An ordinary user may still map and wait; what needs the command register says so then. */
  if (d->config_fd < 0)
    d->config_fd = open(path, O_RDONLY | O_CLOEXEC);
  if (d->config_fd >= 0)
    return 0;
  int code = errno;
  return luio_fail(err, code, "open %s: %s: %s", path, luio_errno_name(code),
                   !luio_is_there(d) ? "the device is gone: list again"
                   : code == ENOENT  ? "this kernel offers no such file for the device"
                                     : "see dmesg");
}

int luio_device_new(unsigned flags, const char *what, luio_device **out, luio_error *err)
{
  luio_device *d = calloc(1, sizeof *d);
  if (!d)
    return luio_fail(err, ENOMEM, "%s: out of memory", what);
  d->flags = flags;
  d->uio_fd = d->config_fd = d->mem_fd = -1;
  for (int i = 0; i < GUARD_SLOTS; i++)
    d->kept[i] = -1;
  pthread_mutex_init(&d->command_lock, NULL);
  pthread_mutex_init(&d->irq_lock, NULL);
  int rc = luio_fork_add(d, what, err);
  if (rc < 0) {
    pthread_mutex_destroy(&d->command_lock);
    pthread_mutex_destroy(&d->irq_lock);
    free(d);
    return rc;
  }
  *out = d;
  return 0;
}

void luio_device_free(luio_device *d)
{
  luio_fork_remove(d);
  for (int i = 0; i < LUIO_MAX_REGIONS; i++)
    luio_region_free(d->regions[i]);
  luio_dma_close(d->dma);
  if (d->config_fd >= 0)
    close(d->config_fd);
  if (d->uio_fd >= 0)
    close(d->uio_fd);
  if (d->mem_fd >= 0)
    close(d->mem_fd);
  luio_state_close(d);
  luio_guard_close(d); /* last: from here on it is of no concern to the guardian */
  pthread_mutex_destroy(&d->command_lock);
  pthread_mutex_destroy(&d->irq_lock);
  free(d);
}

int luio_device_open_files(luio_device *d, const char *address, const luio_device *before,
                           luio_error *err)
{
  /* arm64 kernels come with others, too, and what uio and pagemap count in are pages. */
  long page = sysconf(_SC_PAGESIZE);
  if (page != (long)LUIO_PAGE)
    return luio_fail(err, ENOTSUP,
                     "open %s: this kernel's pages have %ld bytes, and luio knows those of %llu: "
                     "boot one with such",
                     address, page, LUIO_PAGE);
  int rc = luio_find(address, &d->info, err);
  if (rc < 0)
    return rc;
  bool pci = !strcmp(d->info.bus, "pci"), read_only = d->flags & LUIO_READ_ONLY;
  bool mem = !strcmp(d->info.bus, "mem");
  if (pci && !d->info.uio[0] && d->info.driver[0] && !read_only)
    return luio_fail(err, EBUSY,
                     "open %s: EBUSY: the kernel driver %s has it: `luio bind %s` gives it to "
                     "uio_pci_generic; or open read-only to look",
                     d->info.address, d->info.driver, d->info.address);
  if (pci && (rc = open_config(d, err)) < 0)
    return rc;
  if (mem && (rc = luio_devmem_open(d, err)) < 0)
    return rc;
  /* To look at a PCI device its BARs do; opening /dev/uioX would mean closing it again. */
  bool shared = read_only || d->flags & LUIO_SHARED;
  bool siblings = pci && d->info.uio[0] && has_siblings(d);
  /* One that was gone has what it had: the function may be another's, who is not back yet. */
  bool again = before && before->one_of_several;
  rc = pci && !shared && !again ? own_pci(d, before, err) : 0;
  d->one_of_several = again || (siblings && rc == -EBUSY);
  if (rc < 0 && !d->one_of_several)
    return rc;
  if (d->one_of_several)
    d->config_writable = false;
  if (d->info.uio[0] && !(pci && shared) && (rc = open_uio(d, err)) < 0)
    return rc;
  if (d->uio_fd >= 0 && (rc = find_memory(d, err)) < 0)
    return rc;
  /* Elsewhere there is only /dev/uioX to lock, which the guardian has no part in. */
  if ((!pci || siblings) && !shared && d->uio_fd >= 0 && (rc = take_lock(d, d->uio_fd, err)) < 0)
    return rc;
  return !pci && !shared && !before ? luio_guard_open(d, err) : 0;
}

int luio_device_open(const char *address, unsigned flags, luio_device **out, luio_error *err)
{
  luio_device *d;
  char what[96];
  luio_format(what, sizeof what, "open %s", address);
  int rc = luio_device_new(flags, what, &d, err);
  if (rc < 0)
    return rc;
  rc = luio_device_open_files(d, address, NULL, err);
  if (rc < 0) {
    luio_device_free(d);
    return rc;
  }
  luio_config_watch(d);
  *out = d;
  return 0;
}

int luio_device_open_sim(luio_sim *sim, const char *name, unsigned flags, luio_device **out,
                         luio_error *err)
{
  luio_device *d;
  char what[96];
  luio_format(what, sizeof what, "open sim:%s", name);
  int rc = luio_device_new(flags, what, &d, err);
  if (rc < 0)
    return rc;
  const luio_sim_config *c = luio_sim_identity(sim);
  d->sim = sim;
  luio_info *info = &d->info;
  luio_format(info->address, sizeof info->address, "sim:%s", name);
  luio_format(info->bus, sizeof info->bus, "sim");
  info->capabilities = LUIO_HAS_CONFIG | LUIO_HAS_BARS | LUIO_HAS_DMA;
  if (c->n_vectors)
    info->capabilities |= LUIO_HAS_INTERRUPTS;
  luio_format(info->driver, sizeof info->driver, "model");
  info->vendor = c->vendor;
  info->device = c->device;
  info->subvendor = c->subvendor;
  info->subdevice = c->subdevice;
  info->class_code = c->class_code;
  info->revision = c->revision;
  info->numa_node = -1;
  for (int i = 0; i < LUIO_MAX_BARS; i++) {
    info->bars[i].map = -1;
    if (!c->region_size[i])
      continue;
    info->bars[i].kind = LUIO_BAR_MEM;
    info->bars[i].addr = luio_sim_address(sim, i);
    info->bars[i].size = c->region_size[i];
  }
  rc = flags & (LUIO_READ_ONLY | LUIO_SHARED) ? 0 : luio_guard_open(d, err);
  if (rc < 0) {
    luio_device_free(d);
    return rc;
  }
  luio_config_watch(d);
  *out = d;
  return 0;
}

const luio_info *luio_device_info(const luio_device *d)
{
  return &d->info;
}

int luio_device_irq(luio_device *d, unsigned vector, luio_irq_config *config, luio_error *err)
{
  memset(config, 0, sizeof *config);
  config->cpu = -1;
  config->device = d;
  if (!strcmp(d->info.bus, "mem"))
    return luio_fail(err, ENOTSUP,
                     "%s has no interrupt: /dev/mem brings none; poll it, or give the device a UIO "
                     "driver",
                     d->info.address);
  if (vector > 0)
    return luio_fail(err, ENOENT, "%s has no vector %u: UIO gives one interrupt, vector 0",
                     d->info.address, vector);
  if (d->gone)
    return luio_fail(err, ENODEV, "interrupt of %s: the device is gone", d->info.address);
  if (d->flags & LUIO_READ_ONLY)
    return luio_fail(err, EACCES,
                     "interrupt of %s: it was opened read-only, and waiting means "
                     "unmasking",
                     d->info.address);
  if (d->flags & LUIO_SHARED)
    return luio_fail(err, EACCES,
                     "interrupt of %s: it was opened beside its owner, who gets the interrupts",
                     d->info.address);
  if (d->sim) {
    if (!luio_sim_identity(d->sim)->n_vectors)
      return luio_fail(err, ENOTSUP, "%s has no interrupt: its model declares none; poll it",
                       d->info.address);
    config->source = LUIO_IRQ_EVENTFD;
    config->fd = luio_sim_event_fd(d->sim);
    return 0;
  }
  if (d->uio_fd < 0)
    return luio_fail(err, ENOTSUP, "interrupt of %s: no UIO driver is bound: luio bind %s",
                     d->info.address, d->info.address);
  /* The UIO core answers read() with EIO exactly when the driver gave it no interrupt. A count that
   * is there already is of the time before, and may be taken: the unmask that follows makes a
   * line that is still asserted fire again. */
  uint32_t count;
  if (read(d->uio_fd, &count, sizeof count) < 0 && errno == EIO)
    return luio_fail(err, ENOTSUP, "%s has no interrupt: %s got none for it; poll it",
                     d->info.address, d->info.uio_name);
  char dir[64];
  uint64_t event = d->info.event;
  luio_format(dir, sizeof dir, "/sys/class/uio/%s", d->info.uio);
  luio_sysfs_u64(dir, "event", &event);
  config->source = LUIO_IRQ_UIO;
  config->fd = d->uio_fd;
  config->baseline = (uint32_t)event;
  return 0;
}

static bool brings_memory(const luio_device *d)
{
  for (int i = 0; i < LUIO_MAX_MAPS; i++)
    if (d->info.maps[i].present && d->info.maps[i].at_open)
      return true;
  return false;
}

int luio_device_dma(luio_device *d, luio_dma **out, luio_error *err)
{
  int rc = luio_function_is_ours(d, "DMA memory", err);
  if (rc < 0)
    return rc;
  if (!d->dma && d->flags & LUIO_READ_ONLY)
    return luio_fail(err, EACCES, "DMA memory for %s: it was opened read-only", d->info.address);
  /* Nothing could keep the device from writing to it after it is freed. */
  if (!strcmp(d->info.bus, "mem"))
    return luio_fail(err, ENOTSUP,
                     "DMA memory for %s: by /dev/mem its bus master can't be switched off again: "
                     "give the device a UIO driver",
                     d->info.address);
  if (!d->dma && d->sim) {
    rc = luio_dma_open_sim(d, &d->dma, err);
    if (rc == 0)
      luio_sim_set_dma(d->sim, d->dma);
  } else if (!d->dma) {
    /* With no group there is no IOMMU; "identity" means addresses pass through unchanged. */
    char type[32];
    rc = luio_sysfs_text(d->info.sysfs, "iommu_group/type", type, sizeof type);
    if (rc < 0 && rc != -ENOENT)
      return luio_fail(err, -rc,
                       "DMA memory for %s: whether an IOMMU translates for it can't be read from "
                       "%s/iommu_group/type: %s",
                       d->info.address, d->info.sysfs, luio_errno_name(-rc));
    if (rc == 0 && strcmp(type, "identity"))
      return luio_fail(err, ENOTSUP,
                       "DMA memory for %s: the IOMMU translates for it (%s), so physical "
                       "addresses would fault: boot with iommu=pt",
                       d->info.address, type);
    if (brings_memory(d)) {
      rc = luio_dma_open_regions(d, &d->dma, err);
    } else if (d->info.incoherent) {
      return luio_fail(err, ENOTSUP,
                       "DMA memory for %s: its DMA does not look into the CPU's caches (no "
                       "dma-coherent in the device tree), so it would miss what is written to "
                       "ordinary memory: use a UIO driver that brings memory (uio_dmem_genirq)",
                       d->info.address);
    } else {
      rc = luio_dma_open_physical(d, &d->dma, err);
    }
  }
  *out = d->dma;
  return rc;
}

int luio_device_settle(luio_device *d, luio_error *err)
{
  int rc = 0;
  d->settled = true;
  if (d->dma)
    luio_dma_settle(d->dma);
  else if (d->kept[GUARD_RECORDS] >= 0) {
    luio_dma *ignored;
    rc = luio_device_dma(d, &ignored, err); /* settles what it takes over */
  }
  return rc;
}

int luio_device_unsettled(luio_device *d, uint64_t *bytes, luio_error *err)
{
  luio_dma *dma = d->dma;
  int rc = 0;
  if (!dma && d->kept[GUARD_RECORDS] >= 0)
    rc = luio_device_dma(d, &dma, err);
  *bytes = rc == 0 && dma ? luio_dma_unsettled(dma) : 0;
  return rc;
}

int luio_device_close(luio_device *d, luio_error *err)
{
  if (!d)
    return 0;
  while (d->irqs) {
    int rc = luio_irq_close(d->irqs, LUIO_STOP_NS, err);
    if (rc < 0)
      return rc;
  }
  if (d->bus_master_on) {
    /* A device that is gone can't be switched off, nor does it need to be. */
    luio_error ignored;
    luio_bus_master(d, 0, &ignored);
  }
  if (d->bars_taken && !d->gone && !d->bus_master_on)
    guard_bars_give_back(d->info.sysfs); /* without root nothing happens: the guardian does it */
  if (d->sim)
    luio_sim_set_dma(d->sim, NULL);
  luio_device_free(d);
  return 0;
}
