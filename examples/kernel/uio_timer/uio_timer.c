// SPDX-License-Identifier: GPL-2.0
/*
 * uio_timer - a UIO driver with a kernel half: its interrupts leave records
 *
 * The interrupt is a high-resolution timer's. Its handler does here, in the
 * kernel, what cannot wait for a process to be scheduled: it acknowledges,
 * takes the time, puts a record into a ring that user space has mapped, and
 * only then, and only if somebody asked for it, wakes whoever sleeps on
 * /dev/uioX. Behind a wake-up there may be one record or thousands.
 *
 * User space sees three maps, one of each memory type of UIO:
 *
 *   map0 "registers"  UIO_MEM_PHYS     what a device would have in a BAR
 *   map1 "control"    UIO_MEM_LOGICAL  where the ring begins and ends
 *   map2 "ring"       UIO_MEM_VIRTUAL  the records
 *
 * All of it may be written by whoever has it mapped. Nothing that is read
 * from there is used as an address or believed without a limit.
 *
 * README.md explains this file from top to bottom.
 */

#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/dma-mapping.h>
#include <linux/hrtimer.h>
#include <linux/log2.h>
#include <linux/module.h>
#include <linux/platform_device.h>
#include <linux/spinlock.h>
#include <linux/uio_driver.h>
#include <linux/vmalloc.h>
#ifdef CONFIG_X86
#include <asm/set_memory.h>
#endif

#define UIO_TIMER_ID		0x726d6974	/* "timr" */
#define UIO_TIMER_VERSION	1
#define UIO_TIMER_MIN_RECORDS	128		/* one page */
#define UIO_TIMER_MAX_RECORDS	65536
#define UIO_TIMER_LEAST_MIN_NS	1000

static unsigned int period_ns = 1000000;
module_param(period_ns, uint, 0444);
MODULE_PARM_DESC(period_ns, "nanoseconds from interrupt to interrupt, until PERIOD_NS is written (1000000)");

static unsigned int min_period_ns = 10000;
module_param(min_period_ns, uint, 0444);
MODULE_PARM_DESC(min_period_ns, "shortest period that user space may ask for, in nanoseconds (10000)");

static unsigned int records = 4096;
module_param(records, uint, 0444);
MODULE_PARM_DESC(records, "records in the ring, a power of two from 128 to 65536 (4096)");

/* ---- Memory shared with user space --------------------------------------- */

enum uio_timer_notify {
	UIO_TIMER_NOTIFY_EVERY = 0,	/* every interrupt wakes */
	UIO_TIMER_NOTIFY_ASKED = 1,	/* the one that control.wake_at names */
};

/* map0. Each word has one writer: k is the kernel, u is user space. */
struct uio_timer_registers {
	u32 id;			/* k */
	u32 version;		/* k */
	u32 period_ns;		/* u: 0 is off; looked at by each interrupt */
	u32 min_period_ns;	/* k */
	u32 notify;		/* u: enum uio_timer_notify */
	u32 records;		/* k */
	u32 record_size;	/* k: bytes */
	u32 running;		/* k: 1 while there will be interrupts */
};

/*
 * map1. The counters run freely, modulo 2^32. Words that the kernel writes and words that user
 * space writes are 128 bytes apart: a cache line has one writer. */
struct uio_timer_control {
	u32 head;		/* k: records put into the ring */
	u32 dropped;		/* k: interrupts that found no room for theirs */
	u32 missed;		/* k: periods that passed without an interrupt */
	u32 notified;		/* k: wake-ups */
	u32 unused[28];
	u32 tail;		/* u: records taken out of the ring */
	u32 wake_at;		/* u: wake me when head gets here */
};

/* map2, an array. */
struct uio_timer_record {
	u64 number;		/* of the interrupt, from 0; a gap: dropped */
	u64 time_ns;		/* when the handler ran, CLOCK_MONOTONIC */
	u64 due_ns;		/* when the timer was to fire */
	u32 periods;		/* that it stands for: more than 1 when late */
	u32 unused;
};

static_assert(offsetof(struct uio_timer_control, tail) == 128);
static_assert(sizeof(struct uio_timer_record) == 32);

/* ---- The device ---------------------------------------------------------- */

/* The one device, and the page that stands for its registers (see init). */
static struct platform_device *uio_timer_device;
static struct uio_timer_registers *uio_timer_registers;
static dma_addr_t uio_timer_registers_dma;

