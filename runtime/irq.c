/* irq.c - a thread per interrupt source, its top half, and the ring of events.
 *
 * The thread sleeps in poll() on the source and on a stop descriptor. When the source is readable
 * it takes the count, notes the time, runs the top half (a short list of register operations, the
 * last usually UNMASK), puts an event into the ring and signals the wake descriptor. It runs no
 * Lua, allocates nothing and takes no lock that the Lua side holds for long, so interrupts are
 * taken and counted while Lua is busy, reloading, or not there.
 *
 * The ring: one producer (the thread), one consumer (luio_irq_next). `head` counts events put in,
 * `tail` events taken out; both only grow, and index the array modulo its power-of-two capacity.
 *   producer: writes the slot, then stores head with release
 *   consumer: loads head with acquire, so the slot it reads is complete;
 *             reads the slot, then stores tail with release
 *   producer: loads tail with acquire, so it never overwrites a slot that is still being read
 * One slot is kept for the GONE event, so that a full ring can't hide that the device went away.
 *
 * The wake descriptor is written only when `signalled` goes 0 -> 1. The consumer, finding the ring
 * empty, drains the descriptor, exchanges `signalled` to 0 and looks at head once more. Both
 * exchanges are acq_rel on one variable, so they are ordered: if the producer's came first, the
 * consumer's second look sees its event; if it came second, it saw 0 and writes the descriptor.
 * Either way no event waits without the descriptor being readable. */
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define DRAIN 64 /* events taken before looking at stop_fd again */

struct luio_irq {
  luio_irq_config config;
  char who[64];
  int wake_fd, stop_fd;
  bool nonblocking; /* the source */
  pthread_t thread;
  uint32_t last_count; /* of a UIO source; the thread's */

  luio_irq_event *ring;
  uint64_t capacity;
  /* On cache lines of their own: each is written by one side and polled by the other. */
  _Alignas(64) _Atomic uint64_t head;
  _Alignas(64) _Atomic uint64_t tail;
  _Alignas(64) _Atomic int signalled;

  /* Written by the thread, read by anyone. */
  _Alignas(64) _Atomic uint64_t interrupts;
  _Atomic uint64_t delivered, overflow, events;
  uint64_t overflow_pending; /* the thread's: since the last event that got in */
  luio_error error;          /* the thread's, published by the event that has flags */

  pthread_mutex_t lock; /* exited */
  pthread_cond_t exited_cond;
  bool exited;
  luio_irq *next; /* in the device's list */
};

/* ---- The ring, producer's side ----------------------------------------------------------------- */

static void wake(luio_irq *irq)
{
  if (atomic_exchange_explicit(&irq->signalled, 1, memory_order_acq_rel))
    return;
  uint64_t one = 1;
  ssize_t n;
  do
    n = write(irq->wake_fd, &one, sizeof one);
  while (n < 0 && errno == EINTR); /* EAGAIN: the counter is at its limit, so it is readable */
}

static void push(luio_irq *irq, luio_irq_event *event)
{
  uint64_t head = atomic_load_explicit(&irq->head, memory_order_relaxed);
  uint64_t tail = atomic_load_explicit(&irq->tail, memory_order_acquire);
  uint64_t limit = event->flags & LUIO_EVENT_GONE ? irq->capacity : irq->capacity - 1;
  if (head - tail >= limit) {
    irq->overflow_pending += event->count;
    atomic_fetch_add_explicit(&irq->overflow, event->count, memory_order_relaxed);
    return;
  }
  event->overflow = irq->overflow_pending;
  irq->overflow_pending = 0;
  irq->ring[head & (irq->capacity - 1)] = *event;
  atomic_fetch_add_explicit(&irq->delivered, event->count, memory_order_relaxed);
  atomic_fetch_add_explicit(&irq->events, 1, memory_order_relaxed);
  atomic_store_explicit(&irq->head, head + 1, memory_order_release);
  wake(irq);
}

/* ---- The thread -------------------------------------------------------------------------------- */

static int run_op(luio_irq *irq, const luio_irq_op *op, luio_irq_event *event, luio_error *err)
{
  switch (op->op) {
  case LUIO_OP_READ:
    return luio_region_read(op->region, op->offset, op->width, &event->value[op->slot], err);
  case LUIO_OP_WRITE: return luio_region_write(op->region, op->offset, op->width, op->value, err);
  case LUIO_OP_COPY:
    return luio_region_write(op->region, op->offset, op->width,
                             (event->value[op->slot] & op->mask) | op->value, err);
  default: return luio_unmask(irq->config.device, err);
  }
}

