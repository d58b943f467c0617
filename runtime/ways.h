/* ways.h - the ways to a device: backend_*.c. */
#ifndef LUIO_WAYS_H
#define LUIO_WAYS_H

#include "parts.h"

extern const struct luio_backend luio_pci, luio_uio, luio_mem, luio_simulated, luio_qemu_way,
    luio_qemu_node_way;

/* backend.c. The way to a device that was described. */
const struct luio_backend *luio_backend_of(const luio_info *info);

/* backend_sim.c. Makes a new device that of a model: the way to it, and what it says of itself. */
void luio_sim_prepare(luio_device *d, luio_sim *sim, const char *name);

/* backend_qemu.c. Makes a new device a PCI function of a machine. -ENODEV, -EBUSY */
int luio_qemu_prepare(luio_device *d, luio_qemu *q, unsigned bus, unsigned devfn, const char *name,
                      luio_error *err);
/* backend_qemu_node.c. The same of a device of its device tree. line -1: it has no interrupt */
int luio_qemu_prepare_node(luio_device *d, luio_qemu *q, const luio_info *info, int line, bool edge,
                           luio_error *err);

#endif
