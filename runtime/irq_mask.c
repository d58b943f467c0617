/* irq_mask.c - detects an interrupt that another process has masked.
 *
 * At each interrupt the kernel sets INTX_DISABLE and counts the interrupt; the taker clears the bit. So the bit is
 * rightly set from then until the UNMASK of the taker or of the driver. `intx_open` records that we unmasked last. If
 * the bit is set while `taking` is held (no taker is at work) and no count is pending, either another process has set
 * it, or the kernel's handler is between mask and count. The handler needs microseconds, so the bit counts as foreign
 * only if a second look finds nothing changed. If a handler was delayed for that long, unmasking does no harm: the line
 * is still asserted and fires once more, one event too many. */
#include "irq.h"

#include <poll.h>

#define SUSPECT_NS 20000000

static int check_mask(luio_irq *irq, unsigned *wrong, luio_error *err)
{
  luio_device *d = irq->config.device;
  struct pollfd source = {.fd = irq->config.fd, .events = POLLIN};
  uint32_t command = 0;
  int rc = 0;
  if (pthread_mutex_trylock(&irq->taking)) {
    /* A taker is at work, but it may find nothing to take. */
    *wrong |= LUIO_WRONG_AGAIN;
    return 0;
  }
  bool open = !irq->gone && !irq->config.messages && d->intx_open && poll(&source, 1, 0) == 0;
  if (open)
    rc = luio_config_read(d, PCI_COMMAND, 16, &command, err);
  uint64_t taken = atomic_load_explicit(&irq->interrupts, memory_order_relaxed), now = luio_now();
  if (rc < 0 || !(command & PCI_COMMAND_INTX_DISABLE)) {
    irq->suspected_ns = 0;
  } else if (!irq->suspected_ns || irq->suspected_at != taken) {
    irq->suspected_ns = now;
    irq->suspected_at = taken;
    *wrong |= LUIO_WRONG_AGAIN;
  } else if (now - irq->suspected_ns < SUSPECT_NS) {
    *wrong |= LUIO_WRONG_AGAIN;
  } else {
    irq->suspected_ns = 0;
    *wrong |= LUIO_WRONG_INTX;
    rc = luio_unmask(d, 0, err);
  }
  pthread_mutex_unlock(&irq->taking);
  return rc;
}

int luio_irq_check_mask(luio_device *d, unsigned *wrong, luio_error *err)
{
  int rc = 0;
  pthread_mutex_lock(&d->irq_lock);
  for (luio_irq *irq = d->irqs; irq && rc == 0; irq = irq->next)
    rc = check_mask(irq, wrong, err);
  pthread_mutex_unlock(&d->irq_lock);
  return rc;
}
