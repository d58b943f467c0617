/* parts.h - shared by the ways to a device: bus master, INTx, /dev/uioX, interrupts, DMA memory. */
#ifndef LUIO_PARTS_H
#define LUIO_PARTS_H

#include "registers.h"

/* bus_master.c. Why the files of a device's registers can't be opened, where that is because its driver has them
 * to itself; NULL: it is not. */
const char *luio_bars_remedy(luio_device *d, int code);
/* Takes the registers' files again, if need be and this process can. True: they were not ours alone all the time,
 * and luio_device_bars has yet to be asked. */
bool luio_bars_given(luio_device *d);

/* config_watch.c. From here on luio_config_check compares with what config space has now. */
void luio_config_watch(luio_device *d);

/* irq_mask.c. Unmasks the device's interrupt if another process has masked it; adds to *wrong. */
int luio_irq_check_mask(luio_device *d, unsigned *wrong, luio_error *err);

/* dma.c */
/* Whether it goes with the device: a device that comes back does not have it. */
bool luio_dma_ends_with_device(const luio_dma *dma);
void luio_dma_close(luio_dma *dma);
/* In a forked child: none of its descriptors leads anywhere. */
void luio_dma_forked(luio_dma *dma);
/* dma_kept.c. Frees memory of earlier workers that was not allocated by name. */
void luio_dma_settle(luio_dma *dma);
uint64_t luio_dma_unsettled(luio_dma *dma); /* bytes that wait for that */
/* Where the buffer that holds [iova, iova + size) is; NULL: no live buffer does. */
void *luio_dma_find(luio_dma *dma, uint64_t iova, uint64_t size);

/* uio.c */
int luio_uio_open(luio_device *d, luio_error *err);
int luio_uio_interrupt(luio_device *d, luio_irq_config *config, luio_error *err);
int luio_uio_unmask(luio_device *d, enum luio_line *line, luio_error *err);
int luio_uio_mask(luio_device *d, luio_error *err);
bool luio_uio_present(const luio_device *d);
void luio_uio_unlock(luio_device *d);
void luio_uio_take_files(luio_device *d, luio_device *now);
/* The numbers of the UIO devices below a device, in order; how many. */
enum { LUIO_SIBLINGS = 64 }; /* as many as are looked at */
unsigned luio_uio_siblings(const char *sysfs, unsigned numbers[LUIO_SIBLINGS]);

/* vectors.c. Back to INTx, if messages are on; no interrupt is open. */
void luio_vectors_off(luio_device *d);
/* Switches messages on again if something has switched them off; adds to *wrong. */
int luio_vectors_check(luio_device *d, unsigned *wrong, luio_error *err);

/* intx.c. By INTX_DISABLE of the command register. */
int luio_intx_unmask(luio_device *d, enum luio_line *line, luio_error *err);
int luio_intx_mask(luio_device *d, luio_error *err);

/* dma_physical.c. DMA memory of a device that sysfs knows, or why it can have none. */
int luio_dma_of_sysfs(luio_device *d, luio_dma **out, luio_error *err);
/* dma_sim.c. For a model to reach, by luio_sim_dma_read and luio_sim_dma_write. */
int luio_dma_of_sim(luio_device *d, luio_dma **out, luio_error *err);
/* dma_qemu.c. The machine's memory. */
int luio_dma_of_qemu(luio_device *d, luio_dma **out, luio_error *err);
/* dma_regions.c. The regions that its UIO driver has allocated, and no other memory. */
int luio_dma_of_regions(luio_device *d, luio_dma **out, luio_error *err);

#endif
