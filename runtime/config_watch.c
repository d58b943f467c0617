/* config_watch.c - detects and repairs config space that another process changed under a running driver.
 *
 * A process that may write a device's `config` file (root, the group luio-config), or that closes /dev/uioX, can
 * disable a driver's device, and the kernel sends no event. So the device keeps a copy of config space: the
 * values at opening, updated by this process's writes. luio_config_check compares:
 *
 *   bus master              we switched it on; it is off
 *   memory, I/O decoding    was on; is off: registers read as all ones, writes are lost
 *   BARs                    hold other addresses than the kernel's; same effect
 *   power state             was D0; is not: PCI Power Management Interface Specification 1.2, 5.4
 *   MSI, MSI-X              were off; one is on: the device then drives no INTx (PCI Local Bus
 *                           Specification 3.0, 6.8.3.3)
 *   INTX_DISABLE            is set although we unmasked (irq_mask.c decides that)
 *   MSI, MSI-X              were on, by luio_device_set_vectors; are off, as after a reset (vectors.c)
 *
 * With bus master off, udev's rules may give the register files to the group (60-luio.rules). So their owner is
 * checked before bus master is switched on, and after. If they were given away, bus master stays off until no
 * other process has them open; the caller checks that, because it means looking at all processes.
 *
 * A change by this process (luio_config_write) updates the copy, so a driver may use MSI or put its device to
 * sleep. A bit that the write does not change leaves the copy alone, because a read-modify-write also writes back
 * bits that another process has set. With a UIO driver other than uio_pci_generic, MSI and INTX_DISABLE belong to
 * that driver and are not checked.
 *
 * Order of repair: power first, because a sleeping device does not keep writes; MSI off; BARs, with
 * decoding off; the command register; INTX_DISABLE last, because an interrupt may follow at once.
 *
 * A device with No_Soft_Reset keeps its registers in D3hot. A device without it is in its reset state when it is
 * back in D0, 10 ms later (5.6.1). Then the header is rewritten, bus master stays off, and LUIO_WRONG_FORGOT
 * tells the caller to start the driver again.
 *
 * Locks: command_lock is held over the comparison and the repair, as over each change of the command
 * register. irq_lock and an interrupt's `taking` are taken before command_lock, so the mask is checked
 * after command_lock is released. */
#include "parts.h"

#include <errno.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum {
  HEADER_TYPE = 0x0e,
  BARS = 0x10,
  BARS_END = 0x28,
  CAPABILITIES = 0x34,
  INTERRUPT_LINE = 0x3c,
  STATUS_CAPABILITIES = 1 << 4,
  CAPABILITY_PM = 0x01,
  CAPABILITY_MSI = 0x05,
  CAPABILITY_MSIX = 0x11,
  FIRST_CAPABILITY = 0x40,
  MOST_CAPABILITIES = 48, /* of at least 4 bytes each: a list that is longer goes in a circle */
  PM_CONTROL = 4,         /* from the capability on */
  PM_STATE = 3,
  PM_NO_SOFT_RESET = 1 << 3,
  PM_PME_STATUS = 1 << 15, /* cleared by writing one */
  MSI_CONTROL = 2,
  MSI_ENABLE = 1 << 0,
  MSIX_ENABLE = 1 << 15,
};

#define WAKE_NS 10000000 /* from D3hot to D0: PCI Power Management 1.2, 5.6.1 */

static uint16_t at16(const uint8_t *bytes, unsigned offset)
{
  return (uint16_t)(bytes[offset] | bytes[offset + 1] << 8);
}

static uint32_t at32(const uint8_t *bytes, unsigned offset)
{
  return at16(bytes, offset) | (uint32_t)at16(bytes, offset + 2) << 16;
}

/* Nothing answers. The first word alone does not say so: a virtual function reads it as ones, for its ids are its
 * physical function's (Single Root I/O Virtualization and Sharing 1.1, 3.4.1). In the second there are zeros. */
static bool silent(const uint8_t *header)
{
  return at32(header, PCI_VENDOR) == UINT32_MAX && at32(header, PCI_COMMAND) == UINT32_MAX;
}

/* As many bytes as can be read, at most size. A process without privileges at the opening gets 64. */
static unsigned read_bytes(luio_device *d, uint8_t *to, unsigned size)
{
  ssize_t got = d->backend->config_read(d, 0, to, size);
  return got < 0 ? 0 : (unsigned)got;
}

