// SPDX-License-Identifier: GPL-2.0
#include "check.h"
#include "layout.h"
#include "ops.h"
#include "slots.h"

/**
 * memslot_grow() - make a slot larger at its end
 * @kvm: the VM
 * @args: the slot's number and its new size in bytes
 *
 * Context: slots_lock held; sleeps, see layout_replace().
 * Return: 0, or a negative error with nothing changed; docs/api.rst has the list.
 */
int memslot_grow(struct kvm *kvm, const struct kvm_memslot_grow *args)
{
	struct kvm_memory_slot *old, *new;
	struct layout_change c;
	int r;

	if (args->flags)
		return -EINVAL;

	old = slots_find(kvm, args->slot);
	if (IS_ERR(old))
		return PTR_ERR(old);

	r = check_larger(old, args->memory_size);
	if (r)
		return r;

	r = check_supported(kvm, old);
	if (r)
		return r;

	if (slots_overlap(kvm, old->as_id, old->base_gfn + old->npages,
			  old->base_gfn + (args->memory_size >> PAGE_SHIFT)))
		return -EEXIST;

	r = layout_init(&c, kvm, old->as_id, 1, 1);
	if (r)
		goto out;

	layout_remove(&c, old);
	new = layout_add(&c, old);
	if (!new) {
		r = -ENOMEM;
		goto out;
	}
	new->npages = args->memory_size >> PAGE_SHIFT;
	c.span = new;

	r = layout_replace(&c);
out:
	layout_destroy(&c);
	return r;
}
