/* sim.c - the bus between a driver and a model, and the kernel's part on real hardware.
 *
 * A model is a Lua file, run by a Lua state of its own on a thread of its own: a device is
 * concurrent, and so is its simulation. A driver's access puts a request into the only slot, and
 * waits for the answer as a CPU waits for a load to complete. `bus` serialises accesses: Lua and
 * the interrupt thread's top half queue for it, as for a real bus.
 *
 * Beside the registers, this file stands in for uio_pci_generic: the model sets the INTx level;
 * while it is set and not masked, the "kernel" masks it (INTX_DISABLE) and counts an event on an
 * eventfd; clearing INTX_DISABLE with the level still set fires again. So a driver that forgets to
 * acknowledge or to unmask fails here as on the card. DMA by the model uses the driver's pool by
 * IOVA, and only while bus master is on. An address outside of every live buffer is a fault, which
 * is counted and reported; real hardware rarely reports it.
 *
 * Locks: `bus` > `slot_lock`; `config_lock` (command register, INTx level, DMA) is never held with
 * either. A DMA copy is done under config_lock, so that no write of the device is in progress once
 * bus master is off. */
#include "registers.h"

#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

enum slot { IDLE, REQUESTED, TAKEN, ANSWERED, REFUSED };

struct luio_sim {
  luio_sim_config identity;
  pthread_mutex_t bus;

  pthread_mutex_t slot_lock;
  pthread_cond_t to_model, to_driver;
  enum slot slot;
  luio_sim_request request;
  uint64_t answer;
  bool attached, detached, stop_told;
  _Atomic bool stopping;
  char failure[512]; /* empty: none. Once failed, a model stays failed */
  luio_sim_stats stats;

  pthread_mutex_t config_lock;
  uint8_t config[256], writable[256];
  bool level;
  int event_fd;
  luio_sim_memory *memory; /* the driver's DMA memory; NULL: it has none */
  void *memory_of;
};

static void deadline_in(struct timespec *t, uint64_t ns)
{
  uint64_t until = luio_now() + ns;
  t->tv_sec = (time_t)(until / LUIO_NS_PER_S);
  t->tv_nsec = (long)(until % LUIO_NS_PER_S);
}

/* ---- Life -------------------------------------------------------------------------------------- */

static void put16(uint8_t *at, uint32_t value)
{
  uint16_t le = htole16((uint16_t)value);
  memcpy(at, &le, sizeof le);
}

static uint32_t get16(const uint8_t *at)
{
  uint16_t le;
  memcpy(&le, at, sizeof le);
  return le16toh(le);
}

static void put32(uint8_t *at, uint32_t value)
{
  put16(at, value & 0xffff);
  put16(at + 2, value >> 16);
}

/* The header and two capabilities: power management without No_Soft_Reset, and MSI, which no model
 * sends. The BARs are where luio_device_open_sim says they are. */
enum {
  BARS = 0x10,
  PM = 0x40,
  PM_CONTROL = PM + 4,
  PM_STATE = 3,
  MSI = 0x50,
  MSI_CONTROL = MSI + 2,
  MSI_ENABLE = 1,
};

static void fill_config(luio_sim *sim)
{
  const luio_sim_config *c = &sim->identity;
  uint8_t *config = sim->config, *writable = sim->writable;
  put16(config + PCI_VENDOR, c->vendor);
  put16(config + PCI_DEVICE, c->device);
  put16(config + PCI_COMMAND, PCI_COMMAND_MEMORY); /* on, as firmware leaves it */
  put16(writable + PCI_COMMAND, PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_INTX_DISABLE);
  put16(config + PCI_STATUS, 1 << 4); /* it has capabilities */
  config[0x08] = (uint8_t)c->revision;
  config[0x09] = (uint8_t)c->class_code;
  put16(config + 0x0a, c->class_code >> 8);
  for (int i = 0; i < LUIO_MAX_BARS; i++) {
    uint64_t size = c->region_size[i];
    if (!size || size > UINT32_MAX)
      continue;
    put32(config + BARS + 4 * i, (uint32_t)luio_sim_address(sim, i));
    put32(writable + BARS + 4 * i, ~0xfu);
  }
  put16(config + 0x2c, c->subvendor);
  put16(config + 0x2e, c->subdevice);
  config[0x34] = PM;
  writable[0x3c] = 0xff;
  config[0x3d] = c->n_vectors ? 1 : 0; /* INTA */
  put16(config + PM, 0x01 | MSI << 8);
  put16(config + PM + 2, 3); /* version */
  put16(writable + PM_CONTROL, PM_STATE);
  put16(config + MSI, 0x05);
  put16(writable + MSI_CONTROL, MSI_ENABLE);
}

