// SPDX-License-Identifier: MIT
/*
 * The slots of an address space: an array in the order of guest addresses, and
 * for each id where its slot begins.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

/* An id has 16 bits; those that slots can have are below. */
#define NR_IDS		0x10000U
#define END_OF_IDS	KVM_LAYOUT_REMOVED_ID
/* In begins[]; no slot begins there. */
#define NOWHERE		1

struct kvm_layout {
	uint32_t as_id;
	uint32_t first;
	uint32_t nr_ids;
	size_t nr;
	size_t room;
	region_t *slots;
	size_t nr_begins;
	uint64_t *begins;
};

bool region_valid(const region_t *region)
{
	uint64_t odd = region->guest_phys_addr | region->memory_size |
		       region->userspace_addr;

	return !(odd % KVM_LAYOUT_PAGE_SIZE) && region->memory_size &&
	       region->memory_size <= KVM_LAYOUT_MAX_SIZE &&
	       region->guest_phys_addr <= UINT64_MAX - region->memory_size &&
	       region->userspace_addr <= UINT64_MAX - region->memory_size;
}

int region_by_gpa(const void *a, const void *b)
{
	const region_t *one = a, *other = b;

	return (one->guest_phys_addr > other->guest_phys_addr) -
	       (one->guest_phys_addr < other->guest_phys_addr);
}

uint32_t layout_as_id(const struct kvm_layout *layout)
{
	return layout->as_id;
}

uint32_t layout_first_id(const struct kvm_layout *layout)
{
	return layout->first;
}

uint32_t layout_nr_ids(const struct kvm_layout *layout)
{
	return layout->nr_ids;
}

struct kvm_layout *kvm_layout_new(uint32_t as_id, uint32_t first, uint32_t nr)
{
	struct kvm_layout *layout;

	if (as_id >= NR_IDS || first > END_OF_IDS || nr > END_OF_IDS - first)
		return NULL;
	layout = calloc(1, sizeof(*layout));
	if (layout) {
		layout->as_id = as_id;
		layout->first = first;
		layout->nr_ids = nr;
	}
	return layout;
}

void kvm_layout_free(struct kvm_layout *layout)
{
	if (!layout)
		return;
	free(layout->slots);
	free(layout->begins);
	free(layout);
}

struct kvm_layout *kvm_layout_copy(const struct kvm_layout *layout)
{
	struct kvm_layout *copy;

	copy = kvm_layout_new(layout->as_id, layout->first, layout->nr_ids);
	if (!copy)
		return NULL;
	if (layout_reserve(copy, layout->nr, layout->nr_begins)) {
		kvm_layout_free(copy);
		return NULL;
	}
	if (layout->nr)
		memcpy(copy->slots, layout->slots,
		       layout->nr * sizeof(*copy->slots));
	if (layout->nr_begins)
		memcpy(copy->begins, layout->begins,
		       layout->nr_begins * sizeof(*copy->begins));
	copy->nr = layout->nr;
	return copy;
}

int layout_reserve(struct kvm_layout *layout, size_t nr, uint32_t slot)
{
	size_t nr_begins = slot % NR_IDS + 1, room = layout->nr + nr;
	uint64_t *begins;
	region_t *slots;

	if (nr_begins > layout->nr_begins) {
		nr_begins += nr_begins / 2;
		begins = realloc(layout->begins, nr_begins * sizeof(*begins));
		if (!begins)
			return -ENOMEM;
		for (size_t i = layout->nr_begins; i < nr_begins; i++)
			begins[i] = NOWHERE;
		layout->begins = begins;
		layout->nr_begins = nr_begins;
	}
	if (room > layout->room) {
		room += room / 2;
		slots = realloc(layout->slots, room * sizeof(*slots));
		if (!slots)
			return -ENOMEM;
		layout->slots = slots;
		layout->room = room;
	}
	return 0;
}

