/* luio.h - the C side of luio: devices, registers, interrupts and DMA memory for user space.
 *
 * This file, with those that it includes, is three things at once: the public header of libluio, its documentation, and (run
 * through the preprocessor at build time) the text that LuaJIT's ffi.cdef reads, so that C and Lua
 * can't disagree about a structure.
 *
 * The picture
 *
 *   luio_list      lists the devices (libudev)          luio_monitor   hot-plug events
 *   luio_device    one opened device; owns all of the below
 *     luio_region    a span of its memory or I/O ports, read and written exactly
 *     config space   PCI command register: bus master, INTx mask
 *     luio_irq       one thread per interrupt source, and the ring of events it fills
 *     luio_dma       memory the device can reach, with the addresses it sees (IOVA)
 *   luio_sim       a model's side of a simulated device (luio_sim.h)
 *   luio_qemu      a QEMU machine whose devices are opened, without a guest (luio_qemu.h)
 *   luio_guard     the guardian of the process, which stops its devices when it dies (luio_process.h)
 *   luio_porter    connections of processes that are not trusted (luio_porter.h)
 *
 * Conventions
 *
 *   Errors     Functions that can fail return 0 (or a count) on success and -errno on failure, and
 *              fill *err with a sentence: what was tried, what came back, what to do. err may be
 *              NULL. The library never prints and never exits.
 *   Ownership  *_open gives a handle, *_close takes it back; closing NULL is fine. All that a device
 *              owns (regions, its DMA buffers) dies with it and is never freed by the caller.
 *   Threads    A handle belongs to one thread unless its group says otherwise. Accessors, fences,
 *              luio_region_read/write, luio_unmask and luio_bus_master may be called from any.
 *   Time       Nanoseconds of CLOCK_MONOTONIC. No call blocks without a limit; each says its own.
 *   Widths     In bits: 8, 16, 32, 64. Sizes, offsets and alignments in bytes.
 */
#ifndef LUIO_H
#define LUIO_H

