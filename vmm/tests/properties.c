// SPDX-License-Identifier: MIT
/*
 * Plans of random transitions have the properties that kvm-layout.h promises.
 *
 * properties [-n TRANSITIONS] [-s SEED] [-i ONLY] [-w UNITS] [-f EACH]
 *	[-o OPS] [-m]
 *
 * -n: how many transitions; -s: which; -i: only that one of them; -w: how many
 * units of guest memory there are at most; -f: calls are made to fail in one of
 * EACH transitions; -o: what all hosts offer, as in struct kvm_layout_host; -m:
 * only the model is tested.
 *
 * A transition that shows that a property does not hold is made smaller as long
 * as it does, and printed.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "applied.h"
#include "generate.h"
#include "judge.h"
#include "tap.h"
#include "walk.h"

static uint64_t seed = 1;
static uint32_t nr_transitions = 2000;
static uint32_t max_units = 24;
static uint32_t faults_each = 8;
static int64_t only = -1;
static int64_t only_ops = -1;

/* For information: promise 7 as it stands, of hosts that have the module. */
static unsigned long nr_with_module;
static unsigned long nr_more_swaps;

static struct kvm_layout_plan *plan_of(const struct transition *t, int *err)
{
	struct kvm_layout *layout = transition_layout(t);
	struct kvm_layout_plan *plan = NULL;

	judge_subject(t, NULL);
	*err = layout ? transition_plan(t, layout, &plan) : -EINVAL;
	kvm_layout_free(layout);
	return *err ? NULL : plan;
}

static void drop(struct kvm_layout_plan *plan)
{
	judge_subject(NULL, NULL);
	kvm_layout_plan_free(plan);
}

/* Return: the plan, for drop(), or NULL if there was none */
static struct kvm_layout_plan *plan_and_walk(const struct transition *t,
					     struct walked *walked)
{
	struct kvm_layout_plan *plan;
	int err;

	plan = plan_of(t, &err);
	if (judge(P_PLANNED, plan, "error %d", err))
		walk(t, plan, walked);
	return plan;
}

static bool same_regions(const struct kvm_userspace_memory_region *a,
			 const struct kvm_userspace_memory_region *b,
			 size_t nr)
{
	for (size_t i = 0; i < nr; i++)
		if (!kvm_model_same_region(&a[i], &b[i]))
			return false;
	return true;
}

static bool same_plans(const struct kvm_layout_plan *a,
		       const struct kvm_layout_plan *b)
{
	const struct kvm_layout_step *x, *y;
	size_t nr_x, nr_y;

	x = kvm_layout_plan_steps(a, &nr_x);
	y = kvm_layout_plan_steps(b, &nr_y);
	if (nr_x != nr_y)
		return false;
	for (size_t i = 0; i < nr_x; i++)
		if (x[i].op != y[i].op || x[i].flags != y[i].flags ||
		    x[i].nr_others != y[i].nr_others ||
		    !kvm_model_same_region(&x[i].before, &y[i].before) ||
		    !kvm_model_same_region(&x[i].after, &y[i].after) ||
		    !same_regions(x[i].others, y[i].others, x[i].nr_others))
			return false;
	return true;
}

static void shuffle(struct rng *rng,
		    struct kvm_userspace_memory_region *regions, size_t nr)
{
	for (size_t i = nr; i > 1; i--) {
		size_t j = rng_below(rng, i);
		struct kvm_userspace_memory_region region = regions[i - 1];

		regions[i - 1] = regions[j];
		regions[j] = region;
	}
}

static void judge_order(const struct transition *t, struct rng *rng)
{
	struct transition *shuffled = transition_copy(t);
	struct kvm_layout_plan *a, *b;
	int err;

	shuffle(rng, shuffled->slots, shuffled->nr_gone);
	shuffle(rng, shuffled->come, shuffled->nr_come);
	b = plan_of(shuffled, &err);
	a = plan_of(t, &err);
	judge_subject(t, a);
	if (a)
		judge(P_ORDER, b && same_plans(a, b), "another plan");
	drop(a);
	kvm_layout_plan_free(b);
	transition_free(shuffled);
}

/* The same target again, from where the plan has led. */
static void judge_same(const struct transition *t)
{
	struct kvm_layout_plan *plan;
	struct transition *again;
	struct kvm_model model;
	size_t nr = 1;
	int err;

	transition_model(t, &model);
	plan = plan_of(t, &err);
	if (plan) {
		const struct kvm_layout_step *steps;

		steps = kvm_layout_plan_steps(plan, &nr);
		for (size_t i = 0; i < nr; i++)
			kvm_model_step(&model, &steps[i], NULL);
	}
	drop(plan);
	again = transition_from(t, &model, false);
	kvm_model_fini(&model);
	if (!again)
		return;
	plan = plan_of(again, &err);
	judge_subject(again, plan);
	if (plan)
		kvm_layout_plan_steps(plan, &nr);
	judge(P_SAME, plan && !nr, "error %d, %zu steps", err, nr);
	drop(plan);
	transition_free(again);
}

