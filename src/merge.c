// SPDX-License-Identifier: GPL-2.0
#include "check.h"
#include "layout.h"
#include "ops.h"
#include "slots.h"

/* Name the slots that are merged; each must follow the one before. */
static int remove_all(struct layout_change *c, const struct kvm_memslot_merge *args)
{
	unsigned int i;
	int r;

	for (i = 0; i <= args->nr_slots; i++) {
		struct kvm_memory_slot *old;

		old = slots_find(c->kvm, i ? args->slots[i - 1] : args->slot);
		if (IS_ERR(old))
			return PTR_ERR(old);

		r = check_supported(c->kvm, old);
		if (!r && i)
			r = check_adjacent(c->old[i - 1], old);
		if (r)
			return r;

		change_remove(c, old);
	}

	return 0;
}

/**
 * memslot_merge() - make one slot of several that are contiguous
 * @kvm: the VM
 * @args: the slots' numbers; fewer merged into the first than MEMSLOT_OPS_MAX_PIECES
 *
 * Context: slots_lock held; sleeps, see layout_replace().
 * Return: see ops.h.
 */
int memslot_merge(struct kvm *kvm, const struct kvm_memslot_merge *args)
{
	struct layout_change c;
	unsigned long npages;
	int r;

	if (args->flags || args->pad || !args->nr_slots)
		return -EINVAL;

	r = change_init(&c, kvm, args->slot >> 16, args->nr_slots + 1, 1);
	if (r)
		goto out;

	r = remove_all(&c, args);
	if (r)
		goto out;

	npages = change_npages(c.old, c.nr_old);
	if (npages > KVM_MEM_MAX_NR_PAGES) {
		r = -EINVAL;
		goto out;
	}

	c.span = change_add(&c, c.old[0], 0, npages);

	r = c.span ? layout_replace(&c) : -ENOMEM;
out:
	change_destroy(&c);
	return r;
}
