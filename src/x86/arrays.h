/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What KVM notes about the pages of a slot, and how that gets from one slot's arrays
 * to another's.
 */
#ifndef _MEMSLOT_OPS_ARRAYS_H
#define _MEMSLOT_OPS_ARRAYS_H

#include <linux/kvm_host.h>

bool arrays_track_writes(struct kvm_memory_slot *slot);
void arrays_carry_counts(const struct kvm_memory_slot *slot,
			 struct kvm_arch_memory_slot *from, struct kvm_arch_memory_slot *to);
void arrays_reset_counts(struct kvm_memory_slot *slot);
void arrays_move_rmaps(const struct kvm_memory_slot *slot,
		       struct kvm_arch_memory_slot *from, struct kvm_arch_memory_slot *to);

#endif /* _MEMSLOT_OPS_ARRAYS_H */
