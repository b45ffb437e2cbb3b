// SPDX-License-Identifier: GPL-2.0
/*
 * The KVM device through which a VM is told what to do.  It has no state of its
 * own; what is counted is counted per VM.
 */
#include <linux/ktime.h>
#include <linux/list.h>
#include <linux/mutex.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "device.h"
#include "ops.h"
#include "wrapper/kvm.h"

#define CREATE_TRACE_POINTS
#include "trace.h"

/**
 * struct memslot_vm - a VM that has at least one device
 * @node: in memslot_vms
 * @kvm: the VM
 * @nr_devices: its open devices; protected by memslot_vms_mutex
 * @stats: KVM_MEMSLOT_STAT_*
 */
struct memslot_vm {
	struct list_head node;
	struct kvm *kvm;
	unsigned int nr_devices;
	atomic64_t stats[KVM_MEMSLOT_STAT_FAILED + 1];
};

static LIST_HEAD(memslot_vms);	/* protected by memslot_vms_mutex */
static DEFINE_MUTEX(memslot_vms_mutex);

static struct memslot_vm *memslot_vm_get(struct kvm *kvm)
{
	struct memslot_vm *vm;

	mutex_lock(&memslot_vms_mutex);

	list_for_each_entry(vm, &memslot_vms, node) {
		if (vm->kvm == kvm)
			goto out;
	}

	vm = kzalloc(sizeof(*vm), GFP_KERNEL_ACCOUNT);
	if (!vm)
		goto out_unlock;
	vm->kvm = kvm;
	list_add(&vm->node, &memslot_vms);
out:
	vm->nr_devices++;
out_unlock:
	mutex_unlock(&memslot_vms_mutex);

	return vm;
}

static void memslot_vm_put(struct memslot_vm *vm)
{
	mutex_lock(&memslot_vms_mutex);
	if (!--vm->nr_devices) {
		list_del(&vm->node);
		kfree(vm);
	}
	mutex_unlock(&memslot_vms_mutex);
}

static int memslot_device_create(struct kvm_device *dev, u32 type)
{
	dev->private = memslot_vm_get(dev->kvm);

	return dev->private ? 0 : -ENOMEM;
}

static void memslot_device_release(struct kvm_device *dev)
{
	memslot_vm_put(dev->private);
	kfree(dev);
}

static int get_op(u64 attr, u64 *value)
{
	switch (attr) {
	case KVM_MEMSLOT_OP_GROW:
		*value = 1;
		return 0;
	default:
		return -ENXIO;
	}
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
		*value = 0;
		return 0;
	default:
		return -ENXIO;
	}
}

static int get_stat(struct memslot_vm *vm, u64 attr, u64 *value)
{
	if (attr >= ARRAY_SIZE(vm->stats))
		return -ENXIO;

	*value = atomic64_read(&vm->stats[attr]);

	return 0;
}

static int get_value(struct kvm_device *dev, const struct kvm_device_attr *attr, u64 *value)
{
	if (attr->flags)
		return -ENXIO;

	switch (attr->group) {
	case KVM_DEV_MEMSLOT_OPS_GRP_OP:
		return get_op(attr->attr, value);
	case KVM_DEV_MEMSLOT_OPS_GRP_INFO:
		return get_info(attr->attr, value);
	case KVM_DEV_MEMSLOT_OPS_GRP_STAT:
		return get_stat(dev->private, attr->attr, value);
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

static int do_grow(struct kvm *kvm, const void __user *argp)
{
	struct kvm_memslot_grow args;
	ktime_t start = ktime_get();
	int r;

	if (copy_from_user(&args, argp, sizeof(args)))
		return -EFAULT;

	trace_memslot_op_begin(kvm, KVM_MEMSLOT_OP_GROW, args.slot);

	r = -EINTR;
	if (!mutex_lock_killable(&kvm->slots_lock)) {
		r = memslot_grow(kvm, &args);
		mutex_unlock(&kvm->slots_lock);
	}

	trace_memslot_op_end(kvm, KVM_MEMSLOT_OP_GROW, args.slot, r,
			     ktime_to_ns(ktime_sub(ktime_get(), start)));

	return r;
}

static long memslot_device_ioctl(struct kvm_device *dev, unsigned int ioctl, unsigned long arg)
{
	struct memslot_vm *vm = dev->private;
	int r;

	switch (ioctl) {
	case KVM_MEMSLOT_GROW:
		r = do_grow(dev->kvm, (void __user *)arg);
		break;
	default:
		return -ENOTTY;
	}

	if (r) {
		atomic64_inc(&vm->stats[KVM_MEMSLOT_STAT_FAILED]);
	} else {
		atomic64_inc(&vm->stats[KVM_MEMSLOT_STAT_OPS]);
		atomic64_inc(&vm->stats[KVM_MEMSLOT_STAT_SWAPS]);
	}

	return r;
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
 * There is no way back, see memslot_ops_init().
 *
 * Return: 0, -ENOSPC for a number that KVM has no room for, or -EEXIST for one
 *	that is taken.
 */
int memslot_device_register(u32 type)
{
	return kvm_call(kvm_register_device_ops)(&memslot_device_ops, type);
}
