/* guard.c - the worker's side of the guardian: requests, the memory and descriptors in replies, and
 * the guardian's death.
 *
 * One request at a time (guard.h). The guardian answers within REPLY_MS, because nothing that it does
 * takes longer. The guardian opens a device's config space and creates its memory before this process
 * has either. So while the device can write, the worker is never the only holder of the memory.
 *
 * If the guardian dies, its end of the socket closes. A thread waits for that only. It signals the
 * loop through an eventfd, and the loop stops the driver in order. If the loop is stuck in the
 * driver's code, the thread switches bus master off after LEAVE_NS and ends the process. No other
 * place in the library ends the process. */
#include "worker.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define REPLY_MS 5000
#define LEAVE_NS LUIO_STOP_NS

static struct {
  pthread_mutex_t lock; /* one request at a time; the fields below */
  bool attached;
  int fd;   /* our end of the pair: replies */
  int bell; /* rung when there is mail */
  struct guard_mail *mail;
  int wake_fd; /* eventfd: the guardian is gone */
  uint64_t requests;
  luio_guard_status status;
  struct {
    char address[64];
    int config_fd; /* borrowed from the device; -1: none */
  } open[GUARD_PLACES];
} guard = {.lock = PTHREAD_MUTEX_INITIALIZER, .fd = -1, .bell = -1, .wake_fd = -1};

static luio_slots process = {.address = GUARD_PROCESS};

/* ---- Requests ---------------------------------------------------------------------------------- */

static int gone(luio_error *err)
{
  return luio_fail(err, EPIPE, "the guardian of this process is gone: stop, and start again");
}

/* Room for all the descriptors that a reply may carry. */
union control {
  struct cmsghdr align;
  char bytes[CMSG_SPACE(sizeof(int) * GUARD_FDS)];
};

/* One message: its length, 0 at the other side's end, -errno. n: how many descriptors came. */
static ssize_t receive_message(int fd, void *data, size_t size, int fds[GUARD_FDS], int *n)
{
  union control c;
  struct iovec io = {data, size};
  struct msghdr m = {
      .msg_iov = &io, .msg_iovlen = 1, .msg_control = &c, .msg_controllen = sizeof c};
  *n = 0;
  ssize_t got = recvmsg(fd, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (got < 0)
    return -errno;
  for (struct cmsghdr *h = CMSG_FIRSTHDR(&m); h; h = CMSG_NXTHDR(&m, h)) {
    if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS)
      continue;
    size_t count = (h->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count && *n < GUARD_FDS; i++) {
      memcpy(&fds[*n], CMSG_DATA(h) + i * sizeof *fds, sizeof *fds);
      (*n)++;
    }
  }
  return got;
}

/* Waits for the reply of that number. Those of requests that were given up are dropped. */
static int receive(uint64_t number, struct guard_reply *r, int *fds)
{
  uint64_t until = luio_now() + REPLY_MS * 1000000ull;
  for (;;) {
    uint64_t now = luio_now();
    struct pollfd p = {.fd = guard.fd, .events = POLLIN};
    int ready = poll(&p, 1, now < until ? (int)((until - now) / 1000000) + 1 : 0);
    if (ready < 0 && errno == EINTR)
      continue;
    int came[GUARD_FDS], n;
    if (ready == 0)
      return -ETIMEDOUT;
    if (ready < 0 || receive_message(guard.fd, r, sizeof *r, came, &n) != (ssize_t)sizeof *r)
      return -EPIPE;
    bool ours = r->number == number;
    for (int slot = 0, i = 0; i < n; slot++) {
      if (slot < GUARD_FDS && !(r->slots & 1u << slot))
        continue;
      if (ours && fds && slot < GUARD_FDS)
        fds[slot] = came[i++];
      else
        close(came[i++]);
    }
    if (ours)
      return 0;
  }
}

/* fds: the reply's descriptors, by their slots (GUARD_SLOTS, or GUARD_MACHINE_FDS), or NULL. -EPIPE, -ETIMEDOUT (err is filled), or what the
 * guardian says. */
