/* lock.c - the advisory lock of the process that drives a device.
 *
 * The lock is flock's; each backend chooses the file: `config` on PCI, /dev/uioX elsewhere. A lock belongs
 * to an open file, so this process, too, may hold it by an earlier open. Lua finds the process and names it
 * (lua/luio/host/holders.lua). */
#include "kernel.h"

#include <errno.h>
#include <sys/file.h>

static const char *name_of(const luio_device *d)
{
  return d->one_of_several ? d->info.uio : d->info.address;
}

int luio_locked(const luio_device *d, const char *part, luio_error *err)
{
  return luio_fail(err, EBUSY,
                   "open %s: EBUSY: another process or this one drives it%s; stop that one, or "
                   "open read-only to look",
                   name_of(d), part);
}

int luio_lock(const luio_device *d, int fd, luio_error *err)
{
  if (flock(fd, LOCK_EX | LOCK_NB) == 0)
    return 0;
  if (errno == EWOULDBLOCK)
    return luio_locked(d, "", err);
  return luio_fail(err, errno, "lock %s: %s", d->info.address, luio_errno_name(errno));
}

int luio_function_is_ours(const luio_device *d, const char *what, luio_error *err)
{
  if (!d->one_of_several)
    return 0;
  return luio_fail(
      err, EBUSY,
      "%s of %s: EBUSY: it is one of several UIO devices of %s, whose config space, "
      "bus master and DMA memory "
      "belong to the one that was opened first, by another process or this one: use that one's",
      what, d->info.uio, d->info.address);
}
