/* qemu_doorbell.c - how messages of a QEMU machine's devices (MSI, MSI-X) reach this process: as eventfds, with no polling.
 *
 * The machine has one device more, QEMU's ivshmem-doorbell. A write of PEER << 16 | VECTOR to its doorbell register makes QEMU
 * signal an eventfd, which a server had told it by a Unix socket (QEMU's docs/specs/ivshmem-spec.rst). Here this library is
 * the server, by a socketpair that QEMU inherits. It tells the device that it is peer 1, and that peer 0, which is this
 * process, has certain eventfds. Peer 0, because MSI's data has 16 bits: the number alone is a vector of ours. A device whose
 * message is aimed at the doorbell register, with a number as data, then signals the eventfd of that number.
 *
 * QEMU handles such a write within the device's own: each message adds one to the eventfd, which counts up to 2^64 - 2. So
 * none is lost or merged; several that come before a read are one event with their count.
 *
 * The alternative was to aim messages at words of the shared memory. Those have to be watched by a thread, all the time, and two
 * messages between two looks are one.
 *
 * The protocol knows no end of a single eventfd, so those that a device has given back are kept for the next. QEMU reads a new
 * one when its loop comes to the socket; the doorbell is rung until it answers.
 *
 * Lock: `lock`, for all but the socket's number. */
#include "kernel.h"
#include "qemu.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
  PROTOCOL = 0,
  OWN_ID = 1,
  OUR_ID = 0,
  ID = 0x11101af4, /* its first word of config space */
  REGISTERS = 0,   /* BARs */
  MEMORY = 2,
  DOORBELL = 12,      /* a register */
  MEMORY_SIZE = 4096, /* a page: the device wants some */
  AT_ONCE = 16,       /* descriptors in the socket: the kernel limits those on their way */
};

/* In its memory, so that it is told from a user's own ivshmem. */
static const char mark[32] = "luio's doorbell";

/* A message of the protocol: a number, and a descriptor with it. fd -1: none. */
static int tell(int socket, int64_t number, int fd)
{
  union {
    struct cmsghdr head;
    char bytes[CMSG_SPACE(sizeof fd)];
  } control = {0};
  struct iovec iov = {.iov_base = &number, .iov_len = sizeof number};
  struct msghdr message = {.msg_iov = &iov, .msg_iovlen = 1};
  if (fd >= 0) {
    message.msg_control = &control;
    message.msg_controllen = sizeof control;
    control.head.cmsg_level = SOL_SOCKET;
    control.head.cmsg_type = SCM_RIGHTS;
    control.head.cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(&control.head), &fd, sizeof fd);
  }
  ssize_t n;
  do
    n = sendmsg(socket, &message, MSG_NOSIGNAL);
  while (n < 0 && errno == EINTR);
  return n == sizeof number ? 0 : n < 0 ? -errno : -EIO;
}

int luio_doorbell_start(struct luio_doorbell *b, int *theirs)
{
  int pair[2];
  if (b->socket < 0) { /* no guardian has made it */
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
      return -errno;
    b->socket = pair[0];
    *theirs = pair[1];
  }
  int memory = memfd_create("doorbell memory", MFD_CLOEXEC), rc = memory < 0 ? -errno : 0;
  if (rc == 0 && (ftruncate(memory, MEMORY_SIZE) < 0 ||
                  pwrite(memory, mark, sizeof mark, 0) != (ssize_t)sizeof mark))
    rc = -errno;
  /* In this order, all that it reads before it is there: the protocol's version, its number, its memory. */
  if (rc == 0)
    rc = tell(b->socket, PROTOCOL, -1);
  if (rc == 0)
    rc = tell(b->socket, OWN_ID, -1);
  if (rc == 0)
    rc = tell(b->socket, -1, memory);
  if (memory >= 0)
    close(memory);
  return rc;
}

/* A number without a descriptor, once it has begun: that peer is gone. */
int luio_doorbell_resume(struct luio_doorbell *b)
{
  return tell(b->socket, OUR_ID, -1);
}

static bool is_ours(luio_qemu *q, const struct luio_qemu_function *f)
{
  uint32_t id = 0;
  uint64_t words[sizeof mark / 8];
  if (luio_qemu_read(q, QEMU_MEMORY, f->ecam, 32, &id, 1, NULL) < 0 || id != ID ||
      f->bars[MEMORY].kind != LUIO_BAR_MEM || f->bars[MEMORY].size != MEMORY_SIZE ||
      f->bars[REGISTERS].kind != LUIO_BAR_MEM)
    return false;
  for (unsigned i = 0; i < sizeof mark / 8; i++)
    if (luio_qemu_read(q, QEMU_MEMORY, f->bars[MEMORY].addr + 8 * i, 64, &words[i], 1, NULL) < 0)
      return false;
  return memcmp(words, mark, sizeof mark) == 0;
}

