/* porter.c - accepts untrusted connections in separate processes, which may hang.
 *
 * A peer on a unix socket may send descriptors of any kind. The sender can make even their close()
 * block for as long as it likes: a TCP socket with SO_LINGER and unsent data waits in its last
 * close(), a file of a FUSE file system in every close(). Descriptors in unread messages are closed
 * with the socket, so the process that closes the socket may block. The server must neither block nor
 * be kept from ending. So it has no socket of an untrusted peer (the stranger) at all:
 *
 *     stranger ──unix socket──> porter ──pair of our own──> the process that serves
 *                                 ^ fork
 *     connect  ───────────────> head porter ──connections──>
 *
 * The head porter accepts, forks a porter for each connection, and hands the other end of its pair to the
 * server, with the stranger's credentials. A porter passes messages of one size, each with at most one
 * descriptor: memory (memfd, tmpfs) or an eventfd, whose close never blocks. On any other message it
 * reports the fault, reads no more, keeps the received descriptors open, and exits when the server has
 * closed. An exiting process does not wait for TCP sockets. A porter that hangs anyway (FUSE) is left
 * behind; no process waits for it, but it counts towards that user's porters.
 *
 * The porter is the last to close a stranger's socket: it begins when the server sends the first
 * message or closes, and by then the head porter has closed its copy. A refused stranger has a
 * porter, too; it finds its pair closed, and ends.
 *
 * A client trusts its server no more than that. It connects itself, so that the server sees its credentials, and hands
 * the socket to a porter of its own before it reads from it. That porter begins once the client has closed its copy.
 * It is not the client's child (double fork), so the client need not wait for it.
 *
 * Children by fork() of a process that may have threads: only system calls, no allocation. */
#include "kernel.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
  MOST_FDS = 253,   /* in a message, SCM_MAX_FD */
  LAST_WORDS = 8,   /* messages */
  MOST_ALIVE = 256, /* porters at a time; then no more connections are accepted */
};

struct luio_porter {
  int listener; /* stays open for another head porter */
  int control;  /* connections come here */
  unsigned per_user;
  pid_t head;
};

union control {
  struct cmsghdr align;
  char bytes[CMSG_SPACE(sizeof(int) * (MOST_FDS + 1))];
};

static const struct timespec nap = {.tv_nsec = 1000000};

/* ---- Messages ---------------------------------------------------------------------------------- */

/* fd -1: none goes along. Waits for room unless flags say not to. */
static bool pass(int to, const void *data, size_t size, int fd, int flags)
{
  union {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(sizeof fd)];
  } c;
  struct iovec io = {(void *)data, size};
  struct msghdr m = {.msg_iov = &io, .msg_iovlen = 1};
  if (fd >= 0) {
    memset(&c, 0, sizeof c);
    m.msg_control = &c;
    m.msg_controllen = sizeof c.bytes;
    struct cmsghdr *h = CMSG_FIRSTHDR(&m);
    h->cmsg_level = SOL_SOCKET;
    h->cmsg_type = SCM_RIGHTS;
    h->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(h), &fd, sizeof fd);
  }
  ssize_t sent;
  do
    sent = sendmsg(to, &m, MSG_NOSIGNAL | flags);
  while (sent < 0 && errno == EINTR);
  return sent == (ssize_t)size;
}

