/* twin.c - what luio's benchmarks do, done in C: the peers, and the thread that plays the device.
 *
 * Both sides of a comparison use the same signaller, the same clock and the same code to stamp an
 * arrival, so that what differs is the path between. */
#include "twin.h"

#include "../../runtime/luio.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

static void nap(uint64_t ns)
{
  struct timespec t = {.tv_sec = (time_t)(ns / 1000000000), .tv_nsec = (long)(ns % 1000000000)};
  while (nanosleep(&t, &t) < 0 && errno == EINTR)
    ;
}

/* ---- Register access --------------------------------------------------------------------------- */

#define NEVER 0xffffffffu /* polled for; not in that memory */

uint64_t twin_read_call(volatile void *p, uint64_t n)
{
  uint64_t from = luio_now();
  for (uint64_t i = 0; i < n; i++)
    if (luio_read32(p) == NEVER)
      break;
  return luio_now() - from;
}

uint64_t twin_read_raw(volatile void *p, uint64_t n)
{
  uint64_t from = luio_now();
  for (uint64_t i = 0; i < n; i++)
    if (*(volatile uint32_t *)p == NEVER)
      break;
  return luio_now() - from;
}

uint64_t twin_write_call(volatile void *p, uint64_t n)
{
  uint64_t from = luio_now();
  for (uint64_t i = 0; i < n; i++)
    luio_write32(p, (uint32_t)i);
  return luio_now() - from;
}

#define CTRL_EN 0x00000001u
#define CTRL_MODE 0x000000f0u
#define CTRL_MODE_SHIFT 4

uint64_t twin_update_call(volatile void *p, uint64_t n)
{
  uint64_t from = luio_now();
  for (uint64_t i = 0; i < n; i++) {
    uint32_t v = luio_read32(p);
    v = (v & ~(CTRL_EN | CTRL_MODE)) | CTRL_EN | (3u << CTRL_MODE_SHIFT);
    luio_write32(p, v);
  }
  return luio_now() - from;
}

uint64_t twin_write_raw(volatile void *p, uint64_t n)
{
  uint64_t from = luio_now();
  for (uint64_t i = 0; i < n; i++)
    *(volatile uint32_t *)p = (uint32_t)i;
  return luio_now() - from;
}

/* ---- Latency ----------------------------------------------------------------------------------- */

struct twin_signaller {
  int fd, rounds;
  unsigned seed;
  pthread_t thread;
  _Atomic int sent, answered;
  uint64_t signalled; /* when; published by `sent` and the descriptor */
  uint64_t latency[];
};

static void *signaller(void *arg)
{
  twin_signaller *s = arg;
  for (int i = 0; i < s->rounds; i++) {
    /* The pause comes before the look, so that this thread is not about while it is answered. */
    do
      nap(100000 + (uint64_t)(rand_r(&s->seed) % 400) * 1000);
    while (atomic_load(&s->answered) < i);
    uint64_t one = 1;
    s->signalled = luio_now();
    atomic_store(&s->sent, i + 1);
    if (write(s->fd, &one, sizeof one) != (ssize_t)sizeof one)
      abort();
  }
  return NULL;
}

/* The first CPU this process may use. */
static int first_cpu(const cpu_set_t *set)
{
  for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
    if (CPU_ISSET(cpu, set))
      return cpu;
  return -1;
}

static cpu_set_t everywhere;

int twin_leave_a_cpu(void)
{
  cpu_set_t rest;
  if (sched_getaffinity(0, sizeof everywhere, &everywhere) < 0 || CPU_COUNT(&everywhere) < 2)
    return -1;
  rest = everywhere;
  int cpu = first_cpu(&rest);
  CPU_CLR(cpu, &rest);
  return sched_setaffinity(0, sizeof rest, &rest) < 0 ? -1 : cpu;
}

void twin_use_all_cpus(void)
{
  sched_setaffinity(0, sizeof everywhere, &everywhere);
}

twin_signaller *twin_signaller_start(int fd, int rounds, unsigned seed, int cpu)
{
  twin_signaller *s = calloc(1, sizeof *s + (size_t)rounds * sizeof *s->latency);
  if (!s)
    return NULL;
  s->fd = fd;
  s->rounds = rounds;
  s->seed = seed;
  pthread_attr_t attr;
  pthread_attr_init(&attr);
  if (cpu >= 0) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((unsigned)cpu, &set);
    pthread_attr_setaffinity_np(&attr, sizeof set, &set);
  }
  int rc = pthread_create(&s->thread, &attr, signaller, s);
  pthread_attr_destroy(&attr);
  if (rc) {
    free(s);
    return NULL;
  }
  return s;
}

