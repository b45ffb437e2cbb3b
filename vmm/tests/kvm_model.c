// SPDX-License-Identifier: MIT
/*
 * A model of KVM's memslots and of kvm_memslot_ops: see kvm_model.h.
 */
#include "kvm_model.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define PAGE		KVM_LAYOUT_PAGE_SIZE
#define KNOWN_FLAGS	(KVM_MEM_LOG_DIRTY_PAGES | KVM_MEM_READONLY)

typedef struct kvm_userspace_memory_region region_t;

static void *must_alloc(size_t nr, size_t size)
{
	void *p = calloc(nr ? nr : 1, size);

	if (!p)
		abort();
	return p;
}

void kvm_model_init(struct kvm_model *model, uint32_t as_id)
{
	memset(model, 0, sizeof(*model));
	model->as_id = as_id;
	model->nr_ids = KVM_MODEL_MAX_IDS;
	model->ops = KVM_LAYOUT_ALL_OPS;
	model->max_pieces = 64;
}

void kvm_model_fini(struct kvm_model *model)
{
	for (size_t i = 0; i < model->nr_slots; i++)
		free(model->slots[i].dirty);
	free(model->slots);
	memset(model, 0, sizeof(*model));
}

static uint64_t region_pages(const region_t *region)
{
	return region->memory_size / PAGE;
}

void kvm_model_copy(struct kvm_model *to, const struct kvm_model *from)
{
	*to = *from;
	to->slots = must_alloc(from->nr_slots, sizeof(*to->slots));
	for (size_t i = 0; i < from->nr_slots; i++) {
		struct kvm_model_slot *slot = &to->slots[i];

		*slot = from->slots[i];
		if (!slot->dirty)
			continue;
		slot->dirty = must_alloc(region_pages(&slot->region), 1);
		memcpy(slot->dirty, from->slots[i].dirty,
		       region_pages(&slot->region));
	}
}

struct kvm_model_slot *kvm_model_find(const struct kvm_model *model,
				      uint32_t slot)
{
	for (size_t i = 0; i < model->nr_slots; i++)
		if (model->slots[i].region.slot == slot)
			return &model->slots[i];
	return NULL;
}

static bool overlaps(const region_t *region, uint64_t gpa, uint64_t size)
{
	return region->guest_phys_addr < gpa + size &&
	       gpa < region->guest_phys_addr + region->memory_size;
}

static bool taken(const struct kvm_model *model, uint64_t gpa, uint64_t size)
{
	for (size_t i = 0; i < model->nr_slots; i++)
		if (overlaps(&model->slots[i].region, gpa, size))
			return true;
	return false;
}

static bool keeps_bitmap(const struct kvm_model *model, uint32_t flags)
{
	return !model->no_bitmaps && flags & KVM_MEM_LOG_DIRTY_PAGES;
}

/* Takes over @dirty; without one, a slot that logs starts with a clean one. */
static void insert(struct kvm_model *model, const region_t *region,
		   uint8_t *dirty)
{
	size_t at = 0;

	model->slots = realloc(model->slots, (model->nr_slots + 1) *
			       sizeof(*model->slots));
	if (!model->slots)
		abort();
	while (at < model->nr_slots &&
	       model->slots[at].region.guest_phys_addr <
	       region->guest_phys_addr)
		at++;
	memmove(&model->slots[at + 1], &model->slots[at],
		(model->nr_slots - at) * sizeof(*model->slots));
	model->nr_slots++;
	if (!dirty && keeps_bitmap(model, region->flags))
		dirty = must_alloc(region_pages(region), 1);
	model->slots[at].region = *region;
	model->slots[at].dirty = dirty;
}

static void take_out(struct kvm_model *model, struct kvm_model_slot *slot)
{
	size_t at = slot - model->slots;

	free(slot->dirty);
	model->nr_slots--;
	memmove(slot, slot + 1, (model->nr_slots - at) * sizeof(*slot));
}

/* A slot's bitmap gets room for a new size; what is added is clean. */
static void resize(struct kvm_model_slot *slot, uint64_t size)
{
	uint64_t old = region_pages(&slot->region);
	uint64_t new = size / PAGE;

	slot->region.memory_size = size;
	if (!slot->dirty)
		return;
	slot->dirty = realloc(slot->dirty, new);
	if (!slot->dirty)
		abort();
	if (new > old)
		memset(slot->dirty + old, 0, new - old);
}

static int begin(struct kvm_model *model)
{
	if (++model->nr_calls == model->fail_call)
		return -model->fail_errno;
	return 0;
}

static int begin_op(struct kvm_model *model, enum kvm_layout_op op)
{
	if (!(model->ops & 1U << op))
		return -ENOTTY;
	return begin(model);
}

