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
 * Return: see ops.h.
 */
int memslot_grow(struct kvm *kvm, const struct kvm_memslot_grow *args)
{
	unsigned long npages = args->memory_size >> PAGE_SHIFT;
	struct kvm_memory_slot *old;
	struct layout_change c;
	int r;

	if (args->flags)
		return -EINVAL;

	old = slots_find(kvm, args->slot);
	if (IS_ERR(old))
		return PTR_ERR(old);

	r = check_larger(old, args->memory_size) ?: check_supported(kvm, old);
	if (r)
		return r;

	if (slots_overlap(kvm, old->as_id, old->base_gfn + old->npages, old->base_gfn + npages))
		return -EEXIST;

	r = change_init(&c, kvm, old->as_id, 2, 1);
	if (r)
		goto out;

	change_remove(&c, old);
	r = -ENOMEM;
	if (!change_add_coming(&c, old, npages - old->npages))
		goto out;
	c.span = change_add(&c, old, 0, npages);
	if (!c.span)
		goto out;

	r = layout_replace(&c);
out:
	change_destroy(&c);
	return r;
}
