// SPDX-License-Identifier: GPL-2.0
/* What is the same for all operations in whether they can act on a slot. */
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
