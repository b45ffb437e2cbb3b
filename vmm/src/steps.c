// SPDX-License-Identifier: MIT
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "steps.h"

#define WORD_BITS	64

/* Makes room for one more of what @array points to. */
static bool make_room(struct steps *steps, void *array, size_t size, size_t nr,
		      size_t *room)
{
	size_t more = nr + nr / 2 + 16;
	void **to = array, *moved;

	if (steps->error)
		return false;
	if (nr < *room)
		return true;
	moved = realloc(*to, more * size);
	if (!moved) {
		steps->error = -ENOMEM;
		return false;
	}
	*to = moved;
	*room = more;
	return true;
}

static void take(struct steps *steps, uint32_t id)
{
	steps->taken[id / WORD_BITS] |= UINT64_C(1) << id % WORD_BITS;
}

/* A number that is free, from now on taken. */
static uint32_t new_number(struct steps *steps)
{
	uint32_t id = steps->least;

	while (id < steps->nr_ids &&
	       steps->taken[id / WORD_BITS] >> id % WORD_BITS & 1)
		id++;
	if (id == steps->nr_ids) {
		if (!steps->error)
			steps->error = -ENOSPC;
		return 0;
	}
	take(steps, id);
	steps->least = id + 1;
	return steps->as_id << 16 | (steps->first + id);
}

static void free_number(struct steps *steps, uint32_t slot)
{
	uint32_t id = (slot & 0xffff) - steps->first;

	if (id >= steps->nr_ids)
		return;
	steps->taken[id / WORD_BITS] &= ~(UINT64_C(1) << id % WORD_BITS);
	if (id < steps->least)
		steps->least = id;
}

int steps_init(struct steps *steps, const struct kvm_layout *layout,
	       size_t max_pieces)
{
	const region_t *slots;
	size_t nr;

	*steps = (struct steps){
		.as_id = layout_as_id(layout),
		.first = layout_first_id(layout),
		.nr_ids = layout_nr_ids(layout),
		.max_pieces = max_pieces,
	};
	steps->plan = calloc(1, sizeof(*steps->plan));
	steps->taken = calloc(steps->nr_ids / WORD_BITS + 1,
			      sizeof(*steps->taken));
	if (!steps->plan || !steps->taken) {
		steps->error = -ENOMEM;
		return -ENOMEM;
	}
	slots = kvm_layout_slots(layout, &nr);
	for (size_t i = 0; i < nr; i++) {
		uint32_t id = (slots[i].slot & 0xffff) - steps->first;

		if (id < steps->nr_ids)
			take(steps, id);
	}
	return 0;
}

struct kvm_layout_plan *steps_finish(struct steps *steps)
{
	struct kvm_layout_plan *plan = steps->plan;
	const region_t *others;

	free(steps->nodes);
	free(steps->taken);
	if (steps->error) {
		kvm_layout_plan_free(plan);
		return NULL;
	}
	/* Until now the array has moved as it grew. */
	others = plan->others;
	for (size_t i = 0; i < plan->nr_steps; i++) {
		plan->steps[i].others = others;
		others += plan->steps[i].nr_others;
	}
	return plan;
}

void kvm_layout_plan_free(struct kvm_layout_plan *plan)
{
	if (!plan)
		return;
	free(plan->steps);
	free(plan->others);
	free(plan->gaps);
	free(plan->moves);
	free(plan);
}

size_t steps_node(struct steps *steps, const region_t *slot)
{
	size_t node = steps->nr_nodes;

	if (!make_room(steps, &steps->nodes, sizeof(*steps->nodes), node,
		       &steps->room_nodes))
		return 0;
	steps->nodes[node] = (struct node){ .region = *slot, .into = node };
	steps->nr_nodes++;
	return node;
}

static size_t resolve(const struct steps *steps, size_t node)
{
	while (steps->nodes[node].into != node)
		node = steps->nodes[node].into;
	return node;
}

const region_t *steps_slot(const struct steps *steps, size_t node)
{
	return &steps->nodes[resolve(steps, node)].region;
}

static struct kvm_layout_step *add_step(struct steps *steps,
					enum kvm_layout_op op,
					const region_t *before,
					const region_t *after)
{
	struct kvm_layout_plan *plan = steps->plan;
	struct kvm_layout_step *step;

	if (!make_room(steps, &plan->steps, sizeof(*plan->steps),
		       plan->nr_steps, &steps->room_steps))
		return NULL;
	step = &plan->steps[plan->nr_steps++];
	*step = (struct kvm_layout_step){
		.op = op,
		.before = *before,
		.after = *after,
	};
	return step;
}

static void add_other(struct steps *steps, const region_t *other)
{
	struct kvm_layout_plan *plan = steps->plan;

	if (!make_room(steps, &plan->others, sizeof(*plan->others),
		       steps->nr_others, &steps->room_others))
		return;
	plan->others[steps->nr_others++] = *other;
	plan->steps[plan->nr_steps - 1].nr_others++;
}

size_t steps_create(struct steps *steps, region_t slot)
{
	region_t none;

	slot.slot = new_number(steps);
	none = slot;
	none.memory_size = 0;
	add_step(steps, KVM_LAYOUT_CREATE, &none, &slot);
	return steps_node(steps, &slot);
}

