// SPDX-License-Identifier: MIT
/*
 * Plans that kvm_layout_apply() carries out, and that fail on the way: see
 * applied.h.
 */
#include "applied.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "judge.h"
#include "kvm_fake.h"
#include "walk.h"

#define PAGE		KVM_LAYOUT_PAGE_SIZE

/* No error that a library might take as a hint to try something else. */
static const int errnos[] = { ENOMEM, EINTR, EBUSY, EOPNOTSUPP, EIO };

enum { NR_ERRNOS = sizeof(errnos) / sizeof(*errnos) };

/**
 * struct run - one call of kvm_layout_apply()
 * @transition: what it is about
 * @model: what it changes
 * @layout: the library's view
 * @plan: it
 * @steps: its steps
 * @nr: how many
 * @done: steps that have been told to the hook
 * @told: of these and the next one, how many were told before
 * @held: vCPUs are held
 * @hold_fails: with this errno, if not 0
 * @before_fails: step whose hook fails with ECANCELED
 * @tail: the dirty bits of what a SHRINK removes, a byte for each page
 */
struct run {
	const struct transition *transition;
	struct kvm_model model;
	struct kvm_layout *layout;
	struct kvm_layout_plan *plan;
	const struct kvm_layout_step *steps;
	size_t nr;
	size_t done;
	size_t told;
	bool held;
	int hold_fails;
	size_t before_fails;
	uint8_t *tail;
};

static struct run *running;

static bool starts_gap(const struct run *run, size_t step)
{
	return step < run->nr && run->steps[step].flags & KVM_LAYOUT_GAP;
}

static bool is_held_at(const struct run *run, size_t step)
{
	return starts_gap(run, step) || (step && starts_gap(run, step - 1));
}

static void on_call(void)
{
	struct run *run = running;

	judge(P_HOOKS, run->held == is_held_at(run, run->done),
	      "step %zu: vCPUs are %sheld", run->done, run->held ? "" : "not ");
	judge(P_HOOKS, run->told == run->done + 1,
	      "step %zu: %zu hooks before it", run->done, run->told);
}

static int hold(void *opaque)
{
	struct run *run = opaque;

	judge(P_HOOKS, !run->held, "step %zu: held twice", run->done);
	if (run->hold_fails)
		return -run->hold_fails;
	run->held = true;
	return 0;
}

static void release(void *opaque)
{
	struct run *run = opaque;

	judge(P_HOOKS, run->held, "step %zu: released twice", run->done);
	run->held = false;
}

static bool same_step(const struct kvm_layout_step *a,
		      const struct kvm_layout_step *b)
{
	return a->op == b->op && a->flags == b->flags &&
	       a->nr_others == b->nr_others &&
	       kvm_model_same_region(&a->before, &b->before) &&
	       kvm_model_same_region(&a->after, &b->after);
}

static uint64_t tail_pages(const struct kvm_layout_step *step)
{
	return (step->before.memory_size - step->after.memory_size) / PAGE;
}

/* What the model will report of the tail. */
static void remember_tail(struct run *run, const struct kvm_layout_step *step)
{
	struct kvm_model_slot *slot;

	free(run->tail);
	run->tail = NULL;
	slot = kvm_model_find(&run->model, step->before.slot);
	if (!(step->flags & KVM_LAYOUT_DIRTY_TAIL) || !slot || !slot->dirty)
		return;
	run->tail = malloc(tail_pages(step));
	if (!run->tail)
		abort();
	memcpy(run->tail, slot->dirty + step->after.memory_size / PAGE,
	       tail_pages(step));
}

static bool tail_is(const struct run *run, const struct kvm_layout_step *step,
		    const uint64_t *dirty)
{
	uint64_t nr = tail_pages(step);

	for (uint64_t i = 0; i < (nr + 63) / 64 * 64; i++)
		if ((dirty[i / 64] >> i % 64 & 1) != (i < nr && run->tail[i]))
			return false;
	return true;
}

static int before(void *opaque, const struct kvm_layout_step *step)
{
	struct run *run = opaque;

	judge(P_HOOKS, run->told == run->done,
	      "step %zu: %zu hooks before it", run->done, run->told);
	run->told++;
	judge(P_HOOKS, run->done < run->nr &&
	      same_step(step, &run->steps[run->done]),
	      "step %zu: the hook before it is told another", run->done);
	remember_tail(run, step);
	return run->done == run->before_fails ? -ECANCELED : 0;
}

static void after(void *opaque, const struct kvm_layout_step *step,
		  const uint64_t *dirty)
{
	struct run *run = opaque;

	judge(P_HOOKS, run->done < run->nr &&
	      same_step(step, &run->steps[run->done]),
	      "step %zu: the hook after it is told another", run->done);
	judge(P_HOOKS, kvm_model_is(&run->model, run->layout),
	      "step %zu: the layout is not up to date after it", run->done);
	judge(P_HOOKS, !run->tail == !dirty, "step %zu: %s dirty bits",
	      run->done, dirty ? "unexpected" : "no");
	if (run->tail && dirty)
		judge(P_HOOKS, tail_is(run, step, dirty),
		      "step %zu: other dirty bits", run->done);
	run->done++;
}

static bool start(struct run *run, const struct transition *transition)
{
	memset(run, 0, sizeof(*run));
	run->transition = transition;
	run->before_fails = SIZE_MAX;
	run->layout = transition_layout(transition);
	transition_model(transition, &run->model);
	walk_make_dirty(&run->model);
	judge_subject(transition, NULL);
	if (transition_plan(transition, run->layout, &run->plan))
		return false;
	judge_subject(transition, run->plan);
	run->steps = kvm_layout_plan_steps(run->plan, &run->nr);
	return true;
}

