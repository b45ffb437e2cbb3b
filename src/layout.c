// SPDX-License-Identifier: GPL-2.0
/*
 * An operation says which slots leave and which ones take their place; this file
 * replaces the one layout by the other.  docs/design.rst tells, phase by phase,
 * who may still hold an old slot and why that is harmless.
 */
#include <linux/sched/signal.h>

#include "arch.h"
#include "debug.h"
#include "dirty.h"
#include "layout.h"
#include "slots.h"
#include "swap.h"
#include "trace.h"
#include "wrapper/kvm.h"

/* In milliseconds, how long a first shadow root is kept waiting. */
#define READERS_PATIENCE	20

/*
 * Nothing is at hand that could be lent to the slots.  So a first shadow root has to wait for their
 * readers; but these may sleep for long, or one of them be what waits for slots_arch_lock.
 */
static void layout_keep_arch_lock(struct layout_change *c,
				  struct kvm_memory_slot **gone, unsigned int nr)
{
	struct readers_wait wait;

	readers_wait_begin(&wait, c->kvm);
	if (!readers_wait_for(&wait, msecs_to_jiffies(READERS_PATIENCE))) {
		/* The operation can neither fail any more nor do without, unless they go. */
		while (!arch_layout_lend(c, gone, nr, true) && !readers_wait_for(&wait, HZ / 10))
			;
	}
	mutex_unlock(&c->kvm->slots_arch_lock);
	debug_phase(PHASE_SWAPPED);
	readers_wait_end(&wait);
}

/*
 * Wait until nobody uses the set that was active, and release slots_arch_lock.  To what has gone
 * from the active set and lacks arrays a first shadow root would not give any.
 */
static void layout_wait_for_readers(struct layout_change *c,
				    struct kvm_memory_slot **gone, unsigned int nr)
{
	if (arch_layout_lacks_arrays(gone, nr) && !arch_layout_lend(c, gone, nr, false)) {
		layout_keep_arch_lock(c, gone, nr);
		return;
	}

	mutex_unlock(&c->kvm->slots_arch_lock);
	debug_phase(PHASE_SWAPPED);
	synchronize_srcu_expedited(&c->kvm->srcu);
}

/* Swap the sets: some slots are not in the other one.  Wait until nobody uses this one. */
static void layout_swap(struct layout_change *c, struct kvm_memory_slot **gone, unsigned int nr)
{
	u64 generation;

	generation = slots_swap(c->kvm, c->as_id);
	trace_memslot_op_swap(c->kvm, c->as_id, generation);

	layout_wait_for_readers(c, gone, nr);
	slots_end_update(c->kvm, c->as_id);
	arch_layout_quiesce(c);
	debug_phase(PHASE_WAITED);
}

/* Let what comes into KVM's sight, out of every vCPU's reach. */
static int layout_admit(struct layout_change *c)
{
	int r;

	r = mutex_lock_killable(&c->kvm->slots_arch_lock);
	if (r)
		return r;
	r = arch_layout_admit(c);
	if (r) {
		mutex_unlock(&c->kvm->slots_arch_lock);
		return r;
	}

	/* The set that will be inactive never has it. */
	slots_replace(c->kvm, c->as_id, NULL, 0, &c->coming, 1);
	layout_swap(c, NULL, 0);

	return 0;
}

/* Let an invalid slot, which is out of every vCPU's reach, out of KVM's sight as well. */
static void layout_dismiss(struct layout_change *c, struct kvm_memory_slot *slot)
{
	mutex_lock(&c->kvm->slots_arch_lock);
	/* The set that is inactive now never had it. */
	layout_swap(c, &slot, 1);
	slots_replace(c->kvm, c->as_id, &slot, 1, NULL, 0);
}

/* What was admitted is not to come after all. */
static void layout_turn_away(struct layout_change *c)
{
	arch_layout_forget(c, c->coming);
	layout_dismiss(c, c->coming);
	/* Nobody counted it among those that log. */
	c->coming->flags &= ~KVM_MEM_LOG_DIRTY_PAGES;
	arch_layout_commit(c->kvm, c->coming, NULL, KVM_MR_DELETE);
	arch_layout_retire_coming(c);
	kvm_call(kvm_arch_free_memslot)(c->kvm, c->coming);
}

