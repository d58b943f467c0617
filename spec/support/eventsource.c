/* eventsource.c - a thread that counts interrupts into a descriptor as a UIO device would: 4-byte
 * running counts, one write each, as fast as the reader's side takes them. With `every`, it pauses
 * after so many events, for a random time below pause_ns.
 *
 * The count grows by 1, 2, ... 7, 1, 2, ... so that a reader who knows how far the count has come
 * knows which step must come next: an event that is lost, doubled or swapped shows. */
#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

struct eventsource {
  pthread_t thread;
  int fd;
  uint64_t n, every, pause_ns;
  uint32_t total;
};

struct eventsource *eventsource_start(int fd, uint64_t n, uint64_t every, uint64_t pause_ns);
uint32_t eventsource_join(struct eventsource *s);

static void *run(void *arg)
{
  struct eventsource *s = arg;
  unsigned seed = 1;
  for (uint64_t i = 0; i < s->n; i++) {
    s->total += (uint32_t)(i % 7 + 1);
    ssize_t wrote;
    do
      wrote = write(s->fd, &s->total, sizeof s->total);
    while (wrote < 0 && errno == EINTR);
    if (wrote != (ssize_t)sizeof s->total)
      break;
    if (s->every && (i + 1) % s->every == 0) {
      struct timespec nap = {.tv_nsec =
                                 (long)(s->pause_ns * (uint64_t)(rand_r(&seed) % 1000) / 1000)};
      nanosleep(&nap, NULL);
    }
  }
  return NULL;
}

struct eventsource *eventsource_start(int fd, uint64_t n, uint64_t every, uint64_t pause_ns)
{
  struct eventsource *s = calloc(1, sizeof *s);
  if (!s)
    return NULL;
  s->fd = fd;
  s->n = n;
  s->every = every;
  s->pause_ns = pause_ns;
  if (pthread_create(&s->thread, NULL, run, s)) {
    free(s);
    return NULL;
  }
  return s;
}

/* The final count. */
uint32_t eventsource_join(struct eventsource *s)
{
  pthread_join(s->thread, NULL);
  uint32_t total = s->total;
  free(s);
  return total;
}
