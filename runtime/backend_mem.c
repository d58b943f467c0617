/* backend_mem.c - ranges of physical addresses, by /dev/mem: mem:0xADDR+0xLEN.
 *
 * The device has one region: exactly the bytes of the range, without the rest of its first and last page. The kernel
 * has no device there, so there is no interrupt, no config space and no bus master bit. Without a bus master bit the
 * device could not be stopped, so there is no DMA memory.
 *
 * devmem.c decides whether the range is allowed, at opening and again at mapping. A kernel driver may claim the range
 * later. Then the device counts as gone: luio_device_present sees the claim in /proc/iomem, and with
 * CONFIG_IO_STRICT_DEVMEM the kernel revokes the mapping, so that the next access raises SIGBUS.
 *
 * The descriptor is opened with O_SYNC, so that the kernel maps the range uncached; with O_RDONLY for a read-only
 * device. A lock on exactly those bytes of /dev/mem excludes a second owner of an overlapping range. The lock belongs
 * to the descriptor (F_OFD_SETLK), because a process may have several such devices. */
#include "ways.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

/* ---- The lock ---------------------------------------------------------------------------------- */

static int take_lock(const luio_device *d, luio_error *err)
{
  const luio_map *range = luio_devmem_range(&d->info);
  struct flock lock = {.l_type = F_WRLCK,
                       .l_whence = SEEK_SET,
                       .l_start = (off_t)range->addr,
                       .l_len = (off_t)range->size};
  if (fcntl(d->mem_fd, F_OFD_SETLK, &lock) == 0)
    return 0;
  if (errno != EAGAIN && errno != EACCES)
    return luio_fail(err, errno, "lock %s: %s", d->info.address, luio_errno_name(errno));
  return luio_locked(d, ", or some of it", err);
}

/* ---- Opening ----------------------------------------------------------------------------------- */

static int open_failed(const luio_device *d, int code, luio_error *err)
{
  const char *why = "see dmesg";
  if (code == EACCES)
    why = "it is root's: run as root";
  else if (code == ENOENT)
    why = "no such node: a container, or a kernel without CONFIG_DEVMEM; where it has that, `mknod "
          "-m 640 " LUIO_DEVMEM " c 1 1`";
  else if (code == ENXIO || code == ENODEV)
    why = "this kernel has no CONFIG_DEVMEM: give the device a UIO driver";
  else if (code == EPERM && luio_locked_down())
    why = "the kernel is locked down (secure boot): use a UIO driver that offers the region as a "
          "map, switch secure boot off, or boot without lockdown=";
  else if (code == EPERM)
    why = "this process has no CAP_SYS_RAWIO: is it in a container?";
  return luio_fail(err, code, "open %s: open " LUIO_DEVMEM ": %s: %s", d->info.address,
                   luio_errno_name(code), why);
}

static int open_mem(luio_device *d, const luio_device *before, luio_error *err)
{
  bool read_only = d->flags & LUIO_READ_ONLY, shared = read_only || d->flags & LUIO_SHARED;
  int rc = luio_devmem_allowed(d, !read_only, err);
  if (rc < 0)
    return rc;
  d->mem_fd = open(LUIO_DEVMEM, (read_only ? O_RDONLY : O_RDWR) | O_SYNC | O_CLOEXEC);
  if (d->mem_fd < 0)
    return open_failed(d, errno, err);
  rc = shared ? 0 : take_lock(d, err);
  return rc == 0 && !shared && !before ? luio_guard_open(&d->slots, err) : rc;
}

static void close_mem(luio_device *d)
{
  if (d->mem_fd >= 0)
    close(d->mem_fd);
}

static bool has_region(const luio_device *d, unsigned index)
{
  (void)d;
  return index == 0;
}

static int open_region(luio_device *d, luio_region *r, luio_error *err)
{
  const luio_map *range = luio_devmem_range(&d->info);
  r->addr = range->addr;
  r->size = range->size;
  luio_format(r->name, sizeof r->name, "memory by " LUIO_DEVMEM);
  int rc = luio_devmem_allowed(
      d, false, err); /* again: a claim may have appeared since the device was opened */
  if (rc < 0)
    return rc;
  rc = luio_region_map(d, r, d->mem_fd, range->addr / LUIO_PAGE, range->offset, LUIO_DEVMEM, err);
  if (rc == -EPERM)
    return luio_fail(
        err, EPERM,
        "map %s: EPERM: the kernel keeps some page of it to itself. CONFIG_STRICT_DEVMEM: "
        "RAM; CONFIG_IO_STRICT_DEVMEM: a page in which a driver has claimed anything "
        "(`cat /proc/iomem`), which booting with iomem=relaxed allows. With a UIO driver "
        "neither is in the way",
        d->info.address);
  if (rc == -EINVAL)
    return luio_fail(
        err, EINVAL,
        "map %s: EINVAL: this machine has no such physical address, or the kernel has mapped "
        "it with another kind of caching",
        d->info.address);
  return rc;
}

static bool takes_mem(const luio_info *info)
{
  return luio_devmem_is_address(info->address);
}

static bool present(luio_device *d)
{
  return !luio_devmem_claimed(d);
}

static void leave(luio_device *d)
{
  luio_guard_gone(&d->slots);
}

static int address_now(const luio_device *d, char address[64], luio_error *err)
{
  (void)err;
  luio_format(address, 64, "%s", d->info.address);
  return 0;
}

static void unlock(luio_device *d)
{
  close_mem(d);
  d->mem_fd = -1;
}

static void take_files(luio_device *d, luio_device *now)
{
  d->mem_fd = now->mem_fd;
  now->mem_fd = -1;
}

static void forked(luio_device *d)
{
  luio_devnull_replace(d->mem_fd);
}

const struct luio_backend luio_mem = {
    .capabilities = LUIO_CAN_LEAVE, /* a kernel driver can claim the range */
    .no_config = "there is none by /dev/mem, nor a bus master: open the device by its PCI address",
    .no_interrupt = "/dev/mem brings none; poll it, or give the device a UIO driver",
    /* Nothing could keep the device from writing to it after it is freed. */
    .no_dma =
        "by /dev/mem its bus master can't be switched off again: give the device a UIO driver",
    .takes = takes_mem,
    .open = open_mem,
    .close = close_mem,
    .has_region = has_region,
    .region = open_region,
    .unmask = luio_uio_unmask,
    .mask = luio_uio_mask,
    .present = present,
    .leave = leave,
    .address_now = address_now,
    .unlock = unlock,
    .take_files = take_files,
    .forked = forked,
};
