/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What differs between the supported kernels, and nothing else.  The code
 * elsewhere is written against the newest of them.
 *
 * detect.mk has looked at KVM's headers and says what they have, whatever the number of
 * the series: KVM_HAS_*.  What they do not tell, this file takes to be as it is where more
 * has to be done.
 */
#ifndef _MEMSLOT_OPS_COMPAT_H
#define _MEMSLOT_OPS_COMPAT_H

#include <linux/kvm_host.h>
#include <linux/version.h>
#include <asm/ibt.h>
#include <asm/kvm_page_track.h>

#include "wrapper/kvm.h"

/*
 * A fault that finds no slot may be overtaken by an operation, and by another fault
 * that maps a page there.  Before this fix it then put its MMIO entry over that mapping
 * and left the page's rmap behind, leading to an entry that is none of its.
 *
 * LINUX_VERSION_CODE does not tell: in Debian's 6.1 it is that of 6.1.0.
 */
#if (LINUX_VERSION_MAJOR == 6 && LINUX_VERSION_PATCHLEVEL == 1 && LINUX_VERSION_SUBLEVEL < 168) || \
	(LINUX_VERSION_MAJOR == 6 && LINUX_VERSION_PATCHLEVEL == 12 && LINUX_VERSION_SUBLEVEL < 80)
#error "kvm_memslot_ops needs a fix that Linux 6.1.168 and 6.12.80 have and this one lacks: \
KVM: x86/mmu: Drop/zap existing present SPTE even when creating an MMIO SPTE"
#endif

#ifndef KVM_HAS_WQ_PERCPU
/* It is the default. */
#define WQ_PERCPU	0
#endif

#ifndef KVM_HAS_READONLY_MEM
static inline bool kvm_arch_has_readonly_mem(struct kvm *kvm)
{
	return true;
}
#endif

#ifndef KVM_HAS_PRIVATE_MEM
static inline bool kvm_arch_has_private_mem(struct kvm *kvm)
{
	return false;
}
#endif

#ifndef KVM_HAS_NR_AS_IDS
static inline int kvm_arch_nr_memslot_as_ids(struct kvm *kvm)
{
	return KVM_ADDRESS_SPACE_NUM;
}
#endif

/**
 * compat_has_tdp_roots() - may a VM have mappings that no rmap leads to?
 * @kvm: the VM
 *
 * The list is not even empty where the host does without the TDP MMU.
 *
 * Context: mmu_lock held.
 */
static inline bool compat_has_tdp_roots(struct kvm *kvm)
{
#ifdef CONFIG_X86_64
	return kvm->arch.tdp_mmu_roots.next && !list_empty(&kvm->arch.tdp_mmu_roots);
#else
	return false;
#endif
}

/**
 * compat_faults_take_back() - may a fault make an entry allow less than it did, and not flush?
 * @kvm: the VM
 *
 * The shadow MMU flushes; from 6.18 on, the TDP MMU leaves an entry that allows more alone.
 *
 * Context: mmu_lock held.
 */
static inline bool compat_faults_take_back(struct kvm *kvm)
{
	return LINUX_VERSION_MAJOR == 6 && LINUX_VERSION_PATCHLEVEL < 18 &&
	       compat_has_tdp_roots(kvm);
}

/**
 * compat_write_track() - where a slot keeps its write-tracking counts
 * @arch: of the slot
 *
 * Return: a pointer to the pointer to an array of one count per page.
 */
static inline unsigned short **compat_write_track(struct kvm_arch_memory_slot *arch)
{
#if defined(KVM_HAS_GFN_WRITE_TRACK)
	return &arch->gfn_write_track;
#elif defined(KVM_HAS_GFN_TRACK)
	return &arch->gfn_track[KVM_PAGE_TRACK_WRITE];
#else
#error "kvm_memslot_ops does not know this KVM: where does a slot keep its write-tracking counts?"
#endif
}

/**
 * compat_has_external_tracker() - does somebody outside KVM track page writes?
 * @kvm: the VM
 *
 * Some have a tracker of KVM's own on the list of every VM.
 *
 * Context: mmu_lock held.
 */
static inline bool compat_has_external_tracker(struct kvm *kvm)
{
#ifdef CONFIG_KVM_EXTERNAL_WRITE_TRACKING
	struct hlist_node *first = kvm->arch.track_notifier_head.track_notifier_list.first;

	lockdep_assert_held(&kvm->mmu_lock);
#ifdef KVM_HAS_OWN_TRACKER
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
#if defined(KVM_HAS_TRACK_REMOVE_REGION)
	return false;
#elif defined(KVM_HAS_TRACK_FLUSH_SLOT)
	return true;
#elif defined(CONFIG_KVM_EXTERNAL_WRITE_TRACKING)
#error "kvm_memslot_ops does not know this KVM: how does it tell trackers that a slot goes?"
#else
	return false;
#endif
}

/**
 * compat_nr_mmu_pages() - how many pages KVM has for page tables, but for those of its TDP MMU
 * @kvm: the VM
 *
 * Context: any; it is an instant's.
 */
