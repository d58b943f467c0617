/* guardian.c - the process that outlives a driver: stops its device, keeps its memory, starts it again.
 *
 * `luio run` forks before LuaJIT is started. The parent is the guardian, the process that the shell
 * or systemd knows; the child is the worker. The guardian has no threads, no Lua, no mappings but its
 * mailbox, and of the device only what it takes to stop it: the config space's descriptor. It never has
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
 * Before 4 ends in the latter: the device's BARs, which were its driver's alone, are again whose they
 * were (guard_bars.c). Between two workers they are not: who opened them then would be in the next one's way.
 *
 * The pages live in hugetlb memfds. The worker's mappings end with it, the pages don't, for we have
 * the memfd open: so between the worker's death and step 2 nobody else can get them.
 *
 * A worker that gave root up is a stranger with a grudge, as far as we know, and we are still root:
 *
 *   - It hands us no descriptor (guard.h): what we close is what we made or opened.
 *   - The config descriptor stays while the device is there, as it was opened; that we see ourselves.
 *   - At its end every device is stopped whose bus master is on, also one that it said was closed.
 *   - We wait for nothing of it: not for its reading our replies, not for its tracer to let us have its
 *     status, not for a terminal that it stopped; a child of ours prints, and is left behind if it hangs.
 *   - What it forked does not outlive it. Those processes may have the device's files and the memory of
 *     the next worker; hence the same for all workers but those that leave in order. We are the
 *     subreaper: what the worker leaves behind becomes our child.
 *   - The next worker is told that what is kept may be a lie (guard.h, humble).
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
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/mman.h>
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
#define TELLING (500 * MS)    /* how long a line on standard error is waited for */
#define REAPING SECOND        /* how long the status of a dead worker is */
#define HANGS SECOND          /* a killed worker that is still there hangs */
#define PIECE 500ull          /* ms: the longest wait with a deadline; twice as long is a stop */
#define ONE_CTRL_C (50 * MS)  /* what comes within is the same stroke, delivered twice */

struct device {
  char address[64];
  char driver[64]; /* its kernel driver when it was opened; empty: none, or it is not on PCI */
  int fd[GUARD_SLOTS];
  bool open;    /* a worker drives it */
  bool settled; /* was reset after that */
  bool humble;  /* what is kept may have been written without our privileges */
  bool left;    /* by a worker that died, and none has had it since */
};

static struct {
  struct device device[GUARD_PLACES];
  int n_devices;
  int worker; /* our end of the pair, for replies */
  int bell;   /* eventfd: there is mail. Never read: a stranger could make that wait */
  int mail_fd;
  const struct guard_mail *mail;
  uint64_t taken; /* number of the last request */
  int fresh;      /* what MAKE made; -1: nothing */
  struct device *fresh_for;
  unsigned fresh_slot;
  int pidfd, signals, epoll;
  pid_t pid;
  pid_t teller; /* that still has a line to print; 0: none */
  unsigned untold;
  bool ready, ever_ready, sealed, leaves;
  uint64_t ready_at;
  uint64_t stop_at; /* 0: nobody asked to stop */
  uint64_t asked_at;
  bool killed, twice, hangs;
  unsigned restarts, in_a_row, limit;
  uint64_t longest_pause, stop_ns;
  uint64_t died_at;
} g = {.worker = -1, .bell = -1, .mail_fd = -1, .fresh = -1, .pidfd = -1, .epoll = -1};

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

static void drop_fresh(void)
{
  if (g.fresh >= 0)
    close(g.fresh);
  g.fresh = -1;
}

/* Config last, for it carries the lock that says whose the device is. A process that has a copy of the
 * descriptor (a worker's child) is not to keep the lock with it. */
static void release_config(struct device *d)
{
  if (d->fd[GUARD_CONFIG] >= 0)
    flock(d->fd[GUARD_CONFIG], LOCK_UN);
  put(d, GUARD_CONFIG, -1);
}

