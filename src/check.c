// SPDX-License-Identifier: GPL-2.0
/*
 * Checks of what user space asks for, before anything changes.
 */
#include <linux/sched.h>
#include <linux/uaccess.h>

#include "check.h"
#include "compat/compat.h"

static bool is_set_of(struct kvm *kvm, int as_id)
{
	struct kvm_memslots *set = rcu_access_pointer(kvm->memslots[as_id]);
	unsigned long i;

	for (i = 0; i < ARRAY_SIZE(kvm->__memslots[as_id]); i++) {
		if (set == &kvm->__memslots[as_id][i])
			return set->node_idx == i;
	}

	return false;
}

/**
 * check_structures() - are KVM's structures where this module takes them to be?
 * @kvm: a VM of the current process
 *
 * A kernel without MODVERSIONS would load a module that was built against other headers of
 * the same release.  The sets lie before, and the notifier behind, what KVM has of its
 * architecture, where most changes are.
 *
 * Context: any in which the VM cannot go away; takes no lock.
 * Return: 0, or -ENODEV after saying so in the kernel's log.
 */
int check_structures(struct kvm *kvm)
{
	bool right = kvm->mm == current->mm && kvm->mmu_notifier.mm == current->mm;
	int as_id;

	for (as_id = 0; right && as_id < ARRAY_SIZE(kvm->memslots); as_id++)
		right = is_set_of(kvm, as_id);

	if (right)
		return 0;

	pr_err_once(KBUILD_MODNAME ": this kernel's KVM is not the one that it was built for: no device is made\n");

	return -ENODEV;
}

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
	/* KVM_MEM_GUEST_MEMFD, or what a later kernel has: more may belong to it than is copied. */
	if (slot->flags & ~(KVM_MEM_LOG_DIRTY_PAGES | KVM_MEM_READONLY))
		return -EOPNOTSUPP;

	if (kvm_arch_has_private_mem(kvm))
		return -EOPNOTSUPP;

	return 0;
}

static int check_size(u64 size)
{
	if (!PAGE_ALIGNED(size) || size >> PAGE_SHIFT > KVM_MEM_MAX_NR_PAGES)
		return -EINVAL;

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

	if (check_size(size) || size >> PAGE_SHIFT <= slot->npages)
		return -EINVAL;

	if (gpa + size < gpa)
		return -EINVAL;

	/* KVM reads and writes guest memory with __get_user() and its like. */
	if (!access_ok((void __user *)slot->userspace_addr, size))
		return -EINVAL;

	return 0;
}

/**
 * check_smaller() - can a slot shrink to a size?
 * @slot: the slot
 * @size: its new size in bytes; 0 is one
 *
 * Return: 0 or -EINVAL.
 */
int check_smaller(const struct kvm_memory_slot *slot, u64 size)
{
	return check_size(size) || size >> PAGE_SHIFT >= slot->npages ? -EINVAL : 0;
}

/**
 * check_cuts() - can a slot be split there?
 * @slot: the slot
 * @cuts: where the pieces but the first start, and their numbers
 * @nr: how many
 *
 * Whether the numbers are free is not checked.
 *
 * Return: 0 or -EINVAL.
 */
int check_cuts(const struct kvm_memory_slot *slot, const struct kvm_memslot_cut *cuts,
	       unsigned int nr)
{
	u64 last = 0;
	unsigned int i, j;

	for (i = 0; i < nr; i++) {
		if (cuts[i].pad || !PAGE_ALIGNED(cuts[i].offset) || cuts[i].offset <= last ||
		    cuts[i].offset >> PAGE_SHIFT >= slot->npages)
			return -EINVAL;
		last = cuts[i].offset;

		if (cuts[i].slot >> 16 != slot->as_id)
			return -EINVAL;

		for (j = 0; j < i; j++) {
			if (cuts[j].slot == cuts[i].slot)
				return -EINVAL;
		}
	}

	return nr ? 0 : -EINVAL;
}

/**
 * check_adjacent() - can a slot be merged with the one that follows it?
 * @first: the slot
 * @second: the slot that is to follow it
 *
 * Return: 0, or -EINVAL where they are not contiguous, or not alike.
 */
int check_adjacent(const struct kvm_memory_slot *first, const struct kvm_memory_slot *second)
{
	if (second->as_id != first->as_id || second->flags != first->flags ||
	    second->base_gfn != first->base_gfn + first->npages ||
	    second->userspace_addr != first->userspace_addr + (first->npages << PAGE_SHIFT))
		return -EINVAL;

	return 0;
}
