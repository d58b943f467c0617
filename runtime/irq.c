/* irq.c - a thread per interrupt source, its top half, and the ring of events.
 *
 * The thread sleeps until the source or its call descriptor is readable. Then it takes the count,
 * notes the time, runs the top half (a short list of register operations, the last usually UNMASK),
 * puts an event into the ring and signals the wake descriptor. It runs no Lua and allocates
 * nothing, so interrupts are taken and counted while Lua is busy, reloading, or not there.
 *
 * To wake one thread that wakes another takes twice as long as to wake one. So luio_irq_share puts
 * the source into the epoll set that the consumer sleeps in, and after that into one of the
 * thread's, both times with EPOLLEXCLUSIVE. A source that fires goes through these sets in this
 * order, up to the first that somebody sleeps in. If that is the consumer, the thread sleeps on,
 * and the consumer's luio_irq_take does what the thread would have done; it leaves the wake
 * descriptor alone, for who should be woken just was. If the consumer is busy, it is the thread.
 *   Who was told is the one who takes: the kernel reports the source from that very wait, or, if
 *   that ends on other grounds, from the next (level-triggered).
 *   Where a take leaves something behind, and when sharing begins or ends, the thread is called to
 *   look by itself: the kernel may have told nobody but the consumer.
 *   If both are told (the source fired again before the first had read), the second finds nothing.
 * Whichever of the two takes holds `taking` from the count to the ring.
 *
 * The ring: one producer at a time (who holds `taking`), one consumer (luio_irq_next). `head`
 * counts events put in, `tail` events taken out; both only grow, and index the array modulo its
 * power-of-two capacity.
 *   producer: writes the slot, then stores head with release
 *   consumer: loads head with acquire, so the slot it reads is complete;
 *             reads the slot, then stores tail with release
 *   producer: loads tail with acquire, so it never overwrites a slot that is still being read
 * From one producer to the next the mutex orders head and all else. One slot is kept for the GONE
 * event, so that a full ring can't hide that the device went away.
 *
 * The wake descriptor is written only when `signalled` goes 0 -> 1, so 0 says that it is not readable, and an empty ring
 * costs the consumer no system call. At 1 the consumer, finding the ring empty, reads the descriptor, and if that was
 * written already exchanges `signalled` to 0 and looks at head once more. Both exchanges are acq_rel on one variable, so
 * they are ordered: if the producer's came first, the consumer's second look sees its event; if it came second, it saw 0
 * and writes the descriptor. A descriptor that is not written yet will be, and the consumer comes again.
 * Either way no event of the thread's waits without the descriptor being readable. For those that
 * the consumer took and left in the ring, luio_irq_publish sees to that. */
#include "backend.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define DRAIN 64 /* events taken before looking at call_fd again */

struct luio_irq {
  luio_irq_config config;
  char who[64];
  int wake_fd, call_fd;   /* call_fd: the thread is to stop, or to look at the source */
  int storm_fd;           /* there is news of a storm */
  bool nonblocking;       /* the source */
  int own_set;            /* the thread's epoll set: source and call_fd; -1: not shared yet */
  _Atomic int set;        /* the same, if it is in use; -1: the thread polls both */
  luio_port_rights ports; /* the thread's, from its start on */
  pthread_t thread;
  _Atomic bool stopping;

  pthread_mutex_t taking;    /* held from taking a count until its event is in the ring; guards: */
  uint32_t last_count;       /* of a UIO source */
  uint32_t epoch;            /* and the steps in config */
  bool masked;               /* the last top half did not come to an UNMASK */
  uint64_t overflow_pending; /* since the last event that got in */
  uint64_t suspected_ns;     /* when it was first seen masked by nobody; 0: it is not */
  uint64_t suspected_at;     /* after so many interrupts */
  luio_error error;          /* published by the event that has flags */
  struct luio_storm storm;

  _Atomic uint64_t due_ns; /* when the thread unmasks; 0: it does not. Set with `taking` */
  _Atomic bool gone;
  _Atomic int consumer_set; /* that the source is in; -1: not shared now */

  luio_irq_event *ring;
  uint64_t capacity;
  /* On cache lines of their own: each is written by one side and polled by the other. */
  _Alignas(64) _Atomic uint64_t head;
  _Alignas(64) _Atomic uint64_t tail;
  _Alignas(64) _Atomic int signalled;

