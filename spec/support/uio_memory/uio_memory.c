// SPDX-License-Identifier: GPL-2.0
/*
 * uio_memory - a platform device for uio_dmem_genirq, for specs
 *
 * uio_dmem_genirq takes the sizes of its regions from platform data, not from a device tree, so a
 * board has code like this. There is no hardware behind it: memory for DMA, in two regions, and no
 * interrupt.
 */
#include <linux/dma-mapping.h>
#include <linux/module.h>
#include <linux/platform_device.h>
#include <linux/platform_data/uio_dmem_genirq.h>
#include <linux/sizes.h>

static unsigned int region_sizes[] = { SZ_64K, SZ_4K };

static struct uio_dmem_genirq_pdata data = {
	.uioinfo = {
		.name = "uio_memory",
		.version = "1",
		.irq = UIO_IRQ_CUSTOM, /* that is, nothing for the driver to request */
	},
	.dynamic_region_sizes = region_sizes,
	.num_dynamic_regions = ARRAY_SIZE(region_sizes),
};

static struct platform_device *device;

static int __init uio_memory_init(void)
{
	int rc;

	device = platform_device_alloc("uio_dmem_genirq", PLATFORM_DEVID_NONE);
	if (!device)
		return -ENOMEM;
	device->platform_dma_mask = DMA_BIT_MASK(32);
	device->dev.dma_mask = &device->platform_dma_mask;
	device->dev.coherent_dma_mask = DMA_BIT_MASK(32);
	/* Not platform_device_add_data(), which copies: the driver writes to it. */
	device->dev.platform_data = &data;
	rc = platform_device_add(device);
	if (rc) {
		device->dev.platform_data = NULL;
		platform_device_put(device);
	}
	return rc;
}

static void __exit uio_memory_exit(void)
{
	platform_device_del(device);
	device->dev.platform_data = NULL; /* ours: the release would free it */
	platform_device_put(device);
}

module_init(uio_memory_init);
module_exit(uio_memory_exit);

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Platform device for uio_dmem_genirq");
