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

#define KERNEL_SERIES(major, minor)				\
	(LINUX_VERSION_CODE >= KERNEL_VERSION(major, minor, 0) &&	\
	 LINUX_VERSION_CODE < KERNEL_VERSION(major, (minor) + 1, 0))

/*
 * The module relies on what KVM's internals do, not only on their names, so a
 * series is accepted after its source has been read and the tests have run on it.
 */
#if KERNEL_SERIES(6, 1)
#define COMPAT_SERIES "6.1"
#elif KERNEL_SERIES(6, 12)
#define COMPAT_SERIES "6.12"
#else
#error "kvm_memslot_ops knows the KVM of Linux 6.1 and 6.12 only"
#endif

#if KERNEL_SERIES(6, 1)

#define KVM_MEM_GUEST_MEMFD	0

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
#if KERNEL_SERIES(6, 1)
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
#if KERNEL_SERIES(6, 1)
	return first && (first != &kvm->arch.mmu_sp_tracker.node || first->next);
#else
	return first;
#endif
#else
	return false;
#endif
}

#endif /* _MEMSLOT_OPS_COMPAT_H */