  /* Written by who holds `taking`, read by anyone. */
  _Alignas(64) _Atomic uint64_t interrupts;
  _Atomic uint64_t delivered, overflow, events, direct;
  _Atomic uint32_t news;

  luio_irq_storm told;  /* of `storm`, for other threads */
  pthread_mutex_t lock; /* exited, told; within `taking` */
  pthread_cond_t exited_cond;
  bool exited;
  luio_irq *next; /* in the device's list */
};

/* ---- The ring, producer's side ----------------------------------------------------------------- */

static void signal_fd(int fd)
{
  uint64_t one = 1;
  ssize_t n;
  do
    n = write(fd, &one, sizeof one);
  while (n < 0 && errno == EINTR); /* EAGAIN: the counter is at its limit, so it is readable */
}

static void wake(luio_irq *irq)
{
  if (!atomic_exchange_explicit(&irq->signalled, 1, memory_order_acq_rel))
    signal_fd(irq->wake_fd);
}

enum taker { THREAD, CONSUMER };

static void push(luio_irq *irq, luio_irq_event *event, enum taker taker)
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
  if (taker == THREAD)
    wake(irq);
}

/* ---- Taking ------------------------------------------------------------------------------------ */

static bool unmasks(const luio_irq_config *config)
{
  for (unsigned i = 0; i < config->n_ops; i++)
    if (config->ops[i].op == LUIO_OP_UNMASK)
      return true;
  return false;
}

static void set_failed(luio_irq *irq, luio_irq_event *event, int rc, const luio_error *err)
{
  event->flags |= LUIO_EVENT_FAILED;
  event->code = (uint32_t)-rc;
  if (!irq->error.code)
    irq->error = *err;
}

/* With `taking`. What others may see of a storm. */
static void tell_storm(luio_irq *irq)
{
  pthread_mutex_lock(&irq->lock);
  irq->told = irq->storm.record;
  pthread_mutex_unlock(&irq->lock);
}

static void storm_news(luio_irq *irq)
{
  tell_storm(irq);
  atomic_fetch_add_explicit(&irq->news, 1, memory_order_release);
  signal_fd(irq->storm_fd);
}

/* A top half that stopped leaves its reason, the first of them for luio_irq_error. In a storm the source stays masked, and
 * the thread unmasks when it is time (let_through). */
static void top_half(luio_irq *irq, luio_irq_event *event)
{
  luio_error err;
  enum luio_line line = LUIO_LINE_UNSEEN;
  uint64_t pause = luio_storm_rages(&irq->storm) ? irq->storm.record.pause_ns : 0;
  bool opens = unmasks(&irq->config);
  event->epoch = irq->epoch;
  int rc = luio_top_half_run(&irq->config, event, pause ? NULL : &line, &err);
  irq->masked = rc < 0 || !opens || pause;
  if (rc < 0)
    set_failed(irq, event, rc, &err);
  else if (opens && pause)
    irq->due_ns = luio_now() + pause;
  if (rc == 0 && opens &&
      luio_storm_judge(&irq->storm, &irq->config, event, pause ? LUIO_LINE_HELD : line))
    storm_news(irq);
}

