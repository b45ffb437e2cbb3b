/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The description of a change: which slots leave, and which take their place.
 */
#ifndef _MEMSLOT_OPS_CHANGE_H
#define _MEMSLOT_OPS_CHANGE_H

#include <linux/kvm_host.h>

struct arch_change;
struct pinned_buffer;

/**
 * struct layout_change - slots that leave and slots that take their place
 * @kvm: the VM
 * @as_id: the address space that all of them are in
 * @nr_old: entries of @old
 * @nr_new: entries of @new
 * @old: slots of the active set, by gfn
 * @new: their successors, by gfn; no set knows them yet
 * @span: the one slot, of @old or of @new, that covers all frames of the others;
 *	the only one on its side, unless all that it shares its side with is @leaving.
 *	Its arrays are used by both layouts while both are in use.
 * @coming: the last of @old where its frames are in no slot yet, or NULL: it is made
 *	an invalid slot first, so that nobody still takes its frames for MMIO when
 *	they become memory
 * @leaving: the last of @new where its frames are to be in no slot, or NULL: it is
 *	an invalid slot until they are out of every vCPU's reach, and gone then
 * @zap: the one of @new whose mappings are zapped once nobody can make them anew
 *	from an old slot, or NULL
 * @flush: whether TLBs may have to be flushed then, because one may have made a mapping of less
 *	from an old slot in the place of another that had been made from the new one
 * @leaving_bits: where the final dirty bitmap of @leaving goes, or NULL
 * @ring_ends: for each vCPU, where its dirty ring ended before @coming was there, if entries
 *	may be made through that, or NULL
 * @nr_ring_ends: entries of @ring_ends; vCPUs that come later had none then
 * @arch: what the architecture notes about the change, see arch.h
 */
struct layout_change {
	struct kvm *kvm;
	u16 as_id;
	unsigned int nr_old;
	unsigned int nr_new;
	struct kvm_memory_slot **old;
	struct kvm_memory_slot **new;
	struct kvm_memory_slot *span;
	struct kvm_memory_slot *coming;
	struct kvm_memory_slot *leaving;
	struct kvm_memory_slot *zap;
	bool flush;
	const struct pinned_buffer *leaving_bits;
	u32 *ring_ends;
	unsigned int nr_ring_ends;
	struct arch_change *arch;
};

int change_init(struct layout_change *c, struct kvm *kvm, u16 as_id,
		unsigned int max_old, unsigned int max_new);
void change_destroy(struct layout_change *c);
void change_remove(struct layout_change *c, struct kvm_memory_slot *old);
struct kvm_memory_slot *change_add(struct layout_change *c, const struct kvm_memory_slot *like,
				   unsigned long first, unsigned long npages);
struct kvm_memory_slot *change_add_coming(struct layout_change *c,
					  const struct kvm_memory_slot *like,
					  unsigned long npages);
struct kvm_memory_slot *change_add_leaving(struct layout_change *c,
					   const struct kvm_memory_slot *like,
					   unsigned long first);
void change_keep_bitmap(struct kvm_memory_slot *goes, const struct kvm_memory_slot *stays);
void change_free_slot(struct kvm_memory_slot *slot);

/**
 * change_npages() - the size of several slots
 * @slots: the slots
 * @nr: how many
 *
 * Return: in pages.
 */
static inline unsigned long change_npages(struct kvm_memory_slot *const *slots,
					  unsigned int nr)
{
	unsigned long npages = 0;
	unsigned int i;

	for (i = 0; i < nr; i++)
		npages += slots[i]->npages;

	return npages;
}

/**
 * change_nr_there() - how many of the old slots are there before the change
 * @c: the change
 */
static inline unsigned int change_nr_there(const struct layout_change *c)
{
	return c->nr_old - !!c->coming;
}

/**
 * change_nr_kept() - how many of the new slots are there to stay
 * @c: the change
 */
static inline unsigned int change_nr_kept(const struct layout_change *c)
{
	return c->nr_new - !!c->leaving;
}

#endif /* _MEMSLOT_OPS_CHANGE_H */
