/* watchdog.c - detects a thread that does not return to its loop.
 *
 * Lua runs on one thread, and timers, signals and the undoing of a reload run on it, too. A function that
 * never returns blocks them all. So another thread counts the time since the loop last turned
 * (luio_watchdog_beat), and acts in two steps.
 *
 *   1. Over the limit: luio_watchdog_expired returns true. A hook of the interpreter calls it every thousand
 *      instructions and raises an error in the running function (lua/luio/loop/watchdog.lua). SIGURG interrupts
 *      blocking system calls; its handler does nothing and is installed without SA_RESTART, so they return EINTR and
 *      the hook runs.
 *   2. Over twice the limit: the hook can't run, because the thread is in compiled code, computes in C, or
 *      repeats its system call. The watchdog reports that, and ends the process if a guardian can start another;
 *      otherwise it goes on waiting.
 *
 * The time is clock time minus the time that the watched thread has waited for a processor
 * (/proc/self/task/TID/schedstat), so that a busy machine does not expire a correct function. A kernel without that
 * figure: the thread's processor time, or half of the clock's. The kernel adds a wait to that figure when it ends, so ticks
 * that find the thread runnable, with no processor time since the last one, are such a wait: they count when the thread
 * has run again, as far as they were none. The clock is read at each tick, and a tick counts for
 * two at most, so that a stopped process (SIGSTOP, a debugger, a suspended guest) does not expire. */
#include "worker.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define TICKS 20 /* looks until the limit */
#define SHORTEST_TICK (5 * 1000000ull)
#define LONGEST_TICK (250 * 1000000ull)

static struct {
  pthread_mutex_t lock; /* of all that is no atomic */
  pthread_cond_t changed;
  bool running, stop;
  pthread_t thread, watched;
  int schedstat, stat;              /* of the watched thread; -1: there is none */
  clockid_t cpu;                    /* its processor time */
  uint64_t limit_ns;                /* 0: none */
  uint64_t last_ns;                 /* 0: none */
  bool ends;                        /* the process, at last_ns */
  bool said;                        /* the message that is due at last_ns, since the last beat */
  uint64_t seen;                    /* beats at the last look */
  uint64_t cpu_since, waited_since; /* the processor time then, and the time waited for it */
  uint64_t since;                   /* then, on the clock */
  uint64_t clock_ns;                /* time on the clock since then, in ticks */
  uint64_t cpu_seen,
      waiting_ns; /* the processor time at the last tick, and the wait that goes on */
  uint64_t tick;  /* that our thread sleeps */
  char what[200], place[200];
  /* Written by the watched thread only, read by ours: it counts, and orders nothing. Relaxed. */
  _Atomic uint64_t beats;
  /* Ours: after how many beats the thread was found to be over the limit, UINT64_MAX: it was not; and for how long it had been
   * away. A beat while we look makes it void: then it is of another count. The time is stored before the count, by
   * release, and read after it, by acquire. */
  _Atomic uint64_t expired_at, expired_ns;
  struct sigaction before;
  bool handles; /* SIGURG */
} w = {.lock = PTHREAD_MUTEX_INITIALIZER, .expired_at = UINT64_MAX};

static void interrupt_only(int signal)
{
  (void)signal;
}

static uint64_t read_clock(clockid_t id)
{
  struct timespec t;
  if (clock_gettime(id, &t) < 0)
    return 0; /* the thread has ended */
  return (uint64_t)t.tv_sec * LUIO_NS_PER_S + (uint64_t)t.tv_nsec;
}

/* How long the watched thread has waited for a processor in its life. False: that can't be known. */
static bool read_waited(uint64_t *ns)
{
  char text[96];
  unsigned long long ran, waited;
  ssize_t n = w.schedstat >= 0 ? pread(w.schedstat, text, sizeof text - 1, 0) : -1;
  if (n <= 0)
    return false;
  text[n] = '\0';
  if (sscanf(text, "%llu %llu", &ran, &waited) != 2)
    return false;
  *ns = waited;
  return true;
}

