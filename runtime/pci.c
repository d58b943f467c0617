/* pci.c - configuration space: the bus master switch and the INTx mask. What others change in it is
 * config_watch.c's.
 *
 * Both live in the command register, a read-modify-write of 2 bytes. It must be 2: the 4-byte
 * access would write the status half, whose bits are cleared by writing ones, and a 1-byte write
 * of the upper half is not seen as a change of the INTx mask by QEMU 7.2. The register has
 * writers in this process, the interrupt threads (unmask) and the owner (bus master, the watch), hence
 * command_lock. Another is the kernel's own interrupt handler, which sets INTX_DISABLE; should it
 * do so inside our read-modify-write, we undo that mask, the level is still asserted, and the
 * handler runs and masks again: one more event, never one less. */
#include "internal.h"

#include <endian.h>
#include <errno.h>
#include <pwd.h>
#include <string.h>
#include <unistd.h>

static int no_config(const luio_device *d, luio_error *err)
{
  return luio_fail(err, ENOTSUP, "config space of %s: %s", d->info.address,
                   strcmp(d->info.bus, "mem") ? "it is not a PCI device"
                                              : "there is none by /dev/mem, nor a bus master: open "
                                                "the device by its PCI address");
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
  int code = got < 0 ? errno : EIO;
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
  if (d->sim)
    return luio_sim_config_read(d->sim, offset, width, value);
  if (d->config_fd < 0)
    return no_config(d, err);
  uint8_t raw[4] = {0};
  ssize_t got = pread(d->config_fd, raw, width / 8, (off_t)offset);
  if (got != (ssize_t)(width / 8))
    return io_failed(d, got, "read", offset, err);
  uint32_t le;
  memcpy(&le, raw, sizeof le);
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
  if (d->sim)
    return luio_sim_config_write(d->sim, offset, width, value);
  if (d->config_fd < 0)
    return no_config(d, err);
  rc = luio_function_is_ours(d, "write config space", err);
  if (rc < 0)
    return rc;
  if (!d->config_writable)
    return not_writable(d, err);
  uint32_t le = htole32(value);
  ssize_t got = pwrite(d->config_fd, &le, width / 8, (off_t)offset);
  return got == (ssize_t)(width / 8) ? 0 : io_failed(d, got, "write", offset, err);
}

int luio_config_write(luio_device *d, unsigned offset, unsigned width, uint32_t value,
                      luio_error *err)
{
  uint32_t before;
  if (luio_config_read(d, offset, width, &before, NULL) < 0)
    before = value;
  int rc = luio_config_put(d, offset, width, value, err);
  if (rc == 0)
    luio_config_wants(d, offset, width, value, value ^ before);
  return rc;
}

/* Reads the command register into *command, with the status register in the upper half, and writes it where bits are not as
 * they shall be. With command_lock held. */
static int change_command(luio_device *d, uint32_t set, uint32_t clear, uint32_t *command,
                          luio_error *err)
{
  int rc = luio_config_read(d, PCI_COMMAND, 32, command, err);
  if (rc == 0 && (*command & (set | clear)) != set)
    rc = luio_config_put(d, PCI_COMMAND, 16, (*command & 0xffff & ~clear) | set, err);
  return rc;
}

static int update_command(luio_device *d, uint32_t set, uint32_t clear, uint32_t *command,
                          luio_error *err)
{
  pthread_mutex_lock(&d->command_lock);
  int rc = change_command(d, set, clear, command, err);
  pthread_mutex_unlock(&d->command_lock);
  return rc;
}

/* ---- Bus master -------------------------------------------------------------------------------- */

/* Whether the files of its registers are to be its driver's alone. A process that has given root up can still look. */
static bool wants_bars(const luio_device *d)
{
  return !strcmp(d->info.bus, "pci") && !(d->flags & (LUIO_READ_ONLY | LUIO_SHARED)) && !d->gone &&
         !d->info.shared_bars && (geteuid() == 0 || d->bars_taken);
}

/* 0 or -errno. Sets bars_given if they were not ours alone. Asked once a second: where nothing has changed it only looks. */
static int take_bars(luio_device *d, luio_error *err)
{
  const char *dir = d->info.sysfs;
  uint64_t mark;
  bool ours = guard_bars_are(dir, d->bars_uid, &mark) && (!d->bars_taken || mark == d->bars_mark);
  d->bars_given |= !ours;
  if (ours && d->bars_taken)
    return 0;
  if (geteuid() != 0)
    return !d->bars_given
               ? 0
               : luio_fail(
                     err, EPERM,
                     "bus master of %s stays off: its registers (resourceN, /dev/%s) were given "
                     "to others, who could have it write to any memory; this process has given "
                     "root up and can't take them back: start it again",
                     d->info.address, d->info.uio);
  int rc = guard_bars_take(dir, d->bars_uid);
  if (rc < 0 && !d->bars_taken)
    guard_bars_give_back(dir);
  if (rc == -EROFS)
    return luio_fail(err, EROFS, "keep others from the registers of %s: EROFS: %s", d->info.address,
                     luio_read_only(dir));
  if (rc < 0)
    return luio_fail(
        err, -rc,
        "keep others from the registers of %s, who could have it write to any memory: "
        "change its resourceN and /dev/%s: %s: it takes CAP_SYS_ADMIN and CAP_CHOWN; or "
        "let others in by LUIO_SHARED_BARS in udev's rules (60-luio.rules)",
        d->info.address, d->info.uio, luio_errno_name(-rc));
  d->bars_taken = true;
  d->bars_given |= rc > 0;
  guard_bars_are(dir, d->bars_uid, &d->bars_mark);
  return 0;
}

