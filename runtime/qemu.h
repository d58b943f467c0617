/* qemu.h - a QEMU machine without a guest: its process (qemu_process.c), the accesses (qemu_bus.c), the interrupt controller's lines
 * (qemu_lines.c), and the part of firmware (qemu_pci.c). backend_qemu.c is the way to its PCI devices, backend_qemu_node.c that to
 * those of its device tree; region_qemu.c has their regions, dma_qemu.c gives out the machine's memory. */
#ifndef LUIO_QEMU_INTERNAL_H
#define LUIO_QEMU_INTERNAL_H

#include "registers.h"

/* Descriptors that the process starts with, by their number there. */
enum { QEMU_QTEST = 3, QEMU_QMP, QEMU_RAM, QEMU_BIOS, QEMU_DOORBELL, QEMU_FDS_END };
enum { QEMU_FDS = QEMU_FDS_END - QEMU_QTEST };

struct luio_qemu_process {
  int minder;   /* our child that ends QEMU when our end of `lifeline` closes; 0: none */
  int lifeline; /* -1: none */
  int log;      /* a memfd: what it printed; -1: none */
  int pid;      /* of QEMU */
};

/* Printed instead of what QEMU would have, where there is no such program. */
#define QEMU_MISSING "there is no such program"
/* Starts argv with the descriptors fds[i] as QEMU_QTEST + i; -1: none. */
int luio_qemu_spawn(struct luio_qemu_process *p, char *const argv[], const int fds[QEMU_FDS],
                    int lifeline, luio_error *err);
/* For messages: what to do where there is too little for a start; "" for other codes. */
const char *luio_qemu_remedy(int code);
/* What it printed, in one line, without its own name. */
const char *luio_qemu_printed(const struct luio_qemu_process *p, char *to, size_t size);
/* qmp: its socket, which tells of QEMU's end where the minder is a guardian's child by now; -1: it is ours, or QEMU is somebody else's. */
void luio_qemu_end(struct luio_qemu_process *p, int qmp);
/* In a forked child, which must not keep it alive. */
void luio_qemu_forked(struct luio_qemu_process *p);

/* What differs between the machines, and is known before they run: qemu.c. */
enum { QEMU_MORE = 4 };
struct luio_qemu_kind {
  const char *machine;
  const char *more[QEMU_MORE]; /* arguments: by which the CPU does nothing, and others */
  const char *package;         /* Debian's */
  const char *hello;           /* the first command; an answer means that it runs */
  uint64_t ram;                /* the address of the memory's first byte */
  bool tree; /* the memory begins with a device tree, and luio_qemu_describe comes */
};

/* A PCI function that firmware would have found. */
struct luio_qemu_function {
  unsigned bus, devfn;
  uint64_t ecam; /* where its config space is in memory */
  luio_bar bars[LUIO_MAX_BARS];
  bool open; /* as a device of this process */
  /* Written with the bus's lock held, so an access that ends after the device was unplugged sees it. */
  _Atomic bool here;       /* false: it was unplugged */
  _Atomic unsigned pulled; /* so many times */
};

/* A slot that devices come to and leave while the machine runs: qemu_hotplug.c. */
enum { QEMU_WINDOWS = 3 };
struct luio_qemu_slot {
  uint64_t capability;                   /* PCI Express's of the port, where it is in memory */
  unsigned bus, last_bus;                /* behind the port */
  luio_qemu_window window[QEMU_WINDOWS]; /* what the port lets through */
  bool fresh; /* what is in it has no addresses yet. Guarded by the bus's lock */
};

/* A device's MSI or MSI-X, while it is on: qemu_messages.c. Written by the owner's thread, while no interrupt is open. */
struct luio_qemu_messages {
  unsigned capability; /* where it is in config space */
  uint32_t control;    /* its control word, as it was before */
  bool intx_was_off;   /* INTX_DISABLE, before */
  unsigned count;
  unsigned first;       /* MSI: of the doorbell's numbers */
  uint64_t table;       /* MSI-X: its address */
  int16_t *numbers;     /* by vector; -1: it has none yet. NULL: MSI */
  pthread_mutex_t lock; /* of the rest, and the device's masks */
  uint32_t masks;       /* MSI */
  uint8_t *open;        /* MSI-X, by vector: it is not masked */
};

/* luio_device.own of a device. */
struct luio_qemu_own {
  luio_qemu *qemu;
  struct luio_qemu_function *function; /* NULL: it is not on PCI */
  int line;                            /* that one's input of the interrupt controller; -1: none */
  bool edge;                           /* it takes rising edges there */
  unsigned
      pulled; /* the function's, when it was opened or taken again: it is gone when that has grown */
  int event_fd; /* an eventfd: counts interrupts */
  struct luio_qemu_messages messages;
};

/* LINES: qtest tells of no more (MAX_IRQ of system/qtest.c). */
enum {
  QEMU_FUNCTIONS = 256,
  QEMU_LISTENERS = 16,
  QEMU_SLOTS = QEMU_FUNCTIONS,
  QEMU_LINES = 256,
  QEMU_NODES = 64,
  QEMU_CHUNK = 2 << 20,
  QEMU_VECTORS = 512
};