/* Whether the watched thread runs, or would if it had a processor. */
static bool is_runnable(void)
{
  char text[128];
  ssize_t n = w.stat >= 0 ? pread(w.stat, text, sizeof text - 1, 0) : -1;
  if (n <= 0)
    return false;
  text[n] = '\0';
  const char *state = strrchr(text, ')'); /* behind the name, which may have anything in it */
  return state && strncmp(state, ") R", 3) == 0;
}

static uint64_t tick(void)
{
  uint64_t limit = w.limit_ns ? w.limit_ns : w.last_ns, ns = limit / TICKS;
  return !limit || ns > LONGEST_TICK ? LONGEST_TICK : ns < SHORTEST_TICK ? SHORTEST_TICK : ns;
}

/* With the lock held: from now on. */
static void begin_anew(void)
{
  w.seen = atomic_load_explicit(&w.beats, memory_order_relaxed);
  w.cpu_since = read_clock(w.cpu);
  w.waited_since = 0;
  read_waited(&w.waited_since);
  w.clock_ns = w.waiting_ns = 0;
  w.cpu_seen = w.cpu_since;
  w.since = luio_now();
  w.said = false;
  atomic_store_explicit(&w.expired_at, UINT64_MAX, memory_order_relaxed);
}

/* With the lock held. The one place beside guard.c where the library prints and ends a process: nothing else runs. */
static void give_up(uint64_t ns)
{
  char line[600];
  int n = snprintf(line, sizeof line,
                   "luio: %s has not come back for %.1f s, and can't be interrupted%s%s%s\n",
                   w.what, (double)ns / 1e9, w.place[0] ? " (last seen at " : "", w.place,
                   w.place[0] ? ")" : "");
  size_t length = n < (int)sizeof line ? (size_t)n : sizeof line - 1;
  ssize_t ignored = write(2, line, length);
  (void)ignored;
  w.said = true;
  if (w.ends && luio_guard_fd() >= 0)
    _exit(1);
}

/* With the lock held: how long the thread has been away since the last beat. */
static uint64_t time_spent(void)
{
  uint64_t cpu = read_clock(w.cpu), waited;
  uint64_t spent = cpu > w.cpu_since ? cpu - w.cpu_since : 0, other = w.clock_ns / 2;
  if (read_waited(&waited)) {
    waited = waited > w.waited_since ? waited - w.waited_since : 0;
    waited += w.waiting_ns;
    other = w.clock_ns > waited ? w.clock_ns - waited : 0;
  }
  return spent > other ? spent : other;
}

/* With the lock held. ns: since it was called last. */
static void count_time(uint64_t ns)
{
  if (atomic_load_explicit(&w.beats, memory_order_relaxed) != w.seen) {
    begin_anew();
    return;
  }
  w.clock_ns += ns;
  uint64_t cpu = read_clock(w.cpu);
  w.waiting_ns = cpu == w.cpu_seen && is_runnable() ? w.waiting_ns + ns : 0;
  w.cpu_seen = cpu;
  uint64_t spent = time_spent();
  if (w.limit_ns && spent >= w.limit_ns) {
    atomic_store_explicit(&w.expired_ns, spent, memory_order_relaxed);
    atomic_store_explicit(&w.expired_at, w.seen, memory_order_release);
    pthread_kill(w.watched, SIGURG);
  }
  if (w.last_ns && spent >= w.last_ns && !w.said)
    give_up(spent);
}

static void *run(void *unused)
{
  (void)unused;
  pthread_mutex_lock(&w.lock);
  uint64_t before = luio_now();
  while (!w.stop) {
    uint64_t pause = w.tick = tick(), until = before + pause;
    struct timespec t = {(time_t)(until / LUIO_NS_PER_S), (long)(until % LUIO_NS_PER_S)};
    pthread_cond_timedwait(&w.changed, &w.lock, &t);
    uint64_t now = luio_now(), ns = now - (before > w.since ? before : w.since);
    before = now;
    if (!w.stop && ns > 0)
      count_time(ns < 2 * pause ? ns : 2 * pause);
  }
  pthread_mutex_unlock(&w.lock);
  return NULL;
}

