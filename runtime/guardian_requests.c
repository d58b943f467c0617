/* guardian_requests.c - the guardian's side of the mailbox: takes a worker's request and answers it.
 *
 * A worker that gave root up may be hostile, and the guardian is still root. So the mailbox (guard.h says
 * how it works) gives the guardian nothing that could make it wait:
 *
 *   - The memory is sealed: it can't get shorter, which would end the guardian by SIGBUS.
 *   - The bell is never read, for a read could be made to wait. epoll watches its edges.
 *   - A request is copied before it is checked, because the worker may change the original meanwhile.
 *   - A reply is sent without waiting. A worker that does not read its replies is ignored from then on.
 *
 * A sealed worker (GUARD_SEAL) may still ask for memory. It may not open a device, change its time limit
 * for stopping, or prevent a device's reset. */
#include "guardian.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

static struct {
  int replies; /* our end of the pair */
  int bell;
  int fd; /* of the memory */
  const struct guard_mail *mail;
  uint64_t taken; /* number of the last request */
} box = {.replies = -1, .bell = -1, .fd = -1};

/* ---- The mailbox ------------------------------------------------------------------------------- */

static void close_one(int *fd)
{
  if (*fd >= 0)
    close(*fd);
  *fd = -1;
}

void guardian_close_replies(void)
{
  close_one(&box.replies);
}

static void unmap(void)
{
  if (box.mail)
    munmap((void *)box.mail, sizeof *box.mail);
  box.mail = NULL;
}

void guardian_close_mail(void)
{
  close_one(&box.replies);
  close_one(&box.bell);
  close_one(&box.fd);
  unmap();
}

static int make_memory(void)
{
  box.bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  box.fd = memfd_create("luio-mail", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (box.bell < 0 || box.fd < 0 || ftruncate(box.fd, sizeof *box.mail) < 0 ||
      fcntl(box.fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
    return -errno;
  void *at = mmap(NULL, sizeof *box.mail, PROT_READ, MAP_SHARED, box.fd, 0);
  if (at == MAP_FAILED)
    return -errno;
  box.mail = at;
  box.taken = 0;
  return 0;
}

int guardian_open_mail(int *theirs)
{
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
    return -errno;
  box.replies = pair[0];
  /* The other direction would carry descriptors to us. */
  int rc = shutdown(box.replies, SHUT_RD) < 0 ? -errno : make_memory();
  if (rc < 0) {
    close(pair[1]);
    guardian_close_mail();
    return rc;
  }
  *theirs = pair[1];
  return 0;
}

void guardian_pass_mail(int theirs)
{
  unmap();
  char numbers[48];
  snprintf(numbers, sizeof numbers, "%d,%d,%d", theirs, box.bell, box.fd);
  setenv(GUARD_ENV, numbers, 1);
}

int guardian_bell(void)
{
  return box.bell;
}

/* ---- Answering --------------------------------------------------------------------------------- */

/* Answers a request that is about no device. */
static void answer_worker(const struct guard_request *q, struct guard_reply *r,
                          struct guardian_said *said)
{
  switch (q->kind) {
  case GUARD_HELLO:
    if (q->version != GUARD_VERSION)
      r->code = EPROTO;
    break;
  case GUARD_POLICY:
    if (said->sealed) {
      r->code = EPERM;
      break;
    }
    said->limit = q->restarts;
    said->longest_pause = q->backoff_ns;
    said->stop_ns = q->stop_ns;
    break;
  case GUARD_MACHINE_RUNS: r->code = said->sealed ? EPERM : guardian_machine_runs(q); break;
  case GUARD_MACHINE_END: guardian_machine_end(q); break;
  case GUARD_READY:
    guardian_machines_ready();
    said->ready = said->ever_ready = true;
    said->ready_at = guardian_now();
    break;
  case GUARD_LEAVE: said->leaves = true; break;
  case GUARD_SEAL:
    said->sealed = true;
    guardian_distrust();
    break;
  default: r->code = EPROTO;
  }
}

/* Answers one request; how many descriptors go along. */
static int answer(const struct guard_request *q, struct guard_reply *r, int *fds,
                  struct guardian_said *said)
{
  struct guardian_device *d = guardian_find(q->address, q->kind == GUARD_OPEN && !said->sealed);
  switch (q->kind) {
  case GUARD_OPEN:
    if (d && !said->sealed)
      return guardian_open(d, r, fds);
    r->code = said->sealed ? EPERM : ENOSPC;
    return 0;
  case GUARD_MAKE:
    r->code = d ? guardian_make(d, q->slot, q->size, fds) : EINVAL;
    if (r->code)
      return 0;
    r->slots = 1u << q->slot;
    return 1;
  case GUARD_HOLD: r->code = d ? guardian_hold(d, q->slot) : EINVAL; return 0;
  case GUARD_GONE: r->code = d ? guardian_let_go(d) : EINVAL; return 0;
  case GUARD_MACHINE:
    if (!said->sealed)
      return guardian_machine(q, r, fds);
    r->code = EPERM;
    return 0;
  case GUARD_NO_RESET: r->code = d ? guardian_keep_from_reset(d, said->sealed) : EINVAL; return 0;
  case GUARD_CLOSED:
    if (d)
      guardian_closed(d, said->sealed);
    return 0;
  default: answer_worker(q, r, said); return 0;
  }
}

bool guardian_serve(struct guardian_said *said, unsigned restarts, uint64_t died_at)
{
  struct guard_request q;
  struct guard_reply r = {.number = atomic_load_explicit(&box.mail->number, memory_order_acquire)};
  int fds[GUARD_FDS];
  if (r.number == box.taken)
    return true;
  box.taken = r.number;
  memcpy(&q, &box.mail->request, sizeof q);
  __asm__ volatile("" ::: "memory"); /* the compiler must not read the original again */
  q.address[sizeof q.address - 1] = '\0';
  if (q.kind == GUARD_HELLO) {
    r.restarts = restarts;
    r.died_ns = died_at;
  }
  int n = answer(&q, &r, fds, said);
  int rc = guard_send(box.replies, &r, sizeof r, fds, n);
  guardian_machines_sent();
  return rc == 0;
}
