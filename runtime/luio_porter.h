/* luio_porter.h - other processes that are not trusted, by luio.h: waking them, and taking their connections. */
#ifndef LUIO_PORTER_H
#define LUIO_PORTER_H

/* ---- Waking ---------------------------------------------------------------------------------- */

/* Wakes processes that are not trusted, by eventfds that they have too. write() would do, were they
 * trusted: who has the same eventfd can fill its counter up and switch O_NONBLOCK off, and the write waits
 * for ever. This never waits. A waker belongs to one thread.
 *   EINVAL  that is no eventfd     ENOSYS  a kernel without asynchronous I/O (CONFIG_AIO) */
typedef struct luio_waker luio_waker;
LUIO_API int luio_waker_open(luio_waker **out, luio_error *err);
LUIO_API int luio_waker_add(luio_waker *waker, int fd, luio_error *err); /* 1 to the counter */
LUIO_API void luio_waker_close(luio_waker *waker);

/* ---- Connections ----------------------------------------------------------------------------- */

/* Connections of strangers, on a listening unix socket of packets (SOCK_SEQPACKET). What they send may be
 * a descriptor that takes as long as they like to be closed; so processes that may hang take them
 * (runtime/porter.c), and pass on, both ways, messages of LUIO_PASSED_SIZE bytes at most. In: a
 * luio_passed, with the descriptor where `given` is memory or an eventfd. Out: the message alone. Of
 * a connection there is a descriptor that the caller closes; all else ends then by itself. */
enum { LUIO_PASSED_SIZE = 128 };
enum {
  LUIO_GIVEN_NONE,
  LUIO_GIVEN_MEMORY,  /* of tmpfs or hugetlbfs: memfds above all */
  LUIO_GIVEN_EVENTFD, /* what follows is the last: the connection is over */
  LUIO_GIVEN_OTHER,   /* anything else came */
  LUIO_GIVEN_MANY,    /* more than one came */
  LUIO_GIVEN_DEAF     /* the stranger does not take what it is sent */
};
typedef struct luio_passed {
  uint8_t message[LUIO_PASSED_SIZE];
  uint32_t size; /* 0: the stranger has closed; larger than the message: it was longer */
  uint32_t given;
} luio_passed;
typedef struct luio_visitor {
  int fd;
  int pid; /* of who connected; 0: not known */
  uint32_t uid;
} luio_visitor;
typedef struct luio_porter luio_porter;
/* listener is the porter's from now on, non-blocking. per_user: connections at a time of one user,
 * also of those that hang on their end. Forks: before threads and large memory, if it can be. */
LUIO_API int luio_porter_open(int listener, unsigned per_user, luio_porter **out, luio_error *err);
LUIO_API int luio_porter_fd(const luio_porter *porter); /* readable: next has something */
/* The next connection: 1, 0 when there is none. ECHILD: the process that accepts has died; restart. */
LUIO_API int luio_porter_next(luio_porter *porter, luio_visitor *visitor, luio_error *err);
/* fd is another then; -1 after an error, upon which it can be tried again. */
LUIO_API int luio_porter_restart(luio_porter *porter, luio_error *err);
LUIO_API void luio_porter_close(luio_porter *porter); /* at most a second */
/* The other way round: connects to a server at `path`. A process that may hang has the connection; a message out may
 * have one descriptor with it. Returns a non-blocking descriptor, the caller's, as of a connection above, or
 *   -ENOENT, -ECONNREFUSED  nobody is there     -EACCES     -EAGAIN  too many are waiting */
LUIO_API int luio_porter_connect(const char *path, luio_error *err);

#endif
