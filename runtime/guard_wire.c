/* guard_wire.c - code of both the worker and the guardian: messages with descriptors, sealed memory,
 * and switching bus master off. Part of the library and of the program. */
#include "guard.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/memfd.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define COMMAND 0x04 /* PCI Local Bus Specification 3.0, section 6.2.2 */
#define COMMAND_MASTER 0x04

/* Room for all the descriptors that a message may carry. */
union control {
  struct cmsghdr align;
  char bytes[CMSG_SPACE(sizeof(int) * GUARD_FDS)];
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

int guard_sealed(const char *name, uint64_t size)
{
  int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (fd < 0)
    return -errno;
  if (ftruncate(fd, (off_t)size) < 0 || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) < 0) {
    int code = errno;
    close(fd);
    return -code;
  }
  return fd;
}

/* The seal prevents SIGBUS: a file that gets shorter would raise it in each process that maps the file. */
int guard_memory(unsigned slot, const char *whose, uint64_t size)
{
  static const struct {
    const char *what;
    unsigned flags;
  } kind[GUARD_SLOTS] = {
      [GUARD_SMALL] = {"dma", 0},
      [GUARD_HUGE_2M] = {"dma", MFD_HUGETLB | MFD_HUGE_2MB},
      [GUARD_HUGE_1G] = {"dma", MFD_HUGETLB | MFD_HUGE_1GB},
      [GUARD_RECORDS] = {"records", 0},
      [GUARD_STATE] = {"state", 0},
  };
  char name[96];
  if (slot >= GUARD_SLOTS || !kind[slot].what || size > GUARD_MEMORY_MOST)
    return -EINVAL;
  snprintf(name, sizeof name, "luio-%s %s", kind[slot].what, whose);
  int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | kind[slot].flags);
  if (fd < 0)
    return -errno;
  bool grows = slot < GUARD_RECORDS;
  int seals = grows ? F_SEAL_SHRINK : F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;
  if ((!grows && ftruncate(fd, (off_t)size) < 0) || fcntl(fd, F_ADD_SEALS, seals) < 0) {
    int code = errno;
    close(fd);
    return -code;
  }
  return fd;
}

bool guard_bus_master(int config_fd)
{
  uint16_t command; /* all ones: nothing is there */
  return pread(config_fd, &command, 2, COMMAND) == 2 && command != 0xffff &&
         le16toh(command) & COMMAND_MASTER;
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