/* ---- Wanted values ----------------------------------------------------------------------------- */

void luio_config_watch(luio_device *d)
{
  struct luio_config_wanted *w = &d->wanted;
  memset(w, 0, sizeof *w);
  if (d->flags & (LUIO_READ_ONLY | LUIO_SHARED) || d->one_of_several || !d->backend->config_read)
    return;
  unsigned n = read_bytes(d, w->bytes, sizeof w->bytes);
  if (n < 64 || silent(w->bytes))
    return;
  w->watched = true;
  for (int i = 0; i < LUIO_MAX_BARS; i++)
    w->decodes |= d->info.bars[i].kind == LUIO_BAR_IO    ? PCI_COMMAND_IO
                  : d->info.bars[i].kind == LUIO_BAR_MEM ? PCI_COMMAND_MEMORY
                                                         : 0;
  unsigned at = w->bytes[CAPABILITIES] & ~3u;
  if (!(at16(w->bytes, PCI_STATUS) & STATUS_CAPABILITIES))
    at = 0;
  for (int i = 0; i < MOST_CAPABILITIES && at >= FIRST_CAPABILITY && at + 8 <= n; i++) {
    switch (w->bytes[at]) {
    case CAPABILITY_PM: w->pm = at + PM_CONTROL; break;
    case CAPABILITY_MSI: w->msi = at + MSI_CONTROL; break;
    case CAPABILITY_MSIX: w->msix = at + MSI_CONTROL; break;
    default: break;
    }
    at = w->bytes[at + 1] & ~3u;
  }
}

/* ---- Setting it right, with command_lock held -------------------------------------------------- */

static int wake(luio_device *d, unsigned *wrong, luio_error *err)
{
  unsigned pm = d->wanted.pm;
  uint32_t control;
  int rc = pm ? luio_config_read(d, pm, 16, &control, err) : 0;
  if (rc < 0 || !pm || at16(d->wanted.bytes, pm) & PM_STATE || !(control & PM_STATE))
    return rc;
  unsigned state = control & PM_STATE;
  *wrong |= LUIO_WRONG_POWER;
  rc = luio_config_put(d, pm, 16, control & ~(uint32_t)(PM_STATE | PM_PME_STATUS), err);
  struct timespec t = {.tv_nsec = WAKE_NS};
  while (rc == 0 && nanosleep(&t, &t) < 0 && errno == EINTR)
    ;
  if (rc == 0)
    rc = luio_config_read(d, pm, 16, &control, err);
  if (rc == 0 && control & PM_STATE)
    return luio_fail(err, EIO,
                     "wake %s: it was put into D%u, and stays in D%u after D0 was written",
                     d->info.address, state, control & PM_STATE);
  if (rc == 0 && !(control & PM_NO_SOFT_RESET))
    *wrong |= LUIO_WRONG_FORGOT;
  return rc;
}

/* at: of its control; 0: the device has no such capability. */
static int no_messages(luio_device *d, unsigned at, uint32_t enable, unsigned *wrong,
                       luio_error *err)
{
  uint32_t control;
  int rc = at ? luio_config_read(d, at, 16, &control, err) : 0;
  if (rc < 0 || !at || at16(d->wanted.bytes, at) & enable || !(control & enable))
    return rc;
  *wrong |= LUIO_WRONG_MSI;
  return luio_config_put(d, at, 16, control & ~enable, err);
}

static int put_bars(luio_device *d, const uint8_t *now, unsigned *wrong, luio_error *err)
{
  const uint8_t *wanted = d->wanted.bytes;
  if (wanted[HEADER_TYPE] & 0x7f || !memcmp(now + BARS, wanted + BARS, BARS_END - BARS))
    return 0;
  *wrong |= LUIO_WRONG_BARS;
  uint32_t off = at16(now, PCI_COMMAND) & ~(uint32_t)(PCI_COMMAND_MEMORY | PCI_COMMAND_IO);
  int rc = luio_config_put(d, PCI_COMMAND, 16, off, err);
  for (unsigned at = BARS; rc == 0 && at < BARS_END; at += 4)
    rc = luio_config_put(d, at, 32, at32(wanted, at), err);
  return rc;
}

