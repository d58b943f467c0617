/* guard_bars.c - ownership of a PCI device's BAR files. Part of the library and of the program.
 *
 * A process that can write a device's registers while bus master is on can make the device write to any
 * memory. So before a driver switches bus master on, the register files (resourceN and /dev/uioX, which udev's
 * rules give to the group luio) become private to its user, until the device is closed or the driver's
 * processes are dead.
 *
 * The file's previous owner and mode are stored on the file itself, as the extended attribute trusted.luio, "uid gid
 * mode", which only root can read or write. So the record outlives the processes, and disappears with the file. If a
 * private file already has the attribute, an earlier driver could not restore it, and the attribute is kept. If the
 * file's owner or mode has been changed since, the new state is recorded instead.
 *
 * Descriptors and mappings that other processes already have can't be revoked.
 * lua/luio/host/other_writers.lua looks for such processes after this and before bus master is on.
 *
 * Another process, or the kernel when the machine sleeps, may switch bus master off. Then udev's rules may give the
 * files to the group and later take them back; a process that opened them in between keeps them open. So
 * luio_bars_given also compares the change time of the BAR files, which a user can't set. */
#include "guard.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#define ATTRIBUTE "trusted.luio"
#define PRIVATE 0600
#define NOBODY 65534 /* whom many share */

/* 1: done; 0: there was nothing to do, or is no such file; -errno. */
typedef int what(const char *path, uid_t uid);

enum { ASK = 2 }; /* of give_back, in place of 1: nothing was kept of this one */

static bool is_private(const struct stat *st)
{
  return (st->st_mode & 07777) == PRIVATE;
}

static int take(const char *path, uid_t uid)
{
  struct stat st;
  char text[64];
  if (stat(path, &st) < 0)
    return errno == ENOENT ? 0 : -errno;
  bool kept = getxattr(path, ATTRIBUTE, text, sizeof text) > 0;
  /* Set again: only from the first change on does the kernel keep a change time. Before that, the time is that of
   * the last look. */
  if (is_private(&st) && st.st_uid == uid)
    return chmod(path, PRIVATE) < 0 ? -errno : 0;
  if (!kept || !is_private(&st)) {
    int n = snprintf(text, sizeof text, "%u %u %o", st.st_uid, st.st_gid, st.st_mode & 07777);
    if (setxattr(path, ATTRIBUTE, text, (size_t)n, 0) < 0)
      return -errno;
  }
  return chmod(path, PRIVATE) < 0 || chown(path, uid, (gid_t)-1) < 0 ? -errno : 1;
}

static int give_back(const char *path, uid_t unused)
{
  (void)unused;
  char text[64];
  unsigned uid, gid, mode;
  ssize_t n = getxattr(path, ATTRIBUTE, text, sizeof text - 1);
  if (n <= 0)
    return access(path, F_OK) < 0 ? 0 : ASK;
  text[n] = '\0';
  if (sscanf(text, "%u %u %o", &uid, &gid, &mode) == 3 &&
      (chown(path, uid, gid) < 0 || chmod(path, mode) < 0))
    return -errno;
  return removexattr(path, ATTRIBUTE) < 0 ? -errno : 1;
}

static int leave_to_root(const char *path, uid_t unused)
{
  (void)unused;
  char text[64];
  if (getxattr(path, ATTRIBUTE, text, sizeof text) <= 0)
    return 0;
  return chown(path, 0, 0) < 0 || removexattr(path, ATTRIBUTE) < 0 ? -errno : 1;
}

/* /dev/uioX of the device, if it has a UIO driver; of one that has several all of them, `skip` from 0 on. 1: it is
 * there; 0: there are no more; -errno: that can't be known. */
static int node_of(const char *dir, int skip, char *path, size_t size)
{
  char name[512];
  struct stat st;
  unsigned major_nr, minor_nr, number;
  int found = 0;
  snprintf(name, sizeof name, "%s/uio", dir);
  DIR *uio = opendir(name);
  if (!uio)
    return errno == ENOENT ? 0 : -errno;
  for (struct dirent *e; !found && (e = readdir(uio));) {
    if (sscanf(e->d_name, "uio%u", &number) != 1)
      continue;
    snprintf(path, size, "/dev/uio%u", number);
    snprintf(name, sizeof name, "%s/uio/uio%u/dev", dir, number);
    FILE *f = fopen(name, "re");
    if (f)
      found = fscanf(f, "%u:%u", &major_nr, &minor_nr) == 2 && stat(path, &st) == 0 &&
              S_ISCHR(st.st_mode) && st.st_rdev == makedev(major_nr, minor_nr) && skip-- == 0;
    else if (errno != ENOENT)
      found = -errno;
    if (f)
      fclose(f);
  }
  closedir(uio);
  return found;
}

enum { BAR_FILES = 12 };

/* The path of one of the files, by number from 0 on; it need not be there. As node_of. */
static int path_of(const char *dir, int i, char *path, size_t size)
{
  static const char *const forms[] = {"%s/resource%d", "%s/resource%d_wc"};
  if (i >= BAR_FILES)
    return node_of(dir, i - BAR_FILES, path, size);
  snprintf(path, size, forms[i / 6], dir, i % 6);
  return 1;
}

/* Does it to each of the files, also behind one where it fails: all that came of it, or the first -errno. */
static int each(const char *dir, what *fn, uid_t uid)
{
  char path[512];
  int all = 0, failed = 0, there;
  for (int i = 0; (there = path_of(dir, i, path, sizeof path)) > 0; i++) {
    int rc = fn(path, uid);
    if (rc >= 0)
      all |= rc;
    else if (!failed)
      failed = rc;
  }
  return failed ? failed : there < 0 ? there : all;
}

static uid_t owner_for(uid_t uid)
{
  return uid == NOBODY ? 0 : uid;
}

int guard_bars_take(const char *dir, uid_t uid)
{
  return each(dir, take, owner_for(uid));
}

bool guard_bars_are(const char *dir, uid_t uid, uint64_t *mark)
{
  char path[512];
  bool all = true;
  struct stat st;
  *mark = 0;
  for (int i = 0; path_of(dir, i, path, sizeof path) > 0; i++) {
    if (stat(path, &st) < 0)
      continue;
    all &= is_private(&st) && st.st_uid == owner_for(uid);
    if (i < BAR_FILES) /* udev sets the times of a node that it has nothing to change of */
      *mark =
          *mark * 31 + (uint64_t)st.st_ctim.tv_sec * 1000000000ull + (uint64_t)st.st_ctim.tv_nsec;
  }
  return all;
}

/* Where nothing was kept of a file, because it was private when the driver began, udev may have wanted to give it to
 * the group since, and have been kept from it by bus master (60-luio.rules): it is asked again. */
int guard_bars_give_back(const char *dir)
{
  char path[64], uevent[96];
  int rc = each(dir, give_back, 0);
  for (int i = 0; rc > 0 && rc & ASK && node_of(dir, i, path, sizeof path) > 0; i++) {
    snprintf(uevent, sizeof uevent, "/sys/class/uio/%s/uevent", path + strlen("/dev/"));
    FILE *f = fopen(uevent, "we");
    if (f) {
      fputs("change", f);
      fclose(f);
    }
  }
  return rc < 0 ? rc : 0;
}

int guard_bars_leave(const char *dir)
{
  int rc = each(dir, leave_to_root, 0);
  return rc < 0 ? rc : 0;
}