static void close_figures(void)
{
  if (w.schedstat >= 0)
    close(w.schedstat);
  if (w.stat >= 0)
    close(w.stat);
}

/* With the lock held. */
static int start(luio_error *err)
{
  pthread_condattr_t attr;
  pthread_condattr_init(&attr);
  pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
  pthread_cond_init(&w.changed, &attr);
  pthread_condattr_destroy(&attr);
  char path[64];
  luio_format(path, sizeof path, "/proc/self/task/%d/schedstat", (int)gettid());
  w.schedstat = open(path, O_RDONLY | O_CLOEXEC);
  luio_format(path, sizeof path, "/proc/self/task/%d/stat", (int)gettid());
  w.stat = open(path, O_RDONLY | O_CLOEXEC);
  w.watched = pthread_self();
  w.stop = false;
  int rc = pthread_getcpuclockid(w.watched, &w.cpu);
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  if (rc == 0)
    rc = pthread_create(&w.thread, NULL, run, NULL);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  if (rc) {
    close_figures();
    return luio_fail(err, rc, "start a watchdog: %s", luio_errno_name(rc));
  }
  w.running = true;
  return 0;
}

/* With the lock held. luio_watchdog_stop restores a foreign handler. */
static void take_signal(void)
{
  struct sigaction a = {.sa_handler = interrupt_only};
  if (!w.handles && sigaction(SIGURG, &a, &w.before) == 0)
    w.handles = true;
}

int luio_watchdog_set(uint64_t limit_ns, uint64_t last_ns, const char *what, int ends,
                      luio_error *err)
{
  pthread_mutex_lock(&w.lock);
  int rc = 0;
  if (w.running && !pthread_equal(w.watched, pthread_self()))
    rc = luio_fail(err, EBUSY, "start a watchdog: this process has one, on another thread");
  else if (!w.running)
    rc = start(err);
  if (rc == 0) {
    w.limit_ns = limit_ns;
    w.last_ns = last_ns;
    w.ends = ends;
    w.place[0] = '\0';
    luio_format(w.what, sizeof w.what, "%s", what);
    if (limit_ns)
      take_signal();
    begin_anew();
    /* Woken for nothing it would take the lock when we want it next, and may not have a processor. */
    if (tick() < w.tick)
      pthread_cond_signal(&w.changed);
  }
  pthread_mutex_unlock(&w.lock);
  return rc;
}

void luio_watchdog_place(const char *place)
{
  pthread_mutex_lock(&w.lock);
  luio_format(w.place, sizeof w.place, "%s", place);
  pthread_mutex_unlock(&w.lock);
}

void luio_watchdog_beat(void)
{
  uint64_t beats = atomic_load_explicit(&w.beats, memory_order_relaxed);
  atomic_store_explicit(&w.beats, beats + 1, memory_order_relaxed);
}

uint64_t luio_watchdog_expired(void)
{
  if (atomic_load_explicit(&w.expired_at, memory_order_acquire) !=
      atomic_load_explicit(&w.beats, memory_order_relaxed))
    return 0;
  return atomic_load_explicit(&w.expired_ns, memory_order_relaxed);
}

void luio_watchdog_stop(void)
{
  pthread_mutex_lock(&w.lock);
  bool ours = w.running && pthread_equal(w.watched, pthread_self());
  if (ours) {
    w.stop = true;
    pthread_cond_signal(&w.changed);
  }
  pthread_mutex_unlock(&w.lock);
  if (!ours)
    return;
  pthread_join(w.thread, NULL);
  pthread_cond_destroy(&w.changed);
  close_figures();
  w.running = false;
  struct sigaction now;
  if (w.handles && sigaction(SIGURG, NULL, &now) == 0 && now.sa_handler == interrupt_only)
    sigaction(SIGURG, &w.before, NULL);
  w.handles = false;
  atomic_store_explicit(&w.expired_at, UINT64_MAX, memory_order_relaxed);
}
