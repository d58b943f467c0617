/* cdef.c - luio.h as text, for ffi.cdef. The build preprocesses the header with LUIO_CDEF defined
 * and turns each line of the result into a string literal, luio.cdef.inc. */
#include "internal.h"

static const char text[] =
#include "luio.cdef.inc"
    ;

const char *luio_cdef(void)
{
  return text;
}