bool luio_bars_given(luio_device *d)
{
  luio_error ignored;
  return d->bars_taken && wants_bars(d) && (take_bars(d, &ignored) < 0 || d->bars_given);
}

int luio_device_bars(luio_device *d, const char *user, luio_error *err)
{
  struct passwd entry, *found = NULL;
  char text[4096];
  if (!wants_bars(d))
    return 0;
  if (user && (getpwnam_r(user, &entry, text, sizeof text, &found) || !found))
    return luio_fail(err, ENOENT,
                     "give the registers of %s to their driver's user: there is no user \"%s\"",
                     d->info.address, user);
  if (found)
    d->bars_uid = found->pw_uid;
  int rc = take_bars(d, err);
  if (rc < 0)
    return rc;
  bool given = d->bars_given;
  d->bars_given = false;
  return given ? 2 : 1;
}

const char *luio_bars_remedy(luio_device *d, int code)
{
  uint32_t command;
  if (code != EACCES || luio_config_read(d, PCI_COMMAND, 16, &command, NULL) < 0 ||
      !(command & PCI_COMMAND_MASTER))
    return NULL;
  return "its bus master is on, and so long its registers are its driver's alone: whoever writes "
         "them "
         "could have it write to any memory (luio doctor says more)";
}

static int switch_master(luio_device *d, int on, luio_error *err)
{
  uint32_t set = on ? PCI_COMMAND_MASTER : 0, command;
  pthread_mutex_lock(&d->command_lock);
  int rc = change_command(d, set, PCI_COMMAND_MASTER & ~set, &command, err);
  /* Read back. Switched off, the read also waits for the device's last memory writes: it may not
   * overtake them (PCI Express Base Specification, 2.4.1). */
  if (rc == 0)
    rc = luio_config_read(d, PCI_COMMAND, 16, &command, err);
  if (rc == 0 && on && !(command & PCI_COMMAND_MASTER))
    rc = luio_fail(err, EIO,
                   "bus master of %s does not stay on (command is 0x%04x): did another "
                   "process close /dev/%s?",
                   d->info.address, command, d->info.uio);
  if (rc == 0)
    d->bus_master_on = on;
  pthread_mutex_unlock(&d->command_lock);
  return rc;
}

int luio_bus_master(luio_device *d, int on, luio_error *err)
{
  luio_error ignored;
  bool bars = on && wants_bars(d);
  int rc = luio_function_is_ours(d, "bus master", err);
  if (rc == 0 && bars)
    rc = take_bars(d, err);
  if (rc == 0)
    rc = switch_master(d, on, err);
  /* Once more: udev's rules, which give the files to the group, look at bus master after that, too. Of the
   * two the one that comes second sees the other. */
  if (rc == 0 && bars) {
    rc = take_bars(d, err);
    if (rc < 0)
      switch_master(d, 0, &ignored);
  }
  return rc;
}

/* By writing to /dev/uioX, which is the UIO driver's irqcontrol. *known: whether it has one. */
static int irqcontrol(luio_device *d, int32_t on, const char *verb, bool *known, luio_error *err)
{
  *known = true;
  if (d->uio_fd < 0)
    return luio_fail(err, ENOTSUP, "%s the interrupt of %s: no UIO driver is bound", verb,
                     d->info.address);
  ssize_t got = write(d->uio_fd, &on, sizeof on);
  if (got == (ssize_t)sizeof on)
    return 0;
  int code = got < 0 ? errno : EIO;
  *known = code != ENOSYS;
  return luio_fail(err, code, "%s by writing %d to /dev/%s: %s: %s", verb, on, d->info.uio,
                   luio_errno_name(code),
                   code == EIO      ? "the device has no interrupt, or is gone"
                   : code == ENOSYS ? "its UIO driver has no irqcontrol"
                                    : "see dmesg");
}

bool luio_masks_by_command(const luio_device *d)
{
  return d->sim || !strcmp(d->info.uio_name, "uio_pci_generic");
}

/* uio_pci_generic has no irqcontrol, so write() gives ENOSYS; clearing INTX_DISABLE does it.
 *
 * Two accesses, once per interrupt, and no read back: the first is a read, which may not overtake
 * the memory writes that the device made for what was acknowledged before; and what comes after
 * it holds the line, and is an interrupt as soon as the mask is gone. */
int luio_unmask(luio_device *d, luio_error *err)
{
  return luio_unmask_seeing(d, NULL, err);
}

/* What the load saw was so before the store, after all that the acknowledgement wrote: it may not overtake these stores. */
int luio_unmask_seeing(luio_device *d, enum luio_line *line, luio_error *err)
{
  bool known;
  uint32_t command;
  if (line)
    *line = LUIO_LINE_UNSEEN;
  if (luio_masks_by_command(d)) {
    /* Before it is so: the taker of the interrupt that comes at once says otherwise again. */
    d->intx_open = true;
    int done = update_command(d, 0, PCI_COMMAND_INTX_DISABLE, &command, err);
    if (done < 0)
      d->intx_open = false;
    else if (line)
      *line = command & (uint32_t)PCI_STATUS_INTERRUPT << 16 ? LUIO_LINE_HELD : LUIO_LINE_LOW;
    return done;
  }
  int rc = irqcontrol(d, 1, "unmask", &known, err);
  return known ? rc : 0; /* no irqcontrol: its handler does not mask */
}

int luio_mask(luio_device *d, luio_error *err)
{
  bool known;
  uint32_t command;
  d->intx_open = false;
  if (luio_masks_by_command(d))
    return update_command(d, PCI_COMMAND_INTX_DISABLE, 0, &command, err);
  return irqcontrol(d, 0, "mask", &known, err);
}
