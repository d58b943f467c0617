/* descriptors.c - whether there are descriptors left. Part of the library and of the program.
 *
 * Most calls say EMFILE when there are none, and that is the message then. This is for what does not:
 * libuv's loops, of which each model has one, abort; libudev leaves devices out; to Lua's `require` a file
 * that can't be opened is one that is not there. These ask before, with what they need at most. */
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