static bool known_number(const struct kvm_model *model, uint32_t slot)
{
	return slot >> 16 == model->as_id && (slot & 0xffff) < model->nr_ids;
}

static bool aligned(uint64_t x)
{
	return !(x % PAGE);
}

static bool wraps(uint64_t start, uint64_t size)
{
	return start + size < start;
}

static int delete_region(struct kvm_model *model, struct kvm_model_slot *slot)
{
	if (!slot)
		return -EINVAL;
	take_out(model, slot);
	model->nr_swaps += 2;
	return 0;
}

static int create_region(struct kvm_model *model, const region_t *region)
{
	if (taken(model, region->guest_phys_addr, region->memory_size))
		return -EEXIST;
	insert(model, region, NULL);
	model->nr_swaps++;
	return 0;
}

/* KVM could also move it: no plan ever asks for that, so it is refused. */
static int change_region(struct kvm_model *model, struct kvm_model_slot *slot,
			 const region_t *region)
{
	uint32_t changed = slot->region.flags ^ region->flags;

	if (region->memory_size != slot->region.memory_size ||
	    region->userspace_addr != slot->region.userspace_addr ||
	    region->guest_phys_addr != slot->region.guest_phys_addr ||
	    changed & KVM_MEM_READONLY)
		return -EINVAL;
	if (!changed)
		return 0;
	slot->region.flags = region->flags;
	free(slot->dirty);
	slot->dirty = NULL;
	if (keeps_bitmap(model, region->flags))
		slot->dirty = must_alloc(region_pages(region), 1);
	model->nr_swaps++;
	return 0;
}

int kvm_model_set_region(struct kvm_model *model, const region_t *region)
{
	struct kvm_model_slot *slot;
	int err = begin(model);

	if (err)
		return err;
	if (region->flags & ~KNOWN_FLAGS || !known_number(model, region->slot))
		return -EINVAL;
	if (!aligned(region->memory_size) ||
	    !aligned(region->guest_phys_addr) ||
	    !aligned(region->userspace_addr) ||
	    region->memory_size > KVM_LAYOUT_MAX_SIZE ||
	    wraps(region->guest_phys_addr, region->memory_size) ||
	    wraps(region->userspace_addr, region->memory_size))
		return -EINVAL;
	slot = kvm_model_find(model, region->slot);
	if (!region->memory_size)
		return delete_region(model, slot);
	if (!slot)
		return create_region(model, region);
	return change_region(model, slot, region);
}

/* An operation on a slot. Return: 0, with the slot */
static int begin_on(struct kvm_model *model, enum kvm_layout_op op,
		    uint32_t number, struct kvm_model_slot **slot)
{
	int err = begin_op(model, op);

	if (err)
		return err;
	if (!known_number(model, number))
		return -EINVAL;
	*slot = kvm_model_find(model, number);
	return *slot ? 0 : -ENOENT;
}

int kvm_model_grow(struct kvm_model *model, uint32_t number, uint64_t size)
{
	struct kvm_model_slot *slot;
	uint64_t old, end;
	int err = begin_on(model, KVM_LAYOUT_GROW, number, &slot);

	if (err)
		return err;
	old = slot->region.memory_size;
	end = slot->region.guest_phys_addr + old;
	if (!aligned(size) || size <= old || size > KVM_LAYOUT_MAX_SIZE ||
	    wraps(slot->region.guest_phys_addr, size) ||
	    wraps(slot->region.userspace_addr, size))
		return -EINVAL;
	if (taken(model, end, size - old))
		return -EEXIST;
	resize(slot, size);
	model->nr_swaps += 2;
	return 0;
}

static void report_tail(const struct kvm_model_slot *slot, uint64_t size,
			uint64_t *bitmap)
{
	uint64_t first = size / PAGE;
	uint64_t nr = region_pages(&slot->region) - first;

	memset(bitmap, 0, (nr + 63) / 64 * sizeof(*bitmap));
	for (uint64_t i = 0; i < nr; i++)
		if (slot->dirty[first + i])
			bitmap[i / 64] |= UINT64_C(1) << i % 64;
}

int kvm_model_shrink(struct kvm_model *model, uint32_t number, uint64_t size,
		     uint64_t *bitmap)
{
	struct kvm_model_slot *slot;
	int err;

	/* Asked again without, it is the same call. */
	if (bitmap && model->no_bitmaps)
		return -EINVAL;
	err = begin_on(model, KVM_LAYOUT_SHRINK, number, &slot);
	if (err)
		return err;
	if (!aligned(size) || size >= slot->region.memory_size)
		return -EINVAL;
	if (bitmap && !slot->dirty)
		return -EINVAL;
	if (bitmap)
		report_tail(slot, size, bitmap);
	if (size)
		resize(slot, size);
	else
		take_out(model, slot);
	model->nr_swaps += 2;
	return 0;
}