/* With `taking`: the end of a pause. */
static void let_through(luio_irq *irq)
{
  luio_irq_event event = {.time_ns = luio_now(), .epoch = irq->epoch};
  luio_error err;
  enum luio_line line;
  irq->due_ns = 0;
  int rc = irq->config.device->backend->unmask(irq->config.device, &line, &err);
  irq->masked = rc < 0;
  if (rc < 0) {
    set_failed(irq, &event, rc, &err);
    push(irq, &event, THREAD);
  } else if (line != LUIO_LINE_HELD && luio_storm_end(&irq->storm)) {
    storm_news(irq);
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
  ssize_t n;
  do
    n = read(irq->config.fd, &v, size);
  while (n < 0 && errno == EINTR);
  if (n < 0)
    return errno == EAGAIN ? 0 : -errno;
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

static void forget(int set, int fd)
{
  struct epoll_event unused = {0};
  epoll_ctl(set, EPOLL_CTL_DEL, fd, &unused);
}

static void keep_to_thread(luio_irq *irq)
{
  int set = atomic_exchange(&irq->consumer_set, -1);
  if (set >= 0)
    forget(set, irq->config.fd);
}

static void gone(luio_irq *irq, int code, enum taker taker)
{
  luio_irq_event event = {.time_ns = luio_now(), .flags = LUIO_EVENT_GONE, .code = (uint32_t)code};
  if (!irq->error.code)
    luio_fail(&irq->error, code, "wait for an interrupt of %s: %s: the device is gone", irq->who,
              luio_errno_name(code));
  irq->gone = true;
  keep_to_thread(irq); /* it stays readable, and would end every wait at once */
  push(irq, &event, taker);
}

/* Readable for ever, with nothing to read. Asked of the descriptor itself, now: what a wait
 * reported may have been dealt with by the other taker. */
static bool failed(const luio_irq *irq)
{
  struct pollfd source = {.fd = irq->config.fd, .events = POLLIN};
  return poll(&source, 1, 0) > 0 && source.revents & (POLLERR | POLLHUP | POLLNVAL);
}

/* Takes what is there, without going back to sleep for each; bounded, so that a stop is seen in a
 * storm. 0: all taken; 1: there may be more; -errno: gone, just now. A blocking descriptor is read
 * once only, for there might be no second count: 0. */
static int drain(luio_irq *irq, enum taker taker)
{
  int rc = 1, n = 0;
  for (; rc > 0 && n < DRAIN && (irq->nonblocking || n == 0); n++) {
    luio_irq_event event = {.time_ns = luio_now()};
    rc = take(irq, &event.count);
    if (rc > 0) {
      atomic_fetch_add_explicit(&irq->interrupts, event.count, memory_order_relaxed);
      if (irq->config
              .device) /* relaxed: who looks at it has `taking`, who sets it enters the kernel next */
        atomic_store_explicit(&irq->config.device->intx_open, false, memory_order_relaxed);
      if (taker == CONSUMER)
        atomic_fetch_add_explicit(&irq->direct, event.count, memory_order_relaxed);
      top_half(irq, &event);
      push(irq, &event, taker);
    }
  }
  if (rc == 0 && n == 1 && failed(irq))
    rc = -ENODEV;
  if (rc < 0)
    gone(irq, -rc, taker);
  return rc > 0 && !irq->nonblocking ? 0 : rc;
}

/* ---- The thread -------------------------------------------------------------------------------- */

/* Milliseconds to the end of a pause, not less; -1: there is none. */
static int until_due(const luio_irq *irq)
{
  uint64_t due = irq->due_ns, now = luio_now();
  return !due ? -1 : due <= now ? 0 : (int)((due - now + 999999) / 1000000);
}

/* Until the source is readable, somebody calls, or a pause is over. Else no timeout: an idle thread costs nothing, and
 * call_fd ends the wait. 1: look at the source; 0: don't. */
static int sleep_until(luio_irq *irq)
{
  struct pollfd fds[2] = {{.fd = irq->call_fd, .events = POLLIN},
                          {.fd = irq->config.fd, .events = POLLIN}};
  struct epoll_event e[2];
  int set = atomic_load(&irq->set);
  int n = set < 0 ? poll(fds, 2, until_due(irq)) : epoll_wait(set, e, 2, until_due(irq));
  if (n < 0)
    return errno == EINTR ? 0 : -errno;
  bool called = set < 0 && fds[0].revents;
  for (int i = 0; set >= 0 && i < n; i++)
    called = called || e[i].data.fd == irq->call_fd;
  uint64_t calls;
  if (called && read(irq->call_fd, &calls, sizeof calls) < 0)
    return -errno;
  return irq->nonblocking || fds[1].revents;
}

/* Before it sleeps on a shared source, the thread must have found it empty: its set knows only of
 * what fired while the consumer was busy. */
static void serve(luio_irq *irq)
{
  int rc = 0;
  while (rc >= 0) {
    if (rc == 0)
      rc = sleep_until(irq);
    if (atomic_load(&irq->stopping))
      return;
    pthread_mutex_lock(&irq->taking);
    if (rc < 0 && !irq->gone)
      gone(irq, -rc, THREAD);
    if (!irq->gone && until_due(irq) == 0)
      let_through(irq);
    if (irq->gone)
      rc = -ENODEV;
    else if (rc > 0)
      rc = drain(irq, THREAD);
    pthread_mutex_unlock(&irq->taking);
  }
}

static void *thread_main(void *arg)
{
  luio_irq *irq = arg;
  luio_port_inherit(&irq->ports);
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
  if (c->capacity & (c->capacity - 1) || c->capacity > LUIO_IRQ_MAX_CAPACITY || c->capacity == 1)
    return luio_fail(err, EINVAL, "interrupt of %s: capacity %u is not a power of two from 2 to %d",
                     who, c->capacity, LUIO_IRQ_MAX_CAPACITY);
  if (c->priority < 0 || c->priority > 99)
    return luio_fail(err, EINVAL, "interrupt of %s: priority %d is not 0..99", who, c->priority);
  if (c->cpu >= CPU_SETSIZE)
    return luio_fail(err, EINVAL, "interrupt of %s: there is no CPU %d", who, c->cpu);
  return luio_top_half_check(c, who, err);
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
  /* Signals are for the program's own threads; but a top half's access to a device that is gone may
   * raise SIGBUS right here, and blocked it would kill (sigbus.c). */
  sigset_t all, old;
  sigfillset(&all);
  sigdelset(&all, SIGBUS);
  pthread_sigmask(SIG_SETMASK, &all, &old);
  irq->ports = luio_port_mine();
  int rc = pthread_create(&irq->thread, &attr, thread_main, irq);
  pthread_sigmask(SIG_SETMASK, &old, NULL);
  pthread_attr_destroy(&attr);
  if (rc)
    return luio_fail(err, rc, "start the interrupt thread of %s (priority %d, CPU %d): %s: %s",
                     irq->who, irq->config.priority, irq->config.cpu, luio_errno_name(rc),
                     rc == EPERM    ? "real-time priority needs CAP_SYS_NICE or RLIMIT_RTPRIO"
                     : rc == EINVAL ? "is there such a CPU?"
                                    : "too many threads? (ulimit -u)");
  pthread_setname_np(irq->thread, "luio-irq");
  return 0;
}

static void destroy(luio_irq *irq)
{
  if (irq->wake_fd >= 0)
    close(irq->wake_fd);
  if (irq->call_fd >= 0)
    close(irq->call_fd);
  if (irq->storm_fd >= 0)
    close(irq->storm_fd);
  if (irq->own_set >= 0)
    close(irq->own_set);
  pthread_cond_destroy(&irq->exited_cond);
  pthread_mutex_destroy(&irq->lock);
  pthread_mutex_destroy(&irq->taking);
  free(irq->ring);
  free(irq);
}

int luio_irq_open(const luio_irq_config *config, luio_irq **out, luio_error *err)
{
  const char *who = config->device ? config->device->info.address : "a descriptor";
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
  irq->call_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  irq->storm_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  irq->own_set = -1;
  irq->set = -1;
  irq->consumer_set = -1;
  pthread_condattr_t monotonic;
  pthread_condattr_init(&monotonic);
  pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
  pthread_cond_init(&irq->exited_cond, &monotonic);
  pthread_condattr_destroy(&monotonic);
  pthread_mutex_init(&irq->lock, NULL);
  pthread_mutex_init(&irq->taking, NULL);
  irq->ring = calloc(irq->capacity, sizeof *irq->ring);
  if (irq->wake_fd < 0 || irq->call_fd < 0 || irq->storm_fd < 0) {
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
  irq->masked = !unmasks(config);
  if (!irq->masked && (rc = luio_unmask(config->device, err)) < 0)
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

/* The steps alone: other threads read the rest without a lock. */
static void set_steps(luio_irq *irq, const luio_irq_config *config)
{
  irq->config.n_ops = config->n_ops;
  memcpy(irq->config.ops, config->ops, sizeof irq->config.ops);
}

int luio_irq_set_top_half(luio_irq *irq, const luio_irq_config *config, uint32_t *epoch,
                          luio_error *err)
{
  luio_irq_config wanted = irq->config; /* what is not a step never changes */
  wanted.n_ops = config->n_ops;
  memcpy(wanted.ops, config->ops, sizeof wanted.ops);
  int rc = luio_top_half_check(&wanted, irq->who, err);
  if (rc < 0)
    return rc;
  luio_irq_config before = irq->config;
  pthread_mutex_lock(&irq->taking);
  set_steps(irq, &wanted);
  irq->epoch++;
  uint64_t due = irq->due_ns;
  irq->due_ns = 0; /* the new one may do better, and need not wait */
  luio_storm_end(&irq->storm);
  tell_storm(irq);
  /* What waits to be taken will be unmasked then; doing it now would let the line that is still
   * asserted fire a second time. */
  struct pollfd source = {.fd = irq->config.fd, .events = POLLIN};
  /* A pause is the old one's, which promised to let the next through. */
  if (irq->masked && (due || unmasks(&wanted)) && poll(&source, 1, 0) == 0) {
    rc = luio_unmask(wanted.device, err);
    irq->masked = rc < 0;
  }
  if (rc < 0) { /* all of it or nothing */
    set_steps(irq, &before);
    irq->epoch--;
    irq->due_ns = due;
  }
  *epoch = irq->epoch;
  pthread_mutex_unlock(&irq->taking);
  return rc;
}

/* ---- A mask that is nobody's ------------------------------------------------------------------- */

/* The kernel sets INTX_DISABLE at each interrupt, counts it, and the taker clears it. So it is set
 * rightly from there on until the taker's UNMASK, or until the driver's own; `intx_open` says that we
 * unmasked last. With `taking` held no taker is in between, and no count waits: then either somebody else has set it,
 * or the kernel's handler is between mask and count. That takes it microseconds, so who it was
 * is decided at a second look that finds nothing changed. Should a handler have been held up for so
 * long, unmasking does no harm: the line is still asserted and fires once more, one event too many. */
#define SUSPECT_NS 20000000

static int check_mask(luio_irq *irq, unsigned *wrong, luio_error *err)
{
  luio_device *d = irq->config.device;
  struct pollfd source = {.fd = irq->config.fd, .events = POLLIN};
  uint32_t command = 0;
  int rc = 0;
  if (pthread_mutex_trylock(&irq->taking)) /* somebody takes one: so they do come */
    return 0;
  bool open = !irq->gone && d->intx_open && poll(&source, 1, 0) == 0;
  if (open)
    rc = luio_config_read(d, PCI_COMMAND, 16, &command, err);
  uint64_t taken = atomic_load_explicit(&irq->interrupts, memory_order_relaxed), now = luio_now();
  if (rc < 0 || !(command & PCI_COMMAND_INTX_DISABLE)) {
    irq->suspected_ns = 0;
  } else if (!irq->suspected_ns || irq->suspected_at != taken) {
    irq->suspected_ns = now;
    irq->suspected_at = taken;
    *wrong |= LUIO_WRONG_AGAIN;
  } else if (now - irq->suspected_ns < SUSPECT_NS) {
    *wrong |= LUIO_WRONG_AGAIN;
  } else {
    irq->suspected_ns = 0;
    *wrong |= LUIO_WRONG_INTX;
    rc = luio_unmask(d, err);
  }
  pthread_mutex_unlock(&irq->taking);
  return rc;
}

int luio_irq_check_mask(luio_device *d, unsigned *wrong, luio_error *err)
{
  int rc = 0;
  pthread_mutex_lock(&d->irq_lock);
  for (luio_irq *irq = d->irqs; irq && rc == 0; irq = irq->next)
    rc = check_mask(irq, wrong, err);
  pthread_mutex_unlock(&d->irq_lock);
  return rc;
}

uint64_t luio_irq_waiting(const luio_irq *irq)
{
  uint64_t tail = atomic_load_explicit(&irq->tail, memory_order_acquire); /* first: head is ahead */
  return atomic_load_explicit(&irq->head, memory_order_acquire) - tail;
}

/* ---- The consumer's side ----------------------------------------------------------------------- */

int luio_irq_fd(const luio_irq *irq)
{
  return irq->wake_fd;
}

static int add(int set, int fd, uint32_t events)
{
  struct epoll_event e = {.events = events, .data.fd = fd};
  return epoll_ctl(set, EPOLL_CTL_ADD, fd, &e) < 0 ? -errno : 0;
}

/* The thread's own set is made when it is first needed. Later the source leaves it and comes back,
 * to stand behind the consumer's; if it fires meanwhile, epoll_ctl finds it readable. */
static int queue_behind(luio_irq *irq)
{
  if (irq->own_set >= 0) {
    forget(irq->own_set, irq->config.fd);
  } else {
    int set = epoll_create1(EPOLL_CLOEXEC), rc = set < 0 ? -errno : 0;
    if (set >= 0 && (rc = add(set, irq->call_fd, EPOLLIN)) < 0)
      close(set);
    if (rc < 0)
      return rc;
    irq->own_set = set;
  }
  int rc = add(irq->own_set, irq->config.fd, EPOLLIN | EPOLLEXCLUSIVE);
  irq->set = rc < 0 ? -1 : irq->own_set;
  return rc;
}

int luio_irq_share(luio_irq *irq, int epoll_fd)
{
  const luio_irq_config *c = &irq->config;
  if (!irq->nonblocking || c->priority > 0 || c->cpu >= 0)
    return -ENOTSUP;
  struct epoll_event e = {.events = EPOLLIN | EPOLLEXCLUSIVE, .data.fd = irq->wake_fd};
  keep_to_thread(irq);
  if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, c->fd, &e) < 0)
    return -errno;
  atomic_store(&irq->consumer_set, epoll_fd);
  int rc = queue_behind(irq);
  if (rc < 0 || atomic_load(&irq->gone)) /* gone before the store: nobody else takes it out */
    keep_to_thread(irq);
  signal_fd(irq->call_fd);
  return rc;
}

void luio_irq_unshare(luio_irq *irq)
{
  keep_to_thread(irq);
  signal_fd(irq->call_fd);
}

/* 0: the ring is empty; 1: that was the last; 2: there are others. */
static int next(luio_irq *irq, luio_irq_event *out)
{
  uint64_t tail = atomic_load_explicit(&irq->tail, memory_order_relaxed);
  uint64_t head = atomic_load_explicit(&irq->head, memory_order_acquire);
  if (head == tail) {
    uint64_t count;
    if (!atomic_load_explicit(&irq->signalled, memory_order_acquire) ||
        read(irq->wake_fd, &count, sizeof count) < 0)
      return 0;
    atomic_exchange_explicit(&irq->signalled, 0, memory_order_acq_rel);
    head = atomic_load_explicit(&irq->head, memory_order_acquire);
    if (head == tail)
      return 0;
    /* One came in between; its wake-up may have been drained with the others, so make sure the
     * descriptor is readable for those behind it. */
    wake(irq);
  }
  *out = irq->ring[tail & (irq->capacity - 1)];
  out->news = atomic_load_explicit(&irq->news, memory_order_acquire);
  atomic_store_explicit(&irq->tail, tail + 1, memory_order_release);
  return head - tail > 1 ? 2 : 1;
}

int luio_irq_next(luio_irq *irq, luio_irq_event *out)
{
  return next(irq, out) != 0;
}

int luio_irq_take(luio_irq *irq, luio_irq_event *out)
{
  pthread_mutex_lock(&irq->taking);
  int rc = atomic_load(&irq->consumer_set) >= 0 ? drain(irq, CONSUMER) : 0;
  pthread_mutex_unlock(&irq->taking);
  /* More than one take takes; or the source is gone, and the thread can end; or it has a pause to wait for. */
  if (rc != 0 || irq->due_ns)
    signal_fd(irq->call_fd);
  return next(irq, out);
}

void luio_irq_publish(luio_irq *irq)
{
  if (atomic_load_explicit(&irq->head, memory_order_acquire) !=
      atomic_load_explicit(&irq->tail, memory_order_relaxed))
    wake(irq);
}

void luio_irq_get_stats(const luio_irq *irq, luio_irq_stats *out)
{
  out->interrupts = atomic_load_explicit(&irq->interrupts, memory_order_relaxed);
  out->delivered = atomic_load_explicit(&irq->delivered, memory_order_relaxed);
  out->overflow = atomic_load_explicit(&irq->overflow, memory_order_relaxed);
  out->events = atomic_load_explicit(&irq->events, memory_order_relaxed);
  out->direct = atomic_load_explicit(&irq->direct, memory_order_relaxed);
}

void luio_irq_get_storm(luio_irq *irq, luio_irq_storm *out)
{
  uint64_t calls;
  ssize_t n;
  do
    n = read(irq->storm_fd, &calls, sizeof calls);
  while (n < 0 && errno == EINTR);                                        /* EAGAIN: nothing new */
  uint32_t news = atomic_load_explicit(&irq->news, memory_order_acquire); /* first: it grows last */
  pthread_mutex_lock(&irq->lock);
  *out = irq->told;
  pthread_mutex_unlock(&irq->lock);
  out->news = news;
}

int luio_irq_storm_fd(const luio_irq *irq)
{
  return irq->storm_fd;
}

const char *luio_irq_error(const luio_irq *irq)
{
  return irq->error.message;
}

int luio_irq_close(luio_irq *irq, uint64_t timeout_ns, luio_error *err)
{
  if (!irq)
    return 0;
  atomic_store(&irq->stopping, true);
  signal_fd(irq->call_fd);
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
  keep_to_thread(irq);
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
