/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Replace some memslots of a VM by others that map the same frames to the same
 * host addresses, with one swap of the two slot sets.
 */
#ifndef _MEMSLOT_OPS_LAYOUT_H
#define _MEMSLOT_OPS_LAYOUT_H

#include <linux/kvm_host.h>

struct standin;

/**
 * struct layout_change - slots that leave and slots that take their place
 * @kvm: the VM
 * @as_id: the address space that all of them are in
 * @nr_old: entries of @old
 * @nr_new: entries of @new
 * @old: slots of the active set, by gfn
 * @new: their successors, by gfn; no set knows them yet
 * @span: the one slot, of @old or of @new, that covers all frames of the others;
 *	the only one on its side, unless all that it shares its side with is the
 *	@tail.  Its arrays are used by both layouts while both are in use.
 * @tail: the last of @new where that is to vanish, or NULL: it is an invalid slot
 *	until its frames are out of every vCPU's reach, and gone then
 * @zap: the one of @new whose mappings are zapped once nobody can make them anew
 *	from an old slot, or NULL
 * @retired: the arrays that each of @old had before
 * @own: the arrays that each of @new is to have in the end, where it is not to
 *	have the span's
 * @standin: what @old lack while both layouts are in use
 * @tail_bits: where the final dirty bitmap of @tail goes, or NULL
 */
struct layout_change {
	struct kvm *kvm;
	u16 as_id;
	unsigned int nr_old;
	unsigned int nr_new;
	struct kvm_memory_slot **old;
	struct kvm_memory_slot **new;
	struct kvm_memory_slot *span;
	struct kvm_memory_slot *tail;
	struct kvm_memory_slot *zap;
	struct kvm_arch_memory_slot *retired;
	struct kvm_arch_memory_slot *own;
	struct standin *standin;
	void *tail_bits;
};

int layout_init(struct layout_change *c, struct kvm *kvm, u16 as_id,
		unsigned int max_old, unsigned int max_new);
void layout_destroy(struct layout_change *c);
void layout_remove(struct layout_change *c, struct kvm_memory_slot *old);
struct kvm_memory_slot *layout_add(struct layout_change *c,
				   const struct kvm_memory_slot *like,
				   unsigned long first, unsigned long npages);
int layout_replace(struct layout_change *c);

/**
 * layout_npages() - the size of several slots
 * @slots: the slots
 * @nr: how many
 *
 * Return: in pages.
 */
static inline unsigned long layout_npages(struct kvm_memory_slot *const *slots,
					  unsigned int nr)
{
	unsigned long npages = 0;
	unsigned int i;

	for (i = 0; i < nr; i++)
		npages += slots[i]->npages;

	return npages;
}

/**
 * layout_nr_kept() - how many of the new slots are there to stay
 * @c: the change
 */
static inline unsigned int layout_nr_kept(const struct layout_change *c)
{
	return c->nr_new - !!c->tail;
}

#endif /* _MEMSLOT_OPS_LAYOUT_H */