/* Where messages arrive: qemu_doorbell.c. */
struct luio_doorbell {
  int socket;           /* to QEMU's ivshmem-doorbell; -1: the machine has none */
  uint64_t address;     /* of its register; 0: not found */
  pthread_mutex_t lock; /* of: */
  unsigned n;           /* numbers that QEMU knows an eventfd of */
  int fds[QEMU_VECTORS];
  bool used[QEMU_VECTORS];
};

/* A device that waits for INTx: an event is counted on fd. */
struct luio_qemu_listener {
  uint64_t ecam;
  int fd; /* -1: a free place */
};

/* An input of the interrupt controller, and the kernel's part of it for a device of the device tree. */
struct luio_qemu_line {
  bool high, edge;
  bool off;     /* by an interrupt, or by mask */
  bool pending; /* it has risen while it was off */
  int fd;       /* events of its device are counted there; -1: it is not open */
};

struct luio_qemu {
  const struct luio_qemu_kind *kind;
  luio_qemu_config config; /* argv is the caller's, and used at the start alone */
  char program[160];       /* for messages */
  struct luio_qemu_process process;
  int qtest, qmp;
  uint8_t *ram;
  _Atomic unsigned users; /* devices, and the one who started it; the last one ends it */
  pthread_mutex_t lock;   /* `chunks`, and each function's `open` */
  uint16_t *
      chunks; /* the owner of each of the memory's; 0: it is free. Under a guardian the next worker has it, too */
  int memory; /* the file of `ram` */
  struct luio_guard_machine guard;
  char lost[256]; /* why the machine that a guardian had kept is not this one */

  /* The bus. All below is guarded by its lock. */
  pthread_mutex_t bus;
  int watch;   /* epoll: the qtest socket while no access is under way, and `stop` */
  int stop_fd; /* an eventfd; ends the thread */
  pthread_t thread;
  bool has_thread;
  char in[4096];
  size_t have;
  bool raised; /* a line has risen since the devices were looked at */
  struct luio_qemu_listener listeners[QEMU_LISTENERS];
  struct luio_qemu_line lines[QEMU_LINES];
  bool (*look)(
      luio_qemu *);   /* also has a look then, if there are slots: whether something had happened */
  luio_error failure; /* code 0: none */
  struct luio_fork_watch fork_watch;
  int change_fd; /* an eventfd: see luio_qemu_changes */
  _Atomic unsigned changes;
  struct luio_doorbell doorbell;

  luio_qemu_board board;
  struct {
    bool open; /* as a device of this process. Guarded by `lock` */
    uint64_t addr;
  } nodes[QEMU_NODES];

  /* Written with both locks held, so read with either of them. */
  struct luio_qemu_function functions[QEMU_FUNCTIONS];
  unsigned n_functions;
  struct luio_qemu_slot slots[QEMU_SLOTS];
  unsigned n_slots;
  bool forgotten; /* it was reset: nothing has addresses. Guarded by `lock` */
};

/* qemu_line.c. A line of the test socket, without its end. */
enum luio_qemu_saying { QEMU_NONSENSE, QEMU_DONE, QEMU_VALUE, QEMU_RISEN, QEMU_FALLEN };
struct luio_qemu_line_text {
  enum luio_qemu_saying kind;
  uint64_t value; /* VALUE; the line's number of RISEN and FALLEN */
};
struct luio_qemu_line_text luio_qemu_parse(const char *line, size_t size);

/* qemu_bus.c */

enum luio_qemu_space { QEMU_MEMORY, QEMU_PORTS };
/* n accesses of one address, of 8, 16, 32, or of memory 64 bits; several travel in one message. to and from are arrays of that
 * width. A wider variable will do for one access, as this machine is little-endian; what is above the width stays. Any thread. */
int luio_qemu_read(luio_qemu *q, enum luio_qemu_space space, uint64_t addr, unsigned width,
                   void *to, uint64_t n, luio_error *err);
int luio_qemu_write(luio_qemu *q, enum luio_qemu_space space, uint64_t addr, unsigned width,
                    const void *from, uint64_t n, luio_error *err);
/* One command whose answer has no value. */
int luio_qemu_ask(luio_qemu *q, const char *command, luio_error *err);
/* Of a machine that another process may have spoken to, before the thread: drops what is under way there, until an answer is ours. */
int luio_qemu_bus_resync(luio_qemu *q, luio_error *err);
/* The same at its QMP socket, for a caller that has not spoken there yet: drops all until an answer is ours. */
int luio_qmp_resync(int qmp, uint64_t wait_ns, const char *program, luio_error *err);
/* Says hello, and starts the thread that takes changes of interrupt lines. */
int luio_qemu_bus_start(luio_qemu *q, luio_error *err);
void luio_qemu_bus_stop(luio_qemu *q);
/* In a forked child, where the thread is not, and the lock may be held for ever. Every access fails. */
void luio_qemu_bus_forked(luio_qemu *q);
/* Counts the interrupts of the function whose config space is at ecam on fd. ENOSPC */
int luio_qemu_listen(luio_qemu *q, uint64_t ecam, int fd, luio_error *err);
void luio_qemu_leave(luio_qemu *q, int fd);

