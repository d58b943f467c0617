/* dma_physical.c - whether a device of the machine's can have DMA memory, and which.
 *
 * The addresses that the device is told are physical ones, so no IOMMU may translate for it. Memory that its UIO driver brings
 * comes first; where a device does not look into the CPU's caches there is no other. */
#include "backend.h"

#include <errno.h>
#include <string.h>

static bool brings_memory(const luio_device *d)
{
  for (int i = 0; i < LUIO_MAX_MAPS; i++)
    if (d->info.maps[i].present && d->info.maps[i].at_open)
      return true;
  return false;
}

/* With no group there is no IOMMU; "identity" means addresses pass through unchanged. */
static int check_iommu(const luio_device *d, luio_error *err)
{
  char type[32];
  int rc = luio_sysfs_text(d->info.sysfs, "iommu_group/type", type, sizeof type);
  if (rc < 0 && rc != -ENOENT)
    return luio_fail(err, -rc,
                     "DMA memory for %s: whether an IOMMU translates for it can't be read from "
                     "%s/iommu_group/type: %s",
                     d->info.address, d->info.sysfs, luio_errno_name(-rc));
  if (rc == 0 && strcmp(type, "identity"))
    return luio_fail(err, ENOTSUP,
                     "DMA memory for %s: the IOMMU translates for it (%s), so physical "
                     "addresses would fault: boot with iommu=pt",
                     d->info.address, type);
  return 0;
}

int luio_dma_of_sysfs(luio_device *d, luio_dma **out, luio_error *err)
{
  int rc = check_iommu(d, err);
  if (rc < 0)
    return rc;
  if (brings_memory(d))
    return luio_dma_open_regions(d, out, err);
  if (d->info.incoherent)
    return luio_fail(err, ENOTSUP,
                     "DMA memory for %s: its DMA does not look into the CPU's caches (no "
                     "dma-coherent in the device tree), so it would miss what is written to "
                     "ordinary memory: use a UIO driver that brings memory (uio_dmem_genirq)",
                     d->info.address);
  return luio_dma_open_physical(d, out, err);
}