/* A step that fails ends the top half: better a masked device than one acknowledged blindly. */
static void top_half(luio_irq *irq, luio_irq_event *event)
{
  for (unsigned i = 0; i < irq->config.n_ops; i++) {
    luio_error err;
    int rc = run_op(irq, &irq->config.ops[i], event, &err);
    if (rc < 0) {
      event->flags |= LUIO_EVENT_FAILED;
      event->code = (uint32_t)-rc;
      if (!irq->error.code)
        irq->error = err;
      return;
    }
  }
}

/* 1: *count is set; 0: nothing there after all; -errno: the source is dead. */
static int take(luio_irq *irq, uint64_t *count)
{
  union {
    uint32_t u32;
    uint64_t u64;
  } v = {.u64 = 0};
  size_t size = irq->config.source == LUIO_IRQ_UIO ? 4 : 8;
  ssize_t n = read(irq->config.fd, &v, size);
  if (n < 0)
    return errno == EINTR || errno == EAGAIN ? 0 : -errno;
  if (n != (ssize_t)size)
    return n == 0 ? -ENODEV : -EPROTO;
  if (irq->config.source == LUIO_IRQ_EVENTFD) {
    *count = v.u64;
    return 1;
  }
  uint32_t delta = v.u32 - irq->last_count; /* unsigned: the counter wraps */
  irq->last_count = v.u32;
  /* The baseline was read from sysfs; an interrupt between that and our read is one, not none. */
  *count = delta ? delta : 1;
  return 1;
}

static void gone(luio_irq *irq, int code)
{
  luio_irq_event event = {.time_ns = luio_now(), .flags = LUIO_EVENT_GONE, .code = (uint32_t)code};
  if (!irq->error.code)
    luio_fail(&irq->error, code, "wait for an interrupt of %s: %s: the device is gone", irq->who,
              luio_errno_name(code));
  push(irq, &event);
}

/* Takes what is there, without going back to poll for each; bounded, so that a stop is seen in a
 * storm. A blocking descriptor is read once only: there might be no second count. */
static int drain(luio_irq *irq)
{
  int rc = 1;
  for (int n = 0; rc > 0 && n < (irq->nonblocking ? DRAIN : 1); n++) {
    luio_irq_event event = {.time_ns = luio_now()};
    rc = take(irq, &event.count);
    if (rc > 0) {
      atomic_fetch_add_explicit(&irq->interrupts, event.count, memory_order_relaxed);
      top_half(irq, &event);
      push(irq, &event);
    }
  }
  return rc;
}

static void serve(luio_irq *irq)
{
  struct pollfd fds[2] = {{.fd = irq->config.fd, .events = POLLIN},
                          {.fd = irq->stop_fd, .events = POLLIN}};
  for (;;) {
    /* No timeout: an idle thread costs nothing, and stop_fd ends the wait. */
    if (poll(fds, 2, -1) < 0) {
      if (errno == EINTR)
        continue;
      gone(irq, errno);
      return;
    }
    if (fds[1].revents)
      return;
    int rc = drain(irq);
    if (rc == 0 && fds[0].revents & (POLLERR | POLLHUP | POLLNVAL))
      rc = -ENODEV; /* level-triggered: would spin for ever */
    if (rc < 0) {
      gone(irq, -rc);
      return;
    }
  }
}

static void *thread_main(void *arg)
{
  luio_irq *irq = arg;
  serve(irq);
  pthread_mutex_lock(&irq->lock);
  irq->exited = true;
  pthread_cond_signal(&irq->exited_cond);
  pthread_mutex_unlock(&irq->lock);
  return NULL;
}

/* ---- Opening ----------------------------------------------------------------------------------- */