static int request(struct guard_request *q, struct guard_reply *r, int *fds, luio_error *err)
{
  uint64_t one = 1;
  q->version = GUARD_VERSION;
  pthread_mutex_lock(&guard.lock);
  guard.mail->request = *q;
  /* Release: a reader that sees the number sees the request. */
  atomic_store_explicit(&guard.mail->number, ++guard.requests, memory_order_release);
  int rc = write(guard.bell, &one, sizeof one) == (ssize_t)sizeof one
               ? receive(guard.requests, r, fds)
               : -EPIPE;
  pthread_mutex_unlock(&guard.lock);
  if (rc == -ETIMEDOUT)
    return luio_fail(err, ETIMEDOUT,
                     "the guardian of this process does not answer within %d s: is it stopped?",
                     REPLY_MS / 1000);
  return rc < 0 ? gone(err) : -r->code;
}

/* ---- The guardian's death ---------------------------------------------------------------------- */

static void *watch(void *unused)
{
  (void)unused;
  struct pollfd p = {.fd = guard.fd}; /* POLLHUP comes unasked */
  while (poll(&p, 1, -1) < 0 && errno == EINTR)
    ;
  uint64_t one = 1;
  ssize_t ignored = write(guard.wake_fd, &one, sizeof one);
  (void)ignored;
  struct timespec t = {.tv_sec = (time_t)(LEAVE_NS / LUIO_NS_PER_S)};
  while (nanosleep(&t, &t) < 0 && errno == EINTR)
    ;
  /* Lua has not stopped the driver. No lock is taken: its holder may be stuck. */
  for (int i = 0; i < GUARD_PLACES; i++)
    if (guard.open[i].address[0] && guard.open[i].config_fd >= 0)
      guard_bus_master_off(guard.open[i].config_fd); /* a failure means that the device is gone */
  _exit(1);
}

static int start_watch(luio_error *err)
{
  pthread_t thread;
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  int rc = pthread_create(&thread, NULL, watch, NULL);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  if (rc)
    return luio_fail(err, rc, "watch the guardian: start a thread: %s", luio_errno_name(rc));
  pthread_detach(thread);
  return 0;
}

/* ---- Forked children ----------------------------------------------------------------------------- */

void luio_slots_init(luio_slots *s)
{
  for (int i = 0; i < GUARD_SLOTS; i++)
    s->kept[i] = -1;
}

void luio_slots_forked(luio_slots *s)
{
  for (int i = 0; i < GUARD_SLOTS; i++)
    luio_devnull_replace(s->kept[i]);
  s->state = NULL;
  s->state_last = NULL;
  s->guarded = false;
}

static void forked(void *unused)
{
  (void)unused;
  luio_slots_forked(&process);
  luio_devnull_replace(guard.fd);
  luio_devnull_replace(guard.bell);
  luio_devnull_replace(guard.wake_fd);
  guard.attached = false;
  guard.wake_fd = -1; /* luio_guard_fd */
}

/* ---- Life -------------------------------------------------------------------------------------- */

int luio_guard_attach(luio_guard_status *out, luio_error *err)
{
  *out = guard.status;
  if (guard.attached)
    return 1;
  const char *numbers = getenv(GUARD_ENV);
  int mail_fd, end = 0;
  if (!numbers)
    return 0;
  if (sscanf(numbers, "%d,%d,%d%n", &guard.fd, &guard.bell, &mail_fd, &end) != 3 || numbers[end])
    return luio_fail(err, EBADF, "%s=%s: those are no descriptors of a guardian: unset it",
                     GUARD_ENV, numbers);
  void *at = mmap(NULL, sizeof *guard.mail, PROT_READ | PROT_WRITE, MAP_SHARED, mail_fd, 0);
  if (at == MAP_FAILED || fcntl(guard.fd, F_SETFD, FD_CLOEXEC) < 0 ||
      fcntl(guard.bell, F_SETFD, FD_CLOEXEC) < 0)
    return luio_fail(err, EBADF, "%s=%s: those are no descriptors of a guardian: unset it",
                     GUARD_ENV, numbers);
  close(mail_fd);
  madvise(at, sizeof *guard.mail, MADV_DONTFORK);
  guard.mail = at;
  unsetenv(GUARD_ENV); /* children are not guarded */
  struct guard_request q = {.kind = GUARD_HELLO};
  struct guard_reply r = {.code = 0};
  int rc = request(&q, &r, NULL, err);
  if (rc == -EPROTO)
    return luio_fail(err, EPROTO, "the program and libluio.so are of different versions: `make`");
  if (rc < 0)
    return rc;
  guard.wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  if (guard.wake_fd < 0)
    return luio_fail(err, errno, "watch the guardian: eventfd: %s", luio_errno_name(errno));
  rc = start_watch(err);
  if (rc < 0)
    return rc;
  static struct luio_fork_watch watch_of = {.forked = forked};
  rc = luio_devnull_hold("start below a guardian", err); /* for good */
  if (rc < 0)
    return rc;
  luio_slots_init(&process);
  luio_fork_add(&watch_of);
  guard.attached = true;
  rc = luio_guard_open(&process, err);
  if (rc < 0)
    return rc;
  guard.status = (luio_guard_status){.restarts = r.restarts, .died_ns = r.died_ns};
  *out = guard.status;
  return 1;
}

