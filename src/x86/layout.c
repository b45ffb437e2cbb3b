// SPDX-License-Identifier: GPL-2.0
/*
 * On x86 a slot has up to three kinds of arrays: counts against huge mappings
 * (lpage_info) always; rmaps, if the VM has shadow page tables or the host uses
 * no TDP MMU; and counts of write-tracking, if anybody tracks writes.
 *
 * A page fault looks its slot up first and takes mmu_lock later, so until the
 * readers of the old set are gone, old and new slots are used side by side and
 * must not disagree.  So they share: an array of a new slot is an old one, or the same
 * memory (see array.c), wherever that can be.  Where it cannot, because an element of
 * the one lies elsewhere in its page than that of the other, all slots use the array of
 * one, the span, meanwhile, and it does not matter which one a fault holds.
 *
 * Where the span is a new slot, it keeps that array.  Where it is an old one, the new slots
 * move to arrays of their own when the old readers are gone.
 */
#include <linux/bitmap.h>
#include <linux/slab.h>

#include "arch.h"
#include "array.h"
#include "arrays.h"
#include "compat/compat.h"
#include "lpage.h"
#include "standin.h"
#include "swap.h"
#include "wrapper/kvm.h"
#include "zap.h"

/**
 * struct arch_change - what x86 notes about a change
 * @standin: what is lent to slots that have left the active set, or NULL
 * @had_rmaps: whether the VM had rmaps when the change began
 * @retired: the arrays that each of the old slots had before
 * @own: the arrays that each of the new ones is to have in the end
 * @moved: for each kind of array a bit for each slot but the span, by its place on its side:
 *	whether it uses the span's while both layouts are in use, for that and its own differ
 */
