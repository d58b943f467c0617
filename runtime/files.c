/* files.c - reading a file while another process may save it, and writing beyond a limit.
 *
 * An editor that writes into a file truncates it first. A reader then gets an empty or incomplete file. The kernel
 * refuses a read lease while a file is open for writing. While the lease is held the file can't change: an open for
 * writing waits. The kernel sends a signal when a process waits. It is set to SIGURG, which is ignored by default;
 * the default, SIGIO, would end the process. No action is needed, because the lease is returned a moment later
 * anyway.
 *
 * A write beyond RLIMIT_FSIZE (`ulimit -f`) ends a process by SIGXFSZ. If the signal is ignored, the write fails with
 * EFBIG (on a full disk with ENOSPC) and is reported. A running driver must not die of a log that grew, so the library
 * ignores the signal when it is loaded, unless the process has set its own action. */
#include "kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

static int64_t read_whole(int fd, const char *path, void *data, uint64_t size, luio_error *err)
{
  struct stat s;
  if (fstat(fd, &s) < 0)
    return luio_fail(err, errno, "read %s: %s", path, luio_errno_name(errno));
  uint64_t got = 0;
  while (got < size) {
    ssize_t n = read(fd, (char *)data + got, size - got);
    if (n < 0 && errno == EINTR) /* a file system over a network, and our SIGURG */
      continue;
    if (n < 0)
      return luio_fail(err, errno, "read %s: %s", path, luio_errno_name(errno));
    if (n == 0)
      return (int64_t)got;
    got += (uint64_t)n;
  }
  return s.st_size > (off_t)got ? s.st_size : (int64_t)got;
}

__attribute__((constructor)) static void ignore_file_size_signal(void)
{
  struct sigaction a;
  if (sigaction(SIGXFSZ, NULL, &a) == 0 && a.sa_handler == SIG_DFL && !(a.sa_flags & SA_SIGINFO))
    signal(SIGXFSZ, SIG_IGN);
}

/* Opening anything but a file may wait (a FIFO) or do something (a device). So it is found without being opened, looked
 * at, and then it is that which is opened, whatever has its name by now. Descriptor or -errno. */
static int open_file(const char *path)
{
  struct stat s;
  char self[64];
  int at = open(path, O_PATH | O_CLOEXEC);
  if (at < 0)
    return -errno;
  luio_format(self, sizeof self, "/proc/self/fd/%d", at);
  int fd = fstat(at, &s) < 0     ? -errno
           : S_ISDIR(s.st_mode)  ? -EISDIR
           : !S_ISREG(s.st_mode) ? -ENODEV
                                 : open(self, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd == -1)
    fd = -errno;
  close(at);
  return fd;
}

int64_t luio_read_leased(const char *path, void *data, uint64_t size, int *leased, luio_error *err)
{
  int64_t result;
  if (leased)
    *leased = 0;
  int fd = open_file(path);
  if (fd == -ENODEV)
    return luio_fail(err, ENODEV, "open %s: it is no file", path);
  if (fd < 0)
    return luio_fail(err, -fd, "open %s: %s", path, luio_errno_name(-fd));
  if (!leased) {
    result = read_whole(fd, path, data, size, err);
    close(fd);
    return result;
  }
  fcntl(fd, F_SETSIG, SIGURG);
  if (fcntl(fd, F_SETLEASE, F_RDLCK) == 0)
    *leased = 1;
  if (!*leased && errno == EAGAIN)
    result = luio_fail(err, EAGAIN, "read %s: somebody has it open for writing", path);
  else
    result = read_whole(fd, path, data, size, err);
  close(fd); /* gives the lease back */
  return result;
}
