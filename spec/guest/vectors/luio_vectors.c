// SPDX-License-Identifier: GPL-2.0
/*
 * luio_vectors - a PCI driver that makes several UIO devices of one PCI device, for luio's specs.
 *
 * So drivers do whose card has a vector for each of its parts. There is none in the kernel. It takes any PCI device with a
 * memory BAR 0 that driver_override gives it; each UIO device has that BAR as map 0. They differ in their interrupts: the first
 * has the INTx line, the last none, and those between have no line, but events: one for each 1 that is written to /dev/uioX.
 */
#include <linux/interrupt.h>
#include <linux/module.h>
#include <linux/pci.h>
#include <linux/uio_driver.h>

#define VECTORS 12

struct card {
	struct pci_dev *pdev;
	int registered;
	char names[VECTORS][16];
	struct uio_info infos[VECTORS];
};

static irqreturn_t handler(int irq, struct uio_info *info)
{
	struct card *card = info->priv;

	return pci_check_and_mask_intx(card->pdev) ? IRQ_HANDLED : IRQ_NONE;
}

static int unmask(struct uio_info *info, s32 on)
{
	struct card *card = info->priv;

	pci_intx(card->pdev, on);
	return 0;
}

static int notify(struct uio_info *info, s32 on)
{
	if (on)
		uio_event_notify(info);
	return 0;
}

static void forget(struct card *card)
{
	while (card->registered > 0)
		uio_unregister_device(&card->infos[--card->registered]);
	pci_disable_device(card->pdev);
}

static int probe(struct pci_dev *pdev, const struct pci_device_id *id)
{
	struct card *card = devm_kzalloc(&pdev->dev, sizeof(*card), GFP_KERNEL);
	int rc;

	if (!card)
		return -ENOMEM;
	card->pdev = pdev;
	rc = pci_enable_device(pdev);
	if (rc)
		return rc;
	pci_set_drvdata(pdev, card);
	while (card->registered < VECTORS) {
		int i = card->registered;
		struct uio_info *info = &card->infos[i];

		snprintf(card->names[i], sizeof(card->names[i]), "vector%d", i);
		info->name = card->names[i];
		info->version = "1";
		info->priv = card;
		info->mem[0].name = "bar0";
		info->mem[0].addr = pci_resource_start(pdev, 0);
		info->mem[0].size = pci_resource_len(pdev, 0);
		info->mem[0].memtype = UIO_MEM_PHYS;
		info->irq = i == 0 ? (long)pdev->irq : i == VECTORS - 1 ? UIO_IRQ_NONE : UIO_IRQ_CUSTOM;
		info->irq_flags = IRQF_SHARED;
		info->handler = i == 0 ? handler : NULL;
		info->irqcontrol = i == 0 ? unmask : notify;
		rc = uio_register_device(&pdev->dev, info);
		if (rc) {
			dev_err(&pdev->dev, "%s: %d\n", info->name, rc);
			forget(card);
			return rc;
		}
		card->registered++;
	}
	return 0;
}

static void remove(struct pci_dev *pdev)
{
	forget(pci_get_drvdata(pdev));
}

static struct pci_driver luio_vectors = {
	.name = "luio_vectors",
	.probe = probe,
	.remove = remove,
};
module_pci_driver(luio_vectors);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("Several UIO devices of one PCI device, for luio's specs");
