/* guard.c - the worker's side of the guardian: what it is told and given, and what if it dies.
 *
 * One socket, one request at a time, each answered within REPLY_MS, for the guardian does nothing
 * that takes longer. A request that hands a descriptor over is answered when the guardian has it;
 * only then may the worker switch bus master on, or use the memory. So there is no moment at which
 * the device can write and only the worker holds the memory.
 *
 * If the guardian dies, its end of the socket closes. A thread waits for that, and it alone: the
 * loop is told through an eventfd and stops the driver in order; should it be stuck, in a loop of
 * the driver's, the thread switches bus master off after LEAVE_NS and ends the process. It is the
 * one place in the library that does so. */
#include "guard.h"
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define REPLY_MS 5000
#define LEAVE_NS LUIO_STOP_NS

static struct {
  pthread_mutex_t lock; /* one request at a time; the fields below */
  bool attached;
  int fd;      /* our end of the pair */
  int wake_fd; /* eventfd: the guardian is gone */
  uint64_t requests;
  luio_guard_status status;
  struct {
    char address[64];
    int config_fd; /* borrowed from the device; -1: none */
  } open[GUARD_PLACES];
} guard = {.lock = PTHREAD_MUTEX_INITIALIZER, .fd = -1, .wake_fd = -1};

/* ---- Requests ---------------------------------------------------------------------------------- */

static int gone(luio_error *err)
{
  return luio_fail(err, EPIPE, "the guardian of this process is gone: stop, and start again");
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
    int came[GUARD_SLOTS], n = GUARD_SLOTS;
    if (ready <= 0 || guard_receive(guard.fd, r, sizeof *r, came, &n) != (ssize_t)sizeof *r)
      return -EPIPE;
    bool ours = r->number == number;
    for (int slot = 0, i = 0; i < n; slot++) {
      if (slot < GUARD_SLOTS && !(r->slots & 1u << slot))
        continue;
      if (ours && fds && slot < GUARD_SLOTS)
        fds[slot] = came[i++];
      else
        close(came[i++]);
    }
    if (ours)
      return 0;
  }
}

/* fd: goes along, -1: none. fds: GUARD_SLOTS descriptors of the reply, or NULL. */
static int request(struct guard_request *q, int fd, struct guard_reply *r, int *fds,
                   luio_error *err)
{
  q->version = GUARD_VERSION;
  pthread_mutex_lock(&guard.lock);
  q->number = ++guard.requests;
  int rc = guard_send(guard.fd, q, sizeof *q, &fd, fd >= 0);
  if (rc == 0)
    rc = receive(q->number, r, fds);
  pthread_mutex_unlock(&guard.lock);
  return rc < 0 ? gone(err) : -r->code;
}

static int tell(uint32_t kind, const char *address)
{
  struct guard_request q = {.kind = kind};
  struct guard_reply r = {.code = 0};
  if (address)
    luio_format(q.address, sizeof q.address, "%s", address);
  return request(&q, -1, &r, NULL, NULL);
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
  /* Lua did not get round to it. No lock: whoever has it may be stuck. */
  for (int i = 0; i < GUARD_PLACES; i++)
    if (guard.open[i].address[0] && guard.open[i].config_fd >= 0)
      guard_bus_master_off(guard.open[i].config_fd); /* what fails has no device */
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

/* ---- Life -------------------------------------------------------------------------------------- */

int luio_guard_attach(luio_guard_status *out, luio_error *err)
{
  *out = guard.status;
  if (guard.attached)
    return 1;
  const char *number = getenv(GUARD_ENV);
  uint64_t fd;
  if (!number)
    return 0;
  if (luio_parse_u64(number, &fd) < 0 || fd > INT_MAX || fcntl((int)fd, F_SETFD, FD_CLOEXEC) < 0)
    return luio_fail(err, EBADF, "%s=%s: that is no descriptor of a guardian: unset it", GUARD_ENV,
                     number);
  unsetenv(GUARD_ENV); /* what we start is not guarded */
  struct guard_request q = {.kind = GUARD_HELLO};
  struct guard_reply r = {.code = 0};
  guard.fd = (int)fd;
  int rc = request(&q, -1, &r, NULL, err);
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
  guard.attached = true;
  rc = luio_guard_own_place(err);
  if (rc < 0)
    return rc;
  guard.status = (luio_guard_status){.restarts = r.restarts, .died_ns = r.died_ns};
  *out = guard.status;
  return 1;
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
  return guard.attached ? request(&q, -1, &r, NULL, err) : 0;
}

int luio_guard_ready(luio_error *err)
{
  return guard.attached && tell(GUARD_READY, NULL) < 0 ? gone(err) : 0;
}

/* Before privileges are dropped: from then on this process is not to be believed so much. */
int luio_guard_seal(luio_error *err)
{
  return guard.attached && tell(GUARD_SEAL, NULL) < 0 ? gone(err) : 0;
}

/* ---- Devices ----------------------------------------------------------------------------------- */

static int slot_of(const char *address)
{
  for (int i = 0; i < GUARD_PLACES; i++)
    if (!strcmp(guard.open[i].address, address))
      return i;
  return -1;
}

int luio_guard_open(luio_device *d, luio_error *err)
{
  if (!guard.attached)
    return 0;
  const char *address = d->info.address;
  if (slot_of(address) >= 0) {
    if (d->sim)
      return 0; /* another model of that name; only the first is guarded */
    return luio_fail(err, EBUSY, "open %s: EBUSY: this process drives it already", address);
  }
  int i = slot_of("");
  struct guard_request q = {.kind = GUARD_OPEN};
  struct guard_reply r = {.code = 0};
  luio_format(q.address, sizeof q.address, "%s", address);
  int rc = i < 0 ? -ENOSPC : request(&q, -1, &r, d->kept, err);
  if (rc == -ENOSPC)
    return luio_fail(err, ENOSPC, "open %s: a guardian has room for %d devices", address,
                     GUARD_DEVICES);
  if (rc == -EPERM)
    return luio_fail(err, EPERM, "open %s: privileges were dropped (--user): open devices before",
                     address);
  if (rc < 0)
    return rc;
  guard.open[i].config_fd = -1;
  luio_format(guard.open[i].address, sizeof guard.open[i].address, "%s", address);
  d->guarded = true;
  d->settled = r.settled;
  return 0;
}

int luio_guard_hold(const luio_device *d, int slot, int fd, luio_error *err)
{
  if (!d->guarded)
    return 0;
  struct guard_request q = {.kind = GUARD_HOLD, .slot = (uint32_t)slot};
  struct guard_reply r = {.code = 0};
  luio_format(q.address, sizeof q.address, "%s", d->info.address);
  int rc = request(&q, fd, &r, NULL, err);
  if (rc < 0 && rc != -EPIPE && rc != -EBUSY)
    luio_fail(err, -rc, "hand a descriptor of %s to the guardian: %s", d->info.address,
              luio_errno_name(-rc));
  if (rc == 0 && slot == GUARD_CONFIG)
    guard.open[slot_of(d->info.address)].config_fd = fd;
  return rc;
}

void luio_guard_close(luio_device *d)
{
  for (int i = 0; i < GUARD_SLOTS; i++)
    if (d->kept[i] >= 0)
      close(d->kept[i]);
  if (!d->guarded)
    return;
  guard.open[slot_of(d->info.address)].address[0] = '\0';
  tell(GUARD_CLOSED, d->info.address);
  d->guarded = false;
}