/* Tell KVM what the VM's size is now: it sets a limit to page tables by it. */
static void layout_account(const struct layout_change *c)
{
	unsigned long before = change_npages(c->old, change_nr_there(c));
	unsigned long after = change_npages(c->new, change_nr_kept(c));

	c->kvm->nr_memslot_pages += after - before;
	dirty_account(c);
	if (c->leaving)
		arch_layout_commit(c->kvm, c->leaving, NULL, KVM_MR_DELETE);
	else if (after != before)
		arch_layout_commit(c->kvm, c->old[0], c->new[0], KVM_MR_CREATE);
}

static void layout_release_slot(struct layout_change *c, struct kvm_memory_slot *slot)
{
	kvm_call(kvm_arch_free_memslot)(c->kvm, slot);
	change_free_slot(slot);
}

/* Free what has left; nobody can reach it any more. */
static void layout_release(struct layout_change *c)
{
	unsigned int i;

	change_keep_bitmap(c->old[0], c->new[0]);
	for (i = 0; i < c->nr_old; i++)
		layout_release_slot(c, c->old[i]);
	if (c->leaving)
		layout_release_slot(c, c->leaving);

	c->coming = NULL;
	c->nr_old = 0;
	c->nr_new = 0;	/* they are KVM's now */
}

/*
 * What comes is there, as an invalid slot; what leaves is there in the end, as one.
 * Returns how often the sets were swapped, or an error with nothing changed.
 */
static int layout_exchange(struct layout_change *c)
{
	struct kvm *kvm = c->kvm;
	int swaps = 1;
	int r;

	/*
	 * From the first look at the slots' arrays until the new slots are in
	 * sight: else a first shadow root would give arrays to the old ones only.
	 */
	r = mutex_lock_killable(&kvm->slots_arch_lock);
	if (r)
		return r;

	r = arch_layout_prepare(c);
	if (r)
		goto out_unlock;
	debug_phase(PHASE_PREPARED);

	/* It can still be given up; and what comes may have taken long to be admitted. */
	r = fatal_signal_pending(current) ? -EINTR : arch_layout_share(c);
	if (r)
		goto out_unprepare;
	debug_phase(PHASE_SHARED);

	/* The point of no return: the old slots have changed, nothing below fails. */

	slots_replace(kvm, c->as_id, c->old, change_nr_there(c), c->new, c->nr_new);
	debug_phase(PHASE_STAGED);

	layout_swap(c, c->old, c->nr_old);
	slots_replace(kvm, c->as_id, c->old, c->nr_old, c->new, change_nr_kept(c));
	dirty_carry(c);

	if (c->flush)
		arch_layout_flush(c);
	if (c->zap)
		arch_layout_zap(c);
	if (c->leaving)
		arch_layout_forget(c, c->leaving);
	debug_phase(PHASE_ZAPPED);

	arch_layout_settle(c);
	debug_phase(PHASE_SETTLED);

	if (c->zap)
		dirty_await_zapped(c);
	if (c->leaving) {
		layout_dismiss(c, c->leaving);
		dirty_report_leaving(c);
		swaps++;
	}

	layout_account(c);
	arch_layout_retire(c);
	layout_release(c);

	return swaps;

out_unprepare:
	arch_layout_unprepare(c);
out_unlock:
	mutex_unlock(&kvm->slots_arch_lock);
	return r;
}

static int layout_admit_and_exchange(struct layout_change *c)
{
	int r;

	r = layout_admit(c);
	if (r)
		return r;
	debug_phase(PHASE_ADMITTED);

	r = layout_exchange(c);
	if (r < 0) {
		layout_turn_away(c);
		return r;
	}

	return r + 1;
}

/**
 * layout_replace() - replace the old slots by the new ones
 * @c: the change; done with, but for change_destroy(), when this returns
 *
 * Every frame that is in an old and in a new slot stays mapped at the same host
 * address throughout.
 *
 * Context: slots_lock held; sleeps, and waits for readers of the slot sets, so
 *	the caller must not be one that a vCPU waits for.
 * Return: how often the sets were swapped, or a negative error with nothing
 *	changed: -ENOMEM, -EINVAL beyond the highest gfn, -EINTR, or what
 *	arch_layout_share() returns.
 */
int layout_replace(struct layout_change *c)
{
	int r;

	lockdep_assert_held(&c->kvm->slots_lock);

	/* What is allocated from here on is arch_layout_end()'s and change_destroy()'s to free. */
	r = dirty_prepare(c) ?: arch_layout_begin(c);
	if (!r)
		r = c->coming ? layout_admit_and_exchange(c) : layout_exchange(c);
	arch_layout_end(c);

	return r;
}
