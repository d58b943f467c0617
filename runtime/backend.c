/* backend.c - which way leads to a device. */
#include "ways.h"

/* In this order; luio_uio takes all that is left. */
static const struct luio_backend *const backends[] = {&luio_mem, &luio_pci, NULL};

const struct luio_backend *luio_backend_of(const luio_info *info)
{
  for (const struct luio_backend *const *b = backends; *b; b++)
    if ((*b)->takes(info))
      return *b;
  return &luio_uio;
}
