// SPDX-License-Identifier: GPL-2.0
/*
 * luio_portio - a UIO device that consists of I/O ports, for luio's specs.
 *
 * There is none in the kernel: a platform device that declares the I/O BAR of a PCI device (slot=, bus 0)
 * as UIO port 0, of kind x86, and a second one that is none, of kind gpio. The PCI device's
 * interrupt is its interrupt: masked in the PCI command register when it comes, and unmasked by
 * writing 1 to /dev/uioX. No driver may be bound to the PCI device.
 */
#include <linux/interrupt.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/platform_device.h>
#include <linux/uio_driver.h>

static int slot;
module_param(slot, int, 0444);
MODULE_PARM_DESC(slot, "of the PCI device on bus 0");

static struct pci_dev *card;
static struct platform_device *device;
static struct uio_info info = {
	.name = "uart16550",
	.version = "1",
	.irq_flags = IRQF_SHARED,
};

static irqreturn_t handler(int irq, struct uio_info *unused)
{
	return pci_check_and_mask_intx(card) ? IRQ_HANDLED : IRQ_NONE;
}

static int irqcontrol(struct uio_info *unused, s32 on)
{
	/* Not pci_check_and_unmask_intx: that leaves a line that is asserted masked. */
	pci_intx(card, on);
	return 0;
}

static int __init luio_portio_init(void)
{
	int rc;

	card = pci_get_domain_bus_and_slot(0, 0, PCI_DEVFN(slot, 0));
	if (!card)
		return -ENODEV;
	rc = pci_enable_device(card);
	if (rc)
		goto put;
	if (!(pci_resource_flags(card, 0) & IORESOURCE_IO)) {
		rc = -ENXIO;
		goto disable;
	}
	device = platform_device_register_simple("luio-portio", PLATFORM_DEVID_NONE, NULL, 0);
	if (IS_ERR(device)) {
		rc = PTR_ERR(device);
		goto disable;
	}
	info.port[0].name = "registers";
	info.port[0].start = pci_resource_start(card, 0);
	info.port[0].size = pci_resource_len(card, 0);
	info.port[0].porttype = UIO_PORT_X86;
	info.port[1].name = "pins";
	info.port[1].start = 0x10;
	info.port[1].size = 4;
	info.port[1].porttype = UIO_PORT_GPIO;
	info.irq = card->irq;
	info.handler = handler;
	info.irqcontrol = irqcontrol;
	rc = uio_register_device(&device->dev, &info);
	if (!rc)
		return 0;
	platform_device_unregister(device);
disable:
	pci_disable_device(card);
put:
	pci_dev_put(card);
	return rc;
}

static void __exit luio_portio_exit(void)
{
	uio_unregister_device(&info);
	platform_device_unregister(device);
	pci_disable_device(card);
	pci_dev_put(card);
}

module_init(luio_portio_init);
module_exit(luio_portio_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("UIO device of I/O ports, for luio's specs");
