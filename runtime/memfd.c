/* memfd.c - memory of a fixed size that a guardian keeps from one worker to the next.
 *
 * Sealed against shrinking, and its size looked at before it is used again: whoever maps a file that
 * gets shorter dies of SIGBUS, and the worker before may have been one without our privileges. */
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static int take(luio_device *d, int slot, size_t size)
{
  struct stat st;
  int fd = d->kept[slot];
  d->kept[slot] = -1;
  if (fd < 0)
    return -ENOENT;
  int seals = fcntl(fd, F_GET_SEALS);
  if (seals >= 0 && seals & F_SEAL_SHRINK && fstat(fd, &st) == 0 && (size_t)st.st_size == size)
    return fd;
  close(fd); /* not one that we made */
  return -EINVAL;
}

static int make(luio_device *d, int slot, size_t size, const char *what, luio_error *err)
{
  char name[96];
  luio_format(name, sizeof name, "luio-%s %s", what, d->info.address);
  int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING), rc;
  if (fd < 0 || ftruncate(fd, (off_t)size) < 0 ||
      fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
    rc =
        luio_fail(err, errno, "%s of %s: memfd: %s", what, d->info.address, luio_errno_name(errno));
  else
    rc = luio_guard_hold(d, slot, fd, err);
  if (rc == 0)
    return fd;
  if (fd >= 0)
    close(fd);
  return rc;
}

int luio_memfd_map(luio_device *d, int slot, size_t size, const char *what, void **out,
                   luio_error *err)
{
  int fd = take(d, slot, size);
  if (fd < 0)
    fd = make(d, slot, size, what, err);
  if (fd < 0)
    return fd;
  void *at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  int rc = 0;
  if (at == MAP_FAILED)
    rc = luio_fail(err, errno, "%s of %s: mmap: %s", what, d->info.address, luio_errno_name(errno));
  else
    *out = at;
  close(fd);
  return rc;
}