size_t layout_index(const struct kvm_layout *layout, uint64_t gpa)
{
	size_t low = 0, high = layout->nr;

	/* New slots most often come behind all others. */
	if (high && region_end(&layout->slots[high - 1]) <= gpa)
		return high;
	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (region_end(&layout->slots[middle]) <= gpa)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

/*
 * Puts @nr_new slots in the place of @nr_old.  The room is there, and the numbers
 * are free but for those of the latter.
 */
static void replace(struct kvm_layout *layout, size_t index, size_t nr_old,
		    const region_t *first, const region_t *others,
		    size_t nr_new)
{
	region_t *slots = layout->slots + index;
	size_t behind = layout->nr - index - nr_old;

	for (size_t i = 0; i < nr_old; i++)
		layout->begins[slots[i].slot % NR_IDS] = NOWHERE;
	memmove(slots + nr_new, slots + nr_old, behind * sizeof(*slots));
	layout->nr = index + nr_new + behind;
	for (size_t i = 0; i < nr_new; i++) {
		slots[i] = i ? others[i - 1] : *first;
		layout->begins[slots[i].slot % NR_IDS] =
			slots[i].guest_phys_addr;
	}
}

int kvm_layout_add(struct kvm_layout *layout,
		   const struct kvm_userspace_memory_region *slot)
{
	size_t index;
	int error;

	if (!region_valid(slot) || slot->slot / NR_IDS != layout->as_id ||
	    slot->slot % NR_IDS >= END_OF_IDS)
		return -EINVAL;
	index = layout_index(layout, slot->guest_phys_addr);
	if (kvm_layout_find(layout, slot->slot) ||
	    (index < layout->nr &&
	     layout->slots[index].guest_phys_addr < region_end(slot)))
		return -EEXIST;
	error = layout_reserve(layout, 1, slot->slot);
	if (!error)
		replace(layout, index, 0, slot, NULL, 1);
	return error;
}

int kvm_layout_remove(struct kvm_layout *layout, uint32_t slot)
{
	const region_t *found = kvm_layout_find(layout, slot);

	if (!found)
		return -ENOENT;
	replace(layout, found - layout->slots, 1, NULL, NULL, 0);
	return 0;
}

const struct kvm_userspace_memory_region *
kvm_layout_slots(const struct kvm_layout *layout, size_t *nr)
{
	*nr = layout->nr;
	return layout->slots;
}

const struct kvm_userspace_memory_region *
kvm_layout_find(const struct kvm_layout *layout, uint32_t slot)
{
	uint32_t id = slot % NR_IDS;

	if (slot / NR_IDS != layout->as_id || id >= layout->nr_begins ||
	    layout->begins[id] == NOWHERE)
		return NULL;
	return &layout->slots[layout_index(layout, layout->begins[id])];
}

const struct kvm_userspace_memory_region *
kvm_layout_at(const struct kvm_layout *layout, uint64_t gpa)
{
	size_t index = layout_index(layout, gpa);

	if (index == layout->nr ||
	    layout->slots[index].guest_phys_addr > gpa)
		return NULL;
	return &layout->slots[index];
}

/* Whether just these slots are there, next to each other. */
static bool are_there(const struct kvm_layout *layout, size_t index,
		      const region_t *first, const region_t *others, size_t nr)
{
	if (index + nr > layout->nr)
		return false;
	for (size_t i = 0; i < nr; i++)
		if (!region_same(&layout->slots[index + i],
				 i ? &others[i - 1] : first))
			return false;
	return true;
}

int kvm_layout_step_done(struct kvm_layout *layout,
			 const struct kvm_layout_step *step)
{
	size_t nr_old = !!step->before.memory_size;
	size_t nr_new = !!step->after.memory_size;
	uint32_t highest = step->after.slot;
	size_t index;
	int error;

	if (!nr_old) {
		error = kvm_layout_add(layout, &step->after);
		return error == -EEXIST ? -EINVAL : error;
	}
	index = layout_index(layout, step->before.guest_phys_addr);
	if (step->op == KVM_LAYOUT_MERGE)
		nr_old += step->nr_others;
	if (!are_there(layout, index, &step->before, step->others, nr_old))
		return -EINVAL;
	if (step->op == KVM_LAYOUT_SPLIT) {
		nr_new += step->nr_others;
		for (size_t i = 0; i < step->nr_others; i++) {
			if (kvm_layout_find(layout, step->others[i].slot))
				return -EINVAL;
			if (step->others[i].slot > highest)
				highest = step->others[i].slot;
		}
	}
	error = layout_reserve(layout, nr_new, highest);
	if (!error)
		replace(layout, index, nr_old, &step->after, step->others,
			nr_new);
	return error;
}

int kvm_layout_ring_gpa(const struct kvm_layout *layout,
			const struct kvm_layout_step *removed,
			uint32_t slot, uint64_t offset, uint64_t *gpa)
{
	const region_t *found;
	uint64_t begin, size;

	if (slot == (layout->as_id * NR_IDS | KVM_LAYOUT_REMOVED_ID)) {
		if (!removed || removed->op != KVM_LAYOUT_SHRINK)
			return -ENOENT;
		begin = removed->before.guest_phys_addr +
			removed->after.memory_size;
		size = region_end(&removed->before) - begin;
	} else {
		found = kvm_layout_find(layout, slot);
		if (!found)
			return -ENOENT;
		begin = found->guest_phys_addr;
		size = found->memory_size;
	}
	if (offset >= size / KVM_LAYOUT_PAGE_SIZE)
		return -ENOENT;
	*gpa = begin + offset * KVM_LAYOUT_PAGE_SIZE;
	return 0;
}