uint64_t luio_sim_address(const luio_sim *sim, int region)
{
  uint64_t addr = 0xfe000000; /* a usual BAR address on a PC; no access is routed by it */
  for (int i = 0; i < region; i++)
    addr += (sim->identity.region_size[i] + 0xfffff) & ~0xfffffull;
  return addr;
}

int luio_sim_open(const luio_sim_config *c, luio_sim **out, luio_error *err)
{
  for (int i = 0; i < LUIO_MAX_BARS; i++)
    if (c->region_size[i] > 1ull << 40)
      return luio_fail(err, EINVAL, "model: region %d of 0x%llx bytes is too large", i,
                       (unsigned long long)c->region_size[i]);
  luio_sim *sim = calloc(1, sizeof *sim);
  if (!sim)
    return luio_fail(err, ENOMEM, "open a model: out of memory");
  sim->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
  if (sim->event_fd < 0) {
    int code = errno;
    free(sim);
    return luio_fail(err, code, "open a model: eventfd: %s: raise `ulimit -n`",
                     luio_errno_name(code));
  }
  sim->identity = *c;
  pthread_mutex_init(&sim->bus, NULL);
  pthread_mutex_init(&sim->slot_lock, NULL);
  pthread_mutex_init(&sim->config_lock, NULL);
  pthread_condattr_t monotonic;
  pthread_condattr_init(&monotonic);
  pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
  pthread_cond_init(&sim->to_model, &monotonic);
  pthread_cond_init(&sim->to_driver, &monotonic);
  pthread_condattr_destroy(&monotonic);
  fill_config(sim);
  *out = sim;
  return 0;
}

void luio_sim_close(luio_sim *sim)
{
  if (!sim)
    return;
  close(sim->event_fd);
  pthread_cond_destroy(&sim->to_model);
  pthread_cond_destroy(&sim->to_driver);
  pthread_mutex_destroy(&sim->config_lock);
  pthread_mutex_destroy(&sim->slot_lock);
  pthread_mutex_destroy(&sim->bus);
  free(sim);
}

const luio_sim_config *luio_sim_identity(const luio_sim *sim)
{
  return &sim->identity;
}

int luio_sim_event_fd(const luio_sim *sim)
{
  return sim->event_fd;
}

void luio_sim_get_stats(luio_sim *sim, luio_sim_stats *out)
{
  pthread_mutex_lock(&sim->slot_lock);
  out->reads = sim->stats.reads;
  out->writes = sim->stats.writes;
  pthread_mutex_unlock(&sim->slot_lock);
  pthread_mutex_lock(&sim->config_lock);
  out->dma_bytes = sim->stats.dma_bytes;
  out->dma_faults = sim->stats.dma_faults;
  out->dma_denied = sim->stats.dma_denied;
  out->interrupts = sim->stats.interrupts;
  pthread_mutex_unlock(&sim->config_lock);
}

/* With config_lock held. */
static bool awake(const luio_sim *sim)
{
  return !(sim->config[PM_CONTROL] & PM_STATE);
}

/* ---- The driver's side of the bus -------------------------------------------------------------- */

/* Whether the device takes accesses to that region. */
static bool decodes(luio_sim *sim, unsigned region)
{
  pthread_mutex_lock(&sim->config_lock);
  uint32_t bar = get16(sim->config + BARS + 4 * region) | get16(sim->config + BARS + 4 * region + 2)
                                                              << 16;
  bool yes = awake(sim) && get16(sim->config + PCI_COMMAND) & PCI_COMMAND_MEMORY &&
             (!sim->writable[BARS + 4 * region] || bar == luio_sim_address(sim, (int)region));
  pthread_mutex_unlock(&sim->config_lock);
  return yes;
}