static int check(const luio_irq_config *c, const char *who, luio_error *err)
{
  if (c->source != LUIO_IRQ_UIO && c->source != LUIO_IRQ_EVENTFD)
    return luio_fail(err, EINVAL, "interrupt of %s: source %d is neither UIO nor eventfd", who,
                     c->source);
  if (c->n_ops > LUIO_IRQ_OPS)
    return luio_fail(err, EINVAL, "interrupt of %s: a top half has at most %d steps, not %u", who,
                     LUIO_IRQ_OPS, c->n_ops);
  if (c->capacity & (c->capacity - 1) || c->capacity > LUIO_IRQ_MAX_CAPACITY || c->capacity == 1)
    return luio_fail(err, EINVAL, "interrupt of %s: capacity %u is not a power of two from 2 to %d",
                     who, c->capacity, LUIO_IRQ_MAX_CAPACITY);
  if (c->priority < 0 || c->priority > 99)
    return luio_fail(err, EINVAL, "interrupt of %s: priority %d is not 0..99", who, c->priority);
  if (c->cpu >= CPU_SETSIZE)
    return luio_fail(err, EINVAL, "interrupt of %s: there is no CPU %d", who, c->cpu);
  for (unsigned i = 0; i < c->n_ops; i++) {
    const luio_irq_op *op = &c->ops[i];
    if (op->op == LUIO_OP_UNMASK ? !c->device : !op->region)
      return luio_fail(err, EINVAL, "interrupt of %s: step %u names no %s", who, i + 1,
                       op->op == LUIO_OP_UNMASK ? "device" : "region");
    if (op->op < LUIO_OP_READ || op->op > LUIO_OP_UNMASK || op->slot >= LUIO_IRQ_CAPTURES)
      return luio_fail(err, EINVAL,
                       "interrupt of %s: step %u is not READ, WRITE, COPY or UNMASK "
                       "with a slot of 0..%d",
                       who, i + 1, LUIO_IRQ_CAPTURES - 1);
    if (op->op == LUIO_OP_UNMASK)
      continue;
    unsigned bytes = op->width / 8;
    uint64_t size = luio_region_size(op->region);
    if ((op->width != 8 && op->width != 16 && op->width != 32 && op->width != 64) ||
        op->offset % bytes || op->offset > size || size - op->offset < bytes)
      return luio_fail(err, EINVAL, "interrupt of %s: step %u: no %u-bit register at 0x%llx of %s",
                       who, i + 1, op->width, (unsigned long long)op->offset,
                       luio_region_name(op->region));
    if (op->op != LUIO_OP_READ && !luio_region_writable(op->region))
      return luio_fail(err, EACCES, "interrupt of %s: step %u writes, but %s was opened read-only",
                       who, i + 1, luio_region_name(op->region));
  }
  return 0;
}

static int start_thread(luio_irq *irq, luio_error *err)
{
  pthread_attr_t attr;
  pthread_attr_init(&attr);
  pthread_attr_setstacksize(&attr, 128 * 1024);
  if (irq->config.priority > 0) {
    struct sched_param p = {.sched_priority = irq->config.priority};
    pthread_attr_setinheritsched(&attr, PTHREAD_EXPLICIT_SCHED);
    pthread_attr_setschedpolicy(&attr, SCHED_FIFO);
    pthread_attr_setschedparam(&attr, &p);
  }
  if (irq->config.cpu >= 0) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((unsigned)irq->config.cpu, &set);
    pthread_attr_setaffinity_np(&attr, sizeof set, &set);
  }
  /* Signals are for the program's own threads. */
  sigset_t all, old;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &old);
  int rc = pthread_create(&irq->thread, &attr, thread_main, irq);
  pthread_sigmask(SIG_SETMASK, &old, NULL);
  pthread_attr_destroy(&attr);
  if (rc)
    return luio_fail(err, rc, "start the interrupt thread of %s (priority %d, CPU %d): %s: %s",
                     irq->who, irq->config.priority, irq->config.cpu, luio_errno_name(rc),
                     rc == EPERM    ? "real-time priority needs CAP_SYS_NICE or RLIMIT_RTPRIO"
                     : rc == EINVAL ? "is there such a CPU?"
                                    : "too many threads?");
  pthread_setname_np(irq->thread, "luio-irq");
  return 0;
}

static void destroy(luio_irq *irq)
{
  if (irq->wake_fd >= 0)
    close(irq->wake_fd);
  if (irq->stop_fd >= 0)
    close(irq->stop_fd);
  pthread_cond_destroy(&irq->exited_cond);
  pthread_mutex_destroy(&irq->lock);
  free(irq->ring);
  free(irq);
}

