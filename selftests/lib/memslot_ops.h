/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The memslot-operations device as the tests use it. Whatever can fail for a
 * reason that a test may want to see returns 0 or a positive errno.
 */
#ifndef SELFTESTS_MEMSLOT_OPS_H
#define SELFTESTS_MEMSLOT_OPS_H

#include <linux/kvm_memslot_ops.h>

#include "kvm_util.h"

#define SLOT(as_id, id)		((uint32_t)(as_id) << 16 | (id))

/* The number that the module was told to register, or the usual one. */
uint32_t memslot_ops_type(void);

/* Whether the module is there, asked through a VM made for that. */
bool memslot_ops_present(void);
bool memslot_ops_has(uint64_t op);
bool memslot_ops_has_feature(uint64_t feature);

/* Whether the host maps guest memory with the TDP MMU: no rmaps to care for. */
bool host_has_tdp_mmu(void);
/* Whether all VMs run on shadow page tables, for want of TDP. */
bool host_shadows_pages(void);

int memslot_ops_probe(struct kvm_vm *vm);
int memslot_ops_open(struct kvm_vm *vm);

uint64_t memslot_ops_attr(int dev, uint32_t group, uint64_t attr);
uint64_t memslot_ops_stat(int dev, uint64_t stat);
uint64_t memslot_ops_features(int dev);

/*
 * Fails the test unless the module has counted @ops operations, of which @resizes
 * were GROWs and SHRINKs, which swap the sets twice, and @failed that failed.
 */
void memslot_ops_assert_stats(int dev, uint64_t ops, uint64_t resizes,
			      uint64_t failed);

int slot_grow(int dev, uint32_t slot, uint64_t size);

/* KVM_SET_USER_MEMORY_REGION; a size of 0 deletes. */
int slot_set(struct kvm_vm *vm, uint32_t slot, uint32_t flags, uint64_t gpa,
	     uint64_t size, void *hva);
/* The same, where it must succeed. */
void slot_must_set(struct kvm_vm *vm, uint32_t slot, uint32_t flags,
		   uint64_t gpa, uint64_t size, void *hva);

/*
 * Fails the test unless KVM holds the slot exactly as described. KVM tells no
 * one what its slots are, but setting one as it is succeeds, and setting it to
 * another size or host address is refused.
 */
void slot_assert(struct kvm_vm *vm, uint32_t slot, uint32_t flags, uint64_t gpa,
		 uint64_t size, void *hva);

/* A counter of a VM or vCPU, through its binary statistics. */
struct counter {
	int fd;
	off_t offset;
};

struct counter counter_open(int stats_fd, const char *name);
uint64_t counter_read(const struct counter *counter);
uint64_t vm_stat(struct kvm_vm *vm, const char *name);
/* How often KVM wanted all vCPUs' translations to be dropped. */
#define FLUSHES		"remote_tlb_flush_requests"

#endif
