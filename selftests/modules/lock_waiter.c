// SPDX-License-Identifier: GPL-2.0
/*
 * For tests: somebody who waits for mmu_lock whenever another one has it.
 *
 * Whoever unmaps a range does so when that one is known to wait.  So where the lock is
 * released between two ranges, it is not taken again before the other one had it.
 */
#include <linux/cpumask.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/jiffies.h>
#include <linux/kprobes.h>
#include <linux/kthread.h>
#include <linux/kvm_host.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/sched.h>
#include <linux/uaccess.h>

#include "lock_waiter.h"
#include "vm_file.h"

static DEFINE_MUTEX(start_lock);
/* Set once while the device is open. */
static struct file *vm_file;
static struct task_struct *waiter;
static struct kvm *watched;

/* Protected by mmu_lock. */
static struct lock_waiter_news news;
static u64 in_turn;			/* pages, since the waiter had its last turn */
static u64 flushes_before;		/* that had been asked for when the last range came */
static bool came_late;

static u64 flushes(const struct kvm *kvm)
{
	return kvm->stat.generic.remote_tlb_flush_requests;
}

static int wait_all_the_time(void *data)
{
	struct kvm *kvm = data;

	while (!kthread_should_stop()) {
		write_lock(&kvm->mmu_lock);
		if (in_turn && flushes(kvm) == flushes_before)
			news.unflushed++;
		in_turn = 0;
		write_unlock(&kvm->mmu_lock);
		cond_resched();
	}

	return 0;
}

/* Nobody passes by one who has come this far. */
static bool somebody_waits(struct kvm *kvm)
{
	return atomic_read(&kvm->mmu_lock.raw_lock.cnts) & _QW_WAITING;
}

/* Context: mmu_lock is held for write.  The arguments are kvm_unmap_gfn_range()'s. */
static int begin_to_unmap(struct kprobe *probe, struct pt_regs *regs)
{
	const struct kvm_gfn_range *range = (void *)regs_get_kernel_argument(regs, 1);
	struct kvm *kvm = (void *)regs_get_kernel_argument(regs, 0);
	unsigned long timeout = jiffies + 30 * HZ;

	if (kvm != READ_ONCE(watched))
		return 0;

	in_turn += range->end - range->start;
	news.most = max(news.most, in_turn);
	flushes_before = flushes(kvm);

	while (!somebody_waits(kvm) && !came_late) {
		came_late = time_after(jiffies, timeout);
		cpu_relax();
	}

	return 0;
}

static struct kprobe unmap_probe = {
	.symbol_name = "kvm:kvm_unmap_gfn_range",
	.pre_handler = begin_to_unmap,
};

static int start(struct file *file)
{
	struct kvm *kvm = file->private_data;
	struct task_struct *task;
	unsigned int cpu;

	cpu = cpumask_any_but(cpu_online_mask, raw_smp_processor_id());
	if (cpu >= nr_cpu_ids)
		return -ENODEV;

	task = kthread_create(wait_all_the_time, kvm, "lock_waiter");
	if (IS_ERR(task))
		return PTR_ERR(task);
	kthread_bind(task, cpu);

	news = (struct lock_waiter_news) {};
	in_turn = 0;
	came_late = false;
	waiter = task;
	vm_file = get_file(file);
	WRITE_ONCE(watched, kvm);
	wake_up_process(task);

	return 0;
}

static int start_for(int fd)
{
	struct file *file = fget(fd);
	int r = -EINVAL;

	if (!file)
		return -EBADF;

	mutex_lock(&start_lock);
	if (file_is_vm(file) && !vm_file)
		r = start(file);
	mutex_unlock(&start_lock);
	fput(file);

	return r;
}

static int tell_news(void __user *to)
{
	struct kvm *kvm = READ_ONCE(watched);
	struct lock_waiter_news now;
	bool late;

	if (!kvm)
		return -EINVAL;

	write_lock(&kvm->mmu_lock);
	now = news;
	late = came_late;
	write_unlock(&kvm->mmu_lock);

	if (late)
		return -ETIME;

	return copy_to_user(to, &now, sizeof(now)) ? -EFAULT : 0;
}

static long lock_waiter_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	switch (cmd) {
	case LOCK_WAITER_START:
		return start_for(arg);
	case LOCK_WAITER_NEWS:
		return tell_news((void __user *)arg);
	default:
		return -ENOTTY;
	}
}

static unsigned long is_open;

static int lock_waiter_open(struct inode *inode, struct file *file)
{
	return test_and_set_bit(0, &is_open) ? -EBUSY : 0;
}

static int lock_waiter_release(struct inode *inode, struct file *file)
{
	if (watched) {
		/* Who unmaps something now has a reference to the VM, and waits for nobody. */
		WRITE_ONCE(watched, NULL);
		kthread_stop(waiter);
		fput(vm_file);
		vm_file = NULL;
	}
	clear_bit_unlock(0, &is_open);

	return 0;
}

static const struct file_operations lock_waiter_fops = {
	.owner = THIS_MODULE,
	.open = lock_waiter_open,
	.release = lock_waiter_release,
	.unlocked_ioctl = lock_waiter_ioctl,
};

static struct miscdevice lock_waiter_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "lock_waiter",
	.fops = &lock_waiter_fops,
};

static int __init lock_waiter_init(void)
{
	int r;

	r = register_kprobe(&unmap_probe);
	if (r)
		return r;

	r = misc_register(&lock_waiter_device);
	if (r)
		unregister_kprobe(&unmap_probe);

	return r;
}
module_init(lock_waiter_init);

static void __exit lock_waiter_exit(void)
{
	misc_deregister(&lock_waiter_device);
	unregister_kprobe(&unmap_probe);
}
module_exit(lock_waiter_exit);

MODULE_DESCRIPTION("Somebody who waits for mmu_lock whenever another one has it");
MODULE_LICENSE("GPL");
