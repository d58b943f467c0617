/* guard.h - the protocol between the worker (guard.c, in the library) and the guardian (guardian.h,
 * in the program). One request at a time, each answered.
 *
 * A worker may be hostile: it is a driver that gave root up (--user), and the guardian is still root.
 * So the guardian accepts no descriptor from a worker, because the sender can make even its close()
 * block for as long as it likes (a TCP socket with SO_LINGER, a file of a FUSE file system):
 *
 *   requests  are in memory that both have mapped; an eventfd, the bell, signals one. A pipe does
 *             not work: a writer holds its lock while the kernel reads the data from memory that the
 *             writer can withhold. A socket does not work either: closing it also closes the
 *             descriptors in its unread messages.
 *   replies   are sent over a SOCK_SEQPACKET pair; the guardian has shut the other direction.
 *
 * The guardian makes the memory and opens the files of a PCI device itself, and keeps them in numbered
 * slots per device. It sends copies of the descriptors to the worker, and to the next one. It does not
 * interpret the memory's contents. */
#ifndef LUIO_GUARD_H
#define LUIO_GUARD_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define GUARD_ENV "LUIO_GUARDIAN" /* numbers of descriptors: "replies,bell,mail" */

enum {
  GUARD_VERSION = 5,
  GUARD_DEVICES = 8, /* that one worker has open for driving */
  GUARD_PLACES       /* with the worker's own */
};

/* In place of an address: slots that belong to the worker and to no device. Opened before any device. */
#define GUARD_PROCESS "process"

/* Descriptors per device. */
enum guard_slot {
  GUARD_CONFIG, /* PCI config space: the guardian locks it, and stops the device by it */
  GUARD_RESET,  /* sysfs `reset`, where there is one and the driver allows it */
  GUARD_SMALL, /* memfds of DMA memory, in the order of dma.h: they may grow, and are never replaced */
  GUARD_HUGE_2M,
  GUARD_HUGE_1G,
  GUARD_RECORDS, /* which pages and named buffers there are (dma_kept.c) */
  GUARD_STATE,   /* the driver's durable state (guard_state.c) */
  GUARD_SLOTS
};

/* Descriptors of a QEMU machine (qemu.c). */
enum guard_machine_fd {
  GUARD_QTEST, /* luio's ends of its sockets */
  GUARD_QMP,
  GUARD_DOORBELL,
  GUARD_RAM,      /* its memory */
  GUARD_CHUNKS,   /* which of that are in use: two bytes for each 2 MiB */
  GUARD_LOG,      /* what QEMU prints */
  GUARD_LIFELINE, /* QEMU ends when the last copy of this end of a pipe is closed */
  GUARD_MACHINE_KEPT,
  /* Of a new one, for QEMU; the guardian does not keep these. */
  GUARD_QTEST_THEIRS = GUARD_MACHINE_KEPT,
  GUARD_QMP_THEIRS,
  GUARD_DOORBELL_THEIRS,
  GUARD_LIFELINE_THEIRS,
  GUARD_MACHINE_FDS,
  GUARD_FDS = GUARD_MACHINE_FDS /* in one message, at most */
};

enum { GUARD_CHUNK = 2 << 20, GUARD_LOG_SIZE = 16384 };

enum guard_kind {
  GUARD_HELLO,    /* first; the reply says why this worker was started */
  GUARD_POLICY,   /* how often to restart, and how long to wait for what */
  GUARD_OPEN,     /* a device is about to be driven; the reply has its kept slots. EAGAIN: locked */
  GUARD_MAKE,     /* memory for a slot, of `size` bytes; the reply has it */
  GUARD_HOLD,     /* keep the memory that was made last, in place of the slot's */
  GUARD_GONE,     /* close the device's files. EBUSY: the device is still present and unchanged */
  GUARD_NO_RESET, /* never write to `reset` */
  GUARD_CLOSED,   /* the device was stopped and closed in order */
  GUARD_READY,    /* the driver has started */
  GUARD_LEAVE,    /* the worker is about to end in order, with status 0 */
  GUARD_SEAL, /* privileges are about to be dropped: no more devices, nothing that shortens its reach */
  GUARD_MACHINE, /* a QEMU machine for `key`, with `size` bytes of memory: one that the worker before had, or the
                         descriptors for a new one */
  GUARD_MACHINE_RUNS, /* `machine` was started: `pid` is QEMU, `minder` its parent, which the guardian spares */
  GUARD_MACHINE_END /* `machine` is wanted no more */
};

struct guard_request {
  uint32_t kind, version;
  uint32_t slot;
  uint32_t restarts;
  uint64_t backoff_ns, stop_ns;
  uint64_t size; /* MAKE; 0 for what grows. MACHINE */
  char address[64];
  uint64_t key; /* MACHINE: a number for the machine's arguments */
  uint32_t machine;
  int32_t pid, minder;
};

/* Shared. The worker puts a request in, then stores its number by release, then rings. */
struct guard_mail {
  _Atomic uint64_t
      number; /* the reply bears it, too: one that comes too late is not the next one's */
  struct guard_request request;
};

enum { GUARD_MEMORY_MOST = 32 << 20 }; /* bytes that MAKE makes */

struct guard_reply {
  uint64_t number;
  int32_t code;      /* 0 or an errno value */
  uint32_t slots;    /* OPEN: bit n set: the descriptor of slot n comes along, in this order */
  uint32_t settled;  /* OPEN: the device was reset since a worker last drove it */
  uint32_t humble;   /* OPEN: a worker without privileges may have written the kept memory */
  uint32_t restarts; /* HELLO: workers that died so far */
  uint64_t died_ns;  /* HELLO: when the last one's death was seen */
  uint32_t machine;  /* MACHINE: its number; `slots` has bits of guard_machine_fd */
  int32_t pid;       /* MACHINE: of the QEMU that runs; 0: it is a new machine */
};

/* guard_wire.c. None of these waits for another process. */

/* One message with n descriptors, which stay the caller's. 0 or -errno. */
int guard_send(int fd, const void *data, size_t size, const int *fds, int n);
/* Whether it is on. */
bool guard_bus_master(int config_fd);
/* Switches bus master off by the config space's descriptor, and reads back, upon which what the
 * device had sent has arrived. 0, 1: it stays on; -ENODEV: the device is gone; -errno. */
int guard_bus_master_off(int config_fd);

/* guard_bars.c. For root; `dir` is a PCI device's folder in sysfs. Each returns 0 or -errno.
 *   take       makes its BARs and /dev/uioX private to this user; records the previous state. For the
 *              user nobody, whom many share, private to root. 1: they were not before
 *   give_back  restores the previous state
 *   leave      makes them root's and drops the record: another driver has the device */
int guard_bars_take(const char *dir, uid_t uid);
int guard_bars_give_back(const char *dir);
int guard_bars_leave(const char *dir);
/* Whether those that are there are this user's alone. *mark: another number after each change of one of them.
 * Any user may ask. */
bool guard_bars_are(const char *dir, uid_t uid, uint64_t *mark);

/* New sealed memory. Descriptor or -errno. */
int guard_sealed(const char *name, uint64_t size);
/* New memory for a slot, sealed: of `size` bytes, or none where it grows. Descriptor or -errno. */
int guard_memory(unsigned slot, const char *whose, uint64_t size);

/* The guardian: guardian.c. Forks; returns -1 in every worker, which goes on as the program, and in
 * the guardian the exit status, when all is over. */
int guardian(void);

#endif
