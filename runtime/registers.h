/* registers.h - regions, config space, top halves, and a simulated device's bus. */
#ifndef LUIO_REGISTERS_H
#define LUIO_REGISTERS_H

#include "backend.h"
#include "worker.h"

/* region.c */
void luio_region_free(luio_region *region);
/* The device is gone: no access reaches it from now on. */
void luio_region_leave(luio_region *region);
/* Opens a region again, at the place it had where it can be. */
int luio_region_return(luio_device *device, luio_region *region, luio_error *err);
/* Maps the region's bytes, which begin `first` bytes into page page_index of fd, as memory. ERANGE: its size is absurd. */
int luio_region_map(const luio_device *d, luio_region *region, int fd, uint64_t page_index,
                    uint64_t first, const char *path, luio_error *err);
/* Why a region can't be opened or mapped, and what to do, in `to`. d: NULL where only the code is known; resource: it was
 * by sysfs resourceN. */
const char *luio_region_remedy(const luio_device *d, const luio_region *r, int code, bool resource,
                               char *to, size_t size);
/* True if sysfs still has the device and its UIO device; an error code alone does not show that. */
bool luio_is_there(const luio_device *d);

/* config.c. A write that does not change the wanted values. */
int luio_config_put(luio_device *d, unsigned offset, unsigned width, uint32_t value,
                    luio_error *err);
/* Where a capability is; 0: there is none. */
unsigned luio_capability(luio_device *d, unsigned id);
/* Sets and clears bits of the command register; *command is what it was, with the status register in the upper half.
 * With command_lock held. */
int luio_command_change(luio_device *d, uint32_t set, uint32_t clear, uint32_t *command,
                        luio_error *err);

/* storm.c. The history of one source's interrupts. Guarded by `taking`. */
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

/* top_half.c */
int luio_top_half_check(const luio_irq_config *config, const char *who, luio_error *err);
/* The register accesses, up to the first that fails. */
int luio_top_half_run(const luio_irq_config *config, luio_irq_event *event, luio_error *err);

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