int luio_sim_access(luio_sim *sim, int kind, const luio_region *region, uint64_t offset,
                    unsigned width, uint64_t *value, luio_error *err)
{
  if (!decodes(sim, region->index)) { /* as on PCI: reads give all ones, writes are lost */
    if (kind == LUIO_SIM_READ)
      *value = UINT64_MAX >> (64 - width);
    return 0;
  }
  const char *verb = kind == LUIO_SIM_READ ? "read" : "write";
  struct timespec deadline;
  bool answered = false;
  int rc = 0;
  pthread_mutex_lock(&sim->bus);
  pthread_mutex_lock(&sim->slot_lock);
  if (!sim->failure[0] && !sim->detached && !sim->stopping) {
    sim->request = (luio_sim_request){.kind = kind,
                                      .region = region->index,
                                      .width = width,
                                      .offset = offset,
                                      .value = kind == LUIO_SIM_WRITE ? *value : 0};
    sim->slot = REQUESTED;
    pthread_cond_signal(&sim->to_model);
    deadline_in(&deadline, LUIO_SIM_ANSWER_NS);
    while (sim->slot != ANSWERED && sim->slot != REFUSED && !sim->detached && rc != ETIMEDOUT)
      rc = pthread_cond_timedwait(&sim->to_driver, &sim->slot_lock, &deadline);
    answered = sim->slot == ANSWERED;
    if (sim->slot == REQUESTED || sim->slot == TAKEN)
      if (rc == ETIMEDOUT && !sim->failure[0])
        luio_format(sim->failure, sizeof sim->failure, "it did not answer within %llu s",
                    (unsigned long long)(LUIO_SIM_ANSWER_NS / LUIO_NS_PER_S));
    sim->slot = IDLE; /* a late answer finds no request to belong to */
  }
  /* A model may fail right after an answer: that answer still counts. */
  if (answered && kind == LUIO_SIM_READ) {
    *value = sim->answer;
    sim->stats.reads++;
    rc = 0;
  } else if (answered) {
    sim->stats.writes++;
    rc = 0;
  } else if (sim->failure[0]) {
    rc = luio_fail(err, rc == ETIMEDOUT ? ETIMEDOUT : EIO, "%s%u %s %s at 0x%llx: model: %s", verb,
                   width, region->device, region->name, (unsigned long long)offset, sim->failure);
  } else {
    rc = luio_fail(err, ENODEV, "%s%u %s %s at 0x%llx: the model has ended", verb, width,
                   region->device, region->name, (unsigned long long)offset);
  }
  pthread_mutex_unlock(&sim->slot_lock);
  pthread_mutex_unlock(&sim->bus);
  return rc;
}

int luio_sim_wait_ready(luio_sim *sim, uint64_t timeout_ns, luio_error *err)
{
  struct timespec deadline;
  deadline_in(&deadline, timeout_ns);
  int rc = 0;
  pthread_mutex_lock(&sim->slot_lock);
  while (!sim->attached && !sim->failure[0] && rc != ETIMEDOUT)
    rc = pthread_cond_timedwait(&sim->to_driver, &sim->slot_lock, &deadline);
  if (sim->failure[0])
    rc = luio_fail(err, EIO, "%s", sim->failure);
  else if (!sim->attached)
    rc = luio_fail(err, ETIMEDOUT, "the model was not ready within %llu ms",
                   (unsigned long long)(timeout_ns / 1000000));
  else
    rc = 0;
  pthread_mutex_unlock(&sim->slot_lock);
  return rc;
}

