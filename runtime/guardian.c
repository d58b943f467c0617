/* guardian.c - the process that outlives a driver: stops its device, keeps its memory, starts it again.
 *
 * `luio run` forks before LuaJIT is started. The parent is the guardian, the process that the shell
 * or systemd knows; the child is the worker. The guardian has no threads, no Lua, no mappings, and
 * of the device only what it takes to stop it: the config space's descriptor. It never has
 * /dev/uioX: as long as anybody has that open, closing it means nothing to the kernel.
 *
 * When the worker dies, however it dies:
 *
 *   1. bus master off, by the config descriptor: the device can start no write any more
 *   2. read the command register back: a completion does not overtake the device's writes that are
 *      on their way (PCI Express Base Specification, 2.4.1), so these have arrived
 *   3. reset, if the worker did not leave in order and the device has one: only that makes it
 *      forget the addresses it was told. A driver whose device would lose what it needs says
 *      `reset = false`
 *   4. then the next worker, which gets the descriptors back; or, if there is none, close them,
 *      upon which the kernel has the memory back
 *
 * The pages live in hugetlb memfds. The worker's mappings end with it, the pages don't, for we have
 * the memfd open: so between the worker's death and step 2 nobody else can get them.
 *
 * Signals: SIGHUP that somebody sends is passed on, it means a reload. The first SIGINT, SIGTERM or
 * SIGHUP of a terminal asks the worker to stop (SIGTERM) and sets a deadline;
 * what is not over then is killed, and treated as above. A second Ctrl-C is that deadline at once.
 * The terminal sends SIGINT to both of us; the worker ignores it. */
#include "guard.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MS 1000000ull
#define SECOND (1000 * MS)
#define FIRST_PAUSE (10 * MS) /* before a restart; doubles */
#define STABLE (10 * SECOND)  /* a worker that ran so long starts the counting anew */
#define AT_A_TIME 16          /* requests */
#define HANGS SECOND          /* a killed worker that is still there hangs */
#define ONE_CTRL_C (50 * MS)  /* what comes within is the same stroke, delivered twice */

struct device {
  char address[64];
  int fd[GUARD_SLOTS];
  bool open;    /* a worker drives it */
  bool settled; /* was reset after that */
};

static struct {
  struct device device[GUARD_PLACES];
  int n_devices;
  int worker; /* our end of the pair */
  int pidfd, signals;
  pid_t pid;
  bool ready, ever_ready, sealed;
  uint64_t ready_at;
  uint64_t stop_at; /* 0: nobody asked to stop */
  uint64_t asked_at;
  bool killed, twice, hangs;
  unsigned restarts, in_a_row, limit;
  uint64_t longest_pause, stop_ns;
  uint64_t died_at;
} g;

static uint64_t now(void)
{
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * SECOND + (uint64_t)t.tv_nsec;
}

static double ms(uint64_t ns)
{
  return (double)ns / 1e6;
}

/* ---- What is kept ------------------------------------------------------------------------------ */

static void put(struct device *d, unsigned slot, int fd)
{
  if (d->fd[slot] >= 0)
    close(d->fd[slot]);
  d->fd[slot] = fd;
}

/* Config last, for it carries the lock that says whose the device is. */
static void release(struct device *d)
{
  for (unsigned slot = GUARD_SLOTS; slot-- > 0;)
    put(d, slot, -1);
}

static void release_all(void)
{
  for (int i = 0; i < g.n_devices; i++)
    release(&g.device[i]);
  g.n_devices = 0;
}

/* What is kept for a device. add: room is made for one that is not known yet; NULL: there is none. */
static struct device *find(const char *address, bool add)
{
  for (int i = 0; i < g.n_devices; i++)
    if (!strcmp(g.device[i].address, address))
      return &g.device[i];
  struct device *d = NULL;
  if (add && g.n_devices < GUARD_PLACES) {
    d = &g.device[g.n_devices++];
    for (int i = 0; i < GUARD_SLOTS; i++)
      d->fd[i] = -1;
  }
  for (int i = 0; add && !d && i < GUARD_PLACES; i++)
    if (!g.device[i]
             .open) /* closed in order: what is kept of it is only in case it is opened again */
      release(d = &g.device[i]);
  if (!d)
    return NULL;
  d->open = d->settled = false;
  memcpy(d->address, address, sizeof d->address);
  return d;
}

/* ---- Stopping a device ------------------------------------------------------------------------- */

struct line {
  char text[1024];
  size_t length;
};

