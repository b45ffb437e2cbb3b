// SPDX-License-Identifier: GPL-2.0
/*
 * For tests: MMU notifiers that are under way until a program says that they may end.
 */
#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/mmu_notifier.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/wait.h>

#include "slow_notifier.h"

/* One for each time that the device is opened. */
struct slow_notifier {
	struct mmu_notifier mn;
	/* Held while it begins to listen. */
	struct mutex lock;
	bool listens;
	/* Set before it listens. */
	unsigned long addr;
	/* Woken when one of the next two becomes true. */
	wait_queue_head_t wait;
	bool holds;
	bool let_go;
};

/* The last who began to listen is told first, of an end as well. */
static void hold_end(struct mmu_notifier *mn, const struct mmu_notifier_range *range)
{
	struct slow_notifier *s = container_of(mn, struct slow_notifier, mn);

	if (s->addr < range->start || s->addr >= range->end || !mmu_notifier_range_blockable(range))
		return;

	WRITE_ONCE(s->holds, true);
	wake_up_all(&s->wait);
	/* The device of a program that is killed is not closed before its threads are gone. */
	wait_event_killable(s->wait, READ_ONCE(s->let_go));
}

static const struct mmu_notifier_ops notifier_ops = {
	.invalidate_range_end = hold_end,
};

static int slow_notifier_hold(struct slow_notifier *s, unsigned long addr)
{
	int r = -EBUSY;

	mutex_lock(&s->lock);
	if (!s->listens) {
		s->addr = addr;
		r = mmu_notifier_register(&s->mn, current->mm);
		s->listens = !r;
	}
	mutex_unlock(&s->lock);

	return r;
}

static long slow_notifier_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct slow_notifier *s = file->private_data;

	switch (cmd) {
	case SLOW_NOTIFIER_HOLD:
		return slow_notifier_hold(s, arg);
	case SLOW_NOTIFIER_WAIT:
		return wait_event_killable(s->wait, READ_ONCE(s->holds));
	default:
		return -ENOTTY;
	}
}

static int slow_notifier_open(struct inode *inode, struct file *file)
{
	struct slow_notifier *s;

	s = kzalloc(sizeof(*s), GFP_KERNEL);
	if (!s)
		return -ENOMEM;

	s->mn.ops = &notifier_ops;
	mutex_init(&s->lock);
	init_waitqueue_head(&s->wait);
	file->private_data = s;

	return 0;
}

static int slow_notifier_release(struct inode *inode, struct file *file)
{
	struct slow_notifier *s = file->private_data;

	WRITE_ONCE(s->let_go, true);
	wake_up_all(&s->wait);
	/* Waits for those who are in hold_end(). */
	if (s->listens)
		mmu_notifier_unregister(&s->mn, s->mn.mm);
	kfree(s);

	return 0;
}

static const struct file_operations slow_notifier_fops = {
	.owner = THIS_MODULE,
	.open = slow_notifier_open,
	.release = slow_notifier_release,
	.unlocked_ioctl = slow_notifier_ioctl,
};

static struct miscdevice slow_notifier_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "slow_notifier",
	.fops = &slow_notifier_fops,
};
module_misc_device(slow_notifier_device);

MODULE_DESCRIPTION("MMU notifiers that take as long as a test likes");
MODULE_LICENSE("GPL");