/* One message: its length, 0 at the end, -errno. *fd: the descriptor that came, -1: none; *n: how many. */
static ssize_t take(int from, void *data, size_t size, int *fd, int *n, int *flags)
{
  union control c;
  struct iovec io = {data, size};
  struct msghdr m = {
      .msg_iov = &io, .msg_iovlen = 1, .msg_control = &c, .msg_controllen = sizeof c};
  ssize_t got = recvmsg(from, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  /* The peer closed without reading everything; its own earlier messages follow this error. */
  if (got < 0 && errno == ECONNRESET)
    got = recvmsg(from, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  *n = 0;
  *fd = -1;
  if (got < 0)
    return -errno;
  *flags = m.msg_flags;
  for (struct cmsghdr *h = CMSG_FIRSTHDR(&m); h; h = CMSG_NXTHDR(&m, h)) {
    if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS)
      continue;
    memcpy(fd, CMSG_DATA(h), sizeof *fd);
    *n += (int)((h->cmsg_len - CMSG_LEN(0)) / sizeof *fd);
  }
  return got;
}

/* ---- A porter ---------------------------------------------------------------------------------- */

/* True if a descriptor can be closed without waiting. Neither check makes a call to the file behind the descriptor. */
static int kind_of(int fd)
{
  char path[32], name[32];
  if (fcntl(fd, F_GET_SEALS) >= 0)
    return LUIO_GIVEN_MEMORY;
  luio_format(path, sizeof path, "/proc/self/fd/%d", fd);
  ssize_t n = readlink(path, name, sizeof name);
  static const char eventfd_name[] = "anon_inode:[eventfd]";
  return n == sizeof eventfd_name - 1 && !memcmp(name, eventfd_name, (size_t)n) ? LUIO_GIVEN_EVENTFD
                                                                                : LUIO_GIVEN_OTHER;
}

/* From the stranger to the server. False: this was the last that is heard of him. */
static bool pass_in(int stranger, int server)
{
  luio_passed p = {.given = LUIO_GIVEN_NONE};
  int fd, n, flags = 0;
  ssize_t got = take(stranger, p.message, sizeof p.message, &fd, &n, &flags);
  if (got == -EAGAIN || got == -EINTR)
    return true;
  p.size = got < 0 ? 0 : flags & MSG_TRUNC ? UINT32_MAX : (uint32_t)got;
  if (n > 1 || flags & MSG_CTRUNC)
    p.given = LUIO_GIVEN_MANY;
  else if (n == 1)
    p.given = kind_of(fd);
  bool good = got > 0 && p.given <= LUIO_GIVEN_EVENTFD;
  good &= pass(server, &p, sizeof p, good ? fd : -1, 0);
  if (good && fd >= 0)
    close(fd);
  return good;
}

/* heard: the stranger is still listened to. */
static bool pass_out(int server, int stranger, bool heard)
{
  uint8_t message[LUIO_PASSED_SIZE];
  int fd, n, flags;
  ssize_t got = take(server, message, sizeof message, &fd, &n, &flags);
  if (got == -EAGAIN || got == -EINTR)
    return true;
  if (got <= 0)
    return false;
  bool went = pass(stranger, message, (size_t)got, fd, MSG_DONTWAIT);
  int code = errno;
  if (fd >= 0)
    close(fd); /* ours */
  if (went)
    return true;
  /* One that has closed may have said why before. */
  struct pollfd last = {.fd = stranger, .events = POLLIN};
  for (int i = 0; heard && code != EAGAIN && i < LAST_WORDS && poll(&last, 1, 0) > 0; i++)
    if (!pass_in(stranger, server))
      return false;
  luio_passed p = {.given = code == EAGAIN ? LUIO_GIVEN_DEAF : LUIO_GIVEN_NONE};
  return pass(server, &p, sizeof p, -1, 0) && false;
}

/* begun: no other process has the stranger's socket any more. */
static void be_porter(int stranger, int server, bool begun)
{
  bool heard = true;
  prctl(PR_SET_NAME, "luio-porter");
  struct pollfd p[2] = {{.fd = server, .events = POLLIN},
                        {.fd = begun ? stranger : -1, .events = POLLIN}};
  for (;;) {
    if (poll(p, 2, -1) < 0 && errno != EINTR)
      _exit(1);
    if (p[0].revents && !pass_out(server, stranger, heard))
      _exit(0);
    heard &= !p[1].revents || pass_in(stranger, server);
    /* Not before the server has spoken: the head porter has closed its copy then. */
    p[1].fd = heard ? stranger : -1;
    p[0].revents = p[1].revents = 0;
  }
}

/* ---- The head porter --------------------------------------------------------------------------- */

struct porters {
  pid_t pid[MOST_ALIVE];
  uid_t uid[MOST_ALIVE];
  unsigned n;
};

static void reap(struct porters *all)
{
  for (pid_t pid; (pid = waitpid(-1, NULL, WNOHANG)) > 0;)
    for (unsigned i = 0; i < all->n; i++)
      if (all->pid[i] == pid) {
        all->n--;
        all->pid[i] = all->pid[all->n];
        all->uid[i] = all->uid[all->n];
        break;
      }
}

static unsigned of_user(const struct porters *all, uid_t uid)
{
  unsigned n = 0;
  for (unsigned i = 0; i < all->n; i++)
    n += all->uid[i] == uid;
  return n;
}

/* False: the server is gone. */
static bool admit(int listener, int control, int signals, unsigned per_user, struct porters *all)
{
  int stranger = accept4(listener, NULL, NULL, SOCK_CLOEXEC), pair[2];
  if (stranger < 0) { /* for lack of files or memory; it waits on, and is seen again at once */
    nanosleep(&nap, NULL);
    return true;
  }
  struct ucred who = {.pid = 0, .uid = (uid_t)-1};
  socklen_t size = sizeof who;
  getsockopt(stranger, SOL_SOCKET, SO_PEERCRED, &who, &size);
  luio_visitor v = {.pid = who.pid, .uid = who.uid};
  bool welcome = of_user(all, who.uid) < per_user;
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0) {
    nanosleep(&nap, NULL);
    pair[0] = pair[1] = -1;
  }
  fcntl(pair[0], F_SETFL, O_NONBLOCK); /* the server's; the porter may wait for it */
  pid_t pid = fork();
  if (pid == 0) {
    close(listener);
    close(control);
    close(signals);
    close(pair[0]);
    be_porter(stranger, pair[1], false);
  }
  if (pid > 0) {
    all->pid[all->n] = pid;
    all->uid[all->n++] = who.uid;
  }
  close(stranger); /* with no porter, for lack of processes: then this may last */
  close(pair[1]);
  bool there = !welcome || pass(control, &v, sizeof v, pair[0], 0);
  close(pair[0]);
  return there;
}