static void say(struct line *l, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void say(struct line *l, const char *format, ...)
{
  va_list args;
  va_start(args, format);
  int n = vsnprintf(l->text + l->length, sizeof l->text - l->length, format, args);
  va_end(args);
  if (n > 0)
    l->length +=
        (size_t)n < sizeof l->text - l->length ? (size_t)n : sizeof l->text - l->length - 1;
}

static bool bus_master_off(const struct device *d, struct line *l)
{
  int rc = guard_bus_master_off(d->fd[GUARD_CONFIG]);
  if (rc == -ENODEV)
    return say(l, "; %s is gone", d->address), false;
  if (rc < 0)
    return say(l, "; write config space of %s: %s", d->address, strerrorname_np(-rc)), false;
  say(l, "; %s: bus master %s after %.2f ms", d->address, rc ? "is still ON" : "off",
      ms(now() - g.died_at));
  return true;
}

static void stop_device(struct device *d, struct line *l)
{
  d->open = d->settled = false;
  if (d->fd[GUARD_CONFIG] < 0 || !bus_master_off(d, l))
    return;
  if (d->fd[GUARD_RESET] < 0)
    return;
  uint64_t start = now();
  d->settled = pwrite(d->fd[GUARD_RESET], "1", 1, 0) == 1;
  if (d->settled)
    say(l, ", reset in %.1f ms", ms(now() - start));
  else
    say(l, ", reset: %s", strerrorname_np(errno));
}

/* ---- The worker's requests --------------------------------------------------------------------- */

static int hold(const struct guard_request *q, int fd)
{
  struct device *d = find(q->address, false);
  if (!d || q->slot >= GUARD_SLOTS)
    return EINVAL;
  /* A worker without privileges must not have a root process write to files of its choice. It may let
   * go: of a device that is gone, which somebody else may drive by then. */
  if (g.sealed && fd >= 0 && (q->slot == GUARD_CONFIG || q->slot == GUARD_RESET))
    return EPERM;
  if (q->slot == GUARD_CONFIG && fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) < 0)
    return errno == EWOULDBLOCK ? EBUSY : errno;
  put(d, q->slot, fd);
  return 0;
}

/* Answers one request. fd: what came along, or -1; ours to keep or to close. */
static int answer(const struct guard_request *q, int fd, struct guard_reply *r, int *fds)
{
  struct device *d;
  int n = 0;
  switch (q->kind) {
  case GUARD_HELLO:
    if (q->version != GUARD_VERSION)
      r->code = EPROTO;
    r->restarts = g.restarts;
    r->died_ns = g.died_at;
    break;
  case GUARD_POLICY:
    if (g.sealed) { /* nor say how long it may take to stop */
      r->code = EPERM;
      break;
    }
    g.limit = q->restarts;
    g.longest_pause = q->backoff_ns;
    g.stop_ns = q->stop_ns;
    break;
  case GUARD_OPEN:
    d = g.sealed ? NULL : find(q->address, true);
    if (!d) {
      r->code = g.sealed ? EPERM : ENOSPC;
      break;
    }
    d->open = true;
    r->settled = d->settled;
    d->settled = false; /* of this worker's time nothing is known yet */
    for (unsigned slot = 0; slot < GUARD_SLOTS; slot++)
      if (d->fd[slot] >= 0) {
        r->slots |= 1u << slot;
        fds[n++] = d->fd[slot];
      }
    break;
  case GUARD_HOLD:
    r->code = hold(q, fd);
    if (r->code == 0)
      fd = -1;
    break;
  case GUARD_CLOSED:
    d = find(q->address, false);
    if (d)
      d->open = false;
    break;
  case GUARD_READY:
    g.ready = g.ever_ready = true;
    g.ready_at = now();
    break;
  case GUARD_SEAL: g.sealed = true; break;
  default: r->code = EPROTO;
  }
  if (fd >= 0)
    close(fd);
  return n;
}

/* Takes requests until there is none, or a few: signals and deadlines are not to wait. False: the
 * worker has closed its end. */
static bool serve(void)
{
  for (int i = 0; i < AT_A_TIME; i++) {
    struct guard_request q = {.number = 0};
    struct guard_reply r = {.code = 0};
    int fds[GUARD_SLOTS], fd = -1, n = 1;
    ssize_t got = guard_receive(g.worker, &q, sizeof q, &fd, &n);
    if (got < 0)
      return got == -EAGAIN || got == -EINTR;
    if (got != (ssize_t)sizeof q || !memchr(q.address, 0, sizeof q.address)) {
      if (fd >= 0)
        close(fd);
      return false;
    }
    r.number = q.number;
    n = answer(&q, fd, &r, fds);
    if (guard_send(g.worker, &r, sizeof r, fds, n) < 0)
      return false;
  }
  return true;
}

