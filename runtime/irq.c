/* irq.c - the life of an interrupt source: opening, exchanging its top half, closing, queries.
 *
 * A source has a thread (irq_thread.c) that takes its interrupts (irq_take.c). The thread records the time and the
 * count, makes the register accesses of the top half (top_half.c), and puts an event into a ring (irq_ring.c). Lua
 * takes the event from the ring. */
#include "irq.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- Opening and closing ----------------------------------------------------------------------- */

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

static void destroy(luio_irq *irq)
{
  luio_ring_close(&irq->ring);
  if (irq->call_fd >= 0)
    close(irq->call_fd);
  if (irq->storm_fd >= 0)
    close(irq->storm_fd);
  if (irq->own_set >= 0)
    close(irq->own_set);
  pthread_cond_destroy(&irq->exited_cond);
  pthread_mutex_destroy(&irq->lock);
  pthread_mutex_destroy(&irq->taking);
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
  struct stat st;
  irq->queues = fstat(config->fd, &st) == 0 && S_ISFIFO(st.st_mode);
  irq->last_count = config->baseline;
  luio_format(irq->who, sizeof irq->who, "%s", who);
  irq->ring.wake_fd = irq->call_fd = irq->storm_fd = -1;
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
  uint64_t capacity = config->capacity ? config->capacity : 1024;
  rc = luio_ring_open(&irq->ring, capacity);
  if (rc == -ENOMEM) {
    rc = luio_fail(err, ENOMEM, "interrupt of %s: no memory for %llu events", who,
                   (unsigned long long)capacity);
    goto fail;
  }
  irq->call_fd = rc < 0 ? -1 : eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  irq->storm_fd = irq->call_fd < 0 ? -1 : eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  if (irq->storm_fd < 0) {
    rc = luio_fail(err, errno, "interrupt of %s: eventfd: %s: raise `ulimit -n`", who,
                   luio_errno_name(errno));
    goto fail;
  }
  /* The previous owner may have left the interrupt masked; without this, none would arrive. */
  irq->masked = !luio_irq_unmasks(config);
  irq->holds = config->messages && irq->masked;
  if (!irq->masked && (rc = luio_unmask(config->device, config->vector, err)) < 0)
    goto fail;
  rc = luio_irq_start_thread(irq, err);
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

int luio_irq_close(luio_irq *irq, uint64_t timeout_ns, luio_error *err)
{
  if (!irq)
    return 0;
  int rc = luio_irq_stop_thread(irq, timeout_ns, err);
  if (rc < 0)
    return rc;
  luio_irq_keep_to_thread(irq);
  if (irq->config.messages) { /* until it is opened again, for which what is held waits */
    luio_error ignored;
    pthread_mutex_lock(&irq->taking);
    luio_irq_hold(irq, &ignored);
    luio_irq_put_back(irq);
    pthread_mutex_unlock(&irq->taking);
  }
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

/* ---- Exchanging the top half ------------------------------------------------------------------- */

/* The steps alone: other threads read the rest without a lock. */
static void set_steps(luio_irq *irq, const luio_irq_config *config)
{
  irq->config.n_ops = config->n_ops;
  memcpy(irq->config.ops, config->ops, sizeof irq->config.ops);
}

int luio_irq_set_top_half(luio_irq *irq, const luio_irq_config *config, uint32_t *epoch,
                          luio_error *err)
{
  luio_irq_config wanted = irq->config; /* only the steps change */
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
  luio_irq_tell_storm(irq);
  /* A pending interrupt is unmasked when it is taken. Unmasking now would let the asserted line
   * fire a second time. */
  struct pollfd source = {.fd = irq->config.fd, .events = POLLIN};
  /* A pause is the old one's, which promised to let the next through. */
  if (irq->holds && luio_irq_unmasks(&wanted))
    rc = luio_irq_release(irq, err);
  else if (!irq->config.messages && irq->masked && (due || luio_irq_unmasks(&wanted)) &&
           poll(&source, 1, 0) == 0) {
    rc = luio_unmask(wanted.device, 0, err);
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

/* ---- Queries --------------------------------------------------------------------------- */

int luio_irq_fd(const luio_irq *irq)
{
  return irq->ring.wake_fd;
}

uint64_t luio_irq_waiting(const luio_irq *irq)
{
  return luio_ring_waiting(&irq->ring);
}

void luio_irq_publish(luio_irq *irq)
{
  luio_ring_publish(&irq->ring);
}

void luio_irq_get_stats(const luio_irq *irq, luio_irq_stats *out)
{
  out->interrupts = atomic_load_explicit(&irq->interrupts, memory_order_relaxed);
  out->delivered = atomic_load_explicit(&irq->ring.delivered, memory_order_relaxed);
  out->overflow = atomic_load_explicit(&irq->ring.overflow, memory_order_relaxed);
  out->events = atomic_load_explicit(&irq->ring.events, memory_order_relaxed);
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
