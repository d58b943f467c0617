/* qemu_process.c - the process of a QEMU machine, which never outlives the process that started it.
 *
 * A small child, the minder, starts QEMU and holds the reading end of a pipe, the lifeline. When this process ends, by
 * whatever way, the kernel closes the writing end; the minder then ends QEMU: by SIGTERM, at which it completes the files
 * of its back ends (disk images, sound), and if it does not end within a second, by SIGKILL. When the minder itself is
 * killed, QEMU gets SIGKILL from the kernel (PR_SET_PDEATHSIG). Both are in a session of their own: a Ctrl-C at the terminal is for
 * the program, not for its devices.
 *
 * Output goes into a memfd of a fixed size. It is read when QEMU ended, for the message. */
#include "kernel.h"
#include "qemu.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { HIGH = 16, TERM_PAUSES = 2000 };

/* All that follows runs in a child of a process that may have threads: only system calls. */

static void exec_qemu(char *const argv[], const int fds[QEMU_FDS], int log)
{
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  int high[QEMU_FDS + 1];
  for (int i = 0; i < QEMU_FDS; i++)
    high[i] = fcntl(fds[i], F_DUPFD, HIGH);
  high[QEMU_FDS] = fcntl(log, F_DUPFD, HIGH);
  for (int i = 0; i < QEMU_FDS; i++)
    if (high[i] < 0 || dup2(high[i], QEMU_QTEST + i) < 0)
      close(QEMU_QTEST + i); /* something of this process may be there */
  dup2(high[QEMU_FDS], 1);
  dup2(high[QEMU_FDS], 2);
  int null = open("/dev/null", O_RDONLY);
  dup2(null, 0);
  close_range(QEMU_FDS_END, ~0u, 0);
  execvp(argv[0], argv);
  const char *why = errno == ENOENT ? QEMU_MISSING : "it can't be executed";
  (void)!write(1, why, strlen(why));
  _exit(127);
}

/* Leaves open of the parent's descriptors only these, and those below 3: the new ones below need room. */
static void close_others(const int *keep, int n)
{
  for (int from = 3;;) {
    int next = INT_MAX;
    for (int i = 0; i < n; i++)
      if (keep[i] >= from && keep[i] < next)
        next = keep[i];
    if (next > from)
      close_range((unsigned)from, next == INT_MAX ? ~0u : (unsigned)next - 1, 0);
    if (next == INT_MAX)
      return;
    from = next + 1;
  }
}

static void end_qemu(pid_t qemu)
{
  struct timespec pause = {.tv_nsec = 500000};
  kill(qemu, SIGTERM);
  for (int i = 0; i < TERM_PAUSES; i++) {
    if (waitpid(qemu, NULL, WNOHANG) != 0)
      return;
    nanosleep(&pause, NULL);
  }
  kill(qemu, SIGKILL);
  waitpid(qemu, NULL, 0);
}

static void mind(char *const argv[], const int fds[QEMU_FDS], int log, int lifeline, int tell)
{
  sigset_t none;
  prctl(PR_SET_NAME, "luio-qemu"); /* in ps: not the program, which a user may want to kill */
  setsid();
  for (int i = 1; i < NSIG;
       i++) /* the program's handlers would use descriptors that are closed here */
    signal(i, SIG_DFL);
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL);
  int keep[QEMU_FDS + 3] = {log, lifeline, tell};
  memcpy(keep + 3, fds, QEMU_FDS * sizeof *fds);
  close_others(keep, QEMU_FDS + 3);
  int null = open("/dev/null", O_RDWR);
  for (int i = 0; i < 3; i++)
    dup2(null, i);
  pid_t qemu = _Fork();
  if (qemu == 0)
    exec_qemu(argv, fds, log);
  if (write(tell, &qemu, sizeof qemu) < 0 || qemu < 0)
    _exit(1);
  /* Nothing of the parent's may stay open here. */
  dup2(lifeline, 3);
  close_range(4, ~0u, 0);
  struct pollfd end = {.fd = 3, .events = POLLIN};
  while (poll(&end, 1, -1) < 0 && errno == EINTR)
    ;
  end_qemu(qemu);
  _exit(0);
}

/* Where no guardian has made them: the log, and the lifeline, whose reading end is *end. */
static int make_own(struct luio_qemu_process *p, int *end)
{
  int lifeline[2];
  if (p->log >= 0)
    return 0;
  p->log = guard_sealed("qemu's output", GUARD_LOG_SIZE);
  if (p->log < 0)
    return -p->log;
  if (pipe2(lifeline, O_CLOEXEC) < 0)
    return errno;
  *end = lifeline[0];
  p->lifeline = lifeline[1];
  return 0;
}

