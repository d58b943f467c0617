/* guardian.h - declarations that only the files of the guardian share.
 *
 *   guardian.c           the workers: starts, watches, buries and restarts them; signals
 *   guardian_requests.c  a worker's requests, and the replies
 *   guardian_devices.c   the kept files and memory of each device; stopping a device
 *   guardian_machines.c  QEMU machines
 *   guardian_children.c  the other children: the teller, which prints lines, and processes left
 *   behind by a worker
 *
 * guard.h has the parts that the guardian and a worker share. The guardian has one thread, so nothing here is
 * locked. Times are nanoseconds of CLOCK_MONOTONIC. The program exports its symbols to the libraries
 * that it loads, hence the prefix. */
#ifndef LUIO_GUARDIAN_H
#define LUIO_GUARDIAN_H

#include "guard.h"

#include <time.h>

#define GUARDIAN_MS 1000000ull
#define GUARDIAN_SECOND (1000 * GUARDIAN_MS)

static inline uint64_t guardian_now(void)
{
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * GUARDIAN_SECOND + (uint64_t)t.tv_nsec;
}

static inline double guardian_ms(uint64_t ns)
{
  return (double)ns / 1e6;
}

/* ---- guardian_children.c ----------------------------------------------------------------------- */

struct guardian_line {
  char text[1024];
  size_t length;
};

/* close_ours closes the guardian's descriptors in a child of it. Before any other of these. */
void guardian_begin_telling(void (*close_ours)(void));
/* Adds to a line. Text beyond its room is cut off. */
void guardian_say(struct guardian_line *l, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Prints a line on standard error, by a child. Waits half a second at most. */
void guardian_tell(struct guardian_line *l);
/* The same wait for the last line, at the guardian's end. A child that still hangs is killed. */
void guardian_end_telling(void);

/* Waits for a child that should end at once, `ns` at most. True: it has ended, or is no child of ours;
 * *status, which may be NULL, is set only if it has ended. */
bool guardian_reap(pid_t pid, int *status, uint64_t ns);
/* Kills the processes that a worker started and left behind, but those to be spared. One that hangs in the kernel stays. */
void guardian_kill_leftovers(pid_t worker, bool (*spare)(pid_t));
/* Reaps those of them that have ended by themselves. */
void guardian_reap_orphans(pid_t worker);

/* ---- guardian_devices.c ------------------------------------------------------------------------ */

struct guardian_device;

/* The device of an address, which comes from a worker and may be any text. `add`: makes room for one that
 * is not known yet. NULL: there is none, or no room. Valid until the next call with `add`. */
struct guardian_device *guardian_find(const char *address, bool add);

/* A worker's requests for a device: 0 or an errno value. `sealed`: the worker has given root up. */

/* GUARD_OPEN. Fills the reply, its code included. Returns how many descriptors go along; they stay ours. */
int guardian_open(struct guardian_device *d, struct guard_reply *r, int *fds);
/* GUARD_MAKE: new memory for a slot. *fd stays ours, until the next call or until the worker is dead. */
int guardian_make(struct guardian_device *d, unsigned slot, uint64_t size, int *fd);
/* GUARD_HOLD: keeps the memory that was made last. */
int guardian_hold(struct guardian_device *d, unsigned slot);
/* GUARD_GONE */
int guardian_let_go(struct guardian_device *d);
/* GUARD_NO_RESET */
int guardian_keep_from_reset(struct guardian_device *d, bool sealed);
/* GUARD_CLOSED */
void guardian_closed(struct guardian_device *d, bool sealed);
/* GUARD_SEAL: from now on kept memory may have been written by a process without privileges. */
void guardian_distrust(void);

/* Closes the memory that was made and is not held yet. */
void guardian_drop_made(void);

/* After a worker's death. Stops each device that the worker drove, or whose bus master is on. `line`
 * gets the actions, with times since died_at. True if there was such a device. */
bool guardian_stop_devices(struct guardian_line *l, uint64_t died_at);
/* The same devices' bus master off, and nothing else: no reset, no words. */
void guardian_quieten_devices(void);
/* The same with words, of a worker that does not end. */
void guardian_disarm_devices(struct guardian_line *l, uint64_t died_at);

/* After the last worker: closes everything. Files that were private to a driver's user get their owners back. */
void guardian_end_devices(void);
/* In a forked child: closes the copies that it has. */
void guardian_close_devices(void);

/* ---- guardian_machines.c ----------------------------------------------------------------------- */

/* GUARD_MACHINE. Fills the reply, its code included. Returns how many descriptors go along; they stay ours. */
int guardian_machine(const struct guard_request *q, struct guard_reply *r, int *fds);
/* When the reply was sent: closes those that are for QEMU. */
void guardian_machines_sent(void);
/* GUARD_MACHINE_RUNS. An errno value. */
int guardian_machine_runs(const struct guard_request *q);
/* GUARD_MACHINE_END */
void guardian_machine_end(const struct guard_request *q);
/* After a worker's death: how many machines are kept for the next. */
int guardian_machines_left(void);
/* The next worker's driver has started: those that it did not ask for end. */
void guardian_machines_ready(void);
/* After the last worker. Waits for their QEMUs. */
void guardian_end_machines(void);
/* In a forked child: closes the copies that it has. */
void guardian_close_machines(void);
bool guardian_is_minder(pid_t pid);

/* ---- guardian_requests.c ----------------------------------------------------------------------- */

/* A worker's reports that matter while it is watched, and at its end. */
struct guardian_said {
  bool ready;        /* its driver has started */
  bool ever_ready;   /* that of any worker so far */
  uint64_t ready_at; /* when this worker's had */
  bool sealed;       /* it has given root up */
  bool leaves;       /* it is about to end in order */
  /* The policy. It holds for the next workers, too. */
  unsigned limit;         /* of restarts in a row */
  uint64_t longest_pause; /* before a restart */
  uint64_t stop_ns;       /* how long a worker may take to stop */
};

/* Makes a worker's mailbox. *theirs: the worker's end of the pair, the caller's. 0 or -errno. */
int guardian_open_mail(int *theirs);
/* In a forked worker: tells it by its environment where the mailbox is. */
void guardian_pass_mail(int theirs);
/* Closes our end of the pair. */
void guardian_close_replies(void);
/* Closes the mailbox. */
void guardian_close_mail(void);
/* An eventfd: readable by an edge when there is mail. */
int guardian_bell(void);

/* Answers the pending request, if any. `restarts`, `died_at`: of the previous workers, for the reply.
 * False: the worker does not read its reply; it is ignored from then on. */
bool guardian_serve(struct guardian_said *said, unsigned restarts, uint64_t died_at);

#endif
