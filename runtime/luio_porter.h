/* luio_porter.h - other processes that are not trusted, by luio.h: waking them, and taking their connections. */
#ifndef LUIO_PORTER_H
#define LUIO_PORTER_H

/* ---- Waking ---------------------------------------------------------------------------------- */

/* Wakes another process through an eventfd that both have, and never waits. A plain write() may wait
 * for ever: the other process can fill the counter up and switch O_NONBLOCK off. A waker belongs to one
 * thread. */
typedef struct luio_waker luio_waker;
/* Makes a waker, which is the caller's. ENOSYS: the kernel has no asynchronous I/O (CONFIG_AIO). */
LUIO_API int luio_waker_open(luio_waker **out, luio_error *err);
/* Adds 1 to the eventfd's counter. EINVAL: fd is no eventfd. */
LUIO_API int luio_waker_add(luio_waker *waker, int fd, luio_error *err);
LUIO_API void luio_waker_close(luio_waker *waker); /* NULL is fine */

/* ---- Connections ----------------------------------------------------------------------------- */

/* Connections from processes that are not trusted, on a listening unix socket of packets
 * (SOCK_SEQPACKET). A client may send a descriptor whose close() takes as long as the client likes.
 * So helper processes, which may hang, take the connections (runtime/porter.c) and pass messages on,
 * both ways, of LUIO_PASSED_SIZE bytes at most. The caller receives a luio_passed, with the descriptor
 * if `given` is memory or an eventfd, and sends the message alone. It has one descriptor per
 * connection; closing that ends the connection and its helper. */
enum { LUIO_PASSED_SIZE = 128 };
enum {
  LUIO_GIVEN_NONE,
  LUIO_GIVEN_MEMORY,  /* of tmpfs or hugetlbfs: memfds above all */
  LUIO_GIVEN_EVENTFD, /* each kind below ends the connection */
  LUIO_GIVEN_OTHER,   /* anything else came */
  LUIO_GIVEN_MANY,    /* more than one came */
  LUIO_GIVEN_DEAF     /* the client does not read its messages */
};
typedef struct luio_passed {
  uint8_t message[LUIO_PASSED_SIZE];
  uint32_t size; /* 0: the client has closed; larger than LUIO_PASSED_SIZE: the message was cut */
  uint32_t given;
} luio_passed;
typedef struct luio_visitor {
  int fd;
  int pid; /* the client's; 0: not known */
  uint32_t uid;
} luio_visitor;
typedef struct luio_porter luio_porter;
/* Takes the connections of `listener`, which is the porter's from now on, and non-blocking. per_user: the
 * connections that one user may have at a time; one whose helper hangs still counts. Forks, so it is best called before
 * threads are started and large memory is allocated. */
LUIO_API int luio_porter_open(int listener, unsigned per_user, luio_porter **out, luio_error *err);
LUIO_API int luio_porter_fd(const luio_porter *porter); /* readable: next has something */
/* The next connection: 1, or 0 when there is none. ECHILD: the process that accepts has died; call
 * luio_porter_restart. */
LUIO_API int luio_porter_next(luio_porter *porter, luio_visitor *visitor, luio_error *err);
/* Starts the accepting process again. luio_porter_fd is another descriptor then; it is -1 after an error,
 * and the restart may be tried again. */
LUIO_API int luio_porter_restart(luio_porter *porter, luio_error *err);
LUIO_API void luio_porter_close(luio_porter *porter); /* at most a second */
/* Connects to a server at `path`, through a helper process. A message that is sent may carry one descriptor.
 * Returns a non-blocking descriptor, the caller's, as of a connection above, or
 *   -ENOENT, -ECONNREFUSED  no server is there     -EACCES     -EAGAIN  too many clients are waiting */
LUIO_API int luio_porter_connect(const char *path, luio_error *err);

#endif
