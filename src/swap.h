/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Swapping the two memslot sets, and waiting for those who are in the way.
 */
#ifndef _MEMSLOT_OPS_SWAP_H
#define _MEMSLOT_OPS_SWAP_H

#include <linux/kvm_host.h>

void slots_lock_out_notifiers(struct kvm *kvm) __acquires(&kvm->mn_invalidate_lock);
int mmu_lock_when_quiet(struct kvm *kvm, bool can_fail) __acquires(&kvm->mmu_lock);
u64 slots_swap(struct kvm *kvm, u16 as_id);
void slots_wait_for_readers(struct kvm *kvm, u16 as_id);

#endif /* _MEMSLOT_OPS_SWAP_H */
