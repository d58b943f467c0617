/* guardian.c - the process that outlives a driver: starts the worker, buries it, starts the next one.
 *
 * `luio run` forks before LuaJIT is started. The parent is the guardian, the process that the shell
 * or systemd knows; the child is the worker. The guardian has no threads, no Lua, and no mappings but the
 * mailbox. It takes the worker's requests (guardian_requests.c) until the worker dies, however it dies.
 * Then:
 *
 *   1. every device that the worker left running is stopped (guardian_devices.c)
 *   2. processes that it left behind are killed (guardian_children.c), unless it left in order and was root
 *   3. the next worker is started and gets the descriptors back. Without a next worker they are closed,
 *      and the kernel frees the memory
 *
 * A worker that gave root up may be hostile, and the guardian is still root. So each wait that such a
 * worker could prolong has a limit: the worker reading a reply, its exit status (a tracer gets it first),
 * a terminal that it has stopped. The next worker is informed that kept data is not trusted (guard.h,
 * humble).
 *
 * Signals: SIGHUP from a process requests a reload, and is passed on when the driver has started. The first
 * SIGINT, SIGTERM or SIGHUP of a terminal asks the worker to stop (SIGTERM) and sets a deadline. After the
 * deadline the worker is killed, and its death is treated as above. A second Ctrl-C moves the deadline to
 * now. The terminal sends SIGINT to both processes; the worker ignores it. */
#include "guardian.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define MS GUARDIAN_MS
#define SECOND GUARDIAN_SECOND
#define FIRST_PAUSE (10 * MS) /* before a restart; doubles */
#define STABLE (10 * SECOND)  /* a worker that ran so long starts the counting anew */
#define REAPING SECOND        /* how long to wait for a dead worker's status */
#define HANGS SECOND          /* a killed worker that is there after this time hangs */
#define PIECE 500ull          /* ms: the longest wait while a deadline runs (wait_for) */
#define ONE_CTRL_C (50 * MS)  /* a SIGINT so soon after another is the same key, delivered twice */

static struct {
  /* The worker */
  pid_t pid;
  int pidfd, epoll;
  struct guardian_said said;
  /* Its end */
  uint64_t stop_at; /* 0: no stop was requested */
  uint64_t asked_at;
  bool twice;       /* asked twice to stop */
  bool killed;      /* by us */
  bool hangs;       /* it is there though it was killed */
  uint64_t died_at; /* the last worker; of a killed one: when it was killed, until it is dead */
  /* All of them */
  int signals;
  bool reload; /* asked for, and not passed on yet */
  unsigned restarts, in_a_row;
} g = {.pidfd = -1, .epoll = -1, .signals = -1};

/* ---- One worker -------------------------------------------------------------------------------- */

static void close_one(int *fd)
{
  if (*fd >= 0)
    close(*fd);
  *fd = -1;
}

/* In a forked child. The mailbox's own two, which a worker needs, stay open. */
static void close_ours(void)
{
  guardian_close_devices();
  guardian_close_machines();
  guardian_close_replies();
  close_one(&g.signals);
  close_one(&g.pidfd);
  close_one(&g.epoll);
}

static void forget_worker(void)
{
  guardian_close_mail();
  close_one(&g.pidfd);
  close_one(&g.epoll);
  guardian_drop_made();
}

static int watch(int fd, uint32_t events)
{
  struct epoll_event e = {.events = events, .data.fd = fd};
  return epoll_ctl(g.epoll, EPOLL_CTL_ADD, fd, &e) < 0 ? -errno : 0;
}

static void become_worker(int theirs, const sigset_t *normal)
{
  close_ours();
  guardian_pass_mail(theirs);
  signal(SIGINT, SIG_IGN); /* the guardian hears it, too, and says SIGTERM */
  signal(SIGHUP, SIG_IGN);
  signal(SIGQUIT, SIG_IGN);
  signal(SIGTSTP, SIG_IGN); /* Ctrl-Z would stop the driver, but not its device */
  sigprocmask(SIG_SETMASK, normal, NULL);
}

