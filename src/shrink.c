// SPDX-License-Identifier: GPL-2.0
#include "check.h"
#include "layout.h"
#include "ops.h"
#include "pinned.h"
#include "slots.h"

/**
 * memslot_shrink() - make a slot smaller at its end, or remove it
 * @kvm: the VM
 * @args: the slot's number, its new size in bytes, and where the dirty bits of what is
 *	removed go
 * @bits: what holds the memory that they go to, or as much of it as was wanted before
 * @wanted: in bytes, how much of it is needed; set where it is not there yet
 *
 * Context: slots_lock held; sleeps, see layout_replace().
 * Return: see ops.h; or -EAGAIN, with nothing changed, where @bits is too short.
 */
int memslot_shrink(struct kvm *kvm, const struct kvm_memslot_shrink *args,
		   const struct pinned_buffer *bits, size_t *wanted)
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

	r = check_smaller(old, args->memory_size) ?: check_supported(kvm, old);
	if (r)
		return r;

	/* In a VM with dirty rings, a slot may have a bitmap that nobody sets bits in. */
	if (args->dirty_bitmap && (!old->dirty_bitmap || kvm->dirty_ring_size))
		return -EINVAL;

	r = change_init(&c, kvm, old->as_id, 1, 2);
	if (r)
		goto out;

	change_remove(&c, old);
	c.span = old;

	r = -ENOMEM;
	if (npages && !change_add(&c, old, 0, npages))
		goto out;
	c.zap = change_add_leaving(&c, old, npages);
	if (!c.zap)
		goto out;

	if (args->dirty_bitmap) {
		*wanted = kvm_dirty_bitmap_bytes(c.leaving);
		r = -EAGAIN;
		if (bits->bytes < *wanted)
			goto out;
		c.leaving_bits = bits;
	}

	r = layout_replace(&c);
out:
	change_destroy(&c);
	return r;
}
