/* error.c - one sentence per failure, and the names of errno values.
 *
 * Every function that fails goes through luio_fail, so that the code returned and the message
 * shown can't disagree. */
#include "descriptors.h"
#include "internal.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define STRINGIFY(x) #x
#define TEXT(x) STRINGIFY(x)

unsigned luio_abi(void)
{
  return LUIO_ABI;
}

const char *luio_version(void)
{
  return TEXT(LUIO_VERSION);
}

uint64_t luio_now(void)
{
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (uint64_t)t.tv_sec * LUIO_NS_PER_S + (uint64_t)t.tv_nsec;
}

const char *luio_errno_name(int code)
{
  if (code == ENOTSUP) /* the same number as EOPNOTSUPP, by which glibc calls it */
    return "ENOTSUP";
  const char *name = strerrorname_np(code);
  return name ? name : "E?";
}

/* Everything may run out of descriptors, and the way out is always the same. */
static const char *way_out(int code)
{
  return code == EMFILE   ? "raise `ulimit -n`"
         : code == ENFILE ? "raise the system's limit (sysctl fs.file-max)"
                          : NULL;
}

int luio_fail(luio_error *err, int code, const char *format, ...)
{
  if (err) {
    va_list args;
    va_start(args, format);
    int n = vsnprintf(err->message, sizeof err->message, format, args);
    va_end(args);
    size_t size = sizeof err->message;
    const char *way = way_out(code);
    if (way && n >= 0 && (size_t)n < size && !strstr(err->message, way))
      n += snprintf(err->message + n, size - (size_t)n, ": %s", way);
    if (n >= (int)sizeof err->message) /* cut, and says so */
      memcpy(err->message + sizeof err->message - 4, "...", 4);
    err->code = code;
  }
  return -code;
}

int luio_need_descriptors(unsigned n, const char *what, luio_error *err)
{
  int rc = luio_room(n);
  if (rc == -EMFILE)
    return luio_fail(err, EMFILE, "%s: EMFILE: too many open files: it takes %u more", what, n);
  if (rc == -ENFILE)
    return luio_fail(err, ENFILE, "%s: ENFILE: the system has too many open files", what);
  return 0;
}
