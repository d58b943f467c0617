/* worker.h - the worker's requests to its guardian, and the memory and files that the guardian keeps for it. */
#ifndef LUIO_WORKER_H
#define LUIO_WORKER_H

#include "kernel.h"

/* guard.c. Without a guardian: 0, and nothing happens. */
void luio_slots_init(luio_slots *slots);
/* In a forked child: nothing is kept there. */
void luio_slots_forked(luio_slots *slots);
/* Tells the guardian of a device that is about to be driven; fills slots->kept. */
int luio_guard_open(luio_slots *slots, luio_error *err);
/* The same for one that was open, went away and is back: slots has the files, `before` has the slots that
 * the guardian knows. Both return -EAGAIN (the caller fills err) if another process has the device's lock. */
int luio_guard_reopen(const luio_slots *before, luio_slots *slots, luio_error *err);
/* By which descriptor a device is stopped when the guardian is dead and Lua is stuck. Another handle of the same device
 * (a view, or one that is opened to be exchanged) does not count. */
void luio_guard_stops_by(const luio_slots *slots, int config_fd);
/* Memory for a slot, made by the guardian (or here, without one): a descriptor or -errno, err filled
 * only if the guardian is gone. The guardian keeps it for the next worker after luio_guard_hold. */
int luio_guard_make(const luio_slots *slots, int slot, uint64_t size, luio_error *err);
int luio_guard_hold(const luio_slots *slots, int slot, luio_error *err);
/* The device is gone: the guardian closes its files if its own check agrees. */
void luio_guard_gone(const luio_slots *slots);
void luio_guard_close(luio_slots *slots);
int luio_guard_seal(luio_error *err);
/* The memory of this process, and of no device; NULL: there is no guardian. */
luio_slots *luio_guard_process(void);

/* A QEMU machine's descriptors: the guardian keeps copies of them for the next worker. */
struct luio_guard_machine {
  bool given; /* false: there is no guardian; the rest is not set */
  unsigned number;
  int pid;                   /* of the QEMU that a worker before this one has started; 0: none */
  int fd[GUARD_MACHINE_FDS]; /* the caller's; of one that runs those of QEMU's side are -1 */
};
/* A machine that the worker before had under that key, or a new one. Without a guardian: 0. */
int luio_guard_machine(uint64_t key, uint64_t memory, struct luio_guard_machine *m,
                       luio_error *err);
/* QEMU was started. */
int luio_guard_machine_runs(const struct luio_guard_machine *m, int pid, int minder,
                            luio_error *err);
/* It is wanted no more. QEMU ends when the caller's lifeline is closed, too. */
void luio_guard_machine_end(const struct luio_guard_machine *m);

/* memfd.c. Maps `size` bytes that the guardian keeps in a slot, all zeros but for what `copy` takes of
 * those that the worker before had. what: for messages. */
int luio_memfd_map(luio_slots *slots, int slot, size_t size, const char *what,
                   void (*copy)(void *to, const void *from), void **out, luio_error *err);

/* guard_state.c */
void luio_state_close(luio_slots *slots);

#endif
