// SPDX-License-Identifier: GPL-2.0
/*
 * luio_pages - UIO maps that are not whole pages, for luio's specs.
 *
 * A platform device with four maps: of the first BAR of a PCI device (slot=,
 * bus 0) one smaller than a page and one from within a page, of another's
 * (other=) one and a half pages, and one of the kernel's own memory, from
 * within a page. And a PCI driver for QEMU's SD host, whose BAR has 0x100 bytes, which offers
 * the BAR as it is.
 */
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/platform_device.h>
#include <linux/slab.h>
#include <linux/uio_driver.h>

static int slot, other;
module_param(slot, int, 0444);
MODULE_PARM_DESC(slot, "of the PCI device on bus 0");
module_param(other, int, 0444);
MODULE_PARM_DESC(other, "of another, whose memory is decoded");

static struct pci_dev *card, *second;
static struct platform_device *device;
static u8 *page;

static struct uio_info info = {
	.name = "luio_pages", .version = "1", .irq = UIO_IRQ_NONE,
};
static struct uio_info host_info = {
	.name = "luio_host", .version = "1", .irq = UIO_IRQ_NONE,
};

static void map(int n, const char *name, phys_addr_t addr, resource_size_t size, int memtype)
{
	info.mem[n].name = name;
	info.mem[n].addr = addr;
	info.mem[n].size = size;
	info.mem[n].memtype = memtype;
}

static int host_probe(struct pci_dev *pci, const struct pci_device_id *unused)
{
	int rc = pci_enable_device(pci);

	if (rc)
		return rc;
	host_info.mem[0].name = "registers";
	host_info.mem[0].addr = pci_resource_start(pci, 0);
	host_info.mem[0].size = pci_resource_len(pci, 0);
	host_info.mem[0].memtype = UIO_MEM_PHYS;
	rc = uio_register_device(&pci->dev, &host_info);
	if (rc)
		pci_disable_device(pci);
	return rc;
}

static void host_remove(struct pci_dev *pci)
{
	uio_unregister_device(&host_info);
	pci_disable_device(pci);
}

static const struct pci_device_id host_ids[] = { { PCI_DEVICE(0x1b36, 0x0007) }, {} };
static struct pci_driver host = {
	.name = "luio_host", .id_table = host_ids, .probe = host_probe, .remove = host_remove,
};

static int __init luio_pages_init(void)
{
	phys_addr_t bar;
	int rc = -ENOMEM;

	page = (u8 *)get_zeroed_page(GFP_KERNEL);
	if (!page)
		return rc;
	memcpy(page + 0x40, "luio", 4);
	rc = -ENODEV;
	card = pci_get_domain_bus_and_slot(0, 0, PCI_DEVFN(slot, 0));
	second = pci_get_domain_bus_and_slot(0, 0, PCI_DEVFN(other, 0));
	if (!card || !second)
		goto put;
	rc = pci_enable_device(card);
	if (rc)
		goto put;
	device = platform_device_register_simple("luio-pages", PLATFORM_DEVID_NONE, NULL, 0);
	rc = PTR_ERR_OR_ZERO(device);
	if (rc)
		goto disable;
	bar = pci_resource_start(card, 0);
	map(0, "small", bar, 0x100, UIO_MEM_PHYS);
	map(1, "within", bar + 0x20, 0x100, UIO_MEM_PHYS);
	map(2, "half", pci_resource_start(second, 0), 0x1800, UIO_MEM_PHYS);
	map(3, "kernel", (phys_addr_t)(unsigned long)page + 0x40, 0x80, UIO_MEM_LOGICAL);
	rc = uio_register_device(&device->dev, &info);
	if (rc)
		goto unregister;
	rc = pci_register_driver(&host);
	if (!rc)
		return 0;
	uio_unregister_device(&info);
unregister:
	platform_device_unregister(device);
disable:
	pci_disable_device(card);
put:
	pci_dev_put(second);
	pci_dev_put(card);
	free_page((unsigned long)page);
	return rc;
}

static void __exit luio_pages_exit(void)
{
	pci_unregister_driver(&host);
	uio_unregister_device(&info);
	platform_device_unregister(device);
	pci_disable_device(card);
	pci_dev_put(second);
	pci_dev_put(card);
	free_page((unsigned long)page);
}

module_init(luio_pages_init);
module_exit(luio_pages_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("UIO maps that are not whole pages");
