/* qemu_messages.c - MSI and MSI-X of a QEMU machine's device: the part of a kernel that sets them up.
 *
 * The registers are those of the PCI Local Bus Specification 3.0, 6.8: of MSI in config space, of MSI-X a table in one of the
 * device's BARs. Each vector's message is aimed at the machine's doorbell (qemu_doorbell.c).
 *
 * MSI has one address and one data for all of its vectors, which the device tells apart by the data's low bits: so the numbers of
 * the doorbell are a block, aligned to its size (6.8.1.6). An entry of MSI-X gets its number when its vector is first opened;
 * until then it is masked, and what comes is pending. The order is the specification's: an entry is written while it is masked, and
 * the function is masked while the capability is switched on (6.8.2). INTx is switched off by INTX_DISABLE, too, for a driver's
 * model may look at that alone. */
#include "qemu.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* 6.8.1, from the capability on; data and mask come 4 later where the address has 64 bits. */
enum {
  MSI_ADDRESS = 4,
  MSI_DATA = 8,
  MSI_MASK = 12,
  MSI_CAPABLE = 1, /* shifts of the control word's fields */
  MSI_ENABLED = 4,
  MSI_ENABLED_ALL = 7 << MSI_ENABLED,
  MSI_64 = 1 << 7,
  MSI_MASKABLE = 1 << 8,
};

/* 6.8.2. */
enum {
  MSIX_TABLE = 4,
  MSIX_BIR = 7,
  MSIX_FUNCTION_MASK = 1 << 14,
  ENTRY = 16, /* bytes of a table's entry: address, its upper half, data, control */
  ENTRY_HIGH = 4,
  ENTRY_DATA = 8,
  ENTRY_CONTROL = 12,
  ENTRY_MASKED = 1,
};

static struct luio_qemu_own *own(const luio_device *d)
{
  return d->own;
}

static const char *missing(const luio_device *d)
{
  const luio_qemu *q = own(d)->qemu;
  return q->doorbell.address ? NULL
         : !q->config.argv
             ? "they come by an ivshmem-doorbell that luio serves from the machine's start, and "
               "somebody else started this one: have "
               "luio start it (qemu:NAME, with its arguments by --qemu)"
             : "its QEMU machine was started without what brings them here: open the first of its "
               "devices with `vectors` (--vectors), or with `messages = true`";
}

static int set_control(luio_device *d, uint32_t value, luio_error *err)
{
  return luio_config_write(d, own(d)->messages.capability + PCI_MESSAGE_CONTROL, 16, value, err);
}

/* ---- MSI --------------------------------------------------------------------------------------- */

static unsigned msi_data(const struct luio_qemu_messages *m)
{
  return m->capability + MSI_DATA + (m->control & MSI_64 ? 4 : 0);
}

static int msi_put_masks(luio_device *d, luio_error *err)
{
  const struct luio_qemu_messages *m = &own(d)->messages;
  return m->control & MSI_MASKABLE
             ? luio_config_write(d, msi_data(m) + MSI_MASK - MSI_DATA, 32, m->masks, err)
             : 0;
}

/* All of it, with the lock held. */
static int msi_put(luio_device *d, luio_error *err)
{
  const struct luio_qemu_messages *m = &own(d)->messages;
  uint64_t to = own(d)->qemu->doorbell.address;
  uint32_t enabled = m->control >> MSI_CAPABLE & 7;
  int rc = luio_config_write(d, m->capability + MSI_ADDRESS, 32, (uint32_t)to, err);
  if (rc == 0 && m->control & MSI_64)
    rc = luio_config_write(d, m->capability + MSI_ADDRESS + 4, 32, (uint32_t)(to >> 32), err);
  if (rc == 0)
    rc = luio_config_write(d, msi_data(m), 16, m->first, err);
  if (rc == 0)
    rc = msi_put_masks(d, err);
  return rc < 0 ? rc
                : set_control(d,
                              (m->control & ~(uint32_t)MSI_ENABLED_ALL) | enabled << MSI_ENABLED |
                                  PCI_MSI_ENABLE,
                              err);
}

static int msi_on(luio_device *d, luio_error *err)
{
  struct luio_qemu_messages *m = &own(d)->messages;
  unsigned n = 1u << (m->control >> MSI_CAPABLE & 7);
  int first = luio_doorbell_take(own(d)->qemu, n, err);
  if (first < 0)
    return first;
  m->count = n;
  m->first = (unsigned)first;
  m->masks = ~0u;
  return msi_put(d, err);
}

