/* vectors.c - which interrupts a device has: one line (INTx), or messages on vectors (MSI, MSI-X).
 *
 * A device begins with INTx. luio_device_set_vectors changes to messages, and back; no interrupt may be open then, because
 * every vector changes its source. After that a vector is an interrupt as INTx is: it has a thread, a top half, a ring
 * and counts of its own (irq.c), and a mask. The differences are in three places:
 *
 *   the mask      Nothing masks a vector when a message comes. Where a top half does not unmask, the taker masks
 *                 (irq_take.c). A masked vector's messages wait: in the device, if it has a mask for the vector, else in
 *                 `held`.
 *   the level     A message is sent when a cause appears, not while there is one. So an unacknowledged cause does not
 *                 fire again, and nothing is judged a storm (storm.c).
 *   bus master    A message is a memory write of the device, and is lost with bus master off.
 *
 * How the messages of a way reach an eventfd is the backend's (struct luio_message_ops). */
#include "irq.h"

#include <errno.h>
#include <string.h>

static const char *const names[LUIO_KINDS] = {"INTx", "MSI", "MSI-X"};

/* ---- What there is ----------------------------------------------------------------------------- */

static void look(luio_device *d, luio_vectors *out)
{
  uint32_t control;
  memset(out, 0, sizeof *out);
  out->kind = d->kind;
  out->has[LUIO_INTX] = d->info.capabilities & LUIO_HAS_INTERRUPTS ? 1 : 0;
  out->count = d->kind == LUIO_INTX ? out->has[LUIO_INTX] : d->vectors;
  out->messages = d->backend->messages && !d->backend->messages->missing(d);
  unsigned msi = luio_capability(d, PCI_CAP_MSI), msix = luio_capability(d, PCI_CAP_MSIX);
  if (msi && luio_config_read(d, msi + PCI_MESSAGE_CONTROL, 16, &control, NULL) == 0 &&
      (control >> 1 & 7) <= 5) /* 6 and 7 are reserved */
    out->has[LUIO_MSI] = 1u << (control >> 1 & 7);
  if (msix && luio_config_read(d, msix + PCI_MESSAGE_CONTROL, 16, &control, NULL) == 0)
    out->has[LUIO_MSIX] = (control & PCI_MSIX_SIZE) + 1;
}

int luio_device_vectors(luio_device *d, luio_vectors *out, luio_error *err)
{
  if (d->gone)
    return luio_fail(err, ENODEV, "interrupts of %s: the device is gone", d->info.address);
  look(d, out);
  return 0;
}

/* ---- The change -------------------------------------------------------------------------------- */

static int may_have(luio_device *d, unsigned vector, luio_error *err)
{
  if (d->gone)
    return luio_fail(err, ENODEV, "interrupt %u of %s: the device is gone", vector,
                     d->info.address);
  if (d->flags & LUIO_READ_ONLY)
    return luio_fail(err, EACCES,
                     "interrupt of %s: it was opened read-only, and waiting means "
                     "unmasking",
                     d->info.address);
  if (d->flags & LUIO_SHARED)
    return luio_fail(err, EACCES,
                     "interrupt of %s: it was opened beside its owner, who gets the interrupts",
                     d->info.address);
  return 0;
}

static const char *no_messages(const luio_device *d)
{
  return d->backend->messages      ? d->backend->messages->missing(d)
         : d->backend->no_messages ? d->backend->no_messages
                                   : "it is no PCI device";
}

int luio_device_set_vectors(luio_device *d, int kind, luio_error *err)
{
  luio_vectors now = {0};
  int rc = may_have(d, 0, err);
  if (rc == 0)
    rc = luio_device_vectors(d, &now, err);
  if (rc < 0)
    return rc;
  if (kind < 0 || kind >= LUIO_KINDS)
    return luio_fail(err, EINVAL, "interrupts of %s: there is no kind %d", d->info.address, kind);
  if (kind == d->kind)
    return 0;
  if (kind != LUIO_INTX && !now.messages)
    return luio_fail(err, ENOTSUP, "%s of %s: %s", names[kind], d->info.address, no_messages(d));
  if (kind != LUIO_INTX && !now.has[kind])
    return luio_fail(err, ENOENT, "%s has no %s: its config space has no such capability",
                     d->info.address, names[kind]);
  if (d->irqs)
    return luio_fail(err, EBUSY, "%s of %s: an interrupt is being waited for: close it first",
                     names[kind], d->info.address);
  if (d->kind != LUIO_INTX)
    rc = d->backend->messages->off(d, err);
  if (rc == 0) {
    d->kind = LUIO_INTX;
    d->vectors = 0;
    rc = kind == LUIO_INTX ? 0 : d->backend->messages->on(d, kind, err);
  }
  if (rc <= 0)
    return rc;
  d->kind = kind;
  d->vectors = (unsigned)rc;
  return 0;
}

