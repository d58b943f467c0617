/* guard_state.c - a driver's durable state: bytes in memory that the guardian keeps.
 *
 * Two copies are written in turn. A copy is valid if its number is not 0 and its checksum is right;
 * the valid copy with the higher number is the state. Writing takes the other one: number 0, the
 * bytes, the checksum, then the number. If the process is killed in between, the older copy is
 * unchanged. */
#include "worker.h"

#include <errno.h>
#include <string.h>
#include <sys/mman.h>

typedef struct copy {
  _Atomic uint64_t number; /* 0: not valid */
  uint64_t size, checksum;
  uint8_t bytes[LUIO_STATE_MAX];
} copy;

/* FNV-1a, 64 bits: detects an incomplete copy; it is no protection against forgery. */
static uint64_t checksum(uint64_t number, const uint8_t *bytes, uint64_t size)
{
  uint64_t h = 0xcbf29ce484222325ull ^ number;
  for (uint64_t i = 0; i < size; i++)
    h = (h ^ bytes[i]) * 0x100000001b3ull;
  return h ^ size;
}

static bool valid(const copy *c)
{
  uint64_t number = c->number;
  return number && c->size <= LUIO_STATE_MAX && c->checksum == checksum(number, c->bytes, c->size);
}

static const copy *newest(const copy *both)
{
  bool first = valid(&both[0]), second = valid(&both[1]);
  if (first && second)
    return both[0].number > both[1].number ? &both[0] : &both[1];
  return first ? &both[0] : second ? &both[1] : NULL;
}

/* Sizes are read once, because another process may still write there. `newest` checks the result. */
static void take_over(void *to, const void *from)
{
  for (int i = 0; i < 2; i++) {
    const copy *before = (const copy *)from + i;
    copy *c = (copy *)to + i;
    c->number = before->number;
    c->checksum = before->checksum;
    c->size = before->size;
    if (c->size <= LUIO_STATE_MAX)
      memcpy(c->bytes, before->bytes, c->size);
  }
}

static int map_state(luio_slots *s, luio_error *err)
{
  if (s->state)
    return 0;
  return luio_memfd_map(s, GUARD_STATE, 2 * sizeof(copy), "state", take_over, &s->state, err);
}

static int save(luio_slots *s, const void *data, size_t size, luio_error *err)
{
  if (size > LUIO_STATE_MAX)
    return luio_fail(err, E2BIG, "state of %s: %zu bytes are too many, at most %d", s->address,
                     size, LUIO_STATE_MAX);
  if (!s->guarded)
    return 0;
  int rc = map_state(s, err);
  if (rc < 0)
    return rc;
  copy *both = s->state;
  const copy *last = s->state_last ? s->state_last : newest(both);
  copy *c = last == &both[0] ? &both[1] : &both[0];
  uint64_t number = last ? last->number + 1 : 1;
  atomic_store_explicit(&c->number, 0, memory_order_seq_cst);
  c->size = size;
  memcpy(c->bytes, data, size);
  c->checksum = checksum(number, c->bytes, size);
  atomic_store_explicit(&c->number, number, memory_order_release);
  s->state_last = c;
  return 0;
}

/* *data stays NULL where there is none. */
static int load(luio_slots *s, const void **data, size_t *size, luio_error *err)
{
  if (!s->guarded)
    return 0;
  int rc = map_state(s, err);
  if (rc < 0)
    return rc;
  const copy *last = newest(s->state);
  if (last) {
    *data = last->bytes;
    *size = last->size;
  }
  return 0;
}

void luio_state_close(luio_slots *s)
{
  if (s->state)
    munmap(s->state, 2 * sizeof(copy));
  s->state = NULL;
}

int luio_device_save(luio_device *d, const void *data, size_t size, luio_error *err)
{
  return save(&d->slots, data, size, err);
}

int luio_device_load(luio_device *d, const void **data, size_t *size, luio_error *err)
{
  *data = NULL;
  *size = 0;
  return load(&d->slots, data, size, err);
}

int luio_guard_keep(const void *data, size_t size, luio_error *err)
{
  luio_slots *process = luio_guard_process();
  return process ? save(process, data, size, err) : 0;
}

int luio_guard_kept(const void **data, size_t *size, luio_error *err)
{
  luio_slots *process = luio_guard_process();
  *data = NULL;
  *size = 0;
  return process ? load(process, data, size, err) : 0;
}
