/* dma_pin.c - keeps pages of DMA memory where they are.
 *
 * mlock keeps a page in memory, but not at its address: move_pages, compaction, memory offlining and
 * control groups still move it, and the device goes on with the old address. A long-term reference
 * (FOLL_LONGTERM) keeps a page at its address; the kernel takes one for RDMA and VFIO. io_uring gives one
 * to any process: a registered buffer is pinned until it is unregistered or the ring is closed. So a pool
 * has a ring, which never transfers data.
 *
 * The kernel moves a page out of memory that may go offline before it pins the page, so the address must
 * be looked up afterwards. Pinning fails without io_uring, where kernel.io_uring_disabled or a
 * container's seccomp filter forbids it, and, without CAP_IPC_LOCK, beyond `ulimit -l`. The memory is
 * then used unpinned, with a warning that gives the reason, and luio_dma_check finds a page that has
 * moved.
 *
 * The pins of a killed process end with its ring. Bus master is off until the next worker has
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
