/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _MEMSLOT_OPS_CHECK_H
#define _MEMSLOT_OPS_CHECK_H

#include <linux/kvm_host.h>
#include <linux/kvm_memslot_ops.h>

int check_larger(const struct kvm_memory_slot *slot, u64 size);
int check_smaller(const struct kvm_memory_slot *slot, u64 size);
int check_cuts(const struct kvm_memory_slot *slot, const struct kvm_memslot_cut *cuts,
	       unsigned int nr);
int check_adjacent(const struct kvm_memory_slot *first, const struct kvm_memory_slot *second);
int check_structures(struct kvm *kvm);
int check_supported(struct kvm *kvm, const struct kvm_memory_slot *slot);

#endif /* _MEMSLOT_OPS_CHECK_H */
