// SPDX-License-Identifier: MIT
/*
 * A transition from slots to other slots: see transition.h.
 */
#include "transition.h"

#include <stdlib.h>
#include <string.h>

typedef struct kvm_userspace_memory_region region_t;

static void *copy_of(const void *from, size_t nr, size_t size)
{
	void *to = calloc(nr ? nr : 1, size);

	if (!to)
		abort();
	if (nr)
		memcpy(to, from, nr * size);
	return to;
}

struct transition *transition_copy(const struct transition *from)
{
	struct transition *to = copy_of(from, 1, sizeof(*from));

	to->slots = copy_of(from->slots, from->nr_slots, sizeof(*to->slots));
	to->come = copy_of(from->come, from->nr_come, sizeof(*to->come));
	return to;
}

void transition_free(struct transition *transition)
{
	if (!transition)
		return;
	free(transition->slots);
	free(transition->come);
	free(transition);
}

static void print_region(const region_t *region, const char *mark, FILE *to)
{
	fprintf(to, "%s %llx %llx %llx %x\n", mark, region->guest_phys_addr,
		region->memory_size, region->userspace_addr, region->flags);
}

static void print_slot(const region_t *region, const char *mark, FILE *to)
{
	fprintf(to, "%s %llx %llx %llx %x  number %x\n", mark,
		region->guest_phys_addr, region->memory_size,
		region->userspace_addr, region->flags, region->slot);
}

void transition_print(const struct transition *transition, FILE *to)
{
	fprintf(to, "%s, ops %x of at most %u pieces, %u numbers from %x on\n",
		transition->mode == KVM_LAYOUT_MAP ? "map" : "partition",
		transition->ops, transition->max_pieces, transition->nr_ids,
		transition->as_id << 16 | transition->first);
	for (size_t i = 0; i < transition->nr_gone; i++)
		print_slot(&transition->slots[i], "-", to);
	for (size_t i = transition->nr_gone; i < transition->nr_slots; i++)
		print_slot(&transition->slots[i], "stays", to);
	for (size_t i = 0; i < transition->nr_come; i++)
		print_region(&transition->come[i], "+", to);
}

struct kvm_layout *transition_layout(const struct transition *transition)
{
	struct kvm_layout *layout;

	layout = kvm_layout_new(transition->as_id, transition->first,
				transition->nr_ids);
	for (size_t i = 0; layout && i < transition->nr_slots; i++) {
		if (kvm_layout_add(layout, &transition->slots[i])) {
			kvm_layout_free(layout);
			return NULL;
		}
	}
	return layout;
}

void transition_model(const struct transition *transition,
		      struct kvm_model *model)
{
	kvm_model_init(model, transition->as_id);
	model->no_bitmaps = transition->no_bitmaps;
	for (size_t i = 0; i < transition->nr_slots; i++)
		if (kvm_model_set_region(model, &transition->slots[i]))
			abort();
	model->ops = transition->ops;
	model->max_pieces = transition->max_pieces;
	model->nr_calls = 0;
	model->nr_swaps = 0;
}

void transition_host(const struct transition *transition,
		     struct kvm_layout_host *host)
{
	memset(host, 0, sizeof(*host));
	host->vm_fd = -1;
	host->dev_fd = -1;
	host->ops = transition->ops;
	host->max_pieces = transition->max_pieces;
}

int transition_plan(const struct transition *transition,
		    const struct kvm_layout *layout,
		    struct kvm_layout_plan **plan)
{
	uint32_t *gone = calloc(transition->nr_gone + 1, sizeof(*gone));
	struct kvm_layout_host host;
	int err;

	if (!gone)
		abort();
	for (size_t i = 0; i < transition->nr_gone; i++)
		gone[i] = transition->slots[i].slot;
	transition_host(transition, &host);
	err = kvm_layout_plan(&host, layout, gone, transition->nr_gone,
			      transition->come, transition->nr_come,
			      transition->mode, plan);
	free(gone);
	return err;
}