static size_t count_other_than(const struct kvm_layout_plan *plan,
			       enum kvm_layout_op a, enum kvm_layout_op b)
{
	const struct kvm_layout_step *steps;
	size_t nr, others = 0;

	steps = kvm_layout_plan_steps(plan, &nr);
	for (size_t i = 0; i < nr; i++)
		others += steps[i].op != a && steps[i].op != b;
	return others;
}

static void judge_added(const struct transition *from, struct rng *rng)
{
	struct transition *t = generate_added(rng, from);
	struct kvm_layout_plan *plan;
	size_t nr = 0, changed = t->nr_come - t->nr_gone, others;
	int err;

	for (size_t i = 0; i < t->nr_gone; i++)
		changed += t->come[i].memory_size != t->slots[i].memory_size;
	plan = plan_of(t, &err);
	judge_subject(t, plan);
	if (judge(P_ADDED, plan, "error %d", err)) {
		kvm_layout_plan_steps(plan, &nr);
		others = count_other_than(plan, KVM_LAYOUT_CREATE,
					  KVM_LAYOUT_GROW);
		judge(P_ADDED, nr == changed && !others,
		      "%zu additions, %zu steps", changed, nr);
	}
	drop(plan);
	transition_free(t);
}

static void judge_resized(const struct transition *from, struct rng *rng)
{
	struct transition *t = generate_resized(rng, from);
	struct kvm_layout_plan *plan;
	size_t nr = 0, changed = 0, others;
	int err;

	for (size_t i = 0; i < t->nr_gone; i++)
		changed += t->come[i].memory_size != t->slots[i].memory_size;
	plan = plan_of(t, &err);
	judge_subject(t, plan);
	if (judge(P_RESIZED, plan, "error %d", err)) {
		kvm_layout_plan_steps(plan, &nr);
		others = count_other_than(plan, KVM_LAYOUT_SHRINK,
					  KVM_LAYOUT_GROW);
		judge(P_RESIZED, nr == changed && !others,
		      "%zu slots are resized in %zu steps", changed, nr);
	}
	drop(plan);
	transition_free(t);
}

static bool map_is_there(const struct transition *map)
{
	struct kvm_model model;
	bool is;

	transition_model(map, &model);
	is = transition_is_target(map, &model);
	kvm_model_fini(&model);
	return is;
}

/* Bytes that are missing for want of an operation. */
static uint64_t count_blinks(const struct kvm_layout_plan *plan)
{
	const struct kvm_layout_gap *gaps;
	uint64_t blinks = 0;
	size_t nr;

	gaps = kvm_layout_plan_gaps(plan, &nr);
	for (size_t i = 0; i < nr; i++)
		if (!gaps[i].replaced)
			blinks += gaps[i].size;
	return blinks;
}

/*
 * A map is never more work than a partition, if that does not blink more, and none
 * if it is there.
 */
static void judge_map(const struct transition *t, size_t nr_partition,
		      uint64_t nr_blinks, struct rng *rng)
{
	struct transition *map = transition_copy(t);
	struct kvm_layout_plan *plan;
	struct walked walked;

	map->mode = KVM_LAYOUT_MAP;
	plan = plan_and_walk(map, &walked);
	if (plan) {
		judge(P_MAP, count_blinks(plan) < nr_blinks ||
		      (count_blinks(plan) == nr_blinks &&
		       walked.nr_steps <= nr_partition),
		      "%zu steps, for a partition %zu", walked.nr_steps,
		      nr_partition);
		judge(P_MAP, !walked.nr_steps || !map_is_there(map),
		      "%zu steps to a map that is there", walked.nr_steps);
		drop(plan);
		judge_order(map, rng);
		judge_same(map);
	}
	transition_free(map);
}

/* All numbers are among those that plans may use; there are just @nr. */
static struct transition *with_numbers(const struct transition *from,
				       size_t nr)
{
	struct transition *t = transition_copy(from);

	t->first = 3;
	t->nr_ids = nr;
	for (size_t i = 0; i < t->nr_slots; i++)
		t->slots[i].slot = t->as_id << 16 | (t->first + i);
	return t;
}

static void judge_nospc(const struct transition *from,
			const struct walked *with_many)
{
	struct transition *t = with_numbers(from, with_many->nr_numbers);
	struct kvm_layout_plan *plan = NULL;
	struct walked walked;
	int err;

	if (t->nr_ids)
		plan = plan_of(t, &err);
	if (t->nr_ids && judge(P_NOSPC, plan, "%u numbers: error %d",
			       t->nr_ids, err)) {
		walk(t, plan, &walked);
		judge(P_NOSPC, walked.arrived &&
		      walked.nr_steps == with_many->nr_steps,
		      "%zu steps, with many numbers %zu", walked.nr_steps,
		      with_many->nr_steps);
	}
	drop(plan);
	t->nr_ids--;
	if (t->nr_ids && t->nr_ids < UINT32_MAX &&
	    t->nr_ids >= t->nr_slots) {
		plan = plan_of(t, &err);
		judge(P_NOSPC, plan || err == -ENOSPC, "error %d", err);
		if (plan)
			walk(t, plan, &walked);
		if (plan)
			judge(P_NOSPC, walked.arrived, "does not arrive");
		drop(plan);
	}
	transition_free(t);
}

