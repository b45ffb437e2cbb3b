/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Zapping what is mapped, and not more, nor for longer than others can wait.
 */
#ifndef _MEMSLOT_OPS_ZAP_H
#define _MEMSLOT_OPS_ZAP_H

#include <linux/kvm_host.h>

bool zap_range(struct kvm *kvm, struct kvm_memory_slot *slot, gfn_t start, gfn_t end,
	       bool may_block);
void zap_slot(struct kvm *kvm, struct kvm_memory_slot *slot);

#endif /* _MEMSLOT_OPS_ZAP_H */
