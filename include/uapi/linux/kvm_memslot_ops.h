/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * Grow, shrink, split, merge and write-protect KVM memslots in place.
 *
 * A VM reaches these operations through a KVM device of type
 * KVM_DEV_TYPE_MEMSLOT_OPS.  docs/api.rst is the reference.
 */
#ifndef _UAPI_LINUX_KVM_MEMSLOT_OPS_H
#define _UAPI_LINUX_KVM_MEMSLOT_OPS_H

#include <linux/kvm.h>
#include <linux/types.h>

/*
 * The type is borrowed: x86 never registers it.  Check group
 * KVM_DEV_MEMSLOT_OPS_GRP_OP, whose number no other device uses, before
 * trusting the fd.
 */
#define KVM_DEV_TYPE_MEMSLOT_OPS		1

/* Groups of KVM_HAS_DEVICE_ATTR and KVM_GET_DEVICE_ATTR; values are __u64. */
#define KVM_DEV_MEMSLOT_OPS_GRP_OP		0x4d534f00	/* KVM_MEMSLOT_OP_* */
#define KVM_DEV_MEMSLOT_OPS_GRP_INFO		0x4d534f01	/* KVM_MEMSLOT_INFO_* */
#define KVM_DEV_MEMSLOT_OPS_GRP_STAT		0x4d534f02	/* KVM_MEMSLOT_STAT_* */

/* Attributes of group OP: 1 where the operation exists. */
#define KVM_MEMSLOT_OP_GROW			0
#define KVM_MEMSLOT_OP_SHRINK			1
#define KVM_MEMSLOT_OP_SPLIT			2
#define KVM_MEMSLOT_OP_MERGE			3
#define KVM_MEMSLOT_OP_SET_READONLY		4

/* Attributes of group INFO. */
#define KVM_MEMSLOT_INFO_VERSION		0	/* 1 */
#define KVM_MEMSLOT_INFO_MAX_PIECES		1	/* of one split or merge */
#define KVM_MEMSLOT_INFO_FEATURES		2	/* KVM_MEMSLOT_FEATURE_* */

#define KVM_MEMSLOT_FEATURE_DIRTY_BITMAP	(1ULL << 0)
#define KVM_MEMSLOT_FEATURE_DIRTY_RING		(1ULL << 1)
#define KVM_MEMSLOT_FEATURE_SHADOW_PAGING	(1ULL << 2)	/* nested guests, or no TDP */

/*
 * Attributes of group STAT, of this VM through any of its devices, since the
 * oldest open one was made.
 */
#define KVM_MEMSLOT_STAT_OPS			0	/* succeeded and changed something */
#define KVM_MEMSLOT_STAT_SWAPS			1	/* OPS + GROWs + SHRINKs */
#define KVM_MEMSLOT_STAT_FAILED			2	/* failed, ENOTTY and EIO excepted */

/**
 * struct kvm_memslot_grow - argument of KVM_MEMSLOT_GROW
 * @slot: as_id << 16 | id, as in KVM_SET_USER_MEMORY_REGION
 * @flags: 0
 * @memory_size: new size in bytes, larger than today's
 */
struct kvm_memslot_grow {
	__u32 slot;
	__u32 flags;
	__u64 memory_size;
};

/**
 * struct kvm_memslot_shrink - argument of KVM_MEMSLOT_SHRINK
 * @slot: as_id << 16 | id
 * @flags: 0
 * @memory_size: new size in bytes, smaller than today's; 0 removes the slot
 * @dirty_bitmap: 0, or the user address where the removed range's final dirty
 *	bits go: bit 0 is its first page; whole __u64s, as many as its pages
 *	need, spare bits 0
 */
struct kvm_memslot_shrink {
	__u32 slot;
	__u32 flags;
	__u64 memory_size;
	__u64 dirty_bitmap;
};

/**
 * struct kvm_memslot_cut - where a piece starts and what it is called
 * @offset: bytes from the start of the slot; strictly increasing
 * @slot: the free slot (same address space) that the piece becomes
 * @pad: 0
 */
struct kvm_memslot_cut {
	__u64 offset;
	__u32 slot;
	__u32 pad;
};

/**
 * struct kvm_memslot_split - argument of KVM_MEMSLOT_SPLIT
 * @slot: as_id << 16 | id; keeps its number for the first piece
 * @flags: 0
 * @nr_cuts: entries of @cuts
 * @pad: 0
 * @cuts: one for each piece but the first
 */
struct kvm_memslot_split {
	__u32 slot;
	__u32 flags;
	__u32 nr_cuts;
	__u32 pad;
	struct kvm_memslot_cut cuts[];
};

/**
 * struct kvm_memslot_merge - argument of KVM_MEMSLOT_MERGE
 * @slot: the first slot by guest address; keeps its number for the whole
 * @flags: 0
 * @nr_slots: entries of @slots
 * @pad: 0
 * @slots: those merged into it, in guest address order
 */
struct kvm_memslot_merge {
	__u32 slot;
	__u32 flags;
	__u32 nr_slots;
	__u32 pad;
	__u32 slots[];
};

/**
 * struct kvm_memslot_set_readonly - argument of KVM_MEMSLOT_SET_READONLY
 * @slot: as_id << 16 | id
 * @flags: 0
 * @readonly: 1: as a slot created with KVM_MEM_READONLY, 0: writes land
 * @pad: 0
 */
struct kvm_memslot_set_readonly {
	__u32 slot;
	__u32 flags;
	__u32 readonly;
	__u32 pad;
};

#define KVM_MEMSLOT_GROW		_IOW(KVMIO, 0xf1, struct kvm_memslot_grow)
#define KVM_MEMSLOT_SHRINK		_IOW(KVMIO, 0xf2, struct kvm_memslot_shrink)
#define KVM_MEMSLOT_SPLIT		_IOW(KVMIO, 0xf3, struct kvm_memslot_split)
#define KVM_MEMSLOT_MERGE		_IOW(KVMIO, 0xf4, struct kvm_memslot_merge)
#define KVM_MEMSLOT_SET_READONLY	_IOW(KVMIO, 0xf5, struct kvm_memslot_set_readonly)

#endif /* _UAPI_LINUX_KVM_MEMSLOT_OPS_H */
