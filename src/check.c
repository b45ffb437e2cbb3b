// SPDX-License-Identifier: GPL-2.0
/*
 * Checks of what user space asks for, before anything changes.
 */
#include <linux/uaccess.h>

#include "check.h"
#include "compat/compat.h"

/**
 * check_supported() - does a slot, or its VM, use what no operation can handle?
 * @kvm: the VM
 * @slot: the slot
 *
 * Context: slots_lock held.
 * Return: 0 or -EOPNOTSUPP.
 */
int check_supported(struct kvm *kvm, const struct kvm_memory_slot *slot)
{
	if (kvm_arch_has_private_mem(kvm) || slot->flags & KVM_MEM_GUEST_MEMFD)
		return -EOPNOTSUPP;

	if (slot->flags & KVM_MEM_LOG_DIRTY_PAGES || kvm->dirty_ring_size)
		return -EOPNOTSUPP;

	return 0;
}

/**
 * check_larger() - can a slot grow to a size?
 * @slot: the slot
 * @size: its new size in bytes
 *
 * Whether the slot would end beyond the highest gfn is KVM's to say, when it
 * allocates the new slot's arrays.
 *
 * Return: 0 or -EINVAL.
 */
int check_larger(const struct kvm_memory_slot *slot, u64 size)
{
	u64 gpa = slot->base_gfn << PAGE_SHIFT;

	if (!PAGE_ALIGNED(size) || size >> PAGE_SHIFT <= slot->npages)
		return -EINVAL;

	if (size >> PAGE_SHIFT > KVM_MEM_MAX_NR_PAGES || gpa + size < gpa)
		return -EINVAL;

	/* KVM reads and writes guest memory with __get_user() and its like. */
	if (!access_ok((void __user *)slot->userspace_addr, size))
		return -EINVAL;

	return 0;
}
