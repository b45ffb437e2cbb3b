// SPDX-License-Identifier: GPL-2.0
/*
 * For tests: external page-write trackers, as KVMGT is one, at a program's command.
 */
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/kvm_host.h>
#include <linux/miscdevice.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/srcu.h>
#include <linux/uaccess.h>

#include <asm/kvm_page_track.h>

#include "page_tracker.h"
#include "vm_file.h"

/* A tracker; there is one for each time that the device is opened. */
struct page_tracker {
	/* What KVM knows of it. */
	struct kvm_page_track_notifier_node node;
	/* Held where the next two change. */
	struct mutex lock;
	/* The VM; set once, and referred to. */
	struct kvm *kvm;
	bool attached;
	/* Held around the news. */
	spinlock_t news_lock;
	struct page_tracker_news news;
};

static void note_write(struct kvm_page_track_notifier_node *node, gpa_t gpa,
		       const u8 *data, int len)
{
	struct page_tracker *t = container_of(node, struct page_tracker, node);

	spin_lock(&t->news_lock);
	t->news.nr_writes++;
	t->news.gpa = gpa;
	t->news.len = len;
	t->news.data = 0;
	memcpy(&t->news.data, data, min_t(size_t, len, sizeof(t->news.data)));
	spin_unlock(&t->news_lock);
}

static void note_removal(struct kvm_page_track_notifier_node *node, gfn_t gfn,
			 unsigned long nr_pages)
{
	struct page_tracker *t = container_of(node, struct page_tracker, node);

	spin_lock(&t->news_lock);
	t->news.nr_removals++;
	t->news.gfn = gfn;
	t->news.nr_pages = nr_pages;
	spin_unlock(&t->news_lock);
}

/* What differs between the host kernels. */
#ifdef KVM_HAS_GFN_TRACK

static void track_write(struct kvm_vcpu *vcpu, gpa_t gpa, const u8 *data, int len,
			struct kvm_page_track_notifier_node *node)
{
	note_write(node, gpa, data, len);
}

static void track_flush_slot(struct kvm *kvm, struct kvm_memory_slot *slot,
			     struct kvm_page_track_notifier_node *node)
{
	note_removal(node, slot->base_gfn, slot->npages);
}

static void init_node(struct kvm_page_track_notifier_node *node)
{
	node->track_write = track_write;
	node->track_flush_slot = track_flush_slot;
}

static int attach(struct kvm *kvm, struct kvm_page_track_notifier_node *node)
{
	kvm_page_track_register_notifier(kvm, node);
	return 0;
}

static int track_gfn(struct kvm *kvm, gfn_t gfn, bool add)
{
	struct kvm_memory_slot *slot;
	int idx;

	idx = srcu_read_lock(&kvm->srcu);
	slot = gfn_to_memslot(kvm, gfn);
	if (slot) {
		write_lock(&kvm->mmu_lock);
		if (add)
			kvm_slot_page_track_add_page(kvm, slot, gfn,
						     KVM_PAGE_TRACK_WRITE);
		else
			kvm_slot_page_track_remove_page(kvm, slot, gfn,
							KVM_PAGE_TRACK_WRITE);
		write_unlock(&kvm->mmu_lock);
	}
	srcu_read_unlock(&kvm->srcu, idx);
	return slot ? 0 : -EINVAL;
}

#else

static void track_write(gpa_t gpa, const u8 *data, int len,
			struct kvm_page_track_notifier_node *node)
{
	note_write(node, gpa, data, len);
}

static void track_remove_region(gfn_t gfn, unsigned long nr_pages,
				struct kvm_page_track_notifier_node *node)
{
	note_removal(node, gfn, nr_pages);
}

static void init_node(struct kvm_page_track_notifier_node *node)
{
	node->track_write = track_write;
	node->track_remove_region = track_remove_region;
}