/* *command: the value before. */
static int put_command(luio_device *d, uint32_t command, unsigned *wrong, luio_error *err)
{
  uint32_t wanted = at16(d->wanted.bytes, PCI_COMMAND) & d->wanted.decodes;
  wanted |= d->bus_master_on ? PCI_COMMAND_MASTER : 0;
  uint32_t missing = wanted & ~command;
  if (missing & PCI_COMMAND_MASTER)
    *wrong |= LUIO_WRONG_BUS_MASTER;
  if (missing & PCI_COMMAND_MEMORY)
    *wrong |= LUIO_WRONG_MEMORY;
  if (missing & PCI_COMMAND_IO)
    *wrong |= LUIO_WRONG_PORTS;
  /* The register is read anew: BARs were written with decoding off, and the kernel may have masked. */
  uint32_t now;
  int rc = *wrong ? luio_config_read(d, PCI_COMMAND, 16, &now, err) : 0;
  if (rc == 0 && *wrong)
    rc = luio_config_put(d, PCI_COMMAND, 16, now | wanted, err);
  if (rc == 0 && *wrong)
    rc = luio_config_read(d, PCI_COMMAND, 16, &now, err);
  if (rc == 0 && *wrong && wanted & ~now)
    return luio_fail(err, EIO,
                     "config space of %s: 0x%04x was written to its command register, which reads "
                     "0x%04x: does somebody else write it all the time?",
                     d->info.address, now | wanted, now);
  return rc;
}

static int set_right(luio_device *d, unsigned *wrong, luio_error *err)
{
  struct luio_config_wanted *w = &d->wanted;
  uint8_t now[64];
  int rc = wake(d, wrong, err);
  if (rc == 0 && d->intx_by_command)
    rc = no_messages(d, w->msi, MSI_ENABLE, wrong, err);
  if (rc == 0 && d->intx_by_command)
    rc = no_messages(d, w->msix, MSIX_ENABLE, wrong, err);
  if (rc < 0)
    return rc;
  if (read_bytes(d, now, sizeof now) != sizeof now || silent(now))
    return luio_fail(err, ENODEV, "config space of %s: the device is gone", d->info.address);
  bool forgot = *wrong & LUIO_WRONG_FORGOT;
  unsigned lost = 0; /* with its registers, and part of that */
  if (forgot) {
    d->bus_master_on = false; /* until its driver has started again */
    rc = luio_config_put(d, INTERRUPT_LINE, 8, w->bytes[INTERRUPT_LINE], err);
  }
  if (rc == 0)
    rc = put_bars(d, now, forgot ? &lost : wrong, err);
  if (rc < 0)
    return rc;
  if (forgot)
    lost |= LUIO_WRONG_FORGOT;
  return put_command(d, at16(now, PCI_COMMAND), forgot ? &lost : wrong, err);
}

/* ---- Looking ----------------------------------------------------------------------------------- */

/* Bus master off where others may have the registers. */
static int withhold(luio_device *d, unsigned *wrong, luio_error *err)
{
  if (!d->bus_master_on || !luio_bars_given(d))
    return 0;
  *wrong |= LUIO_WRONG_GIVEN | LUIO_WRONG_BUS_MASTER;
  return luio_bus_master(d, 0, err);
}

int luio_config_check(luio_device *d, unsigned *wrong, luio_error *err)
{
  *wrong = 0;
  if (d->gone || !d->wanted.watched)
    return 0;
  int rc = withhold(d, wrong, err);
  if (rc < 0)
    return rc;
  pthread_mutex_lock(&d->command_lock);
  rc = set_right(d, wrong, err);
  pthread_mutex_unlock(&d->command_lock);
  if (rc == 0 && *wrong & LUIO_WRONG_FORGOT) /* a device that kept it on is switched off for sure */
    rc = luio_bus_master(d, 0, err);
  else if (rc == 0 && d->intx_by_command)
    rc = luio_irq_check_mask(d, wrong, err);
  if (rc == 0)
    rc = luio_vectors_check(d, wrong, err);
  if (rc == 0 && *wrong & LUIO_WRONG_BUS_MASTER)
    rc = withhold(d, wrong, err);
  return rc < 0 ? rc : (*wrong & ~(unsigned)LUIO_WRONG_AGAIN) != 0;
}
