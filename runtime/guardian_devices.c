/* guardian_devices.c - the guardian's descriptors and memory of each device, and how it stops a
 * device.
 *
 * The guardian opens the files that it needs to stop a device: config space, with the lock that marks the
 * device's owner, and `reset`. It never has /dev/uioX open, because the kernel acts only on the last close
 * of that file, which must be the worker's.
 *
 * It also keeps the device's memory, in memfds that it makes itself. The worker's mappings end with the
 * worker. The pages stay allocated, because the memfd is open here. So no other process can get them
 * while the device may still write to them.
 *
 * A device is stopped in this order:
 *
 *   1. bus master off, by the config descriptor: the device can no longer start a write
 *   2. the command register is read back: a completion does not overtake the device's writes that are on
 *      their way (PCI Express Base Specification, 2.4.1), so these have arrived
 *   3. reset, if the device has one, because only a reset clears the addresses in the device. A driver
 *      whose device needs state that a reset clears sets `reset = false`
 *
 * The guardian does not rely on the worker's reports for that. It stops every device whose bus master
 * is on, even one that the worker reported as closed; the config descriptor is kept while the device
 * answers and has the same kernel driver. A device with another kernel driver is left alone, because it
 * belongs to that driver.
 *
 * A device's BAR files are private to its driver's user while it is driven (guard_bars.c). They are
 * given back after the last worker. Between two workers they stay private, because a process that
 * opened them would block the next worker. */
#include "guardian.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

struct guardian_device {
  char address[64];
  char driver[64]; /* its kernel driver when it was opened; empty: none, or it is not on PCI */
  int fd[GUARD_SLOTS];
  bool open;    /* a worker drives it */
  bool settled; /* it was reset after that */
  bool humble;  /* kept data may have been written by a process without privileges */
  bool left;    /* by a worker that died, and none has had it since */
};

static struct guardian_device devices[GUARD_PLACES];
static int n_devices;

/* The memory that was made last and is not held yet; -1: none. */
static struct {
  int fd;
  struct guardian_device *device;
  unsigned slot;
} made = {.fd = -1};

/* ---- Kept memory ------------------------------------------------------------------------------ */

static void put(struct guardian_device *d, unsigned slot, int fd)
{
  if (d->fd[slot] >= 0)
    close(d->fd[slot]);
  d->fd[slot] = fd;
}

void guardian_drop_made(void)
{
  if (made.fd >= 0)
    close(made.fd);
  made.fd = -1;
}

/* Unlocks before it closes: a process that has a copy of the descriptor (a worker's child) must not keep
 * the lock with it. */
static void release_config(struct guardian_device *d)
{
  if (d->fd[GUARD_CONFIG] >= 0)
    flock(d->fd[GUARD_CONFIG], LOCK_UN);
  put(d, GUARD_CONFIG, -1);
}

/* Config space comes last, for it carries the lock. */
static void release(struct guardian_device *d)
{
  if (made.device == d)
    guardian_drop_made();
  for (unsigned slot = GUARD_SLOTS; slot-- > GUARD_CONFIG + 1;)
    put(d, slot, -1);
  release_config(d);
}

static bool may_write(const struct guardian_device *d);

/* A place for one more device. If all are taken, a device that was closed in order loses its place, because
 * its data is kept only in case it is opened again. A device that was not closed in order keeps its place,
 * whatever the worker reports. */
static struct guardian_device *find_place(void)
{
  if (n_devices < GUARD_PLACES) {
    struct guardian_device *d = &devices[n_devices++];
    for (int slot = 0; slot < GUARD_SLOTS; slot++)
      d->fd[slot] = -1;
    return d;
  }
  for (int i = 0; i < GUARD_PLACES; i++)
    if (!devices[i].open && !may_write(&devices[i])) {
      release(&devices[i]);
      return &devices[i];
    }
  return NULL;
}

struct guardian_device *guardian_find(const char *address, bool add)
{
  for (int i = 0; i < n_devices; i++)
    if (!strcmp(devices[i].address, address))
      return &devices[i];
  struct guardian_device *d = add ? find_place() : NULL;
  if (!d)
    return NULL;
  d->open = d->settled = d->humble = d->left = false;
  snprintf(d->address, sizeof d->address, "%s", address);
  return d;
}

/* DMA memory in a slot is never replaced: the device may write to it. */
int guardian_make(struct guardian_device *d, unsigned slot, uint64_t size, int *fd)
{
  if (slot < GUARD_SMALL || slot >= GUARD_SLOTS)
    return EINVAL;
  if (slot < GUARD_RECORDS && d->fd[slot] >= 0)
    return EEXIST;
  guardian_drop_made();
  int memory = guard_memory(slot, d->address, size);
  if (memory < 0)
    return -memory;
  made.fd = *fd = memory;
  made.device = d;
  made.slot = slot;
  return 0;
}

