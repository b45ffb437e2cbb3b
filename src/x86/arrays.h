/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The arrays that a slot has on x86, and how what KVM notes there about pages gets from
 * one to another.
 */
#ifndef _MEMSLOT_OPS_ARRAYS_H
#define _MEMSLOT_OPS_ARRAYS_H

#include <linux/kvm_host.h>

#include "compat/compat.h"
#include "lpage.h"

/**
 * enum array_kind - the arrays of a slot
 * @ARRAY_RMAP_4K: heads of rmaps, one for each page
 * @ARRAY_RMAP_2M: one for each huge frame
 * @ARRAY_RMAP_1G: likewise
 * @ARRAY_LPAGE_2M: counts of reasons against a huge mapping
 * @ARRAY_LPAGE_1G: likewise
 * @ARRAY_WRITE_TRACK: counts of who wants to know of writes, one for each page
 * @NR_ARRAYS: how many kinds there are
 */
enum array_kind {
	ARRAY_RMAP_4K,
	ARRAY_RMAP_2M,
	ARRAY_RMAP_1G,
	ARRAY_LPAGE_2M,
	ARRAY_LPAGE_1G,
	ARRAY_WRITE_TRACK,
	NR_ARRAYS
};

static inline bool array_is_rmap(enum array_kind kind)
{
	return kind <= ARRAY_RMAP_1G;
}

static inline bool array_is_lpage(enum array_kind kind)
{
	return kind == ARRAY_LPAGE_2M || kind == ARRAY_LPAGE_1G;
}

/**
 * array_level() - what an element is about
 * @kind: of the array
 *
 * Return: PG_LEVEL_4K for a page, or the level of a huge frame.
 */
static inline int array_level(enum array_kind kind)
{
	if (array_is_rmap(kind))
		return PG_LEVEL_4K + kind;

	return array_is_lpage(kind) ? PG_LEVEL_2M + kind - ARRAY_LPAGE_2M : PG_LEVEL_4K;
}

/**
 * array_element() - the size of an element in bytes
 * @kind: of the array
 */
static inline size_t array_element(enum array_kind kind)
{
	if (array_is_rmap(kind))
		return sizeof(struct kvm_rmap_head);

	return array_is_lpage(kind) ? sizeof(struct kvm_lpage_info) : sizeof(unsigned short);
}

/**
 * array_of() - where a slot keeps an array
 * @arch: of the slot
 * @kind: of the array
 *
 * Return: a pointer to the pointer to it, which is NULL where it has none.
 */
static inline void **array_of(struct kvm_arch_memory_slot *arch, enum array_kind kind)
{
	if (array_is_rmap(kind))
		return (void **)&arch->rmap[kind];
	if (array_is_lpage(kind))
		return (void **)&arch->lpage_info[kind - ARRAY_LPAGE_2M];

	return (void **)compat_write_track(arch);
}

/**
 * array_offset() - the place of a page's element in bytes
 * @slot: the slot whose array it is in
 * @kind: of the array
 * @gfn: a page of it
 */
static inline size_t array_offset(const struct kvm_memory_slot *slot, enum array_kind kind,
				  gfn_t gfn)
{
	return lpage_index(slot, gfn, array_level(kind)) * array_element(kind);
}

/**
 * array_bytes() - how long an array must be
 * @slot: the slot that has it
 * @kind: of the array
 */
static inline size_t array_bytes(const struct kvm_memory_slot *slot, enum array_kind kind)
{
	return array_offset(slot, kind, slot->base_gfn + slot->npages - 1) + array_element(kind);
}

/**
 * array_has_own_elements() - has a part of a slot its first element for itself?
 * @kind: of the array
 * @part: the part
 */
static inline bool array_has_own_elements(enum array_kind kind, const struct kvm_memory_slot *part)
{
	return IS_ALIGNED(part->base_gfn, KVM_PAGES_PER_HPAGE(array_level(kind)));
}

gfn_t arrays_next_mapped(const struct kvm_memory_slot *slot, gfn_t gfn, gfn_t end, gfn_t *past);
bool arrays_track_writes(struct kvm_memory_slot *slot, gfn_t gfn, int level);
void array_reset(const struct kvm_memory_slot *slot, enum array_kind kind, void *array,
		 size_t from, size_t to);
void array_move(const struct kvm_memory_slot *slot, enum array_kind kind, void *from, void *to);

#endif /* _MEMSLOT_OPS_ARRAYS_H */