/* All properties of one transition. */
static void examine(const struct transition *t, struct rng rng, bool faults)
{
	struct kvm_layout_plan *plan;
	struct walked walked;
	uint64_t nr_blinks;

	plan = plan_and_walk(t, &walked);
	if (!plan)
		return;
	nr_blinks = count_blinks(plan);
	drop(plan);
	if (t->ops == KVM_LAYOUT_ALL_OPS) {
		nr_with_module++;
		nr_more_swaps += walked.nr_swaps > 2 * t->nr_gone + t->nr_come;
	}
	judge_order(t, &rng);
	judge_same(t);
	judge_map(t, walked.nr_steps, nr_blinks, &rng);
	judge_added(t, &rng);
	judge_resized(t, &rng);
	judge_nospc(t, &walked);
	applied_judge(t, &rng);
	if (faults)
		applied_judge_faults(t, &rng);
}

/* Make a transition smaller in which properties do not hold. */

static struct transition *without(const struct transition *from, size_t what)
{
	struct transition *t = transition_copy(from);

	if (what < t->nr_slots) {
		t->nr_slots--;
		t->nr_gone -= what < t->nr_gone;
		memmove(&t->slots[what], &t->slots[what + 1],
			(t->nr_slots - what) * sizeof(*t->slots));
		return t;
	}
	what -= t->nr_slots;
	t->nr_come--;
	memmove(&t->come[what], &t->come[what + 1],
		(t->nr_come - what) * sizeof(*t->come));
	return t;
}

static bool still_fails(const struct transition *t, struct rng rng,
			enum property property)
{
	judge_reset();
	examine(t, rng, property == P_FAULT || property == P_ONWARD);
	return judge_failed() & 1U << property;
}

static struct transition *smaller(const struct transition *from,
				  struct rng rng, enum property property)
{
	for (size_t i = 0; i < from->nr_slots + from->nr_come; i++) {
		struct transition *t = without(from, i);

		if (still_fails(t, rng, property))
			return t;
		transition_free(t);
	}
	return NULL;
}

static void show(uint32_t index, const struct transition *t, struct rng rng,
		 enum property property)
{
	struct transition *least = transition_copy(t), *next;

	judge_mute(true);
	while ((next = smaller(least, rng, property))) {
		transition_free(least);
		least = next;
	}
	still_fails(least, rng, property);
	judge_mute(false);
	tap_note("'%s' does not hold: -s %llu -i %u -w %u",
		 judge_name(property), (unsigned long long)seed, index,
		 max_units);
	tap_lines(judge_example(property));
	transition_free(least);
}

static void try(uint32_t index)
{
	struct rng rng = rng_start(seed, index);
	struct transition *t = generate(&rng, max_units);
	uint32_t known = 0, found;

	if (only_ops >= 0)
		t->ops = only_ops & KVM_LAYOUT_ALL_OPS;
	for (int i = 0; i < NR_PROPERTIES; i++)
		known |= judge_known_bad(i) ? 1U << i : 0;
	judge_reset();
	examine(t, rng, !(index % faults_each) || only >= 0);
	found = judge_failed() & ~known;
	for (int i = 0; i < NR_PROPERTIES; i++)
		if (found & 1U << i)
			show(index, t, rng, i);
	transition_free(t);
}

static void usage(void)
{
	fputs("usage: properties [-n TRANSITIONS] [-s SEED] [-i ONLY]\n"
	      "                  [-w UNITS] [-f EACH] [-o OPS] [-m]\n", stderr);
	exit(2);
}

int main(int argc, char **argv)
{
	bool only_model = false;
	int c;

	while ((c = getopt(argc, argv, "n:s:i:w:f:o:m")) != -1) {
		if (c == 'n')
			nr_transitions = tap_number(optarg, 0, usage);
		else if (c == 's')
			seed = tap_number(optarg, 0, usage);
		else if (c == 'i')
			only = tap_number(optarg, 0, usage);
		else if (c == 'w')
			max_units = tap_number(optarg, 2, usage);
		else if (c == 'f')
			faults_each = tap_number(optarg, 1, usage);
		else if (c == 'o')
			only_ops = tap_number(optarg, 0, usage);
		else if (c == 'm')
			only_model = true;
		else
			usage();
	}
	kvm_model_selftest();
	if (only_model)
		return tap_end();
	tap_note("seed %llu, %u transitions", (unsigned long long)seed,
		 nr_transitions);
	if (only >= 0)
		try(only);
	else
		for (uint32_t i = 0; i < nr_transitions; i++)
			try(i);
	judge_report();
	tap_note("more swaps than delete and create: %lu of %lu plans",
		 nr_more_swaps, nr_with_module);
	judge_end();
	return tap_end();
}
