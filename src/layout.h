/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Replace some memslots of a VM by others that map the same frames to the same
 * host addresses, with one swap of the two slot sets.
 */
#ifndef _MEMSLOT_OPS_LAYOUT_H
#define _MEMSLOT_OPS_LAYOUT_H

#include <linux/kvm_host.h>

#include "standin.h"

/**
 * struct layout_change - slots that leave and slots that take their place
 * @kvm: the VM
 * @as_id: the address space that all of them are in
 * @nr_old: entries of @old
 * @nr_new: entries of @new
 * @old: slots of the active set, by gfn
 * @new: their successors, by gfn; no set knows them yet
 * @span: the one of @new that covers all frames of the others.  Its arrays are
 *	used by both layouts while both are in use.
 * @retired: the arrays that each of @old had before
 * @standin: what @old lack while both layouts are in use
 */
struct layout_change {
	struct kvm *kvm;
	u16 as_id;
	unsigned int nr_old;
	unsigned int nr_new;
	struct kvm_memory_slot **old;
	struct kvm_memory_slot **new;
	struct kvm_memory_slot *span;
	struct kvm_arch_memory_slot *retired;
	struct standin *standin;
};

int layout_init(struct layout_change *c, struct kvm *kvm, u16 as_id,
		unsigned int max_old, unsigned int max_new);
void layout_destroy(struct layout_change *c);
void layout_remove(struct layout_change *c, struct kvm_memory_slot *old);
struct kvm_memory_slot *layout_add(struct layout_change *c,
				   const struct kvm_memory_slot *like);
int layout_replace(struct layout_change *c);

#endif /* _MEMSLOT_OPS_LAYOUT_H */