int guardian_hold(struct guardian_device *d, unsigned slot)
{
  if (made.fd < 0 || made.device != d || made.slot != slot)
    return EINVAL;
  put(d, slot, made.fd);
  made.fd = -1;
  return 0;
}

void guardian_distrust(void)
{
  for (int i = 0; i < n_devices; i++)
    devices[i].humble = true;
}

/* Without LOCK_UN: the lock belongs to all copies of the descriptor, the guardian's, too. */
void guardian_close_devices(void)
{
  guardian_drop_made();
  for (int i = 0; i < n_devices; i++)
    for (unsigned slot = 0; slot < GUARD_SLOTS; slot++)
      put(&devices[i], slot, -1);
  n_devices = 0;
}

/* ---- A PCI device's files ---------------------------------------------------------------------- */

/* Nothing else than DOMAIN:BUS:SLOT.FUNCTION may become part of a path. */
static bool is_pci(const char *a)
{
  static const char hex[] = "0123456789abcdef";
  size_t n = strspn(a, hex);
  return n >= 4 && n <= 8 && a[n] == ':' && strspn(a + n + 1, hex) == 2 && a[n + 3] == ':' &&
         strspn(a + n + 4, hex) == 2 && a[n + 6] == '.' && a[n + 7] >= '0' && a[n + 7] <= '7' &&
         !a[n + 8];
}

static void folder(const struct guardian_device *d, char *path, size_t size)
{
  snprintf(path, size, "/sys/bus/pci/devices/%s", d->address);
}

static int open_file(const struct guardian_device *d, const char *name, int flags)
{
  char path[128];
  snprintf(path, sizeof path, "/sys/bus/pci/devices/%s/%s", d->address, name);
  return open(path, flags | O_CLOEXEC);
}

/* The name of its kernel driver; empty: none. */
static void read_driver(const struct guardian_device *d, char *name, size_t size)
{
  char path[128], link[256];
  snprintf(path, sizeof path, "/sys/bus/pci/devices/%s/driver", d->address);
  ssize_t n = readlink(path, link, sizeof link - 1);
  link[n > 0 ? n : 0] = '\0';
  const char *last = strrchr(link, '/');
  snprintf(name, size, "%.*s", (int)size - 1, last ? last + 1 : link);
}

/* Whether another kernel driver has it by now. */
static bool is_anothers(const struct guardian_device *d)
{
  char driver[sizeof d->driver];
  read_driver(d, driver, sizeof driver);
  return driver[0] && strcmp(driver, d->driver) != 0;
}

static bool answers(const struct guardian_device *d)
{
  uint8_t byte;
  return d->fd[GUARD_CONFIG] >= 0 && pread(d->fd[GUARD_CONFIG], &byte, 1, 0) == 1;
}

/* Opens the files needed to stop a device, with the lock. 0 or an errno value. */
static int take_files(struct guardian_device *d)
{
  if (!is_pci(d->address))
    return 0;
  if (!answers(d)) {
    int fd = open_file(d, "config", O_RDWR);
    if (fd < 0) /* an ordinary user's guardian holds the lock, at least */
      fd = open_file(d, "config", O_RDONLY);
    if (fd < 0)
      return errno;
    if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
      int code = errno; /* EWOULDBLOCK: another process has the device */
      close(fd);
      return code;
    }
    release_config(d);
    d->fd[GUARD_CONFIG] = fd;
  }
  if (!d->open)
    read_driver(d, d->driver, sizeof d->driver);
  put(d, GUARD_RESET, open_file(d, "reset", O_WRONLY)); /* few have one */
  return 0;
}

/* A device that this worker has open already went away and came back. The worker has its memory, so
 * only the new config descriptor goes along. */
int guardian_open(struct guardian_device *d, struct guard_reply *r, int *fds)
{
  int n = 0, slots = d->open ? GUARD_CONFIG + 1 : GUARD_SLOTS;
  r->code = take_files(d);
  if (r->code)
    return 0;
  if (!d->open) {
    r->settled = d->settled;
    r->humble = d->humble;
  }
  d->open = true;
  d->left = false;
  d->settled = false; /* this worker may give the device new addresses */
  for (int slot = 0; slot < slots; slot++)
    if (slot != GUARD_RESET && d->fd[slot] >= 0) {
      r->slots |= 1u << slot;
      fds[n++] = d->fd[slot];
    }
  return n;
}

