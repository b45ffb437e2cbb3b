// SPDX-License-Identifier: GPL-2.0
/*
 * For tests: a thread that stands at a place inside KVM until a program lets it go on.
 *
 * When it calls a certain function there, a kprobe has it call one of this file instead,
 * which sleeps, and does what the other one would have done.
 */
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/kprobes.h>
#include <linux/kref.h>
#include <linux/kvm_host.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/rculist.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/static_call.h>
#include <linux/uaccess.h>
#include <linux/wait.h>

#include "held_thread.h"
#include "vm_file.h"

/* A function, and what those who are to be held call in its place. */
struct place {
	struct kprobe probe;
	void *instead;
};

/* One for each time that the device is opened. */
struct hold {
	/* The device's, and the thread's for as long as it stands. */
	struct kref ref;
	struct rcu_head rcu;
	/* In the list until the thread comes to the place. */
	struct hlist_node link;
	/* Set once, before it is in the list. */
	const struct place *place;
	pid_t tid;
	/* Woken when one of the next two becomes true. */
	wait_queue_head_t wait;
	bool holds;
	bool let_go;
};

static HLIST_HEAD(holds);
static DEFINE_SPINLOCK(holds_lock);

/* Context: preemption is disabled. */
static struct hold *hold_of_current(const struct place *place)
{
	struct hold *h;

	hlist_for_each_entry_rcu(h, &holds, link) {
		if (h->tid == current->pid && h->place == place)
			return h;
	}

	return NULL;
}

static int hold(struct hold *h, pid_t tid, const struct place *place)
{
	int r = -EBUSY;

	spin_lock(&holds_lock);
	if (!h->place && !h->let_go) {
		h->place = place;
		h->tid = tid;
		hlist_add_head_rcu(&h->link, &holds);
		r = 0;
	}
	spin_unlock(&holds_lock);

	return r;
}

static void let_go(struct hold *h)
{
	spin_lock(&holds_lock);
	hlist_del_init_rcu(&h->link);
	WRITE_ONCE(h->let_go, true);
	spin_unlock(&holds_lock);
	wake_up_all(&h->wait);
}

static void free_hold(struct kref *ref)
{
	struct hold *h = container_of(ref, struct hold, ref);

	kfree_rcu(h, rcu);
}

/* Once only: the thread calls the function again, and is not diverted. */
static void stand(const struct place *place)
{
	struct hold *h;

	spin_lock(&holds_lock);
	h = hold_of_current(place);
	if (h) {
		hlist_del_init_rcu(&h->link);
		kref_get(&h->ref);
	}
	spin_unlock(&holds_lock);
	if (!h)
		return;

	WRITE_ONCE(h->holds, true);
	wake_up_all(&h->wait);
	/* The device of a program that is killed is not closed before its threads are gone. */
	wait_event_killable(h->wait, READ_ONCE(h->let_go));
	kref_put(&h->ref, free_hold);
}

static int divert(struct kprobe *probe, struct pt_regs *regs)
{
	const struct place *place = container_of(probe, struct place, probe);

	if (!hold_of_current(place))
		return 0;

	instruction_pointer_set(regs, (unsigned long)place->instead);
	return 1;
}

/* Without one, a probe may not say where the call goes. */
static void after_call(struct kprobe *probe, struct pt_regs *regs, unsigned long flags)
{
}

/* ------------------------------------------------------- in a page fault */

static int topup_late(struct kvm_mmu_memory_cache *mc, int min);

DEFINE_STATIC_CALL_NULL(held_thread_topup, topup_late);

/* Faults call it after they have looked the slot up, and before all that follows. */
static struct place in_fault = {
	.probe = {
		.symbol_name = "kvm:kvm_mmu_topup_memory_cache",
		.pre_handler = divert,
		.post_handler = after_call,
	},
	.instead = topup_late,
};

static int topup_late(struct kvm_mmu_memory_cache *mc, int min)
{
	stand(&in_fault);
	return static_call(held_thread_topup)(mc, min);
}

/* ------------------------------------------------------- half-way through a zap */

static int yield_long(rwlock_t *lock);