void steps_delete(struct steps *steps, size_t node)
{
	region_t *slot, gone;
	struct kvm_layout_step *step;

	if (steps->error)
		return;
	slot = &steps->nodes[resolve(steps, node)].region;
	gone = *slot;
	gone.memory_size = 0;
	step = add_step(steps, KVM_LAYOUT_DELETE, slot, &gone);
	if (step && slot->flags & KVM_MEM_LOG_DIRTY_PAGES)
		step->flags |= KVM_LAYOUT_HARVEST;
	free_number(steps, slot->slot);
	*slot = gone;
}

void steps_resize(struct steps *steps, size_t node, uint64_t size)
{
	struct kvm_layout_step *step;
	region_t *slot, before;
	bool grows;

	if (steps->error)
		return;
	slot = &steps->nodes[resolve(steps, node)].region;
	grows = size > slot->memory_size;
	before = *slot;
	slot->memory_size = size;
	step = add_step(steps, grows ? KVM_LAYOUT_GROW : KVM_LAYOUT_SHRINK,
			&before, slot);
	if (step && !grows && slot->flags & KVM_MEM_LOG_DIRTY_PAGES)
		step->flags |= KVM_LAYOUT_DIRTY_TAIL;
	if (!size)
		free_number(steps, slot->slot);
}

/* One flag of the slot. */
static void set_flag(struct steps *steps, region_t *slot, uint32_t flag,
		     uint32_t value)
{
	struct kvm_layout_step *step;
	region_t before = *slot;

	if ((slot->flags & flag) == value)
		return;
	slot->flags ^= flag;
	step = add_step(steps, flag == KVM_MEM_READONLY ?
			KVM_LAYOUT_SET_READONLY : KVM_LAYOUT_FLAGS,
			&before, slot);
	if (step && flag == KVM_MEM_LOG_DIRTY_PAGES && !value)
		step->flags |= KVM_LAYOUT_HARVEST;
}

void steps_set_flags(struct steps *steps, size_t node, uint32_t flags)
{
	region_t *slot;

	if (steps->error)
		return;
	slot = &steps->nodes[resolve(steps, node)].region;
	set_flag(steps, slot, KVM_MEM_READONLY, flags & KVM_MEM_READONLY);
	set_flag(steps, slot, KVM_MEM_LOG_DIRTY_PAGES,
		 flags & KVM_MEM_LOG_DIRTY_PAGES);
}

/* What of a slot begins at @gpa, as another one. */
static region_t cut_off(struct steps *steps, const region_t *slot, uint64_t gpa)
{
	uint64_t offset = gpa - slot->guest_phys_addr;
	region_t piece = *slot;

	piece.slot = new_number(steps);
	piece.guest_phys_addr += offset;
	piece.userspace_addr += offset;
	piece.memory_size -= offset;
	return piece;
}

/* As much as can be done in one step. Return: the new nodes' first */
static size_t split_once(struct steps *steps, size_t node, const uint64_t *cuts,
			 size_t nr_cuts)
{
	region_t before = *steps_slot(steps, node), after = before, piece;
	size_t first = steps->nr_nodes;

	after.memory_size = cuts[0] - after.guest_phys_addr;
	if (!add_step(steps, KVM_LAYOUT_SPLIT, &before, &after))
		return 0;
	steps->nodes[resolve(steps, node)].region = after;
	for (size_t i = 0; i < nr_cuts; i++) {
		piece = cut_off(steps, &before, cuts[i]);
		if (i + 1 < nr_cuts)
			piece.memory_size = cuts[i + 1] - cuts[i];
		steps_node(steps, &piece);
		add_other(steps, &piece);
	}
	return first;
}

size_t steps_split(struct steps *steps, size_t node, const uint64_t *cuts,
		   size_t nr_cuts)
{
	size_t first = steps->nr_nodes, most = steps->max_pieces - 1;

	while (nr_cuts && !steps->error) {
		size_t nr = nr_cuts < most ? nr_cuts : most;

		/* What is left is cut off the last piece. */
		split_once(steps, node, cuts, nr);
		node = steps->nr_nodes - 1;
		cuts += nr;
		nr_cuts -= nr;
	}
	return first;
}

void steps_merge(struct steps *steps, const size_t *nodes, size_t nr)
{
	region_t before, *slot;
	size_t first, in_step = 0;

	if (steps->error || !nr)
		return;
	first = resolve(steps, nodes[0]);
	for (size_t i = 1; i < nr && !steps->error; i++) {
		size_t node = resolve(steps, nodes[i]);

		if (node == first)
			continue;
		slot = &steps->nodes[first].region;
		before = *slot;
		if (!in_step &&
		    !add_step(steps, KVM_LAYOUT_MERGE, &before, &before))
			return;
		add_other(steps, &steps->nodes[node].region);
		slot->memory_size += steps->nodes[node].region.memory_size;
		steps->plan->steps[steps->plan->nr_steps - 1].after = *slot;
		free_number(steps, steps->nodes[node].region.slot);
		steps->nodes[node].into = first;
		in_step = (in_step + 1) % (steps->max_pieces - 1);
	}
}