int twin_arrived(twin_signaller *s)
{
  uint64_t now = luio_now();
  int i = atomic_load(&s->answered);
  if (i >= atomic_load(&s->sent))
    return 1; /* woken for nothing */
  s->latency[i] = now - s->signalled;
  atomic_store(&s->answered, i + 1);
  return i + 1 < s->rounds;
}

static int ascending(const void *a, const void *b)
{
  uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
  return (x > y) - (x < y);
}

void twin_signaller_join(twin_signaller *s)
{
  pthread_join(s->thread, NULL);
  qsort(s->latency, (size_t)s->rounds, sizeof *s->latency, ascending);
}

double twin_quantile(const twin_signaller *s, double q)
{
  return (double)s->latency[(int)(q * (s->rounds - 1) + 0.5)];
}

void twin_signaller_free(twin_signaller *s)
{
  free(s);
}

struct answer {
  twin_signaller *s;
  int fd;
};

static void *answer(void *arg)
{
  struct answer *a = arg;
  uint64_t count;
  do
    if (read(a->fd, &count, sizeof count) != (ssize_t)sizeof count)
      abort();
  while (twin_arrived(a->s));
  return NULL;
}

int twin_answer(twin_signaller *s, int fd)
{
  struct answer a = {s, fd};
  pthread_t thread;
  int rc = pthread_create(&thread, NULL, answer, &a);
  return rc ? rc : pthread_join(thread, NULL);
}

struct relay {
  int from, to, rounds;
};

static void *relay(void *arg)
{
  struct relay *r = arg;
  uint64_t count;
  for (int i = 0; i < r->rounds; i++)
    if (read(r->from, &count, sizeof count) != (ssize_t)sizeof count ||
        write(r->to, &count, sizeof count) != (ssize_t)sizeof count)
      abort();
  return NULL;
}

int twin_answer_relayed(twin_signaller *s, int fd)
{
  struct relay r = {fd, twin_eventfd(), s->rounds};
  struct answer a = {s, r.to};
  pthread_t first, second;
  if (r.to < 0 || pthread_create(&second, NULL, answer, &a))
    return -1;
  if (pthread_create(&first, NULL, relay, &r))
    return -1;
  pthread_join(first, NULL);
  pthread_join(second, NULL);
  close(r.to);
  return 0;
}

/* ---- Throughput -------------------------------------------------------------------------------- */

struct twin_source {
  int fd;
  pthread_t thread;
  uint64_t total, window;
  _Atomic uint64_t consumed;
};

static void *source(void *arg)
{
  twin_source *s = arg;
  for (uint32_t count = 1; count <= s->total; count++) {
    while (count - atomic_load(&s->consumed) > s->window)
      nap(1000); /* half a window is still on its way when we are back */
    if (write(s->fd, &count, sizeof count) != (ssize_t)sizeof count)
      abort();
  }
  return NULL;
}

twin_source *twin_source_start(int fd, uint64_t total, uint64_t window)
{
  twin_source *s = calloc(1, sizeof *s);
  if (!s)
    return NULL;
  s->fd = fd;
  s->total = total;
  s->window = window;
  if (pthread_create(&s->thread, NULL, source, s)) {
    free(s);
    return NULL;
  }
  return s;
}

void twin_consumed(twin_source *s, uint64_t so_far)
{
  atomic_store(&s->consumed, so_far);
}

void twin_source_join(twin_source *s)
{
  pthread_join(s->thread, NULL);
  free(s);
}

uint64_t twin_consume(int fd, twin_source *s, uint64_t total)
{
  uint64_t from = luio_now();
  uint32_t count;
  for (uint64_t i = 1; i <= total; i++) {
    if (read(fd, &count, sizeof count) != (ssize_t)sizeof count)
      return 0;
    if (i % 64 == 0 || i == total)
      twin_consumed(s, i);
  }
  return luio_now() - from;
}

/* ---- Descriptors and processes ----------------------------------------------------------------- */

int twin_eventfd(void)
{
  return eventfd(0, EFD_CLOEXEC);
}

int twin_pipe(int fds[2], int nonblocking)
{
  int rc = pipe2(fds, O_CLOEXEC);
  return rc < 0 || !nonblocking ? rc : fcntl(fds[0], F_SETFL, O_NONBLOCK);
}

void twin_close(int fd)
{
  close(fd);
}

uint64_t twin_spawn(const char *const argv[])
{
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
  posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
  pid_t pid;
  int status = -1;
  uint64_t from = luio_now();
  int rc = posix_spawnp(&pid, argv[0], &actions, NULL, (char *const *)argv, environ);
  if (rc == 0)
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
      ;
  uint64_t took = luio_now() - from;
  posix_spawn_file_actions_destroy(&actions);
  return rc == 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0 ? took : 0;
}