struct arch_change {
	struct standin *standin;
	bool had_rmaps;
	struct kvm_arch_memory_slot *retired;
	struct kvm_arch_memory_slot *own;
	unsigned long *moved;
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

/* How many slots the side has that the span is not on. */
static unsigned int nr_parts(const struct layout_change *c)
{
	return span_is_old(c) ? c->nr_new : c->nr_old;
}

static unsigned long *moved(const struct layout_change *c, enum array_kind kind)
{
	return c->arch->moved + kind * BITS_TO_LONGS(nr_parts(c));
}

static bool is_moved(const struct layout_change *c, enum array_kind kind, unsigned int part)
{
	return test_bit(part, moved(c, kind));
}

static bool is_any_moved(const struct layout_change *c, enum array_kind kind)
{
	return !bitmap_empty(moved(c, kind), nr_parts(c));
}

static bool moves_rmaps(const struct layout_change *c)
{
	return is_any_moved(c, ARRAY_RMAP_4K) || is_any_moved(c, ARRAY_RMAP_2M) ||
	       is_any_moved(c, ARRAY_RMAP_1G);
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
	a->moved = kcalloc(NR_ARRAYS * BITS_TO_LONGS(nr_parts(c)), sizeof(*a->moved),
			   GFP_KERNEL_ACCOUNT);

	return a->retired && a->own && a->moved ? 0 : -ENOMEM;
}

/**
 * arch_layout_end() - undo arch_layout_begin()
 * @c: the change
 *
 * Context: Sleeps.
 */
void arch_layout_end(struct layout_change *c)
{
	struct arch_change *a = c->arch;

	if (!a)
		return;

	kfree(a->moved);
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

	return r ?: alloc_arrays(c->kvm, c->coming);
}

/* An array for one of several slots that an old one becomes. */
static int prepare_part(struct layout_change *c, enum array_kind kind, unsigned int i)
{
	void *span = *array_of(&c->span->arch, kind), **own = array_of(&c->arch->own[i], kind);
	struct kvm_memory_slot *new = c->new[i];
	struct array_part part = {
		.from = span + array_offset(c->span, kind, new->base_gfn),
		.bytes = array_bytes(new, kind),
	};

	if (!span)
		return 0;

	/*
	 * The first one takes over what it finds at the start, lest a copy is made; its counts are
	 * right, for what the span does not cut and the new slots do is held.  But a small one
	 * does not keep memory that the whole span needed.
	 */
	if (!i && !array_is_too_long(span, part.bytes)) {
		*own = span;
		return 0;
	}

	*own = array_build(part.bytes, &part, !i || array_has_own_elements(kind, new));
	if (!*own)
		return -ENOMEM;
	if (!part.shared) {
		/* It is all zero. */
		if (array_is_lpage(kind))
			array_reset(new, kind, *own, 0, part.bytes);
		__set_bit(i, moved(c, kind));
	}

	return 0;
}

/* For an array to grow: what is built anew now and then costs little for each page added. */
#define ROOM(bytes)	((bytes) / 8)

/*
 * Can the first old slot's array become that of the span?  It must be long enough, and what is
 * behind its own elements must be either the other slots' anyway or nobody's: a piece that was
 * cut off may share its memory.
 */
static bool is_enough(struct layout_change *c, enum array_kind kind, struct array_part *parts)
{
	void *first = *array_of(&c->old[0]->arch, kind);
	size_t end = parts[0].bytes;
	unsigned int i;

	if (!array_reaches(first, end, array_bytes(c->span, kind)))
		return false;

	parts[0].shared = true;
	for (i = 1; i < c->nr_old; i++) {
		struct array_part *part = &parts[i];

		part->shared = part->from && array_common(first + part->at, part->from,
							  part->bytes) == part->bytes;
		if (!part->shared &&
		    !array_is_alone(first, max(end, part->at), part->at + part->bytes))
			return false;
		end = part->at + part->bytes;
	}

	return true;
}

static int prepare_span(struct layout_change *c, enum array_kind kind, struct array_part *parts)
{
	void **own = array_of(&c->arch->own[0], kind);
	unsigned int i, nr = change_nr_there(c);
	bool is_kept;
	size_t end = 0;

	/*
	 * A first shadow root, or an attempt to enable tracking, that ran out of memory leaves
	 * some slots with arrays and some without; nobody uses them then.
	 */
	for (i = 0; i < nr; i++) {
		if (!*array_of(&c->old[i]->arch, kind))
			return 0;
	}

	for (i = 0; i < c->nr_old; i++) {
		struct kvm_memory_slot *old = c->old[i];

		parts[i] = (struct array_part) {
			.at = array_offset(c->span, kind, old->base_gfn),
			.bytes = array_bytes(old, kind),
		};
		if (i < nr && (!i || array_has_own_elements(kind, old)))
			parts[i].from = *array_of(&old->arch, kind);
	}

	is_kept = is_enough(c, kind, parts);
	if (is_kept)
		*own = *array_of(&c->old[0]->arch, kind);
	else
		*own = array_build(array_bytes(c->span, kind) + ROOM(array_bytes(c->span, kind)),
				   parts, nr);
	if (!*own)
		return -ENOMEM;

	for (i = 0; i < c->nr_old; i++) {
		size_t from = max(parts[i].at, end), to = parts[i].at + parts[i].bytes;

		if (!parts[i].shared) {
			/* Else it is all zero, but for the rest of a page that is shared. */
			if (is_kept || array_is_lpage(kind))
				array_reset(c->span, kind, *own, from, to);
			else
				array_reset(c->span, kind, *own, from, min(to, PAGE_ALIGN(from)));
			__assign_bit(i, moved(c, kind), i < nr);
		}
		end = to;
	}

	return 0;
}

static int prepare_kind(struct layout_change *c, enum array_kind kind, struct array_part *parts)
{
	unsigned int i;
	int r = 0;

	if (!span_is_old(c))
		return prepare_span(c, kind, parts);

	for (i = 0; i < c->nr_new && !r; i++) {
		if (c->new[i] != c->leaving)
			r = prepare_part(c, kind, i);
	}

	return r;
}

/**
 * arch_layout_prepare() - make the arrays of the new layout
 * @c: the change
 *
 * Context: slots_lock and slots_arch_lock held; sleeps.
 * Return: 0 or -ENOMEM.
 */
int arch_layout_prepare(struct layout_change *c)
{
	struct array_part *parts;
	enum array_kind kind;
	int r = 0;

	parts = kcalloc(c->nr_old, sizeof(*parts), GFP_KERNEL_ACCOUNT);
	if (!parts)
		return -ENOMEM;

	for (kind = 0; kind < NR_ARRAYS && !r; kind++)
		r = prepare_kind(c, kind, parts);
	kfree(parts);
	if (r)
		arch_layout_unprepare(c);

	return r;
}

/* Leave to a slot that goes only those of its arrays that no other slot has. */
static void disown_arrays(struct kvm_arch_memory_slot *arch, struct kvm_arch_memory_slot *other)
{
	enum array_kind kind;

	for (kind = 0; kind < NR_ARRAYS; kind++) {
		if (*array_of(arch, kind) == *array_of(other, kind))
			*array_of(arch, kind) = NULL;
	}
}

/**
 * arch_layout_unprepare() - free the arrays of a layout that will not come to be
 * @c: the change
 */
void arch_layout_unprepare(struct layout_change *c)
{
	enum array_kind kind;
	unsigned int i;

	for (i = 0; i < c->nr_new; i++) {
		struct kvm_arch_memory_slot *own = &c->arch->own[i];

		disown_arrays(own, &c->old[0]->arch);
		for (kind = 0; kind < NR_ARRAYS; kind++)
			vfree(*array_of(own, kind));
	}
}

/* Where in the span's arrays a slot's begin. */
static struct kvm_arch_memory_slot part_of_span(struct layout_change *c,
						struct kvm_arch_memory_slot *span,
						const struct kvm_memory_slot *slot)
{
	struct kvm_arch_memory_slot part = {};
	enum array_kind kind;

	for (kind = 0; kind < NR_ARRAYS; kind++) {
		void *array = *array_of(span, kind);

		if (array)
			*array_of(&part, kind) =
				array + array_offset(c->span, kind, slot->base_gfn);
	}

	return part;
}

/* Take stand-ins back, lest they be freed with the slot. */
static void return_standin(const struct standin *standin, struct kvm_arch_memory_slot *arch)
{
	int i;

	if (!standin)
		return;

	for (i = 0; i < KVM_NR_PAGE_SIZES; i++) {
		if (arch->rmap[i] == standin->rmap)
			arch->rmap[i] = NULL;
	}
	if (*compat_write_track(arch) == standin->write_track)
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
	return may_cross(old, cut) && zap_range(kvm, old, cut - 1, cut + 1, false);
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

/* Can anything but a slot's shape be in its counts? */
static bool may_be_counted(struct kvm *kvm, struct kvm_memory_slot *slot)
{
	return kvm->arch.indirect_shadow_pages || *compat_write_track(&slot->arch);
}

/* Move what is noted about a live slot's pages from one array to another. */
static void move_array(struct kvm *kvm, struct kvm_memory_slot *slot, enum array_kind kind,
		       void *from, void *to)
{
	lockdep_assert_held_write(&kvm->mmu_lock);

	if (!array_is_lpage(kind) || may_be_counted(kvm, slot))
		array_move(slot, kind, from, to);
}

/* The old slots use the span's arrays, where these differ from their own. */
static void share_span(struct layout_change *c, unsigned int i)
{
	struct kvm_memory_slot *old = c->old[i];
	struct kvm_arch_memory_slot arch = old->arch, part;
	enum array_kind kind;

	part = part_of_span(c, &c->arch->own[0], old);
	for (kind = 0; kind < NR_ARRAYS; kind++) {
		/* What the span does not get, nobody may rely on. */
		if (!*array_of(&part, kind) && old != c->coming)
			*array_of(&arch, kind) = NULL;
		if (!is_moved(c, kind, i))
			continue;

		move_array(c->kvm, old, kind, *array_of(&arch, kind), *array_of(&part, kind));
		*array_of(&arch, kind) = *array_of(&part, kind);
	}

	publish_arrays(old, &arch);
}

/* A new slot has its own arrays, or the span's where these differ. */
static void share_part(struct layout_change *c, unsigned int i)
{
	struct kvm_memory_slot *new = c->new[i];
	enum array_kind kind;

	new->arch = part_of_span(c, &c->span->arch, new);
	for (kind = 0; kind < NR_ARRAYS && new != c->leaving; kind++) {
		if (!is_moved(c, kind, i))
			*array_of(&new->arch, kind) = *array_of(&c->arch->own[i], kind);
	}
}

static void hold_cuts(struct layout_change *c)
{
	enum array_kind kind;

	for (kind = ARRAY_LPAGE_2M; kind <= ARRAY_LPAGE_1G; kind++) {
		/* Those of old slots are in what they share with the span. */
		lpage_hold(c->span, array_level(kind), c->old, c->nr_old,
			   span_is_old(c) ? NULL : moved(c, kind), 1);
		lpage_hold(c->span, array_level(kind), c->new, c->nr_new, NULL, 1);
	}
}

static void release_old_cuts(struct layout_change *c)
{
	enum array_kind kind;

	for (kind = ARRAY_LPAGE_2M; kind <= ARRAY_LPAGE_1G; kind++)
		lpage_hold(c->span, array_level(kind), c->old, c->nr_old, NULL, -1);
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
	struct kvm *kvm = c->kvm;
	bool flush = false;
	unsigned int i;
	int r;

	lockdep_assert_held(&kvm->slots_arch_lock);

	r = lock_mmu(kvm, !span_is_old(c) && moves_rmaps(c), true) ?: refuse_trackers(kvm);
	if (r) {
		write_unlock(&kvm->mmu_lock);
		return r;
	}

	for (i = 0; i < c->nr_old; i++)
		c->arch->retired[i] = c->old[i]->arch;
	if (!span_is_old(c))
		c->span->arch = c->arch->own[0];

	hold_cuts(c);

	for (i = 1; i < c->nr_new; i++)
		flush |= zap_at_cut(kvm, c->old[0], c->new[i]->base_gfn);
	if (flush)
		kvm_call(kvm_flush_remote_tlbs)(kvm);

	for (i = 0; span_is_old(c) && i < c->nr_new; i++)
		share_part(c, i);
	for (i = 0; !span_is_old(c) && i < c->nr_old; i++)
		share_span(c, i);

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
static void move_to_own(struct layout_change *c, unsigned int i)
{
	struct kvm_arch_memory_slot *own = &c->arch->own[i], part;
	struct kvm_memory_slot *new = c->new[i];
	/* What it did not share, KVM may have given it with the first shadow root. */
	struct kvm_arch_memory_slot arch = new->arch;
	enum array_kind kind;

	part = part_of_span(c, &c->arch->retired[0], new);
	for (kind = 0; kind < NR_ARRAYS; kind++) {
		if (!is_moved(c, kind, i))
			continue;

		move_array(c->kvm, new, kind, *array_of(&part, kind), *array_of(own, kind));
		*array_of(&arch, kind) = *array_of(own, kind);
	}

	publish_arrays(new, &arch);
}

/*
 * What cuts and mergers added too much to the count of a frame goes when nothing else is
 * counted there.
 */
static void trim_count(struct kvm *kvm, struct kvm_memory_slot *slot, gfn_t gfn)
{
	int level;

	if (kvm->arch.indirect_shadow_pages || compat_has_external_tracker(kvm))
		return;

	for (level = PG_LEVEL_2M; level <= KVM_MAX_HUGEPAGE_LEVEL; level++) {
		struct kvm_lpage_info *info = lpage_info(slot, gfn, level);
		int count = lpage_cut(slot, gfn, level);

		if (info->disallow_lpage > count && !arrays_track_writes(slot, gfn, level))
			info->disallow_lpage = count;
	}
}

static void trim_counts(struct layout_change *c)
{
	unsigned int i;

	for (i = 1; !span_is_old(c) && i < c->nr_old; i++) {
		trim_count(c->kvm, c->span, c->old[i]->base_gfn - 1);
		trim_count(c->kvm, c->span, c->old[i]->base_gfn);
	}

	for (i = 0; i < change_nr_kept(c); i++) {
		trim_count(c->kvm, c->new[i], c->new[i]->base_gfn);
		trim_count(c->kvm, c->new[i], c->new[i]->base_gfn + c->new[i]->npages - 1);
	}
}

/* Do new slots leave arrays of the span's, which go, that may be read without mmu_lock? */
static bool leaves_what_is_read(struct layout_change *c)
{
	enum array_kind kind;

	for (kind = 0; span_is_old(c) && kind < NR_ARRAYS; kind++) {
		if (!array_is_lpage(kind) && is_any_moved(c, kind) &&
		    *array_of(&c->arch->own[0], kind) != *array_of(&c->arch->retired[0], kind))
			return true;
	}

	return false;
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
	unsigned int i;

	mutex_lock(&kvm->slots_arch_lock);
	lock_mmu(kvm, span_is_old(c) && moves_rmaps(c), false);

	if (!span_is_old(c))
		release_old_cuts(c);
	for (i = 0; span_is_old(c) && i < change_nr_kept(c); i++)
		move_to_own(c, i);
	trim_counts(c);

	write_unlock(&kvm->mmu_lock);
	mutex_unlock(&kvm->slots_arch_lock);

	/*
	 * Others may be reading what a slot has just moved away from, faults the counts and
	 * those who age pages the rmaps.  Where a slot leaves, they are gone when it has.
	 */
	if (leaves_what_is_read(c) && !c->leaving)
		synchronize_srcu_expedited(&kvm->srcu);
}

/**
 * arch_layout_lacks_arrays() - would a first shadow root miss arrays of slots that have left?
 * @slots: the slots, which have just left the active set
 * @nr: how many
 *
 * Context: slots_arch_lock held.
 */
bool arch_layout_lacks_arrays(struct kvm_memory_slot *const *slots, unsigned int nr)
{
	unsigned int i;

	for (i = 0; i < nr; i++) {
		if (!slots[i]->arch.rmap[0] || !*compat_write_track(&slots[i]->arch))
			return true;
	}

	return false;
}

static void lend_standin(const struct standin *standin, struct kvm_arch_memory_slot *arch)
{
	int i;

	for (i = 0; i < KVM_NR_PAGE_SIZES; i++) {
		if (!arch->rmap[i])
			WRITE_ONCE(arch->rmap[i], standin->rmap);
	}
	if (!*compat_write_track(arch))
		WRITE_ONCE(*compat_write_track(arch), standin->write_track);
}

/**
 * arch_layout_lend() - make slots that have left ready for a first shadow root
 * @c: the change
 * @slots: the slots, some of which lack arrays, and may be in use for long
 * @nr: how many
 * @at_any_cost: whether what is to be lent may have to be made first
 *
 * Context: slots_lock and slots_arch_lock held.  Takes mmu_lock for write; sleeps.
 * Return: false where nothing is at hand, or there is no memory.
 */
bool arch_layout_lend(struct layout_change *c, struct kvm_memory_slot *const *slots,
		      unsigned int nr, bool at_any_cost)
{
	struct arch_change *a = c->arch;
	unsigned long most = 0;
	unsigned int i;

	/* What leaves is in one of them. */
	for (i = 0; i < c->nr_old; i++)
		most = max(most, c->old[i]->npages);
	if (!a->standin)
		a->standin = standin_at_hand(most);
	if (!a->standin && at_any_cost)
		a->standin = standin_create(most);
	if (!a->standin)
		return false;

	write_lock(&c->kvm->mmu_lock);
	for (i = 0; i < nr; i++)
		lend_standin(a->standin, &slots[i]->arch);
	write_unlock(&c->kvm->mmu_lock);

	return true;
}

/* KVM's limit: a page for page tables on this many pages of a VM. */
#define PAGES_PER_MMU_PAGE	50
/* How many vCPUs may make while KVM is told the limit. */
#define SPARE_MMU_PAGES		64

/**
 * arch_layout_commit() - tell KVM of a slot that has come, gone or changed its size
 * @kvm: the VM, whose nr_memslot_pages is right
 * @old: see kvm_arch_commit_memory_region()
 * @new: likewise
 * @change: likewise
 *
 * KVM sets a limit to page tables by the VM's size.  Where there are more already, it zaps the
 * oldest, whether they are those of what has left or of what stays, and yields to nobody.  So the
 * limit is lowered to what is there at most; with KVM's next own change it is what it is by size.
 *
 * Context: slots_lock held.  Sleeps.
 */
void arch_layout_commit(struct kvm *kvm, struct kvm_memory_slot *old,
			const struct kvm_memory_slot *new, enum kvm_mr_change change)
{
	unsigned long nr_there = compat_nr_mmu_pages(kvm) + SPARE_MMU_PAGES;
	unsigned long npages = kvm->nr_memslot_pages;

	lockdep_assert_held(&kvm->slots_lock);

	/* It would go up each time that vCPUs have used what is spare. */
	nr_there = min(nr_there, kvm->arch.n_max_mmu_pages);
	/* This is what KVM looks at. */
	kvm->nr_memslot_pages = max(npages, nr_there * PAGES_PER_MMU_PAGE);
	kvm_call(kvm_arch_commit_memory_region)(kvm, old, new, change);
	kvm->nr_memslot_pages = npages;
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

	/* What the first new slot took over. */
	disown_arrays(&c->old[0]->arch, &c->arch->own[0]);
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
