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
 * Where the span is a new slot, it keeps them.  Where it is an old one, the first new
 * slot takes them over, if that does not waste much; the others move to arrays of
 * their own when the old readers are gone.
 */
#include <linux/slab.h>

#include "arch.h"
#include "arrays.h"
#include "compat/compat.h"
#include "lpage.h"
#include "standin.h"
#include "swap.h"
#include "wrapper/kvm.h"

/**
 * struct arch_change - what x86 notes about a change
 * @standin: what slots lack that leave the active set
 * @had_rmaps: whether the VM had rmaps when the change began
 * @retired: the arrays that each of the old slots had before
 * @own: the arrays that each of the new ones is to have in the end, where it is not to
 *	have the span's
 */
struct arch_change {
	struct standin *standin;
	bool had_rmaps;
	struct kvm_arch_memory_slot *retired;
	struct kvm_arch_memory_slot *own;
};

/**
 * arch_init() - get ready for changes
 *
 * Context: Module initialisation.
 * Return: 0 or -ENOMEM.
 */
int arch_init(void)
{
	return standin_init();
}

/**
 * arch_exit() - undo arch_init()
 *
 * Context: Module initialisation that failed, or module exit: no change is under way.
 */
void arch_exit(void)
{
	standin_exit();
}

static bool span_is_old(const struct layout_change *c)
{
	return c->span == c->old[0];
}

/*
 * Does a new slot end up with the arrays that an old span had?  The first one can: what
 * it needs is at their start, and its counts are right, for what the span does not cut and
 * the new slots do is held.  Nothing is moved then.  A small one leaves the arrays, lest
 * it keep memory that the whole span needed.
 */
static bool takes_over(const struct layout_change *c, const struct kvm_memory_slot *new)
{
	return span_is_old(c) && new == c->new[0] && new != c->leaving &&
	       new->npages >= c->span->npages / 2;
}

/* Does a new slot need arrays of its own? */
static bool needs_own(const struct layout_change *c, const struct kvm_memory_slot *new)
{
	return new != c->leaving && !takes_over(c, new);
}

/**
 * arch_layout_begin() - begin to note what belongs to a change
 * @c: the change
 *
 * Context: slots_lock held; sleeps.
 * Return: 0 or -ENOMEM.  arch_layout_end() is due in either case.
 */
int arch_layout_begin(struct layout_change *c)
{
	struct arch_change *a;

	a = kzalloc(sizeof(*a), GFP_KERNEL_ACCOUNT);
	if (!a)
		return -ENOMEM;

	c->arch = a;
	a->had_rmaps = c->old[0]->arch.rmap[0];
	a->retired = kcalloc(c->nr_old, sizeof(*a->retired), GFP_KERNEL_ACCOUNT);
	a->own = kcalloc(c->nr_new, sizeof(*a->own), GFP_KERNEL_ACCOUNT);

	return a->retired && a->own ? 0 : -ENOMEM;
}

/**
 * arch_layout_end() - undo arch_layout_begin()
 * @c: the change
 *
 * Context: Sleeps; nobody can reach a slot any more that has been lent anything.
 */
void arch_layout_end(struct layout_change *c)
{
	struct arch_change *a = c->arch;

	if (!a)
		return;

	if (a->standin)
		standin_put(a->standin);
	kfree(a->own);
	kfree(a->retired);
	kfree(a);
}

/*
 * A VM has rmaps from the start where the host does without the TDP MMU, or else from its
 * first shadow root on.
 */
static bool has_rmaps(const struct layout_change *c)
{
	/* Pairs with the release of whoever allocates the root. */
	return c->arch->had_rmaps || smp_load_acquire(&c->kvm->arch.shadow_root_allocated);
}

static int refuse_trackers(struct kvm *kvm)
{
	lockdep_assert_held(&kvm->mmu_lock);

	return compat_has_external_tracker(kvm) ? -EBUSY : 0;
}

static int alloc_arrays(struct kvm *kvm, struct kvm_memory_slot *slot)
{
	lockdep_assert_held(&kvm->slots_arch_lock);

	return kvm_call(kvm_arch_prepare_memory_region)(kvm, NULL, slot, KVM_MR_CREATE);
}

