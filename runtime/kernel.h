/* kernel.h - the kernel's interfaces: sysfs, /proc, libudev, ports, signals, forks. No device is open. */
#ifndef LUIO_KERNEL_H
#define LUIO_KERNEL_H

#include "internal.h"

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
/* Fills *info from sysfs: of a UIO device with its parent, or of a device without one. Never fails; faults are named in
 * info->problem. */
struct udev_device;
struct udev_hwdb;
void luio_describe(luio_info *info, struct udev_device *dev, struct udev_hwdb *hwdb);

/* devicetree.c. The length of each map, where the device's node says it. */
void luio_devicetree_lengths(luio_info *info);
/* Whether the DMA of a device, by its folder in sysfs, looks into the CPU's caches. */
bool luio_devicetree_coherent(const char *sysfs);

/* iomem.c. The owner of a range of physical addresses in /proc/iomem. */
enum { IOMEM_FREE, IOMEM_RAM, IOMEM_CLAIMED, IOMEM_HIDDEN /* the addresses, from this process */ };
typedef struct luio_iomem {
  int verdict;
  uint64_t first, last; /* RAM, CLAIMED: of the entry found */
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
/* Whether the range may be had now, and, if asked, that no device is there that has a driver. */
int luio_devmem_allowed(const luio_device *d, bool drivers, luio_error *err);
/* Whether a kernel driver has claimed it since. */
bool luio_devmem_claimed(const luio_device *d);

/* port.c. A thread's right to use the ports of regions. */
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
/* A thread starts with the ports that its creator had at that time. */
luio_port_rights luio_port_mine(void);
void luio_port_inherit(const luio_port_rights *rights);

/* lock.c. Config space, bus master and DMA memory belong to one handle of a PCI device with several
 * UIO devices: -EBUSY in the others. */
int luio_function_is_ours(const luio_device *d, const char *what, luio_error *err);
/* Takes the advisory lock of a file of the device. EBUSY: another handle or process has it. */
int luio_lock(const luio_device *d, int fd, luio_error *err);
/* The error of a device that another process, or this one by an earlier open, drives; part: ", or some of it", or "". */
int luio_locked(const luio_device *d, const char *part, luio_error *err);

/* fork.c. From add to remove, `forked` is called in each child that this process forks, before fork() returns there. */
void luio_fork_add(struct luio_fork_watch *watch);
void luio_fork_remove(struct luio_fork_watch *watch);

/* devnull.c. Keeps /dev/null open for luio_devnull_replace, while there is a device. what: for messages. */
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

/* pagemap.c */
int luio_pagemap_open(const char *who, luio_error *err); /* descriptor or -errno */
int luio_pagemap_lookup(int fd, const void *addr, uint64_t *physical, luio_error *err);

#endif
