/* bus_master.c - the bus master switch; while it is on, only the driver's user can open the registers.
 *
 * A device with bus master on reads and writes any memory that its registers name. So before bus master is switched on,
 * the files of the registers (resourceN, /dev/uioX) become private to the driver's user (guard_bars.c). Switching off
 * ends with a read-back, so that the device's earlier writes have arrived. */
#include "parts.h"

#include <errno.h>
#include <pwd.h>
#include <unistd.h>

/* Whether the files of its registers are to be its driver's alone. A process that has given root up can still look. */
static bool wants_bars(const luio_device *d)
{
  unsigned files = LUIO_HAS_SYSFS | LUIO_HAS_BARS; /* resourceN */
  return (d->info.capabilities & files) == files && !(d->flags & (LUIO_READ_ONLY | LUIO_SHARED)) &&
         !d->gone && !d->info.shared_bars && (geteuid() == 0 || d->bars_taken);
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
  int rc = luio_command_change(d, set, PCI_COMMAND_MASTER & ~set, &command, err);
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