static int check_cuts(const struct kvm_model *model, const region_t *region,
		      const struct kvm_memslot_cut *cuts, size_t nr_cuts)
{
	uint64_t last = 0;

	if (!nr_cuts)
		return -EINVAL;
	if (nr_cuts + 1 > model->max_pieces)
		return -E2BIG;
	for (size_t i = 0; i < nr_cuts; i++) {
		if (cuts[i].pad || !aligned(cuts[i].offset) ||
		    cuts[i].offset <= last ||
		    cuts[i].offset >= region->memory_size ||
		    !known_number(model, cuts[i].slot))
			return -EINVAL;
		last = cuts[i].offset;
		for (size_t j = 0; j < i; j++)
			if (cuts[j].slot == cuts[i].slot)
				return -EINVAL;
		if (kvm_model_find(model, cuts[i].slot))
			return -EEXIST;
	}
	return 0;
}

/* The part of a slot from one offset to another, in a slot of its own. */
static void insert_piece(struct kvm_model *model,
			 const struct kvm_model_slot *whole, uint32_t number,
			 uint64_t from, uint64_t to)
{
	region_t region = {
		.slot = number,
		.flags = whole->region.flags,
		.guest_phys_addr = whole->region.guest_phys_addr + from,
		.memory_size = to - from,
		.userspace_addr = whole->region.userspace_addr + from,
	};
	uint8_t *dirty = NULL;

	if (whole->dirty) {
		dirty = must_alloc(region_pages(&region), 1);
		memcpy(dirty, whole->dirty + from / PAGE,
		       region_pages(&region));
	}
	insert(model, &region, dirty);
}

int kvm_model_split(struct kvm_model *model, uint32_t number,
		    const struct kvm_memslot_cut *cuts, size_t nr_cuts)
{
	struct kvm_model_slot *slot, whole;
	int err = begin_on(model, KVM_LAYOUT_SPLIT, number, &slot);

	if (err)
		return err;
	err = check_cuts(model, &slot->region, cuts, nr_cuts);
	if (err)
		return err;
	whole = *slot;
	slot->dirty = NULL;
	take_out(model, slot);
	insert_piece(model, &whole, number, 0, cuts[0].offset);
	for (size_t i = 0; i < nr_cuts; i++)
		insert_piece(model, &whole, cuts[i].slot, cuts[i].offset,
			     i + 1 < nr_cuts ? cuts[i + 1].offset :
			     whole.region.memory_size);
	free(whole.dirty);
	model->nr_swaps++;
	return 0;
}

static bool follows(const region_t *a, const region_t *b)
{
	return a->guest_phys_addr + a->memory_size == b->guest_phys_addr &&
	       a->userspace_addr + a->memory_size == b->userspace_addr &&
	       a->flags == b->flags;
}

static int check_merged(const struct kvm_model *model,
			const struct kvm_model_slot *first,
			const uint32_t *slots, size_t nr_slots)
{
	const struct kvm_model_slot *last = first, *next;
	uint64_t size = first->region.memory_size;

	if (!nr_slots)
		return -EINVAL;
	if (nr_slots + 1 > model->max_pieces)
		return -E2BIG;
	for (size_t i = 0; i < nr_slots; i++) {
		if (!known_number(model, slots[i]))
			return -EINVAL;
		next = kvm_model_find(model, slots[i]);
		if (!next)
			return -ENOENT;
		if (!follows(&last->region, &next->region))
			return -EINVAL;
		size += next->region.memory_size;
		last = next;
	}
	return size > KVM_LAYOUT_MAX_SIZE ? -EINVAL : 0;
}

int kvm_model_merge(struct kvm_model *model, uint32_t number,
		    const uint32_t *slots, size_t nr_slots)
{
	struct kvm_model_slot *first;
	int err = begin_on(model, KVM_LAYOUT_MERGE, number, &first);

	if (err)
		return err;
	err = check_merged(model, first, slots, nr_slots);
	if (err)
		return err;
	for (size_t i = 0; i < nr_slots; i++) {
		struct kvm_model_slot *next = first + 1;
		uint64_t old = region_pages(&first->region);

		resize(first, first->region.memory_size +
		       next->region.memory_size);
		if (first->dirty)
			memcpy(first->dirty + old, next->dirty,
			       region_pages(&next->region));
		take_out(model, next);
	}
	model->nr_swaps++;
	return 0;
}