/* With the bus's lock held: for luio_qemu_changes. */
void luio_qemu_tell(luio_qemu *q, unsigned change);
/* The bus's lock. The end of it takes interrupts that came meanwhile. */
void luio_qemu_bus_begin(luio_qemu *q);
void luio_qemu_bus_end(luio_qemu *q);
/* With the lock held: as luio_qemu_read where `to` is given, else as luio_qemu_write. */
int luio_qemu_transfer(luio_qemu *q, enum luio_qemu_space space, uint64_t addr, unsigned width,
                       void *to, const void *from, uint64_t n);

/* region_qemu.c. After an access: whether it came too late, as the device was unplugged. */
static inline bool luio_qemu_unplugged(const struct luio_qemu_own *o)
{
  return o->function && o->function->pulled != o->pulled;
}
extern const struct luio_region_ops luio_qemu_memory_ops, luio_qemu_port_ops;

/* qemu_lines.c, with the bus's lock held. Line n has risen, or fallen. */
void luio_qemu_line_moved(luio_qemu *q, unsigned n, bool high);
/* Counts the interrupts of line n on fd. -EBUSY, -EINVAL */
int luio_qemu_line_open(luio_qemu *q, unsigned n, bool edge, int fd);
void luio_qemu_line_close(luio_qemu *q, unsigned n);
/* Whether it was high just before. */
bool luio_qemu_line_on(luio_qemu *q, unsigned n);
void luio_qemu_line_off(luio_qemu *q, unsigned n);

/* qemu_hotplug.c. Whether a port has a slot that can do it, by its capability; taken: a device is in it. Any thread, without
 * a lock. */
bool luio_qemu_slot_usable(luio_qemu *q, uint64_t capability, bool taken);
/* With the bus's lock held. */
void luio_qemu_slot_add(luio_qemu *q, const struct luio_qemu_slot *slot);
/* Whether something had happened in a slot; it is dealt with. */
bool luio_qemu_slots_look(luio_qemu *q);

/* qemu_pci.c. Numbers the buses and places the BARs; those of devices that were plugged in since. Any thread, without a lock. */
int luio_qemu_enumerate(luio_qemu *q, luio_error *err);
int luio_qemu_settle(luio_qemu *q, luio_error *err);

/* qemu_doorbell.c. The server's end, with all that QEMU reads before it is there; *theirs is for QEMU. -errno */
int luio_doorbell_start(struct luio_doorbell *b, int *theirs);
/* Of a QEMU that a process before this one had started: none of its eventfds counts any more. -errno */
int luio_doorbell_resume(struct luio_doorbell *b);
/* When the machine's devices are placed. */
int luio_doorbell_find(luio_qemu *q, luio_error *err);
/* n numbers, a power of two, the first of which is a multiple of it. The first; -errno */
int luio_doorbell_take(luio_qemu *q, unsigned n, luio_error *err);
/* No message is aimed at them any more. */
void luio_doorbell_release(luio_qemu *q, unsigned first, unsigned n);
/* The eventfd of a number that was taken. */
int luio_doorbell_fd(luio_qemu *q, unsigned number);
void luio_doorbell_forked(struct luio_doorbell *b);
void luio_doorbell_close(struct luio_doorbell *b);

/* qemu_messages.c */
extern const struct luio_message_ops luio_qemu_message_ops;

/* qemu.c */

/* Takes a function for a device, which has a share of the machine then. -ENODEV, -EBUSY */
int luio_qemu_take(luio_qemu *q, unsigned bus, unsigned devfn, struct luio_qemu_function **out);
/* The end of that. */
void luio_qemu_let_go(luio_qemu *q, struct luio_qemu_function *f);
/* The same of a device of the device tree, by the address of its first registers. -EBUSY, -ENOSPC */
int luio_qemu_take_node(luio_qemu *q, uint64_t addr);
void luio_qemu_let_node_go(luio_qemu *q, uint64_t addr);
/* Memory for DMA: whole chunks below mask, for an owner, which is not 0; *addr is the address that devices see. -ENOMEM, -ERANGE */
int luio_qemu_memory_take(luio_qemu *q, uint16_t owner, uint64_t size, uint64_t align,
                          uint64_t mask, uint64_t *addr);
/* Whole chunks are in use by owner, whatever they were before. */
void luio_qemu_memory_claim(luio_qemu *q, uint16_t owner, uint64_t addr, uint64_t size);
/* Frees the owner's, but those to be kept. */
void luio_qemu_memory_forget(luio_qemu *q, uint16_t owner,
                             bool (*keep)(const void *of, uint64_t addr), const void *of);
void luio_qemu_memory_release(luio_qemu *q, uint64_t addr, uint64_t size);

#endif
