/* qemu_hotplug.c - the operating system's part of PCIe hot-plug: slots that devices come to and leave while the machine runs.
 *
 * A port that can do so has slot registers (PCI Express Base Specification 5.0, 7.5.3.9 to 7.5.3.11), and holds its interrupt line while
 * something has happened there. QEMU's device_del presses the slot's attention button; the device goes when the slot's power is
 * switched off, which is done at once. device_add puts a device into a slot without power; it answers when that is on, and has no
 * addresses then. They are given out by the thread that opens it or takes it again (luio_qemu_settle), in the windows that the bridge
 * got at the start.
 *
 * (ACPI's hot-plug, q35's default, is off: qemu.c. A port that it is on for says that its slot is empty, and is left alone.)
 *
 * The device goes while the bus's lock is held, and its functions are marked before anybody else can reach the bus: so no access that
 * came too late passes for one that reached it. (QEMU answers such a read with 0.)
 *
 * Most of it is called with that lock held. */
#include "qemu.h"

enum {
  SLOT_CAPABILITIES = 0x14, /* in the PCI Express capability */
  SLOT_CONTROL = 0x18,
  SLOT_STATUS = 0x1a,
  FLAGS_SLOT = 1 << 8,  /* of the capability's second word: a slot is there */
  CAN_HOTPLUG = 1 << 6, /* of slot capabilities */
  /* of slot control */
  BUTTON_INTERRUPT = 1 << 0,
  PRESENCE_INTERRUPT = 1 << 3,
  HOTPLUG_INTERRUPT = 1 << 5,
  INDICATOR = 3 << 8,
  INDICATOR_ON = 1 << 8,
  INDICATOR_OFF = 3 << 8,
  POWER_OFF = 1 << 10,
  /* of slot status */
  BUTTON = 1 << 0,
  PRESENCE_CHANGED = 1 << 3,
  CHANGES = 0x11f, /* is written to clear them */
  PRESENT = 1 << 6,
};

enum {
  ROUNDS = 16
}; /* a status that changes for ever is looked at again with the next interrupt */

static unsigned get(luio_qemu *q, uint64_t addr)
{
  uint16_t value = 0;
  luio_qemu_transfer(q, QEMU_MEMORY, addr, 16, &value, NULL, 1);
  return value;
}

static void put(luio_qemu *q, uint64_t addr, unsigned value)
{
  uint16_t word = (uint16_t)value;
  luio_qemu_transfer(q, QEMU_MEMORY, addr, 16, NULL, &word, 1);
}

bool luio_qemu_slot_usable(luio_qemu *q, uint64_t capability, bool taken)
{
  luio_qemu_bus_begin(q);
  bool usable = q->n_slots < QEMU_SLOTS && get(q, capability + 2) & FLAGS_SLOT &&
                get(q, capability + SLOT_CAPABILITIES) & CAN_HOTPLUG &&
                !(get(q, capability + SLOT_STATUS) & PRESENT) == !taken;
  luio_qemu_bus_end(q);
  return usable;
}

void luio_qemu_slot_add(luio_qemu *q, const struct luio_qemu_slot *slot)
{
  uint64_t at = slot->capability;
  q->slots[q->n_slots++] = *slot;
  q->look = luio_qemu_slots_look;
  put(q, at + SLOT_STATUS, CHANGES);
  put(q, at + SLOT_CONTROL,
      get(q, at + SLOT_CONTROL) | BUTTON_INTERRUPT | PRESENCE_INTERRUPT | HOTPLUG_INTERRUPT);
}

static void gone(luio_qemu *q, const struct luio_qemu_slot *slot)
{
  for (unsigned i = 0; i < q->n_functions; i++)
    if (q->functions[i].here && q->functions[i].bus >= slot->bus &&
        q->functions[i].bus <= slot->last_bus) {
      q->functions[i].here = false;
      atomic_fetch_add(&q->functions[i].pulled, 1);
    }
  luio_qemu_tell(q, LUIO_QEMU_UNPLUGGED);
}

/* Whether something had happened. */
static bool look(luio_qemu *q, struct luio_qemu_slot *slot)
{
  uint64_t at = slot->capability;
  unsigned status = get(q, at + SLOT_STATUS), control = get(q, at + SLOT_CONTROL);
  if (q->failure.code || status == 0xffff || !(status & CHANGES))
    return false;
  put(q, at + SLOT_STATUS, status & CHANGES);
  bool powered = !(control & POWER_OFF), present = status & PRESENT;
  unsigned others = control & ~(unsigned)(INDICATOR | POWER_OFF);
  if (powered && present && status & BUTTON && !(status & PRESENCE_CHANGED)) {
    put(q, at + SLOT_CONTROL, others | INDICATOR_OFF | POWER_OFF);
    gone(q, slot);
  } else if (powered && !present) {
    gone(q, slot);
    put(q, at + SLOT_CONTROL, others | INDICATOR_OFF | POWER_OFF);
  } else if (!powered && present) {
    put(q, at + SLOT_CONTROL, others | INDICATOR_ON);
    slot->fresh = true;
    luio_qemu_tell(q, LUIO_QEMU_PLUGGED);
  }
  return true;
}

bool luio_qemu_slots_look(luio_qemu *q)
{
  bool any = false;
  for (unsigned i = 0; i < q->n_slots; i++)
    for (int round = 0; round < ROUNDS && look(q, &q->slots[i]); round++)
      any = true;
  return any;
}
