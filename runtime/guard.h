/* guard.h - what the worker (guard.c, in the library) and the guardian (guardian.c, in the program)
 * say to each other, over a SOCK_SEQPACKET pair: one request, one reply, descriptors by SCM_RIGHTS.
 *
 * The guardian understands little on purpose: it keeps descriptors in numbered slots per device, and
 * hands them to the next worker as they are. What is in the memory is the workers' business. */
#ifndef LUIO_GUARD_H
#define LUIO_GUARD_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define GUARD_ENV "LUIO_GUARDIAN" /* the worker's end of the pair, a descriptor's number */

enum {
  GUARD_VERSION = 2,
  GUARD_DEVICES = 8, /* that one worker has open for driving */
  GUARD_PLACES       /* with the worker's own */
};

/* In place of an address: what belongs to the worker and to no device. Opened before any device. */
#define GUARD_PROCESS "process"

/* Descriptors per device. */
enum guard_slot {
  GUARD_CONFIG, /* PCI config space: the guardian locks it, and stops the device by it */
  GUARD_RESET,  /* sysfs `reset`, where there is one and the driver allows it */
  GUARD_SMALL,  /* memfds of DMA memory, in the order of dma.h */
  GUARD_HUGE_2M,
  GUARD_HUGE_1G,
  GUARD_RECORDS, /* which pages and named buffers there are (dma_kept.c) */
  GUARD_STATE,   /* the driver's durable state (guard_state.c) */
  GUARD_SLOTS
};

enum guard_kind {
  GUARD_HELLO,  /* first; the reply says why this worker was started */
  GUARD_POLICY, /* how often to restart, and how long to wait for what */
  GUARD_OPEN,   /* a device is about to be driven; the reply has what is kept for it */
  GUARD_HOLD,   /* keep this descriptor, in place of what is in the slot; none: empty the slot */
  GUARD_CLOSED, /* the device was stopped and closed in order */
  GUARD_READY,  /* the driver has started */
  GUARD_SEAL    /* privileges are about to be dropped: take no more files to write to */
};

struct guard_request {
  uint32_t kind, version;
  uint64_t number; /* the reply bears it, too: one that comes too late is not the next one's */
  uint32_t slot;
  uint32_t restarts;
  uint64_t backoff_ns, stop_ns;
  char address[64];
};

struct guard_reply {
  uint64_t number;
  int32_t code;      /* 0 or an errno value */
  uint32_t slots;    /* OPEN: bit n set: the descriptor of slot n comes along, in this order */
  uint32_t settled;  /* OPEN: the device was reset since a worker last drove it */
  uint32_t restarts; /* HELLO: workers that died so far */
  uint64_t died_ns;  /* HELLO: when the last one's death was seen */
};

/* guard_wire.c. None of these waits. */

/* One message with n descriptors, which stay the caller's. 0 or -errno. */
int guard_send(int fd, const void *data, size_t size, const int *fds, int n);
/* One message: its length, 0 at the other side's end, -errno. *n: room in fds, then how many came;
 * those for which there is no room are closed. */
ssize_t guard_receive(int fd, void *data, size_t size, int *fds, int *n);
/* Switches bus master off by the config space's descriptor, and reads back, upon which what the
 * device had sent has arrived. 0, 1: it stays on; -ENODEV: the device is gone; -errno. */
int guard_bus_master_off(int config_fd);

/* The guardian: guardian.c. Forks; returns -1 in every worker, which goes on as the program, and in
 * the guardian the exit status, when all is over. */
int guardian(void);

#endif
