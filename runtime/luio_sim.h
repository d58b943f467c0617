/* luio_sim.h - simulated devices, by luio.h: the other side of one, where a model answers.
 *
 * A model runs on a thread of its own and answers register accesses one at a time; the driver's
 * threads wait for the answer as a CPU waits for a bus. The library also does the part of the
 * kernel and uio_pci_generic: config space, bus master, the INTx level, masking at each interrupt,
 * an event count on a descriptor. */
#ifndef LUIO_SIM_H
#define LUIO_SIM_H

typedef struct luio_sim_config {
  uint32_t vendor, device, subvendor, subdevice, class_code, revision;
  int n_vectors;                       /* 0 or 1 */
  uint64_t region_size[LUIO_MAX_BARS]; /* 0: no such region */
} luio_sim_config;

enum { LUIO_SIM_READ, LUIO_SIM_WRITE, LUIO_SIM_STOP };

typedef struct luio_sim_request {
  int kind;
  unsigned region, width;
  uint64_t offset, value;
} luio_sim_request;

typedef struct luio_sim_stats {
  uint64_t reads, writes; /* register accesses answered */
  uint64_t dma_bytes;     /* moved by the model */
  uint64_t dma_faults;    /* model accesses to an IOVA that no buffer holds */
  uint64_t dma_denied;    /* model accesses while bus master was off */
  uint64_t interrupts;    /* signalled to the driver's side */
} luio_sim_stats;

/* Makes a bus for one device. It is the caller's, and must outlive the device that is opened on it. */
LUIO_API int luio_sim_open(const luio_sim_config *config, luio_sim **out, luio_error *err);

/* For the model's thread. next waits for a request until timeout_ns have passed: 1 with *out
 * filled, 0 when time is up. A READ or WRITE must be answered by reply before the next next;
 * error NULL: fine, else the driver's access fails with EIO and that text. A failed model stays
 * failed. After STOP: luio_sim_detach, and no call thereafter. */
LUIO_API int luio_sim_next(luio_sim *sim, uint64_t timeout_ns, luio_sim_request *out);
LUIO_API void luio_sim_reply(luio_sim *sim, uint64_t value, const char *error);
/* A failure outside an access (a timer's, say): every later access fails with this text. */
LUIO_API void luio_sim_fail(luio_sim *sim, const char *error);
LUIO_API int luio_sim_stopping(const luio_sim *sim);
LUIO_API void luio_sim_attach(luio_sim *sim); /* the model is ready for accesses */
LUIO_API void luio_sim_detach(luio_sim *sim);
enum { LUIO_SIM_LOW, LUIO_SIM_HIGH, LUIO_SIM_EDGE };
/* The INTx line, a level: set until the device takes it back. An edge is back before anybody can look,
 * as from a device that its kernel driver acknowledges; one that meets the mask is lost. */
LUIO_API void luio_sim_irq(luio_sim *sim, int level);
/* Memory as the device sees it. -EACCES: bus master is off; -EFAULT: no buffer there. */
LUIO_API int luio_sim_dma_read(luio_sim *sim, uint64_t iova, void *to, uint64_t size);
LUIO_API int luio_sim_dma_write(luio_sim *sim, uint64_t iova, const void *from, uint64_t size);

/* For the driver's side. wait_ready: -ETIMEDOUT, or -EIO when the model failed at load. stop tells
 * the model to end and waits for detach: -ETIMEDOUT when it does not. */
LUIO_API int luio_sim_wait_ready(luio_sim *sim, uint64_t timeout_ns, luio_error *err);
LUIO_API int luio_sim_stop(luio_sim *sim, uint64_t timeout_ns, luio_error *err);
LUIO_API void luio_sim_get_stats(luio_sim *sim, luio_sim_stats *out);
/* Config space as another process has it, by the `config` file: nothing that the driver's side knows of. */
LUIO_API int luio_sim_config_read(luio_sim *sim, unsigned offset, unsigned width, uint32_t *value);
LUIO_API int luio_sim_config_write(luio_sim *sim, unsigned offset, unsigned width, uint32_t value);
LUIO_API void luio_sim_close(luio_sim *sim); /* after stop, and after its device is closed */

#endif