/* ---- MSI-X ------------------------------------------------------------------------------------- */

static int put(luio_device *d, unsigned vector, unsigned offset, uint32_t value, luio_error *err)
{
  return luio_qemu_write(own(d)->qemu, QEMU_MEMORY,
                         own(d)->messages.table + (uint64_t)vector * ENTRY + offset, 32, &value, 1,
                         err);
}

/* An entry, which is masked. */
static int put_entry(luio_device *d, unsigned vector, luio_error *err)
{
  const struct luio_qemu_messages *m = &own(d)->messages;
  uint64_t to = own(d)->qemu->doorbell.address;
  int rc = put(d, vector, 0, (uint32_t)to, err);
  if (rc == 0)
    rc = put(d, vector, ENTRY_HIGH, (uint32_t)(to >> 32), err);
  return rc == 0 ? put(d, vector, ENTRY_DATA, (uint32_t)m->numbers[vector], err) : rc;
}

/* All of it, with the lock held. */
static int msix_put(luio_device *d, luio_error *err)
{
  const struct luio_qemu_messages *m = &own(d)->messages;
  uint32_t control = m->control | PCI_MSIX_ENABLE;
  int rc = set_control(d, control | MSIX_FUNCTION_MASK, err);
  for (unsigned i = 0; rc == 0 && i < m->count; i++) {
    rc = put(d, i, ENTRY_CONTROL, ENTRY_MASKED, err);
    if (rc == 0 && m->numbers[i] >= 0)
      rc = put_entry(d, i, err);
    if (rc == 0 && m->open[i])
      rc = put(d, i, ENTRY_CONTROL, 0, err);
  }
  return rc == 0 ? set_control(d, control & ~(uint32_t)MSIX_FUNCTION_MASK, err) : rc;
}

/* Where its table is. */
static int find_table(luio_device *d, uint64_t *out, luio_error *err)
{
  const struct luio_qemu_messages *m = &own(d)->messages;
  uint32_t table;
  int rc = luio_config_read(d, m->capability + MSIX_TABLE, 32, &table, err);
  if (rc < 0)
    return rc;
  unsigned bir = table & MSIX_BIR, entries = (m->control & PCI_MSIX_SIZE) + 1;
  const luio_bar *bar = &own(d)->function->bars[bir < LUIO_MAX_BARS ? bir : 0];
  table &= ~(uint32_t)MSIX_BIR;
  if (bir >= LUIO_MAX_BARS || bar->kind != LUIO_BAR_MEM || table >= bar->size ||
      bar->size - table < (uint64_t)entries * ENTRY)
    return luio_fail(err, EIO,
                     "MSI-X of %s: its table of %u entries, at 0x%x of BAR%u, is in no memory BAR "
                     "that could be placed",
                     d->info.address, entries, table, bir);
  *out = bar->addr + table;
  return 0;
}

static int msix_on(luio_device *d, luio_error *err)
{
  struct luio_qemu_messages *m = &own(d)->messages;
  int rc = find_table(d, &m->table, err);
  if (rc < 0)
    return rc;
  unsigned n = (m->control & PCI_MSIX_SIZE) + 1;
  m->numbers = calloc(n, sizeof *m->numbers);
  m->open = calloc(n, 1);
  if (!m->numbers || !m->open)
    return luio_fail(err, ENOMEM, "MSI-X of %s: out of memory", d->info.address);
  m->count = n;
  for (unsigned i = 0; i < m->count; i++)
    m->numbers[i] = -1;
  return msix_put(d, err);
}

/* Gives an entry, which is masked, a number of the doorbell. */
static int aim(luio_device *d, unsigned vector, luio_error *err)
{
  struct luio_qemu_messages *m = &own(d)->messages;
  int number = luio_doorbell_take(own(d)->qemu, 1, err);
  if (number < 0)
    return number;
  m->numbers[vector] = (int16_t)number;
  int rc = put_entry(d, vector, err);
  if (rc < 0) {
    luio_doorbell_release(own(d)->qemu, (unsigned)number, 1);
    m->numbers[vector] = -1;
  }
  return rc;
}