int luio_irq_open(const luio_irq_config *config, luio_irq **out, luio_error *err)
{
  const char *who = config->device ? luio_device_info(config->device)->address : "a descriptor";
  int rc = check(config, who, err);
  if (rc < 0)
    return rc;
  void *mem = NULL;
  if (posix_memalign(&mem, 64, sizeof(luio_irq)))
    return luio_fail(err, ENOMEM, "interrupt of %s: out of memory", who);
  luio_irq *irq = memset(mem, 0, sizeof(luio_irq));
  irq->config = *config;
  irq->nonblocking = fcntl(config->fd, F_GETFL) & O_NONBLOCK;
  irq->capacity = config->capacity ? config->capacity : 1024;
  irq->last_count = config->baseline;
  luio_format(irq->who, sizeof irq->who, "%s", who);
  irq->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  irq->stop_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  pthread_condattr_t monotonic;
  pthread_condattr_init(&monotonic);
  pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
  pthread_cond_init(&irq->exited_cond, &monotonic);
  pthread_condattr_destroy(&monotonic);
  pthread_mutex_init(&irq->lock, NULL);
  irq->ring = calloc(irq->capacity, sizeof *irq->ring);
  if (irq->wake_fd < 0 || irq->stop_fd < 0) {
    rc = luio_fail(err, errno, "interrupt of %s: eventfd: %s: raise `ulimit -n`", who,
                   luio_errno_name(errno));
    goto fail;
  }
  if (!irq->ring) {
    rc = luio_fail(err, ENOMEM, "interrupt of %s: no memory for %llu events", who,
                   (unsigned long long)irq->capacity);
    goto fail;
  }
  /* Whoever had the device before may have left it masked: without this we would wait for ever. */
  for (unsigned i = 0; i < config->n_ops; i++)
    if (config->ops[i].op == LUIO_OP_UNMASK && (rc = luio_unmask(config->device, err)) < 0)
      goto fail;
  rc = start_thread(irq, err);
  if (rc < 0)
    goto fail;
  if (config->device) {
    pthread_mutex_lock(&config->device->irq_lock);
    irq->next = config->device->irqs;
    config->device->irqs = irq;
    pthread_mutex_unlock(&config->device->irq_lock);
  }
  *out = irq;
  return 0;

fail:
  destroy(irq);
  return rc;
}

/* ---- The consumer's side ----------------------------------------------------------------------- */

int luio_irq_fd(const luio_irq *irq)
{
  return irq->wake_fd;
}

int luio_irq_next(luio_irq *irq, luio_irq_event *out)
{
  uint64_t tail = atomic_load_explicit(&irq->tail, memory_order_relaxed);
  if (atomic_load_explicit(&irq->head, memory_order_acquire) == tail) {
    uint64_t count;
    if (read(irq->wake_fd, &count, sizeof count) < 0 && errno != EAGAIN && errno != EINTR)
      return 0;
    atomic_exchange_explicit(&irq->signalled, 0, memory_order_acq_rel);
    if (atomic_load_explicit(&irq->head, memory_order_acquire) == tail)
      return 0;
    /* One came in between; its wake-up may have been drained with the others, so make sure the
     * descriptor is readable for those behind it. */
    wake(irq);
  }
  *out = irq->ring[tail & (irq->capacity - 1)];
  atomic_store_explicit(&irq->tail, tail + 1, memory_order_release);
  return 1;
}

void luio_irq_get_stats(const luio_irq *irq, luio_irq_stats *out)
{
  out->interrupts = atomic_load_explicit(&irq->interrupts, memory_order_relaxed);
  out->delivered = atomic_load_explicit(&irq->delivered, memory_order_relaxed);
  out->overflow = atomic_load_explicit(&irq->overflow, memory_order_relaxed);
  out->events = atomic_load_explicit(&irq->events, memory_order_relaxed);
}

const char *luio_irq_error(const luio_irq *irq)
{
  return irq->error.message;
}

int luio_irq_close(luio_irq *irq, uint64_t timeout_ns, luio_error *err)
{
  if (!irq)
    return 0;
  uint64_t one = 1;
  if (write(irq->stop_fd, &one, sizeof one) < 0 && errno != EAGAIN)
    return luio_fail(err, errno, "stop the interrupt thread of %s: %s", irq->who,
                     luio_errno_name(errno));
  uint64_t until = luio_now() + timeout_ns;
  struct timespec deadline = {.tv_sec = (time_t)(until / LUIO_NS_PER_S),
                              .tv_nsec = (long)(until % LUIO_NS_PER_S)};
  pthread_mutex_lock(&irq->lock);
  int rc = 0;
  while (!irq->exited && rc != ETIMEDOUT)
    rc = pthread_cond_timedwait(&irq->exited_cond, &irq->lock, &deadline);
  bool exited = irq->exited;
  pthread_mutex_unlock(&irq->lock);
  if (!exited)
    return luio_fail(err, ETIMEDOUT,
                     "stop the interrupt thread of %s: not within %llu ms: its top half is stuck "
                     "in a device access; try again",
                     irq->who, (unsigned long long)(timeout_ns / 1000000));
  pthread_join(irq->thread, NULL);
  if (irq->config.device) {
    pthread_mutex_lock(&irq->config.device->irq_lock);
    luio_irq **p = &irq->config.device->irqs;
    while (*p && *p != irq)
      p = &(*p)->next;
    if (*p)
      *p = irq->next;
    pthread_mutex_unlock(&irq->config.device->irq_lock);
  }
  destroy(irq);
  return 0;
}
