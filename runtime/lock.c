/* lock.c - the advisory lock that says which process drives a device, and the error that names the process.
 *
 * The lock is flock's, on a file that each way has for it: `config` on PCI, /dev/uioX elsewhere. */
#include "backend.h"

#include <errno.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

/* The process that holds our lock: /proc/locks names it, "1: FLOCK ADVISORY WRITE 812 00:06:123 0 EOF". */
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

int luio_locked(const luio_device *d, int fd, luio_error *err)
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

int luio_lock(const luio_device *d, int fd, luio_error *err)
{
  if (flock(fd, LOCK_EX | LOCK_NB) == 0)
    return 0;
  if (errno == EWOULDBLOCK)
    return luio_locked(d, fd, err);
  return luio_fail(err, errno, "lock %s: %s", d->info.address, luio_errno_name(errno));
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
