// SPDX-License-Identifier: MIT
/*
 * No memory: each allocation that the library makes fails once.  What is called
 * says so, changes nothing, and leaves nothing behind.
 *
 * nomem [-n TRANSITIONS] [-s SEED]
 *
 * To be linked with --wrap for malloc, calloc, realloc and reallocarray.
 */
#include <errno.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

#include "generate.h"
#include "kvm_fake.h"
#include "tap.h"
#include "transition.h"

#define MAX_UNITS	10
#define MAX_ALLOCS	1000

void *__real_malloc(size_t size);
void *__real_calloc(size_t nr, size_t size);
void *__real_realloc(void *p, size_t size);
void *__real_reallocarray(void *p, size_t nr, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t nr, size_t size);
void *__wrap_realloc(void *p, size_t size);
void *__wrap_reallocarray(void *p, size_t nr, size_t size);

/* Of the allocations that are made from now on, the one that fails; 0: none. */
static unsigned long failing;
static bool has_failed;

static bool fails(void)
{
	if (!failing || kvm_fake.is_inside || --failing)
		return false;
	has_failed = true;
	return true;
}

void *__wrap_malloc(size_t size)
{
	return fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t nr, size_t size)
{
	return fails() ? NULL : __real_calloc(nr, size);
}

void *__wrap_realloc(void *p, size_t size)
{
	return fails() ? NULL : __real_realloc(p, size);
}

void *__wrap_reallocarray(void *p, size_t nr, size_t size)
{
	return fails() ? NULL : __real_reallocarray(p, nr, size);
}

static void fail(unsigned long which)
{
	failing = which;
	has_failed = false;
}

/* Return: whether an allocation has failed since fail() */
static bool was_failed(void)
{
	failing = 0;
	return has_failed;
}

static uint64_t seed = 1;
static uint32_t nr_transitions = 100;

static unsigned long nr_failures;
static bool plan_is_right = true;
static bool layout_is_right = true;
static bool apply_is_right = true;
static bool step_is_right = true;

static uint32_t *numbers(const struct transition *t)
{
	uint32_t *gone = calloc(t->nr_gone + 1, sizeof(*gone));

	if (!gone)
		abort();
	for (size_t i = 0; i < t->nr_gone; i++)
		gone[i] = t->slots[i].slot;
	return gone;
}

static void wrong(bool *what, const char *detail, const struct transition *t,
		  unsigned long which, int err)
{
	char *text;
	size_t size;
	FILE *to;

	if (!*what)
		return;
	*what = false;
	to = open_memstream(&text, &size);
	if (!to)
		abort();
	fprintf(to, "%s: allocation %lu fails, error %d\n", detail, which, err);
	transition_print(t, to);
	fclose(to);
	tap_lines(text);
	free(text);
}

/* Return: false if there are not so many allocations */
static bool plan_once(const struct transition *t,
		      const struct kvm_layout *layout, const uint32_t *gone,
		      unsigned long which)
{
	struct kvm_layout_plan *mark = (void *)&nr_failures, *plan = mark;
	struct kvm_layout_host host;
	bool failed;
	int err;

	transition_host(t, &host);
	fail(which);
	err = kvm_layout_plan(&host, layout, gone, t->nr_gone, t->come,
			      t->nr_come, t->mode, &plan);
	failed = was_failed();
	nr_failures += failed;
	if (failed && (err != -ENOMEM || plan != mark))
		wrong(&plan_is_right, "plan", t, which, err);
	if (!err)
		kvm_layout_plan_free(plan);
	return failed;
}

/* Adds all slots anew; all that were added are there. */
static bool layout_once(const struct transition *t, unsigned long which)
{
	struct kvm_layout *layout, *copy = NULL;
	size_t added = 0, nr = 0;
	bool failed;
	int err = 0;

	fail(which);
	layout = kvm_layout_new(t->as_id, t->first, t->nr_ids);
	for (; layout && !err && added < t->nr_slots; added += !err)
		err = kvm_layout_add(layout, &t->slots[added]);
	if (layout && !err)
		copy = kvm_layout_copy(layout);
	failed = was_failed();
	nr_failures += failed;
	if (layout)
		kvm_layout_slots(layout, &nr);
	if (failed && (copy || nr != added || (err && err != -ENOMEM)))
		wrong(&layout_is_right, "layout", t, which, err);
	kvm_layout_free(copy);
	kvm_layout_free(layout);
	return failed;
}

