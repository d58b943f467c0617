/* dma.h - the structures of a pool of DMA memory; shared by dma.c (buffers), dma_pages.c (pages of the kernel's),
 * dma_kept.c (what outlives a worker), dma_pin.c (pages that stay in place) and the kinds of pools: dma_physical.c, dma_sim.c,
 * dma_regions.c. */
#ifndef LUIO_DMA_H
#define LUIO_DMA_H

#include "parts.h"

#define MIB (1024ull * 1024)
#define GIB (1024 * MIB)

/* A free piece of a page. */
typedef struct extent {
  uint64_t offset, size;
  struct extent *next;
} extent;

/* The records of this worker's memory for the next worker, in memory that the guardian keeps.
 * `used` is set last and cleared first, because a worker may be killed between any two stores. */
typedef struct page_record {
  _Atomic uint32_t used;
  uint32_t store;
  uint64_t index, size, iova;
} page_record;

typedef struct buffer_record {
  _Atomic uint32_t used;
  uint32_t page; /* number of its page_record */
  uint64_t offset, size, reserved;
  char name[LUIO_DMA_NAME];
} buffer_record;

enum { KEPT_PAGES = 4096, KEPT_BUFFERS = 1024 };

typedef struct records {
  page_record pages[KEPT_PAGES];
  buffer_record buffers[KEPT_BUFFERS];
} records;

typedef struct page {
  uint8_t *addr;
  uint64_t size, iova;
  uint64_t unit; /* of its store's pages; of a region all of it */
  int store;
  uint64_t index; /* in its store's memfd */
  extent *free;
  extent *later; /* free once the device is settled: a worker before us had told it of them */
  page_record *record;
  bool pinned;
  struct page *next;
} page;

/* A memfd of pages of one size. */
typedef struct store {
  uint64_t page_size;
  int fd;
  uint64_t pages;
} store;

enum { SMALL, HUGE_2M, HUGE_1G, STORES };

/* A buffer that is handed out. */
typedef struct live {
  luio_dma_buffer buffer;
  buffer_record *record;    /* NULL: no guardian keeps it */
  char name[LUIO_DMA_NAME]; /* empty: none */
  struct live *next;
} live;

/* A kind of pool. All functions are called with the pool's lock held, or before anybody has the pool. */
struct luio_dma_ops {
  bool
      device_writes; /* hardware writes there by itself, also after this process was killed: pages are locked, and memfds
                         go last */
  bool ascending; /* each new page has a higher address than those before */
  bool uncached;
  bool ends_with_device; /* when the device goes away */

  /* One more page for a buffer of that size. */
  int (*grow)(luio_dma *dma, uint64_t size, uint64_t align, uint64_t mask, page **out,
              luio_error *err);
  /* Stores the device address in p->iova. */
  int (*address)(luio_dma *dma, page *p, luio_error *err);
  /* These addresses are in use. NULL: the kernel knows. */
  void (*claim)(luio_dma *dma, uint64_t iova, uint64_t size);
  /* Keeps the page in its place, which may move it once more; or warns. NULL: it stays there. */
  void (*pin)(luio_dma *dma, page *p);
  /* -ESTALE: its address is another now, or it is gone. NULL: never. */
  int (*moved)(const luio_dma *dma, const page *p, luio_error *err);
  /* Whether a record of a page may be one of this kind, by size and address. */
  bool (*believes)(const luio_dma *dma, const page_record *r);
  /* Lets memory go that has no record, and is in no page of the pool. NULL: all of the stores is the pool's. */
  void (*drop)(luio_dma *dma);
  /* The page's memory goes back to where it came from, and the page ends. */
  void (*release)(luio_dma *dma, page *p);
  /* The pool is about to end. NULL: nothing to do. */
  void (*close)(luio_dma *dma);
};

struct luio_dma {
  pthread_mutex_t lock;
  const struct luio_dma_ops *ops;
  char who[64];
  luio_device *device;
  bool unrecorded;  /* pages without a record wait for the device to be settled */
  records *records; /* shared with the guardian; NULL: none */
  int park[2];
  int pagemap_fd;
  int ring_fd;   /* pins the pages; -1: there is none */
  unsigned pins; /* buffers of the ring in use */
  int unpinned;  /* errno: why pages can't be pinned; 0: they can */
  bool unpinned_said;
  uint64_t next_iova; /* dma_sim.c */
  store stores[STORES];
  page *pages;
  live *buffers;
  luio_dma_stats stats;
  char warning[1024], taken[1024];
};

