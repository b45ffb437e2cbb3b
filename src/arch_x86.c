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
 *
 * Where the span is a new slot, it keeps them.  Where it is an old one, each new
 * slot moves to arrays of its own when the old readers are gone; unless it has
 * the span's shape, and takes them over.
 */
#include "arch.h"
#include "compat/compat.h"
#include "lpage.h"
#include "standin.h"
#include "wrapper/kvm.h"

static bool span_is_old(const struct layout_change *c)
{
	return c->span == c->old[0];
}

/* Does a new slot end up with the arrays that an old span had? */
static bool takes_over(const struct layout_change *c, const struct kvm_memory_slot *new)
{
	return span_is_old(c) && new != c->tail && new->npages == c->span->npages;
}

/* Does a new slot need arrays of its own? */
static bool needs_own(const struct layout_change *c, const struct kvm_memory_slot *new)
{
	return new != c->tail && !takes_over(c, new);
}

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
	unsigned int i;
	int r;

	lockdep_assert_held(&c->kvm->slots_arch_lock);

	if (has_shadow_paging(c))
		return -EOPNOTSUPP;

	c->standin = standin_get(layout_npages(c->old, c->nr_old));
	if (!c->standin)
		return -ENOMEM;

	for (i = 0; i < c->nr_new; i++) {
		if (!needs_own(c, c->new[i]))
			continue;

		r = kvm_call(kvm_arch_prepare_memory_region)(c->kvm, NULL, c->new[i],
							     KVM_MR_CREATE);
		if (r) {
			arch_layout_unprepare(c);
			return r;
		}
		c->own[i] = c->new[i]->arch;
	}

	return 0;
}

/**
 * arch_layout_unprepare() - free the arrays of a layout that will not come to be
 * @c: the change
 */
void arch_layout_unprepare(struct layout_change *c)
{
	unsigned int i;

	for (i = 0; i < c->nr_new; i++)
		kvm_call(kvm_arch_free_memslot)(c->kvm, c->new[i]);
	standin_put(c->standin);
}

/*
 * The write-tracking counts that both layouts use, or NULL.  An attempt to enable
 * tracking that ran out of memory leaves an old slot with counts while new ones
 * get none.
 */
static unsigned short *shared_write_track(struct layout_change *c,
					  struct kvm_arch_memory_slot *span)
{
	unsigned int i;

	for (i = 0; i < c->nr_new; i++) {
		if (needs_own(c, c->new[i]) && !*compat_write_track(&c->own[i]))
			return NULL;
	}

	return *compat_write_track(span);
}

/* Where in the span's arrays a slot's begin; no rmaps, for nobody has any yet. */
static struct kvm_arch_memory_slot part_of_span(struct layout_change *c,
						struct kvm_arch_memory_slot *span,
						const struct kvm_memory_slot *slot)
{
	unsigned short *track = shared_write_track(c, span);
	struct kvm_arch_memory_slot part = {};
	int level;

	for (level = PG_LEVEL_2M; level <= KVM_MAX_HUGEPAGE_LEVEL; level++)
		part.lpage_info[level - PG_LEVEL_2M] = span->lpage_info[level - PG_LEVEL_2M] +
			lpage_index(c->span, slot->base_gfn, level);
	if (track)
		*compat_write_track(&part) = track + lpage_index(c->span, slot->base_gfn,
								 PG_LEVEL_4K);

	return part;
}

/* Stand-ins for the arrays that a slot lacks which is about to leave the active set. */
static void lend_standin(const struct standin *standin, struct kvm_arch_memory_slot *arch)
{
	int i;

	for (i = 0; i < KVM_NR_PAGE_SIZES; i++) {
		if (!arch->rmap[i])
			arch->rmap[i] = standin->rmap;
	}
	if (!*compat_write_track(arch))
		WRITE_ONCE(*compat_write_track(arch), standin->write_track);
}

/* Take them back, lest they be freed with the slot. */
static void return_standin(const struct standin *standin, struct kvm_arch_memory_slot *arch)
{
	int i;

	for (i = 0; i < KVM_NR_PAGE_SIZES; i++) {
		if (arch->rmap[i] == standin->rmap)
			arch->rmap[i] = NULL;
	}
	if (*compat_write_track(arch) == standin->write_track)
		*compat_write_track(arch) = NULL;
}

/* Faults read the write-tracking counts without mmu_lock, inside a read section. */
static void publish_arrays(struct kvm_memory_slot *slot, struct kvm_arch_memory_slot *arch)
{
	unsigned short *track = *compat_write_track(arch);

	memcpy(slot->arch.rmap, arch->rmap, sizeof(arch->rmap));
	memcpy(slot->arch.lpage_info, arch->lpage_info, sizeof(arch->lpage_info));
	WRITE_ONCE(*compat_write_track(&slot->arch), track);
}

