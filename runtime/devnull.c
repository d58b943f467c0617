/* devnull.c - redirects open descriptors to /dev/null; they keep their numbers.
 *
 * When a device goes away, and in a forked child, descriptors must be disconnected from their
 * files. Another thread may be in a system call with the same number, so the number stays and dup3
 * replaces the file. /dev/null is kept open while it is held, because later no free descriptor may
 * be left. */
#include "kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of what changes these */
static unsigned holders;
static _Atomic int devnull = -1;

static void take_lock(void)
{
  pthread_mutex_lock(&lock);
}

static void drop_lock(void)
{
  pthread_mutex_unlock(&lock);
}

static void watch_forks(void)
{
  pthread_atfork(take_lock, drop_lock, drop_lock);
}

int luio_devnull_hold(const char *what, luio_error *err)
{
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, watch_forks);
  pthread_mutex_lock(&lock);
  int fd = devnull;
  if (fd < 0)
    fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
  int code = fd < 0 ? errno : 0;
  devnull = fd;
  holders += !code;
  pthread_mutex_unlock(&lock);
  return !code ? 0
               : luio_fail(err, code, "%s: open /dev/null: %s%s", what, luio_errno_name(code),
                           code == EMFILE ? ": raise `ulimit -n`" : "");
}

void luio_devnull_release(void)
{
  pthread_mutex_lock(&lock);
  if (--holders == 0) {
    close(devnull);
    devnull = -1;
  }
  pthread_mutex_unlock(&lock);
}

void luio_devnull_replace(int fd)
{
  if (fd >= 0)
    dup3(devnull, fd, O_CLOEXEC);
}
