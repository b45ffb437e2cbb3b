// SPDX-License-Identifier: GPL-2.0
#include "check.h"
#include "compat/compat.h"
#include "layout.h"
#include "ops.h"
#include "slots.h"

/**
 * memslot_set_readonly() - let guest writes to a slot land, or not
 * @kvm: the VM
 * @args: the slot's number, and which of both
 *
 * Context: slots_lock held; sleeps, see layout_replace().
 * Return: see ops.h.
 */
int memslot_set_readonly(struct kvm *kvm, const struct kvm_memslot_set_readonly *args)
{
	u32 flag = args->readonly ? KVM_MEM_READONLY : 0;
	struct kvm_memory_slot *old, *new;
	struct layout_change c;
	int r;

	if (args->flags || args->pad || args->readonly > 1)
		return -EINVAL;

	if (args->readonly && !kvm_arch_has_readonly_mem(kvm))
		return -EINVAL;

	old = slots_find(kvm, args->slot);
	if (IS_ERR(old))
		return PTR_ERR(old);

	r = check_supported(kvm, old);
	if (r)
		return r;

	if ((old->flags & KVM_MEM_READONLY) == flag)
		return 0;

	r = change_init(&c, kvm, old->as_id, 1, 1);
	if (r)
		goto out;

	change_remove(&c, old);
	c.span = old;

	new = change_add(&c, old, 0, old->npages);
	if (!new) {
		r = -ENOMEM;
		goto out;
	}
	new->flags ^= KVM_MEM_READONLY;

	/*
	 * Taking the writable bit away would not do: the fast page fault gives it
	 * back without a look at the slot's flags.
	 *
	 * The other way round, a fault that has found the old slot may take the bit away that
	 * another one has just given, and KVM does not always flush then.
	 */
	if (args->readonly)
		c.zap = new;
	else
		c.flush = true;

	r = layout_replace(&c);
out:
	change_destroy(&c);
	return r;
}
