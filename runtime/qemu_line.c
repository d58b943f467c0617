/* qemu_line.c - what QEMU's test socket says: a line each, and nothing else is one (QEMU's system/qtest.c). */
#include "qemu.h"

#include <string.h>

/* All of size bytes as a number of that base. */
static bool number(const char *text, size_t size, unsigned base, size_t most, uint64_t *out)
{
  uint64_t value = 0;
  for (size_t i = 0; i < size; i++) {
    unsigned char c = (unsigned char)text[i];
    unsigned digit = c >= '0' && c <= '9'   ? (unsigned)(c - '0')
                     : c >= 'a' && c <= 'f' ? (unsigned)(c - 'a') + 10
                                            : 16;
    if (digit >= base)
      return false;
    value = value * base + digit;
  }
  *out = value;
  return size > 0 && size <= most;
}

static bool begins(const char *line, size_t size, const char *with)
{
  return size >= strlen(with) && !memcmp(line, with, strlen(with));
}

struct luio_qemu_line_text luio_qemu_parse(const char *line, size_t size)
{
  struct luio_qemu_line_text out = {.kind = QEMU_NONSENSE};
  if (size == 2 && begins(line, size, "OK"))
    out.kind = QEMU_DONE;
  else if (begins(line, size, "OK 0x") && number(line + 5, size - 5, 16, 16, &out.value))
    out.kind = QEMU_VALUE;
  else if (begins(line, size, "IRQ raise ") && number(line + 10, size - 10, 10, 9, &out.value))
    out.kind = QEMU_RISEN;
  else if (begins(line, size, "IRQ lower ") && number(line + 10, size - 10, 10, 9, &out.value))
    out.kind = QEMU_FALLEN;
  return out;
}