struct uio_timer {
	struct uio_info info;
	struct hrtimer timer;
	struct uio_timer_registers *registers;
	struct uio_timer_control *control;
	struct uio_timer_record *ring;
	unsigned int users;	/* the UIO core calls open and release by turns */

	/* The handler's alone. Those that user space sees are copies. */
	u64 number;
	u32 head, dropped, missed, notified;

	spinlock_t lock;	/* guards: */
	bool running;
	bool removed;
};

/* The period that user space asks for, within limits: it must not bring the CPU down. */
static u32 uio_timer_period(const struct uio_timer *t)
{
	u32 period = READ_ONCE(t->registers->period_ns);

	return period ? max(period, min_period_ns) : 0;
}

/* ---- The interrupt ------------------------------------------------------- */

/*
 * One producer, one consumer. The record is complete before head says so
 * (release; the reader's acquire), and a record is not written over before
 * tail says that it was read (acquire; the reader's release). Nothing is ever
 * overwritten: where there is no room the record is dropped and counted, and
 * its number is missing from the sequence.
 *
 * tail may be any nonsense. Then the ring seems to be full, or records are
 * overwritten that nobody read: the reader's loss.
 */
static bool uio_timer_put(struct uio_timer *t, const struct uio_timer_record *record)
{
	struct uio_timer_control *control = t->control;

	/* Before the slot is written: pairs with the reader's release of tail. */
	if (t->head - smp_load_acquire(&control->tail) >= records) {
		WRITE_ONCE(control->dropped, ++t->dropped);
		return false;
	}
	t->ring[t->head & (records - 1)] = *record;
	/* After it: pairs with the reader's acquire of head. */
	smp_store_release(&control->head, ++t->head);
	return true;
}

/*
 * Whether the record that was just put in is the one to wake somebody for.
 *
 * A reader that is about to sleep stores wake_at, then loads head once more.
 * The handler stores head, then loads wake_at. With a full barrier between
 * store and load on both sides at least one of them sees what the other
 * stored: the handler, which wakes, or the reader, which does not go to sleep.
 *
 * Equal, not beyond: an old wake_at wakes once, and then never again.
 */
static bool uio_timer_asked(const struct uio_timer *t)
{
	smp_mb(); /* the reader's is between wake_at and head */
	return READ_ONCE(t->control->wake_at) == t->head;
}

/* Interrupt context; under PREEMPT_RT, where UIO's wake-up must not be in it, a softirq's. */
static enum hrtimer_restart uio_timer_interrupt(struct hrtimer *timer)
{
	struct uio_timer *t = container_of(timer, struct uio_timer, timer);
	struct uio_timer_record record = {
		.number = t->number,
		.time_ns = ktime_get_ns(),
		.due_ns = hrtimer_get_expires_ns(timer),
	};
	u32 period = uio_timer_period(t);
	bool there;

	/* A restart of the timer comes after this, with the lock. */
	spin_lock(&t->lock);
	if (!period)
		t->running = false;
	if (!t->running) {
		WRITE_ONCE(t->registers->running, 0);
		spin_unlock(&t->lock);
		return HRTIMER_NORESTART;
	}
	/* This acknowledges: it takes back the reason to interrupt. */
	record.periods = hrtimer_forward(timer, ns_to_ktime(record.time_ns), ns_to_ktime(period));
	spin_unlock(&t->lock);

	t->number++;
	if (record.periods > 1) {
		t->missed += record.periods - 1;
		WRITE_ONCE(t->control->missed, t->missed);
	}
	there = uio_timer_put(t, &record);

	if (READ_ONCE(t->registers->notify) == UIO_TIMER_NOTIFY_ASKED &&
	    !(there && uio_timer_asked(t)))
		return HRTIMER_RESTART;
	WRITE_ONCE(t->control->notified, ++t->notified);
	uio_event_notify(&t->info);
	return HRTIMER_RESTART;
}

/* ---- Started and stopped ------------------------------------------------- */

