/* monitor.c - kernel uevents of UIO and PCI devices, by libudev.
 *
 * If udevd runs, the monitor listens to its re-broadcast, which comes after its rules have set
 * permissions; in a bare system (an initramfs, a test guest) to the kernel's own events. An
 * overflow of the socket's bounded buffer is reported as an error. Control characters in names are
 * replaced. An event with a name that is longer than any device's is ignored, because the shortened
 * name could be another device's. */
#include "kernel.h"

#include <errno.h>
#include <libudev.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct luio_monitor {
  struct udev *udev;
  struct udev_monitor *monitor;
};

int luio_monitor_open(luio_monitor **out, luio_error *err)
{
  const char *group = access("/run/udev/control", F_OK) == 0 ? "udev" : "kernel";
  luio_monitor *m = calloc(1, sizeof *m);
  int rc = -ENOMEM;
  if (!m || !(m->udev = udev_new()))
    goto fail;
  m->monitor = udev_monitor_new_from_netlink(m->udev, group);
  if (!m->monitor) {
    rc = -errno;
    goto fail;
  }
  /* Subsystems are filtered in next: the kernel group carries no tags for libudev's own filter. */
  rc = udev_monitor_enable_receiving(m->monitor);
  if (rc < 0)
    goto fail;
  *out = m;
  return 0;

fail:
  luio_monitor_close(m);
  return luio_fail(err, -rc, "watch for devices (%s events by netlink): %s", group,
                   luio_errno_name(-rc));
}

int luio_monitor_fd(const luio_monitor *m)
{
  return udev_monitor_get_fd(m->monitor);
}

int luio_monitor_next(luio_monitor *m, luio_hotplug *out, luio_error *err)
{
  for (;;) {
    errno = 0;
    struct udev_device *dev = udev_monitor_receive_device(m->monitor);
    if (!dev) {
      if (errno == ENOBUFS)
        return luio_fail(err, ENOBUFS, "watch for devices: events were lost: list again");
      if (errno && errno != EAGAIN && errno != EINTR)
        return luio_fail(err, errno, "watch for devices: %s", luio_errno_name(errno));
      return 0;
    }
    const char *subsystem = udev_device_get_subsystem(dev);
    const char *action = udev_device_get_action(dev);
    bool ours = subsystem && action && (!strcmp(subsystem, "uio") || !strcmp(subsystem, "pci"));
    if (ours) {
      const char *driver = udev_device_get_property_value(dev, "DRIVER");
      memset(out, 0, sizeof *out);
      ours = luio_format(out->action, sizeof out->action, "%s", action) &&
             luio_format(out->subsystem, sizeof out->subsystem, "%s", subsystem) &&
             luio_format(out->address, sizeof out->address, "%s", udev_device_get_sysname(dev)) &&
             luio_format(out->driver, sizeof out->driver, "%s", driver ? driver : "");
      luio_clean(out->action);
      luio_clean(out->address);
      luio_clean(out->driver);
      out->time_ns = luio_now();
    }
    udev_device_unref(dev);
    if (ours)
      return 1;
  }
}

void luio_monitor_close(luio_monitor *m)
{
  if (!m)
    return;
  udev_monitor_unref(m->monitor);
  udev_unref(m->udev);
  free(m);
}
