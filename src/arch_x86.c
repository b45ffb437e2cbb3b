// SPDX-License-Identifier: GPL-2.0
/*
 * On x86 a slot has up to three kinds of arrays: counts against huge mappings
 * (lpage_info) always; rmaps, if the VM has shadow page tables or the host uses
 * no TDP MMU; and counts of write-tracking, if anybody tracks writes.
 *
 * A page fault looks its slot up first and takes mmu_lock later, so until the
 * readers of the old set are gone, old and new slots are used side by side and
 * must not disagree.  So they share: all of them use the arrays of one slot, the
 * span, and it does not matter which one a fault holds.
 */
#include "arch.h"
#include "compat/compat.h"
#include "lpage.h"
#include "swap.h"
#include "wrapper/kvm.h"

/* Are there shadow page tables, or could rmaps have been made for any? */
static bool has_shadow_paging(const struct layout_change *c)
{
	unsigned int i;

	if (c->kvm->arch.shadow_root_allocated)
		return true;

	/* A first shadow root that ran out of memory leaves some slots with rmaps. */
	for (i = 0; i < c->nr_old; i++) {
		if (c->old[i]->arch.rmap[0])
			return true;
	}

	return false;
}

/**
 * arch_layout_prepare() - allocate the arrays of the new layout
 * @c: the change
 *
 * Context: slots_lock and slots_arch_lock held; sleeps.
 * Return: 0, -ENOMEM, -EINVAL for a slot beyond the highest gfn, or -EOPNOTSUPP
 *	where the VM has shadow page tables.
 */
int arch_layout_prepare(struct layout_change *c)
{
	lockdep_assert_held(&c->kvm->slots_arch_lock);

	if (has_shadow_paging(c))
		return -EOPNOTSUPP;

	return kvm_call(kvm_arch_prepare_memory_region)(c->kvm, NULL, c->span,
							KVM_MR_CREATE);
}

/**
 * arch_layout_unprepare() - free the arrays of a layout that will not come to be
 * @c: the change
 */
void arch_layout_unprepare(struct layout_change *c)
{
	kvm_call(kvm_arch_free_memslot)(c->kvm, c->span);
}

/* Let an old slot use the span's arrays, and stand-ins for those it has not. */
static void share_arrays(const struct layout_change *c, struct kvm_memory_slot *old)
{
	struct kvm_memory_slot *span = c->span;
	unsigned short *track = *compat_write_track(&span->arch);
	int level, i;

	for_each_huge_level(level)
		old->arch.lpage_info[level - PG_LEVEL_2M] = lpage_info(span, old->base_gfn, level);

	for (i = 0; i < KVM_NR_PAGE_SIZES; i++)
		old->arch.rmap[i] = c->standin->rmap;

	/* Faults read this one without mmu_lock, inside a read section. */
	WRITE_ONCE(*compat_write_track(&old->arch),
		   track ? track + lpage_index(span, old->base_gfn, PG_LEVEL_4K) :
			   c->standin->write_track);
}

/**
 * arch_layout_share() - let the old slots, which are live, use the arrays of the new layout
 * @c: the change
 *
 * With no shadow page and no external tracker in the VM, counts follow from the
 * slots' shape alone, and there is nothing to carry over.
 *
 * Context: slots_lock and slots_arch_lock held.  Takes mmu_lock for write.
 * Return: 0, or -EBUSY with nothing changed where somebody outside KVM tracks
 *	page writes: such trackers look slots up outside mmu_lock.
 */
int arch_layout_share(struct layout_change *c)
{
	struct kvm *kvm = c->kvm;
	unsigned int i;

	lockdep_assert_held(&kvm->slots_arch_lock);

	mmu_lock_quiet(kvm);

	if (compat_has_external_tracker(kvm)) {
		write_unlock(&kvm->mmu_lock);
		return -EBUSY;
	}

	lpage_hold(c->span, c->old, c->nr_old, 1);

	for (i = 0; i < c->nr_old; i++) {
		c->retired[i] = c->old[i]->arch;
		share_arrays(c, c->old[i]);
	}

	write_unlock(&kvm->mmu_lock);

	return 0;
}

/**
 * arch_layout_settle() - end the sharing
 * @c: the change
 *
 * Huge mappings may now cross what the old layout cut.
 *
 * Context: slots_lock held; no reader of the old set is left.  Takes mmu_lock for
 *	write.
 */
void arch_layout_settle(struct layout_change *c)
{
	mmu_lock_quiet(c->kvm);
	lpage_hold(c->span, c->old, c->nr_old, -1);
	write_unlock(&c->kvm->mmu_lock);
}
