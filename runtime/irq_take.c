/* irq_take.c - the way of an interrupt: from its source into the ring.
 *
 * take_one is the whole way: it reads the count from the source, makes the top half's register accesses, unmasks the
 * source, and puts the event into the ring. It runs no Lua and allocates nothing, so interrupts are taken and counted
 * while Lua is busy, reloading or absent.
 *
 * The taker is the thread (irq_thread.c) or the consumer (irq_share.c). It holds `taking` from reading the count to
 * putting the event into the ring. */
#include "irq.h"

#include <errno.h>
#include <poll.h>
#include <unistd.h>

#define DRAIN 32 /* events taken before looking at call_fd again */

/* ---- Storms ------------------------------------------------------------------------------------ */

void luio_irq_tell_storm(luio_irq *irq)
{
  pthread_mutex_lock(&irq->lock);
  irq->told = irq->storm.record;
  pthread_mutex_unlock(&irq->lock);
}

static void storm_news(luio_irq *irq)
{
  luio_irq_tell_storm(irq);
  atomic_fetch_add_explicit(&irq->news, 1, memory_order_release);
  luio_signal(irq->storm_fd);
}

/* ---- One interrupt ----------------------------------------------------------------------------- */

/* 1: *count is set; 0: nothing there after all; -errno: the source is dead. */
static int read_source(luio_irq *irq, uint64_t *count)
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

static void set_failed(luio_irq *irq, luio_irq_event *event, int rc, const luio_error *err)
{
  event->flags |= LUIO_EVENT_FAILED;
  event->code = (uint32_t)-rc;
  if (!irq->error.code)
    irq->error = *err;
}

bool luio_irq_unmasks(const luio_irq_config *config)
{
  return config->n_ops && config->ops[config->n_ops - 1].op == LUIO_OP_UNMASK;
}

static void count(luio_irq *irq, const luio_irq_event *event, enum luio_taker taker)
{
  luio_device *d = irq->config.device;
  atomic_fetch_add_explicit(&irq->interrupts, event->count, memory_order_relaxed);
  if (taker == LUIO_CONSUMER)
    atomic_fetch_add_explicit(&irq->direct, event->count, memory_order_relaxed);
  if (d) /* relaxed: readers hold `taking`, and the writer enters the kernel next */
    atomic_store_explicit(&d->intx_open, false, memory_order_relaxed);
}

/* Messages that come while their vector is masked are added up, and put back into the source when it is unmasked. The device's
 * own mask, where it has one, keeps it from sending at all; but one may be on its way already. */
int luio_irq_hold(luio_irq *irq, luio_error *err)
{
  luio_device *d = irq->config.device;
  irq->holds = true;
  return d->backend->messages->mask(d, irq->config.vector, true, err);
}

void luio_irq_put_back(luio_irq *irq)
{
  if (irq->held && write(irq->config.fd, &irq->held, sizeof irq->held) == sizeof irq->held)
    irq->held = 0;
}

int luio_irq_release(luio_irq *irq, luio_error *err)
{
  luio_device *d = irq->config.device;
  int rc = d->backend->messages->mask(d, irq->config.vector, false, err);
  if (rc < 0)
    return rc;
  irq->holds = irq->masked = false;
  luio_irq_put_back(irq);
  return 0;
}

/* Lets the next through. A message needs nothing for that, unless its vector was masked. */
static int unmask(luio_irq *irq, enum luio_line *line, luio_error *err)
{
  luio_device *d = irq->config.device;
  return irq->config.messages ? 0 : d->backend->unmask(d, line, err);
}

/* 1: taken; 0: there was none after all; -errno: the source is dead. A top half that stopped leaves its reason, the first of
 * them for luio_irq_error, and the source masked: better that than acknowledged blindly. In a storm it stays masked, too, and
 * the thread unmasks when it is time. */