int luio_doorbell_find(luio_qemu *q, luio_error *err)
{
  struct luio_doorbell *b = &q->doorbell;
  for (unsigned i = 0; i < q->n_functions && !b->address; i++)
    if (is_ours(q, &q->functions[i]))
      b->address = q->functions[i].bars[REGISTERS].addr + DOORBELL;
  return b->address ? 0
                    : luio_fail(err, ENODEV,
                                "start %s: its ivshmem-doorbell, which brings MSI and MSI-X to "
                                "this process, is not where the machine's devices are",
                                q->program);
}

/* ---- Eventfds ---------------------------------------------------------------------------------- */

/* O_NONBLOCK belongs to the eventfd, which QEMU shares: it clears it when it receives the descriptor, and sets it again when
 * it takes the vector. A read in between would wait for ever. */
static bool rang(int fd)
{
  struct pollfd ring = {.fd = fd, .events = POLLIN};
  uint64_t count;
  return poll(&ring, 1, 0) == 1 && read(fd, &count, sizeof count) == sizeof count;
}

/* Rings until QEMU knows the last descriptor, and so all before it. */
static int await(luio_qemu *q, unsigned number, luio_error *err)
{
  uint32_t ring = OUR_ID << 16 | number;
  uint64_t deadline = luio_now() + q->config.answer_ns;
  for (;;) {
    int rc = luio_qemu_write(q, QEMU_MEMORY, q->doorbell.address, 32, &ring, 1, err);
    if (rc < 0)
      return rc;
    if (rang(q->doorbell.fds[number]))
      return 0;
    if (luio_now() >= deadline)
      return luio_fail(err, ETIMEDOUT, "%s: its ivshmem-doorbell does not take a new vector",
                       q->program);
  }
}

/* Makes room for `more` numbers behind those that there are. */
static int grow(luio_qemu *q, unsigned more, luio_error *err)
{
  struct luio_doorbell *b = &q->doorbell;
  if (b->n + more > QEMU_VECTORS)
    return luio_fail(err, ENOSPC, "a QEMU machine has at most %d vectors in use", QEMU_VECTORS);
  for (unsigned i = 0; i < more; i++) {
    int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC), rc = fd < 0 ? -errno : 0;
    if (rc == 0)
      rc = tell(b->socket, OUR_ID, fd);
    if (rc < 0) {
      if (fd >= 0)
        close(fd);
      return luio_fail(err, -rc, "a vector of %s: %s%s", q->program, luio_errno_name(-rc),
                       rc == -EMFILE ? ": raise `ulimit -n`" : "");
    }
    b->fds[b->n] = fd;
    b->used[b->n++] = false;
    if (i + 1 == more || i % AT_ONCE == AT_ONCE - 1)
      rc = await(q, b->n - 1, err);
    if (rc < 0)
      return rc;
  }
  return 0;
}

static bool is_free(const struct luio_doorbell *b, unsigned first, unsigned n)
{
  for (unsigned i = first; i < first + n && i < b->n; i++)
    if (b->used[i])
      return false;
  return true;
}

int luio_doorbell_take(luio_qemu *q, unsigned n, luio_error *err)
{
  struct luio_doorbell *b = &q->doorbell;
  unsigned first = 0;
  int rc = 0;
  pthread_mutex_lock(&b->lock);
  while (!is_free(b, first, n))
    first += n;
  if (first + n > b->n)
    rc = grow(q, first + n - b->n, err);
  for (unsigned i = first; rc == 0 && i < first + n; i++) {
    rang(b->fds[i]); /* the last owner's */
    b->used[i] = true;
  }
  pthread_mutex_unlock(&b->lock);
  return rc < 0 ? rc : (int)first;
}

void luio_doorbell_release(luio_qemu *q, unsigned first, unsigned n)
{
  pthread_mutex_lock(&q->doorbell.lock);
  memset(q->doorbell.used + first, 0, n);
  pthread_mutex_unlock(&q->doorbell.lock);
}

int luio_doorbell_fd(luio_qemu *q, unsigned number)
{
  pthread_mutex_lock(&q->doorbell.lock);
  int fd = q->doorbell.fds[number];
  pthread_mutex_unlock(&q->doorbell.lock);
  return fd;
}

void luio_doorbell_forked(struct luio_doorbell *b)
{
  luio_devnull_replace(b->socket);
  for (unsigned i = 0; i < b->n; i++)
    luio_devnull_replace(b->fds[i]);
  pthread_mutex_init(&b->lock, NULL);
}

void luio_doorbell_close(struct luio_doorbell *b)
{
  if (b->socket >= 0)
    close(b->socket);
  for (unsigned i = 0; i < b->n; i++)
    close(b->fds[i]);
  pthread_mutex_destroy(&b->lock);
}
