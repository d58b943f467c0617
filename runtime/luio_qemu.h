/* luio_qemu.h - QEMU's devices without a guest, by luio.h: a machine whose CPU has halted, and whose devices are ours.
 *
 * The machine is a QEMU process of its own. QEMU's test socket (qtest) makes accesses of registers, ports and config
 * space, and tells changes of interrupt lines; the machine's memory is a memfd that this process maps, too. The library
 * does the part of firmware (it numbers buses and places BARs), and that of the kernel and uio_pci_generic (it masks a
 * device at each interrupt, and counts the event on a descriptor). No file and no socket has a name that another
 * process could open. The process ends with this one, by whatever way that ends. */
#ifndef LUIO_QEMU_H
#define LUIO_QEMU_H

typedef struct luio_qemu luio_qemu;

typedef struct luio_qemu_config {
  const char *const
      *argv; /* the program and its own arguments (-device, -netdev, ...), ended by NULL */
  const char *machine; /* of -M: "q35"; "virt", ARM's board without a PC's history */
  uint64_t memory;     /* bytes of the machine's memory, a multiple of 2 MiB */
  uint64_t start_ns;   /* how long it may take to start */
  uint64_t answer_ns;  /* and to answer an access: it counts as stuck after that */
  int messages; /* 1: with an ivshmem-doorbell, by which MSI and MSI-X come (luio_device_set_vectors) */
} luio_qemu_config;

/* Starts a machine and places its devices; those of "virt" are placed by luio_qemu_describe. It is shared by the caller and the
 * devices that are opened.
 *   ENOENT     there is no such program       EINVAL  QEMU refused its arguments; the message has its words
 *   ETIMEDOUT  it did not answer in time */
LUIO_API int luio_qemu_open(const luio_qemu_config *config, luio_qemu **out, luio_error *err);
/* The device tree that QEMU wrote to the start of the memory of "virt"; its bytes in *size. NULL: there is none. Valid until a device
 * is opened, for others may write to the memory then. */
LUIO_API const void *luio_qemu_tree(const luio_qemu *qemu, uint64_t *size);

typedef struct luio_qemu_window {
  uint64_t first, last;
} luio_qemu_window;

/* What a device tree says of its board, and QMP. */
typedef struct luio_qemu_board {
  const char *interrupts;                /* the interrupt controller's QOM path */
  uint64_t ecam;                         /* PCI's config space in memory; 0: there is no PCI */
  uint64_t ports;                        /* where I/O ports are in memory; 0: they are not */
  luio_qemu_window memory, prefetch, io; /* addresses that BARs may have */
} luio_qemu_board;

/* For a machine whose board a device tree describes, once, before the first device is opened: has its interrupt lines told, and
 * places its PCI devices. */
LUIO_API int luio_qemu_describe(luio_qemu *qemu, const luio_qemu_board *board, luio_error *err);

/* A machine that somebody else started: its descriptors are the library's from the call on, also after a failure. */
typedef struct luio_qemu_running {
  const char *name;    /* for messages: "the QEMU at /run/qmp" */
  const char *machine; /* "q35" */
  int qtest, qmp;      /* connected sockets; no command is under way at qmp */
  int memory;          /* the file of its memory */
  uint64_t size;       /* bytes of it; the first 2 GiB are used */
  uint64_t answer_ns;  /* as above */
} luio_qemu_running;

/* Takes it over, whatever was said to it before, and places its devices anew. It goes on after luio_qemu_close.
 *   EINVAL  its memory has a size that is of no use      EPROTO  that is no test socket
 *   EIO     it has ended                                 ETIMEDOUT  it did not answer in time */
LUIO_API int luio_qemu_attach(const luio_qemu_running *running, luio_qemu **out, luio_error *err);

/* Its QMP socket; the machine's. In one that was started nothing was said yet. */
LUIO_API int luio_qemu_qmp_fd(const luio_qemu *qemu);
/* Whether a worker that died had started it, and its guardian (luio run) kept it: its devices are as they were, with bus master and
 * messages off, and the conversation at its QMP socket has begun. */
LUIO_API int luio_qemu_is_kept(const luio_qemu *qemu);
/* Why the one that a guardian had kept could not be taken, and this is a new one; NULL: there was none. */
LUIO_API const char *luio_qemu_lost(const luio_qemu *qemu);
/* 0: it runs. EIO with the reason: it has ended, or is stuck, and stays so. */
LUIO_API int luio_qemu_check(luio_qemu *qemu, luio_error *err);
/* Readable once something has changed; the machine's. */
LUIO_API int luio_qemu_change_fd(const luio_qemu *qemu);
enum {
  LUIO_QEMU_UNPLUGGED = 1, /* a slot has lost its device: luio_device_present tells of each */
  LUIO_QEMU_PLUGGED = 2,   /* a slot has got one: luio_device_return takes it */
  LUIO_QEMU_ENDED = 4,     /* luio_qemu_check has the reason */
};
/* For QMP's event RESET: the machine's devices have forgotten everything, so each is gone, and there to be taken again. Any thread. */
LUIO_API void luio_qemu_was_reset(luio_qemu *qemu);
/* All that has changed since the last call. Any thread. */
LUIO_API unsigned luio_qemu_changes(luio_qemu *qemu);
/* The machine's process. */
LUIO_API int luio_qemu_pid(const luio_qemu *qemu);
/* Opens the PCI function bus:slot.function as `name` (an address, for people). Any thread.
 *   ENODEV  there is none       EBUSY  this process has it open */
LUIO_API int luio_device_open_qemu(luio_qemu *qemu, unsigned bus, unsigned slot, unsigned function,
                                   const char *name, unsigned flags, luio_device **out,
                                   luio_error *err);
/* Opens a device of the device tree as UIO's uio_pdrv_genirq shows one. info: what a list would say of it; its address, names and maps
 * are taken from there. line: its input of the interrupt controller, -1: none; the line goes off at each interrupt, and on by
 * luio_unmask. edge: the controller takes its rising edges, else its high level.
 *   EBUSY  this process has it      EINVAL  the interrupt controller has no such input */
LUIO_API int luio_device_open_qemu_node(luio_qemu *qemu, const luio_info *info, int line, int edge,
                                        unsigned flags, luio_device **out, luio_error *err);
/* The caller lets the machine go. The last one, the caller or one of its devices, ends the process and waits for that. */
LUIO_API void luio_qemu_close(luio_qemu *qemu);

#endif