int kvm_model_set_readonly(struct kvm_model *model, uint32_t number,
			   uint32_t readonly)
{
	struct kvm_model_slot *slot;
	int err = begin_on(model, KVM_LAYOUT_SET_READONLY, number, &slot);

	if (err)
		return err;
	if (readonly > 1)
		return -EINVAL;
	if (!!(slot->region.flags & KVM_MEM_READONLY) == readonly)
		return 0;
	slot->region.flags ^= KVM_MEM_READONLY;
	model->nr_swaps++;
	return 0;
}

static int step_split(struct kvm_model *model,
		      const struct kvm_layout_step *step)
{
	struct kvm_memslot_cut *cuts = must_alloc(step->nr_others,
						  sizeof(*cuts));
	int err;

	for (size_t i = 0; i < step->nr_others; i++) {
		cuts[i].offset = step->others[i].guest_phys_addr -
				 step->before.guest_phys_addr;
		cuts[i].slot = step->others[i].slot;
	}
	err = kvm_model_split(model, step->before.slot, cuts, step->nr_others);
	free(cuts);
	return err;
}

static int step_merge(struct kvm_model *model,
		      const struct kvm_layout_step *step)
{
	uint32_t *slots = must_alloc(step->nr_others, sizeof(*slots));
	int err;

	for (size_t i = 0; i < step->nr_others; i++)
		slots[i] = step->others[i].slot;
	err = kvm_model_merge(model, step->before.slot, slots, step->nr_others);
	free(slots);
	return err;
}

static int step_delete(struct kvm_model *model,
		       const struct kvm_layout_step *step)
{
	region_t region = step->before;

	region.memory_size = 0;
	return kvm_model_set_region(model, &region);
}

int kvm_model_step(struct kvm_model *model, const struct kvm_layout_step *step,
		   uint64_t *bitmap)
{
	uint32_t slot = step->before.slot;

	switch (step->op) {
	case KVM_LAYOUT_CREATE:
		if (kvm_model_find(model, step->after.slot))
			return -EEXIST;
		return kvm_model_set_region(model, &step->after);
	case KVM_LAYOUT_DELETE:
		return step_delete(model, step);
	case KVM_LAYOUT_FLAGS:
		if (!kvm_model_find(model, step->after.slot))
			return -ENOENT;
		return kvm_model_set_region(model, &step->after);
	case KVM_LAYOUT_GROW:
		return kvm_model_grow(model, slot, step->after.memory_size);
	case KVM_LAYOUT_SHRINK:
		return kvm_model_shrink(model, slot, step->after.memory_size,
					bitmap);
	case KVM_LAYOUT_SPLIT:
		return step_split(model, step);
	case KVM_LAYOUT_MERGE:
		return step_merge(model, step);
	case KVM_LAYOUT_SET_READONLY:
		return kvm_model_set_readonly(model, slot,
			!!(step->after.flags & KVM_MEM_READONLY));
	}
	return -EINVAL;
}

bool kvm_model_look(const struct kvm_model *model, uint64_t gpa, uint64_t size,
		    struct kvm_model_place *place)
{
	memset(place, 0, sizeof(*place));
	for (size_t i = 0; i < model->nr_slots; i++) {
		const region_t *region = &model->slots[i].region;

		if (!overlaps(region, gpa, size))
			continue;
		if (gpa < region->guest_phys_addr ||
		    gpa + size > region->guest_phys_addr + region->memory_size)
			return false;
		place->there = true;
		place->offset = gpa - region->guest_phys_addr;
		place->hva = region->userspace_addr + place->offset;
		place->flags = region->flags;
		place->slot = region->slot;
		return true;
	}
	return true;
}

uint64_t kvm_model_size(const struct kvm_model *model)
{
	uint64_t size = 0;

	for (size_t i = 0; i < model->nr_slots; i++)
		size += model->slots[i].region.memory_size;
	return size;
}

bool kvm_model_same_region(const region_t *a, const region_t *b)
{
	return a->slot == b->slot && a->flags == b->flags &&
	       a->guest_phys_addr == b->guest_phys_addr &&
	       a->memory_size == b->memory_size &&
	       a->userspace_addr == b->userspace_addr;
}

bool kvm_model_is(const struct kvm_model *model,
		  const struct kvm_layout *layout)
{
	const region_t *slots;
	size_t nr;

	slots = kvm_layout_slots(layout, &nr);
	if (nr != model->nr_slots)
		return false;
	for (size_t i = 0; i < nr; i++)
		if (!kvm_model_same_region(&slots[i], &model->slots[i].region))
			return false;
	return true;
}
