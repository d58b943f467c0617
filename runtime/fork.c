/* fork.c - a child that a driver forks has no access to its device.
 *
 * A child by fork() would have copies of all descriptors: with config space and /dev/uioX it could drive
 * the device after its parent has died, keep its lock, keep uio_pci_generic from clearing bus master, keep
 * its DMA memory, and talk to the guardian as if it were the worker. Mappings of registers and of DMA
 * memory are not inherited (MADV_DONTFORK). For the rest each device, and the guardian's client, registers
 * in a list here and is called in the child before fork() returns. In the child the device is gone, as
 * after a removal; descriptors keep their numbers and lead to /dev/null.
 *
 * Only fork() needs this. posix_spawn, vfork and clone start a program, and exec closes the
 * descriptors. After a fork in a process with threads only system calls are allowed, so no lock is
 * taken here except the list's, which fork() itself waits for. */
#include "kernel.h"

#include <pthread.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of the list */
static struct luio_fork_watch *watches;

static void before_fork(void)
{
  pthread_mutex_lock(&lock);
}

static void in_parent(void)
{
  pthread_mutex_unlock(&lock);
}

static void in_child(void)
{
  for (struct luio_fork_watch *w = watches; w; w = w->next)
    w->forked(w->of);
  pthread_mutex_unlock(&lock);
}

static void watch_forks(void)
{
  pthread_atfork(before_fork, in_parent, in_child);
}

void luio_fork_add(struct luio_fork_watch *w)
{
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, watch_forks);
  pthread_mutex_lock(&lock);
  w->next = watches;
  watches = w;
  pthread_mutex_unlock(&lock);
}

void luio_fork_remove(struct luio_fork_watch *w)
{
  pthread_mutex_lock(&lock);
  struct luio_fork_watch **p = &watches;
  while (*p && *p != w)
    p = &(*p)->next;
  if (*p)
    *p = w->next;
  pthread_mutex_unlock(&lock);
}
