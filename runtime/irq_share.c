/* irq_share.c - puts a source into the epoll set that the consumer sleeps in, so that the thread need not wake.
 *
 * Waking a thread that wakes another takes twice as long as waking one. So luio_irq_share puts the
 * source into the epoll set that the consumer sleeps in, and after that into one of the thread's,
 * both times with EPOLLEXCLUSIVE. When the source fires, the kernel goes through these sets in this
 * order, up to the first with a sleeper. If the consumer sleeps, the thread sleeps on, and the
 * consumer's luio_irq_take does the thread's work. It does not write the wake descriptor, because
 * the consumer is awake already. If the consumer is busy, the thread wakes.
 *   The woken thread takes the interrupt: the kernel reports the source from that wait, or, if the
 *   wait ends for another reason, from the next (level-triggered). The thread is called to check the
 *   source if a take leaves something behind, and when sharing begins or ends, because the kernel
 *   may have woken only the consumer. If both wake (the source fired again before the first had
 *   read), the second finds nothing. */
#include "irq.h"

#include <errno.h>
#include <sys/epoll.h>
#include <unistd.h>

static void forget(int set, int fd)
{
  struct epoll_event unused = {0};
  epoll_ctl(set, EPOLL_CTL_DEL, fd, &unused);
}

void luio_irq_keep_to_thread(luio_irq *irq)
{
  int set = atomic_exchange(&irq->consumer_set, -1);
  if (set >= 0)
    forget(set, irq->config.fd);
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
  struct epoll_event e = {.events = EPOLLIN | EPOLLEXCLUSIVE, .data.fd = irq->ring.wake_fd};
  luio_irq_keep_to_thread(irq);
  if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, c->fd, &e) < 0)
    return -errno;
  atomic_store(&irq->consumer_set, epoll_fd);
  int rc = queue_behind(irq);
  if (rc < 0 || atomic_load(&irq->gone)) /* gone before the store: no other code removes it */
    luio_irq_keep_to_thread(irq);
  luio_signal(irq->call_fd);
  return rc;
}

void luio_irq_unshare(luio_irq *irq)
{
  luio_irq_keep_to_thread(irq);
  luio_signal(irq->call_fd);
}