static inline unsigned long compat_nr_mmu_pages(const struct kvm *kvm)
{
#if defined(KVM_HAS_USED_MMU_PAGES)
	/* KVM counts them under mmu_lock, and nobody relies on this one. */
	return data_race(READ_ONCE(kvm->arch.n_used_mmu_pages));
#elif defined(KVM_HAS_MMU_SHADOW_PAGES)
	/* Likewise. */
	return data_race(READ_ONCE(kvm->stat.mmu_shadow_pages));
#else
#error "kvm_memslot_ops does not know this KVM: how many pages has its shadow MMU?"
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
#ifdef KVM_HAS_ATTR_FILTER
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
 * across the page.  6.1, where the list has another name, does not look.
 *
 * Context: mmu_lock held.
 */
static inline bool compat_recovers_nx_pages(struct kvm *kvm)
{
#if defined(KVM_HAS_NX_LISTS)
	int i;

	for (i = 0; i < ARRAY_SIZE(kvm->arch.possible_nx_huge_pages); i++) {
		if (!list_empty(&kvm->arch.possible_nx_huge_pages[i].pages))
			return true;
	}

	return false;
#elif defined(KVM_HAS_NX_LIST)
	return !list_empty(&kvm->arch.possible_nx_huge_pages);
#elif defined(KVM_HAS_LPAGE_DISALLOWED_LIST)
	return false;
#else
#error "kvm_memslot_ops does not know this KVM: what may become an nx huge page again?"
#endif
}

/**
 * compat_count_logging() - change the number of slots that log writes
 * @kvm: the VM
 * @delta: how many more there are to stay
 * @nr_deleted: how many kvm_arch_commit_memory_region() is still to be told of
 * @pml: whether KVM uses PML, which is what the number is for
 *
 * Some count in that function, and only with PML.
 */
static inline void compat_count_logging(struct kvm *kvm, int delta, int nr_deleted, bool pml)
{
#if defined(KVM_HAS_NR_LOGGING)
	atomic_add(delta, &kvm->nr_memslots_dirty_logging);
#elif defined(KVM_HAS_CPU_LOGGING_COUNT)
	if (pml)
		kvm->arch.cpu_dirty_logging_count += delta + nr_deleted;
#else
#error "kvm_memslot_ops does not know this KVM: how many slots log writes?"
#endif
}

/**
 * compat_uses_pml() - does the CPU note by itself what a VM writes?
 * @kvm: the VM
 */
static inline bool compat_uses_pml(struct kvm *kvm)
{
#if defined(KVM_HAS_LOG_SIZE_OF_VM)
	return kvm_call(kvm_cpu_dirty_log_size)(kvm);
#elif defined(KVM_HAS_LOG_SIZE)
	return kvm_call(kvm_cpu_dirty_log_size)();
#else
#error "kvm_memslot_ops does not know this KVM: how does it tell whether it uses PML?"
#endif
}

/*
 * An rmap's head is a word.  Since MMU notifiers age pages without mmu_lock, it has a bit
 * that they hold with preemption disabled, while they go through the rmap, and then store
 * what it was before.  They pass an empty one over.
 */
#define COMPAT_RMAP_LOCKED	BIT(1)

/**
 * compat_locks_rmaps() - does anybody go through rmaps without mmu_lock?
 */
static inline bool compat_locks_rmaps(void)
{
	const struct kvm_rmap_head *head = NULL;

	BUILD_BUG_ON_MSG(!__same_type(head->val, unsigned long) &&
			 !__same_type(head->val, atomic_long_t),
			 "kvm_memslot_ops does not know this KVM: what is an rmap's head?");

	return __same_type(head->val, atomic_long_t);
}

/**
 * compat_rmap_take() - empty an rmap's head, and return what it was
 * @head: the head
 *
 * Context: mmu_lock held for write, so that only those may be at it who lock it.
 */
static inline unsigned long compat_rmap_take(struct kvm_rmap_head *head)
{
	atomic_long_t *val = (atomic_long_t *)&head->val;
	long old = atomic_long_read(val);

	if (!compat_locks_rmaps()) {
		atomic_long_set(val, 0);
		return old;
	}

	do {
		while (old & COMPAT_RMAP_LOCKED) {
			cpu_relax();
			old = atomic_long_read(val);
		}
		/* Acquires what whoever had it locked releases. */
	} while (old && !atomic_long_try_cmpxchg_acquire(val, &old, 0));

	return old;
}

/**
 * compat_rmap_put() - fill an rmap's head that was empty
 * @head: the head
 * @val: what another one was
 *
 * Context: mmu_lock held for write.
 */
static inline void compat_rmap_put(struct kvm_rmap_head *head, unsigned long val)
{
	atomic_long_set_release((atomic_long_t *)&head->val, val);
}

/**
 * compat_rmap_read() - what is an rmap's head?
 * @head: the head
 *
 * Context: mmu_lock held for write.
 * Return: 0 where it leads to no mapping.
 */
static inline unsigned long compat_rmap_read(struct kvm_rmap_head *head)
{
	/* It leads to something aligned: where nobody locks it, the bit is never set. */
	return atomic_long_read((atomic_long_t *)&head->val) & ~COMPAT_RMAP_LOCKED;
}

/**
 * compat_is_endbr() - is an instruction ENDBR, or what is left of a sealed one?
 * @insn: its first bytes
 */
static inline bool compat_is_endbr(u32 *insn)
{
#if !HAS_KERNEL_IBT
	return false;
#elif defined(KVM_HAS_INLINE_IS_ENDBR)
	return __is_endbr(*insn);
#else
	return is_endbr(*insn);
#endif
}

#endif /* _MEMSLOT_OPS_COMPAT_H */
