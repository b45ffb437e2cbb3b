// SPDX-License-Identifier: GPL-2.0
/*
 * The KVM device through which a VM is told what to do.  It has no state of its
 * own; what is counted is counted per VM.
 */
#include <linux/ktime.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/nospec.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/string.h>
#include <linux/uaccess.h>

#include "check.h"
#include "device.h"
#include "ops.h"
#include "pinned.h"
#include "wrapper/kvm.h"

#define CREATE_TRACE_POINTS
#include "trace.h"

/**
 * struct memslot_vm - a VM that has at least one device
 * @node: in memslot_vms
 * @kvm: the VM
 * @devices: its open devices, oldest first; protected by memslot_vms_mutex
 * @stats_lock: held where @stats are read together, or change
 * @stats: KVM_MEMSLOT_STAT_*, since the VM last had no device
 */
struct memslot_vm {
	struct list_head node;
	struct kvm *kvm;
	struct list_head devices;
	spinlock_t stats_lock;	/* for @stats */
	u64 stats[KVM_MEMSLOT_STAT_FAILED + 1];
};

/**
 * struct memslot_device - an open device
 * @node: in memslot_vm.devices
 * @vm: its VM
 * @stats_before: memslot_vm.stats when it was made
 */
struct memslot_device {
	struct list_head node;
	struct memslot_vm *vm;
	u64 stats_before[KVM_MEMSLOT_STAT_FAILED + 1];
};

static LIST_HEAD(memslot_vms);	/* protected by memslot_vms_mutex */
static DEFINE_MUTEX(memslot_vms_mutex);

static struct memslot_vm *memslot_vm_find(struct kvm *kvm)
{
	struct memslot_vm *vm;

	list_for_each_entry(vm, &memslot_vms, node) {
		if (vm->kvm == kvm)
			return vm;
	}

	return NULL;
}

static int memslot_device_create(struct kvm_device *dev, u32 type)
{
	struct memslot_device *device;
	struct memslot_vm *vm, *spare;
	int r;

	r = check_structures(dev->kvm);
	if (r)
		return r;

	/* Allocated before the mutex is taken, which all VMs share. */
	device = kzalloc(sizeof(*device), GFP_KERNEL_ACCOUNT);
	spare = kzalloc(sizeof(*spare), GFP_KERNEL_ACCOUNT);
	if (!device || !spare) {
		kfree(spare);
		kfree(device);
		return -ENOMEM;
	}

	mutex_lock(&memslot_vms_mutex);

	vm = memslot_vm_find(dev->kvm);
	if (!vm) {
		vm = spare;
		spare = NULL;
		vm->kvm = dev->kvm;
		INIT_LIST_HEAD(&vm->devices);
		spin_lock_init(&vm->stats_lock);
		list_add(&vm->node, &memslot_vms);
	}

	device->vm = vm;
	spin_lock(&vm->stats_lock);
	memcpy(device->stats_before, vm->stats, sizeof(vm->stats));
	spin_unlock(&vm->stats_lock);
	list_add_tail(&device->node, &vm->devices);

	mutex_unlock(&memslot_vms_mutex);

	kfree(spare);
	dev->private = device;

	return 0;
}

static void memslot_device_release(struct kvm_device *dev)
{
	struct memslot_device *device = dev->private;
	struct memslot_vm *vm = device->vm;

	mutex_lock(&memslot_vms_mutex);
	list_del(&device->node);
	if (list_empty(&vm->devices)) {
		list_del(&vm->node);
		kfree(vm);
	}
	mutex_unlock(&memslot_vms_mutex);

	kfree(device);
	kfree(dev);
}

static int get_op(u64 attr, u64 *value)
{
	if (attr > KVM_MEMSLOT_OP_SET_READONLY)
		return -ENXIO;

	*value = 1;

	return 0;
}

static int get_info(u64 attr, u64 *value)
{
	switch (attr) {
	case KVM_MEMSLOT_INFO_VERSION:
		*value = 1;
		return 0;
	case KVM_MEMSLOT_INFO_MAX_PIECES:
		*value = MEMSLOT_OPS_MAX_PIECES;
		return 0;
	case KVM_MEMSLOT_INFO_FEATURES:
		*value = KVM_MEMSLOT_FEATURE_DIRTY_BITMAP |
			 KVM_MEMSLOT_FEATURE_DIRTY_RING |
			 KVM_MEMSLOT_FEATURE_SHADOW_PAGING;
		return 0;
	default:
		return -ENXIO;
	}
}

