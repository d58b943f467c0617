/* irq.h - the structures of an interrupt source; shared by irq.c (its life), irq_take.c (the way of an interrupt),
 * irq_ring.c (the ring of events), irq_thread.c (the thread), irq_share.c (the consumer as the taker) and
 * irq_mask.c (a mask by another process). */
#ifndef LUIO_IRQ_H
#define LUIO_IRQ_H

#include "parts.h"

/* The ring of events: irq_ring.c. */
struct luio_ring {
  luio_irq_event *slots;
  uint64_t capacity;         /* a power of two */
  int wake_fd;               /* readable while events may wait */
  uint64_t overflow_pending; /* the producer's: since the last event that got in */
  /* On cache lines of their own: each is written by one side and polled by the other. */
  _Alignas(64) _Atomic uint64_t head;
  _Alignas(64) _Atomic uint64_t tail;
  _Alignas(64) _Atomic int signalled;
  /* Written by the producer, read by anyone. */
  _Alignas(64) _Atomic uint64_t delivered;
  _Atomic uint64_t overflow, events;
};

struct luio_irq {
  luio_irq_config config;
  char who[64];
  int call_fd;            /* the thread is to stop, or to look at the source */
  int storm_fd;           /* there is news of a storm */
  bool nonblocking;       /* the source */
  bool queues;            /* it holds several counts: a pipe */
  int own_set;            /* the thread's epoll set: source and call_fd; -1: not shared yet */
  _Atomic int set;        /* the same, if it is in use; -1: the thread polls both */
  luio_port_rights ports; /* the thread's, from its start on */
  pthread_t thread;
  _Atomic bool stopping;

  pthread_mutex_t taking; /* held from taking a count until its event is in the ring; guards: */
  uint32_t last_count;    /* of a UIO source */
  uint32_t epoch;         /* and the steps in config */
  bool masked;            /* the last top half did not come to an UNMASK */
  bool holds;             /* messages: what comes waits in `held`, until luio_unmask */
  uint64_t held;
  uint64_t suspected_ns; /* first seen with a foreign mask; 0: it is not */
  uint64_t suspected_at; /* after so many interrupts */
  luio_error error;      /* published by the event that has flags */
  struct luio_storm storm;

  _Atomic uint64_t due_ns; /* when the thread unmasks; 0: it does not. Set with `taking` */
  _Atomic bool gone;
  _Atomic int consumer_set; /* that the source is in; -1: not shared now */

  struct luio_ring ring;

  /* Written by the holder of `taking`, read by any thread. */
  _Alignas(64) _Atomic uint64_t interrupts;
  _Atomic uint64_t direct;
  _Atomic uint32_t news;

  luio_irq_storm told;  /* of `storm`, for other threads */
  pthread_mutex_t lock; /* exited, told; within `taking` */
  pthread_cond_t exited_cond;
  bool exited;
  luio_irq *next; /* in the device's list */
};

/* Which of the two has been told that the source is readable. */
enum luio_taker { LUIO_THREAD, LUIO_CONSUMER };

/* irq_ring.c. -ENOMEM; -errno of eventfd. After a failure close closes the rest. */
int luio_ring_open(struct luio_ring *r, uint64_t capacity);
void luio_ring_close(struct luio_ring *r);
/* Puts an event in, or counts it as lost. wakes: and makes the wake descriptor readable. */
void luio_ring_put(struct luio_ring *r, luio_irq_event *event, bool wakes);
/* 0: the ring is empty; 1: that was the last; 2: there are others. */
int luio_ring_next(struct luio_ring *r, luio_irq_event *out);
/* Makes the wake descriptor readable if events wait. */
void luio_ring_publish(struct luio_ring *r);
uint64_t luio_ring_waiting(const struct luio_ring *r);
/* Adds 1 to an eventfd. */
void luio_signal(int fd);

/* irq_take.c. All but the last with `taking` held. */

/* Takes what the source has. 0: all taken; 1: there may be more; -errno: the source is gone, just now. */
int luio_irq_drain(luio_irq *irq, enum luio_taker taker);
/* The end of a storm's pause: unmasks. */
void luio_irq_let_through(luio_irq *irq);
/* Messages: from now on they wait; and no longer. */
int luio_irq_hold(luio_irq *irq, luio_error *err);
int luio_irq_release(luio_irq *irq, luio_error *err);
/* Messages that waited are in the source again. */
void luio_irq_put_back(luio_irq *irq);
/* The source is dead: puts the last event, which reports that. */
void luio_irq_gone(luio_irq *irq, int code, enum luio_taker taker);
/* The state of a storm that other threads may read. */
void luio_irq_tell_storm(luio_irq *irq);
/* Whether the top half ends with UNMASK. */
bool luio_irq_unmasks(const luio_irq_config *config);

/* irq_thread.c */
int luio_irq_start_thread(luio_irq *irq, luio_error *err);
/* -ETIMEDOUT: it still runs. */
int luio_irq_stop_thread(luio_irq *irq, uint64_t timeout_ns, luio_error *err);

/* irq_share.c. The source leaves the consumer's epoll set. */
void luio_irq_keep_to_thread(luio_irq *irq);

#endif
