/* region_qemu.c - registers of a QEMU machine's device: nothing is mapped, each access is a message (qemu_bus.c). */
#include "qemu.h"

#include <errno.h>

static luio_qemu *machine(const luio_region *r)
{
  return ((const struct luio_qemu_own *)r->own)->qemu;
}

static enum luio_qemu_space space(const luio_region *r)
{
  return r->ops == &luio_qemu_port_ops ? QEMU_PORTS : QEMU_MEMORY;
}

static int failed(const luio_region *r, const char *verb, uint64_t offset, unsigned width,
                  const luio_error *why, luio_error *err)
{
  return luio_fail(err, why->code, "%s%u %s %s at 0x%llx: %s", verb, width, r->device, r->name,
                   (unsigned long long)offset, why->message);
}

static const luio_error unplugged = {.code = ENODEV, .message = "the device is gone: unplugged"};

static int read_region(luio_region *r, uint64_t offset, unsigned width, uint64_t *value,
                       luio_error *err)
{
  luio_error why = unplugged;
  *value = 0;
  int rc = luio_qemu_read(machine(r), space(r), r->addr + offset, width, value, 1, &why);
  return rc < 0 || luio_qemu_unplugged(r->own) ? failed(r, "read", offset, width, &why, err) : 0;
}

static int write_region(luio_region *r, uint64_t offset, unsigned width, uint64_t value,
                        luio_error *err)
{
  luio_error why = unplugged;
  int rc = luio_qemu_write(machine(r), space(r), r->addr + offset, width, &value, 1, &why);
  return rc < 0 || luio_qemu_unplugged(r->own) ? failed(r, "write", offset, width, &why, err) : 0;
}

static bool read_burst(luio_region *r, uint64_t offset, unsigned width, void *to, uint64_t n)
{
  return luio_qemu_read(machine(r), space(r), r->addr + offset, width, to, n, NULL) == 0 &&
         !luio_qemu_unplugged(r->own);
}

static bool write_burst(luio_region *r, uint64_t offset, unsigned width, const void *from,
                        uint64_t n)
{
  return luio_qemu_write(machine(r), space(r), r->addr + offset, width, from, n, NULL) == 0 &&
         !luio_qemu_unplugged(r->own);
}

/* Its `gone` is all there is to it: the machine is not asked any more. */
static void nothing(luio_region *r)
{
  (void)r;
}

const struct luio_region_ops luio_qemu_memory_ops = {
    .kind = LUIO_REGION_QEMU,
    .read = read_region,
    .write = write_region,
    .read_burst = read_burst,
    .write_burst = write_burst,
    .leave = nothing,
    .forked = nothing,
    .close = nothing,
};

const struct luio_region_ops luio_qemu_port_ops = {
    .kind = LUIO_REGION_QEMU,
    .no64 = "ports have accesses of at most 32 bits",
    .read = read_region,
    .write = write_region,
    .read_burst = read_burst,
    .write_burst = write_burst,
    .leave = nothing,
    .forked = nothing,
    .close = nothing,
};
