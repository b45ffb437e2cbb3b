/* SPDX-License-Identifier: MIT */
/*
 * Plans that kvm_layout_apply() carries out, and that fail on the way.
 */
#ifndef APPLIED_H
#define APPLIED_H

#include <stdbool.h>

#include "generate.h"
#include "transition.h"

/* applied_judge - carry a plan out, with hooks, some of which fail */
void applied_judge(const struct transition *transition, struct rng *rng);

/*
 * applied_judge_faults - calls fail, at each step or, of long plans, at some
 *
 * From where it stops, plans must lead on and back.
 */
void applied_judge_faults(const struct transition *transition,
			  struct rng *rng);

#endif /* APPLIED_H */
