/* internal.h - what the files of the runtime share and no caller sees. */
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
};

struct luio_region_ops;
struct luio_region {
  const struct luio_region_ops *ops; /* how it is reached: backend.h */
  int writable;
  unsigned index;
  uint64_t size, addr;
  char name[64];          /* "BAR0 by uio0 map0" */
  char device[64];        /* whose, for messages */
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

/* Config space as it was found, and as this process has written it since (config_watch.c). Guarded by
 * command_lock; what comes after `bytes` is set at opening. */
struct luio_config_wanted {
  uint8_t bytes[256];
  bool watched;
  uint32_t decodes;       /* PCI_COMMAND_IO, PCI_COMMAND_MEMORY: it has such BARs */
  unsigned pm, msi, msix; /* where the control words of these capabilities are; 0: none */
};

/* What a guardian keeps for one owner, a device or the process itself (guard.c). */
typedef struct luio_slots {
  char address[64];       /* by which the guardian knows the owner: a device's, or GUARD_PROCESS */
  bool repeats;           /* another owner may have this address: only the first is guarded */
  bool guarded;           /* the guardian knows of it */
  bool humble;            /* what was kept may be a lie: a worker without privileges had it */
  bool settled;           /* nothing that an earlier worker told the device can make it write */
  int kept[GUARD_SLOTS];  /* what the guardian gave back and nobody has taken yet; -1: nothing */
  void *state;            /* guard_state.c; NULL: not mapped */
  const void *state_last; /* the copy this process wrote last; NULL: none yet */
} luio_slots;

/* fork.c. */
struct luio_fork_watch {
  void (*forked)(void *of); /* in the child: only system calls */
  void *of;
  struct luio_fork_watch *next;
};

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
  bool intx_by_command;   /* INTX_DISABLE masks its interrupt, and so the mask is ours: intx.c */
  unsigned place;         /* among the UIO devices of its PCI device, by number */
  bool one_of_several;    /* of these, and another has the function: backend_pci.c */
  bool bus_master_on;     /* we switched it on, so we switch it off */
  bool bars_taken;        /* guard_bars.c */
  uid_t bars_uid;         /* for whom; 0: root, or not said */
  uint64_t bars_mark;     /* guard_bars_are, when they were taken last */
  bool bars_given;        /* they were not ours alone since luio_device_bars last said so */
  _Atomic bool intx_open; /* we have let the next interrupt through, and took none since */
  struct luio_config_wanted wanted;
  pthread_mutex_t command_lock; /* the command register's writers: unmask, bus master, the watch */
  pthread_mutex_t irq_lock;     /* the list below */
  luio_irq *irqs;
  luio_region *regions[LUIO_MAX_REGIONS];
  luio_dma *dma;
  void *own; /* the way's, if it needs more: the luio_sim of a simulated device */
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

/* sysfs.c. Reads a short text attribute, without its newline; -errno, -EOVERFLOW when longer. */
int luio_sysfs_text(const char *dir, const char *name, char *to, size_t size);
/* -EINVAL, -ERANGE: as luio_parse_u64. */
int luio_sysfs_u64(const char *dir, const char *name, uint64_t *value);
/* Whether the kernel says that lockdown (secure boot) is on. */
bool luio_locked_down(void);

/* discovery.c. All devices. `complete` (may be NULL) fills in what sysfs does not tell of each. */
int luio_discover(luio_list **out, void (*complete)(luio_info *info), luio_error *err);

/* describe.c. Bytes of a map of physical memory that UIO maps: whole pages, and none where it does not begin with one. */
uint64_t luio_map_reach(const luio_map *map);
/* Fills *info from sysfs: of a UIO device with its parent, or of a device without one; never fails, for what is wrong becomes info->problem. */
struct udev_device;
struct udev_hwdb;
void luio_describe(luio_info *info, struct udev_device *dev, struct udev_hwdb *hwdb);

/* devicetree.c. The length of each map, where the device's node says it. */
void luio_devicetree_lengths(luio_info *info);
/* Whether the DMA of a device, by its folder in sysfs, looks into the CPU's caches. */
bool luio_devicetree_coherent(const char *sysfs);

/* iomem.c. What /proc/iomem says of a range of physical addresses. */
enum { IOMEM_FREE, IOMEM_RAM, IOMEM_CLAIMED, IOMEM_HIDDEN /* the addresses, from this process */ };
typedef struct luio_iomem {
  int verdict;
  uint64_t first, last; /* RAM, CLAIMED: of the entry that says so */
  char owner[64];       /* its name: the driver's */
  char device[64];      /* the PCI device whose BAR it is in; empty: none */
  char name[64];        /* the innermost entry that has all of the range; empty: none */
} luio_iomem;
/* -errno: it can't be read; -EBADMSG: it can't be understood. */
int luio_iomem_query(uint64_t addr, uint64_t size, luio_iomem *out);

/* devmem.c. Devices that are a range of physical addresses: mem:0xADDR+0xLEN. */
#define LUIO_DEVMEM "/dev/mem"
bool luio_devmem_is_address(const char *address);
int luio_devmem_find(const char *address, luio_info *out, luio_error *err);
const luio_map *luio_devmem_range(const luio_info *info);
bool luio_devmem_overlaps(const luio_map *range, uint64_t addr, uint64_t size);
/* Whether the range may be had now, and, if asked, that no device is there that has a driver. */
int luio_devmem_allowed(const luio_device *d, bool drivers, luio_error *err);
/* Whether a kernel driver has claimed it since. */
bool luio_devmem_claimed(const luio_device *d);

/* region.c */
void luio_region_free(luio_region *region);
/* The device is gone: no access reaches it from now on. */
void luio_region_leave(luio_region *region);
/* Opens a region again, at the place it had where it can be. */
int luio_region_return(luio_device *device, luio_region *region, luio_error *err);

/* port.c. What a thread may use of the ports that regions are over. */
enum { LUIO_PORT_RIGHTS = 16 };
typedef struct luio_port_rights {
  uint64_t id[LUIO_PORT_RIGHTS];
} luio_port_rights;
/* Asks for the ports at addr, size; from then on the region may be used by instruction, until close.
 * -ENOSYS: this architecture has no such instructions; -EPERM. */
int luio_port_open(luio_region *region);
void luio_port_close(luio_region *region);
bool luio_port_usable(luio_region *region); /* by this thread; it may ask the kernel */
uint64_t luio_port_in(uint64_t port, unsigned width);
void luio_port_out(uint64_t port, unsigned width, uint64_t value);
void luio_port_ins(uint64_t port, unsigned width, void *to, uint64_t n);
void luio_port_outs(uint64_t port, unsigned width, const void *from, uint64_t n);
/* A thread starts with its maker's ports: what that had then. */
luio_port_rights luio_port_mine(void);
void luio_port_inherit(const luio_port_rights *rights);

/* device.c. A device with no files yet, and those files, by address; what is opened when it fails
 * halfway stays in the device. */
int luio_device_new(unsigned flags, const char *what, luio_device **out, luio_error *err);
int luio_device_open_files(luio_device *d, const char *address, const luio_device *before,
                           luio_error *err);
void luio_device_free(luio_device *device);

/* config.c. A write that is nobody's wish: what is wanted stays as it is. */
int luio_config_put(luio_device *d, unsigned offset, unsigned width, uint32_t value,
                    luio_error *err);
/* Sets and clears bits of the command register; *command is what it was, with the status register in the upper half.
 * With command_lock held. */
int luio_command_change(luio_device *d, uint32_t set, uint32_t clear, uint32_t *command,
                        luio_error *err);

/* lock.c. What only one handle of a PCI device with several UIO devices has: -EBUSY in the others. */
int luio_function_is_ours(const luio_device *d, const char *what, luio_error *err);

/* bus_master.c. Why the files of a device's registers can't be opened, where that is because its driver has them
 * to itself; NULL: it is not. */
const char *luio_bars_remedy(luio_device *d, int code);
/* Takes the registers' files again, if need be and this process can. True: they were not ours alone all the time,
 * and luio_device_bars has yet to be asked. */
bool luio_bars_given(luio_device *d);

/* config_watch.c. From here on luio_config_check compares with what config space has now. */
void luio_config_watch(luio_device *d);

/* Whether a device held its interrupt line when it was unmasked. */
enum luio_line { LUIO_LINE_UNSEEN, LUIO_LINE_LOW, LUIO_LINE_HELD };

/* storm.c. What it remembers of one source's interrupts. Guarded by who takes them. */
struct luio_storm {
  unsigned run;                      /* interrupts in a row that look like a storm */
  uint64_t interrupts, since_ns;     /* and what came in that time */
  uint64_t value[LUIO_IRQ_CAPTURES]; /* of the last one */
  uint64_t taken_ns, done_ns;        /* when it was taken, and let through; 0: none yet */
  luio_irq_storm record;
};
/* Counts an interrupt whose top half has ended; line: as its unmasking saw it. Whether a storm has begun or ended with it. */
bool luio_storm_judge(struct luio_storm *s, const luio_irq_config *c, const luio_irq_event *event,
                      enum luio_line line);
bool luio_storm_rages(const struct luio_storm *s);
/* Begins anew. Whether there was one. */
bool luio_storm_end(struct luio_storm *s);

/* irq_mask.c. Looks whether somebody else has masked the device's interrupt, and unmasks; adds to *wrong. */
int luio_irq_check_mask(luio_device *d, unsigned *wrong, luio_error *err);

/* fork.c. From add to remove, `forked` is called in each child that this process forks, before fork() returns there. */
void luio_fork_add(struct luio_fork_watch *watch);
void luio_fork_remove(struct luio_fork_watch *watch);

/* devnull.c. What luio_devnull_replace needs: held while there is a device. what: for messages. */
int luio_devnull_hold(const char *what, luio_error *err);
void luio_devnull_release(void);
/* From now on the descriptor leads to /dev/null; its number stays. Below 0: nothing. */
void luio_devnull_replace(int fd);

/* sigbus.c. A mapped region in whose place an access that raises SIGBUS finds a placeholder, from add (before its first
 * access) until remove. */
int luio_sigbus_add(luio_region *region, luio_error *err);
void luio_sigbus_remove(luio_region *region);
/* Puts the placeholder there now. */
void luio_sigbus_cover(luio_region *region);

/* dma.c */
/* Whether it goes with the device: a device that comes back does not have it. */
bool luio_dma_ends_with_device(const luio_dma *dma);
void luio_dma_close(luio_dma *dma);
/* In a forked child: none of its descriptors leads anywhere. */
void luio_dma_forked(luio_dma *dma);
/* dma_kept.c. What earlier workers had, and nobody asked for by name, becomes free. */
void luio_dma_settle(luio_dma *dma);
uint64_t luio_dma_unsettled(luio_dma *dma); /* bytes that wait for that */
/* Where the buffer that holds [iova, iova + size) is; NULL: no live buffer does. */
void *luio_dma_find(luio_dma *dma, uint64_t iova, uint64_t size);

/* guard.c. Without a guardian: 0, and nothing happens. */
void luio_slots_init(luio_slots *slots);
/* In a forked child: nothing is kept there. */
void luio_slots_forked(luio_slots *slots);
/* Tells the guardian of a device that is about to be driven; fills slots->kept. */
int luio_guard_open(luio_slots *slots, luio_error *err);
/* The same for one that was open, went away and is back: slots has the files, `before` is what the guardian
 * knows. -EAGAIN, of both (err is the caller's to fill): the device's lock is somebody else's. */
int luio_guard_reopen(const luio_slots *before, luio_slots *slots, luio_error *err);
/* By which descriptor a device is stopped when the guardian is dead and Lua is stuck. */
void luio_guard_stops_by(const luio_slots *slots, int config_fd);
/* Memory for a slot, made by the guardian (or here, without one): a descriptor or -errno, err filled
 * only if the guardian is gone. The guardian keeps it for the next worker once it is told to hold it. */
int luio_guard_make(const luio_slots *slots, int slot, uint64_t size, luio_error *err);
int luio_guard_hold(const luio_slots *slots, int slot, luio_error *err);
/* The device is gone: the guardian lets go of its files if it sees that, too. */
void luio_guard_gone(const luio_slots *slots);
void luio_guard_close(luio_slots *slots);
int luio_guard_seal(luio_error *err);
/* What belongs to this process and to no device; NULL: there is no guardian. */
luio_slots *luio_guard_process(void);

/* memfd.c. Maps `size` bytes that the guardian keeps in a slot, all zeros but for what `copy` takes of
 * those that the worker before had. what: for messages. */
int luio_memfd_map(luio_slots *slots, int slot, size_t size, const char *what,
                   void (*copy)(void *to, const void *from), void **out, luio_error *err);

/* guard_state.c */
void luio_state_close(luio_slots *slots);

/* top_half.c */
int luio_top_half_check(const luio_irq_config *config, const char *who, luio_error *err);
/* The register accesses, up to the first that fails. */
int luio_top_half_run(const luio_irq_config *config, luio_irq_event *event, luio_error *err);

/* pagemap.c */
int luio_pagemap_open(const char *who, luio_error *err); /* descriptor or -errno */
int luio_pagemap_lookup(int fd, const void *addr, uint64_t *physical, luio_error *err);

/* sim.c */
int luio_sim_access(luio_sim *sim, int kind, const luio_region *region, uint64_t offset,
                    unsigned width, uint64_t *value, luio_error *err);
const luio_sim_config *luio_sim_identity(const luio_sim *sim);
/* Where a region is on its bus. */
uint64_t luio_sim_address(const luio_sim *sim, int region);
int luio_sim_event_fd(const luio_sim *sim);
/* Where the model's device finds the driver's DMA memory: at [iova, iova + size); NULL: there is none. */
typedef void *luio_sim_memory(void *of, uint64_t iova, uint64_t size);
void luio_sim_set_memory(luio_sim *sim, luio_sim_memory *memory, void *of);

#endif