/* Forks a worker: 0 in it, 1 in the guardian, -errno. */
static int start_worker(const sigset_t *normal)
{
  int theirs, rc = guardian_open_mail(&theirs);
  if (rc < 0)
    return rc;
  g.reload = false; /* an earlier request: the new worker loads the current files */
  g.pid = fork();
  if (g.pid == 0) {
    become_worker(theirs, normal);
    return 0;
  }
  if (g.pid < 0)
    rc = -errno;
  close(theirs);
  if (rc == 0 && (g.pidfd = (int)syscall(SYS_pidfd_open, g.pid, 0)) < 0)
    rc = -errno;
  if (rc == 0 && (g.epoll = epoll_create1(EPOLL_CLOEXEC)) < 0)
    rc = -errno;
  if (rc == 0)
    rc = watch(g.pidfd, EPOLLIN);
  if (rc == 0)
    rc = watch(g.signals, EPOLLIN);
  if (rc == 0)
    rc = watch(guardian_bell(), EPOLLIN | EPOLLET); /* by its edges, for it is never read */
  if (rc < 0) {
    if (g.pid > 0) {
      kill(g.pid, SIGKILL);
      waitpid(g.pid, NULL, 0);
    }
    forget_worker();
    return rc;
  }
  fcntl(g.pidfd, F_SETFD, FD_CLOEXEC);
  g.said.ready = g.said.sealed = g.said.leaves = false;
  return 1;
}

static void kill_worker(void)
{
  if (!g.killed)
    g.died_at = guardian_now(); /* the deadline and the times in the line count from the kill */
  g.killed = true;
  kill(g.pid, SIGKILL);
}

/* Handles a signal. Without a worker (the pause before a restart) it only sets stop_at. */
static void take_signal(bool running)
{
  struct signalfd_siginfo s;
  if (read(g.signals, &s, sizeof s) != (ssize_t)sizeof s)
    return;
  if (s.ssi_signo == SIGCHLD) {
    guardian_reap_orphans(g.pid);
    return;
  }
  if (s.ssi_signo == SIGHUP &&
      s.ssi_code <= 0) { /* a process sent it; the kernel sends a terminal's */
    g.reload = true;
    return;
  }
  uint64_t at = guardian_now();
  bool again = g.stop_at && s.ssi_signo == SIGINT && at - g.asked_at > ONE_CTRL_C;
  g.twice = g.twice || again || s.ssi_signo == SIGQUIT;
  if (!g.stop_at && !g.twice) {
    g.asked_at = at;
    g.stop_at = at + g.said.stop_ns;
    if (running)
      kill(g.pid, SIGTERM);
  }
  if (g.twice) {
    g.stop_at = at;
    if (running)
      kill_worker();
  }
}

/* A killed worker can hang in the kernel, in a system call that can't be interrupted. It keeps its memory
 * until it ends; its devices are stopped now. */
static void stop_for_the_hanging(void)
{
  struct guardian_line l = {.length = 0};
  g.hangs = true;
  guardian_say(&l, "luio: worker %d was killed, and hangs in the kernel (/proc/%d/stack)",
               (int)g.pid, (int)g.pid);
  guardian_disarm_devices(&l, g.died_at);
  guardian_tell(&l);
}

/* Milliseconds until the next deadline; -1: there is none. */
static int time_left(void)
{
  uint64_t at = guardian_now(), until = g.killed ? g.died_at + HANGS : g.stop_at;
  if (!until || g.hangs)
    return -1;
  return at >= until ? 0 : (int)((until - at) / MS) + 1;
}

/* A dead worker's wait status. A tracer, which the worker itself may have started, can keep the status from
 * us. The tracer is killed then, after the devices' bus master is off: those are in a hurry. A status
 * that does not come counts as SIGKILL. */
static int bury(void)
{
  int status = SIGKILL;
  if (guardian_reap(g.pid, &status, 0))
    return status;
  guardian_quieten_devices(); /* decide_restart says what came of it */
  guardian_kill_leftovers(g.pid, guardian_is_minder);
  guardian_reap(g.pid, &status, REAPING);
  return status;
}

/* epoll_wait, until the next deadline. When this process is stopped (SIGSTOP, a suspended machine), the
 * worker mostly is, too. That time must not count as the worker's time to stop. It shows as a wait that
 * took longer than it was told to, by PIECE or more; then the deadline is put off by as much. */
