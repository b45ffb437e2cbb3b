/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Swapping the two memslot sets, and waiting for those who are in the way.
 */
#ifndef _MEMSLOT_OPS_SWAP_H
#define _MEMSLOT_OPS_SWAP_H

#include <linux/completion.h>
#include <linux/kvm_host.h>
#include <linux/workqueue.h>

/**
 * struct readers_wait - somebody who waits until a set that was swapped out is not used any more
 * @kvm: the VM
 * @work: what does the waiting
 * @gone: when it is done
 */
struct readers_wait {
	struct kvm *kvm;
	struct work_struct work;
	struct completion gone;
};

void slots_lock_out_notifiers(struct kvm *kvm) __acquires(&kvm->mn_invalidate_lock);
int mmu_lock_when_quiet(struct kvm *kvm, bool can_fail) __acquires(&kvm->mmu_lock);
u64 slots_swap(struct kvm *kvm, u16 as_id);
void slots_end_update(struct kvm *kvm, u16 as_id);
void readers_wait_begin(struct readers_wait *wait, struct kvm *kvm);
bool readers_wait_for(struct readers_wait *wait, unsigned long timeout);
void readers_wait_end(struct readers_wait *wait);
int swap_init(void);
void swap_exit(void);

#endif /* _MEMSLOT_OPS_SWAP_H */
