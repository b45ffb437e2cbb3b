/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Zapping a part of a slot; arch_layout_zap() zaps one.
 */
#ifndef _MEMSLOT_OPS_ZAP_H
#define _MEMSLOT_OPS_ZAP_H

#include <linux/kvm_host.h>

bool zap_range(struct kvm *kvm, struct kvm_memory_slot *slot, gfn_t start, gfn_t end,
	       bool may_block);

#endif /* _MEMSLOT_OPS_ZAP_H */
