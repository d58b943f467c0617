/* memfd.c - memory of a fixed size that a guardian keeps from one worker to the next.
 *
 * The guardian makes it sealed, because a mapped file that gets shorter raises SIGBUS. The previous
 * worker may have had no privileges, and a process that it left behind may still have the memory mapped.
 * So the contents are copied to new memory, which replaces the old one at the guardian when the copy is
 * complete. Only the copy is checked and used. */
#include "worker.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* The memory of the worker before, or NULL. */
static const void *map_kept(luio_slots *s, int slot, size_t size)
{
  struct stat st;
  int fd = s->kept[slot];
  s->kept[slot] = -1;
  if (fd < 0)
    return NULL;
  void *at = MAP_FAILED;
  if (fstat(fd, &st) == 0 && (size_t)st.st_size == size)
    at = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
  close(fd);
  return at == MAP_FAILED ? NULL : at;
}

int luio_memfd_map(luio_slots *s, int slot, size_t size, const char *what,
                   void (*copy)(void *to, const void *from), void **out, luio_error *err)
{
  void *at = MAP_FAILED;
  int rc = 0, fd = luio_guard_make(s, slot, size, err);
  if (fd == -EPIPE || fd == -ETIMEDOUT)
    return fd;
  if (fd < 0)
    return luio_fail(err, -fd, "%s of %s: memfd: %s%s", what, s->address, luio_errno_name(-fd),
                     fd == -EFBIG ? ": raise `ulimit -f`" : "");
  at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (at == MAP_FAILED)
    rc = luio_fail(err, errno, "%s of %s: mmap: %s", what, s->address, luio_errno_name(errno));
  else
    madvise(at, size, MADV_DONTFORK);
  const void *kept = rc == 0 ? map_kept(s, slot, size) : NULL;
  if (kept) {
    copy(at, kept);
    munmap((void *)kept, size);
  }
  if (rc == 0)
    rc = luio_guard_hold(s, slot, err);
  if (rc < 0 && at != MAP_FAILED)
    munmap(at, size);
  close(fd);
  if (rc == 0)
    *out = at;
  return rc;
}