void luio_vectors_off(luio_device *d)
{
  luio_error ignored;
  if (d->kind != LUIO_INTX)
    d->backend->messages->off(d, &ignored);
  d->kind = LUIO_INTX;
  d->vectors = 0;
}

int luio_vectors_check(luio_device *d, unsigned *wrong, luio_error *err)
{
  uint32_t control, enable = d->kind == LUIO_MSI ? PCI_MSI_ENABLE : PCI_MSIX_ENABLE;
  if (d->kind == LUIO_INTX)
    return 0;
  unsigned at = luio_capability(d, d->kind == LUIO_MSI ? PCI_CAP_MSI : PCI_CAP_MSIX);
  int rc = at ? luio_config_read(d, at + PCI_MESSAGE_CONTROL, 16, &control, err) : 0;
  if (rc < 0 || !at || control & enable)
    return rc;
  *wrong |= LUIO_WRONG_VECTORS;
  return d->backend->messages->restore(d, err);
}

/* ---- One of them ------------------------------------------------------------------------------- */

static int no_vector(luio_device *d, unsigned vector, luio_error *err)
{
  luio_vectors now;
  look(d, &now);
  if (d->kind != LUIO_INTX)
    return luio_fail(err, ENOENT, "%s has no vector %u: it has %u by %s", d->info.address, vector,
                     d->vectors, names[d->kind]);
  if (!d->backend->messages)
    return luio_fail(err, ENOENT, "%s has no vector %u: UIO gives one interrupt, vector 0",
                     d->info.address, vector);
  return luio_fail(err, ENOENT,
                   "%s has no vector %u: INTx is one interrupt, vector 0. By MSI it has %u, by "
                   "MSI-X %u: open it with `vectors`",
                   d->info.address, vector, now.has[LUIO_MSI], now.has[LUIO_MSIX]);
}

int luio_device_irq(luio_device *d, unsigned vector, luio_irq_config *config, luio_error *err)
{
  memset(config, 0, sizeof *config);
  config->cpu = -1;
  config->device = d;
  config->vector = vector;
  if (d->kind == LUIO_INTX && !(d->info.capabilities & LUIO_HAS_INTERRUPTS))
    return luio_fail(err, ENOTSUP, "%s has no interrupt: %s", d->info.address,
                     d->backend->no_interrupt);
  if (vector > 0 && vector >= d->vectors)
    return no_vector(d, vector, err);
  int rc = may_have(d, vector, err);
  if (rc < 0)
    return rc;
  if (d->kind == LUIO_INTX)
    return d->backend->interrupt(d, config, err);
  uint32_t command;
  rc = luio_config_read(d, PCI_COMMAND, 16, &command, err);
  if (rc < 0)
    return rc;
  if (!(command & PCI_COMMAND_MASTER))
    return luio_fail(err, EINVAL,
                     "interrupt %u of %s: %s needs bus master, for a message is a memory write: "
                     "switch it on first",
                     vector, d->info.address, names[d->kind]);
  rc = d->backend->messages->source(d, vector, err);
  if (rc < 0)
    return rc;
  config->source = LUIO_IRQ_EVENTFD;
  config->fd = rc;
  config->messages = 1;
  return 0;
}

/* ---- Masks ------------------------------------------------------------------------------------- */

/* Messages: the source's thread may be open, or not. */
static int mask_message(luio_device *d, unsigned vector, bool masked, luio_error *err)
{
  int rc = 1;
  if (vector >= d->vectors)
    return no_vector(d, vector, err);
  pthread_mutex_lock(&d->irq_lock);
  luio_irq *irq = d->irqs;
  while (irq && irq->config.vector != vector)
    irq = irq->next;
  if (irq) {
    pthread_mutex_lock(&irq->taking);
    rc = masked ? luio_irq_hold(irq, err) : luio_irq_release(irq, err);
    pthread_mutex_unlock(&irq->taking);
  }
  pthread_mutex_unlock(&d->irq_lock);
  return irq ? rc : d->backend->messages->mask(d, vector, masked, err);
}

int luio_unmask(luio_device *d, unsigned vector, luio_error *err)
{
  if (d->kind != LUIO_INTX)
    return mask_message(d, vector, false, err);
  return vector ? no_vector(d, vector, err) : d->backend->unmask(d, NULL, err);
}

int luio_mask(luio_device *d, unsigned vector, luio_error *err)
{
  if (d->kind != LUIO_INTX)
    return mask_message(d, vector, true, err);
  if (vector)
    return no_vector(d, vector, err);
  d->intx_open = false;
  return d->backend->mask(d, err);
}