static struct kvm_layout_plan *make_plan(const struct transition *t,
					 struct kvm_layout **layout)
{
	struct kvm_layout_plan *plan;

	*layout = transition_layout(t);
	if (!*layout || transition_plan(t, *layout, &plan))
		abort();
	return plan;
}

/* Whatever fails, the layout is what KVM has. */
static bool apply_once(const struct transition *t, unsigned long which)
{
	struct kvm_layout *layout;
	struct kvm_layout_plan *plan = make_plan(t, &layout);
	struct kvm_layout_host host;
	struct kvm_model model;
	bool failed;
	size_t done;
	int err;

	transition_model(t, &model);
	kvm_fake_start(&model);
	kvm_fake_host(&host);
	fail(which);
	err = kvm_layout_apply(&host, layout, plan, NULL, &done);
	failed = was_failed();
	nr_failures += failed;
	if ((failed && err && err != -ENOMEM) ||
	    !kvm_model_is(&model, layout))
		wrong(&apply_is_right, "apply", t, which, err);
	kvm_layout_host_close(&host);
	kvm_fake_stop();
	kvm_model_fini(&model);
	kvm_layout_plan_free(plan);
	kvm_layout_free(layout);
	return failed;
}

/* A step that cannot be noted can be noted later. */
static bool steps_once(const struct transition *t, unsigned long which)
{
	struct kvm_layout *layout;
	struct kvm_layout_plan *plan = make_plan(t, &layout);
	const struct kvm_layout_step *steps;
	struct kvm_model model;
	bool failed;
	size_t nr;
	int err = 0;

	transition_model(t, &model);
	steps = kvm_layout_plan_steps(plan, &nr);
	fail(which);
	for (size_t i = 0; i < nr; i++) {
		err = kvm_layout_step_done(layout, &steps[i]);
		failed = was_failed();
		if (err && (err != -ENOMEM || !failed ||
			    !kvm_model_is(&model, layout)))
			break;
		if (err)
			err = kvm_layout_step_done(layout, &steps[i]);
		kvm_model_step(&model, &steps[i], NULL);
		if (err || !kvm_model_is(&model, layout))
			break;
		if (!failed)
			fail(which);
	}
	failed = was_failed();
	nr_failures += failed;
	if (err || !kvm_model_is(&model, layout))
		wrong(&step_is_right, "step", t, which, err);
	kvm_model_fini(&model);
	kvm_layout_plan_free(plan);
	kvm_layout_free(layout);
	return failed;
}

static void try(const struct transition *t)
{
	struct kvm_layout *layout = transition_layout(t);
	uint32_t *gone = numbers(t);
	unsigned long which;

	for (which = 1; which < MAX_ALLOCS; which++)
		if (!plan_once(t, layout, gone, which))
			break;
	for (which = 1; which < MAX_ALLOCS; which++)
		if (!layout_once(t, which))
			break;
	for (which = 1; which < MAX_ALLOCS; which++)
		if (!apply_once(t, which))
			break;
	for (which = 1; which < 8; which++)
		steps_once(t, which);
	free(gone);
	kvm_layout_free(layout);
}

static uint64_t number(const char *text)
{
	char *end;
	uint64_t n = strtoull(text, &end, 0);

	if (*end || end == text) {
		fprintf(stderr, "usage: nomem [-n TRANSITIONS] [-s SEED]\n");
		exit(2);
	}
	return n;
}

int main(int argc, char **argv)
{
	int c;

	while ((c = getopt(argc, argv, "n:s:")) != -1) {
		if (c == 'n')
			nr_transitions = number(optarg);
		else if (c == 's')
			seed = number(optarg);
		else
			number("");
	}
	tap_note("seed %llu, %u transitions", (unsigned long long)seed,
		 nr_transitions);
	for (uint32_t i = 0; i < nr_transitions; i++) {
		struct rng rng = rng_start(seed, i);
		struct transition *t = generate(&rng, MAX_UNITS);

		if (!t->no_bitmaps)
			try(t);
		transition_free(t);
	}
	tap_ok(plan_is_right, "no memory: for a plan");
	tap_ok(layout_is_right, "no memory: for the bookkeeping");
	tap_ok(step_is_right, "no memory: to note a step");
	tap_ok(apply_is_right, "no memory: on the way");
	tap_note("%lu allocations failed", nr_failures);
	return tap_end();
}
