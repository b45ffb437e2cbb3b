/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The two memslot sets of an address space: readers use the active one under
 * SRCU, writers change the inactive one under slots_lock and swap the two.
 */
#ifndef _MEMSLOT_OPS_SLOTS_H
#define _MEMSLOT_OPS_SLOTS_H

#include <linux/kvm_host.h>

struct kvm_memslots *slots_inactive(struct kvm *kvm, u16 as_id);
struct kvm_memory_slot *slots_find(struct kvm *kvm, u32 slot);
bool slots_overlap(struct kvm *kvm, u16 as_id, gfn_t start, gfn_t end);
void slots_replace(struct kvm *kvm, u16 as_id,
		   struct kvm_memory_slot *const *old, unsigned int nr_old,
		   struct kvm_memory_slot *const *new, unsigned int nr_new);

#endif /* _MEMSLOT_OPS_SLOTS_H */
