/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The arrays that an architecture keeps for each memslot, while one layout
 * replaces another.
 */
#ifndef _MEMSLOT_OPS_ARCH_H
#define _MEMSLOT_OPS_ARCH_H

#include "change.h"

int arch_layout_begin(struct layout_change *c);
void arch_layout_end(struct layout_change *c);
int arch_layout_admit(struct layout_change *c);
int arch_layout_prepare(struct layout_change *c);
void arch_layout_unprepare(struct layout_change *c);
int arch_layout_share(struct layout_change *c);
void arch_layout_quiesce(struct layout_change *c);
void arch_layout_flush(struct layout_change *c);
void arch_layout_zap(struct layout_change *c);
void arch_layout_settle(struct layout_change *c);
void arch_layout_forget(struct layout_change *c, struct kvm_memory_slot *slot);
bool arch_layout_lacks_arrays(struct kvm_memory_slot *const *slots, unsigned int nr);
bool arch_layout_lend(struct layout_change *c, struct kvm_memory_slot *const *slots,
		      unsigned int nr, bool at_any_cost);
void arch_layout_commit(struct kvm *kvm, struct kvm_memory_slot *old,
			const struct kvm_memory_slot *new, enum kvm_mr_change change);
void arch_layout_retire(struct layout_change *c);
void arch_layout_retire_coming(struct layout_change *c);

int arch_init(void);
void arch_exit(void);

#endif /* _MEMSLOT_OPS_ARCH_H */