/* The worker says that the device is gone. Another process may drive it then, so we let go of its files;
 * but not if the device is there and has the kernel driver that it had. */
int guardian_let_go(struct guardian_device *d)
{
  char driver[sizeof d->driver], path[128];
  if (answers(d)) {
    read_driver(d, driver, sizeof driver);
    if (!strcmp(driver, d->driver))
      return EBUSY;
  }
  if (may_write(d)) /* it was unbound, and then switched on */
    guard_bus_master_off(d->fd[GUARD_CONFIG]);
  if (is_pci(d->address)) {
    folder(d, path, sizeof path);
    guard_bars_leave(path);
  }
  put(d, GUARD_RESET, -1);
  release_config(d);
  return 0;
}

int guardian_keep_from_reset(struct guardian_device *d, bool sealed)
{
  if (sealed && d->fd[GUARD_RESET] >= 0)
    return EPERM;
  put(d, GUARD_RESET, -1);
  return 0;
}

/* Gives the BARs back, unless the device may still write to memory. */
static void give_back(const struct guardian_device *d)
{
  char path[128];
  folder(d, path, sizeof path);
  if (is_pci(d->address) && answers(d) && !guard_bus_master(d->fd[GUARD_CONFIG]) && !is_anothers(d))
    guard_bars_give_back(path);
}

/* A worker that is root has given the BARs back itself. */
void guardian_closed(struct guardian_device *d, bool sealed)
{
  d->open = false;
  if (sealed)
    give_back(d);
}

void guardian_end_devices(void)
{
  for (int i = 0; i < n_devices; i++)
    if (devices[i].left)
      give_back(&devices[i]);
  for (int i = 0; i < n_devices; i++)
    release(&devices[i]);
  n_devices = 0;
}

/* ---- Stopping a device ------------------------------------------------------------------------- */

static bool bus_master_off(const struct guardian_device *d, struct guardian_line *l,
                           uint64_t died_at)
{
  int rc = guard_bus_master_off(d->fd[GUARD_CONFIG]);
  if (rc == -ENODEV)
    guardian_say(l, "; %s is gone", d->address);
  else if (rc < 0)
    guardian_say(l, "; write config space of %s: %s", d->address, strerrorname_np(-rc));
  else
    guardian_say(l, "; %s: bus master %s after %.2f ms", d->address, rc ? "is still ON" : "off",
                 guardian_ms(guardian_now() - died_at));
  return rc >= 0;
}

/* Whether its bus master is ours to switch off. A device that the worker said was closed is looked at, too: the worker
 * may still have its files. */
static bool may_write(const struct guardian_device *d)
{
  return d->fd[GUARD_CONFIG] >= 0 && (d->open || guard_bus_master(d->fd[GUARD_CONFIG])) &&
         !is_anothers(d);
}

static bool to_be_stopped(const struct guardian_device *d)
{
  return strcmp(d->address, GUARD_PROCESS) != 0 && (d->open || may_write(d));
}

static void stop_device(struct guardian_device *d, struct guardian_line *l, uint64_t died_at)
{
  d->settled = false;
  d->left = true;
  if (d->fd[GUARD_CONFIG] < 0)
    return;
  if (is_anothers(d)) {
    guardian_say(l, "; %s has another driver by now", d->address);
    return;
  }
  if (!bus_master_off(d, l, died_at))
    return;
  if (d->fd[GUARD_RESET] < 0)
    return;
  uint64_t start = guardian_now();
  d->settled = pwrite(d->fd[GUARD_RESET], "1", 1, 0) == 1;
  if (d->settled)
    guardian_say(l, ", reset in %.1f ms", guardian_ms(guardian_now() - start));
  else
    guardian_say(l, ", reset: %s", strerrorname_np(errno));
}

bool guardian_stop_devices(struct guardian_line *l, uint64_t died_at)
{
  bool any = false;
  for (int i = 0; i < n_devices; i++) {
    if (to_be_stopped(&devices[i])) {
      any = true;
      stop_device(&devices[i], l, died_at);
    }
    devices[i].open = false;
  }
  return any;
}

void guardian_quieten_devices(void)
{
  for (int i = 0; i < n_devices; i++)
    if (may_write(&devices[i]))
      guard_bus_master_off(devices[i].fd[GUARD_CONFIG]);
}

void guardian_disarm_devices(struct guardian_line *l, uint64_t died_at)
{
  for (int i = 0; i < n_devices; i++)
    if (may_write(&devices[i]))
      bus_master_off(&devices[i], l, died_at);
}
