/* fork.c - what a driver forks has no part in its device.
 *
 * A child by fork() would have copies of all descriptors: with config space and /dev/uioX it could
 * drive the device after its parent has died, keep its lock, keep uio_pci_generic from clearing bus
 * master, keep its DMA memory, and talk to the guardian as if it were the worker. Mappings of registers
 * and of DMA memory are not inherited (MADV_DONTFORK); the rest is done here, in the child, before
 * fork() returns: there the device is gone, as if it had been pulled out. Descriptors keep their
 * numbers, and lead to /dev/null.
 *
 * That is for fork() itself. What starts a program (posix_spawn, vfork, clone) closes them by exec.
 * After a fork of a process with threads only system calls are allowed, so no lock is taken here
 * but the list's, which fork() itself waits for. */
#include "backend.h"

#include <pthread.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of the list */
static luio_device *devices;

static void leave(luio_device *d)
{
  d->gone = true;
  for (int i = 0; i < LUIO_MAX_REGIONS; i++) {
    luio_region *r = d->regions[i];
    if (!r)
      continue;
    r->gone = true;
    r->ops->forked(r);
  }
  if (d->backend)
    d->backend->forked(d);
  for (int i = 0; i < GUARD_SLOTS; i++)
    luio_devnull_replace(d->kept[i]);
  if (d->dma)
    luio_dma_forked(d->dma);
  d->state = NULL;
  d->state_last = NULL;
  d->irqs = NULL; /* their threads are not here */
  d->bus_master_on = d->guarded = false;
}

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
  for (luio_device *d = devices; d; d = d->next_open)
    leave(d);
  luio_guard_forked();
  pthread_mutex_unlock(&lock);
}

static void watch_forks(void)
{
  pthread_atfork(before_fork, in_parent, in_child);
}

int luio_fork_add(luio_device *d, const char *what, luio_error *err)
{
  static pthread_once_t once = PTHREAD_ONCE_INIT;
  pthread_once(&once, watch_forks);
  int rc = luio_devnull_hold(what, err);
  if (rc < 0)
    return rc;
  pthread_mutex_lock(&lock);
  d->next_open = devices;
  devices = d;
  pthread_mutex_unlock(&lock);
  return 0;
}

void luio_fork_remove(luio_device *d)
{
  pthread_mutex_lock(&lock);
  luio_device **p = &devices;
  while (*p && *p != d)
    p = &(*p)->next_open;
  bool found = *p;
  if (found)
    *p = d->next_open;
  pthread_mutex_unlock(&lock);
  if (found)
    luio_devnull_release();
}
