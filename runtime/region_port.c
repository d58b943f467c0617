/* region_port.c - regions of I/O ports: by port instructions where this thread may use them (port.c), else by sysfs resourceN,
 * of which one pread or pwrite is one port access.
 *
 * A port has no placeholder. When the device goes away, the descriptor is redirected to /dev/null, and the rights to
 * the instructions are given up. */
#include "registers.h"

#include <errno.h>
#include <unistd.h>

static int port_failed(const luio_region *r, ssize_t got, const char *verb, uint64_t offset,
                       luio_error *err)
{
  if (r->fd < 0)
    return luio_fail(err, EPERM,
                     "%s %s %s at 0x%llx: EPERM: this thread may not use its ports, and root was "
                     "given up before it asked",
                     verb, r->device, r->name, (unsigned long long)offset);
  int code = got < 0 ? errno : EIO;
  char why[256];
  return luio_fail(err, code, "%s %s %s at 0x%llx: %s: %s", verb, r->device, r->name,
                   (unsigned long long)offset, luio_errno_name(code),
                   luio_region_remedy(NULL, r, code, true, why, sizeof why));
}

static int read_port(luio_region *r, uint64_t offset, unsigned width, uint64_t *value,
                     luio_error *err)
{
  if (luio_port_usable(r)) {
    *value = luio_port_in(r->addr + offset, width);
    return 0;
  }
  union {
    uint8_t u8;
    uint16_t u16;
    uint32_t u32;
  } v = {0};
  ssize_t got = r->fd < 0 ? -1 : pread(r->fd, &v, width / 8, (off_t)offset);
  if (got != (ssize_t)(width / 8))
    return port_failed(r, got, "read", offset, err);
  *value = width == 8 ? v.u8 : width == 16 ? v.u16 : v.u32;
  return 0;
}

static int write_port(luio_region *r, uint64_t offset, unsigned width, uint64_t value,
                      luio_error *err)
{
  if (luio_port_usable(r)) {
    luio_port_out(r->addr + offset, width, value);
    return 0;
  }
  uint8_t u8 = (uint8_t)value;
  uint16_t u16 = (uint16_t)value;
  uint32_t u32 = (uint32_t)value;
  const void *from = width == 8 ? (void *)&u8 : width == 16 ? (void *)&u16 : (void *)&u32;
  ssize_t got = r->fd < 0 ? -1 : pwrite(r->fd, from, width / 8, (off_t)offset);
  return got == (ssize_t)(width / 8) ? 0 : port_failed(r, got, "write", offset, err);
}

static bool read_burst(luio_region *r, uint64_t offset, unsigned width, void *to, uint64_t n)
{
  bool usable = luio_port_usable(r);
  if (usable)
    luio_port_ins(r->addr + offset, width, to, n);
  return usable;
}

static bool write_burst(luio_region *r, uint64_t offset, unsigned width, const void *from,
                        uint64_t n)
{
  bool usable = luio_port_usable(r);
  if (usable)
    luio_port_outs(r->addr + offset, width, from, n);
  return usable;
}

/* ---- Life -------------------------------------------------------------------------------------- */

static void leave(luio_region *r)
{
  luio_devnull_replace(r->fd);
  luio_port_close(r);
}

/* Rights are per region and per thread: the old ones go, and r asks for its own, which were given to `now` a moment ago. */
static int take_over(luio_region *r, luio_region *now, luio_error *err)
{
  (void)err;
  luio_port_close(now);
  luio_port_close(r);
  r->addr = now->addr;
  r->size = now->size;
  luio_port_open(r); /* refused: by resourceN */
  if (now->fd >= 0 && r->fd >= 0)
    close(r->fd);
  if (now->fd >= 0)
    r->fd = now->fd;
  return 0;
}

static void forked(luio_region *r)
{
  r->port_id = 0;
  luio_devnull_replace(r->fd);
}

static void close_port(luio_region *r)
{
  luio_port_close(r);
  if (r->fd >= 0)
    close(r->fd);
}

const struct luio_region_ops luio_port_ops = {
    .kind = LUIO_REGION_PORT,
    .no64 = "port I/O has no access of 64 bits",
    .read = read_port,
    .write = write_port,
    .read_burst = read_burst,
    .write_burst = write_burst,
    .leave = leave,
    .take_over = take_over,
    .forked = forked,
    .close = close_port,
};
