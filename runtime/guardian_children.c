/* guardian_children.c - the guardian's children other than the worker.
 *
 * The teller prints a line on standard error. The guardian does not write there itself, because a write
 * can block for ever: a terminal can be stopped, a pipe can be full, and any process that shares a pipe
 * can hold its lock. So a child writes each line. The guardian waits half a second for the child. While
 * that child hangs no other is forked, and the next line that is printed gives the number of lost lines.
 *
 * Leftovers are processes that a worker forked. They may have the device's files open and the memory of the next
 * worker mapped, so they must not outlive it. The guardian is the subreaper: an orphaned process becomes its
 * child, and is listed in /proc/thread-self/children. */
#include "guardian.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#define TELLING (500 * GUARDIAN_MS) /* how long a line is waited for */

static void (*close_ours)(void); /* in a child */
static pid_t teller;             /* the child that still has a line to print; 0: none */
static unsigned untold;          /* lines that were dropped since the last one */

bool guardian_reap(pid_t pid, int *status, uint64_t ns)
{
  uint64_t until = guardian_now() + ns;
  for (;;) {
    pid_t got = waitpid(pid, status, WNOHANG);
    if (got == pid || (got < 0 && errno != EINTR))
      return true;
    if (guardian_now() >= until)
      return false;
    struct timespec t = {.tv_nsec = (long)GUARDIAN_MS / 4};
    nanosleep(&t, NULL);
  }
}

/* ---- Lines ------------------------------------------------------------------------------------- */

void guardian_begin_telling(void (*close)(void))
{
  close_ours = close;
}

void guardian_say(struct guardian_line *l, const char *format, ...)
{
  va_list args;
  va_start(args, format);
  int n = vsnprintf(l->text + l->length, sizeof l->text - l->length, format, args);
  va_end(args);
  if (n > 0)
    l->length +=
        (size_t)n < sizeof l->text - l->length ? (size_t)n : sizeof l->text - l->length - 1;
}

void guardian_tell(struct guardian_line *l)
{
  if (teller && !guardian_reap(teller, NULL, 0)) {
    untold++;
    return;
  }
  if (untold)
    guardian_say(l, "; %u line%s before this one could not be printed", untold,
                 untold == 1 ? "" : "s");
  guardian_say(l, "\n");
  teller = fork();
  if (teller == 0) {
    close_ours();
    ssize_t ignored = write(2, l->text, l->length);
    (void)ignored;
    _exit(0);
  }
  if (teller < 0)
    untold++;
  else
    untold = 0;
  if (teller < 0 || guardian_reap(teller, NULL, TELLING))
    teller = 0;
}

void guardian_end_telling(void)
{
  if (teller && !guardian_reap(teller, NULL, TELLING))
    kill(teller, SIGKILL);
}

/* ---- Leftovers --------------------------------------------------------------------------------- */

void guardian_kill_leftovers(pid_t worker, bool (*spare)(pid_t))
{
  bool any = true;
  for (int round = 0; any && round < 100; round++) { /* each may have left some more */
    FILE *f = fopen("/proc/thread-self/children", "re");
    int pid;
    any = false;
    while (f && fscanf(f, "%d", &pid) == 1)
      if (pid != teller && pid != worker && !spare(pid)) {
        kill(pid, SIGKILL);
        any |= guardian_reap(pid, NULL, 10 * GUARDIAN_MS);
      }
    if (f)
      fclose(f);
  }
}

void guardian_reap_orphans(pid_t worker)
{
  siginfo_t one = {.si_pid = 0};
  while (waitid(P_ALL, 0, &one, WEXITED | WNOHANG | WNOWAIT) == 0 && one.si_pid &&
         one.si_pid != worker) {
    waitpid(one.si_pid, NULL, WNOHANG);
    if (one.si_pid == teller) /* it ended late */
      teller = 0;
    one.si_pid = 0;
  }
}