static void stop(struct run *run)
{
	judge_subject(NULL, NULL);
	kvm_layout_plan_free(run->plan);
	kvm_layout_free(run->layout);
	kvm_model_fini(&run->model);
	free(run->tail);
}

static int apply(struct run *run, size_t *done)
{
	const struct kvm_layout_hooks hooks = {
		.opaque = run,
		.hold = hold,
		.release = release,
		.before = before,
		.after = after,
	};
	struct kvm_layout_host host;
	int err;

	running = run;
	*done = SIZE_MAX;
	kvm_fake_start(&run->model);
	kvm_fake.on_call = on_call;
	kvm_fake_host(&host);
	err = kvm_layout_apply(&host, run->layout, run->plan, &hooks, done);
	judge(P_HOOKS, !kvm_fake.nr_unknown, "%u unknown calls",
	      kvm_fake.nr_unknown);
	kvm_layout_host_close(&host);
	kvm_fake_stop();
	return err;
}

static void judge_success(const struct transition *transition)
{
	struct run run;
	size_t done;
	int err;

	if (start(&run, transition)) {
		err = apply(&run, &done);
		judge(P_HOOKS, !err && done == run.nr && run.done == run.nr,
		      "error %d, %zu steps made", err, done);
		judge(P_HOOKS, !run.held, "vCPUs are still held");
		judge(P_HOOKS,
		      err || transition_is_target(transition, &run.model),
		      "other slots at the end");
	}
	stop(&run);
}

/* vCPUs are held after a failure only if something is missing. */
static void judge_held(enum property property, const struct run *run,
		       size_t done)
{
	bool missing = done && starts_gap(run, done - 1);

	judge(property, run->held == missing,
	      "stopped at %zu, vCPUs are %sheld", done,
	      run->held ? "" : "not ");
}

static void judge_failing_hook(const struct transition *transition,
			       struct rng *rng)
{
	struct run run;
	size_t done;
	int err;

	if (start(&run, transition) && run.nr) {
		run.before_fails = rng_below(rng, run.nr);
		err = apply(&run, &done);
		judge(P_HOOKS, err == -ECANCELED && done == run.before_fails,
		      "the hook before step %zu fails: error %d at %zu",
		      run.before_fails, err, done);
		judge(P_HOOKS, kvm_model_is(&run.model, run.layout),
		      "the hook before step %zu fails: other slots", done);
		judge_held(P_HOOKS, &run, done);
	}
	stop(&run);
}

static void judge_failing_hold(const struct transition *transition)
{
	struct run run;
	size_t done, first = 0;
	int err;

	if (start(&run, transition) && kvm_layout_plan_blinks(run.plan)) {
		while (!starts_gap(&run, first))
			first++;
		run.hold_fails = ETIMEDOUT;
		err = apply(&run, &done);
		judge(P_HOOKS, err == -ETIMEDOUT && done == first,
		      "hold fails before step %zu: error %d at %zu", first,
		      err, done);
		judge(P_HOOKS, kvm_model_is(&run.model, run.layout),
		      "hold fails: other slots");
	}
	stop(&run);
}

void applied_judge(const struct transition *transition, struct rng *rng)
{
	judge_success(transition);
	judge_failing_hook(transition, rng);
	judge_failing_hold(transition);
}

/* From where a plan has stopped there is one on, or back. */
static void judge_way(const struct run *run, bool back)
{
	struct kvm_layout_plan *plan;
	struct transition *next;
	struct walked walked;
	int err;

	next = transition_from(run->transition, &run->model, back);
	if (!judge(P_ONWARD, next, "what stays is not there any more"))
		return;
	judge_subject(next, NULL);
	err = transition_plan(next, run->layout, &plan);
	if (judge(P_ONWARD, !err, "stopped at %zu, %s: error %d", run->done,
		  back ? "back" : "on", err)) {
		walk(next, plan, &walked);
		judge(P_ONWARD, walked.arrived,
		      "stopped at %zu, %s: does not arrive", run->done,
		      back ? "back" : "on");
		kvm_layout_plan_free(plan);
	}
	judge_subject(run->transition, run->plan);
	transition_free(next);
}

static void judge_fault(const struct transition *transition, size_t at,
			int error)
{
	struct run run;
	size_t done;
	int err;

	if (!start(&run, transition) || at >= run.nr) {
		stop(&run);
		return;
	}
	run.model.fail_call = at + 1;
	run.model.fail_errno = error;
	err = apply(&run, &done);
	judge(P_FAULT, err == -error && done == at,
	      "step %zu fails with %d: error %d at %zu", at, error, err, done);
	judge(P_FAULT, kvm_model_is(&run.model, run.layout),
	      "step %zu fails: other slots than KVM has", at);
	judge_held(P_FAULT, &run, at);
	run.model.fail_call = 0;
	judge_way(&run, false);
	judge_way(&run, true);
	stop(&run);
}

static size_t count_steps(const struct transition *transition)
{
	struct run run;
	size_t nr;

	start(&run, transition);
	nr = run.nr;
	stop(&run);
	return nr;
}

void applied_judge_faults(const struct transition *transition,
			  struct rng *rng)
{
	size_t nr = count_steps(transition);
	size_t some = nr < 8 ? nr : 8;

	for (size_t i = 0; i < some; i++)
		judge_fault(transition, some == nr ? i : rng_below(rng, nr),
			    errnos[rng_below(rng, NR_ERRNOS)]);
}
