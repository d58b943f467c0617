/* twin.h - the C twins of what luio's benchmarks do. Read by ffi.cdef, so: declarations only. */
#include <stdint.h>

/* n accesses of the same 32-bit word; ns in all. `call` goes through luio_read32 and luio_write32
 * of the shared library, as Lua does; `raw` is a volatile access in the loop. */
uint64_t twin_read_call(volatile void *p, uint64_t n);
uint64_t twin_read_raw(volatile void *p, uint64_t n);
uint64_t twin_write_call(volatile void *p, uint64_t n);
uint64_t twin_write_raw(volatile void *p, uint64_t n);
/* Two fields by masks: a load and a store by the same functions, n times. */
uint64_t twin_update_call(volatile void *p, uint64_t n);

/* Keeps this thread, and those it starts from now on, off one CPU, and says which; -1: there is
 * only one. Back to all of them. */
int twin_leave_a_cpu(void);
void twin_use_all_cpus(void);

/* A thread that signals an eventfd `rounds` times. Before each it sleeps for a random 100 to 500
 * us, so that the waiting thread is asleep, too, and until the last signal was answered. It runs on
 * `cpu` only; -1: anywhere its creator may. */
typedef struct twin_signaller twin_signaller;
twin_signaller *twin_signaller_start(int fd, int rounds, unsigned seed, int cpu);
/* The one who was woken says so, as the first thing it does. 1: there are more to come. */
int twin_arrived(twin_signaller *s);
/* After the last: ends the thread, sorts the latencies; the q-th quantile in ns. */
void twin_signaller_join(twin_signaller *s);
double twin_quantile(const twin_signaller *s, double q);
void twin_signaller_free(twin_signaller *s);

/* Answers all signals, blocked in read(). On a thread of its own: the caller waits for its end. */
int twin_answer(twin_signaller *s, int fd);
/* The same with a second thread between: it reads fd and signals another eventfd, on which the
 * answering thread is blocked: the least cost of any design with an interrupt thread. */
int twin_answer_relayed(twin_signaller *s, int fd);

/* A thread that writes `total` counts of 4 bytes into a pipe, as fast as it may: at most `window`
 * of them not yet consumed. */
typedef struct twin_source twin_source;
twin_source *twin_source_start(int fd, uint64_t total, uint64_t window);
void twin_consumed(twin_source *s, uint64_t so_far);
void twin_source_join(twin_source *s);
/* Reads `total` counts, 4 bytes at a time; ns in all, 0 on failure. */
uint64_t twin_consume(int fd, twin_source *s, uint64_t total);

int twin_eventfd(void);
int twin_pipe(int fds[2], int nonblocking); /* the reading end, that is */
void twin_close(int fd);

/* Runs a program, its output thrown away: ns until it was reaped, 0 when it failed. */
uint64_t twin_spawn(const char *const argv[]);

/* Rings of e1000e's legacy descriptors in plain memory, with a pool behind them, as drivers/e1000e has
 * them. transmit: `bursts` times, takes n packets, puts them into the ring, frees sent ones. receive:
 * the other way round. The tail is written once a burst, and as seldom as there when receiving. */
typedef struct twin_ring twin_ring;
twin_ring *twin_ring_open(int count, int packets, volatile void *tail);
void twin_ring_close(twin_ring *r);
void *twin_ring_tx(twin_ring *r); /* the descriptors */
void *twin_ring_rx(twin_ring *r);
void twin_ring_transmit(twin_ring *r, int n, int bursts);
void twin_ring_receive(twin_ring *r, int n, int bursts);
/* The device's part: everything was sent; every descriptor has received a frame of `length` bytes. */
void twin_ring_sent(void *descriptors, int count);
void twin_ring_received(void *descriptors, int count, int length);
