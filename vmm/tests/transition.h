/* SPDX-License-Identifier: MIT */
/*
 * A transition: slots that are there, what goes, what comes, and what the host
 * offers.  All that a plan is made from.
 */
#ifndef TRANSITION_H
#define TRANSITION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "kvm-layout.h"
#include "kvm_model.h"

/**
 * struct transition - what a plan is made from
 * @as_id: the address space
 * @first: first id that the plan may use
 * @nr_ids: how many it may use
 * @ops: 1 << KVM_LAYOUT_* that the host offers
 * @max_pieces: of one split or merge
 * @mode: what is wanted
 * @no_bitmaps: KVM keeps no dirty bitmaps here
 * @slots: all that are there; those that go are the first ones
 * @nr_gone: how many of @slots go
 * @nr_slots: how many there are
 * @come: what comes
 * @nr_come: how many of these
 */
struct transition {
	uint32_t as_id;
	uint32_t first;
	uint32_t nr_ids;
	uint32_t ops;
	uint32_t max_pieces;
	enum kvm_layout_mode mode;
	bool no_bitmaps;
	struct kvm_userspace_memory_region *slots;
	size_t nr_gone;
	size_t nr_slots;
	struct kvm_userspace_memory_region *come;
	size_t nr_come;
};

/* transition_copy - Return: a copy, for transition_free() */
struct transition *transition_copy(const struct transition *from);
void transition_free(struct transition *transition);

/* transition_print - in the format of qemu-transactions.txt, with numbers */
void transition_print(const struct transition *transition, FILE *to);

/* transition_layout - Return: the library's view of what is there, or NULL */
struct kvm_layout *transition_layout(const struct transition *transition);

/* transition_model - the model's; to be ended by kvm_model_fini() */
void transition_model(const struct transition *transition,
		      struct kvm_model *model);

/* transition_host - what the library would have found out; nothing is open */
void transition_host(const struct transition *transition,
		     struct kvm_layout_host *host);

/* transition_plan - Return: what kvm_layout_plan() returns */
int transition_plan(const struct transition *transition,
		    const struct kvm_layout *layout,
		    struct kvm_layout_plan **plan);

/*
 * transition_from - the same target, or the way back, from where @model is
 * @back: the origin is what comes
 *
 * Return: it, or NULL if a slot that stays is not there
 */
struct transition *transition_from(const struct transition *transition,
				   const struct kvm_model *model, bool back);

/* transition_is_kept - @slot is there and does not go */
bool transition_is_kept(const struct transition *transition, uint32_t slot);

/* transition_is_target - @model has what is wanted, numbers aside */
bool transition_is_target(const struct transition *transition,
			  const struct kvm_model *model);

#endif /* TRANSITION_H */