bool transition_is_kept(const struct transition *transition, uint32_t slot)
{
	for (size_t i = transition->nr_gone; i < transition->nr_slots; i++)
		if (transition->slots[i].slot == slot)
			return true;
	return false;
}

/* What the model has in the way of slots that stay, and those that do not. */
static bool sort_slots(const struct transition *transition,
		       const struct kvm_model *model, struct transition *next)
{
	size_t nr_kept = transition->nr_slots - transition->nr_gone;
	const region_t *kept = transition->slots + transition->nr_gone;

	next->nr_gone = 0;
	next->nr_slots = model->nr_slots;
	for (size_t i = 0; i < model->nr_slots; i++) {
		const region_t *region = &model->slots[i].region;

		if (!transition_is_kept(transition, region->slot))
			next->slots[next->nr_gone++] = *region;
	}
	if (next->nr_gone + nr_kept != model->nr_slots)
		return false;
	if (nr_kept)
		memcpy(next->slots + next->nr_gone, kept,
		       nr_kept * sizeof(*kept));
	return true;
}

struct transition *transition_from(const struct transition *transition,
				   const struct kvm_model *model, bool back)
{
	struct transition *next = copy_of(transition, 1, sizeof(*next));
	const region_t *come = transition->come;

	if (back) {
		come = transition->slots;
		next->nr_come = transition->nr_gone;
	}
	next->come = copy_of(come, next->nr_come, sizeof(*come));
	next->slots = calloc(model->nr_slots + 1, sizeof(*next->slots));
	if (!next->slots)
		abort();
	if (sort_slots(transition, model, next))
		return next;
	transition_free(next);
	return NULL;
}

static bool is_among(const struct transition *t, const region_t *region)
{
	for (size_t i = 0; i < t->nr_come; i++) {
		region_t come = t->come[i];

		come.slot = region->slot;
		if (kvm_model_same_region(&come, region))
			return true;
	}
	return false;
}

static bool is_kept_slot(const struct transition *t, const region_t *region)
{
	for (size_t i = t->nr_gone; i < t->nr_slots; i++)
		if (kvm_model_same_region(&t->slots[i], region))
			return true;
	return false;
}

static bool is_partition(const struct transition *t,
			 const struct kvm_model *model)
{
	for (size_t i = 0; i < model->nr_slots; i++)
		if (!is_kept_slot(t, &model->slots[i].region) &&
		    !is_among(t, &model->slots[i].region))
			return false;
	return model->nr_slots == t->nr_slots - t->nr_gone + t->nr_come;
}

static bool leads(const struct kvm_model *model, const region_t *region)
{
	uint64_t at = 0;

	for (size_t i = 0; i < model->nr_slots; i++) {
		const region_t *slot = &model->slots[i].region;
		uint64_t gpa = region->guest_phys_addr + at;
		uint64_t offset = gpa - slot->guest_phys_addr;

		if (offset >= slot->memory_size)
			continue;
		if (slot->userspace_addr + offset !=
		    region->userspace_addr + at ||
		    slot->flags != region->flags)
			return false;
		at += slot->memory_size - offset;
		if (at >= region->memory_size)
			return true;
	}
	return false;
}

static bool is_map(const struct transition *t, const struct kvm_model *model)
{
	uint64_t size = 0;

	for (size_t i = 0; i < t->nr_come; i++) {
		size += t->come[i].memory_size;
		if (!leads(model, &t->come[i]))
			return false;
	}
	for (size_t i = t->nr_gone; i < t->nr_slots; i++) {
		struct kvm_model_slot *slot;

		size += t->slots[i].memory_size;
		slot = kvm_model_find(model, t->slots[i].slot);
		if (!slot || !kvm_model_same_region(&slot->region,
						    &t->slots[i]))
			return false;
	}
	return size == kvm_model_size(model);
}

bool transition_is_target(const struct transition *transition,
			  const struct kvm_model *model)
{
	if (transition->mode == KVM_LAYOUT_MAP)
		return is_map(transition, model);
	return is_partition(transition, model);
}
