/* backend.c - which way leads to a device. */
#include "backend.h"

/* In this order: the last takes what no other does. */
static const struct luio_backend *const backends[] = {&luio_mem, &luio_pci, &luio_uio};

const struct luio_backend *luio_backend_of(const luio_info *info)
{
  size_t i = 0, last = sizeof backends / sizeof *backends - 1;
  while (i < last && !backends[i]->takes(info))
    i++;
  return backends[i];
}
