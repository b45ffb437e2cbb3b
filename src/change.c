// SPDX-License-Identifier: GPL-2.0
#include <linux/slab.h>
#include <linux/vmalloc.h>

#include "change.h"

/**
 * change_init() - begin to describe a change
 * @c: the change
 * @kvm: the VM
 * @as_id: the address space
 * @max_old: slots that will leave, at most; what comes is one
 * @max_new: slots that will take their place, at most; what leaves is one
 *
 * Context: slots_lock held, until change_destroy().
 * Return: 0 or -ENOMEM.  change_destroy() is due in either case.
 */
int change_init(struct layout_change *c, struct kvm *kvm, u16 as_id,
		unsigned int max_old, unsigned int max_new)
{
	lockdep_assert_held(&kvm->slots_lock);

	*c = (struct layout_change) {
		.kvm = kvm,
		.as_id = as_id,
		.old = kcalloc(max_old, sizeof(*c->old), GFP_KERNEL_ACCOUNT),
		.new = kcalloc(max_new, sizeof(*c->new), GFP_KERNEL_ACCOUNT),
	};

	return c->old && c->new ? 0 : -ENOMEM;
}

/**
 * change_free_slot() - free a slot that nobody can reach
 * @slot: the slot; its arrays are somebody else's to free
 */
void change_free_slot(struct kvm_memory_slot *slot)
{
	vfree(slot->dirty_bitmap);
	kfree(slot);
}

/**
 * change_keep_bitmap() - leave a slot that goes its bitmap, unless another has the same
 * @goes: the slot; it is to be freed
 * @stays: the other one
 */
void change_keep_bitmap(struct kvm_memory_slot *goes, const struct kvm_memory_slot *stays)
{
	if (goes->dirty_bitmap == stays->dirty_bitmap)
		goes->dirty_bitmap = NULL;
}

/**
 * change_destroy() - end a change that was made, or was given up
 * @c: the change
 */
void change_destroy(struct layout_change *c)
{
	unsigned int i;

	/* Where layout_replace() succeeded, nothing is in these lists any more. */
	if (c->nr_new)
		change_keep_bitmap(c->new[0], c->old[0]);
	for (i = 0; i < c->nr_new; i++)
		change_free_slot(c->new[i]);
	if (c->coming)
		change_free_slot(c->coming);
	kfree(c->ring_ends);
	kfree(c->new);
	kfree(c->old);
}

/**
 * change_remove() - name the next slot that leaves
 * @c: the change
 * @old: a slot of the active set, above those named before
 */
void change_remove(struct layout_change *c, struct kvm_memory_slot *old)
{
	c->old[c->nr_old++] = old;
}

static struct kvm_memory_slot *alloc_slot(const struct kvm_memory_slot *like,
					  unsigned long first, unsigned long npages)
{
	struct kvm_memory_slot *slot;

	slot = kzalloc(sizeof(*slot), GFP_KERNEL_ACCOUNT);
	if (!slot)
		return NULL;

	slot->as_id = like->as_id;
	slot->id = like->id;
	slot->base_gfn = like->base_gfn + first;
	slot->npages = npages;
	slot->userspace_addr = like->userspace_addr + (first << PAGE_SHIFT);
	slot->flags = like->flags;

	return slot;
}

/**
 * change_add() - name the next slot that takes the place of those that leave
 * @c: the change
 * @like: a slot that the new one is like, but for its place and size
 * @first: where it starts, in pages from the start of @like
 * @npages: its size in pages
 *
 * Return: the new slot, without arrays, or NULL where there is no memory.
 */
struct kvm_memory_slot *change_add(struct layout_change *c, const struct kvm_memory_slot *like,
				   unsigned long first, unsigned long npages)
{
	struct kvm_memory_slot *new = alloc_slot(like, first, npages);

	if (new)
		c->new[c->nr_new++] = new;

	return new;
}

/*
 * A slot that is on its way in or out is in KVM's lookups, but nothing can be built on
 * it.  It has a number that nobody can name.
 */
static void make_invalid(struct kvm_memory_slot *slot)
{
	slot->id = KVM_MEM_SLOTS_NUM;
	slot->flags |= KVM_MEMSLOT_INVALID;
}

/**
 * change_add_coming() - name the frames behind a slot that are to become memory
 * @c: the change; all other old slots have been named
 * @like: the slot that they follow, and are to be like
 * @npages: how many
 *
 * Return: the slot that they are at first, without arrays, or NULL where there is no
 *	memory.
 */
struct kvm_memory_slot *change_add_coming(struct layout_change *c,
					  const struct kvm_memory_slot *like,
					  unsigned long npages)
{
	struct kvm_memory_slot *coming = alloc_slot(like, like->npages, npages);

	if (coming) {
		make_invalid(coming);
		c->old[c->nr_old++] = coming;
		c->coming = coming;
	}

	return coming;
}

/**
 * change_add_leaving() - name the frames at the end of a slot that are to go
 * @c: the change; all other new slots have been named
 * @like: the slot that they are in
 * @first: the first of them, in pages from the start of @like
 *
 * Return: the slot that they are at last, without arrays, or NULL where there is no
 *	memory.
 */
struct kvm_memory_slot *change_add_leaving(struct layout_change *c,
					   const struct kvm_memory_slot *like,
					   unsigned long first)
{
	struct kvm_memory_slot *leaving = change_add(c, like, first, like->npages - first);

	if (leaving) {
		make_invalid(leaving);
		c->leaving = leaving;
	}

	return leaving;
}