/* ---- One worker -------------------------------------------------------------------------------- */

/* Forks a worker: 0 in it, 1 in the guardian, -errno. */
static int start_worker(const sigset_t *normal)
{
  int pair[2];
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
    return -errno;
  g.pid = fork();
  if (g.pid < 0) {
    int code = errno;
    close(pair[0]);
    close(pair[1]);
    return -code;
  }
  if (g.pid == 0) {
    close(pair[0]);
    close(g.signals);
    release_all(); /* our copies; it gets what it asks for */
    char number[16];
    snprintf(number, sizeof number, "%d", pair[1]);
    setenv(GUARD_ENV, number, 1);
    signal(SIGINT, SIG_IGN); /* the guardian hears it, too, and says SIGTERM */
    signal(SIGHUP, SIG_IGN);
    signal(SIGQUIT, SIG_IGN);
    signal(SIGTSTP, SIG_IGN); /* a device at work with a driver that stands still helps nobody */
    sigprocmask(SIG_SETMASK, normal, NULL);
    return 0;
  }
  close(pair[1]);
  g.worker = pair[0];
  g.pidfd = (int)syscall(SYS_pidfd_open, g.pid, 0);
  if (g.pidfd < 0) {
    int code = errno;
    kill(g.pid, SIGKILL);
    waitpid(g.pid, NULL, 0);
    close(g.worker);
    return -code;
  }
  fcntl(g.pidfd, F_SETFD, FD_CLOEXEC);
  g.ready = g.sealed = false;
  return 1;
}

static void emit(struct line *l)
{
  say(l, "\n");
  ssize_t ignored = write(2, l->text, l->length);
  (void)ignored;
}

static void kill_worker(void)
{
  if (!g.killed)
    g.died_at = now(); /* not yet, but what follows is counted from here */
  g.killed = true;
  kill(g.pid, SIGKILL);
}

/* What a signal asks for. With no worker there (a pause before a restart) stop_at alone counts. */
static void take_signal(bool running)
{
  struct signalfd_siginfo s;
  if (read(g.signals, &s, sizeof s) != (ssize_t)sizeof s)
    return;
  if (s.ssi_signo == SIGHUP &&
      s.ssi_code <= 0) { /* sent by somebody, not by a terminal that is gone */
    if (running && g.ready)
      kill(g.pid, SIGHUP);
    return;
  }
  uint64_t at = now();
  bool again = g.stop_at && s.ssi_signo == SIGINT && at - g.asked_at > ONE_CTRL_C;
  g.twice = g.twice || again || s.ssi_signo == SIGQUIT;
  if (!g.stop_at && !g.twice) {
    g.asked_at = at;
    g.stop_at = at + g.stop_ns;
    if (running)
      kill(g.pid, SIGTERM);
  }
  if (g.twice) {
    g.stop_at = at;
    if (running)
      kill_worker();
  }
}

/* A killed worker can hang in the kernel, in a system call that can't be interrupted. Its memory stays
 * with it so long; its devices need not go on. */
static void stop_for_the_hanging(void)
{
  struct line l = {.length = 0};
  g.hangs = true;
  say(&l, "luio: worker %d was killed, and hangs in the kernel (/proc/%d/stack)", (int)g.pid,
      (int)g.pid);
  for (int i = 0; i < g.n_devices; i++)
    if (g.device[i].open && g.device[i].fd[GUARD_CONFIG] >= 0)
      bus_master_off(&g.device[i], &l);
  emit(&l);
}

/* Milliseconds until something is to be done; -1: nothing is. */
static int time_left(void)
{
  uint64_t at = now(), until = g.killed ? g.died_at + HANGS : g.stop_at;
  if (!until || g.hangs)
    return -1;
  return at >= until ? 0 : (int)((until - at) / MS) + 1;
}

/* Serves the worker until it is dead; its wait status. */
static int watch_worker(void)
{
  bool talks = true;
  for (;;) {
    struct pollfd p[3] = {{.fd = g.pidfd, .events = POLLIN},
                          {.fd = g.signals, .events = POLLIN},
                          {.fd = talks ? g.worker : -1, .events = POLLIN}};
    int n = poll(p, 3, time_left());
    if (n > 0 && p[0].revents) {
      g.died_at = now();
      if (talks)
        serve(); /* what it had said before counts: a device closed in order */
      break;
    }
    if (n > 0 && p[1].revents)
      take_signal(true);
    if (n > 0 && p[2].revents)
      talks = serve();
    if (g.stop_at && !g.killed && now() >= g.stop_at)
      kill_worker();
    if (g.killed && !g.hangs && now() >= g.died_at + HANGS)
      stop_for_the_hanging();
  }
  int status = 0;
  while (waitpid(g.pid, &status, 0) < 0 && errno == EINTR)
    ;
  close(g.pidfd);
  close(g.worker);
  return status;
}