static int take_one(luio_irq *irq, enum luio_taker taker)
{
  const luio_irq_config *c = &irq->config;
  luio_irq_event event = {.time_ns = luio_now(), .epoch = irq->epoch};
  luio_error err;
  enum luio_line line = LUIO_LINE_UNSEEN;
  uint64_t pause = luio_storm_rages(&irq->storm) ? irq->storm.record.pause_ns : 0;
  bool unmasks = luio_irq_unmasks(c);

  int rc = read_source(irq, &event.count);
  if (rc <= 0)
    return rc;
  if (irq->holds) {
    irq->held += event.count;
    return 1;
  }
  count(irq, &event, taker);

  rc = luio_top_half_run(c, &event, &err);
  if (rc == 0 && unmasks && !pause)
    rc = unmask(irq, &line, &err);
  irq->masked = rc < 0 || !unmasks || pause;

  if (rc < 0)
    set_failed(irq, &event, rc, &err);
  else if (unmasks && pause)
    irq->due_ns = luio_now() + pause;
  if (c->messages && irq->masked) {
    int held = luio_irq_hold(irq, &err);
    if (held < 0 && rc == 0)
      set_failed(irq, &event, held, &err);
  }
  if (rc == 0 && unmasks && !c->messages &&
      luio_storm_judge(&irq->storm, c, &event, pause ? LUIO_LINE_HELD : line))
    storm_news(irq);

  luio_ring_put(&irq->ring, &event, taker == LUIO_THREAD);
  return 1;
}

/* ---- All of them ------------------------------------------------------------------------------- */

void luio_irq_gone(luio_irq *irq, int code, enum luio_taker taker)
{
  luio_irq_event event = {.time_ns = luio_now(), .flags = LUIO_EVENT_GONE, .code = (uint32_t)code};
  if (!irq->error.code)
    luio_fail(&irq->error, code, "wait for an interrupt of %s: %s: the device is gone", irq->who,
              luio_errno_name(code));
  irq->gone = true;
  luio_irq_keep_to_thread(irq); /* it stays readable, and would end every wait at once */
  luio_ring_put(&irq->ring, &event, taker == LUIO_THREAD);
}

/* Readable for ever, with nothing to read. The descriptor itself is polled again, because the other
 * taker may have handled the interrupt that a wait reported. */
static bool failed(const luio_irq *irq)
{
  struct pollfd source = {.fd = irq->config.fd, .events = POLLIN};
  return poll(&source, 1, 0) > 0 && source.revents & (POLLERR | POLLHUP | POLLNVAL);
}

/* Takes several without sleeping in between; bounded, so that a stop is seen in a storm. A blocking descriptor is read
 * once only, because there may be no second count: 0. The consumer also reads a source with one count once, because the
 * next interrupt wakes it again. */
int luio_irq_drain(luio_irq *irq, enum luio_taker taker)
{
  bool once = !irq->nonblocking || (taker == LUIO_CONSUMER && !irq->queues);
  int rc = 1, n = 0, most = once ? 1 : DRAIN;
  for (; rc > 0 && n < most; n++)
    rc = take_one(irq, taker);
  if (rc == 0 && n == 1 && failed(irq))
    rc = -ENODEV;
  if (rc < 0)
    luio_irq_gone(irq, -rc, taker);
  return rc > 0 && once ? 0 : rc;
}

void luio_irq_let_through(luio_irq *irq)
{
  luio_irq_event event = {.time_ns = luio_now(), .epoch = irq->epoch};
  luio_error err;
  enum luio_line line;
  irq->due_ns = 0;
  int rc = irq->config.device->backend->unmask(irq->config.device, &line, &err);
  irq->masked = rc < 0;
  if (rc < 0) {
    set_failed(irq, &event, rc, &err);
    luio_ring_put(&irq->ring, &event, true);
  } else if (line != LUIO_LINE_HELD && luio_storm_end(&irq->storm)) {
    storm_news(irq);
  }
}

/* ---- The consumer's side ----------------------------------------------------------------------- */

static int next(luio_irq *irq, luio_irq_event *out)
{
  int rc = luio_ring_next(&irq->ring, out);
  if (rc)
    out->news = atomic_load_explicit(&irq->news, memory_order_acquire);
  return rc;
}

int luio_irq_next(luio_irq *irq, luio_irq_event *out)
{
  return next(irq, out) != 0;
}

int luio_irq_take(luio_irq *irq, luio_irq_event *out)
{
  pthread_mutex_lock(&irq->taking);
  int rc = atomic_load(&irq->consumer_set) >= 0 ? luio_irq_drain(irq, LUIO_CONSUMER) : 0;
  pthread_mutex_unlock(&irq->taking);
  /* More than one take takes; or the source is gone, and the thread can end; or it has a pause to wait for. */
  if (rc != 0 || irq->due_ns)
    luio_signal(irq->call_fd);
  return next(irq, out);
}
