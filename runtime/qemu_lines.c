/* qemu_lines.c - inputs of a QEMU machine's interrupt controller, for devices that are not on PCI.
 *
 * To a device's driver a line is as the kernel and uio_pdrv_genirq have it: each interrupt is counted, and takes the line off until the
 * driver puts it on again. A level that is high then comes again at once. A rising edge that came meanwhile comes then, however many
 * there were. So it is from the machine's start on: a line that has risen before its device is opened is off.
 *
 * QEMU tells of changes only, so all lines are followed. All of this is called with the bus's lock held. */
#include "qemu.h"

#include <errno.h>
#include <unistd.h>

static void interrupt(struct luio_qemu_line *l)
{
  uint64_t one = 1;
  l->off = true;
  l->pending = false;
  if (l->fd >= 0)
    (void)!write(l->fd, &one, sizeof one); /* EAGAIN: it counts 2^64 - 2 already */
}

void luio_qemu_line_moved(luio_qemu *q, unsigned n, bool high)
{
  if (n >= QEMU_LINES)
    return;
  struct luio_qemu_line *l = &q->lines[n];
  l->high = high;
  if (high && !l->off)
    interrupt(l);
  else if (high)
    l->pending = true;
}

int luio_qemu_line_open(luio_qemu *q, unsigned n, bool edge, int fd)
{
  if (n >= QEMU_LINES)
    return -EINVAL;
  struct luio_qemu_line *l = &q->lines[n];
  if (l->fd >= 0)
    return -EBUSY;
  l->edge = edge;
  l->fd = fd;
  return 0;
}

void luio_qemu_line_close(luio_qemu *q, unsigned n)
{
  q->lines[n].fd = -1;
}

bool luio_qemu_line_on(luio_qemu *q, unsigned n)
{
  struct luio_qemu_line *l = &q->lines[n];
  bool high = l->high;
  if (l->off && (l->edge ? l->pending : high))
    interrupt(l);
  else
    l->off = false;
  return high;
}

void luio_qemu_line_off(luio_qemu *q, unsigned n)
{
  q->lines[n].off = true;
}
