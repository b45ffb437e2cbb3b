/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Where a memslot allows huge mappings.  For each huge frame that it touches, a
 * slot keeps a count of the reasons against one in lpage_info.
 */
#ifndef _MEMSLOT_OPS_LPAGE_H
#define _MEMSLOT_OPS_LPAGE_H

#include <linux/kvm_host.h>

/**
 * lpage_index() - the position of a page's huge frame in a slot's array
 * @slot: the slot
 * @gfn: a page of it
 * @level: PG_LEVEL_4K for its position among the slot's pages
 */
static inline unsigned long lpage_index(const struct kvm_memory_slot *slot,
					gfn_t gfn, int level)
{
	return (gfn >> KVM_HPAGE_GFN_SHIFT(level)) -
	       (slot->base_gfn >> KVM_HPAGE_GFN_SHIFT(level));
}

/**
 * lpage_info() - the count against a huge mapping of a page
 * @slot: the slot
 * @gfn: a page of it
 * @level: PG_LEVEL_2M or above
 */
static inline struct kvm_lpage_info *lpage_info(const struct kvm_memory_slot *slot,
						gfn_t gfn, int level)
{
	return &slot->arch.lpage_info[level - PG_LEVEL_2M][lpage_index(slot, gfn, level)];
}

/**
 * lpage_is_misaligned() - do guest and host addresses rule out all huge mappings?
 * @slot: the slot
 * @level: of the mappings
 */
static inline bool lpage_is_misaligned(const struct kvm_memory_slot *slot, int level)
{
	return (slot->base_gfn ^ (slot->userspace_addr >> PAGE_SHIFT)) &
	       (KVM_PAGES_PER_HPAGE(level) - 1);
}

bool lpage_cut(const struct kvm_memory_slot *slot, gfn_t gfn, int level);
void lpage_hold(const struct kvm_memory_slot *span, int level,
		struct kvm_memory_slot *const *slots, unsigned int nr,
		const unsigned long *only, int delta);

#endif /* _MEMSLOT_OPS_LPAGE_H */