/* Since the oldest device that is open was made. */
static int get_stat(struct memslot_vm *vm, u64 attr, u64 *value)
{
	struct memslot_device *oldest;

	if (attr >= ARRAY_SIZE(vm->stats))
		return -ENXIO;
	attr = array_index_nospec(attr, ARRAY_SIZE(vm->stats));

	mutex_lock(&memslot_vms_mutex);
	oldest = list_first_entry(&vm->devices, struct memslot_device, node);
	spin_lock(&vm->stats_lock);
	*value = vm->stats[attr] - oldest->stats_before[attr];
	spin_unlock(&vm->stats_lock);
	mutex_unlock(&memslot_vms_mutex);

	return 0;
}

static int get_value(struct kvm_device *dev, const struct kvm_device_attr *attr, u64 *value)
{
	struct memslot_device *device = dev->private;

	if (attr->flags)
		return -ENXIO;

	switch (attr->group) {
	case KVM_DEV_MEMSLOT_OPS_GRP_OP:
		return get_op(attr->attr, value);
	case KVM_DEV_MEMSLOT_OPS_GRP_INFO:
		return get_info(attr->attr, value);
	case KVM_DEV_MEMSLOT_OPS_GRP_STAT:
		return get_stat(device->vm, attr->attr, value);
	default:
		return -ENXIO;
	}
}

static int memslot_device_has_attr(struct kvm_device *dev, struct kvm_device_attr *attr)
{
	u64 value;

	return get_value(dev, attr, &value);
}

static int memslot_device_get_attr(struct kvm_device *dev, struct kvm_device_attr *attr)
{
	u64 value;
	int r;

	r = get_value(dev, attr, &value);
	if (r)
		return r;

	return put_user(value, (u64 __user *)u64_to_user_ptr(attr->addr));
}

/* The part of an operation's argument that is always there. */
union memslot_op_head {
	__u32 slot;	/* the first member of all */
	struct kvm_memslot_grow grow;
	struct kvm_memslot_shrink shrink;
	struct kvm_memslot_split split;
	struct kvm_memslot_merge merge;
	struct kvm_memslot_set_readonly set_readonly;
};

/* Copy an argument of @size bytes, and the array of @nr elements that follows it. */
static void *copy_args(const void __user *argp, const union memslot_op_head *head,
		       size_t size, u32 nr, size_t element)
{
	void *args;

	if (nr >= MEMSLOT_OPS_MAX_PIECES)
		return ERR_PTR(-E2BIG);

	args = kmalloc(size + nr * element, GFP_KERNEL_ACCOUNT);
	if (!args)
		return ERR_PTR(-ENOMEM);

	memcpy(args, head, size);
	if (copy_from_user(args + size, argp + size, nr * element)) {
		kfree(args);
		return ERR_PTR(-EFAULT);
	}

	return args;
}

/* What SHRINK writes to is not known, and held, before it has been called once. */
static int shrink(struct kvm *kvm, const struct kvm_memslot_shrink *args)
{
	struct pinned_buffer bits = {};
	size_t wanted;
	int r;

	for (;;) {
		r = mutex_lock_killable(&kvm->slots_lock);
		if (r)
			break;
		r = memslot_shrink(kvm, args, &bits, &wanted);
		mutex_unlock(&kvm->slots_lock);
		if (r != -EAGAIN)
			break;

		/*
		 * The fault that brings a page may last for long, so nobody shall wait for it.
		 * Who makes the slot larger meanwhile makes this begin again.
		 */
		pinned_buffer_put(&bits);
		r = pinned_buffer_get(&bits, args->dirty_bitmap, wanted);
		if (r)
			break;
	}
	pinned_buffer_put(&bits);

	return r;
}

