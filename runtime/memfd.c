/* memfd.c - memory of a fixed size that a guardian keeps from one worker to the next.
 *
 * Sealed against shrinking, and looked at before it is used: whoever maps a file that gets shorter
 * dies of SIGBUS. The worker before may have been one without our privileges, and a process that it
 * left behind may still have the memory: so what is in it is copied to memory of our own, which takes
 * its place with the guardian when it is complete, and only the copy is believed or checked. */
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* What the worker before had, or NULL. */
static const void *map_kept(luio_device *d, int slot, size_t size)
{
  struct stat st;
  int fd = d->kept[slot];
  d->kept[slot] = -1;
  if (fd < 0)
    return NULL;
  int seals = fcntl(fd, F_GET_SEALS);
  void *at = MAP_FAILED;
  if (seals >= 0 && seals & F_SEAL_SHRINK && fstat(fd, &st) == 0 && (size_t)st.st_size == size)
    at = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
  close(fd);
  return at == MAP_FAILED ? NULL : at;
}

int luio_memfd_map(luio_device *d, int slot, size_t size, const char *what,
                   void (*copy)(void *to, const void *from), void **out, luio_error *err)
{
  char name[96];
  luio_format(name, sizeof name, "luio-%s %s", what, d->info.address);
  int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING), rc = 0;
  void *at = MAP_FAILED;
  if (fd >= 0 && ftruncate(fd, (off_t)size) == 0 &&
      fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0)
    at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (at == MAP_FAILED)
    rc =
        luio_fail(err, errno, "%s of %s: memfd: %s", what, d->info.address, luio_errno_name(errno));
  const void *kept = rc == 0 ? map_kept(d, slot, size) : NULL;
  if (kept) {
    copy(at, kept);
    munmap((void *)kept, size);
  }
  if (rc == 0)
    rc = luio_guard_hold(d, slot, fd, err);
  if (rc < 0 && at != MAP_FAILED)
    munmap(at, size);
  if (fd >= 0)
    close(fd);
  if (rc == 0)
    *out = at;
  return rc;
}
