/* luio_process.h - the process that runs a driver, by luio.h: the guardian that outlives it, the watchdog over its loop, its
 * files. A program that only uses devices needs none of it. */
#ifndef LUIO_PROCESS_H
#define LUIO_PROCESS_H

/* ---- The guardian ----------------------------------------------------------------------------
 * `luio run` is two processes. This one, the worker, drives the device; the guardian
 * (runtime/guardian.c) has the config space's descriptor, the DMA memory's, and a copy of the
 * driver's durable state. When the worker dies it switches bus master off, waits until the device's
 * writes have arrived, resets the device if it can be reset, and starts another worker, or lets the
 * memory go. A process has one guardian or none; without one everything here does nothing and
 * succeeds. EPIPE, from any of it and from opening devices and DMA memory: the guardian is gone. */

typedef struct luio_guard_status {
  unsigned restarts; /* workers that died before this one; 0: the first */
  uint64_t died_ns;  /* when the guardian saw the last of them dead, luio_now's clock */
} luio_guard_status;

/* Finds the guardian that started this process, if any: 1, 0 without one. Before any device is
 * opened. From then on a thread watches over it: if it dies, luio_guard_fd becomes readable; the
 * program must close its devices and leave, and is ended (bus master off) if that takes over 3 s. */
LUIO_API int luio_guard_attach(luio_guard_status *out, luio_error *err);
LUIO_API int luio_guard_fd(void); /* -1 without a guardian */
/* How many workers in a row may be started again (0: none), the longest pause before it, and how
 * long a worker that is asked to stop may take. */
LUIO_API int luio_guard_policy(unsigned restarts, uint64_t backoff_ns, uint64_t stop_ns,
                               luio_error *err);
/* The driver has started. A worker that ends by itself before the first time is not started again. */
LUIO_API int luio_guard_ready(luio_error *err);
/* This process is about to end in order. One that ends with status 0 and has not said so, nor was asked to, has crashed:
 * something called exit. */
LUIO_API int luio_guard_leave(luio_error *err);

/* The device has forgotten what earlier workers told it: their unnamed buffers become free memory.
 * Not to be said before it is so: as soon as bus master is on, a transfer that was under way goes on.
 * The guardian says it by itself after a reset. */
LUIO_API int luio_device_settle(luio_device *device, luio_error *err);
/* How much memory waits for that. */
LUIO_API int luio_device_unsettled(luio_device *device, uint64_t *bytes, luio_error *err);
/* Keeps the guardian from resetting this device. */
LUIO_API int luio_device_no_reset(luio_device *device, luio_error *err);

/* The driver's durable state, any bytes: two copies in the guardian's memory, written in turn, each
 * with a number and a checksum. Killed in the middle of it, the copy before is there. */
enum { LUIO_STATE_MAX = 4 << 20 };
/* E2BIG: more than LUIO_STATE_MAX. */
LUIO_API int luio_device_save(luio_device *device, const void *data, size_t size, luio_error *err);
/* The last copy that was saved; *data NULL: there is none. Valid until the next save but one. */
LUIO_API int luio_device_load(luio_device *device, const void **data, size_t *size,
                              luio_error *err);
/* The same for memory that belongs to no device. Without a guardian nothing is kept. A worker that was
 * started as root must not act on what one without privileges may have written (--user). */
LUIO_API int luio_guard_keep(const void *data, size_t size, luio_error *err);
LUIO_API int luio_guard_kept(const void **data, size_t *size, luio_error *err);

/* Gives up root for good: user, group, groups, capabilities. Open files stay usable, so devices,
 * regions and DMA memory are opened before. The guardian keeps its own.
 *   ENOENT  no such user     EPERM  this process is not root */
LUIO_API int luio_drop_privileges(const char *user, luio_error *err);

/* ---- The watchdog ----------------------------------------------------------------------------
 * Notices that a thread does not come back to its loop: one a process, for the thread that sets it. How the time
 * is counted: runtime/watchdog.c. All but luio_watchdog_expired are the watched thread's to call. */

/* Watches the calling thread from now on, or with other limits, or none. Without a beat for
 *   limit_ns  (0: none) luio_watchdog_expired tells, and system calls that block return EINTR (SIGURG);
 *   last_ns   (0: none) a line on standard error says that `what` has not come back, and, if `ends` is not 0
 *             and a guardian is there, the process ends with status 1.
 *   EBUSY  another thread is watched     EAGAIN  no thread can be started */
LUIO_API int luio_watchdog_set(uint64_t limit_ns, uint64_t last_ns, const char *what, int ends,
                               luio_error *err);
/* Where the thread is, for that line. */
LUIO_API void luio_watchdog_place(const char *place);
/* The loop has turned: the count begins anew. */
LUIO_API void luio_watchdog_beat(void);
/* ns since the last beat, when that is over the limit; else 0. */
LUIO_API uint64_t luio_watchdog_expired(void);
/* Watches no more. Waits for its thread, which takes no longer than to wake up. */
LUIO_API void luio_watchdog_stop(void);

/* ---- Files -----------------------------------------------------------------------------------
 * Loading the library makes the process ignore SIGXFSZ, unless it has a handler, so that a write
 * beyond `ulimit -f` fails with EFBIG. */

/* Reads a whole file while no process has it open for writing: it holds a read lease (fcntl
 * F_SETLEASE), and an open for writing waits until the lease is returned. Up to `size` bytes into
 * `data`; returns the file's size, which may be more.
 *   EAGAIN  a process has it open for writing     ENODEV  it is no file, and was not opened
 *   E...    of open, read Without a lease (another user's file, a file system without leases) the
 * file is read anyway: *leased is 0 then, else 1. With `leased` NULL no lease is taken. */
LUIO_API int64_t luio_read_leased(const char *path, void *data, uint64_t size, int *leased,
                                  luio_error *err);

#endif
