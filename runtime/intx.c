/* intx.c - the mask of a device's interrupt: INTX_DISABLE in the command register, or the UIO driver's irqcontrol.
 *
 * The command register is read and written as 2 bytes. The width must be 2: a 4-byte write would also write the status
 * half, whose bits are cleared by writing ones, and QEMU 7.2 does not apply the INTx mask on a 1-byte write of the
 * upper half. The register has writers in this process, the interrupt threads (unmask) and the owner (bus master, the
 * watch), hence command_lock. The kernel's interrupt handler also writes it (it sets INTX_DISABLE). If it does so
 * inside our read-modify-write, we undo that mask. The level is still asserted, so the handler runs and masks again:
 * one more event, never one less. */
#include "parts.h"

static int update_command(luio_device *d, uint32_t set, uint32_t clear, uint32_t *command,
                          luio_error *err)
{
  pthread_mutex_lock(&d->command_lock);
  int rc = luio_command_change(d, set, clear, command, err);
  pthread_mutex_unlock(&d->command_lock);
  return rc;
}

/* Two accesses per interrupt, without a read-back. The load comes first and may not overtake the device's
 * memory writes for causes that were acknowledged before. A later cause holds the line, and is an
 * interrupt as soon as the mask is cleared. The line state in the load is from before the store and after
 * the acknowledgement's stores, which the load may not overtake. */
int luio_intx_unmask(luio_device *d, enum luio_line *line, luio_error *err)
{
  uint32_t command;
  if (line)
    *line = LUIO_LINE_UNSEEN;
  /* Before it is so: the taker of the interrupt that comes at once says otherwise again. */
  d->intx_open = true;
  int rc = update_command(d, 0, PCI_COMMAND_INTX_DISABLE, &command, err);
  if (rc < 0)
    d->intx_open = false;
  else if (line)
    *line = command & (uint32_t)PCI_STATUS_INTERRUPT << 16 ? LUIO_LINE_HELD : LUIO_LINE_LOW;
  return rc;
}

int luio_intx_mask(luio_device *d, luio_error *err)
{
  uint32_t command;
  return update_command(d, PCI_COMMAND_INTX_DISABLE, 0, &command, err);
}