static struct place in_yield = {
	.probe = {
		.symbol_name = "__cond_resched_rwlock_write",
		.pre_handler = divert,
		.post_handler = after_call,
	},
	.instead = yield_long,
};

static int yield_long(rwlock_t *lock)
	__must_hold(lock)
{
	write_unlock(lock);
	stand(&in_yield);
	write_lock(lock);

	return 1;
}

/* Called as soon as mmu_lock is held. Else nobody might want the thread to yield it. */
static int want_yield(struct kprobe *probe, struct pt_regs *regs)
{
	if (hold_of_current(&in_yield))
		set_tsk_need_resched(current);

	return 0;
}

static struct kprobe zap_begins = {
#ifdef KVM_HAS_INVALIDATE_BEGIN
	.symbol_name = "kvm:kvm_mmu_invalidate_begin",
#else
	.symbol_name = "kvm:kvm_mmu_invalidate_start",
#endif
	.pre_handler = want_yield,
};

DEFINE_STATIC_CALL_NULL(held_thread_zap, void (struct kvm *, gfn_t, gfn_t));

/* This one just tells where the function is. */
static struct kprobe zap_function = {
	.symbol_name = "kvm:kvm_zap_gfn_range",
	.flags = KPROBE_FLAG_DISABLED,
};

static int zap_range(struct hold *h, const struct held_thread_zap *zap)
{
	struct file *file;
	int r = -EINVAL;

	file = fget(zap->vm);
	if (!file)
		return -EBADF;

	if (file_is_vm(file) && zap->start < zap->end)
		r = hold(h, current->pid, &in_yield);
	if (!r) {
		static_call(held_thread_zap)(file->private_data, zap->start, zap->end);
		r = READ_ONCE(h->holds) ? 0 : -ENODATA;
	}
	fput(file);

	return r;
}

/* ------------------------------------------------------- the device */

static long held_thread_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct hold *h = file->private_data;
	struct held_thread_zap zap;

	switch (cmd) {
	case HELD_THREAD_FAULT:
		return hold(h, arg, &in_fault);
	case HELD_THREAD_ZAP:
		if (copy_from_user(&zap, (void __user *)arg, sizeof(zap)))
			return -EFAULT;
		return zap_range(h, &zap);
	case HELD_THREAD_WAIT:
		return wait_event_killable(h->wait, READ_ONCE(h->holds));
	default:
		return -ENOTTY;
	}
}

static int held_thread_open(struct inode *inode, struct file *file)
{
	struct hold *h;

	h = kzalloc(sizeof(*h), GFP_KERNEL);
	if (!h)
		return -ENOMEM;

	kref_init(&h->ref);
	init_waitqueue_head(&h->wait);
	file->private_data = h;

	return 0;
}

/* At close(), not when the file goes: who zaps is in the middle of an ioctl of it. */
static int held_thread_flush(struct file *file, fl_owner_t id)
{
	let_go(file->private_data);
	return 0;
}

static int held_thread_release(struct inode *inode, struct file *file)
{
	struct hold *h = file->private_data;

	kref_put(&h->ref, free_hold);
	return 0;
}

static const struct file_operations held_thread_fops = {
	.owner = THIS_MODULE,
	.open = held_thread_open,
	.flush = held_thread_flush,
	.release = held_thread_release,
	.unlocked_ioctl = held_thread_ioctl,
};

static struct miscdevice held_thread_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "held_thread",
	.fops = &held_thread_fops,
};

static struct kprobe *probes[] = {
	&in_fault.probe,
	&in_yield.probe,
	&zap_begins,
	&zap_function,
};

static int __init held_thread_init(void)
{
	int r;

	r = register_kprobes(probes, ARRAY_SIZE(probes));
	if (r)
		return r;

	static_call_update(held_thread_topup, (void *)in_fault.probe.addr);
	static_call_update(held_thread_zap, (void *)zap_function.addr);

	r = misc_register(&held_thread_device);
	if (r)
		unregister_kprobes(probes, ARRAY_SIZE(probes));

	return r;
}
module_init(held_thread_init);
/* It stays: nothing would tell when the last thread has left topup_late() or yield_long(). */

MODULE_DESCRIPTION("Threads that stand inside KVM for as long as a test likes");
MODULE_LICENSE("GPL");
