// SPDX-License-Identifier: GPL-2.0
#include <linux/string.h>

#include "arrays.h"
#include "compat/compat.h"
#include "lpage.h"

/*
 * A count that was carried over often enough could overflow.  This is far above what
 * shadow pages can make of it, and far below KVM's flag in bit 31.
 */
#define MAX_COUNT	0x10000000

/* How many elements a slot's array for a level has. */
static unsigned long nr_elements(const struct kvm_memory_slot *slot, int level)
{
	return lpage_index(slot, slot->base_gfn + slot->npages - 1, level) + 1;
}

/* The reasons against a huge mapping that have nothing to do with a slot's shape. */
static void add_lpage_counts(const struct kvm_memory_slot *slot, int level,
			     const struct kvm_lpage_info *from, struct kvm_lpage_info *to)
{
	unsigned long i, nr = nr_elements(slot, level);
	gfn_t gfn = slot->base_gfn;

	for (i = 0; i < nr; i++) {
		int count = from[i].disallow_lpage - lpage_cut(slot, gfn, level);

		if (count)
			to[i].disallow_lpage = min(to[i].disallow_lpage + count, MAX_COUNT);

		gfn = (gfn | (KVM_PAGES_PER_HPAGE(level) - 1)) + 1;
	}
}

/* The first page from @i on whose writes are tracked; the number of pages if none is. */
static unsigned long next_tracked(const struct kvm_memory_slot *slot,
				  const unsigned short *track, unsigned long i)
{
	const void *byte = memchr_inv(track + i, 0, (slot->npages - i) * sizeof(*track));

	return byte ? (byte - (const void *)track) / sizeof(*track) : slot->npages;
}

/**
 * arrays_track_writes() - is any page of a slot write-tracked?
 * @slot: the slot
 *
 * Context: mmu_lock held.
 */
bool arrays_track_writes(struct kvm_memory_slot *slot)
{
	unsigned short *track = *compat_write_track(&slot->arch);

	return track && next_tracked(slot, track, 0) < slot->npages;
}

/**
 * arrays_carry_counts() - add the counts of one set of arrays to another
 * @slot: a slot whose pages both are about; its shape is counted in @from
 * @from: where its arrays begin
 * @to: where their like begin; no page of the slot is tracked there
 *
 * Shadow pages and write-tracking are counted, besides the shape of slots.  A frame that
 * two slots share cannot have its count divided: if it was one slot's, both get all of it;
 * if they become one, it gets the sum.  Too high only costs huge mappings, until an
 * operation finds that there is nothing to be counted.
 *
 * Context: mmu_lock held for write.
 */
void arrays_carry_counts(const struct kvm_memory_slot *slot,
			 struct kvm_arch_memory_slot *from, struct kvm_arch_memory_slot *to)
{
	unsigned short *from_track = *compat_write_track(from);
	unsigned short *to_track = *compat_write_track(to);
	unsigned long i;
	int level;

	for (level = PG_LEVEL_2M; level <= KVM_MAX_HUGEPAGE_LEVEL; level++)
		add_lpage_counts(slot, level, from->lpage_info[level - PG_LEVEL_2M],
				 to->lpage_info[level - PG_LEVEL_2M]);

	if (!from_track || !to_track)
		return;

	for (i = next_tracked(slot, from_track, 0); i < slot->npages;
	     i = next_tracked(slot, from_track, i + 1))
		to_track[i] = from_track[i];
}

/**
 * arrays_reset_counts() - make a slot's counts what its shape makes them
 * @slot: the slot
 *
 * Context: mmu_lock held for write, under which nothing else was found to be counted.
 */
void arrays_reset_counts(struct kvm_memory_slot *slot)
{
	unsigned long i, nr;
	int level;

	for (level = PG_LEVEL_2M; level <= KVM_MAX_HUGEPAGE_LEVEL; level++) {
		struct kvm_lpage_info *info = slot->arch.lpage_info[level - PG_LEVEL_2M];
		gfn_t gfn = slot->base_gfn;

		nr = nr_elements(slot, level);
		for (i = 0; i < nr; i++) {
			int count = lpage_cut(slot, gfn, level);

			if (info[i].disallow_lpage != count)
				info[i].disallow_lpage = count;
			gfn = (gfn | (KVM_PAGES_PER_HPAGE(level) - 1)) + 1;
		}
	}
}

/**
 * arrays_move_rmaps() - move the rmaps of a slot's pages from one set of arrays to another
 * @slot: the slot
 * @from: where its arrays begin
 * @to: where their like begin
 *
 * No mapping crosses the slot's ends, so the heads of frames that they cut are empty.
 *
 * On some kernels, pages are aged without mmu_lock.  Whoever does that finds an rmap's head
 * in either place, or for a moment in none, which makes the page old for once.
 *
 * Context: mmu_lock held for write, and nobody half-way through a walk that yields it.
 */
void arrays_move_rmaps(const struct kvm_memory_slot *slot,
		       struct kvm_arch_memory_slot *from, struct kvm_arch_memory_slot *to)
{
	int size;

	for (size = 0; size < KVM_NR_PAGE_SIZES; size++) {
		unsigned long i, nr = nr_elements(slot, PG_LEVEL_4K + size);

		for (i = 0; i < nr; i++) {
			struct kvm_rmap_head *head = &from->rmap[size][i];

			if (!compat_rmap_read(head))
				continue;

			WARN_ON_ONCE(compat_rmap_read(&to->rmap[size][i]));
			compat_rmap_put(&to->rmap[size][i], compat_rmap_take(head));
		}
	}
}
