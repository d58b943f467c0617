/* config.c - configuration space: one access, little-endian, of 8, 16 or 32 bits.
 *
 * The backend does the transfer (backend_*.c). Related files: config_watch.c (changes by other processes),
 * bus_master.c (the bus master switch), intx.c (the INTx mask). */
#include "registers.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

static int no_config(const luio_device *d, luio_error *err)
{
  return luio_fail(err, ENOTSUP, "config space of %s: %s", d->info.address, d->backend->no_config);
}

static int check(const luio_device *d, unsigned offset, unsigned width, luio_error *err)
{
  if (width != 8 && width != 16 && width != 32)
    return luio_fail(err, EINVAL, "config space of %s: no access of %u bits: 8, 16 or 32",
                     d->info.address, width);
  if (offset % (width / 8))
    return luio_fail(err, EINVAL, "config space of %s: 0x%x is not aligned to %u bytes",
                     d->info.address, offset, width / 8);
  if (offset > 4096 - width / 8)
    return luio_fail(err, ERANGE, "config space of %s: 0x%x is outside its 4096 bytes",
                     d->info.address, offset);
  return 0;
}

static int gone(const luio_device *d, luio_error *err)
{
  return luio_fail(err, ENODEV, "config space of %s: the device is gone", d->info.address);
}

static int io_failed(const luio_device *d, ssize_t got, const char *verb, unsigned offset,
                     luio_error *err)
{
  int code = got < 0 ? (int)-got : EIO;
  return luio_fail(err, code, "%s config space of %s at 0x%x: %s: %s", verb, d->info.address,
                   offset, luio_errno_name(code),
                   code == ENODEV  ? "the device is gone"
                   : code == EPERM ? "kernel lockdown forbids it: switch secure boot off, or boot "
                                     "without lockdown="
                   : code == EIO   ? "outside the 64 bytes an ordinary user sees, or what the "
                                     "device has: run as root"
                                   : "see dmesg");
}

int luio_config_read(luio_device *d, unsigned offset, unsigned width, uint32_t *value,
                     luio_error *err)
{
  int rc = check(d, offset, width, err);
  if (rc < 0)
    return rc;
  if (d->gone) /* its descriptor leads nowhere */
    return gone(d, err);
  if (!d->backend->config_read)
    return no_config(d, err);
  uint32_t le = 0;
  ssize_t got = d->backend->config_read(d, offset, &le, width / 8);
  if (got != (ssize_t)(width / 8))
    return io_failed(d, got, "read", offset, err);
  *value = le32toh(le);
  return 0;
}

static int not_writable(const luio_device *d, luio_error *err)
{
  char path[320];
  luio_format(path, sizeof path, "%s/config", d->info.sysfs);
  const char *read_only = luio_read_only(path);
  if (read_only)
    return luio_fail(err, EROFS, "write config space of %s: EROFS: %s", d->info.address, read_only);
  return luio_fail(err, EACCES,
                   "write config space of %s: %s is not for this user: run as root, which "
                   "`luio run --user` gives up again; luio doctor %s knows more",
                   d->info.address, path, d->info.address);
}

int luio_config_put(luio_device *d, unsigned offset, unsigned width, uint32_t value,
                    luio_error *err)
{
  int rc = check(d, offset, width, err);
  if (rc < 0)
    return rc;
  if (width < 32 && value >> width)
    return luio_fail(err, EINVAL, "config space of %s: 0x%x does not fit in %u bits",
                     d->info.address, value, width);
  if (d->flags & LUIO_READ_ONLY)
    return luio_fail(err, EACCES, "write config space of %s: it was opened read-only",
                     d->info.address);
  if (d->gone)
    return gone(d, err);
  if (!d->backend->config_write)
    return no_config(d, err);
  rc = luio_function_is_ours(d, "write config space", err);
  if (rc < 0)
    return rc;
  if (!d->config_writable)
    return not_writable(d, err);
  uint32_t le = htole32(value);
  ssize_t got = d->backend->config_write(d, offset, &le, width / 8);
  return got == (ssize_t)(width / 8) ? 0 : io_failed(d, got, "write", offset, err);
}

/* This process has written this, and means the bits in `changed`. */
static void note_wanted(luio_device *d, unsigned offset, unsigned width, uint32_t value,
                        uint32_t changed)
{
  uint8_t *wanted = d->wanted.bytes;
  uint32_t command = 0; /* bits that were changed */
  pthread_mutex_lock(&d->command_lock);
  for (unsigned at = offset; at < offset + width / 8 && at < sizeof d->wanted.bytes; at++) {
    unsigned shift = 8 * (at - offset);
    uint8_t bits = (uint8_t)(changed >> shift);
    wanted[at] = (uint8_t)((wanted[at] & ~bits) | (value >> shift & bits));
    if (at == PCI_COMMAND || at == PCI_COMMAND + 1)
      command |= (uint32_t)bits << 8 * (at - PCI_COMMAND);
  }
  if (command & PCI_COMMAND_MASTER)
    d->bus_master_on = wanted[PCI_COMMAND] & PCI_COMMAND_MASTER;
  if (command & PCI_COMMAND_INTX_DISABLE)
    d->intx_open = !(wanted[PCI_COMMAND + 1] & PCI_COMMAND_INTX_DISABLE >> 8);
  pthread_mutex_unlock(&d->command_lock);
}

int luio_config_write(luio_device *d, unsigned offset, unsigned width, uint32_t value,
                      luio_error *err)
{
  uint32_t before;
  if (luio_config_read(d, offset, width, &before, NULL) < 0)
    before = value;
  int rc = luio_config_put(d, offset, width, value, err);
  if (rc == 0)
    note_wanted(d, offset, width, value, value ^ before);
  return rc;
}

unsigned luio_capability(luio_device *d, unsigned id)
{
  uint32_t status, at = 0, head = 0;
  if (luio_config_read(d, PCI_STATUS, 16, &status, NULL) < 0 ||
      !(status & PCI_STATUS_CAPABILITIES) ||
      luio_config_read(d, PCI_CAPABILITIES, 8, &at, NULL) < 0)
    return 0;
  /* At most 48, of at least 4 bytes each: a list that is longer goes in a circle. */
  for (int i = 0; i < 48 && (at &= ~3u) >= 0x40; i++) {
    if (luio_config_read(d, at, 16, &head, NULL) < 0)
      return 0;
    if ((head & 0xff) == id)
      return at;
    at = head >> 8;
  }
  return 0;
}

/* Writes only where bits are not as they shall be. */
int luio_command_change(luio_device *d, uint32_t set, uint32_t clear, uint32_t *command,
                        luio_error *err)
{
  int rc = luio_config_read(d, PCI_COMMAND, 32, command, err);
  if (rc == 0 && (*command & (set | clear)) != set)
    rc = luio_config_put(d, PCI_COMMAND, 16, (*command & 0xffff & ~clear) | set, err);
  return rc;
}
