/* backend.c - selects the backend (the way) for a device. */
#include "ways.h"

/* Tried in this order; luio_uio takes every remaining device. */
static const struct luio_backend *const backends[] = {&luio_mem, &luio_pci, NULL};

const struct luio_backend *luio_backend_of(const luio_info *info)
{
  for (const struct luio_backend *const *b = backends; *b; b++)
    if ((*b)->takes(info))
      return *b;
  return &luio_uio;
}