static void be_head(int listener, int control, unsigned per_user)
{
  static struct porters all; /* a copy of the parent's, unused there */
  sigset_t set;
  sigfillset(&set); /* a Ctrl-C is for the server, which ends us */
  sigprocmask(SIG_SETMASK, &set, NULL);
  signal(SIGCHLD, SIG_DFL);
  sigemptyset(&set);
  sigaddset(&set, SIGCHLD);
  prctl(PR_SET_NAME, "luio-porters");
  int signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
  all.n = 0;
  for (;;) {
    struct pollfd p[3] = {{.fd = control, .events = 0}, /* POLLHUP comes unasked */
                          {.fd = signals, .events = POLLIN},
                          {.fd = all.n < MOST_ALIVE ? listener : -1, .events = POLLIN}};
    struct signalfd_siginfo ignored;
    if (poll(p, 3, -1) < 0 && errno != EINTR)
      _exit(1);
    if (p[0].revents)
      _exit(0);
    if (p[1].revents)
      while (read(signals, &ignored, sizeof ignored) > 0)
        ;
    reap(&all);
    if (p[2].revents && !admit(listener, control, signals, per_user, &all))
      _exit(0);
  }
}

/* ---- The server's side ------------------------------------------------------------------------- */

/* Descriptors from 3 on, but these two, which get numbers 3 and 4. */
static void keep_only(int first, int second)
{
  int high[2] = {fcntl(first, F_DUPFD_CLOEXEC, 5), fcntl(second, F_DUPFD_CLOEXEC, 5)};
  if (high[0] < 0 || high[1] < 0 || dup3(high[0], 3, O_CLOEXEC) < 0 ||
      dup3(high[1], 4, O_CLOEXEC) < 0)
    _exit(1);
  if (syscall(SYS_close_range, 5u, ~0u, 0u) < 0) /* Linux 5.9 */
    for (int fd = 5; fd < 1024; fd++)
      close(fd);
}

/* Makes a head porter. Without one (an error) `head` is 0 and `control` -1. */
static int start(luio_porter *p, luio_error *err)
{
  int pair[2];
  p->head = 0;
  p->control = -1;
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
    return luio_fail(err, errno, "take connections: socketpair: %s", luio_errno_name(errno));
  pid_t head = fork();
  if (head == 0) {
    keep_only(p->listener, pair[1]);
    be_head(3, 4, p->per_user);
  }
  int code = errno;
  close(pair[1]);
  if (head > 0) {
    p->head = head;
    p->control = pair[0];
    return 0;
  }
  close(pair[0]);
  return luio_fail(err, code, "take connections: fork: %s", luio_errno_name(code));
}

