/* SPDX-License-Identifier: MIT */
/*
 * The steps of a plan as it is made, the slots that there are after those so far
 * (nodes), and which numbers are free then.
 */
#ifndef KVM_LAYOUT_STEPS_H
#define KVM_LAYOUT_STEPS_H

#include "internal.h"

/**
 * struct kvm_layout_plan - see kvm-layout.h
 * @steps: the steps
 * @nr_steps: how many
 * @others: what all their @others point into
 * @gaps: what is missing for a while
 * @nr_gaps: how many
 * @moves: where what stays is before and after
 * @nr_moves: how many
 */
struct kvm_layout_plan {
	struct kvm_layout_step *steps;
	size_t nr_steps;
	region_t *others;
	struct kvm_layout_gap *gaps;
	size_t nr_gaps;
	struct kvm_layout_move *moves;
	size_t nr_moves;
};

/**
 * struct node - a slot
 * @region: as it is now; without memory_size it is no more
 * @into: index of the node that it has been merged into, or its own
 */
struct node {
	region_t region;
	size_t into;
};

/**
 * struct steps - a plan in the making
 * @plan: what has been planned
 * @nodes: all slots that there are, or have been
 * @nr_nodes: how many
 * @room_nodes: for how many there is room
 * @room_steps: the same of @plan->steps
 * @nr_others: of @plan->others
 * @room_others: the same of these
 * @as_id: the address space
 * @first: the first id to use
 * @nr_ids: how many ids there are
 * @taken: a bit for each of them
 * @least: no id below is free
 * @max_pieces: of one split or merge
 * @error: the first that there was; then nothing more is done
 */
struct steps {
	struct kvm_layout_plan *plan;
	struct node *nodes;
	size_t nr_nodes;
	size_t room_nodes;
	size_t room_steps;
	size_t nr_others;
	size_t room_others;
	uint32_t as_id;
	uint32_t first;
	uint32_t nr_ids;
	uint64_t *taken;
	uint32_t least;
	size_t max_pieces;
	int error;
};

/* Begins a plan from the layout. Return: 0 or -ENOMEM */
int steps_init(struct steps *steps, const struct kvm_layout *layout,
	       size_t max_pieces);
/* Return: the plan, which is the caller's, or NULL if there was an error. */
struct kvm_layout_plan *steps_finish(struct steps *steps);

/* A node for a slot that is there. Return: its index */
size_t steps_node(struct steps *steps, const region_t *slot);
/* The slot that a node is now, or is a part of. */
const region_t *steps_slot(const struct steps *steps, size_t node);

/*
 * Each adds what its name says to the plan.  Those that make slots return the
 * index of the (first) new node; that of the k-th one is k more.
 */
size_t steps_create(struct steps *steps, region_t slot);
void steps_delete(struct steps *steps, size_t node);
void steps_resize(struct steps *steps, size_t node, uint64_t size);
void steps_set_flags(struct steps *steps, size_t node, uint32_t flags);
/* @cuts: guest addresses, in order */
size_t steps_split(struct steps *steps, size_t node, const uint64_t *cuts,
		   size_t nr_cuts);
/* @nodes: in order; those that are already one are one */
void steps_merge(struct steps *steps, const size_t *nodes, size_t nr);

#endif /* KVM_LAYOUT_STEPS_H */
