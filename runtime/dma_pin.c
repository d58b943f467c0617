/* dma_pin.c - keeps pages of DMA memory where they are.
 *
 * mlock keeps a page in memory, but not in its place: move_pages, compaction, memory that goes offline
 * and control groups move it all the same, and the device goes on with the old address. What does hold
 * a page is a long-term reference (FOLL_LONGTERM), as the kernel takes it for RDMA and VFIO. io_uring
 * gives one to any process: a buffer that is registered with a ring is pinned until it is unregistered or
 * the ring is closed. So a pool has a ring. Nothing is ever read or written through it.
 *
 * A page in memory that may go offline is moved elsewhere before it is pinned, so its address must be
 * looked up afterwards. The kernel refuses where it has no io_uring, where kernel.io_uring_disabled or a
 * container's seccomp filter forbids it, and, without CAP_IPC_LOCK, beyond `ulimit -l`. The memory is
 * used all the same, with a warning that says why; luio_dma_check is the second line of defence.
 *
 * The pins of a process that was killed end with its ring. Bus master is off until the next worker has
 * pinned the kept pages again and has compared their addresses (dma_kept.c). */
#include "dma.h"

#include <errno.h>
#include <linux/io_uring.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { PINS = KEPT_PAGES }; /* a ring has at most 16384 */

/* A ring with room for PINS buffers, all empty: one can be filled without touching the others, which
 * takes Linux 5.13. The descriptor, which is closed on exec, or -errno. */
static int ring_open(void)
{
  static const struct iovec empty[PINS];
  struct io_uring_params params = {.flags = 0};
  int fd = (int)syscall(SYS_io_uring_setup, 1, &params);
  if (fd < 0)
    return -errno;
  struct io_uring_rsrc_register all = {.nr = PINS, .data = (uintptr_t)empty};
  if (syscall(SYS_io_uring_register, fd, IORING_REGISTER_BUFFERS2, &all, sizeof all) < 0) {
    int code = errno;
    close(fd);
    return -code;
  }
  return fd;
}

void luio_dma_pin_open(luio_dma *dma)
{
  int fd = ring_open();
  if (fd >= 0)
    dma->ring_fd = fd;
  else
    dma->unpinned = -fd;
}

static int pin(luio_dma *dma, const page *p)
{
  if (dma->unpinned)
    return -dma->unpinned;
  if (dma->pins >= PINS)
    return -ENOSPC;
  struct iovec memory = {p->addr, p->size};
  struct io_uring_rsrc_update2 one = {.offset = dma->pins, .nr = 1, .data = (uintptr_t)&memory};
  if (syscall(SYS_io_uring_register, dma->ring_fd, IORING_REGISTER_BUFFERS_UPDATE, &one,
              sizeof one) != 1)
    return -errno;
  dma->pins++;
  return 0;
}

const char *luio_dma_pin_remedy(int code)
{
  switch (code) {
  case ENOSYS: return "this kernel has no io_uring: use one with CONFIG_IO_URING";
  case EPERM:
  case EACCES:
    return "allow io_uring: sysctl kernel.io_uring_disabled=0, or the container's seccomp filter";
  case ENOMEM: return "raise `ulimit -l`";
  case EMFILE: return "raise `ulimit -n`";
  case EINVAL: return "use Linux 5.13 or newer";
  case ENOSPC: return "a pool pins at most 4096 pages";
  default: return "see io_uring_register(2)";
  }
}

void luio_dma_pin(luio_dma *dma, page *p)
{
  int rc = pin(dma, p);
  p->pinned = rc == 0;
  if (rc == 0)
    return;
  dma->unpinned = -rc;
  if (dma->unpinned_said)
    return;
  dma->unpinned_said = true;
  luio_dma_warn(
      dma,
      "the kernel may move DMA memory of %s, for it can't be pinned (io_uring: %s): %s; until "
      "then its addresses are checked every second, and the device is stopped if one changes",
      dma->who, luio_errno_name(-rc), luio_dma_pin_remedy(-rc));
}

/* Unregistering waits until the pages are free; closing the ring alone would not. */
void luio_dma_unpin(luio_dma *dma)
{
  if (dma->ring_fd < 0)
    return;
  syscall(SYS_io_uring_register, dma->ring_fd, IORING_UNREGISTER_BUFFERS, NULL, 0);
  close(dma->ring_fd);
  dma->ring_fd = -1;
}

int luio_dma_can_pin(luio_error *err)
{
  int fd = ring_open();
  if (fd < 0)
    return luio_fail(err, -fd, "io_uring: %s: %s", luio_errno_name(-fd), luio_dma_pin_remedy(-fd));
  close(fd);
  return 0;
}
