/* guard_wire.c - what the worker and the guardian do alike: messages with descriptors, and the switch
 * that stops a device. Part of the library and of the program. */
#include "guard.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define COMMAND 0x04 /* PCI Local Bus Specification 3.0, section 6.2.2 */
#define COMMAND_MASTER 0x04

/* Room for all the descriptors that a message may carry. */
union control {
  struct cmsghdr align;
  char bytes[CMSG_SPACE(sizeof(int) * GUARD_SLOTS)];
};

int guard_send(int fd, const void *data, size_t size, const int *fds, int n)
{
  union control c;
  struct iovec io = {(void *)data, size};
  struct msghdr m = {.msg_iov = &io, .msg_iovlen = 1};
  if (n) {
    memset(&c, 0, sizeof c);
    m.msg_control = &c;
    m.msg_controllen = CMSG_SPACE(sizeof(int) * (size_t)n);
    struct cmsghdr *h = CMSG_FIRSTHDR(&m);
    h->cmsg_level = SOL_SOCKET;
    h->cmsg_type = SCM_RIGHTS;
    h->cmsg_len = CMSG_LEN(sizeof(int) * (size_t)n);
    memcpy(CMSG_DATA(h), fds, sizeof(int) * (size_t)n);
  }
  ssize_t sent = sendmsg(fd, &m, MSG_NOSIGNAL | MSG_DONTWAIT);
  return sent == (ssize_t)size ? 0 : sent < 0 ? -errno : -EIO;
}

ssize_t guard_receive(int fd, void *data, size_t size, int *fds, int *n)
{
  union control c;
  struct iovec io = {data, size};
  struct msghdr m = {
      .msg_iov = &io, .msg_iovlen = 1, .msg_control = &c, .msg_controllen = sizeof c};
  int room = *n;
  *n = 0;
  ssize_t got = recvmsg(fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (got < 0)
    return -errno;
  for (struct cmsghdr *h = CMSG_FIRSTHDR(&m); h; h = CMSG_NXTHDR(&m, h)) {
    if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS)
      continue;
    size_t count = (h->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; i++) {
      int came;
      memcpy(&came, CMSG_DATA(h) + i * sizeof came, sizeof came);
      if (*n < room)
        fds[(*n)++] = came;
      else
        close(came); /* nobody asked for it */
    }
  }
  return got;
}

/* Two bytes, as config space wants it: the upper half of the word is status, cleared by ones. */
int guard_bus_master_off(int config_fd)
{
  uint8_t command[2];
  if (pread(config_fd, command, 2, COMMAND) != 2)
    return -ENODEV;
#ifndef GUARDIAN_LEAVES_BUS_MASTER_ON /* for the specs, which must fail then: build/luio-reckless */
  if (command[0] & COMMAND_MASTER) {
    command[0] &= (uint8_t)~COMMAND_MASTER;
    if (pwrite(config_fd, command, 2, COMMAND) != 2)
      return -errno;
  }
#endif
  /* A completion does not overtake the device's writes that are on their way (PCI Express Base
   * Specification, 2.4.1): when this comes back they have arrived. */
  if (pread(config_fd, command, 2, COMMAND) != 2)
    return -ENODEV;
  return command[0] & COMMAND_MASTER ? 1 : 0;
}
