// SPDX-License-Identifier: GPL-2.0
#include <linux/string.h>

#include "array.h"
#include "arrays.h"

/*
 * A count that was carried over often enough could overflow.  This is far above what
 * shadow pages can make of it, and far below KVM's flag in bit 31.
 */
#define MAX_COUNT	0x10000000

static unsigned long or_of_8(const unsigned long *words)
{
	/* Locked or not, a head that notes something is not 0. */
	return data_race(words[0] | words[1] | words[2] | words[3] |
			 words[4] | words[5] | words[6] | words[7]);
}

static bool is_noted(const unsigned long *word)
{
	/* Likewise. */
	return data_race(*word);
}

/*
 * Most heads of a large slot are empty, and this passes them over several times as fast as
 * memchr_inv().  Nobody locks an empty head, or empties one, who does not hold mmu_lock.
 */
static unsigned long next_head(const struct kvm_rmap_head *heads, unsigned long first,
			       unsigned long end)
{
	const unsigned long *words = (const unsigned long *)heads;
	unsigned long i = first;

	BUILD_BUG_ON(sizeof(*heads) != sizeof(*words));

	/* Where there is one, there are more. */
	if (i < end && is_noted(words + i))
		return i;

	for (; i + 32 <= end; i += 32) {
		if (or_of_8(words + i) | or_of_8(words + i + 8) |
		    or_of_8(words + i + 16) | or_of_8(words + i + 24))
			break;
	}
	while (i < end && !is_noted(words + i))
		i++;

	return i;
}

/* The first element from @first on that notes nothing, or @end. */
static unsigned long next_empty(const struct kvm_rmap_head *heads, unsigned long first,
				unsigned long end)
{
	const unsigned long *words = (const unsigned long *)heads;

	while (first < end && is_noted(words + first))
		first++;

	return first;
}

/**
 * arrays_next_mapped() - the first pages of a range that may be mapped, by what rmaps know
 * @slot: the slot; it has rmaps
 * @gfn: where the range begins
 * @end: where it ends
 * @past: where they end: whoever unmaps all up to there and goes on from there unmaps all
 *
 * Of a frame that is mapped huge it is one page, which is enough to find the mapping by: KVM
 * goes through the heads of all the pages that it is told, and that is what takes long.
 *
 * Context: mmu_lock held.
 * Return: the first page, or @end where none is mapped.
 */
gfn_t arrays_next_mapped(const struct kvm_memory_slot *slot, gfn_t gfn, gfn_t end, gfn_t *past)
{
	const struct kvm_rmap_head *heads = slot->arch.rmap[ARRAY_RMAP_4K];
	gfn_t next = end;
	enum array_kind kind;
	unsigned long i, nr;

	/* From what has few heads to what has many, and of those up to what has been found. */
	for (kind = ARRAY_RMAP_1G; kind > ARRAY_RMAP_4K && next > gfn; kind--) {
		int level = array_level(kind), shift = KVM_HPAGE_GFN_SHIFT(level);

		nr = lpage_index(slot, next - 1, level) + 1;
		i = next_head(slot->arch.rmap[kind], lpage_index(slot, gfn, level), nr);
		if (i < nr)
			next = max(gfn, ((slot->base_gfn >> shift) + i) << shift);
	}
	*past = min(next + 1, end);

	nr = next - slot->base_gfn;
	i = next_head(heads, gfn - slot->base_gfn, nr);
	if (i < nr) {
		next = slot->base_gfn + i;
		*past = slot->base_gfn + next_empty(heads, i + 1, end - slot->base_gfn);
	}

	return next;
}

/**
 * arrays_track_writes() - is any page of a frame write-tracked?
 * @slot: the slot that the frame is in, or a part of it
 * @gfn: a page of the frame
 * @level: of a mapping that has the size of the frame
 *
 * Context: mmu_lock held.
 */
bool arrays_track_writes(struct kvm_memory_slot *slot, gfn_t gfn, int level)
{
	gfn_t mask = KVM_PAGES_PER_HPAGE(level) - 1;
	gfn_t first = max(gfn & ~mask, slot->base_gfn);
	gfn_t end = min((gfn | mask) + 1, slot->base_gfn + slot->npages);
	unsigned short *track = *compat_write_track(&slot->arch);

	return track && memchr_inv(track + (first - slot->base_gfn), 0,
				   (end - first) * sizeof(*track));
}

/**
 * array_reset() - make elements what they are where nothing is noted
 * @slot: the slot, whose shape is what counts
 * @kind: of the array
 * @array: where it begins
 * @from: the first element, in bytes from there
 * @to: where they end
 *
 * Context: nobody looks at them.  Sleeps.
 */
