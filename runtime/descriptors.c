/* descriptors.c - checks that free descriptors are left. Part of the library and of the program.
 *
 * Most calls fail with EMFILE when none is left. Some do not: libuv's loops (each model has one) abort,
 * libudev leaves devices out, and Lua's `require` takes a file that can't be opened for a missing one. So
 * those callers check first, with the largest number that they need. */
#include "descriptors.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

enum { MOST = 64 };

int luio_room(unsigned n)
{
  int fds[MOST], code = 0;
  unsigned i;
  for (i = 0; i < n && i < MOST; i++) {
    fds[i] = i ? fcntl(fds[0], F_DUPFD_CLOEXEC, 0) : open("/", O_PATH | O_CLOEXEC);
    if (fds[i] < 0) {
      code = errno;
      break;
    }
  }
  while (i-- > 0)
    close(fds[i]);
  return -code;
}
