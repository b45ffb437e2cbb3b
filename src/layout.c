// SPDX-License-Identifier: GPL-2.0
/*
 * An operation says which slots leave and which ones take their place; this file
 * replaces the one layout by the other.  docs/design.rst tells, phase by phase,
 * who may still hold an old slot and why that is harmless.
 */
#include <linux/slab.h>
#include <linux/vmalloc.h>

#include "arch.h"
#include "debug.h"
#include "dirty.h"
#include "layout.h"
#include "slots.h"
#include "swap.h"
#include "trace.h"
#include "wrapper/kvm.h"

/**
 * layout_init() - begin to describe a change
 * @c: the change
 * @kvm: the VM
 * @as_id: the address space
 * @max_old: slots that will leave, at most
 * @max_new: slots that will take their place, at most
 *
 * Context: slots_lock held, until layout_destroy().
 * Return: 0 or -ENOMEM.  layout_destroy() is due in either case.
 */
int layout_init(struct layout_change *c, struct kvm *kvm, u16 as_id,
		unsigned int max_old, unsigned int max_new)
{
	lockdep_assert_held(&kvm->slots_lock);

	*c = (struct layout_change) {
		.kvm = kvm,
		.as_id = as_id,
		.old = kcalloc(max_old, sizeof(*c->old), GFP_KERNEL_ACCOUNT),
		.new = kcalloc(max_new, sizeof(*c->new), GFP_KERNEL_ACCOUNT),
		.retired = kcalloc(max_old, sizeof(*c->retired), GFP_KERNEL_ACCOUNT),
		.own = kcalloc(max_new, sizeof(*c->own), GFP_KERNEL_ACCOUNT),
	};

	return c->old && c->new && c->retired && c->own ? 0 : -ENOMEM;
}

static void free_slot(struct kvm_memory_slot *slot)
{
	vfree(slot->dirty_bitmap);
	kfree(slot);
}

/**
 * layout_destroy() - end a change that was made, or was given up
 * @c: the change
 */
void layout_destroy(struct layout_change *c)
{
	unsigned int i;

	/* What layout_replace() installed is not in the list any more. */
	for (i = 0; i < c->nr_new; i++)
		free_slot(c->new[i]);
	kfree(c->own);
	kfree(c->retired);
	kfree(c->new);
	kfree(c->old);
}

/**
 * layout_remove() - name the next slot that leaves
 * @c: the change
 * @old: a slot of the active set, above those named before
 */
void layout_remove(struct layout_change *c, struct kvm_memory_slot *old)
{
	c->old[c->nr_old++] = old;
}

/**
 * layout_add() - name the next slot that takes the place of those that leave
 * @c: the change
 * @like: a slot that the new one is like, but for its place and size
 * @first: where it starts, in pages from the start of @like
 * @npages: its size in pages
 *
 * Return: the new slot, without arrays, or NULL where there is no memory.
 */
struct kvm_memory_slot *layout_add(struct layout_change *c,
				   const struct kvm_memory_slot *like,
				   unsigned long first, unsigned long npages)
{
	struct kvm_memory_slot *new;

	new = kzalloc(sizeof(*new), GFP_KERNEL_ACCOUNT);
	if (!new)
		return NULL;

	new->as_id = like->as_id;
	new->id = like->id;
	new->base_gfn = like->base_gfn + first;
	new->npages = npages;
	new->userspace_addr = like->userspace_addr + (first << PAGE_SHIFT);
	new->flags = like->flags;

	c->new[c->nr_new++] = new;

	return new;
}

/* Swap the sets, and wait until nobody uses the one that was active. */
static void layout_swap(const struct layout_change *c)
{
	u64 generation;

	generation = slots_swap(c->kvm, c->as_id);
	trace_memslot_op_swap(c->kvm, c->as_id, generation);
	debug_phase(PHASE_SWAPPED);

	slots_wait_for_readers(c->kvm, c->as_id);
	debug_phase(PHASE_WAITED);
}

/* The tail is out of every vCPU's reach: let it go out of KVM's sight as well. */
static void layout_remove_tail(struct layout_change *c)
{
	dirty_await_tail(c);

	mutex_lock(&c->kvm->slots_arch_lock);
	arch_layout_dismiss_tail(c);

	/* The set that is inactive now never had it. */
	layout_swap(c);
	slots_replace(c->kvm, c->as_id, &c->tail, 1, NULL, 0);
	dirty_report_tail(c);
}

/* Tell KVM what the VM's size is now: the limit on its page tables follows from it. */
static void layout_account(const struct layout_change *c)
{
	unsigned long before = layout_npages(c->old, c->nr_old);
	unsigned long after = layout_npages(c->new, layout_nr_kept(c));

	c->kvm->nr_memslot_pages += after - before;
	dirty_account(c);
	if (c->tail)
		kvm_call(kvm_arch_commit_memory_region)(c->kvm, c->tail, NULL, KVM_MR_DELETE);
	else if (after != before)
		kvm_call(kvm_arch_commit_memory_region)(c->kvm, c->old[0], c->new[0],
							KVM_MR_CREATE);
}

/* Free what has left; nobody can reach it any more. */
static void layout_release(struct layout_change *c)
{
	unsigned int i;

	for (i = 0; i < c->nr_old; i++) {
		kvm_call(kvm_arch_free_memslot)(c->kvm, c->old[i]);
		free_slot(c->old[i]);
	}
	if (c->tail) {
		kvm_call(kvm_arch_free_memslot)(c->kvm, c->tail);
		free_slot(c->tail);
	}

	c->nr_old = 0;
	c->nr_new = 0;	/* they are KVM's now */
}

/**
 * layout_replace() - replace the old slots by the new ones
 * @c: the change; done with, but for layout_destroy(), when this returns
 *
 * Every frame that is in an old and in a new slot stays mapped at the same host
 * address throughout.
 *
 * Context: slots_lock held; sleeps, and waits for readers of the slot sets, so
 *	the caller must not be one that a vCPU waits for.
 * Return: how often the sets were swapped, or a negative error with nothing
 *	changed: -ENOMEM, -EINVAL beyond the highest gfn, or what arch_layout_share()
 *	returns.
 */
int layout_replace(struct layout_change *c)
{
	struct kvm *kvm = c->kvm;
	int swaps = 1;
	int r;

	lockdep_assert_held(&kvm->slots_lock);

	r = dirty_prepare(c);
	if (r)
		return r;

	/*
	 * From the first look at the slots' arrays until the new slots are in
	 * sight: else a first shadow root would give arrays to the old ones only.
	 */
	mutex_lock(&kvm->slots_arch_lock);

	r = arch_layout_prepare(c);
	if (r)
		goto out_unlock;
	debug_phase(PHASE_PREPARED);

	r = arch_layout_share(c);
	if (r)
		goto out_unprepare;
	debug_phase(PHASE_SHARED);

	/* The point of no return: the old slots have changed, nothing below fails. */

	slots_replace(kvm, c->as_id, c->old, c->nr_old, c->new, c->nr_new);
	debug_phase(PHASE_STAGED);

	layout_swap(c);
	slots_replace(kvm, c->as_id, c->old, c->nr_old, c->new, layout_nr_kept(c));
	dirty_carry(c);

	if (c->zap)
		arch_layout_zap(c);
	debug_phase(PHASE_ZAPPED);

	arch_layout_settle(c);
	debug_phase(PHASE_SETTLED);

	if (c->tail) {
		layout_remove_tail(c);
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