void array_reset(const struct kvm_memory_slot *slot, enum array_kind kind, void *array,
		 size_t from, size_t to)
{
	struct kvm_lpage_info *info = array;
	int level = array_level(kind);
	size_t size = array_element(kind);
	unsigned long i;

	if (from >= to)
		return;

	/* Nothing was mapped there, or what was has been zapped. */
	if (array_is_rmap(kind)) {
		WARN_ON_ONCE(!array_is_clear(array + from, to - from));
		return;
	}

	if (!array_is_lpage(kind) || !lpage_is_misaligned(slot, level)) {
		array_clear(array + from, to - from);
		if (!array_is_lpage(kind))
			return;
		if (!from)
			info[0].disallow_lpage = lpage_cut(slot, slot->base_gfn, level);
		if (to == array_bytes(slot, kind))
			info[to / size - 1].disallow_lpage =
				lpage_cut(slot, slot->base_gfn + slot->npages - 1, level);
		return;
	}

	for (i = from / size; i < to / size; i++)
		info[i].disallow_lpage = 1;
}

/* The first count from @first on that is not @usual, or @end. */
static unsigned long next_count(const struct kvm_lpage_info *info, unsigned long first,
				unsigned long end, int usual)
{
	while (first < end && info[first].disallow_lpage == usual)
		first++;

	return first;
}

/*
 * The reasons against a huge mapping that have nothing to do with a slot's shape.  A frame
 * that two slots share cannot have its count divided: if it was one slot's, both get all
 * of it; if they become one, it gets the sum.  Too high only costs huge mappings, until
 * an operation finds that there is nothing to be counted.
 */
static void carry_lpage_counts(const struct kvm_memory_slot *slot, enum array_kind kind,
			       const struct kvm_lpage_info *from, struct kvm_lpage_info *to)
{
	unsigned long i, nr = array_bytes(slot, kind) / sizeof(*from);
	int level = array_level(kind), shift = KVM_HPAGE_GFN_SHIFT(level);
	/* Its shape is the same reason for all frames, or none but for those at its ends. */
	int usual = lpage_is_misaligned(slot, level);

	for (i = 0; i < nr; i = next_count(from, i + 1, max(nr - 1, i + 1), usual)) {
		gfn_t gfn = max(slot->base_gfn, ((slot->base_gfn >> shift) + i) << shift);
		int count = from[i].disallow_lpage - lpage_cut(slot, gfn, level);

		if (count)
			to[i].disallow_lpage = min(to[i].disallow_lpage + count, MAX_COUNT);
	}
}

/*
 * Heads are moved, lest an rmap has two.  No mapping crosses the slot's ends, so the heads of
 * frames that they cut are empty.
 *
 * On some kernels, pages are aged without mmu_lock.  Whoever does that finds an rmap's head
 * in either place, or for a moment in none, which makes the page old for once.
 */
static void move_rmaps(const struct kvm_memory_slot *slot, enum array_kind kind,
		       struct kvm_rmap_head *from, struct kvm_rmap_head *to)
{
	unsigned long i, nr = array_bytes(slot, kind) / sizeof(*from);

	for (i = next_head(from, 0, nr); i < nr; i = next_head(from, i + 1, nr)) {
		WARN_ON_ONCE(compat_rmap_read(&to[i]));
		compat_rmap_put(&to[i], compat_rmap_take(&from[i]));
	}
}

static void copy_track(const struct kvm_memory_slot *slot,
		       const unsigned short *from, unsigned short *to)
{
	const unsigned short *next = from, *end = from + slot->npages;

	while ((next = memchr_inv(next, 0, (void *)end - (void *)next))) {
		next = PTR_ALIGN_DOWN(next, sizeof(*next));
		to[next - from] = *next;
		if (++next == end)
			break;
	}
}

/**
 * array_move() - move what is noted about a slot's pages from one array to another
 * @slot: the slot; its shape is counted in @from
 * @kind: of the arrays
 * @from: where its elements begin
 * @to: where their like begin; nothing is noted about its pages there, but for the count of a
 *	frame that another slot has a part in
 *
 * Context: mmu_lock held for write, and for rmaps nobody half-way through a walk that yields
 *	it.
 */
void array_move(const struct kvm_memory_slot *slot, enum array_kind kind, void *from, void *to)
{
	if (array_is_rmap(kind))
		move_rmaps(slot, kind, from, to);
	else if (array_is_lpage(kind))
		carry_lpage_counts(slot, kind, from, to);
	else
		copy_track(slot, from, to);
}