static int memslot_op(struct kvm *kvm, u32 op, const void __user *argp,
		      const union memslot_op_head *head)
{
	void *args = NULL;
	int r;

	if (op == KVM_MEMSLOT_OP_SHRINK)
		return shrink(kvm, &head->shrink);

	if (op == KVM_MEMSLOT_OP_SPLIT)
		args = copy_args(argp, head, sizeof(head->split), head->split.nr_cuts,
				 sizeof(*head->split.cuts));
	if (op == KVM_MEMSLOT_OP_MERGE)
		args = copy_args(argp, head, sizeof(head->merge), head->merge.nr_slots,
				 sizeof(*head->merge.slots));
	if (IS_ERR(args))
		return PTR_ERR(args);

	r = mutex_lock_killable(&kvm->slots_lock);
	if (r)
		goto out;

	switch (op) {
	case KVM_MEMSLOT_OP_GROW:
		r = memslot_grow(kvm, &head->grow);
		break;
	case KVM_MEMSLOT_OP_SPLIT:
		r = memslot_split(kvm, args);
		break;
	case KVM_MEMSLOT_OP_MERGE:
		r = memslot_merge(kvm, args);
		break;
	case KVM_MEMSLOT_OP_SET_READONLY:
		r = memslot_set_readonly(kvm, &head->set_readonly);
		break;
	}

	mutex_unlock(&kvm->slots_lock);
out:
	kfree(args);

	return r;
}

/* @r is what an operation returned, see ops.h. */
static void memslot_vm_count(struct memslot_vm *vm, int r)
{
	spin_lock(&vm->stats_lock);
	if (r < 0)
		vm->stats[KVM_MEMSLOT_STAT_FAILED]++;
	if (r > 0) {
		vm->stats[KVM_MEMSLOT_STAT_OPS]++;
		vm->stats[KVM_MEMSLOT_STAT_SWAPS] += r;
	}
	spin_unlock(&vm->stats_lock);
}

static int memslot_op_of(unsigned int ioctl)
{
	switch (ioctl) {
	case KVM_MEMSLOT_GROW:
		return KVM_MEMSLOT_OP_GROW;
	case KVM_MEMSLOT_SHRINK:
		return KVM_MEMSLOT_OP_SHRINK;
	case KVM_MEMSLOT_SPLIT:
		return KVM_MEMSLOT_OP_SPLIT;
	case KVM_MEMSLOT_MERGE:
		return KVM_MEMSLOT_OP_MERGE;
	case KVM_MEMSLOT_SET_READONLY:
		return KVM_MEMSLOT_OP_SET_READONLY;
	default:
		return -ENOTTY;
	}
}

static long memslot_device_ioctl(struct kvm_device *dev, unsigned int ioctl, unsigned long arg)
{
	const void __user *argp = (const void __user *)arg;
	struct memslot_device *device = dev->private;
	ktime_t start = ktime_get();
	union memslot_op_head head;
	int op, r;

	op = memslot_op_of(ioctl);
	if (op < 0)
		return op;

	if (copy_from_user(&head, argp, _IOC_SIZE(ioctl))) {
		memslot_vm_count(device->vm, -EFAULT);
		return -EFAULT;
	}

	trace_memslot_op_begin(dev->kvm, op, head.slot);
	r = memslot_op(dev->kvm, op, argp, &head);
	trace_memslot_op_end(dev->kvm, op, head.slot, min(r, 0),
			     ktime_to_ns(ktime_sub(ktime_get(), start)));

	memslot_vm_count(device->vm, r);

	return min(r, 0);
}

static const struct kvm_device_ops memslot_device_ops = {
	.name = "kvm-memslot-ops",
	.create = memslot_device_create,
	.release = memslot_device_release,
	.has_attr = memslot_device_has_attr,
	.get_attr = memslot_device_get_attr,
	.ioctl = memslot_device_ioctl,
};

/**
 * memslot_device_register() - let VMs create memslot-operations devices
 * @type: number of the device type
 *
 * Context: Who calls it sees to it that the module stays, see vendor.c.
 * Return: 0, -ENOSPC for a number that KVM has no room for, or -EEXIST for one
 *	that is taken, or will be.
 */
int memslot_device_register(u32 type)
{
	/* KVM registers it when a vendor module loads, which would fail then. */
	if (type == KVM_DEV_TYPE_VFIO)
		return -EEXIST;

	return kvm_call(kvm_register_device_ops)(&memslot_device_ops, type);
}

/**
 * memslot_device_unregister() - undo memslot_device_register()
 * @type: number of the device type
 *
 * Context: There is no VM.
 */
void memslot_device_unregister(u32 type)
{
	kvm_call(kvm_unregister_device_ops)(type);
}