/* It has nothing that can hang, and is gone in no time. */
static void end(luio_porter *p)
{
  if (p->head <= 0) /* a restart that failed */
    return;
  close(p->control);
  kill(p->head, SIGKILL);
  for (int i = 0; i < 1000 && waitpid(p->head, NULL, WNOHANG) == 0; i++)
    nanosleep(&nap, NULL);
}

int luio_porter_open(int listener, unsigned per_user, luio_porter **out, luio_error *err)
{
  luio_porter *p = calloc(1, sizeof *p);
  if (!p)
    return luio_fail(err, ENOMEM, "take connections: out of memory");
  p->listener = listener;
  p->per_user = per_user;
  int rc = start(p, err);
  if (rc < 0) {
    free(p);
    return rc;
  }
  *out = p;
  return 0;
}

int luio_porter_fd(const luio_porter *p)
{
  return p->control;
}

int luio_porter_next(luio_porter *p, luio_visitor *v, luio_error *err)
{
  int fd, n, flags = 0;
  ssize_t got = take(p->control, v, sizeof *v, &fd, &n, &flags);
  if (got == -EAGAIN || got == -EINTR)
    return 0;
  if (got == (ssize_t)sizeof *v && n == 1) {
    v->fd = fd;
    return 1;
  }
  if (got > 0) /* it had no descriptor left for a pair, or we have none: that one is turned away */
    return luio_fail(err, EMFILE, "take a connection: EMFILE: raise `ulimit -n`");
  return luio_fail(err, ECHILD, "take a connection: the process that accepts them is gone");
}

int luio_porter_restart(luio_porter *p, luio_error *err)
{
  end(p);
  return start(p, err);
}

void luio_porter_close(luio_porter *p)
{
  if (!p)
    return;
  close(p->listener); /* while the other process has it: pending connections are closed there */
  end(p);
  free(p);
}

/* ---- The client's side ------------------------------------------------------------------------- */

static int connect_to(const char *path, luio_error *err)
{
  struct sockaddr_un a = {.sun_family = AF_UNIX};
  if (!path[0] || !luio_format(a.sun_path, sizeof a.sun_path, "%s", path))
    return luio_fail(err, EINVAL, "socket %s: a path of 1 to 107 bytes is needed", path);
  int fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (fd < 0)
    return luio_fail(err, errno, "socket %s: %s", path, luio_errno_name(errno));
  if (connect(fd, (struct sockaddr *)&a, sizeof a) == 0)
    return fd;
  int code = errno;
  close(fd);
  return luio_fail(err, code, "connect to %s: %s", path, luio_errno_name(code));
}

/* Starts a porter that is not our child (double fork). 0 or an errno value. */
static int start_alone(int stranger, int client)
{
  pid_t between = fork();
  if (between == 0) {
    sigset_t all;
    sigfillset(&all); /* a Ctrl-C is for the client */
    sigprocmask(SIG_SETMASK, &all, NULL);
    pid_t porter = fork();
    if (porter != 0)
      _exit(porter < 0 ? errno : 0);
    keep_only(stranger, client);
    char begin; /* the client has closed its copy, or has died: then there is nothing to be done */
    if (recv(4, &begin, 1, 0) != 1)
      _exit(0);
    be_porter(3, 4, true);
  }
  int status = 0, code = errno;
  if (between < 0)
    return code;
  while (waitpid(between, &status, 0) < 0 && errno == EINTR)
    ;
  return WIFEXITED(status) ? WEXITSTATUS(status) : ECHILD;
}

int luio_porter_connect(const char *path, luio_error *err)
{
  int pair[2] = {-1, -1}, stranger = connect_to(path, err);
  if (stranger < 0)
    return stranger;
  int code = socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0 ? errno : 0;
  if (!code) {
    fcntl(pair[0], F_SETFL, O_NONBLOCK); /* ours; the porter may wait for us */
    code = start_alone(stranger, pair[1]);
    close(pair[1]);
  }
  close(stranger); /* with no porter: then this may last */
  if (!code && send(pair[0], "", 1, MSG_NOSIGNAL) != 1)
    code = errno;
  if (!code)
    return pair[0];
  if (pair[0] >= 0)
    close(pair[0]);
  return luio_fail(err, code, "connect to %s: start a process for it: %s", path,
                   luio_errno_name(code));
}
