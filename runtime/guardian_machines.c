/* guardian_machines.c - QEMU machines that outlive the worker which drives their devices.
 *
 * A worker starts QEMU, but with descriptors that the guardian has made and keeps: luio's ends of its sockets, its memory, and the
 * writing end of a pipe, the lifeline. QEMU's parent, the minder, waits at the other end of that and ends QEMU (qemu_process.c).
 * The worker has a copy of the lifeline, too. So QEMU ends when both are gone, by whatever way, or when the worker has
 * closed the machine in order; and a driver whose guardian was killed can still stop its device.
 *
 * When a worker dies the next one gets the descriptors, if it asks for a machine with the same arguments. It switches bus master
 * off before it does anything else with the machine. The guardian does not do that itself: it would have to speak with QEMU, and wait
 * for one that is stuck. Until then a device may go on to write; it writes to the machine's memory alone, which is kept, and of which
 * nothing is handed out again before the device is settled.
 *
 * A machine that the next worker has not asked for when its driver has started is ended. */
#include "guardian.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

static struct machine {
  bool used;
  bool taken; /* by the worker at work */
  uint64_t key, size;
  int fd[GUARD_MACHINE_FDS];
  pid_t pid, minder; /* 0: QEMU was not started yet */
} machines[GUARD_DEVICES];

static void close_from(struct machine *m, int first)
{
  for (int i = first; i < GUARD_MACHINE_FDS; i++) {
    if (m->fd[i] >= 0)
      close(m->fd[i]);
    m->fd[i] = -1;
  }
}

/* Its minder ends QEMU, and is reaped as an orphan. */
static void drop(struct machine *m)
{
  if (m->used)
    close_from(m, 0);
  m->used = false;
}

static int make(struct machine *m)
{
  int pair[2];
  for (int i = 0; i < 3; i++) { /* QTEST, QMP, DOORBELL and THEIRS, in the same order */
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
      return errno;
    m->fd[GUARD_QTEST + i] = pair[0];
    m->fd[GUARD_QTEST_THEIRS + i] = pair[1];
  }
  if (pipe2(pair, O_CLOEXEC) < 0)
    return errno;
  m->fd[GUARD_LIFELINE_THEIRS] = pair[0];
  m->fd[GUARD_LIFELINE] = pair[1];
  m->fd[GUARD_RAM] = guard_sealed("machine memory", m->size);
  m->fd[GUARD_CHUNKS] = guard_sealed("machine memory in use", m->size / GUARD_CHUNK * 2);
  m->fd[GUARD_LOG] = guard_sealed("qemu's output", GUARD_LOG_SIZE);
  for (int i = GUARD_RAM; i <= GUARD_LOG; i++)
    if (m->fd[i] < 0)
      return -m->fd[i];
  return 0;
}

static struct machine *kept(uint64_t key, uint64_t size)
{
  for (int i = 0; i < GUARD_DEVICES; i++) {
    struct machine *m = &machines[i];
    if (m->used && !m->taken && m->minder && m->key == key && m->size == size)
      return m;
  }
  return NULL;
}

static struct machine *place(void)
{
  for (int i = 0; i < GUARD_DEVICES; i++)
    if (!machines[i].used)
      return &machines[i];
  return NULL;
}

int guardian_machine(const struct guard_request *q, struct guard_reply *r, int *fds)
{
  struct machine *m = kept(q->key, q->size);
  int n = 0;
  if (!m) {
    m = place();
    if (!m) {
      r->code = ENOSPC;
      return 0;
    }
    *m = (struct machine){.used = true, .key = q->key, .size = q->size};
    for (int i = 0; i < GUARD_MACHINE_FDS; i++)
      m->fd[i] = -1;
    r->code = make(m);
    if (r->code) {
      drop(m);
      return 0;
    }
  }
  m->taken = true;
  r->machine = (uint32_t)(m - machines);
  r->pid = m->pid;
  for (int i = 0; i < GUARD_MACHINE_FDS; i++)
    if (m->fd[i] >= 0) {
      r->slots |= 1u << i;
      fds[n++] = m->fd[i];
    }
  return n;
}

void guardian_machines_sent(void)
{
  for (int i = 0; i < GUARD_DEVICES; i++)
    if (machines[i].used)
      close_from(&machines[i], GUARD_MACHINE_KEPT);
}

int guardian_machine_runs(const struct guard_request *q)
{
  struct machine *m = q->machine < GUARD_DEVICES ? &machines[q->machine] : NULL;
  if (!m || !m->used || m->minder || q->pid <= 0 || q->minder <= 0)
    return EINVAL;
  m->pid = q->pid;
  m->minder = q->minder;
  return 0;
}

void guardian_machine_end(const struct guard_request *q)
{
  if (q->machine < GUARD_DEVICES)
    drop(&machines[q->machine]);
}

int guardian_machines_left(void)
{
  int n = 0;
  for (int i = 0; i < GUARD_DEVICES; i++) {
    machines[i].taken = false;
    if (!machines[i].minder)
      drop(&machines[i]); /* QEMU was never started, or nobody knows */
    n += machines[i].used;
  }
  return n;
}

void guardian_machines_ready(void)
{
  for (int i = 0; i < GUARD_DEVICES; i++)
    if (!machines[i].taken)
      drop(&machines[i]);
}

void guardian_close_machines(void)
{
  for (int i = 0; i < GUARD_DEVICES; i++)
    drop(&machines[i]);
}

void guardian_end_machines(void)
{
  guardian_close_machines();
  /* QEMU may have files to complete: it gets the time that its minder gives it. */
  for (int i = 0; i < GUARD_DEVICES; i++)
    if (machines[i].minder)
      guardian_reap(machines[i].minder, NULL, 3 * GUARDIAN_SECOND);
}

bool guardian_is_minder(pid_t pid)
{
  for (int i = 0; i < GUARD_DEVICES; i++)
    if (machines[i].used && machines[i].minder == pid)
      return true;
  return false;
}
