// SPDX-License-Identifier: MIT
#include <errno.h>
#include <stdlib.h>

#include "internal.h"

/**
 * struct run - a plan as it is carried out
 * @host: the VM
 * @layout: its slots
 * @hooks: the caller's
 * @dirty: room for the dirty bits of any of its SHRINKs, or NULL
 * @held: vCPUs are
 */
struct run {
	const struct kvm_layout_host *host;
	struct kvm_layout *layout;
	const struct kvm_layout_hooks *hooks;
	uint64_t *dirty;
	bool held;
};

static int hold(struct run *run)
{
	int error = 0;

	if (!run->held && run->hooks->hold)
		error = run->hooks->hold(run->hooks->opaque);
	if (!error)
		run->held = true;
	return error;
}

static void release(struct run *run)
{
	if (run->held && run->hooks->release)
		run->hooks->release(run->hooks->opaque);
	run->held = false;
}

/* 64-bit words for a bit for each page that a SHRINK removes */
static size_t dirty_words(const struct kvm_layout_step *step)
{
	uint64_t pages = (step->before.memory_size - step->after.memory_size) /
			 KVM_LAYOUT_PAGE_SIZE;

	return step->flags & KVM_LAYOUT_DIRTY_TAIL ? (pages + 63) / 64 : 0;
}

/* All that a later step could fail for want of. */
static int prepare(struct run *run, const struct kvm_layout_step *steps,
		   size_t nr)
{
	size_t words = 0, more = 0;
	uint32_t highest = 0;
	int error;

	for (size_t i = 0; i < nr; i++) {
		size_t needed = dirty_words(&steps[i]);

		if (needed > words)
			words = needed;
		more += 1 + steps[i].nr_others;
		if ((steps[i].after.slot & 0xffff) > highest)
			highest = steps[i].after.slot & 0xffff;
		for (size_t j = 0; j < steps[i].nr_others; j++)
			if ((steps[i].others[j].slot & 0xffff) > highest)
				highest = steps[i].others[j].slot & 0xffff;
	}
	error = layout_reserve(run->layout, more, highest);
	if (error || !words || !run->hooks->after)
		return error;
	run->dirty = malloc(words * sizeof(*run->dirty));
	return run->dirty ? 0 : -ENOMEM;
}

/*
 * With the dirty bits, if they are wanted and there are any: a slot that logs to
 * rings only has none, and then asking for them is refused before anything changes.
 */
static int call_step(struct run *run, const struct kvm_layout_step *step,
		     uint64_t **dirty)
{
	int error;

	*dirty = dirty_words(step) ? run->dirty : NULL;
	error = kvm_layout_step_call(run->host, step, *dirty);
	if (error != -EINVAL || !*dirty)
		return error;
	*dirty = NULL;
	return kvm_layout_step_call(run->host, step, NULL);
}

static int make_step(struct run *run, const struct kvm_layout_step *step)
{
	uint64_t *dirty = NULL;
	int error = 0;

	if (step->flags & KVM_LAYOUT_GAP)
		error = hold(run);
	if (!error && run->hooks->before)
		error = run->hooks->before(run->hooks->opaque, step);
	if (!error)
		error = call_step(run, step, &dirty);
	if (!error)
		error = kvm_layout_step_done(run->layout, step);
	if (!error && run->hooks->after)
		run->hooks->after(run->hooks->opaque, step, dirty);
	return error;
}

int kvm_layout_apply(const struct kvm_layout_host *host,
		     struct kvm_layout *layout,
		     const struct kvm_layout_plan *plan,
		     const struct kvm_layout_hooks *hooks, size_t *done)
{
	static const struct kvm_layout_hooks none;
	struct run run = {
		.host = host,
		.layout = layout,
		.hooks = hooks ? hooks : &none,
	};
	const struct kvm_layout_step *steps;
	bool missing = false;
	size_t nr, i = 0;
	int error;

	steps = kvm_layout_plan_steps(plan, &nr);
	error = prepare(&run, steps, nr);
	while (!error && i < nr) {
		error = make_step(&run, &steps[i]);
		if (error)
			break;
		missing = steps[i++].flags & KVM_LAYOUT_GAP;
		if (!missing)
			release(&run);
	}
	if (!missing)
		release(&run);
	free(run.dirty);
	if (done)
		*done = i;
	return error;
}

/* From what the layout has to one slot, or none. */
static int change(const struct kvm_layout_host *host, struct kvm_layout *layout,
		  const region_t *wanted, const struct kvm_layout_hooks *hooks,
		  size_t *done)
{
	struct kvm_layout_plan *plan;
	const region_t *slots;
	size_t nr;
	int error;

	*done = 0;
	slots = kvm_layout_slots(layout, &nr);
	error = kvm_layout_plan(host, layout, nr ? &slots->slot : NULL, nr,
				wanted, !!wanted->memory_size,
				KVM_LAYOUT_PARTITION, &plan);
	if (error)
		return error;
	if (!hooks && kvm_layout_plan_blinks(plan))
		error = -EOPNOTSUPP;
	else
		error = kvm_layout_apply(host, layout, plan, hooks, done);
	kvm_layout_plan_free(plan);
	return error;
}

int kvm_layout_resize(const struct kvm_layout_host *host,
		      struct kvm_userspace_memory_region *slot, uint64_t size,
		      const struct kvm_layout_hooks *hooks)
{
	region_t wanted = *slot;
	struct kvm_layout *layout;
	size_t done, ignored;
	int error;

	if (size == slot->memory_size)
		return 0;
	wanted.memory_size = size;
	layout = kvm_layout_new(slot->slot >> 16, slot->slot & 0xffff, 1);
	if (!layout)
		return -ENOMEM;
	error = kvm_layout_add(layout, slot);
	if (!error)
		error = change(host, layout, &wanted, hooks, &done);
	if (!error) {
		slot->memory_size = size;
	} else if (!kvm_layout_find(layout, slot->slot) && done) {
		/* Deleted, but not created: with vCPUs held it can come back. */
		if (change(host, layout, slot, NULL, &ignored))
			slot->memory_size = 0;
		if (hooks->release)
			hooks->release(hooks->opaque);
	}
	kvm_layout_free(layout);
	return error;
}
