/* irq_thread.c - the thread of an interrupt source: it sleeps until the source or its call descriptor is readable, and
 * takes the pending interrupts (irq_take.c). */
#include "irq.h"

#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

/* Milliseconds to the end of a pause, not less; -1: there is none. */
static int until_due(const luio_irq *irq)
{
  uint64_t due = irq->due_ns, now = luio_now();
  return !due ? -1 : due <= now ? 0 : (int)((due - now + 999999) / 1000000);
}

/* Sleeps until the source or call_fd is readable, or a pause is over. Outside of a pause there is no timeout, so an
 * idle thread costs nothing. 1: look at the source; 0: don't. */
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

/* Before it sleeps on a shared source, the thread must have found it empty, because its set reports
 * only interrupts that fired while the consumer was busy. */
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
      luio_irq_gone(irq, -rc, LUIO_THREAD);
    if (!irq->gone && until_due(irq) == 0)
      luio_irq_let_through(irq);
    if (irq->gone)
      rc = -ENODEV;
    else if (rc > 0)
      rc = luio_irq_drain(irq, LUIO_THREAD);
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

int luio_irq_start_thread(luio_irq *irq, luio_error *err)
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

int luio_irq_stop_thread(luio_irq *irq, uint64_t timeout_ns, luio_error *err)
{
  atomic_store(&irq->stopping, true);
  luio_signal(irq->call_fd);
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
  return 0;
}