/* ---- Both -------------------------------------------------------------------------------------- */

static void forget(luio_device *d)
{
  struct luio_qemu_messages *m = &own(d)->messages;
  luio_qemu *q = own(d)->qemu;
  for (unsigned i = 0; m->numbers && i < m->count; i++)
    if (m->numbers[i] >= 0)
      luio_doorbell_release(q, (unsigned)m->numbers[i], 1);
  if (!m->numbers && m->count)
    luio_doorbell_release(q, m->first, m->count);
  free(m->numbers);
  free(m->open);
  m->numbers = NULL;
  m->open = NULL;
  m->count = 0;
}

/* Sets INTX_DISABLE, or puts it back. */
static int intx(luio_device *d, bool off, luio_error *err)
{
  struct luio_qemu_messages *m = &own(d)->messages;
  uint32_t command, bit = off || m->intx_was_off ? PCI_COMMAND_INTX_DISABLE : 0;
  pthread_mutex_lock(&d->command_lock);
  int rc = luio_command_change(d, bit, PCI_COMMAND_INTX_DISABLE & ~bit, &command, err);
  d->intx_open = false;
  pthread_mutex_unlock(&d->command_lock);
  if (rc == 0 && off)
    m->intx_was_off = command & PCI_COMMAND_INTX_DISABLE;
  return rc;
}

static int off(luio_device *d, luio_error *err)
{
  struct luio_qemu_messages *m = &own(d)->messages;
  uint32_t enable = PCI_MSI_ENABLE;
  if (m->numbers)
    enable = PCI_MSIX_ENABLE | MSIX_FUNCTION_MASK;
  int rc = set_control(d, m->control & ~enable, err);
  if (rc == 0)
    rc = intx(d, false, err);
  forget(d); /* whatever it said: the device is gone, or its machine */
  return rc;
}

static int on(luio_device *d, int kind, luio_error *err)
{
  struct luio_qemu_messages *m = &own(d)->messages;
  luio_error ignored;
  m->capability = luio_capability(d, kind == LUIO_MSI ? PCI_CAP_MSI : PCI_CAP_MSIX);
  int rc = luio_config_read(d, m->capability + PCI_MESSAGE_CONTROL, 16, &m->control, err);
  if (rc == 0)
    rc = intx(d, true, err);
  if (rc < 0)
    return rc;
  rc = kind == LUIO_MSI ? msi_on(d, err) : msix_on(d, err);
  if (rc < 0)
    off(d, &ignored);
  return rc < 0 ? rc : (int)m->count;
}

static int source(luio_device *d, unsigned vector, luio_error *err)
{
  struct luio_qemu_messages *m = &own(d)->messages;
  int rc = m->numbers && m->numbers[vector] < 0 ? aim(d, vector, err) : 0;
  if (rc < 0)
    return rc;
  return luio_doorbell_fd(own(d)->qemu,
                          m->numbers ? (unsigned)m->numbers[vector] : m->first + vector);
}

static int mask(luio_device *d, unsigned vector, bool masked, luio_error *err)
{
  struct luio_qemu_messages *m = &own(d)->messages;
  int rc;
  if (d->gone || luio_qemu_unplugged(own(d)))
    return 0; /* something else may be there */
  pthread_mutex_lock(&m->lock);
  if (m->numbers) {
    m->open[vector] = !masked;
    rc = put(d, vector, ENTRY_CONTROL, masked ? ENTRY_MASKED : 0, err);
  } else {
    uint32_t bit = 1u << vector;
    m->masks = masked ? m->masks | bit : m->masks & ~bit;
    rc = msi_put_masks(d, err);
  }
  pthread_mutex_unlock(&m->lock);
  return rc;
}

static int restore(luio_device *d, luio_error *err)
{
  struct luio_qemu_messages *m = &own(d)->messages;
  bool was = m->intx_was_off;
  int rc = intx(d, true, err);
  m->intx_was_off = was;
  if (rc < 0)
    return rc;
  pthread_mutex_lock(&m->lock);
  rc = m->numbers ? msix_put(d, err) : msi_put(d, err);
  pthread_mutex_unlock(&m->lock);
  return rc;
}

const struct luio_message_ops luio_qemu_message_ops = {
    .missing = missing,
    .on = on,
    .off = off,
    .restore = restore,
    .source = source,
    .mask = mask,
};
