// SPDX-License-Identifier: GPL-2.0
#include "check.h"
#include "layout.h"
#include "ops.h"
#include "slots.h"

static int check_free(struct kvm *kvm, const struct kvm_memslot_split *args)
{
	unsigned int i;

	for (i = 0; i < args->nr_cuts; i++) {
		struct kvm_memory_slot *taken = slots_find(kvm, args->cuts[i].slot);

		if (taken != ERR_PTR(-ENOENT))
			return IS_ERR(taken) ? PTR_ERR(taken) : -EEXIST;
	}

	return 0;
}

/* The first piece keeps the number, each cut starts another. */
static int add_pieces(struct layout_change *c, const struct kvm_memory_slot *old,
		      const struct kvm_memslot_split *args)
{
	unsigned long first = 0, end;
	unsigned int i;

	for (i = 0; i <= args->nr_cuts; i++, first = end) {
		struct kvm_memory_slot *piece;

		end = i < args->nr_cuts ? args->cuts[i].offset >> PAGE_SHIFT : old->npages;

		piece = change_add(c, old, first, end - first);
		if (!piece)
			return -ENOMEM;
		if (i)
			piece->id = (u16)args->cuts[i - 1].slot;
	}

	return 0;
}

/**
 * memslot_split() - cut a slot into several
 * @kvm: the VM
 * @args: the slot's number, where the pieces start and what they are called;
 *	fewer cuts than MEMSLOT_OPS_MAX_PIECES
 *
 * Context: slots_lock held; sleeps, see layout_replace().
 * Return: see ops.h.
 */
int memslot_split(struct kvm *kvm, const struct kvm_memslot_split *args)
{
	struct kvm_memory_slot *old;
	struct layout_change c;
	int r;

	if (args->flags || args->pad)
		return -EINVAL;

	old = slots_find(kvm, args->slot);
	if (IS_ERR(old))
		return PTR_ERR(old);

	r = check_cuts(old, args->cuts, args->nr_cuts) ?: check_free(kvm, args) ?:
	    check_supported(kvm, old);
	if (r)
		return r;

	r = change_init(&c, kvm, old->as_id, 1, args->nr_cuts + 1);
	if (r)
		goto out;

	change_remove(&c, old);
	c.span = old;

	r = add_pieces(&c, old, args) ?: layout_replace(&c);
out:
	change_destroy(&c);
	return r;
}