int luio_qemu_spawn(struct luio_qemu_process *p, char *const argv[], const int fds[QEMU_FDS],
                    int lifeline, luio_error *err)
{
  int made = -1, tell[2] = {-1, -1};
  pid_t qemu = -1;
  int code = make_own(p, &made);
  if (!code && pipe2(tell, O_CLOEXEC) < 0)
    code = errno;
  if (!code) {
    p->minder = _Fork();
    if (p->minder == 0)
      mind(argv, fds, p->log, made >= 0 ? made : lifeline, tell[1]);
    if (p->minder < 0)
      code = errno;
  }
  if (tell[1] >= 0)
    close(tell[1]);
  ssize_t told = -1;
  while (!code && (told = read(tell[0], &qemu, sizeof qemu)) < 0 && errno == EINTR)
    ;
  if (!code && (told != sizeof qemu || qemu < 0))
    code = EAGAIN; /* the minder could start no process, and has ended */
  if (tell[0] >= 0)
    close(tell[0]);
  if (made >= 0)
    close(made);
  p->pid = qemu;
  if (!code)
    return 0;
  luio_qemu_end(p, -1);
  return luio_fail(err, code, "start %s: %s%s", argv[0], luio_errno_name(code),
                   luio_qemu_remedy(code));
}

const char *luio_qemu_remedy(int code)
{
  return code == EMFILE   ? ": raise `ulimit -n`"
         : code == ENFILE ? ": the machine has no more descriptors: raise fs.file-max"
         : code == EAGAIN
             ? ": no more processes or threads: raise `ulimit -u`, or pids.max of the cgroup"
         : code == ENOMEM ? ": no more memory: close something, or raise `ulimit -v`"
                          : "";
}

const char *luio_qemu_printed(const struct luio_qemu_process *p, char *to, size_t size)
{
  char all[4096];
  ssize_t n = p->log < 0 ? 0 : pread(p->log, all, sizeof all - 1, 0);
  all[n > 0 ? n : 0] = 0;
  size_t at = 0;
  to[0] = 0;
  for (char *rest = all, *line; (line = strsep(&rest, "\n")) && at < size;) {
    char *prefix = strstr(line, ": ");
    if (prefix && !strncmp(line, "qemu-system-", 12))
      line = prefix + 2;
    if (*line)
      at += (size_t)snprintf(to + at, size - at, "%s%s", at ? "; " : "", line);
  }
  luio_clean(to);
  return to;
}

static bool ends(pid_t minder)
{
  uint64_t until = luio_now() + LUIO_STOP_NS;
  struct timespec pause = {.tv_nsec = 500000};
  while (waitpid(minder, NULL, WNOHANG) == 0) {
    if (luio_now() >= until)
      return false;
    nanosleep(&pause, NULL);
  }
  return true;
}

/* Waits for the minder, which waits for QEMU. That takes milliseconds, or a second when QEMU is stuck. A minder that was stopped is
 * killed, and QEMU with it; if the kernel holds QEMU, both are left. */
static void await(pid_t minder)
{
  if (ends(minder))
    return;
  kill(minder, SIGKILL);
  ends(minder);
}

void luio_qemu_forked(struct luio_qemu_process *p)
{
  luio_devnull_replace(p->lifeline);
  p->minder = 0; /* it is no child of this one */
}

/* The same where the minder is no child of ours: until QEMU has closed its socket. */
static void await_silence(int qmp)
{
  uint64_t until = luio_now() + LUIO_STOP_NS, now;
  char bytes[4096];
  while ((now = luio_now()) < until) {
    struct pollfd in = {.fd = qmp, .events = POLLIN};
    if (poll(&in, 1, (int)((until - now) / 1000000 + 1)) > 0 &&
        recv(qmp, bytes, sizeof bytes, MSG_DONTWAIT) == 0)
      return;
  }
}

void luio_qemu_end(struct luio_qemu_process *p, int qmp)
{
  if (p->lifeline >= 0)
    close(p->lifeline);
  p->lifeline = -1;
  if (p->minder > 0)
    await(p->minder);
  else if (qmp >= 0)
    await_silence(qmp);
  p->minder = 0;
  if (p->log >= 0)
    close(p->log);
  p->log = -1;
}