static int uio_timer_enable(struct uio_timer *t)
{
	unsigned long flags;
	u32 period = uio_timer_period(t);
	int ret = 0;

	spin_lock_irqsave(&t->lock, flags);
	if (t->removed) {
		ret = -ENODEV;
	} else if (period && !t->running) {
		t->running = true;
		WRITE_ONCE(t->registers->running, 1);
		hrtimer_start(&t->timer, ns_to_ktime(period), HRTIMER_MODE_REL);
	}
	spin_unlock_irqrestore(&t->lock, flags);
	return ret;
}

/* When this returns the handler does not run, and will not. */
static void uio_timer_disable(struct uio_timer *t)
{
	unsigned long flags;

	spin_lock_irqsave(&t->lock, flags);
	t->running = false;
	WRITE_ONCE(t->registers->running, 0);
	spin_unlock_irqrestore(&t->lock, flags);
	hrtimer_cancel(&t->timer);
}

/* write() of 1 or 0 to /dev/uioX. The UIO core lets in one at a time. */
static int uio_timer_irqcontrol(struct uio_info *info, s32 on)
{
	struct uio_timer *t = info->priv;

	switch (on) {
	case 0:
		uio_timer_disable(t);
		return 0;
	case 1:
		return uio_timer_enable(t);
	default:
		return -EINVAL;
	}
}

/* As after loading; the records stay. */
static void uio_timer_reset(struct uio_timer *t)
{
	struct uio_timer_registers *r = t->registers;

	WRITE_ONCE(r->id, UIO_TIMER_ID);
	WRITE_ONCE(r->version, UIO_TIMER_VERSION);
	WRITE_ONCE(r->period_ns, period_ns);
	WRITE_ONCE(r->min_period_ns, min_period_ns);
	WRITE_ONCE(r->notify, UIO_TIMER_NOTIFY_EVERY);
	WRITE_ONCE(r->records, records);
	WRITE_ONCE(r->record_size, sizeof(struct uio_timer_record));
}

static int uio_timer_open(struct uio_info *info, struct inode *inode)
{
	struct uio_timer *t = info->priv;

	t->users++;
	return 0;
}

/* Nobody has it open any more, killed or not: nobody could stop it now. */
static int uio_timer_release(struct uio_info *info, struct inode *inode)
{
	struct uio_timer *t = info->priv;

	if (--t->users == 0) {
		uio_timer_disable(t);
		uio_timer_reset(t);
	}
	return 0;
}

/* ---- It comes and goes --------------------------------------------------- */

static void uio_timer_free_ring(void *ring)
{
	vfree(ring);
}

/* Undone first: after it there is neither a handler nor a way to start one. */
static void uio_timer_remove(void *data)
{
	struct uio_timer *t = data;
	unsigned long flags;

	spin_lock_irqsave(&t->lock, flags);
	t->removed = true;
	spin_unlock_irqrestore(&t->lock, flags);
	uio_timer_disable(t);
}

static phys_addr_t uio_timer_phys(void *p)
{
	return page_to_phys(is_vmalloc_addr(p) ? vmalloc_to_page(p) : virt_to_page(p));
}

static void uio_timer_maps(struct uio_timer *t)
{
	struct uio_mem *mem = t->info.mem;

	mem[0].name = "registers";
	mem[0].memtype = UIO_MEM_PHYS;
	mem[0].addr = uio_timer_phys(t->registers);
	mem[0].size = PAGE_SIZE;

	mem[1].name = "control";
	mem[1].memtype = UIO_MEM_LOGICAL;
	mem[1].addr = (phys_addr_t)(uintptr_t)t->control;
	mem[1].size = PAGE_SIZE;

	mem[2].name = "ring";
	mem[2].memtype = UIO_MEM_VIRTUAL;
	mem[2].addr = (phys_addr_t)(uintptr_t)t->ring;
	mem[2].size = PAGE_ALIGN(records * sizeof(*t->ring));
}