/* For any of the old slots. */
static int get_standin(struct layout_change *c)
{
	unsigned long most = 0;
	unsigned int i;

	if (c->arch->standin)
		return 0;

	for (i = 0; i < c->nr_old; i++)
		most = max(most, c->old[i]->npages);
	c->arch->standin = standin_get(most);

	return c->arch->standin ? 0 : -ENOMEM;
}

/**
 * arch_layout_admit() - make what comes ready for the active set
 * @c: the change
 *
 * It needs its arrays although nothing can be built on it: faults look at the counts of
 * write-tracking before they see that a slot is invalid.
 *
 * Context: slots_lock and slots_arch_lock held, the latter until it is in the active set.
 *	Takes mmu_lock for write; sleeps.
 * Return: 0, -ENOMEM, -EINVAL beyond the highest gfn, or -EBUSY as arch_layout_share().
 */
int arch_layout_admit(struct layout_change *c)
{
	int r;

	write_lock(&c->kvm->mmu_lock);
	r = refuse_trackers(c->kvm);
	write_unlock(&c->kvm->mmu_lock);

	r = r ?: alloc_arrays(c->kvm, c->coming);
	if (r)
		return r;

	r = get_standin(c);
	if (r)
		kvm_call(kvm_arch_free_memslot)(c->kvm, c->coming);

	return r;
}

/**
 * arch_layout_prepare() - allocate the arrays of the new layout
 * @c: the change
 *
 * Context: slots_lock and slots_arch_lock held; sleeps.
 * Return: 0, -ENOMEM, or -EINVAL for a slot beyond the highest gfn.
 */
