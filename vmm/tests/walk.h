/* SPDX-License-Identifier: MIT */
/*
 * Walk a plan through the model and judge what each step does.
 */
#ifndef WALK_H
#define WALK_H

#include <stdbool.h>
#include <stddef.h>

#include "transition.h"

/**
 * struct walked - what a walk has seen
 * @nr_steps: made
 * @nr_swaps: of KVM's slot sets
 * @nr_numbers: how many slots there were at most
 * @arrived: all steps were possible and led to the target
 */
struct walked {
	size_t nr_steps;
	unsigned long nr_swaps;
	size_t nr_numbers;
	bool arrived;
};

/* walk - judge all that can be judged of one plan */
void walk(const struct transition *transition,
	  const struct kvm_layout_plan *plan, struct walked *walked);

/* walk_dirty - whether the page is dirty at first, if its slot logs */
bool walk_dirty(uint64_t gpa);

/* walk_make_dirty - give all slots that log these dirty bits */
void walk_make_dirty(struct kvm_model *model);

#endif /* WALK_H */
