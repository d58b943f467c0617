/* irq_ring.c - the ring of events between the taker of interrupts and the consumer.
 *
 * The ring: one producer at a time (the holder of luio_irq.taking), one consumer (luio_irq_next). `head`
 * counts events put in, `tail` events taken out; both only grow, and index the array modulo its
 * power-of-two capacity.
 *   producer: writes the slot, then stores head with release
 *   consumer: loads head with acquire, so the slot it reads is complete;
 *             reads the slot, then stores tail with release
 *   producer: loads tail with acquire, so it never overwrites a slot that is still being read
 * The mutex orders head and all other stores from one producer to the next. One slot is reserved
 * for the GONE event, so that it fits into a full ring.
 *
 * The wake descriptor is written only when `signalled` goes 0 -> 1, so 0 says that it is not readable, and an empty
 * ring costs the consumer no system call. At 1 the consumer, finding the ring empty, reads the descriptor, and if that
 * was written already exchanges `signalled` to 0 and looks at head once more. Both exchanges are acq_rel on one
 * variable, so they are ordered: if the producer's came first, the consumer's second look sees its event; if it came
 * second, it saw 0 and writes the descriptor. If the descriptor is not written yet, it will be, and the consumer
 * returns. Either way the descriptor is readable while an event of the thread waits. For events that the consumer took
 * itself and left in the ring, luio_irq_publish writes the descriptor. */
#include "irq.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

int luio_ring_open(struct luio_ring *r, uint64_t capacity)
{
  r->capacity = capacity;
  r->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  if (r->wake_fd < 0)
    return -errno;
  r->slots = calloc(capacity, sizeof *r->slots);
  return r->slots ? 0 : -ENOMEM;
}

void luio_ring_close(struct luio_ring *r)
{
  if (r->wake_fd >= 0)
    close(r->wake_fd);
  free(r->slots);
}

void luio_signal(int fd)
{
  uint64_t one = 1;
  ssize_t n;
  do
    n = write(fd, &one, sizeof one);
  while (n < 0 && errno == EINTR); /* EAGAIN: the counter is at its limit, so it is readable */
}

static void wake(struct luio_ring *r)
{
  if (!atomic_exchange_explicit(&r->signalled, 1, memory_order_acq_rel))
    luio_signal(r->wake_fd);
}

/* ---- The producer's side ----------------------------------------------------------------------- */

void luio_ring_put(struct luio_ring *r, luio_irq_event *event, bool wakes)
{
  uint64_t head = atomic_load_explicit(&r->head, memory_order_relaxed);
  uint64_t tail = atomic_load_explicit(&r->tail, memory_order_acquire);
  uint64_t limit = event->flags & LUIO_EVENT_GONE ? r->capacity : r->capacity - 1;
  if (head - tail >= limit) {
    r->overflow_pending += event->count;
    atomic_fetch_add_explicit(&r->overflow, event->count, memory_order_relaxed);
    return;
  }
  event->overflow = r->overflow_pending;
  r->overflow_pending = 0;
  r->slots[head & (r->capacity - 1)] = *event;
  atomic_fetch_add_explicit(&r->delivered, event->count, memory_order_relaxed);
  atomic_fetch_add_explicit(&r->events, 1, memory_order_relaxed);
  atomic_store_explicit(&r->head, head + 1, memory_order_release);
  if (wakes)
    wake(r);
}

/* ---- The consumer's side ----------------------------------------------------------------------- */

int luio_ring_next(struct luio_ring *r, luio_irq_event *out)
{
  uint64_t tail = atomic_load_explicit(&r->tail, memory_order_relaxed);
  uint64_t head = atomic_load_explicit(&r->head, memory_order_acquire);
  if (head == tail) {
    uint64_t count;
    if (!atomic_load_explicit(&r->signalled, memory_order_acquire) ||
        read(r->wake_fd, &count, sizeof count) < 0)
      return 0;
    atomic_exchange_explicit(&r->signalled, 0, memory_order_acq_rel);
    head = atomic_load_explicit(&r->head, memory_order_acquire);
    if (head == tail)
      return 0;
    /* One came in between; its wake-up may have been drained with the others, so make sure the
     * descriptor is readable for those behind it. */
    wake(r);
  }
  *out = r->slots[tail & (r->capacity - 1)];
  atomic_store_explicit(&r->tail, tail + 1, memory_order_release);
  return head - tail > 1 ? 2 : 1;
}

void luio_ring_publish(struct luio_ring *r)
{
  if (atomic_load_explicit(&r->head, memory_order_acquire) !=
      atomic_load_explicit(&r->tail, memory_order_relaxed))
    wake(r);
}

uint64_t luio_ring_waiting(const struct luio_ring *r)
{
  uint64_t tail = atomic_load_explicit(&r->tail, memory_order_acquire); /* first: head is ahead */
  return atomic_load_explicit(&r->head, memory_order_acquire) - tail;
}