static void release(struct device *d)
{
  if (g.fresh_for == d)
    drop_fresh();
  for (unsigned slot = GUARD_SLOTS; slot-- > GUARD_CONFIG + 1;)
    put(d, slot, -1);
  release_config(d);
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
  d->open = d->settled = d->humble = d->left = false;
  memcpy(d->address, address, sizeof d->address);
  return d;
}

/* ---- A PCI device's files ---------------------------------------------------------------------- */

/* Nothing else than DOMAIN:BUS:SLOT.FUNCTION may become part of a path. */
static bool is_pci(const char *a)
{
  static const char hex[] = "0123456789abcdef";
  size_t n = strspn(a, hex);
  return n >= 4 && n <= 8 && a[n] == ':' && strspn(a + n + 1, hex) == 2 && a[n + 3] == ':' &&
         strspn(a + n + 4, hex) == 2 && a[n + 6] == '.' && a[n + 7] >= '0' && a[n + 7] <= '7' &&
         !a[n + 8];
}

static int open_file(const struct device *d, const char *name, int flags)
{
  char path[128];
  snprintf(path, sizeof path, "/sys/bus/pci/devices/%s/%s", d->address, name);
  return open(path, flags | O_CLOEXEC);
}

/* The name of its kernel driver; empty: none. */
static void read_driver(const struct device *d, char *name, size_t size)
{
  char path[128], link[256];
  snprintf(path, sizeof path, "/sys/bus/pci/devices/%s/driver", d->address);
  ssize_t n = readlink(path, link, sizeof link - 1);
  link[n > 0 ? n : 0] = '\0';
  const char *last = strrchr(link, '/');
  snprintf(name, size, "%.*s", (int)size - 1, last ? last + 1 : link);
}

static bool answers(const struct device *d)
{
  uint8_t byte;
  return d->fd[GUARD_CONFIG] >= 0 && pread(d->fd[GUARD_CONFIG], &byte, 1, 0) == 1;
}

/* Opens what it takes to stop a device, with the lock. 0 or an errno value. */
static int take_files(struct device *d)
{
  if (!is_pci(d->address))
    return 0;
  if (!answers(d)) {
    int fd = open_file(d, "config", O_RDWR);
    if (fd < 0) /* an ordinary user's guardian holds the lock, at least */
      fd = open_file(d, "config", O_RDONLY);
    if (fd < 0)
      return errno;
    if (flock(fd, LOCK_EX | LOCK_NB) < 0) {
      int code = errno; /* EWOULDBLOCK: it is somebody else's */
      close(fd);
      return code;
    }
    release_config(d);
    d->fd[GUARD_CONFIG] = fd;
  }
  if (!d->open)
    read_driver(d, d->driver, sizeof d->driver);
  put(d, GUARD_RESET, open_file(d, "reset", O_WRONLY)); /* few have one */
  return 0;
}

static void folder(const struct device *d, char *path, size_t size)
{
  snprintf(path, size, "/sys/bus/pci/devices/%s", d->address);
}

/* The worker says that the device is gone: somebody else may drive it then, so we let go. But not if it
 * is there, with the driver that it had. */
static int let_go(struct device *d)
{
  char driver[sizeof d->driver], path[128];
  if (answers(d)) {
    read_driver(d, driver, sizeof driver);
    if (!strcmp(driver, d->driver))
      return EBUSY;
  }
  if (is_pci(d->address)) {
    folder(d, path, sizeof path);
    guard_bars_leave(path);
  }
  put(d, GUARD_RESET, -1);
  release_config(d);
  return 0;
}

/* Whether another kernel driver has it by now: then it is not ours to stop. */
static bool is_anothers(const struct device *d)
{
  char driver[sizeof d->driver];
  read_driver(d, driver, sizeof driver);
  return driver[0] && strcmp(driver, d->driver) != 0;
}