static bool unmap_range(struct kvm *kvm, struct kvm_memory_slot *slot,
			gfn_t start, gfn_t end, bool may_block)
{
	struct kvm_gfn_range range = compat_gfn_range(slot, start, end, may_block);

	return kvm_call(kvm_unmap_gfn_range)(kvm, &range);
}

/* Can a huge mapping made from a slot go through a place in it? */
static bool may_cross(const struct kvm_memory_slot *slot, gfn_t cut)
{
	int level;

	for (level = PG_LEVEL_2M; level <= KVM_MAX_HUGEPAGE_LEVEL; level++) {
		if (!IS_ALIGNED(cut, KVM_PAGES_PER_HPAGE(level)) && !lpage_cut(slot, cut, level))
			return true;
	}

	return false;
}

/*
 * Zap a huge mapping that goes through a new boundary: with that, and with the
 * counts that keep it from coming back, no mapping is ever in two slots.
 */
static bool zap_at_cut(struct kvm *kvm, struct kvm_memory_slot *old, gfn_t cut)
{
	return may_cross(old, cut) && unmap_range(kvm, old, cut - 1, cut + 1, false);
}

/**
 * arch_layout_share() - let both layouts use the same arrays
 * @c: the change
 *
 * From here on, no mapping crosses a boundary of either layout.
 *
 * With no shadow page and no external tracker in the VM, counts follow from the
 * slots' shape alone, and a new span needs nothing carried over.  There are no
 * rmaps, so no walker that yields mmu_lock half-way holds a pointer into an array.
 *
 * Context: slots_lock and slots_arch_lock held.  Takes mmu_lock for write.
 * Return: 0, or -EBUSY with nothing changed where somebody outside KVM tracks
 *	page writes: such trackers look slots up outside mmu_lock.
 */
int arch_layout_share(struct layout_change *c)
{
	struct kvm_arch_memory_slot arch, span = c->span->arch;
	struct kvm *kvm = c->kvm;
	bool flush = false;
	unsigned int i;

	lockdep_assert_held(&kvm->slots_arch_lock);

	write_lock(&kvm->mmu_lock);

	if (compat_has_external_tracker(kvm)) {
		write_unlock(&kvm->mmu_lock);
		return -EBUSY;
	}

	lpage_hold(c->span, c->old, c->nr_old, 1);
	lpage_hold(c->span, c->new, c->nr_new, 1);

	for (i = 1; i < c->nr_new; i++)
		flush |= zap_at_cut(kvm, c->old[0], c->new[i]->base_gfn);
	if (flush)
		kvm_flush_remote_tlbs(kvm);

	for (i = 0; i < c->nr_new; i++) {
		if (c->new[i] != c->span)
			c->new[i]->arch = part_of_span(c, &span, c->new[i]);
	}

	for (i = 0; i < c->nr_old; i++) {
		c->retired[i] = c->old[i]->arch;
		arch = part_of_span(c, &span, c->old[i]);
		lend_standin(c->standin, &arch);
		publish_arrays(c->old[i], &arch);
	}

	write_unlock(&kvm->mmu_lock);

	return 0;
}

/**
 * arch_layout_zap() - take the mappings of a new slot from the vCPUs
 * @c: the change; @c->zap is the slot
 *
 * No mapping can be made from an old slot any more, so what is zapped stays so, or
 * comes back as the new slot allows.
 *
 * Context: slots_lock held; no reader of the old set is left.  Takes mmu_lock for
 *	write, and yields it.
 */
void arch_layout_zap(struct layout_change *c)
{
	struct kvm_memory_slot *slot = c->zap;
	struct kvm *kvm = c->kvm;

	write_lock(&kvm->mmu_lock);
	if (unmap_range(kvm, slot, slot->base_gfn, slot->base_gfn + slot->npages, true))
		kvm_flush_remote_tlbs(kvm);
	write_unlock(&kvm->mmu_lock);

	if (slot != c->tail)
		return;

	/*
	 * What shadows the tail's frames must go before the tail does: KVM looks
	 * the slot of a shadow page up when it frees the page.  No new one can
	 * come to be in an invalid slot.
	 */
	if (READ_ONCE(kvm->arch.indirect_shadow_pages) || compat_recovers_nx_pages(kvm))
		kvm_call(kvm_arch_flush_shadow_memslot)(kvm, slot);

	kvm_call(kvm_arch_guest_memory_reclaimed)(kvm);
}

/* Can any count be other than what the slots' shape makes it? */
static bool has_counted(struct kvm *kvm)
{
	lockdep_assert_held_write(&kvm->mmu_lock);

	return kvm->arch.indirect_shadow_pages || compat_has_external_tracker(kvm);
}