int arch_layout_prepare(struct layout_change *c)
{
	unsigned int i;
	int r;

	r = get_standin(c);
	if (r)
		return r;

	for (i = 0; i < c->nr_new; i++) {
		if (!needs_own(c, c->new[i]))
			continue;

		r = alloc_arrays(c->kvm, c->new[i]);
		if (r) {
			arch_layout_unprepare(c);
			return r;
		}
		c->arch->own[i] = c->new[i]->arch;
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
}

/*
 * Whether both layouts use the span's arrays of a kind: those that need their own must
 * have them.  A first shadow root, or an attempt to enable tracking, that ran out of memory
 * leaves some old slots with arrays while new ones get none; nobody uses them then.
 */
static bool shares_rmaps(struct layout_change *c, const struct kvm_arch_memory_slot *span)
{
	unsigned int i;

	for (i = 0; i < c->nr_new; i++) {
		if (needs_own(c, c->new[i]) && !c->arch->own[i].rmap[0])
			return false;
	}

	return span->rmap[0];
}

static bool shares_write_track(struct layout_change *c, struct kvm_arch_memory_slot *span)
{
	unsigned int i;

	for (i = 0; i < c->nr_new; i++) {
		if (needs_own(c, c->new[i]) && !*compat_write_track(&c->arch->own[i]))
			return false;
	}

	return *compat_write_track(span);
}

/* Arrays of the span's that may be read without mmu_lock. */
static bool shares_what_is_read(struct layout_change *c, struct kvm_arch_memory_slot *span)
{
	return shares_write_track(c, span) || shares_rmaps(c, span);
}

/* Where in the span's arrays a slot's begin. */
static struct kvm_arch_memory_slot part_of_span(struct layout_change *c,
						struct kvm_arch_memory_slot *span,
						const struct kvm_memory_slot *slot)
{
	bool track = shares_write_track(c, span), rmaps = shares_rmaps(c, span);
	struct kvm_arch_memory_slot part = {};
	unsigned long index;
	int size;

	for (size = 0; size < KVM_NR_PAGE_SIZES; size++) {
		index = lpage_index(c->span, slot->base_gfn, PG_LEVEL_4K + size);

		if (size)
			part.lpage_info[size - 1] = span->lpage_info[size - 1] + index;
		else if (track)
			*compat_write_track(&part) = *compat_write_track(span) + index;

		if (rmaps)
			part.rmap[size] = span->rmap[size] + index;
	}

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

/* Leave to a slot that goes only those of its arrays that no other slot has. */
static void disown_arrays(struct kvm_arch_memory_slot *arch, struct kvm_arch_memory_slot *other)
{
	int i;

	for (i = 0; i < KVM_NR_PAGE_SIZES; i++) {
		if (arch->rmap[i] == other->rmap[i])
			arch->rmap[i] = NULL;
	}
	for (i = 0; i < KVM_NR_PAGE_SIZES - 1; i++) {
		if (arch->lpage_info[i] == other->lpage_info[i])
			arch->lpage_info[i] = NULL;
	}
	if (*compat_write_track(arch) == *compat_write_track(other))
		*compat_write_track(arch) = NULL;
}

/*
 * Faults read the write-tracking counts without mmu_lock, inside a read section; and so do
 * MMU notifiers with the rmaps on some kernels, when they age pages.
 */
static void publish_arrays(struct kvm_memory_slot *slot, struct kvm_arch_memory_slot *arch)
{
	unsigned short *track = *compat_write_track(arch);
	int i;

	memcpy(slot->arch.lpage_info, arch->lpage_info, sizeof(arch->lpage_info));
	WRITE_ONCE(*compat_write_track(&slot->arch), track);
	for (i = 0; i < KVM_NR_PAGE_SIZES; i++) {
		/* Whoever finds an array finds what has been moved into it. */
		smp_store_release(&slot->arch.rmap[i], arch->rmap[i]);
	}
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

/* Take mmu_lock; where rmaps are to be moved, with nobody half-way through an array of them. */
static int lock_mmu(struct kvm *kvm, bool moves_rmaps, bool can_fail)
	__acquires(&kvm->mmu_lock)
{
	if (moves_rmaps)
		return mmu_lock_when_quiet(kvm, can_fail);

	write_lock(&kvm->mmu_lock);

	return 0;
}

/* Do new slots, which are live, leave an old span's rmaps for their own? */
static bool leave_rmaps_of_span(struct layout_change *c)
{
	unsigned int i;

	if (!span_is_old(c) || !shares_rmaps(c, &c->arch->retired[0]))
		return false;

	for (i = 0; i < c->nr_new; i++) {
		if (needs_own(c, c->new[i]))
			return true;
	}

	return false;
}

/* Is anything counted about a live slot but its shape? */
static bool has_counted(struct kvm *kvm, struct kvm_memory_slot *slot)
{
	lockdep_assert_held_write(&kvm->mmu_lock);

	return kvm->arch.indirect_shadow_pages || arrays_track_writes(slot);
}

/* Move what is noted about a live slot's pages from one set of arrays to another. */
static void move_arrays(struct layout_change *c, struct kvm_memory_slot *slot,
			struct kvm_arch_memory_slot *from, struct kvm_arch_memory_slot *to)
{
	if (has_counted(c->kvm, slot))
		arrays_carry_counts(slot, from, to);
	if (from->rmap[0] && to->rmap[0])
		arrays_move_rmaps(slot, from, to);
}

/* What cuts and mergers added too much to a slot's counts goes when nothing is counted. */
static void forget_counts(struct kvm *kvm, struct kvm_memory_slot *slot)
{
	bool was_possible = slot->arch.rmap[0] || *compat_write_track(&slot->arch);

	if (was_possible && !has_counted(kvm, slot))
		arrays_reset_counts(slot);
}

/**
 * arch_layout_share() - let both layouts use the same arrays
 * @c: the change
 *
 * From here on, no mapping crosses a boundary of either layout.
 *
 * Context: slots_lock and slots_arch_lock held.  Takes mmu_lock for write.
 * Return: 0; -EINTR; or -EBUSY where somebody outside KVM tracks page writes: such trackers
 *	look slots up outside mmu_lock.  Nothing has changed then.
 */
int arch_layout_share(struct layout_change *c)
{
	struct kvm_arch_memory_slot part, span = c->span->arch;
	struct kvm *kvm = c->kvm;
	bool flush = false;
	unsigned int i;
	int r;

	lockdep_assert_held(&kvm->slots_arch_lock);

	r = lock_mmu(kvm, !span_is_old(c) && shares_rmaps(c, &span), true) ?: refuse_trackers(kvm);
	if (r) {
		write_unlock(&kvm->mmu_lock);
		return r;
	}

	lpage_hold(c->span, c->old, c->nr_old, 1);
	lpage_hold(c->span, c->new, c->nr_new, 1);

	for (i = 1; i < c->nr_new; i++)
		flush |= zap_at_cut(kvm, c->old[0], c->new[i]->base_gfn);
	if (flush)
		kvm_call(kvm_flush_remote_tlbs)(kvm);

	for (i = 0; i < c->nr_new; i++) {
		if (c->new[i] != c->span)
			c->new[i]->arch = part_of_span(c, &span, c->new[i]);
	}

	for (i = 0; i < c->nr_old; i++) {
		c->arch->retired[i] = c->old[i]->arch;
		part = part_of_span(c, &span, c->old[i]);
		/* Of what comes, there is nothing to be moved. */
		if (!span_is_old(c) && c->old[i] != c->coming)
			move_arrays(c, c->old[i], &c->arch->retired[i], &part);
		lend_standin(c->arch->standin, &part);
		publish_arrays(c->old[i], &part);
	}

	write_unlock(&kvm->mmu_lock);

	return 0;
}

/**
 * arch_layout_quiesce() - wait for those who go through slots without being readers
 * @c: the change
 *
 * kvm_zap_gfn_range() goes through the slots of the active set, and through their rmaps, and
 * yields mmu_lock half-way; on some kernels it is neither a reader nor under slots_lock.
 *
 * Context: slots_lock held; the readers of the set that was swapped out are gone.  Sleeps.
 */
void arch_layout_quiesce(struct layout_change *c)
{
	if (!has_rmaps(c))
		return;

	mmu_lock_when_quiet(c->kvm, false);
	write_unlock(&c->kvm->mmu_lock);
}

/*
 * In pages, before mmu_lock is yielded.  KVM could do that by itself, but not with rmaps
 * (6.1), and without a flush of what an earlier call has zapped.
 */
#define ZAP_STEP	((gfn_t)SZ_64M >> PAGE_SHIFT)

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
	gfn_t gfn, end = slot->base_gfn + slot->npages;
	struct kvm *kvm = c->kvm;

	write_lock(&kvm->mmu_lock);
	for (gfn = slot->base_gfn; gfn < end; gfn += ZAP_STEP) {
		/* Whatever was zapped is flushed before anybody else gets the lock. */
		unmap_range(kvm, slot, gfn, min(gfn + ZAP_STEP, end), false);
		if (rwlock_needbreak(&kvm->mmu_lock) || need_resched()) {
			kvm_call(kvm_flush_remote_tlbs)(kvm);
			cond_resched_rwlock_write(&kvm->mmu_lock);
		}
	}
	kvm_call(kvm_flush_remote_tlbs)(kvm);
	write_unlock(&kvm->mmu_lock);
}

/* Can a page-table page that KVM made of a huge page have its first frame in a slot? */
static bool has_first_frame(const struct kvm_memory_slot *slot)
{
	return ALIGN(slot->base_gfn, KVM_PAGES_PER_HPAGE(PG_LEVEL_2M)) <
	       slot->base_gfn + slot->npages;
}

/**
 * arch_layout_forget() - let KVM forget what it knows of an invalid slot's frames
 * @c: the change
 * @slot: the slot, of which nothing is mapped
 *
 * What shadows its frames must go before it does: KVM looks the slot of a shadow page up when
 * it frees the page, and that of a page-table page when it recovers an nx huge page, whenever
 * that is.  No new one can come to be in an invalid slot, and in one that comes there never
 * was any.  On some kernels, trackers of page writes are told here that the slot goes.
 *
 * Context: slots_lock held; no reader is left that knows the slot as a valid one.  Takes
 *	mmu_lock for write; sleeps.
 */
void arch_layout_forget(struct layout_change *c, struct kvm_memory_slot *slot)
{
	struct kvm *kvm = c->kvm;
	bool in_use;

	write_lock(&kvm->mmu_lock);
	in_use = compat_has_external_tracker(kvm) &&
		 (slot == c->leaving || compat_flush_tells_trackers());
	if (slot == c->leaving)
		in_use |= kvm->arch.indirect_shadow_pages ||
			  (has_first_frame(slot) && compat_recovers_nx_pages(kvm));
	write_unlock(&kvm->mmu_lock);

	if (in_use)
		kvm_call(kvm_arch_flush_shadow_memslot)(kvm, slot);
	if (slot == c->leaving)
		kvm_call(kvm_arch_guest_memory_reclaimed)(kvm);
}

/* Move a new slot, which is live, from its part of the span's arrays to its own. */
static void move_to_own(struct layout_change *c, struct kvm_memory_slot *slot,
			struct kvm_arch_memory_slot own)
{
	struct kvm_arch_memory_slot part = part_of_span(c, &c->arch->retired[0], slot);

	move_arrays(c, slot, &part, &own);

	/* What it did not share, KVM may have given it with the first shadow root. */
	if (!part.rmap[0])
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
	lock_mmu(kvm, leave_rmaps_of_span(c), false);

	if (!span_is_old(c))
		lpage_hold(c->span, c->old, c->nr_old, -1);

	for (i = 0; span_is_old(c) && i < c->nr_new; i++) {
		if (needs_own(c, c->new[i])) {
			move_to_own(c, c->new[i], c->arch->own[i]);
			moved = true;
		} else if (takes_over(c, c->new[i])) {
			forget_counts(kvm, c->new[i]);
		}
	}

	write_unlock(&kvm->mmu_lock);
	mutex_unlock(&kvm->slots_arch_lock);

	/*
	 * Others may be reading what a slot has just moved away from, faults the counts and
	 * those who age pages the rmaps, unless these stay, with the first slot.  Where a slot
	 * leaves, they are gone when it has.
	 */
	if (moved && shares_what_is_read(c, &c->arch->retired[0]) && !takes_over(c, c->new[0]) &&
	    !c->leaving)
		synchronize_srcu_expedited(&kvm->srcu);
}

/**
 * arch_layout_dismiss() - make an invalid slot ready to leave the active set
 * @c: the change
 * @slot: the slot
 *
 * It was in the active set for a while, so that a first shadow root has either given
 * it arrays or is still to come, and will pass it over then.
 *
 * Context: slots_lock and slots_arch_lock held, the latter until the slot has left.  Takes
 *	mmu_lock for write.
 */
void arch_layout_dismiss(struct layout_change *c, struct kvm_memory_slot *slot)
{
	lockdep_assert_held(&c->kvm->slots_arch_lock);

	write_lock(&c->kvm->mmu_lock);
	lend_standin(c->arch->standin, &slot->arch);
	write_unlock(&c->kvm->mmu_lock);
}

/**
 * arch_layout_retire() - leave the slots that are to be freed just what is freed with them
 * @c: the change, which was made
 *
 * Context: slots_lock held; nobody can reach the old slots, or what leaves, any more.
 */
void arch_layout_retire(struct layout_change *c)
{
	unsigned int i;

	if (c->leaving) {
		/* Its part of the span's arrays is not its own; what KVM gave it is. */
		struct kvm_arch_memory_slot part;

		part = part_of_span(c, &c->arch->retired[0], c->leaving);
		return_standin(c->arch->standin, &c->leaving->arch);
		disown_arrays(&c->leaving->arch, &part);
	}

	for (i = 0; i < c->nr_old; i++)
		c->old[i]->arch = c->arch->retired[i];

	if (takes_over(c, c->new[0]))
		disown_arrays(&c->old[0]->arch, &c->new[0]->arch);
}

/**
 * arch_layout_retire_coming() - leave what does not come just what is freed with it
 * @c: the change, which was not made
 *
 * Context: slots_lock held; nobody can reach it any more.
 */
void arch_layout_retire_coming(struct layout_change *c)
{
	return_standin(c->arch->standin, &c->coming->arch);
}