int luio_sim_stop(luio_sim *sim, uint64_t timeout_ns, luio_error *err)
{
  struct timespec deadline;
  deadline_in(&deadline, timeout_ns);
  int rc = 0;
  pthread_mutex_lock(&sim->slot_lock);
  sim->stopping = true;
  pthread_cond_signal(&sim->to_model);
  while (!sim->detached && rc != ETIMEDOUT)
    rc = pthread_cond_timedwait(&sim->to_driver, &sim->slot_lock, &deadline);
  bool detached = sim->detached;
  pthread_mutex_unlock(&sim->slot_lock);
  return detached ? 0
                  : luio_fail(err, ETIMEDOUT, "the model did not end within %llu ms",
                              (unsigned long long)(timeout_ns / 1000000));
}

/* ---- The model's side -------------------------------------------------------------------------- */

int luio_sim_next(luio_sim *sim, uint64_t timeout_ns, luio_sim_request *out)
{
  struct timespec deadline;
  deadline_in(&deadline, timeout_ns);
  int rc = 0;
  pthread_mutex_lock(&sim->slot_lock);
  while (sim->slot != REQUESTED && !sim->stopping && rc != ETIMEDOUT)
    rc = pthread_cond_timedwait(&sim->to_model, &sim->slot_lock, &deadline);
  int have = 1;
  if (sim->slot == REQUESTED) {
    sim->slot = TAKEN;
    *out = sim->request;
  } else if (sim->stopping) {
    *out = (luio_sim_request){.kind = LUIO_SIM_STOP};
  } else {
    have = 0;
  }
  pthread_mutex_unlock(&sim->slot_lock);
  return have;
}

static void set_failure(luio_sim *sim, const char *error)
{
  if (error && !sim->failure[0])
    luio_format(sim->failure, sizeof sim->failure, "%s", error);
}

void luio_sim_reply(luio_sim *sim, uint64_t value, const char *error)
{
  pthread_mutex_lock(&sim->slot_lock);
  set_failure(sim, error);
  if (sim->slot == TAKEN) {
    sim->answer = value;
    sim->slot = error ? REFUSED : ANSWERED;
    pthread_cond_broadcast(&sim->to_driver);
  }
  pthread_mutex_unlock(&sim->slot_lock);
}

void luio_sim_fail(luio_sim *sim, const char *error)
{
  pthread_mutex_lock(&sim->slot_lock);
  set_failure(sim, error);
  pthread_cond_broadcast(&sim->to_driver);
  pthread_mutex_unlock(&sim->slot_lock);
}

int luio_sim_stopping(const luio_sim *sim)
{
  return sim->stopping;
}

void luio_sim_attach(luio_sim *sim)
{
  pthread_mutex_lock(&sim->slot_lock);
  sim->attached = true;
  pthread_cond_broadcast(&sim->to_driver);
  pthread_mutex_unlock(&sim->slot_lock);
}

void luio_sim_detach(luio_sim *sim)
{
  pthread_mutex_lock(&sim->slot_lock);
  sim->detached = true;
  pthread_cond_broadcast(&sim->to_driver);
  pthread_mutex_unlock(&sim->slot_lock);
}

/* ---- The kernel's part on hardware ----------------------------------------------------------- */

/* uio_pci_generic's handler: mask, count, wake. With config_lock held. A device that sleeps, or was told
 * to send messages, drives no line. */
static void deliver(luio_sim *sim)
{
  uint32_t command = get16(sim->config + PCI_COMMAND);
  if (!sim->level || command & PCI_COMMAND_INTX_DISABLE || !awake(sim) ||
      sim->config[MSI_CONTROL] & MSI_ENABLE)
    return;
  put16(sim->config + PCI_COMMAND, command | PCI_COMMAND_INTX_DISABLE);
  sim->stats.interrupts++;
  uint64_t one = 1;
  ssize_t n;
  do
    n = write(sim->event_fd, &one, sizeof one);
  while (n < 0 && errno == EINTR);
}

/* With config_lock held. */
static void set_level(luio_sim *sim, bool level)
{
  sim->level = level;
  uint32_t status = get16(sim->config + PCI_STATUS);
  put16(sim->config + PCI_STATUS,
        level ? status | PCI_STATUS_INTERRUPT : status & ~(uint32_t)PCI_STATUS_INTERRUPT);
}