static int wait_for(struct epoll_event *e, int n)
{
  int left = time_left();
  uint64_t before = guardian_now(),
           told = left < 0 || (uint64_t)left > PIECE ? PIECE : (uint64_t)left;
  int rc = epoll_wait(g.epoll, e, n, left < 0 ? -1 : (int)told);
  uint64_t took = guardian_now() - before;
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
      else if (e[i].data.fd == guardian_bell() && talks)
        talks = guardian_serve(&g.said, g.restarts, g.died_at);
    }
    if (dead)
      break;
    if (g.reload && g.said.ready) {
      g.reload = false;
      kill(g.pid, SIGHUP);
    }
    if (g.stop_at && !g.killed && guardian_now() >= g.stop_at)
      kill_worker();
    if (g.killed && !g.hangs && guardian_now() >= g.died_at + HANGS)
      stop_for_the_hanging();
  }
  g.died_at = guardian_now();
  if (talks)
    guardian_serve(&g.said, g.restarts, g.died_at); /* its last word: a device closed in order */
  int status = bury();
  forget_worker();
  return status;
}

/* ---- All of them ------------------------------------------------------------------------------- */

/* Ends early when a signal asks to stop. */
static void pause_for(uint64_t ns)
{
  uint64_t until = guardian_now() + ns;
  while (!g.stop_at && guardian_now() < until) {
    struct pollfd p = {.fd = g.signals, .events = POLLIN};
    if (poll(&p, 1, (int)((until - guardian_now()) / MS) + 1) > 0)
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

/* True if a worker exited with status 0 without a request to stop and without announcing it: the
 * driver, or a library that it uses, called exit. That counts as a crash. */
static bool quits(int status, struct guardian_line *l)
{
  if (g.stop_at || g.said.leaves || !WIFEXITED(status) || WEXITSTATUS(status))
    return false;
  guardian_say(l, ", and nobody asked: it counts as a crash");
  return true;
}

/* After a worker's end: stops what it left running. True: another one is to start, after *pause. False: it
 * is over, with exit status *result. */
static bool decide_restart(int status, uint64_t *pause, int *result)
{
  struct guardian_line l = {.length = 0};
  if (WIFEXITED(status))
    guardian_say(&l, "luio: worker %d left with status %d", (int)g.pid, WEXITSTATUS(status));
  else
    guardian_say(&l, "luio: worker %d %s SIG%s", (int)g.pid,
                 g.twice    ? "was told twice to stop:"
                 : g.killed ? "did not stop in time:"
                            : "died of",
                 sigabbrev_np(WTERMSIG(status)) ? sigabbrev_np(WTERMSIG(status)) : "RT");
  bool quit = quits(status, &l), left = guardian_stop_devices(&l, g.died_at);
  int kept = guardian_machines_left();
  bool well = !quit && WIFEXITED(status) && WEXITSTATUS(status) == 0;
  if (!well || g.said.sealed)
    guardian_kill_leftovers(g.pid, guardian_is_minder);
  bool never = !g.said.ever_ready && WIFEXITED(status); /* it has said why it can't start */
  *result = quit ? 1 : conclude(status);
  if (g.said.ready && g.died_at - g.said.ready_at > STABLE)
    g.in_a_row = 0;
  if (g.stop_at || well || never || g.in_a_row >= g.said.limit) {
    guardian_end_devices();
    if (!g.stop_at && !well && !never && g.said.limit)
      guardian_say(&l, "; not restarted: %u of %u restarts used", g.in_a_row, g.said.limit);
    if (quit || left || (!never && !WIFEXITED(status) && *result))
      guardian_tell(&l);
    return false;
  }
  g.restarts++;
  *pause = FIRST_PAUSE;
  for (unsigned i = 0; i < g.in_a_row && *pause < g.said.longest_pause; i++)
    *pause *= 2;
  if (*pause > g.said.longest_pause)
    *pause = g.said.longest_pause;
  g.in_a_row++;
  if (kept)
    guardian_say(&l, "; %d QEMU machine%s kept", kept, kept == 1 ? "" : "s");
  guardian_say(&l, "; restart %u of %u in %.0f ms", g.in_a_row, g.said.limit, guardian_ms(*pause));
  guardian_tell(&l);
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
  g.said.limit = 0;
  g.said.stop_ns = 5 * SECOND;
  int result = 1;
  guardian_begin_telling(close_ours);
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
    if (!decide_restart(watch_worker(), &pause, &result))
      break;
    pause_for(pause);
    if (g.stop_at) {
      result = 0;
      break;
    }
  }
  guardian_end_devices();
  guardian_end_machines();
  guardian_end_telling();
  return result;
}
