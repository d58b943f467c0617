/* backend.h - the ways to a device (backends), and the operations that a backend implements.
 *
 * A device has a table of operations, and each of its regions has one. A public function (device.c, region.c, config.c,
 * vectors.c, hotplug.c, irq.c) makes the checks that are the same for every way, and then calls the table in one line. No
 * other file asks what kind of device or region it has. A new way to devices is one new file with these two tables,
 * and a line in backend.c:
 *
 *   backend_pci.c   PCI devices, by sysfs and, where one is bound, their UIO driver
 *   backend_uio.c   UIO devices that are not on PCI
 *   backend_mem.c   ranges of physical addresses, by /dev/mem
 *   backend_sim.c   simulated devices; sim.c is the bus behind it
 *   backend_qemu.c  QEMU's devices, without a guest; qemu.c and its siblings are the machine, qemu_messages.c its MSI
 *   backend_qemu_node.c  those of a QEMU machine's device tree
 *
 * Files that several ways share: uio.c (/dev/uioX), intx.c (INTx by the command register), region.c (mapped memory),
 * region_port.c (I/O ports), dma_physical.c and its siblings (DMA memory). */
#ifndef LUIO_BACKEND_H
#define LUIO_BACKEND_H

#include "internal.h"

/* ---- Regions ------------------------------------------------------------------------------------
 * A region that is mapped has a `base`, and luio_region_read and luio_region_write access it there themselves: memory
 * has no call in between. All else goes through the table. */
struct luio_region_ops {
  int kind;         /* LUIO_REGION_* */
  const char *no64; /* why there is no access of 64 bits; NULL: there is */

  /* One access, which was checked. NULL for what has a base. */
  int (*read)(luio_region *r, uint64_t offset, unsigned width, uint64_t *value, luio_error *err);
  int (*write)(luio_region *r, uint64_t offset, unsigned width, uint64_t value, luio_error *err);
  /* n accesses of one register in one go. False: not possible now, make them one by one. NULL: never possible. */
  bool (*read_burst)(luio_region *r, uint64_t offset, unsigned width, void *to, uint64_t n);
  bool (*write_burst)(luio_region *r, uint64_t offset, unsigned width, const void *from,
                      uint64_t n);

  /* The device is gone: no access reaches it from now on. */
  void (*leave)(luio_region *r);
  /* The device is back: r takes over what `now`, the same region opened anew, has. `now` is not closed afterwards. */
  int (*take_over)(luio_region *r, luio_region *now, luio_error *err);
  /* In a forked child: no access reaches the device. Only system calls. */
  void (*forked)(luio_region *r);
  /* Gives back everything but the structure itself. */
  void (*close)(luio_region *r);
};

extern const struct luio_region_ops luio_memory_ops; /* region.c */
extern const struct luio_region_ops luio_port_ops;   /* region_port.c */

/* ---- Messages -----------------------------------------------------------------------------------
 * MSI and MSI-X: vectors.c makes the checks. A vector's source is an eventfd that counts its messages. */
struct luio_message_ops {
  /* Why it can't be now, for this device, with the remedy; NULL: it can. */
  const char *(*missing)(const luio_device *d);
  /* Switches LUIO_MSI or LUIO_MSIX on, all vectors masked; how many there are, or -errno. INTx is off from then on. */
  int (*on)(luio_device *d, int kind, luio_error *err);
  /* Back to INTx, which is as it was. What the device still sends is dropped. */
  int (*off)(luio_device *d, luio_error *err);
  /* All that `on`, `source` and `mask` have told the device once more: it has forgotten that. */
  int (*restore)(luio_device *d, luio_error *err);
  /* The eventfd of a vector, which stays open until `off`; -errno. */
  int (*source)(luio_device *d, unsigned vector, luio_error *err);
  /* The device's own mask of a vector, where it has one: it then sends nothing, and one message at the unmasking if there was
   * a cause meanwhile. Without one nothing is done: irq_take.c holds back what comes. Any thread. */
  int (*mask)(luio_device *d, unsigned vector, bool masked, luio_error *err);
};

/* ---- Devices ------------------------------------------------------------------------------------ */
struct luio_backend {
  unsigned capabilities; /* LUIO_HAS_*, LUIO_CAN_* of its devices; a device may have fewer */
  /* The reason for a missing capability, and the remedy. */
  const char *no_config, *no_interrupt, *no_messages, *no_dma;
  bool names_repeat; /* two devices of one process may have the same address */

  /* Whether a described device is reached this way. NULL: backend.c asks no such way (it takes all others, or is made). */
  bool (*takes)(const luio_info *info);
  /* Opens files and locks; d->info is filled. before: the description from before it went away, NULL: it is new.
   * After a failure the files already opened stay in the device. */
  int (*open)(luio_device *d, const luio_device *before, luio_error *err);
  /* Closes the files: nothing else of the device is left by then. */
  void (*close)(luio_device *d);

  bool (*has_region)(const luio_device *d, unsigned index);
  /* Fills ops, name, addr, size and what the operations need. r has index, device and writable. */
  int (*region)(luio_device *d, luio_region *r, luio_error *err);

  /* INTx. Fills source, fd and baseline. */
  int (*interrupt)(luio_device *d, luio_irq_config *config, luio_error *err);
  /* Unmasks; *line (may be NULL) is the state of the line just before. Any thread. */
  int (*unmask)(luio_device *d, enum luio_line *line, luio_error *err);
  int (*mask)(luio_device *d, luio_error *err);
  /* MSI and MSI-X; NULL: not by this way. */
  const struct luio_message_ops *messages;

  int (*dma)(luio_device *d, luio_dma **out, luio_error *err);

  /* Bytes of config space, as pread and pwrite: how many, or -errno. One access where size is 1, 2 or 4. Any thread. */
  ssize_t (*config_read)(luio_device *d, unsigned offset, void *to, size_t size);
  ssize_t (*config_write)(luio_device *d, unsigned offset, const void *from, size_t size);

  /* Whether it is there, as far as can be told without its registers. NULL: always. */
  bool (*present)(luio_device *d);
  /* The device is gone, and its regions have left: no file of ours leads to it any more. */
  void (*leave)(luio_device *d);
  /* The device that was gone is taken again. NULL: by opening its files anew, found by address_now. */
  int (*come_back)(luio_device *d, luio_error *err);
  int (*address_now)(const luio_device *d, char address[64], luio_error *err);
  /* For that: gives up the lock, so that this process can open the device again; */
  void (*unlock)(luio_device *d);
  /* and takes the files of `now`, the device opened anew, which gets the old ones and is closed with them. */
  void (*take_files)(luio_device *d, luio_device *now);
  /* In a forked child: no file leads to the device. Only system calls. */
  void (*forked)(luio_device *d);
};

#endif