/* ---- All of them ------------------------------------------------------------------------------- */

/* Whether a signal that asks to stop came within the time. */
static void pause_for(uint64_t ns)
{
  uint64_t until = now() + ns;
  while (!g.stop_at && now() < until) {
    struct pollfd p = {.fd = g.signals, .events = POLLIN};
    if (poll(&p, 1, (int)((until - now()) / MS) + 1) > 0)
      take_signal(false);
  }
}

static int conclude(int status)
{
  if (WIFEXITED(status))
    return WEXITSTATUS(status);
  if (g.stop_at && g.twice)
    return 128 + SIGINT;
  if (g.stop_at && g.killed)
    return 1;
  if (g.stop_at && WTERMSIG(status) == SIGTERM)
    return 0; /* before it had begun to listen */
  return 128 + WTERMSIG(status);
}

/* After a worker's end: stops what it left running. 0: start another after *pause; else it is over
 * with *result. */
static bool settle(int status, uint64_t *pause, int *result)
{
  struct line l = {.length = 0};
  if (WIFEXITED(status))
    say(&l, "luio: worker %d left with status %d", (int)g.pid, WEXITSTATUS(status));
  else
    say(&l, "luio: worker %d %s SIG%s", (int)g.pid,
        g.twice    ? "was told twice to stop:"
        : g.killed ? "did not stop in time:"
                   : "died of",
        sigabbrev_np(WTERMSIG(status)) ? sigabbrev_np(WTERMSIG(status)) : "RT");
  bool left = false;
  for (int i = 0; i < g.n_devices; i++)
    if (g.device[i].open && strcmp(g.device[i].address, GUARD_PROCESS)) {
      left = true;
      stop_device(&g.device[i], &l);
    }
  bool well = WIFEXITED(status) && WEXITSTATUS(status) == 0;
  bool never = !g.ever_ready && WIFEXITED(status); /* it has said why it can't start */
  *result = conclude(status);
  if (g.ready && g.died_at - g.ready_at > STABLE)
    g.in_a_row = 0;
  if (g.stop_at || well || never || g.in_a_row >= g.limit) {
    release_all();
    if (!g.stop_at && !well && !never && g.limit)
      say(&l, "; not restarted: %u of %u restarts used", g.in_a_row, g.limit);
    if (left || (!never && !WIFEXITED(status) && *result))
      emit(&l);
    return false;
  }
  g.restarts++;
  *pause = FIRST_PAUSE;
  for (unsigned i = 0; i < g.in_a_row && *pause < g.longest_pause; i++)
    *pause *= 2;
  if (*pause > g.longest_pause)
    *pause = g.longest_pause;
  g.in_a_row++;
  say(&l, "; restart %u of %u in %.0f ms", g.in_a_row, g.limit, ms(*pause));
  emit(&l);
  return true;
}

int guardian(void)
{
  sigset_t all, ask, normal;
  /* A parent may have left it ignored: then the kernel would keep no status for us. */
  signal(SIGCHLD, SIG_DFL);
  sigfillset(&all);
  sigemptyset(&ask);
  sigaddset(&ask, SIGINT);
  sigaddset(&ask, SIGTERM);
  sigaddset(&ask, SIGHUP);
  sigaddset(&ask, SIGQUIT);
  /* Nothing but SIGKILL ends us, or stops us (Ctrl-Z), before the device is quiet. */
  sigprocmask(SIG_SETMASK, &all, &normal);
  g.signals = signalfd(-1, &ask, SFD_CLOEXEC | SFD_NONBLOCK);
  g.limit = 0;
  g.stop_ns = 5 * SECOND;
  int result = 1;
  if (g.signals < 0) {
    fprintf(stderr, "luio: start the guardian: signalfd: %s\n", strerrorname_np(errno));
    return 1;
  }
  for (;;) {
    int rc = start_worker(&normal);
    if (rc == 0)
      return -1;
    prctl(PR_SET_NAME, "luio-guardian");
    if (rc < 0) {
      fprintf(stderr, "luio: start a worker: %s (--no-guardian does without)\n",
              strerrorname_np(-rc));
      break;
    }
    uint64_t pause;
    if (!settle(watch_worker(), &pause, &result))
      break;
    pause_for(pause);
    if (g.stop_at) {
      result = 0;
      break;
    }
  }
  release_all();
  return result;
}