void luio_sim_irq(luio_sim *sim, int level)
{
  pthread_mutex_lock(&sim->config_lock);
  set_level(sim, level != LUIO_SIM_LOW);
  deliver(sim);
  if (level == LUIO_SIM_EDGE)
    set_level(sim, false);
  pthread_mutex_unlock(&sim->config_lock);
}

int luio_sim_config_read(luio_sim *sim, unsigned offset, unsigned width, uint32_t *value)
{
  uint8_t raw[4] = {0};
  pthread_mutex_lock(&sim->config_lock);
  for (unsigned i = 0; i < width / 8; i++)
    raw[i] = offset + i < sizeof sim->config ? sim->config[offset + i] : 0;
  pthread_mutex_unlock(&sim->config_lock);
  uint32_t le;
  memcpy(&le, raw, sizeof le);
  *value = le32toh(le);
  return 0;
}

/* Most of a type 0 header is read-only. Waking up is a soft reset of it, for there is no No_Soft_Reset; what
 * the model has is its own business. */
int luio_sim_config_write(luio_sim *sim, unsigned offset, unsigned width, uint32_t value)
{
  pthread_mutex_lock(&sim->config_lock);
  bool slept = !awake(sim);
  for (unsigned i = 0; i < width / 8; i++) {
    unsigned at = offset + i;
    if (at < sizeof sim->config)
      sim->config[at] = (uint8_t)((sim->config[at] & ~sim->writable[at]) |
                                  ((value >> (8 * i)) & sim->writable[at]));
  }
  if (slept && awake(sim)) {
    put16(sim->config + PCI_COMMAND, 0);
    for (unsigned i = 0; i < LUIO_MAX_BARS; i++)
      put32(sim->config + BARS + 4 * i, 0);
  }
  deliver(sim);
  pthread_mutex_unlock(&sim->config_lock);
  return 0;
}

/* ---- DMA --------------------------------------------------------------------------------------- */

void luio_sim_set_memory(luio_sim *sim, luio_sim_memory *memory, void *of)
{
  pthread_mutex_lock(&sim->config_lock);
  sim->memory = memory;
  sim->memory_of = of;
  pthread_mutex_unlock(&sim->config_lock);
}

/* Values in memory (a descriptor's status) order the device's accesses with the driver's. A thread sanitizer can't see
 * that order, so it is disabled for these accesses. The copy goes upwards, in whole words where they are aligned,
 * because the driver may poll the last word meanwhile. */
__attribute__((no_sanitize("thread"))) static void move(void *to, const void *from, uint64_t size)
{
  volatile uint8_t *t = to;
  const volatile uint8_t *f = from;
  while (size) {
    if (size >= 8 && !(((uintptr_t)t | (uintptr_t)f) & 7)) {
      *(volatile uint64_t *)t = *(const volatile uint64_t *)f;
      t += 8, f += 8, size -= 8;
    } else {
      *t++ = *f++;
      size--;
    }
  }
}

static int dma(luio_sim *sim, uint64_t iova, void *to, const void *from, uint64_t size)
{
  int rc = 0;
  pthread_mutex_lock(&sim->config_lock);
  void *at = sim->memory ? sim->memory(sim->memory_of, iova, size) : NULL;
  if (!awake(sim) || !(get16(sim->config + PCI_COMMAND) & PCI_COMMAND_MASTER)) {
    sim->stats.dma_denied++;
    rc = -EACCES;
  } else if (!at) {
    sim->stats.dma_faults++;
    rc = -EFAULT;
  } else {
    move(to ? to : at, to ? at : from, size);
    sim->stats.dma_bytes += size;
  }
  pthread_mutex_unlock(&sim->config_lock);
  return rc;
}

int luio_sim_dma_read(luio_sim *sim, uint64_t iova, void *to, uint64_t size)
{
  return dma(sim, iova, to, NULL, size);
}

int luio_sim_dma_write(luio_sim *sim, uint64_t iova, const void *from, uint64_t size)
{
  return dma(sim, iova, NULL, from, size);
}
