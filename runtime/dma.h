/* dma.h - what a pool of DMA memory is made of; shared by dma.c (buffers) and dma_pages.c (pages). */
#ifndef LUIO_DMA_H
#define LUIO_DMA_H

#include "internal.h"

#define MIB (1024ull * 1024)
#define GIB (1024 * MIB)

/* A free piece of a page. */
typedef struct extent {
  uint64_t offset, size;
  struct extent *next;
} extent;

typedef struct page {
  uint8_t *addr;
  uint64_t size, iova;
  int store;
  uint64_t index; /* in its store's memfd */
  extent *free;
  struct page *next;
} page;

/* A memfd of pages of one size. */
typedef struct store {
  uint64_t page_size;
  unsigned flags; /* MFD_* */
  int fd;
  uint64_t pages;
} store;

enum { SMALL, HUGE_2M, HUGE_1G, STORES };

/* A buffer that is handed out. */
typedef struct live {
  luio_dma_buffer buffer;
  struct live *next;
} live;

struct luio_dma {
  pthread_mutex_t lock;
  char who[64];
  bool sim;
  int pagemap_fd;
  uint64_t next_iova; /* sim */
  store stores[STORES];
  page *pages;
  live *buffers;
  luio_dma_stats stats;
  char warning[512], taken[512];
};

/* dma_pages.c. All with the pool's lock held. */

/* Takes a page (or, of small ones, several) wholly below mask from the kernel and puts it into the
 * pool. -ENOMEM: there is none; -ERANGE: none lies there; err is filled only where the address of a
 * page could not be found out. */
int luio_dma_page_take(luio_dma *dma, int which, uint64_t size, uint64_t mask, page **out,
                       luio_error *err);
/* Gives a page that is no longer in the pool back to the kernel. */
void luio_dma_page_release(luio_dma *dma, page *p);

#endif
