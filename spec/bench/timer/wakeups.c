/* wakeups.c - one wake-up per interrupt, in C: a process blocked in read() on /dev/uioX of uio_timer, and nothing else.
 *
 *   wakeups /dev/uio3 PERIOD_NS WARM COUNT   prints: interrupts that woke it, those that came with another, seconds
 *
 * The counts of read() say how many interrupts there were; all but one of each came while it was not waiting.
 * The first WARM are not counted. */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

enum { PERIOD_NS = 2, NOTIFY = 4 }; /* words of map 0 */

static double now(void)
{
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int fail(const char *what)
{
  perror(what);
  return 1;
}

/* Reads until `want` interrupts have come after *before; how many reads that took. */
static uint32_t take(int fd, uint32_t want, uint32_t *before)
{
  uint32_t first = *before, woken = 0;
  for (; *before - first < want; woken++)
    if (read(fd, before, sizeof *before) != sizeof *before)
      exit(fail("read"));
  return woken;
}

int main(int argc, char **argv)
{
  if (argc != 5)
    return fprintf(stderr, "usage: wakeups /dev/uioX PERIOD_NS WARM COUNT\n"), 2;
  uint32_t count;
  int fd = open(argv[1], O_RDWR);
  if (fd < 0)
    return fail(argv[1]);
  volatile uint32_t *registers = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (registers == MAP_FAILED)
    return fail("mmap");
  registers[PERIOD_NS] = (uint32_t)strtoul(argv[2], NULL, 10);
  registers[NOTIFY] = 0;
  int32_t on = 1, off = 0;
  if (write(fd, &on, sizeof on) != sizeof on || read(fd, &count, sizeof count) != sizeof count)
    return fail("start");
  take(fd, (uint32_t)strtoul(argv[3], NULL, 10), &count);
  uint32_t first = count;
  double from = now();
  uint32_t woken = take(fd, (uint32_t)strtoul(argv[4], NULL, 10), &count);
  double seconds = now() - from;
  if (write(fd, &off, sizeof off) != sizeof off)
    return fail("stop");
  printf("%u %u %g\n", woken, count - first - woken, seconds);
  return 0;
}
