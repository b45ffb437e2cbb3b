// SPDX-License-Identifier: GPL-2.0
#include <linux/rbtree.h>

#include "compat/compat.h"
#include "slots.h"

/**
 * slots_inactive() - the set that no new reader will use until the next swap
 * @kvm: the VM
 * @as_id: the address space
 *
 * Context: slots_lock held.
 */
struct kvm_memslots *slots_inactive(struct kvm *kvm, u16 as_id)
{
	return &kvm->__memslots[as_id][!__kvm_memslots(kvm, as_id)->node_idx];
}

/**
 * slots_find() - look a slot up by the number that user space gave
 * @kvm: the VM
 * @slot: as_id << 16 | id
 *
 * KVM's own slots, at ids from KVM_USER_MEM_SLOTS, are out of user space's reach.
 *
 * Context: slots_lock held.
 * Return: the slot, or an ERR_PTR: -EINVAL where there can be no such number,
 *	-ENOENT where there is no such slot.
 */
struct kvm_memory_slot *slots_find(struct kvm *kvm, u32 slot)
{
	u16 as_id = slot >> 16, id = slot;
	struct kvm_memory_slot *found;

	lockdep_assert_held(&kvm->slots_lock);

	if (as_id >= kvm_arch_nr_memslot_as_ids(kvm) || id >= KVM_USER_MEM_SLOTS)
		return ERR_PTR(-EINVAL);

	found = id_to_memslot(__kvm_memslots(kvm, as_id), id);

	return found ?: ERR_PTR(-ENOENT);
}

/**
 * slots_overlap() - is any frame of a range in a slot?
 * @kvm: the VM
 * @as_id: the address space
 * @start: first gfn of the range
 * @end: first gfn after the range
 *
 * Context: slots_lock held.
 * Return: true if so, KVM's own slots included.
 */
bool slots_overlap(struct kvm *kvm, u16 as_id, gfn_t start, gfn_t end)
{
	struct kvm_memslot_iter iter;

	lockdep_assert_held(&kvm->slots_lock);

	kvm_for_each_memslot_in_gfn_range(&iter, __kvm_memslots(kvm, as_id), start, end)
		return true;

	return false;
}

static bool gfn_node_less(struct rb_node *a, const struct rb_node *b, int idx)
{
	return container_of(a, struct kvm_memory_slot, gfn_node[idx])->base_gfn <
	       container_of(b, struct kvm_memory_slot, gfn_node[idx])->base_gfn;
}

/* rb_add() compares nodes without being told the set, hence one each. */
static bool gfn_node_less_0(struct rb_node *a, const struct rb_node *b)
{
	return gfn_node_less(a, b, 0);
}

static bool gfn_node_less_1(struct rb_node *a, const struct rb_node *b)
{
	return gfn_node_less(a, b, 1);
}

static void slots_remove(struct kvm_memslots *set, struct kvm_memory_slot *slot)
{
	int idx = set->node_idx;

	hash_del(&slot->id_node[idx]);
	interval_tree_remove(&slot->hva_node[idx], &set->hva_tree);
	rb_erase(&slot->gfn_node[idx], &set->gfn_tree);

	if (atomic_long_read(&set->last_used_slot) == (long)slot)
		atomic_long_set(&set->last_used_slot, 0);
}

static void slots_add(struct kvm_memslots *set, struct kvm_memory_slot *slot)
{
	unsigned long bytes = slot->npages << PAGE_SHIFT;
	int idx = set->node_idx;

	slot->hva_node[idx].start = slot->userspace_addr;
	slot->hva_node[idx].last = slot->userspace_addr + bytes - 1;

	hash_add(set->id_hash, &slot->id_node[idx], slot->id);
	interval_tree_insert(&slot->hva_node[idx], &set->hva_tree);
	if (idx)
		rb_add(&slot->gfn_node[1], &set->gfn_tree, gfn_node_less_1);
	else
		rb_add(&slot->gfn_node[0], &set->gfn_tree, gfn_node_less_0);
}

/**
 * slots_replace() - put slots in the place of others, in the inactive set
 * @kvm: the VM
 * @as_id: the address space
 * @old: slots that leave; each is in the inactive set
 * @nr_old: how many
 * @new: slots that take their place; none is in the inactive set
 * @nr_new: how many
 *
 * Called once before the swap and once after it, when the other set is the
 * inactive one.
 *
 * Context: slots_lock held; after the swap, no reader left in the inactive set.
 */
void slots_replace(struct kvm *kvm, u16 as_id,
		   struct kvm_memory_slot *const *old, unsigned int nr_old,
		   struct kvm_memory_slot *const *new, unsigned int nr_new)
{
	struct kvm_memslots *set = slots_inactive(kvm, as_id);
	unsigned int i;

	lockdep_assert_held(&kvm->slots_lock);

	for (i = 0; i < nr_old; i++)
		slots_remove(set, old[i]);
	for (i = 0; i < nr_new; i++)
		slots_add(set, new[i]);
}
