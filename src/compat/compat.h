/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What differs between the supported kernels, and nothing else.  The code
 * elsewhere is written against the newest of them.
 */
#ifndef _MEMSLOT_OPS_COMPAT_H
#define _MEMSLOT_OPS_COMPAT_H

#include <linux/kvm_host.h>
#include <linux/version.h>
#include <asm/kvm_page_track.h>

/*
 * The module relies on what KVM's internals do, not only on their names, so a
 * series is accepted after its source has been read and the tests have run on it.
 * Kbuild says which one this is.
 */
#if !defined(KVM_SERIES_6_1) && !defined(KVM_SERIES_6_12)
#error "kvm_memslot_ops knows the KVM of Linux 6.1 and 6.12 only"
#endif

/*
 * A fault that finds no slot may be overtaken by an operation, and by another fault
 * that maps a page there.  Before this fix it then put its MMIO entry over that mapping
 * and left the page's rmap behind, leading to an entry that is none of its.
 *
 * LINUX_VERSION_CODE does not tell: in Debian's 6.1 it is that of 6.1.0.
 */
#if (defined(KVM_SERIES_6_1) && LINUX_VERSION_SUBLEVEL < 168) || \
	(defined(KVM_SERIES_6_12) && LINUX_VERSION_SUBLEVEL < 80)
#error "kvm_memslot_ops needs a fix that Linux 6.1.168 and 6.12.80 have and this one lacks: \
KVM: x86/mmu: Drop/zap existing present SPTE even when creating an MMIO SPTE"
#endif

#ifdef KVM_SERIES_6_1

#define KVM_MEM_GUEST_MEMFD	0

static inline bool kvm_arch_has_readonly_mem(struct kvm *kvm)
{
	return true;
}

static inline bool kvm_arch_has_private_mem(struct kvm *kvm)
{
	return false;
}

static inline int kvm_arch_nr_memslot_as_ids(struct kvm *kvm)
{
	return KVM_ADDRESS_SPACE_NUM;
}

#endif /* 6.1 */

/**
 * compat_write_track() - where a slot keeps its write-tracking counts
 * @arch: of the slot
 *
 * Return: a pointer to the pointer to an array of one count per page.
 */
static inline unsigned short **compat_write_track(struct kvm_arch_memory_slot *arch)
{
#ifdef KVM_SERIES_6_1
	return &arch->gfn_track[KVM_PAGE_TRACK_WRITE];
#else
	return &arch->gfn_write_track;
#endif
}

/**
 * compat_has_external_tracker() - does somebody outside KVM track page writes?
 * @kvm: the VM
 *
 * 6.1 has a tracker of KVM's own on the list of every VM.
 *
 * Context: mmu_lock held.
 */
static inline bool compat_has_external_tracker(struct kvm *kvm)
{
#ifdef CONFIG_KVM_EXTERNAL_WRITE_TRACKING
	struct hlist_node *first = kvm->arch.track_notifier_head.track_notifier_list.first;

	lockdep_assert_held(&kvm->mmu_lock);
#ifdef KVM_SERIES_6_1
	return first && (first != &kvm->arch.mmu_sp_tracker.node || first->next);
#else
	return first;
#endif
#else
	return false;
#endif
}

/**
 * compat_flush_tells_trackers() - does kvm_arch_flush_shadow_memslot() tell trackers?
 *
 * If not, kvm_arch_commit_memory_region() does when a slot is deleted.
 */
static inline bool compat_flush_tells_trackers(void)
{
#ifdef KVM_SERIES_6_1
	return true;
#else
	return false;
#endif
}

/**
 * compat_gfn_range() - describe a range of a slot to kvm_unmap_gfn_range()
 * @slot: the slot
 * @start: first gfn
 * @end: first gfn after the range
 * @may_block: whether mmu_lock may be yielded on the way
 */
static inline struct kvm_gfn_range compat_gfn_range(struct kvm_memory_slot *slot,
						    gfn_t start, gfn_t end, bool may_block)
{
	return (struct kvm_gfn_range) {
		.slot = slot,
		.start = start,
		.end = end,
		.may_block = may_block,
#ifndef KVM_SERIES_6_1
		.attr_filter = KVM_FILTER_SHARED,
#endif
	};
}

/**
 * compat_recovers_nx_pages() - may KVM look for the slots of page-table pages?
 * @kvm: the VM
 *
 * The thread that undoes the nx-huge-page workaround warns about a page-table
 * page whose first frame is in no slot, if any slot logs its writes when the thread comes
 * across the page.  6.1 does not look.
 *
 * Context: mmu_lock held.
 */
static inline bool compat_recovers_nx_pages(struct kvm *kvm)
{
#ifdef KVM_SERIES_6_1
	return false;
#else
	return !list_empty(&kvm->arch.possible_nx_huge_pages);
#endif
}

/**
 * compat_count_logging() - change the number of slots that log writes
 * @kvm: the VM
 * @delta: how many more there are to stay
 * @nr_deleted: how many kvm_arch_commit_memory_region() is still to be told of
 * @pml: whether KVM uses PML, which is what the number is for
 *
 * 6.1 counts in that function, and only with PML.
 */
static inline void compat_count_logging(struct kvm *kvm, int delta, int nr_deleted, bool pml)
{
#ifdef KVM_SERIES_6_1
	if (pml)
		kvm->arch.cpu_dirty_logging_count += delta + nr_deleted;
#else
	atomic_add(delta, &kvm->nr_memslots_dirty_logging);
#endif
}

#endif /* _MEMSLOT_OPS_COMPAT_H */
