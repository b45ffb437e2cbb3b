// SPDX-License-Identifier: GPL-2.0
#include "lpage.h"

/**
 * lpage_cut() - does a slot's shape rule out a huge mapping of a page?
 * @slot: the slot
 * @gfn: a page of it
 * @level: of the mapping
 *
 * KVM counts this as one reason, however many there are, when it creates a slot.
 *
 * Return: true where the slot ends inside the huge frame, or where guest and
 *	host addresses are not aligned alike.
 */
bool lpage_cut(const struct kvm_memory_slot *slot, gfn_t gfn, int level)
{
	gfn_t mask = KVM_PAGES_PER_HPAGE(level) - 1;
	gfn_t first = gfn & ~mask;

	return lpage_is_misaligned(slot, level) ||
	       first < slot->base_gfn ||
	       first + mask >= slot->base_gfn + slot->npages;
}

/**
 * lpage_hold() - keep huge mappings off frames that slots cut, though their span does not
 * @span: a slot that covers the others; its counts change
 * @level: of the mappings
 * @slots: those others, by gfn
 * @nr: how many
 * @only: a bit for each of those that are meant, for the others' cuts are in these counts
 *	anyway; or NULL for all
 * @delta: 1 to hold them off, -1 to end that
 *
 * While two layouts are in use, a frame that either of them cuts must not be
 * mapped huge through the other.
 *
 * Context: mmu_lock held for write, where anybody else knows the counts.
 */
void lpage_hold(const struct kvm_memory_slot *span, int level,
		struct kvm_memory_slot *const *slots, unsigned int nr,
		const unsigned long *only, int delta)
{
	struct kvm_lpage_info *last = NULL;
	unsigned int i;

	for (i = 0; i < 2 * nr; i++) {
		const struct kvm_memory_slot *slot = slots[i / 2];
		gfn_t gfn = slot->base_gfn + (i % 2 ? slot->npages - 1 : 0);
		struct kvm_lpage_info *info = lpage_info(span, gfn, level);

		/* One reason for a frame that holds several ends. */
		if (info == last || !lpage_cut(slot, gfn, level) || lpage_cut(span, gfn, level))
			continue;

		if (!only || test_bit(i / 2, only))
			info->disallow_lpage += delta;
		last = info;
	}
}
