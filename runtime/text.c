/* text.c - text in fixed buffers: formatting, cleaning, numbers, and the order of names. */
#include "internal.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

bool luio_format(char *to, size_t size, const char *format, ...)
{
  va_list args;
  va_start(args, format);
  int n = vsnprintf(to, size, format, args);
  va_end(args);
  return n >= 0 && (size_t)n < size;
}

/* Text for display must not control a terminal: control characters (also those beyond ASCII: U+009B
 * is another ESC [) and invalid UTF-8 become '?'. */
void luio_clean(char *text)
{
  unsigned char *c = (unsigned char *)text;
  while (*c) {
    int tail = *c < 0x80                 ? 0
               : *c >= 0xc2 && *c < 0xe0 ? 1
               : *c >= 0xe0 && *c < 0xf0 ? 2
               : *c >= 0xf0 && *c < 0xf5 ? 3
                                         : -1;
    bool fine = tail >= 0 && *c >= 0x20 && *c != 0x7f;
    for (int i = 1; fine && i <= tail; i++) /* stops at the final NUL */
      fine = (c[i] & 0xc0) == 0x80;
    if (fine && *c == 0xc2 && c[1] < 0xa0)
      fine = false;
    if (fine)
      c += tail + 1;
    else
      *c++ = '?';
  }
}

int luio_parse_u64(const char *text, uint64_t *value)
{
  if (!isdigit((unsigned char)text[0])) /* strtoull would take "-1" and " 1" */
    return -EINVAL;
  /* Hexadecimal says so; nothing is octal, whatever it begins with. */
  int base = text[0] == '0' && (text[1] == 'x' || text[1] == 'X') ? 16 : 10;
  char *end;
  errno = 0;
  unsigned long long v = strtoull(text, &end, base);
  if (*end != '\0')
    return -EINVAL;
  if (errno == ERANGE)
    return -ERANGE;
  *value = v;
  return 0;
}

/* By length first, which puts "uio2" before "uio10" and domain ffff before 10000; digits of a PCI address are
 * hexadecimal, which strverscmp does not know. */
int luio_compare_names(const char *a, const char *b)
{
  size_t m = strlen(a), n = strlen(b);
  return m != n ? (m > n) - (m < n) : strcmp(a, b);
}
