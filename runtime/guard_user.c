/* guard_user.c - gives up root, once everything is open.
 *
 * The kernel checks rights when a file is opened, so config space, pagemap, /dev/uioX, memfds and
 * mappings go on working. glibc's setuid and its relatives change all threads, interrupt threads
 * included. The guardian is informed first. From then on it accepts no file to write to, because it
 * is still root. */
#include "worker.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <sys/prctl.h>
#include <unistd.h>

int luio_drop_privileges(const char *user, luio_error *err)
{
  char text[4096];
  struct passwd entry, *found = NULL;
  int rc = getpwnam_r(user, &entry, text, sizeof text, &found);
  if (rc || !found)
    return luio_fail(err, rc ? rc : ENOENT, "drop privileges: there is no user \"%s\"", user);
  if (geteuid() != 0)
    return luio_fail(err, EPERM, "drop privileges to %s: this process is not root", user);
  rc = luio_guard_seal(err);
  if (rc < 0)
    return rc;
  if (initgroups(user, entry.pw_gid) < 0 ||
      setresgid(entry.pw_gid, entry.pw_gid, entry.pw_gid) < 0 ||
      setresuid(entry.pw_uid, entry.pw_uid, entry.pw_uid) < 0)
    return luio_fail(err, errno, "drop privileges to %s: %s", user, luio_errno_name(errno));
  prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); /* nor by a setuid program */
  if (entry.pw_uid != 0 && setuid(0) == 0)
    return luio_fail(err, EPERM, "drop privileges to %s: they came back", user);
  return 0;
}