luio_slots *luio_guard_process(void)
{
  return guard.attached ? &process : NULL;
}

int luio_guard_fd(void)
{
  return guard.wake_fd;
}

int luio_guard_policy(unsigned restarts, uint64_t backoff_ns, uint64_t stop_ns, luio_error *err)
{
  struct guard_request q = {
      .kind = GUARD_POLICY, .restarts = restarts, .backoff_ns = backoff_ns, .stop_ns = stop_ns};
  struct guard_reply r = {.code = 0};
  return guard.attached ? request(&q, &r, NULL, err) : 0;
}

int luio_guard_ready(luio_error *err)
{
  struct guard_request q = {.kind = GUARD_READY};
  struct guard_reply r = {.code = 0};
  return guard.attached ? request(&q, &r, NULL, err) : 0;
}

int luio_guard_leave(luio_error *err)
{
  struct guard_request q = {.kind = GUARD_LEAVE};
  struct guard_reply r = {.code = 0};
  return guard.attached ? request(&q, &r, NULL, err) : 0;
}

/* Before privileges are dropped: from then on this process is not to be believed so much. */
int luio_guard_seal(luio_error *err)
{
  struct guard_request q = {.kind = GUARD_SEAL};
  struct guard_reply r = {.code = 0};
  return guard.attached ? request(&q, &r, NULL, err) : 0;
}

/* ---- Devices ----------------------------------------------------------------------------------- */

static int slot_of(const char *address)
{
  for (int i = 0; i < GUARD_PLACES; i++)
    if (!strcmp(guard.open[i].address, address))
      return i;
  return -1;
}

/* The message for a file that the guardian refuses to open; -EAGAIN is the caller's to explain. */
static int refused(const char *address, int rc, luio_error *err)
{
  if (rc == -ENOSPC)
    return luio_fail(err, ENOSPC, "open %s: a guardian has room for %d devices", address,
                     GUARD_DEVICES);
  if (rc == -EPERM)
    return luio_fail(err, EPERM, "open %s: privileges were dropped (--user): open devices before",
                     address);
  if (rc != -EAGAIN && rc != -EPIPE && rc != -ETIMEDOUT)
    return luio_fail(err, -rc, "open %s: its guardian opens config space: %s", address,
                     luio_errno_name(-rc));
  return rc;
}

int luio_guard_open(luio_slots *s, luio_error *err)
{
  if (!guard.attached)
    return 0;
  const char *address = s->address;
  if (slot_of(address) >= 0) {
    if (s->repeats)
      return 0;
    return luio_fail(err, EBUSY, "open %s: EBUSY: this process drives it already", address);
  }
  int i = slot_of("");
  struct guard_request q = {.kind = GUARD_OPEN};
  struct guard_reply r = {.code = 0};
  luio_format(q.address, sizeof q.address, "%s", address);
  int rc = i < 0 ? -ENOSPC : request(&q, &r, s->kept, err);
  if (rc < 0)
    return refused(address, rc, err);
  guard.open[i].config_fd = -1;
  luio_format(guard.open[i].address, sizeof guard.open[i].address, "%s", address);
  s->guarded = true;
  s->settled = r.settled;
  s->humble = r.humble;
  return 0;
}

int luio_guard_reopen(const luio_slots *before, luio_slots *s, luio_error *err)
{
  struct guard_request q = {.kind = GUARD_OPEN};
  struct guard_reply r = {.code = 0};
  luio_format(q.address, sizeof q.address, "%s", before->address);
  int rc = request(&q, &r, s->kept, err);
  return rc < 0 ? refused(before->address, rc, err) : 0;
}