/* dma.c. An empty pool; NULL: no memory. */
luio_dma *luio_dma_new(luio_device *device, const struct luio_dma_ops *ops, luio_error *err);

/* dma_pool.c. With the lock held. */

/* Cuts size bytes from a free extent of the page; the offset in it, or UINT64_MAX. */
uint64_t luio_dma_cut(page *p, uint64_t size, uint64_t align, uint64_t mask);
/* Puts a piece of a page into a list of extents. */
void luio_dma_put_back(extent **list, uint64_t offset, uint64_t size);
/* The free pieces of a page that ends. */
void luio_dma_free_extents(extent *e);
/* Adds a warning to those that luio_dma_warning has not given yet. */
void luio_dma_warn(luio_dma *dma, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Compares a page's address with what it was when it was taken. -ESTALE: the kernel moved it, or took
 * it away (a memory error). */
int luio_dma_page_moved(const luio_dma *dma, const page *p, luio_error *err);

/* dma_pin.c. With the lock held, but for the last. */

/* Makes ready, with the rights that the process has now. Before anybody has the pool. */
void luio_dma_pin_open(luio_dma *dma);
/* Keeps the page in its place from now on, which may move it once more; or warns that it can't be: luio_dma_ops.pin. */
void luio_dma_pin(luio_dma *dma, page *p);
/* Ends that for all pages. The device must have been stopped. */
void luio_dma_unpin(luio_dma *dma);
/* The remedy for an error of pinning. */
const char *luio_dma_pin_remedy(int code);

/* dma_records.c. With the lock held. Without a guardian there are no records, and nothing happens. */

/* Notes a page that was taken from the kernel; -ENOSPC: the records are full. */
int luio_dma_note_page(luio_dma *dma, page *p, luio_error *err);
/* Notes a buffer under its name. */
int luio_dma_note_buffer(luio_dma *dma, live *l, luio_error *err);
/* Whether a kept buffer lies in the page. */
bool luio_dma_page_is_kept(const luio_dma *dma, const page *p);
bool luio_dma_has_buffers(const luio_dma *dma, const page_record *r);
uint32_t luio_dma_record_number(const luio_dma *dma, const page_record *r);

/* dma_kept.c. With the lock held, but for adopt, which is called before anybody has the pool. */

/* Takes over the previous worker's memory from the guardian; without a guardian nothing. */
int luio_dma_adopt(luio_dma *dma, luio_error *err);
/* A kept buffer of this name: 1 with *l filled, 0 when there is none that fits. */
int luio_dma_take_kept(luio_dma *dma, const char *name, uint64_t size, uint64_t align,
                       uint64_t mask, live *l);

/* dma_pages.c. All with the pool's lock held. */

/* Maps pages that are in a store's memfd already, e.g. since a worker before us. */
int luio_dma_page_map(luio_dma *dma, int which, uint64_t index, uint64_t size, page **out);
/* Keeps a reference of a memfd until every open file of a killed process is gone. */
int luio_dma_park(luio_dma *dma, int fd);
/* Gives pages of a memfd back to the kernel; they read as zeros should they be mapped again. */
void luio_dma_punch(luio_dma *dma, int which, uint64_t index, uint64_t size);

/* Takes a page (or, of small ones, several) wholly below mask from the kernel and puts it into the
 * pool. -ENOMEM: there is none; -ERANGE: none lies there; err is filled only where the address of a
 * page could not be found out. */
int luio_dma_page_take(luio_dma *dma, int which, uint64_t size, uint64_t mask, page **out,
                       luio_error *err);
/* Unmaps a page that is no longer in the pool, and leaves it in its memfd. */
void luio_dma_page_forget(page *p);
/* Gives it back to the kernel, too. */
void luio_dma_page_release(luio_dma *dma, page *p);
/* Puts a page into the pool. */
void luio_dma_page_add(luio_dma *dma, page *p);
/* The store whose pages a buffer needs, hugepages first. */
int luio_dma_store_for(uint64_t size, uint64_t align);
/* The reason for a missing page, and the remedy: rc is luio_dma_page_take's. */
int luio_dma_no_pages(const luio_dma *dma, int rc, uint64_t size, uint64_t mask, luio_error *err);
uint64_t luio_dma_free_hugepages(uint64_t page_size);
/* The remedy for want of pages, or why there is none here, in `text`. */
const char *luio_dma_more_hugepages(uint64_t page_size, char *text, size_t size);

#endif
