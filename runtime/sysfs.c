/* sysfs.c - reads and checks one attribute.
 *
 * Attributes are small text files. A read is bounded by the caller's buffer. A text with a NUL is
 * refused, because data could follow it. A number must be a whole number without other text. */
#include "kernel.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

/* EROFS alone is not enough: without the right to the file the error is EACCES, although the right would not help. */
const char *luio_read_only(const char *path)
{
  struct statvfs fs;
  int fd = open(path, O_PATH | O_CLOEXEC); /* nothing is opened in truth: no device's `open` */
  if (fd < 0)
    return NULL;
  bool read_only = fstatvfs(fd, &fs) == 0 && fs.f_flag & ST_RDONLY;
  close(fd);
  if (!read_only)
    return NULL;
  if (!strncmp(path, "/sys", 4) && (!path[4] || path[4] == '/'))
    return "/sys is mounted read-only here, as in a container: do it on the host, or mount -o "
           "remount,rw /sys";
  if (!strncmp(path, "/proc/sys/", 10))
    return "/proc/sys is mounted read-only here, as in a container: do it on the host, or mount -o "
           "remount,rw "
           "/proc/sys";
  return "its file system is mounted read-only: mount -o remount,rw it";
}

int luio_sysfs_text(const char *dir, const char *name, char *to, size_t size)
{
  char path[512];
  if (!luio_format(path, sizeof path, "%s/%s", dir, name))
    return -ENAMETOOLONG;
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0)
    return -errno;
  size_t n = 0;
  int rc = 0;
  while (n < size) {
    ssize_t got = read(fd, to + n, size - n);
    if (got < 0 && errno == EINTR)
      continue;
    if (got < 0)
      rc = -errno;
    if (got <= 0)
      break;
    n += (size_t)got;
  }
  close(fd);
  if (rc)
    return rc;
  if (n == size) {
    to[size - 1] = '\0';
    return -EOVERFLOW;
  }
  if (memchr(to, '\0', n))
    return -EBADMSG;
  while (n > 0 && isspace((unsigned char)to[n - 1]))
    n--;
  to[n] = '\0';
  return 0;
}

int luio_sysfs_u64(const char *dir, const char *name, uint64_t *value)
{
  char text[64];
  int rc = luio_sysfs_text(dir, name, text, sizeof text);
  return rc ? rc : luio_parse_u64(text, value);
}

bool luio_locked_down(void)
{
  char lockdown[80] = "";
  luio_sysfs_text("/sys/kernel/security", "lockdown", lockdown, sizeof lockdown);
  return strstr(lockdown, "[integrity]") || strstr(lockdown, "[conf");
}
