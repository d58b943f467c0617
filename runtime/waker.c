/* waker.c - wakes a process that is not trusted.
 *
 * An eventfd that came from another process has two owners. The other owner can make any write() to
 * it block: it can fill the counter and clear O_NONBLOCK, which belongs to the open file, not to our
 * descriptor. A poll() before the write would only be a race. The kernel adds to an eventfd without
 * waiting when asynchronous I/O completes (IOCB_FLAG_RESFD), and checks that the descriptor is an
 * eventfd. So luio submits the smallest request, a read of no bytes from /dev/null, and discards its
 * completion. About 1 us. */
#include "kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { ROOM = 8 }; /* completions that fit; each is taken at once */

struct luio_waker {
  aio_context_t context;
  int null;
};

int luio_waker_open(luio_waker **out, luio_error *err)
{
  luio_waker *w = calloc(1, sizeof *w);
  if (!w)
    return luio_fail(err, ENOMEM, "a waker: no memory");
  w->null = open("/dev/null", O_RDONLY | O_CLOEXEC);
  if (w->null < 0) {
    int rc = luio_fail(err, errno, "open /dev/null: %s", luio_errno_name(errno));
    free(w);
    return rc;
  }
  if (syscall(SYS_io_setup, (long)ROOM, &w->context) < 0) {
    int rc = luio_fail(err, errno, "io_setup, to wake other processes: %s", luio_errno_name(errno));
    close(w->null);
    free(w);
    return rc;
  }
  *out = w;
  return 0;
}

int luio_waker_add(luio_waker *w, int fd, luio_error *err)
{
  struct iocb request, *list = &request;
  struct io_event done[ROOM];
  memset(&request, 0, sizeof request);
  request.aio_lio_opcode = IOCB_CMD_PREAD;
  request.aio_fildes = (unsigned)w->null;
  request.aio_buf = (uintptr_t)done;
  request.aio_flags = IOCB_FLAG_RESFD;
  request.aio_resfd = (unsigned)fd;
  if (syscall(SYS_io_submit, w->context, 1L, &list) != 1)
    return luio_fail(err, errno, "wake by eventfd: %s", luio_errno_name(errno));
  syscall(SYS_io_getevents, w->context, 0L, (long)ROOM, done, NULL);
  return 0;
}

void luio_waker_close(luio_waker *w)
{
  if (!w)
    return;
  syscall(SYS_io_destroy, w->context);
  close(w->null);
  free(w);
}