void luio_guard_stops_by(const luio_slots *s, int config_fd)
{
  if (s->guarded)
    guard.open[slot_of(s->address)].config_fd = config_fd;
}

/* A request about one device of ours. */
static int about(const luio_slots *s, uint32_t kind, int slot, uint64_t size, int *fds,
                 luio_error *err)
{
  struct guard_request q = {.kind = kind, .slot = (uint32_t)slot, .size = size};
  struct guard_reply r = {.code = 0};
  luio_format(q.address, sizeof q.address, "%s", s->address);
  return request(&q, &r, fds, err);
}

int luio_guard_make(const luio_slots *s, int slot, uint64_t size, luio_error *err)
{
  int fds[GUARD_SLOTS] = {0};
  if (!s->guarded)
    return guard_memory((unsigned)slot, s->address, size);
  int rc = about(s, GUARD_MAKE, slot, size, fds, err);
  return rc < 0 ? rc : fds[slot];
}

int luio_guard_hold(const luio_slots *s, int slot, luio_error *err)
{
  int rc = s->guarded ? about(s, GUARD_HOLD, slot, 0, NULL, err) : 0;
  if (rc < 0 && rc != -EPIPE && rc != -ETIMEDOUT)
    luio_fail(err, -rc, "have the guardian keep memory of %s: %s", s->address,
              luio_errno_name(-rc));
  return rc;
}

void luio_guard_gone(const luio_slots *s)
{
  luio_error ignored;
  if (s->guarded)
    about(s, GUARD_GONE, 0, 0, NULL, &ignored);
}

int luio_device_no_reset(luio_device *d, luio_error *err)
{
  int rc = d->slots.guarded ? about(&d->slots, GUARD_NO_RESET, 0, 0, NULL, err) : 0;
  if (rc == -EPERM)
    luio_fail(err, EPERM,
              "reset = false: privileges were dropped (--user), and only a start says that");
  return rc;
}

void luio_guard_close(luio_slots *s)
{
  for (int i = 0; i < GUARD_SLOTS; i++)
    if (s->kept[i] >= 0)
      close(s->kept[i]);
  if (!s->guarded)
    return;
  guard.open[slot_of(s->address)].address[0] = '\0';
  luio_error ignored;
  about(s, GUARD_CLOSED, 0, 0, NULL, &ignored);
  s->guarded = false;
}

/* ---- Machines ---------------------------------------------------------------------------------- */

int luio_guard_machine(uint64_t key, uint64_t memory, struct luio_guard_machine *m, luio_error *err)
{
  struct guard_request q = {.kind = GUARD_MACHINE, .key = key, .size = memory};
  struct guard_reply r = {.code = 0};
  m->given = false;
  if (!guard.attached)
    return 0;
  for (int i = 0; i < GUARD_MACHINE_FDS; i++)
    m->fd[i] = -1;
  int rc = request(&q, &r, m->fd, err);
  if (rc == -EPIPE || rc == -ETIMEDOUT)
    return rc;
  if (rc == -ENOSPC)
    return luio_fail(err, ENOSPC, "a guardian has room for %d QEMU machines", GUARD_DEVICES);
  if (rc == -EPERM)
    return luio_fail(err, EPERM, "privileges were dropped (--user): open devices before");
  if (rc < 0)
    return luio_fail(err, -rc, "the guardian's descriptors for it: %s", luio_errno_name(-rc));
  m->given = true;
  m->number = r.machine;
  m->pid = r.pid;
  return 0;
}

int luio_guard_machine_runs(const struct luio_guard_machine *m, int pid, int minder,
                            luio_error *err)
{
  struct guard_request q = {
      .kind = GUARD_MACHINE_RUNS, .machine = m->number, .pid = pid, .minder = minder};
  struct guard_reply r = {.code = 0};
  int rc = m->given && guard.attached ? request(&q, &r, NULL, err) : 0;
  if (rc < 0 && rc != -EPIPE && rc != -ETIMEDOUT)
    luio_fail(err, -rc, "have the guardian keep the machine: %s", luio_errno_name(-rc));
  return rc;
}

void luio_guard_machine_end(const struct luio_guard_machine *m)
{
  struct guard_request q = {.kind = GUARD_MACHINE_END, .machine = m->number};
  struct guard_reply r = {.code = 0};
  luio_error ignored;
  if (m->given && guard.attached)
    request(&q, &r, NULL, &ignored);
}