/*
 * While the old readers left, a vCPU may have made shadow pages, and have counted
 * them in the shared arrays.  A frame that a cut goes through keeps its count on
 * both sides: too high only costs huge mappings.
 */
static void carry_counts(const struct kvm_memory_slot *slot,
			 struct kvm_arch_memory_slot *from, struct kvm_arch_memory_slot *to)
{
	unsigned short *from_track = *compat_write_track(from);
	unsigned short *to_track = *compat_write_track(to);
	gfn_t last = slot->base_gfn + slot->npages - 1;
	unsigned long i;
	int level;

	for (level = PG_LEVEL_2M; level <= KVM_MAX_HUGEPAGE_LEVEL; level++)
		memcpy(to->lpage_info[level - PG_LEVEL_2M], from->lpage_info[level - PG_LEVEL_2M],
		       (lpage_index(slot, last, level) + 1) * sizeof(struct kvm_lpage_info));

	for (i = 0; from_track && i < slot->npages; i++) {
		if (from_track[i])
			to_track[i] = from_track[i];
	}
}

/* Move a new slot, which is live, from its part of the span's arrays to its own. */
static void move_to_own(struct layout_change *c, struct kvm_memory_slot *slot,
			struct kvm_arch_memory_slot own)
{
	struct kvm_arch_memory_slot part = part_of_span(c, &c->retired[0], slot);

	if (has_counted(c->kvm))
		carry_counts(slot, &part, &own);

	/* What it did not share, KVM may have given it with the first shadow root. */
	memcpy(own.rmap, slot->arch.rmap, sizeof(own.rmap));
	if (!*compat_write_track(&part))
		*compat_write_track(&own) = *compat_write_track(&slot->arch);

	publish_arrays(slot, &own);
}

/**
 * arch_layout_settle() - end the sharing
 * @c: the change
 *
 * Huge mappings may now cross what only the old layout cut, and each slot that
 * stays has arrays that are its own.
 *
 * Context: slots_lock held; no reader of the old set is left.  Takes
 *	slots_arch_lock, and mmu_lock for write.
 */
void arch_layout_settle(struct layout_change *c)
{
	struct kvm *kvm = c->kvm;
	bool moved = false;
	unsigned int i;

	mutex_lock(&kvm->slots_arch_lock);
	write_lock(&kvm->mmu_lock);

	if (!span_is_old(c))
		lpage_hold(c->span, c->old, c->nr_old, -1);

	for (i = 0; span_is_old(c) && i < c->nr_new; i++) {
		if (needs_own(c, c->new[i])) {
			move_to_own(c, c->new[i], c->own[i]);
			moved = true;
		}
	}

	write_unlock(&kvm->mmu_lock);
	mutex_unlock(&kvm->slots_arch_lock);

	/*
	 * Faults may be reading the counts that a slot has just moved away from.
	 * Where a tail is to go, they are gone when it is.
	 */
	if (moved && shared_write_track(c, &c->retired[0]) && !c->tail)
		synchronize_srcu_expedited(&kvm->srcu);
}

/**
 * arch_layout_dismiss_tail() - make the tail ready to leave the active set
 * @c: the change
 *
 * It was in the active set for a while, so that a first shadow root has either given
 * it arrays or is still to come, and will pass it over then.
 *
 * Context: slots_lock and slots_arch_lock held, the latter until the tail has left.
 */
void arch_layout_dismiss_tail(struct layout_change *c)
{
	lockdep_assert_held(&c->kvm->slots_arch_lock);

	lend_standin(c->standin, &c->tail->arch);
}

/**
 * arch_layout_retire() - leave the slots that are to be freed just what is freed with them
 * @c: the change
 *
 * Context: slots_lock held; nobody can reach the old slots or the tail any more.
 */
void arch_layout_retire(struct layout_change *c)
{
	unsigned int i;

	if (c->tail) {
		/* Its part of the span's arrays is not its own; what KVM gave it is. */
		struct kvm_arch_memory_slot part = part_of_span(c, &c->retired[0], c->tail);
		unsigned short **track = compat_write_track(&c->tail->arch);

		return_standin(c->standin, &c->tail->arch);
		memset(c->tail->arch.lpage_info, 0, sizeof(c->tail->arch.lpage_info));
		if (*track == *compat_write_track(&part))
			*track = NULL;
	}

	for (i = 0; i < c->nr_old; i++)
		c->old[i]->arch = c->retired[i];

	if (takes_over(c, c->new[0]))
		memset(&c->old[0]->arch, 0, sizeof(c->old[0]->arch));

	standin_put(c->standin);
}