/* What was its driver's alone is what it was before, unless the device may still write to memory. */
static void give_back(const struct device *d)
{
  char path[128];
  folder(d, path, sizeof path);
  if (is_pci(d->address) && answers(d) && !guard_bus_master(d->fd[GUARD_CONFIG]) && !is_anothers(d))
    guard_bars_give_back(path);
}

/* No worker comes after this. */
static void end_all(void)
{
  for (int i = 0; i < g.n_devices; i++)
    if (g.device[i].left)
      give_back(&g.device[i]);
  release_all();
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

/* A worker's word that it has closed the device is not enough: it may have the files open. */
static bool to_be_stopped(const struct device *d)
{
  if (!strcmp(d->address, GUARD_PROCESS))
    return false;
  return d->open ||
         (d->fd[GUARD_CONFIG] >= 0 && guard_bus_master(d->fd[GUARD_CONFIG]) && !is_anothers(d));
}

static void stop_device(struct device *d, struct line *l)
{
  d->settled = false;
  d->left = true;
  if (d->fd[GUARD_CONFIG] < 0)
    return;
  if (is_anothers(d)) {
    say(l, "; %s has another driver by now", d->address);
    return;
  }
  if (!bus_master_off(d, l))
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

/* Makes what HOLD keeps. DMA memory in a slot is never replaced: the device may write to it. */
static int make(struct device *d, unsigned slot, uint64_t size)
{
  if (slot < GUARD_SMALL || slot >= GUARD_SLOTS)
    return EINVAL;
  if (slot < GUARD_RECORDS && d->fd[slot] >= 0)
    return EEXIST;
  drop_fresh();
  int fd = guard_memory(slot, d->address, size);
  if (fd < 0)
    return -fd;
  g.fresh = fd;
  g.fresh_for = d;
  g.fresh_slot = slot;
  return 0;
}

static int hold(struct device *d, unsigned slot)
{
  if (g.fresh < 0 || g.fresh_for != d || g.fresh_slot != slot)
    return EINVAL;
  put(d, slot, g.fresh);
  g.fresh = -1;
  return 0;
}

/* A device that the worker has open already came back: it has the memory. */
static int open_device(struct device *d, struct guard_reply *r, int *fds)
{
  int n = 0, slots = d->open ? GUARD_CONFIG + 1 : GUARD_SLOTS;
  r->code = take_files(d);
  if (r->code)
    return 0;
  if (!d->open) {
    r->settled = d->settled;
    r->humble = d->humble;
  }
  d->open = true;
  d->left = false;
  d->settled = false; /* of this worker's time nothing is known yet */
  for (int slot = 0; slot < slots; slot++)
    if (slot != GUARD_RESET && d->fd[slot] >= 0) {
      r->slots |= 1u << slot;
      fds[n++] = d->fd[slot];
    }
  return n;
}

/* Answers one request; how many descriptors go along. */
static int answer(const struct guard_request *q, struct guard_reply *r, int *fds)
{
  struct device *d = find(q->address, q->kind == GUARD_OPEN && !g.sealed);
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
    if (d && !g.sealed)
      return open_device(d, r, fds);
    r->code = g.sealed ? EPERM : ENOSPC;
    break;
  case GUARD_MAKE:
    r->code = d ? make(d, q->slot, q->size) : EINVAL;
    if (r->code)
      break;
    r->slots = 1u << q->slot;
    fds[0] = g.fresh;
    return 1;
  case GUARD_HOLD: r->code = d ? hold(d, q->slot) : EINVAL; break;
  case GUARD_GONE: r->code = d ? let_go(d) : EINVAL; break;
  case GUARD_NO_RESET:
    r->code = !d ? EINVAL : g.sealed && d->fd[GUARD_RESET] >= 0 ? EPERM : 0;
    if (r->code == 0)
      put(d, GUARD_RESET, -1);
    break;
  case GUARD_CLOSED:
    if (!d)
      break;
    d->open = false;
    if (g.sealed) /* others have done it themselves */
      give_back(d);
    break;
  case GUARD_READY:
    g.ready = g.ever_ready = true;
    g.ready_at = now();
    break;
  case GUARD_LEAVE: g.leaves = true; break;
  case GUARD_SEAL:
    g.sealed = true;
    for (int i = 0; i < g.n_devices; i++)
      g.device[i].humble = true;
    break;
  default: r->code = EPROTO;
  }
  return 0;
}

/* Takes the request that there is. False: the worker does not take what it is told; it is heard no more. */
static bool serve(void)
{
  struct guard_request q;
  struct guard_reply r = {.number = atomic_load_explicit(&g.mail->number, memory_order_acquire)};
  int fds[GUARD_SLOTS];
  if (r.number == g.taken)
    return true;
  g.taken = r.number;
  memcpy(&q, &g.mail->request, sizeof q);
  __asm__ volatile("" ::: "memory"); /* what is looked at is the copy: the original may change */
  q.address[sizeof q.address - 1] = '\0';
  int n = answer(&q, &r, fds);
  return guard_send(g.worker, &r, sizeof r, fds, n) == 0;
}

/* ---- One worker -------------------------------------------------------------------------------- */

/* A process of ours that goes on as something else needs none of our descriptors. */
static void close_ours(void)
{
  drop_fresh();
  for (int i = 0; i < g.n_devices; i++)
    for (int slot = 0; slot < GUARD_SLOTS; slot++)
      put(&g.device[i], (unsigned)slot, -1); /* without LOCK_UN: the lock is the guardian's, too */
  g.n_devices = 0;
  int *ours[] = {&g.worker, &g.signals, &g.pidfd, &g.epoll};
  for (unsigned i = 0; i < sizeof ours / sizeof *ours; i++) {
    if (*ours[i] >= 0)
      close(*ours[i]);
    *ours[i] = -1;
  }
}

static void forget_worker(void)
{
  int *its[] = {&g.worker, &g.bell, &g.mail_fd, &g.pidfd, &g.epoll};
  for (unsigned i = 0; i < sizeof its / sizeof *its; i++) {
    if (*its[i] >= 0)
      close(*its[i]);
    *its[i] = -1;
  }
  if (g.mail)
    munmap((void *)g.mail, sizeof *g.mail);
  g.mail = NULL;
  drop_fresh();
}

static int make_mail(void)
{
  g.bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  g.mail_fd = memfd_create("luio-mail", MFD_CLOEXEC | MFD_ALLOW_SEALING);
  if (g.bell < 0 || g.mail_fd < 0 || ftruncate(g.mail_fd, sizeof *g.mail) < 0 ||
      fcntl(g.mail_fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
    return -errno;
  void *at = mmap(NULL, sizeof *g.mail, PROT_READ, MAP_SHARED, g.mail_fd, 0);
  if (at == MAP_FAILED)
    return -errno;
  g.mail = at;
  g.taken = 0;
  return 0;
}

static int watch(int fd, uint32_t events)
{
  struct epoll_event e = {.events = events, .data.fd = fd};
  return epoll_ctl(g.epoll, EPOLL_CTL_ADD, fd, &e) < 0 ? -errno : 0;
}

static void become_worker(int replies, const sigset_t *normal)
{
  close_ours();
  munmap((void *)g.mail, sizeof *g.mail);
  char numbers[48];
  snprintf(numbers, sizeof numbers, "%d,%d,%d", replies, g.bell, g.mail_fd);
  setenv(GUARD_ENV, numbers, 1);
  signal(SIGINT, SIG_IGN); /* the guardian hears it, too, and says SIGTERM */
  signal(SIGHUP, SIG_IGN);
  signal(SIGQUIT, SIG_IGN);
  signal(SIGTSTP, SIG_IGN); /* a device at work with a driver that stands still helps nobody */
  sigprocmask(SIG_SETMASK, normal, NULL);
}

/* Forks a worker: 0 in it, 1 in the guardian, -errno. */
static int start_worker(const sigset_t *normal)
{
  int pair[2], rc;
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
    return -errno;
  g.worker = pair[0];
  /* The other direction would carry descriptors to us. */
  rc = shutdown(g.worker, SHUT_RD) < 0 ? -errno : make_mail();
  g.pid = rc == 0 ? fork() : -1;
  if (g.pid == 0) {
    become_worker(pair[1], normal);
    return 0;
  }
  if (rc == 0 && g.pid < 0)
    rc = -errno;
  close(pair[1]);
  if (rc == 0 && (g.pidfd = (int)syscall(SYS_pidfd_open, g.pid, 0)) < 0)
    rc = -errno;
  if (rc == 0 && (g.epoll = epoll_create1(EPOLL_CLOEXEC)) < 0)
    rc = -errno;
  if (rc == 0)
    rc = watch(g.pidfd, EPOLLIN);
  if (rc == 0)
    rc = watch(g.signals, EPOLLIN);
  if (rc == 0)
    rc = watch(g.bell, EPOLLIN | EPOLLET); /* by its edges, for it is never read */
  if (rc < 0) {
    if (g.pid > 0) {
      kill(g.pid, SIGKILL);
      waitpid(g.pid, NULL, 0);
    }
    forget_worker();
    return rc;
  }
  fcntl(g.pidfd, F_SETFD, FD_CLOEXEC);
  g.ready = g.sealed = g.leaves = false;
  return 1;
}

/* Waits for a child of ours that should be gone at once. Whether it is. */
static bool reap(pid_t pid, int *status, uint64_t ns)
{
  uint64_t until = now() + ns;
  for (;;) {
    pid_t got = waitpid(pid, status, WNOHANG);
    if (got == pid || (got < 0 && errno != EINTR))
      return true;
    if (now() >= until)
      return false;
    struct timespec t = {.tv_nsec = (long)MS / 4};
    nanosleep(&t, NULL);
  }
}

/* By a child: a terminal can be stopped, a pipe not be read, and its lock be held by whoever shares it. One
 * that hangs is left behind, and what could not be told meanwhile counted. */
static void emit(struct line *l)
{
  if (g.teller && !reap(g.teller, NULL, 0)) {
    g.untold++;
    return;
  }
  if (g.untold)
    say(l, "; %u line%s before this one could not be printed", g.untold, g.untold == 1 ? "" : "s");
  say(l, "\n");
  g.teller = fork();
  if (g.teller == 0) {
    close_ours();
    ssize_t ignored = write(2, l->text, l->length);
    (void)ignored;
    _exit(0);
  }
  if (g.teller < 0)
    g.untold++;
  else
    g.untold = 0;
  if (g.teller < 0 || reap(g.teller, NULL, TELLING))
    g.teller = 0;
}

/* Kills what the worker started and left behind: it is ours now. What hangs in the kernel stays. */
static void kill_leftovers(void)
{
  bool any = true;
  for (int round = 0; any && round < 100; round++) { /* each may have left some more */
    FILE *f = fopen("/proc/thread-self/children", "re");
    int pid;
    any = false;
    while (f && fscanf(f, "%d", &pid) == 1)
      if (pid != g.teller && pid != g.pid) {
        kill(pid, SIGKILL);
        any |= reap(pid, NULL, 10 * MS);
      }
    if (f)
      fclose(f);
  }
}

/* Orphans of the worker's that have ended. */
static void reap_orphans(void)
{
  siginfo_t one = {.si_pid = 0};
  while (waitid(P_ALL, 0, &one, WEXITED | WNOHANG | WNOWAIT) == 0 && one.si_pid &&
         one.si_pid != g.pid && one.si_pid != g.teller) {
    waitpid(one.si_pid, NULL, WNOHANG);
    one.si_pid = 0;
  }
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
  if (s.ssi_signo == SIGCHLD) {
    reap_orphans();
    return;
  }
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

/* Of a dead worker: its wait status. One of its own that traces it can keep it from us; that one is
 * killed, but the devices come first. What is not to be had is as good as SIGKILL. */
static int bury(void)
{
  int status = SIGKILL;
  if (reap(g.pid, &status, 0))
    return status;
  for (int i = 0; i < g.n_devices; i++)
    if (to_be_stopped(&g.device[i]) && g.device[i].fd[GUARD_CONFIG] >= 0)
      guard_bus_master_off(g.device[i].fd[GUARD_CONFIG]); /* settle looks at what became of it */
  kill_leftovers();
  reap(g.pid, &status, REAPING);
  return status;
}

/* epoll_wait, until something is to be done. While this process is stopped, or the machine, so is the
 * worker in most cases: a stop is not to use up the worker's time to stop. It shows as a wait that took
 * longer than it was told to. */
static int wait_for(struct epoll_event *e, int n)
{
  int left = time_left();
  uint64_t before = now(), told = left < 0 || (uint64_t)left > PIECE ? PIECE : (uint64_t)left;
  int rc = epoll_wait(g.epoll, e, n, left < 0 ? -1 : (int)told);
  uint64_t took = now() - before;
  if (g.stop_at && took > (told + PIECE) * MS)
    g.stop_at += took - told * MS;
  return rc;
}

/* Serves the worker until it is dead; its wait status. */
static int watch_worker(void)
{
  bool talks = true, dead = false;
  while (!dead) {
    struct epoll_event e[3];
    int n = wait_for(e, 3);
    for (int i = 0; i < n; i++) {
      dead |= e[i].data.fd == g.pidfd;
      if (e[i].data.fd == g.signals)
        take_signal(true);
      else if (e[i].data.fd == g.bell && talks)
        talks = serve();
    }
    if (dead)
      break;
    if (g.stop_at && !g.killed && now() >= g.stop_at)
      kill_worker();
    if (g.killed && !g.hangs && now() >= g.died_at + HANGS)
      stop_for_the_hanging();
  }
  g.died_at = now();
  if (talks)
    serve(); /* what it had said before counts: a device closed in order */
  int status = bury();
  forget_worker();
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

/* Whether a worker left with status 0 though nobody asked, and without a word: a function of the driver's, or of a library that
 * it uses, called exit. That is a crash, not an end. */
static bool quits(int status, struct line *l)
{
  if (g.stop_at || g.leaves || !WIFEXITED(status) || WEXITSTATUS(status))
    return false;
  say(l, ", and nobody asked: it counts as a crash");
  return true;
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
  bool left = false, quit = quits(status, &l);
  for (int i = 0; i < g.n_devices; i++) {
    if (to_be_stopped(&g.device[i])) {
      left = true;
      stop_device(&g.device[i], &l);
    }
    g.device[i].open = false;
  }
  bool well = !quit && WIFEXITED(status) && WEXITSTATUS(status) == 0;
  if (!well || g.sealed)
    kill_leftovers();
  bool never = !g.ever_ready && WIFEXITED(status); /* it has said why it can't start */
  *result = quit ? 1 : conclude(status);
  if (g.ready && g.died_at - g.ready_at > STABLE)
    g.in_a_row = 0;
  if (g.stop_at || well || never || g.in_a_row >= g.limit) {
    end_all();
    if (!g.stop_at && !well && !never && g.limit)
      say(&l, "; not restarted: %u of %u restarts used", g.in_a_row, g.limit);
    if (quit || left || (!never && !WIFEXITED(status) && *result))
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
  sigaddset(&ask, SIGCHLD);
  /* Nothing but SIGKILL ends us, or stops us (Ctrl-Z), before the device is quiet. */
  sigprocmask(SIG_SETMASK, &all, &normal);
  g.signals = signalfd(-1, &ask, SFD_CLOEXEC | SFD_NONBLOCK);
  prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
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
  end_all();
  if (g.teller && !reap(g.teller, NULL, TELLING))
    kill(g.teller, SIGKILL);
  return result;
}