static int attach(struct kvm *kvm, struct kvm_page_track_notifier_node *node)
{
	int idx = 0, r;

	/*
	 * The first time, KVM goes through the slots under slots_arch_lock. That keeps
	 * them as they are, but lockdep has not been told.
	 */
	if (IS_ENABLED(CONFIG_PROVE_RCU))
		idx = srcu_read_lock(&kvm->srcu);
	r = kvm_page_track_register_notifier(kvm, node);
	if (IS_ENABLED(CONFIG_PROVE_RCU))
		srcu_read_unlock(&kvm->srcu, idx);

	return r;
}

static int track_gfn(struct kvm *kvm, gfn_t gfn, bool add)
{
	return add ? kvm_write_track_add_gfn(kvm, gfn) :
		     kvm_write_track_remove_gfn(kvm, gfn);
}

#endif

static int tracker_set_vm(struct page_tracker *t, int fd)
{
	struct file *file;
	int r = -EINVAL;

	file = fget(fd);
	if (!file)
		return -EBADF;

	mutex_lock(&t->lock);
	if (!t->kvm && file_is_vm(file)) {
		kvm_get_kvm(file->private_data);
		/* Others ask for it without the lock. */
		smp_store_release(&t->kvm, file->private_data);
		r = 0;
	}
	mutex_unlock(&t->lock);
	fput(file);

	return r;
}

static int tracker_attach(struct page_tracker *t)
{
	int r = -EBUSY;

	mutex_lock(&t->lock);
	if (!t->attached) {
		r = attach(t->kvm, &t->node);
		t->attached = !r;
	}
	mutex_unlock(&t->lock);

	return r;
}

static int tracker_detach(struct page_tracker *t)
{
	int r = -ENOENT;

	mutex_lock(&t->lock);
	if (t->attached) {
		kvm_page_track_unregister_notifier(t->kvm, &t->node);
		t->attached = false;
		r = 0;
	}
	mutex_unlock(&t->lock);

	return r;
}

static int tracker_tell(struct page_tracker *t, void __user *to)
{
	struct page_tracker_news news;

	spin_lock(&t->news_lock);
	news = t->news;
	spin_unlock(&t->news_lock);

	return copy_to_user(to, &news, sizeof(news)) ? -EFAULT : 0;
}

static long tracker_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct page_tracker *t = file->private_data;
	struct kvm *kvm = smp_load_acquire(&t->kvm);	/* see tracker_set_vm() */

	if (cmd == PAGE_TRACKER_VM)
		return tracker_set_vm(t, arg);
	if (!kvm)
		return -EINVAL;

	switch (cmd) {
	case PAGE_TRACKER_ATTACH:
		return tracker_attach(t);
	case PAGE_TRACKER_DETACH:
		return tracker_detach(t);
	case PAGE_TRACKER_ADD:
	case PAGE_TRACKER_REMOVE:
		return track_gfn(kvm, arg, cmd == PAGE_TRACKER_ADD);
	case PAGE_TRACKER_NEWS:
		return tracker_tell(t, (void __user *)arg);
	default:
		return -ENOTTY;
	}
}

static int tracker_open(struct inode *inode, struct file *file)
{
	struct page_tracker *t;

	t = kzalloc(sizeof(*t), GFP_KERNEL);
	if (!t)
		return -ENOMEM;

	init_node(&t->node);
	mutex_init(&t->lock);
	spin_lock_init(&t->news_lock);
	file->private_data = t;

	return 0;
}

static int tracker_release(struct inode *inode, struct file *file)
{
	struct page_tracker *t = file->private_data;

	if (t->kvm) {
		tracker_detach(t);
		kvm_put_kvm(t->kvm);
	}
	kfree(t);

	return 0;
}

static const struct file_operations tracker_fops = {
	.owner = THIS_MODULE,
	.open = tracker_open,
	.release = tracker_release,
	.unlocked_ioctl = tracker_ioctl,
};

static struct miscdevice tracker_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "page_tracker",
	.fops = &tracker_fops,
};
module_misc_device(tracker_device);

MODULE_DESCRIPTION("Page-write trackers of KVM's at a test's command");
MODULE_LICENSE("GPL");
