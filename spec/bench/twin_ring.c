/* twin_ring.c - what drivers/e1000e/ring.lua and luio.pool do, in C: the peer of net_ring.lua. */
#include "twin.h"

#include "../../runtime/luio.h"

#include <stdatomic.h>
#include <stdlib.h>

enum { FREE, YOURS, DEVICE };
enum { DD = 1, EOP = 2, ERRORS = 0x97, CMD = 0x03, CMD_RS = 0x08, SLOT = 2112, HEADROOM = 64 };

struct descriptor {
  uint64_t address;
  uint16_t length, checksum;
  union {
    struct {
      uint8_t status, errors; /* receive */
    };
    struct {
      uint8_t tx_status, css;
    };
  };
  uint16_t special;
};

struct packet {
  uint8_t *base;
  uint64_t iova;
  int32_t length, offset, owner, size;
};

struct twin_ring {
  int count, free;
  struct packet *packets, **stack;
  uint8_t *memory;
  volatile void *tail;
  struct descriptor *tx, *rx;
  struct packet **in_tx, **in_rx;
  uint16_t *ends;
  int tx_next, tx_clean, first, last, rx_next, owed;
};

static void barrier(void)
{
  atomic_signal_fence(memory_order_seq_cst);
}

twin_ring *twin_ring_open(int count, int packets, volatile void *tail)
{
  twin_ring *r = calloc(1, sizeof *r);
  size_t n = (size_t)packets, d = (size_t)count;
  r->count = count;
  r->tail = tail;
  r->packets = calloc(n, sizeof *r->packets);
  r->stack = calloc(n, sizeof *r->stack);
  r->memory = calloc(n, SLOT);
  r->tx = calloc(d, sizeof *r->tx);
  r->rx = calloc(d, sizeof *r->rx);
  r->in_tx = calloc(d, sizeof *r->in_tx);
  r->in_rx = calloc(d, sizeof *r->in_rx);
  r->ends = calloc(d, sizeof *r->ends);
  for (size_t i = 0; i < n; i++) {
    struct packet *p = &r->packets[i];
    *p = (struct packet){.base = r->memory + i * SLOT, .offset = HEADROOM, .size = SLOT};
    p->iova = (uint64_t)(uintptr_t)p->base;
    r->stack[r->free++] = p;
  }
  for (size_t i = 0; i < d; i++) {
    r->in_rx[i] = r->stack[--r->free];
    r->in_rx[i]->owner = DEVICE;
    r->rx[i].address = r->in_rx[i]->iova + HEADROOM;
  }
  return r;
}

void twin_ring_close(twin_ring *r)
{
  free(r->packets);
  free(r->stack);
  free(r->memory);
  free(r->tx);
  free(r->rx);
  free(r->in_tx);
  free(r->in_rx);
  free(r->ends);
  free(r);
}

void *twin_ring_tx(twin_ring *r)
{
  return r->tx;
}

void *twin_ring_rx(twin_ring *r)
{
  return r->rx;
}

void twin_ring_sent(void *descriptors, int count)
{
  struct descriptor *d = descriptors;
  for (int i = 0; i < count; i++)
    d[i].tx_status |= DD;
}

void twin_ring_received(void *descriptors, int count, int length)
{
  struct descriptor *d = descriptors;
  for (int i = 0; i < count; i++) {
    d[i].length = (uint16_t)length;
    d[i].status = DD | EOP;
  }
}

static struct packet *take(twin_ring *r)
{
  struct packet *p = r->stack[--r->free];
  p->owner = YOURS;
  p->offset = HEADROOM;
  p->length = 0;
  return p;
}

static void give(twin_ring *r, struct packet *p)
{
  p->owner = FREE;
  r->stack[r->free++] = p;
}

static void reclaim(twin_ring *r)
{
  int mask = r->count - 1;
  barrier();
  while (r->first != r->last) {
    int stop = r->ends[r->first];
    if (!(r->tx[stop].tx_status & DD))
      return;
    r->first = (r->first + 1) & mask;
    for (; r->tx_clean != ((stop + 1) & mask); r->tx_clean = (r->tx_clean + 1) & mask)
      if (r->in_tx[r->tx_clean]->owner == DEVICE)
        give(r, r->in_tx[r->tx_clean]);
  }
}

static void send(twin_ring *r, struct packet **batch, int n)
{
  int mask = r->count - 1;
  if (mask - ((r->tx_next - r->tx_clean) & mask) < n)
    reclaim(r);
  int room = mask - ((r->tx_next - r->tx_clean) & mask);
  if (n > room)
    n = room;
  if (n < 1)
    return;
  for (int k = 0; k < n; k++) {
    struct packet *p = batch[k];
    if (p->owner != YOURS)
      abort();
    int i = (r->tx_next + k) & mask;
    r->tx[i].address = p->iova + (uint64_t)p->offset;
    uint64_t word = (uint64_t)p->length | (uint64_t)CMD << 24;
    __builtin_memcpy(&r->tx[i].length, &word, sizeof word);
    p->owner = DEVICE;
    r->in_tx[i] = p;
  }
  int last = (r->tx_next + n - 1) & mask;
  ((uint8_t *)&r->tx[last].checksum)[1] |= CMD_RS;
  r->ends[r->last] = (uint16_t)last;
  r->last = (r->last + 1) & mask;
  r->tx_next = (r->tx_next + n) & mask;
  luio_fence_doorbell();
  luio_write32(r->tail, (uint32_t)r->tx_next);
}

void twin_ring_transmit(twin_ring *r, int n, int bursts)
{
  struct packet *batch[256];
  for (; bursts > 0; bursts--) {
    for (int k = 0; k < n; k++)
      batch[k] = take(r);
    send(r, batch, n);
  }
}

static int receive(twin_ring *r, struct packet **batch, int n)
{
  int mask = r->count - 1, got = 0;
  barrier();
  for (; got < n && got < mask; got++) {
    struct descriptor *d = &r->rx[(r->rx_next + got) & mask];
    if ((d->status & (DD | EOP)) != (DD | EOP) || d->errors & ERRORS)
      break;
  }
  luio_fence_flag();
  for (int k = 0; k < got; k++) {
    int i = (r->rx_next + k) & mask;
    struct packet *p = r->in_rx[i], *empty = take(r);
    p->length = r->rx[i].length;
    p->owner = YOURS;
    batch[k] = p;
    r->rx[i] = (struct descriptor){.address = empty->iova + HEADROOM};
    empty->owner = DEVICE;
    r->in_rx[i] = empty;
  }
  if (got) {
    r->rx_next = (r->rx_next + got) & mask;
    r->owed += got;
    if (r->owed >= r->count / 16) {
      luio_fence_doorbell();
      luio_write32(r->tail, (uint32_t)((r->rx_next - 1) & mask));
      r->owed = 0;
    }
  }
  return got;
}

void twin_ring_receive(twin_ring *r, int n, int bursts)
{
  struct packet *batch[256];
  for (; bursts > 0; bursts--) {
    int got = receive(r, batch, n);
    for (int k = 0; k < got; k++) {
      if (batch[k]->owner != YOURS)
        abort();
      give(r, batch[k]);
    }
  }
}
