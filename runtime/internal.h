/* internal.h - the lowest floor of the runtime's internal declarations: constants, the structures of a region and a
 * device, errors, text.
 *
 * Each floor has a header, which includes the one below. Each file includes the header of its floor, so it can't use a
 * floor above. spec/lint/floors.lua assigns the files to floors.
 *
 *   device.h      opening, finding and closing devices; hot-plug
 *   ways.h        the ways to a device: backend_*.c
 *   parts.h       bus master, INTx, /dev/uioX, interrupts, DMA memory
 *   registers.h   regions, config space, top halves, the simulated bus; backend.h: the operations of a backend
 *   worker.h      the guardian's memory and files for this process
 *   kernel.h      the kernel's interfaces, with no device open
 *   internal.h */
#ifndef LUIO_INTERNAL_H
#define LUIO_INTERNAL_H

#include "guard.h"
#include "luio.h"

#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/types.h>

#define LUIO_PAGE 4096ull
#define LUIO_NS_PER_S 1000000000ull
#define LUIO_SIM_ANSWER_NS (2 * LUIO_NS_PER_S) /* a model answers within this, or has failed */
#define LUIO_STOP_NS (3 * LUIO_NS_PER_S)       /* a thread stops within this */

/* PCI configuration space: PCI Local Bus Specification 3.0, section 6.2. */
enum {
  PCI_VENDOR = 0x00,
  PCI_DEVICE = 0x02,
  PCI_COMMAND = 0x04,
  PCI_COMMAND_IO = 1 << 0,
  PCI_COMMAND_MEMORY = 1 << 1,
  PCI_COMMAND_MASTER = 1 << 2,
  PCI_COMMAND_INTX_DISABLE = 1 << 10,
  PCI_STATUS = 0x06,
  PCI_STATUS_INTERRUPT = 1 << 3,
  PCI_STATUS_CAPABILITIES = 1 << 4,
  PCI_CAPABILITIES = 0x34, /* where the first is */
};

/* Capabilities, and the words that switch messages: the same, 6.8.1 and 6.8.2. */
enum {
  PCI_CAP_MSI = 0x05,
  PCI_CAP_MSIX = 0x11,
  PCI_MESSAGE_CONTROL = 2, /* from the capability on */
  PCI_MSI_ENABLE = 1 << 0,
  PCI_MSIX_ENABLE = 1 << 15,
  PCI_MSIX_SIZE = 0x7ff, /* entries, less one */
};

struct luio_region_ops;
struct luio_region {
  const struct luio_region_ops *ops; /* how it is reached: backend.h */
  int writable;
  unsigned index;
  uint64_t size, addr;
  char name[64];          /* "BAR0 by uio0 map0" */
  char device[64];        /* the owner, for messages */
  volatile uint8_t *base; /* memory: the first byte; NULL: accesses go through ops */
  void *map;              /* memory: the whole pages around it */
  size_t map_size;
  int fd; /* ports: resourceN, one pread or pwrite is one port access; -1: by instruction only */
  _Atomic uint64_t port_id; /* ports: of its place among threads' rights; 0: not by instruction */
  luio_region *next_port;   /* ports: in the list of port.c */
  void *own;                /* the way's, if it needs more */
  _Atomic bool gone;        /* set by luio_device_gone, or by the SIGBUS handler */
  _Atomic uint64_t fault;   /* where SIGBUS came from; UINT64_MAX: nowhere */
  struct luio_span *span;   /* memory: its entry in the handler's list */
};

/* Config space at opening, updated by this process's writes (config_watch.c). Guarded by
 * command_lock; the fields after `bytes` are set at opening. */
struct luio_config_wanted {
  uint8_t bytes[256];
  bool watched;
  uint32_t decodes;       /* PCI_COMMAND_IO, PCI_COMMAND_MEMORY: it has such BARs */
  unsigned pm, msi, msix; /* where the control words of these capabilities are; 0: none */
};

/* The memory that a guardian keeps for one owner, a device or the process itself (guard.c). */
typedef struct luio_slots {
  char address[64];       /* by which the guardian knows the owner: a device's, or GUARD_PROCESS */
  bool repeats;           /* another owner may have this address: only the first is guarded */
  bool guarded;           /* the guardian knows of it */
  bool humble;            /* kept data is not trusted: a worker without privileges had it */
  bool settled;           /* nothing that an earlier worker told the device can make it write */
  int kept[GUARD_SLOTS];  /* returned by the guardian and not used yet; -1: nothing */
  void *state;            /* guard_state.c; NULL: not mapped */
  const void *state_last; /* the copy this process wrote last; NULL: none yet */
} luio_slots;

/* fork.c. */
struct luio_fork_watch {
  void (*forked)(void *of); /* in the child: only system calls */
  void *of;
  struct luio_fork_watch *next;
};

/* Whether a device held its interrupt line when it was unmasked. */
enum luio_line { LUIO_LINE_UNSEEN, LUIO_LINE_LOW, LUIO_LINE_HELD };

struct luio_backend;
struct luio_device {
  const struct luio_backend *backend; /* the way to it: backend.h; NULL: not known yet */
  luio_info info;
  unsigned flags;
  int uio_fd, config_fd; /* -1: not opened */
  int mem_fd;            /* /dev/mem, with its lock: backend_mem.c */
  bool always_err;       /* uio_fd polls as an error though the device is there: no interrupt */
  _Atomic bool gone;
  bool config_writable;
  bool intx_by_command;   /* INTX_DISABLE masks its interrupt, so luio has the mask: intx.c */
  unsigned place;         /* among the UIO devices of its PCI device, by number */
  bool one_of_several;    /* of these, and another has the function: backend_pci.c */
  bool bus_master_on;     /* we switched it on, so we switch it off */
  bool bars_taken;        /* guard_bars.c */
  uid_t bars_uid;         /* for whom; 0: root, or not said */
  uint64_t bars_mark;     /* guard_bars_are, when they were taken last */
  bool bars_given;        /* they were not ours alone since luio_device_bars last said so */
  _Atomic bool intx_open; /* we have let the next interrupt through, and took none since */
  int kind;               /* of its interrupts: LUIO_INTX, ...; vectors.c */
  unsigned vectors;       /* of messages: how many are on */
  struct luio_config_wanted wanted;
  pthread_mutex_t command_lock; /* the command register's writers: unmask, bus master, the watch */
  pthread_mutex_t irq_lock;     /* the list below */
  luio_irq *irqs;
  luio_region *regions[LUIO_MAX_REGIONS];
  luio_dma *dma;
  void *own; /* the way's, if it needs more: a luio_sim, a luio_qemu_own */
  luio_slots slots;
  struct luio_fork_watch fork_watch;
};

/* error.c. Fills err (may be NULL), returns -code. */
int luio_fail(luio_error *err, int code, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* text.c. Formats into a fixed buffer; false when it had to cut. */
bool luio_format(char *to, size_t size, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* Makes text from elsewhere fit to be shown: control characters and bad UTF-8 become '?'. */
void luio_clean(char *text);
/* A whole number, decimal or 0x; -EINVAL when it is anything else, -ERANGE when too large. */
int luio_parse_u64(const char *text, uint64_t *value);
/* Which of two names comes first, as strcmp, but numbers in them count: "uio2" before "uio10". */
int luio_compare_names(const char *a, const char *b);

#endif