static int uio_timer_probe(struct platform_device *pdev)
{
	struct device *dev = &pdev->dev;
	struct uio_timer *t;
	int ret;

	t = devm_kzalloc(dev, sizeof(*t), GFP_KERNEL);
	if (!t)
		return -ENOMEM;
	spin_lock_init(&t->lock);
	hrtimer_init(&t->timer, CLOCK_MONOTONIC, HRTIMER_MODE_REL);
	t->timer.function = uio_timer_interrupt;

	t->registers = uio_timer_registers;
	t->control = (void *)devm_get_free_pages(dev, GFP_KERNEL | __GFP_ZERO, 0);
	if (!t->control)
		return -ENOMEM;
	t->ring = vmalloc_user(records * sizeof(*t->ring));
	if (!t->ring)
		return -ENOMEM;
	ret = devm_add_action_or_reset(dev, uio_timer_free_ring, t->ring);
	if (ret)
		return ret;
	uio_timer_reset(t);

	uio_timer_maps(t);
	t->info.name = KBUILD_MODNAME;
	t->info.version = __stringify(UIO_TIMER_VERSION);
	t->info.irq = UIO_IRQ_CUSTOM;
	t->info.irqcontrol = uio_timer_irqcontrol;
	t->info.open = uio_timer_open;
	t->info.release = uio_timer_release;
	t->info.priv = t;

	ret = devm_uio_register_device(dev, &t->info);
	if (ret)
		return dev_err_probe(dev, ret, "UIO does not take it\n");
	return devm_add_action_or_reset(dev, uio_timer_remove, t);
}

static struct platform_driver uio_timer_driver = {
	.driver = { .name = KBUILD_MODNAME },
	.probe = uio_timer_probe,
};

/* ---- The module ---------------------------------------------------------- */

/*
 * The page of registers belongs to the module, not to the device: what UIO maps
 * by physical address stays mapped when the device goes, and nothing counts
 * who has it. But the UIO core holds the module for as long as anybody has the
 * device open or mapped, so at the module's end nobody has.
 *
 * UIO maps it uncached. Two mappings of a page that differ in that are not to
 * be had on every CPU, so it comes from dma_alloc_coherent, whose pages may be
 * mapped so; on x86 those are cached, and the kernel's own mapping is changed.
 */
static int __init uio_timer_alloc_registers(struct device *dev)
{
	uio_timer_registers = dma_alloc_coherent(dev, PAGE_SIZE, &uio_timer_registers_dma,
						 GFP_KERNEL);
	if (!uio_timer_registers)
		return -ENOMEM;
#ifdef CONFIG_X86
	if (set_memory_uc((unsigned long)uio_timer_registers, 1)) {
		dma_free_coherent(dev, PAGE_SIZE, uio_timer_registers, uio_timer_registers_dma);
		return -ENOMEM;
	}
#endif
	return 0;
}

static void uio_timer_free_registers(struct device *dev)
{
#ifdef CONFIG_X86
	/* Uncached memory is not given back: it would slow down whoever gets it. */
	if (set_memory_wb((unsigned long)uio_timer_registers, 1))
		return;
#endif
	dma_free_coherent(dev, PAGE_SIZE, uio_timer_registers, uio_timer_registers_dma);
}

static int __init uio_timer_init(void)
{
	int ret;

	if (!is_power_of_2(records) || records < UIO_TIMER_MIN_RECORDS ||
	    records > UIO_TIMER_MAX_RECORDS) {
		pr_err("records=%u is not a power of two from %u to %u\n", records,
		       UIO_TIMER_MIN_RECORDS, UIO_TIMER_MAX_RECORDS);
		return -EINVAL;
	}
	if (min_period_ns < UIO_TIMER_LEAST_MIN_NS) {
		pr_err("min_period_ns=%u is less than %u\n", min_period_ns, UIO_TIMER_LEAST_MIN_NS);
		return -EINVAL;
	}

	uio_timer_device = platform_device_register_simple(KBUILD_MODNAME, PLATFORM_DEVID_NONE,
							   NULL, 0);
	if (IS_ERR(uio_timer_device))
		return PTR_ERR(uio_timer_device);
	ret = uio_timer_alloc_registers(&uio_timer_device->dev);
	if (ret)
		goto unregister;
	ret = platform_driver_register(&uio_timer_driver);
	if (ret)
		goto free;
	return 0;

free:
	uio_timer_free_registers(&uio_timer_device->dev);
unregister:
	platform_device_unregister(uio_timer_device);
	return ret;
}
module_init(uio_timer_init);

static void __exit uio_timer_exit(void)
{
	platform_driver_unregister(&uio_timer_driver);
	uio_timer_free_registers(&uio_timer_device->dev);
	platform_device_unregister(uio_timer_device);
}
module_exit(uio_timer_exit);

MODULE_DESCRIPTION("UIO driver with a timer's interrupt and a ring of records");
MODULE_LICENSE("GPL");