#ifdef LUIO_CDEF
#define LUIO_API
#else
#include <stddef.h>
#include <stdint.h>
#define LUIO_API __attribute__((visibility("default")))
#ifdef __cplusplus
extern "C" {
#endif
#endif

/* ---- Version --------------------------------------------------------------------------------- */

/* Raised whenever a structure or a signature below changes; lua/luio/ffi.lua refuses another. */
enum { LUIO_ABI = 14 };

LUIO_API unsigned luio_abi(void);        /* LUIO_ABI, as the library was built with it */
LUIO_API const char *luio_version(void); /* "0.1.0" */
LUIO_API const char *luio_cdef(void);    /* this header, preprocessed, for ffi.cdef */
LUIO_API uint64_t luio_now(void);        /* CLOCK_MONOTONIC in ns */

/* ---- Errors ---------------------------------------------------------------------------------- */

typedef struct luio_error {
  int code; /* errno value, positive */
  char message[1020];
} luio_error;

/* Whether n more descriptors (64 at most) can be had now. Asked before what does not say that there are
 * none: it would abort, or take files for missing. EMFILE, ENFILE: `what` failed for that. */
LUIO_API int luio_need_descriptors(unsigned n, const char *what, luio_error *err);
/* The symbolic name of an errno value ("EBUSY"), static; "E?" for one unknown to the C library. */
LUIO_API const char *luio_errno_name(int code);
/* Why a file of the kernel can't be written by anybody here, and what to do: its file system is mounted read-only, as /sys is in
 * most containers. Static text. NULL: it is not, or there is no such file. Any thread. */
LUIO_API const char *luio_read_only(const char *path);

/* ---- Discovery -------------------------------------------------------------------------------
 * One luio_info describes one device: a UIO device with its parent, or a PCI device that has no
 * UIO driver yet. It is plain data, copied out of sysfs at the moment of listing; a device may be
 * gone a moment later, opening it will say so. Nothing here opens /dev/uioX: closing that again
 * would switch off another process's DMA (uio_pci_generic clears bus master on every close).
 *
 * sysfs is kernel data but reaches us as text. A field that is missing, malformed or contradictory is
 * left out and named in `problem`; a broken device never hides the others. */

enum {
  LUIO_MAX_MAPS = 5, /* MAX_UIO_MAPS, MAX_UIO_PORT_REGIONS: include/linux/uio_driver.h */
  LUIO_MAX_PORTS = 5,
  LUIO_MAX_BARS = 6,
  LUIO_MAX_REGIONS = LUIO_MAX_MAPS + LUIO_MAX_PORTS
};

typedef struct luio_map { /* /sys/class/uio/uioN/maps/mapN */
  int present;
  char name[64];
  uint64_t addr;   /* bus address, with the sub-page offset included as the kernel gives it */
  uint64_t size;   /* bytes, as the kernel states it: often rounded up to pages */
  uint64_t offset; /* of the first byte within its first page */
  uint64_t length; /* bytes from there on: to the end of its pages, or what the device tree says */
  int at_open;     /* memory that the UIO driver allocates when it is opened and frees when it is
                      closed (uio_dmem_genirq); until then addr is 0 */
} luio_map;

typedef struct luio_port { /* /sys/class/uio/uioN/portio/portN */
  int present;
  char name[64];
  uint64_t start, size;
  char porttype[16]; /* "port_x86", "port_gpio", ... */
} luio_port;

enum { LUIO_BAR_NONE, LUIO_BAR_MEM, LUIO_BAR_IO };

/* The abilities of a way to a device. A caller tests these, not the name of a bus. Each is an ability of the way; the
 * call itself may still fail for this device, this kernel or this process. */
enum {
  LUIO_HAS_SYSFS = 1,      /* the kernel knows the device: it has a directory in sysfs, ids or names
                              that a driver can match, and events when it comes and goes */
  LUIO_HAS_CONFIG = 2,     /* luio_config_*, luio_bus_master, luio_config_check */
  LUIO_HAS_BARS = 4,       /* region N is BAR N */
  LUIO_HAS_INTERRUPTS = 8, /* luio_device_irq */
  LUIO_HAS_DMA = 16,       /* luio_device_dma */
  LUIO_CAN_LEAVE = 32,     /* it can go away while it is open, and come back */
  LUIO_CAN_BIND = 64       /* its kernel driver can be exchanged, by driver_override */
};

typedef struct luio_bar { /* a line of the PCI device's `resource` file */
  int kind;
  uint64_t addr, size, flags; /* flags: IORESOURCE_*, include/linux/ioport.h */
  int prefetchable, is64;
  int map; /* the UIO map that is this BAR, matched by address; -1: none */
} luio_bar;

typedef struct luio_info {
  char address[64];  /* how to open it: "0000:00:04.0", "uio3" when it is not on PCI, or
                        "mem:0xfea00000+0x1000" */
  char uio[32];      /* "uio3"; empty: no UIO driver is bound */
  char uio_name[64]; /* the UIO driver's name for itself, e.g. "uio_pci_generic" */
  char uio_version[32];
  uint64_t event; /* interrupts counted since the UIO driver was bound */
  char bus[16];   /* for people: "pci", "platform", ... of the parent; empty: none; "mem", "sim" */
  char node[32];  /* the device node that leads to it: "/dev/uio3", "/dev/mem"; empty: none */
  unsigned capabilities; /* LUIO_HAS_*, LUIO_CAN_* */
  char driver[64]; /* kernel driver bound to the parent, or that claims the range; empty: none */
  char sysfs[256]; /* the parent's directory, or the UIO device's where there is no parent */
  char compatible[256]; /* platform: device-tree compatible strings, space separated */
  char vendor_name[128], device_name[128]; /* from the hardware database; may be empty */
  uint32_t vendor, device, subvendor, subdevice, class_code, revision;
  int irq;        /* the parent's INTx line; 0: none */
  int numa_node;  /* -1: unknown */
  int incoherent; /* its DMA does not look into the CPU's caches, as a device tree says by not saying
                     dma-coherent: ordinary memory won't do. Never on x86-64 */
  int shared_bars; /* udev's rules say LUIO_SHARED_BARS=1: luio_device_bars leaves them alone */
  int n_maps, n_ports;
  luio_map maps[LUIO_MAX_MAPS];
  luio_port ports[LUIO_MAX_PORTS];
  luio_bar bars[LUIO_MAX_BARS];
  char problem[256]; /* faults in its description; empty: none */
} luio_info;

typedef struct luio_list luio_list;

/* Lists the present devices. ENOMEM, or libudev's error. The caller owns the list. */
LUIO_API int luio_list_open(luio_list **out, luio_error *err);
LUIO_API size_t luio_list_count(const luio_list *list); /* devices in it */
/* Valid until the list is closed; NULL when i is out of range. PCI devices first, then the rest by number. */
LUIO_API const luio_info *luio_list_get(const luio_list *list, size_t i);
LUIO_API void luio_list_close(luio_list *list);

/* One device by its address ("uio0", "0000:00:04.0", "mem:0xfea00000+0x1000"). ENODEV: there is none
 * of that name; EINVAL: that is not an address. A range of physical addresses is always found: it has
 * one map, which is the range, named as in /proc/iomem; `problem` says why it can't be had. */
LUIO_API int luio_find(const char *address, luio_info *out, luio_error *err);

/* Hot-plug. fd becomes readable (level) when luio_monitor_next has something. */
typedef struct luio_monitor luio_monitor;

typedef struct luio_hotplug {
  char action[16];    /* "add", "remove", "bind", "unbind", "change" */
  char subsystem[16]; /* "uio" or "pci" */
  char address[64];   /* "uio0", "0000:00:04.0" */
  char driver[64];    /* bound driver, where the event tells */
  uint64_t time_ns;   /* when it was taken from the socket */
} luio_hotplug;

/* Listens from now on. The monitor is the caller's, and belongs to one thread. */
LUIO_API int luio_monitor_open(luio_monitor **out, luio_error *err);
LUIO_API int luio_monitor_fd(const luio_monitor *monitor); /* the monitor's; to poll, not to read */
/* 1: *out is filled; 0: nothing waits; -ENOBUFS: the socket overflowed and events were lost: list
 * again. Never blocks. */
LUIO_API int luio_monitor_next(luio_monitor *monitor, luio_hotplug *out, luio_error *err);
LUIO_API void luio_monitor_close(luio_monitor *monitor);

/* ---- Exact accessors -------------------------------------------------------------------------
 * Each is one load or store of that width, in program order: they are not inlined, so neither the
 * C compiler of a caller nor LuaJIT's (which ignores volatile) can merge, repeat or drop one.
 * No checks: `p` must be a mapped, aligned address. Any thread. */

/* One access of 8, 16, 32 or 64 bits. */
LUIO_API uint8_t luio_read8(const volatile void *p);
LUIO_API uint16_t luio_read16(const volatile void *p);
LUIO_API uint32_t luio_read32(const volatile void *p);
LUIO_API uint64_t luio_read64(const volatile void *p);
LUIO_API void luio_write8(volatile void *p, uint8_t value);
LUIO_API void luio_write16(volatile void *p, uint16_t value);
LUIO_API void luio_write32(volatile void *p, uint32_t value);
LUIO_API void luio_write64(volatile void *p, uint64_t value);

/* The same with the bytes reversed: for a device of the other endianness. */
LUIO_API uint16_t luio_read16_swapped(const volatile void *p);
LUIO_API uint32_t luio_read32_swapped(const volatile void *p);
LUIO_API uint64_t luio_read64_swapped(const volatile void *p);
LUIO_API void luio_write16_swapped(volatile void *p, uint16_t value);
LUIO_API void luio_write32_swapped(volatile void *p, uint32_t value);
LUIO_API void luio_write64_swapped(volatile void *p, uint64_t value);

/* Copies and fills for uncached memory: aligned accesses of 8 or 32 bits each way, none twice. The
 * C library's may use others, and instructions that such memory does not take (arm64: dc zva). */
LUIO_API void luio_copy_in(volatile void *to, const void *from, uint64_t size);
LUIO_API void luio_copy_out(void *to, const volatile void *from, uint64_t size);
LUIO_API void luio_fill(volatile void *to, uint8_t value, uint64_t size);

/* Fences for rings in DMA memory. A call through FFI also stops LuaJIT from keeping or moving
 * loads and stores across it.
 *   doorbell: earlier stores to memory are visible to the device before the register write that
 *             follows. x86-64: a compiler barrier; arm64: dmb oshst.
 *   flag:     no later load is done before the load of the flag, and no later store is visible before
 *             the earlier loads are done. x86-64: a compiler barrier; arm64: dmb oshld.
 *   full:     earlier stores are visible before any later load: for two sides that each write a
 *             word and then read the other's (an index, and a flag that the other side waits).
 *             x86-64: mfence, because a load may pass an earlier store; arm64: dmb osh.
 * (the reasoning: rdma-core util/udma_barrier.h) */
LUIO_API void luio_fence_doorbell(void);
LUIO_API void luio_fence_flag(void);
LUIO_API void luio_fence_full(void);

/* ---- Regions ---------------------------------------------------------------------------------
 * One type for every kind of device memory. Numbered as the hardware does: on PCI region N is
 * BAR N, however it is reached (a UIO map, port instructions, or sysfs resourceN); elsewhere region N
 * is UIO map N, and the ports follow the last map: a device with none has port N as region N. Of a
 * range of physical addresses region 0 is the range. */

enum { LUIO_REGION_MEMORY, LUIO_REGION_PORT, LUIO_REGION_SIM, LUIO_REGION_QEMU };

typedef struct luio_region luio_region;

/* A region's properties, from any thread. */
LUIO_API int luio_region_kind(const luio_region *region);         /* LUIO_REGION_* */
LUIO_API uint64_t luio_region_size(const luio_region *region);    /* bytes that exist, not pages */
LUIO_API uint64_t luio_region_addr(const luio_region *region);    /* bus address or first port */
LUIO_API int luio_region_writable(const luio_region *region);     /* 0: every write is refused */
LUIO_API const char *luio_region_name(const luio_region *region); /* "BAR0 by uio0 map0" */
/* First byte of a memory region, NULL for the other kinds. Valid until the device is closed. */
LUIO_API volatile void *luio_region_base(const luio_region *region);

/* One checked access of any kind of region: -ERANGE outside, -EINVAL for a width that does not
 * exist or a misaligned offset, -EACCES for a write to a read-only region, -EPERM where this thread
 * may not use the ports (asked for by CAP_SYS_RAWIO), -EIO when a port access or a model fails,
 * -ETIMEDOUT when a model does not answer within 2 s, -ENODEV when the device is gone, also when it
 * goes during the access. Any thread. */
LUIO_API int luio_region_read(luio_region *region, uint64_t offset, unsigned width, uint64_t *value,
                              luio_error *err);
LUIO_API int luio_region_write(luio_region *region, uint64_t offset, unsigned width, uint64_t value,
                               luio_error *err);
/* n accesses of one register, one after the other, into or from an array of that width, to empty or
 * fill a FIFO. Each is an access as above; the first failure ends the call. */
LUIO_API int luio_region_read_many(luio_region *region, uint64_t offset, unsigned width, void *to,
                                   uint64_t n, luio_error *err);
LUIO_API int luio_region_write_many(luio_region *region, uint64_t offset, unsigned width,
                                    const void *from, uint64_t n, luio_error *err);

/* ---- Devices --------------------------------------------------------------------------------- */

typedef struct luio_device luio_device;
typedef struct luio_sim luio_sim;

enum {
  LUIO_READ_ONLY = 1, /* map read-only, refuse every write, leave /dev/uioX of PCI devices alone */
  LUIO_SHARED = 2     /* beside the process that drives it: no lock, and of PCI devices the BARs
                         only. Closing /dev/uioX would clear the other's bus master. No interrupts */
};

/* Opens by address ("uio0", "0000:00:04.0", or "mem:0xADDR+0xLEN" for a range of physical addresses by
 * /dev/mem: as root, one region, no interrupt, no DMA; runtime/backend_mem.c). Takes an advisory lock, so that two luio processes
 * do not drive one device. Touches no register, does not unmask, does not enable bus master.
 *   ENODEV  no such device          EBUSY  a kernel driver or another luio process has it
 *   EACCES  no permission for a file; the message names it and the remedy
 *   EPERM   mem: RAM; lockdown or CONFIG_STRICT_DEVMEM forbid it */
LUIO_API int luio_device_open(const char *address, unsigned flags, luio_device **out,
                              luio_error *err);
/* The device whose registers `sim`'s model answers. The sim must outlive it. */
LUIO_API int luio_device_open_sim(luio_sim *sim, const char *name, unsigned flags,
                                  luio_device **out, luio_error *err);
LUIO_API const luio_info *luio_device_info(const luio_device *device);

/* Maps region `index` on first use. ENOENT: the device has no such region; others: it is there, and can't be opened or
 * mapped (EINVAL: claimed by a kernel driver, or no whole pages). Owned by the device. */
LUIO_API int luio_device_region(luio_device *device, unsigned index, luio_region **out,
                                luio_error *err);

/* In this order: interrupt threads stop, bus master off and read back, regions unmapped, DMA
 * memory released, files closed. -ETIMEDOUT when a thread did not stop within 3 s: everything it
 * could still touch is left in place (leaked on purpose) and the handle stays valid. */
LUIO_API int luio_device_close(luio_device *device, luio_error *err);

/* ---- Devices that go away --------------------------------------------------------------------
 * After a removal or an unbind the kernel leaves old mappings in place. After an unbind they still
 * reach the device, which may have another driver by then. So the first part of the program that
 * detects the removal declares the device gone. The device may return later as the same handle.
 * Regions, DMA buffers and references to them stay valid all the while. */

/* 1: it is there, as far as can be told without touching its registers (a poll of /dev/uioX, which
 * an unbind kills for good; a config read); 0: it is gone. From the owner's thread. */
LUIO_API int luio_device_present(luio_device *device);

/* Declares it gone. Placeholder memory replaces every mapped region: it reads all ones, as a
 * missing PCI device does, and writes to it are lost. Each page is replaced atomically: an access
 * of another thread (a top half) reaches the device or the placeholder, never an unmapped page. The
 * descriptors of config space and I/O ports are redirected to /dev/null. From the owner's thread;
 * may be called again. */
LUIO_API void luio_device_gone(luio_device *device);

/* Reopens a device that was gone and is back. It is found by its PCI address, or off PCI by its
 * parent's path in sysfs, not by its uio number; a range of physical addresses is back when no driver
 * claims it any more. Open regions are mapped again, and may have moved (base, addr, name). Touches
 * no register. DMA buffers are unchanged; bus master is off. Its interrupts must be closed: EBUSY.
 *   ENODEV  not there (yet), or without a UIO driver although it had one, or another device
 *   else    as luio_device_open; it stays gone then. From the owner's thread. */
LUIO_API int luio_device_return(luio_device *device, luio_error *err);

/* 1: this region's device is gone. Any thread. A read that gives all ones should ask. */
LUIO_API int luio_region_gone(const luio_region *region);
/* Offset of the access that raised SIGBUS; UINT64_MAX: none did. SIGBUS inside a region is caught:
 * the placeholder comes in, and the access completes with all ones. Outside of regions it goes to
 * the handler that was there before. A thread that accesses regions must not block SIGBUS. */
LUIO_API uint64_t luio_region_fault(const luio_region *region);

/* ---- Config space (PCI) ----------------------------------------------------------------------
 * Little-endian, one access of 8, 16 or 32 bits. ENOTSUP: not a PCI device. Any thread. */

/* One access at a byte offset, which is a multiple of the width. */
LUIO_API int luio_config_read(luio_device *device, unsigned offset, unsigned width, uint32_t *value,
                              luio_error *err);
LUIO_API int luio_config_write(luio_device *device, unsigned offset, unsigned width, uint32_t value,
                               luio_error *err);

/* The settings in config space that another process can change under a running driver. The wanted values are those
 * at opening, updated by this process's writes: bus master and the mask by the calls below, all by
 * luio_config_write. */
enum {
  LUIO_WRONG_BUS_MASTER = 1, /* closing any descriptor of /dev/uioX clears it, too */
  LUIO_WRONG_MEMORY = 2,   /* memory BARs were not decoded: reads gave all ones, writes were lost */
  LUIO_WRONG_PORTS = 4,    /* the same of I/O BARs */
  LUIO_WRONG_BARS = 8,     /* BARs were elsewhere: the same */
  LUIO_WRONG_INTX = 16,    /* interrupts were masked; one that waits comes now */
  LUIO_WRONG_MSI = 32,     /* MSI or MSI-X was on: interrupts went out as writes to memory */
  LUIO_WRONG_POWER = 64,   /* it was not in D0 */
  LUIO_WRONG_KINDS = 7,    /* so many of them, from bit 0 on */
  LUIO_WRONG_FORGOT = 128, /* with POWER: it is as after a reset. Bus master is off */
  LUIO_WRONG_VECTORS = 1024, /* messages (MSI, MSI-X) were off: those meanwhile are lost */
  LUIO_WRONG_GIVEN = 512,    /* the registers' files were given to others: bus master is off, until
                                luio_device_bars says that they are ours and the caller switches it on */
  LUIO_WRONG_AGAIN = 256 /* look again in 20 ms or more: the interrupt is masked, perhaps because
                                the kernel has not said yet that one came; or one is being taken, so
                                that nothing can be said of the mask */
};
/* Compares with the wanted values and repairs differences. 0: no difference; 1: repaired, *wrong has
 * the differences (AGAIN may be set either way); -EIO: the repair did not last; -errno. A few config
 * reads; 10 ms after POWER. From the owner's thread. */
LUIO_API int luio_config_check(luio_device *device, unsigned *wrong, luio_error *err);

/* Bus master (command register bit 2): whether the device may read and write memory. Off is read
 * back, so that earlier writes of the device have arrived when this returns. Devices that are not
 * on PCI have no such switch: ENOTSUP. On does luio_device_bars before. */
LUIO_API int luio_bus_master(luio_device *device, int on, luio_error *err);

/* For root: makes the files of a PCI device's registers (resourceN, /dev/uioX) private to one user until the device
 * is closed, because any other writer could make the device write to any memory. user: the name, NULL: the user of
 * the call before, or root. Processes that have them open or mapped keep them; the caller looks for those, between
 * this and bus master. 1: they are private; 2: they are private now, and were not all the time since the call
 * before; 0: not for this device or this process; -EPERM: they are not private, and this process has given root up;
 * -errno. */
LUIO_API int luio_device_bars(luio_device *device, const char *user, luio_error *err);

/* Lets a vector's next interrupt through. INTx: the way this device's UIO driver wants it: uio_pci_generic by a
 * 2-byte config write that clears INTX_DISABLE, others by writing 1 to /dev/uioX (irqcontrol). Messages: those that
 * came while the vector was masked, too. */
LUIO_API int luio_unmask(luio_device *device, unsigned vector, luio_error *err);
/* Keeps a vector's interrupts away. INTx: by INTX_DISABLE, or by writing 0; a top half that unmasks would undo it.
 * Messages: they wait, in the device where it has a mask for the vector, else here.
 * ENOSYS: the UIO driver can't. Any thread, as the one above. */
LUIO_API int luio_mask(luio_device *device, unsigned vector, luio_error *err);

/* ---- Interrupts ------------------------------------------------------------------------------
 * luio_irq_open starts one thread that waits on one file descriptor. When it becomes readable the
 * thread runs the *top half*, a short list of register operations, then puts an event into a ring
 * and signals the wake descriptor. One thread (Lua's) takes events out again. The ring has one
 * producer at a time and one consumer; runtime/irq_ring.c writes down its memory order.
 *
 * A consumer that sleeps in epoll_wait (an event loop) can have luio_irq_share spare it the second
 * wake-up: an interrupt that finds it asleep wakes it and not the thread, and it does the thread's
 * work itself, by luio_irq_take. */

/* A PCI device's interrupts are one line (INTx), or messages: each a memory write of the device that names one of several
 * vectors. It is INTx from the opening on; all vectors change at once. (PCI Local Bus 3.0, 2.2.6, 6.8) */
enum { LUIO_INTX, LUIO_MSI, LUIO_MSIX, LUIO_KINDS };

typedef struct luio_vectors {
  int kind; /* in use: LUIO_INTX, ... Off PCI the one interrupt that there is counts as INTx */
  unsigned count;           /* vectors that luio_device_irq has, from 0 on */
  unsigned has[LUIO_KINDS]; /* the device's, as it says in config space */
  int messages;             /* whether they can be had the way it was opened */
} luio_vectors;

/* What it has, and uses. A few config reads. From the owner's thread. */
LUIO_API int luio_device_vectors(luio_device *device, luio_vectors *out, luio_error *err);
/* Changes to another kind, with all vectors that the device has of it. The new ones are masked until luio_irq_open. INTx is
 * off while messages are on, and the other way round. Messages need bus master, which is the caller's to switch on.
 *   EBUSY    interrupts are open           ENOENT  the device has none of that kind
 *   ENOTSUP  the way it was opened has INTx alone; the message says why */
LUIO_API int luio_device_set_vectors(luio_device *device, int kind, luio_error *err);

enum {
  LUIO_IRQ_UIO,    /* read() gives a 4-byte running count, subtracted unsigned */
  LUIO_IRQ_EVENTFD /* read() gives an 8-byte count since the last read */
};

enum {
  LUIO_IRQ_CAPTURES = 4, /* register values an event can carry */
  LUIO_IRQ_OPS = 16,     /* steps a top half can have */
  LUIO_IRQ_MAX_CAPACITY = 1 << 20
};

/* One step. READ: value[slot] = register. WRITE: register = constant. COPY: register =
 * (value[slot] & mask) | constant, e.g. to acknowledge just what was seen. UNMASK: luio_unmask; the
 * last step. */
enum { LUIO_OP_READ, LUIO_OP_WRITE, LUIO_OP_COPY, LUIO_OP_UNMASK };

typedef struct luio_irq_op {
  int op;
  unsigned width;
  unsigned slot;
  luio_region *region;
  uint64_t offset;
  uint64_t value, mask;
} luio_irq_op;

typedef struct luio_irq_config {
  int source;          /* LUIO_IRQ_UIO or LUIO_IRQ_EVENTFD */
  int fd;              /* borrowed: must stay open until luio_irq_close; closing is the owner's */
  luio_device *device; /* for UNMASK and for error messages; may be NULL when no op needs it */
  unsigned vector;     /* of the device */
  int messages;        /* 1: each count is a message, and nothing masks the source when one comes */
  uint32_t baseline;   /* UIO: the running count so far */
  unsigned n_ops;
  luio_irq_op ops[LUIO_IRQ_OPS];
  unsigned capacity; /* events the ring holds, a power of two; 0: 1024 */
  int priority;      /* 1..99: SCHED_FIFO; 0: normal */
  int cpu;           /* run only there; -1: anywhere */
  int unpaced;       /* 1: a storm is reported, but not throttled */
} luio_irq_config;

enum {
  LUIO_EVENT_GONE = 1,  /* the source failed (device removed): the last event of this thread */
  LUIO_EVENT_FAILED = 2 /* a top-half step failed; see luio_irq_error */
};

typedef struct luio_irq_event {
  uint64_t time_ns; /* when the count was taken */
  uint64_t count;   /* interrupts since the event before (a masking driver gives 1) */
  uint64_t value[LUIO_IRQ_CAPTURES];
  uint64_t overflow; /* interrupts lost to a full ring between the event before and this one */
  uint32_t flags;    /* LUIO_EVENT_* */
  uint32_t code;     /* errno behind the flags */
  uint32_t epoch;    /* the top half that filled value[]: 0, and one more for each
                        luio_irq_set_top_half */
  uint32_t news; /* of storms, when the event was taken out: luio_irq_storm has the same count */
} luio_irq_event;

typedef struct luio_irq_stats {
  uint64_t interrupts; /* counted by the source */
  uint64_t delivered;  /* of those, put into the ring */
  uint64_t overflow;   /* of those, lost because the ring was full: delivered + overflow =
                          interrupts, once the thread is idle or stopped */
  uint64_t events;     /* entries put into the ring */
  uint64_t direct;     /* of the interrupts, taken by luio_irq_take, not by the thread */
} luio_irq_stats;

/* An interrupt storm: the source fires again at once after the acknowledgement, which does not clear its line
 * (runtime/storm.c). */
typedef struct luio_irq_storm {
  uint64_t number;   /* so many since luio_irq_open; 0: none, and all else is 0 */
  uint64_t begun_ns; /* the last of them */
  uint64_t ended_ns; /* 0: it goes on */
  uint64_t interrupts;
  uint64_t rate;                     /* interrupts a second, until it was named */
  uint64_t value[LUIO_IRQ_CAPTURES]; /* captured, each time */
  uint64_t pause_ns; /* the source stays masked so long after each; 0: it does not */
  uint32_t epoch;    /* of the values */
  int seen;          /* 1: the line was held each time; 0: it came again too soon, each time */
  uint32_t news;     /* beginnings and ends of storms since luio_irq_open; wraps */
} luio_irq_storm;

typedef struct luio_irq luio_irq;

/* Fills source, fd, device, vector and messages of *config for one of the device's vectors (0: INTx, the UIO interrupt),
 * and everything else with its default. ENOENT: no such vector; ENOTSUP: it has no interrupt; EINVAL: messages, with bus master
 * off. */
LUIO_API int luio_device_irq(luio_device *device, unsigned vector, luio_irq_config *config,
                             luio_error *err);
/* Unmasks once (if an UNMASK op is there) and starts the thread. */
LUIO_API int luio_irq_open(const luio_irq_config *config, luio_irq **out, luio_error *err);
/* Exchanges the top half (n_ops and ops of *config; the rest is not looked at) between two
 * interrupts: none is taken by half of each. Where the old one had left the source masked and the new
 * one unmasks, does so, and a line that is still asserted fires. *epoch: of the events from now on.
 * One thread at a time. */
LUIO_API int luio_irq_set_top_half(luio_irq *irq, const luio_irq_config *config, uint32_t *epoch,
                                   luio_error *err);
/* Events that wait in the ring. Any thread. */
LUIO_API uint64_t luio_irq_waiting(const luio_irq *irq);
/* Readable (level) while events may wait. Cleared by luio_irq_next when it finds none. */
LUIO_API int luio_irq_fd(const luio_irq *irq);
/* Takes the oldest event out of the ring: 1, or 0 when there is none. Never blocks. One consumer thread. */
LUIO_API int luio_irq_next(luio_irq *irq, luio_irq_event *out);
LUIO_API void luio_irq_get_stats(const luio_irq *irq, luio_irq_stats *out); /* any thread */
/* The last storm. Any thread; waits for nothing but its like. */
LUIO_API void luio_irq_get_storm(luio_irq *irq, luio_irq_storm *out);
/* Readable when a storm has begun or ended since luio_irq_get_storm. */
LUIO_API int luio_irq_storm_fd(const luio_irq *irq);

/* Adds the source to the epoll set that the consumer sleeps in, as an event whose data.fd is
 * luio_irq_fd: whether that descriptor or the source is readable, the same is to be done:
 * luio_irq_take. The set is borrowed, until unshare or close. From the consumer's thread, as
 * the three below. -ENOTSUP: the thread keeps it to itself, because the config has a priority or
 * cpu, or fd is blocking; -errno: epoll does not take it. Nothing is wrong then but the speed. */
LUIO_API int luio_irq_share(luio_irq *irq, int epoll_fd);
LUIO_API void luio_irq_unshare(luio_irq *irq);
/* Takes what a shared source has, never blocking on it, and runs the top half. Then takes the oldest event out of the ring,
 * which is the interrupt's own if none waited there. 0: there is none; 1: it was the only one; 2: others are left in the
 * ring. luio_irq_fd does not become readable for those; luio_irq_publish makes it so, if they are not taken at once. */
LUIO_API int luio_irq_take(luio_irq *irq, luio_irq_event *out);
LUIO_API void luio_irq_publish(luio_irq *irq);

/* The message of the first failed step, or of the failed source; empty: nothing failed. Valid after an
 * event with flags was taken. */
LUIO_API const char *luio_irq_error(const luio_irq *irq);
/* Stops the thread, joins it within timeout_ns, frees. -ETIMEDOUT: it still runs and nothing was
 * freed (a top half is stuck in a device access); call again. */
LUIO_API int luio_irq_close(luio_irq *irq, uint64_t timeout_ns, luio_error *err);

/* ---- DMA memory ------------------------------------------------------------------------------
 * Buffers are carved from shared hugepages (memfd, close-on-exec, not inherited by fork). Each is
 * contiguous as the device sees it. Where no hugepage can be had, a buffer of at most one 4 KiB
 * page comes from a locked page instead; luio_dma_warning says so.
 *
 * On real devices the IOVA is the physical address, from /proc/self/pagemap. That needs
 * CAP_SYS_ADMIN, no translating IOMMU, and memory that stays where it is: mlock is not a pin, so pages
 * are pinned through io_uring (dma_pin.c). Where that is forbidden luio_dma_warning says so, and
 * luio_dma_check, called once a second, ends what the kernel moved. On simulated devices the IOVA is
 * given out by luio.
 *
 * A device whose UIO driver brings memory (luio_map.at_open) has all of its DMA memory there: the
 * kernel's allocator has made it fit for DMA, also where the device does not look into the CPU's
 * caches, and its address is the one for the device. It is mapped uncached, and goes when /dev/uioX
 * is closed: no name of a buffer outlives the process.
 *
 * Freed buffers go back to luio, not to the kernel; memory returns to the kernel only when the
 * device is closed, after bus master is off. Any thread. */

typedef struct luio_dma luio_dma;

typedef struct luio_dma_buffer {
  void *addr;
  uint64_t iova;      /* the device's address of it */
  uint64_t size;      /* as asked for */
  uint64_t page_size; /* 2 MiB, 1 GiB, 4 KiB for the fallback; of a region all of it */
  luio_dma *owner;
  void *page;        /* private */
  uint64_t reserved; /* private */
  int kept;          /* left by a previous worker: contents and iova are unchanged */
  int uncached;      /* reach it by luio_copy_in and the like, or by aligned accesses: memcpy may
                        not be used on memory that arm64 takes for a device's */
} luio_dma_buffer;

/* The device's DMA memory, made on first use; owned by the device. Refuses with the remedy:
 *   EPERM    physical addresses are hidden (CAP_SYS_ADMIN)
 *   ENOTSUP  an IOMMU translates for this device: physical addresses would be wrong; or it does not
 *            look into the CPU's caches, as its device tree says or leaves unsaid (not on x86-64) */
LUIO_API int luio_device_dma(luio_device *device, luio_dma **out, luio_error *err);

/* size: 1 byte .. 1 GiB; align: a power of two, 0 for 64; mask: highest address the device can
 * drive, e.g. 0xfffffff for 28 bits, 0 for no limit. Zeroed.
 *   EINVAL  size, align or mask make no sense     ENOMEM  not enough (huge)pages; says which
 *   ERANGE  there is memory, but none below mask  EFAULT  pagemap gave no frame */
LUIO_API int luio_dma_alloc(luio_dma *dma, uint64_t size, uint64_t align, uint64_t mask,
                            luio_dma_buffer **out, luio_error *err);
enum { LUIO_DMA_NAME = 64 };
/* The same, with a name, at most 63 characters. Under a guardian the buffer outlives the process:
 * the next worker that asks for the name gets it back, not zeroed, at the same iova, `kept`. One of
 * another size, or that does not suit align and mask, is dropped for a new one, with a warning.
 *   EEXIST  a buffer of that name is handed out already   EINVAL  no such name
 *   ENOSPC  more than 4096 pages or 1024 names */
LUIO_API int luio_dma_alloc_named(luio_dma *dma, const char *name, uint64_t size, uint64_t align,
                                  uint64_t mask, luio_dma_buffer **out, luio_error *err);
/* Gives a buffer back to luio. It stays mapped until the device is closed, for the device may still write to it. */
LUIO_API void luio_dma_free(luio_dma_buffer *buffer);
/* Looks the address up again. -ESTALE: the kernel moved the page, or took it away; stop the device at
 * once. A page that is pinned stays. */
LUIO_API int luio_dma_verify(const luio_dma_buffer *buffer, luio_error *err);
/* The same for all of a device's memory, while it has bus master: one read of /proc/self/pagemap a
 * page. -ESTALE: as above; bus master is off then (off PCI there is none: stop the device). */
LUIO_API int luio_dma_check(luio_device *device, luio_error *err);
/* Whether this process can pin memory; else why not, and what to do. */
LUIO_API int luio_dma_can_pin(luio_error *err);
/* The warnings so far (small pages, no pins), once; NULL: none. Valid until the next call. */
LUIO_API const char *luio_dma_warning(luio_dma *dma);

typedef struct luio_dma_stats {
  uint64_t buffers, bytes;      /* handed out now */
  uint64_t pages, mapped_bytes; /* held from the kernel */
  uint64_t pinned;              /* of these pages: the kernel can't move them */
} luio_dma_stats;
/* How much memory there is now. */
LUIO_API void luio_dma_get_stats(const luio_dma *dma, luio_dma_stats *out);

#include "luio_porter.h"  /* processes that are not trusted: waking them, their connections */
#include "luio_process.h" /* the process of a driver: its guardian, its watchdog, its files */
#include "luio_qemu.h"    /* QEMU's devices without a guest */
#include "luio_sim.h"     /* simulated devices: the calls of a model */

#ifndef LUIO_CDEF
#ifdef __cplusplus
}
#endif
#endif
#endif
