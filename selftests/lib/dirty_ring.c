// SPDX-License-Identifier: GPL-2.0
#include "kvm_util.h"
#include "processor.h"

#include "dirty_ring.h"
#include "host.h"

#define KEPT		64
#define PML_ENTRIES	512

static uint32_t nr_kept(void)
{
	return KEPT + (host_has_pml() ? PML_ENTRIES : 0);
}

/* A power of two, at least a page, and more than what KVM keeps. */
uint32_t ring_size(void)
{
	uint32_t size = PAGE_SIZE;

	while (size / sizeof(struct kvm_dirty_gfn) <= nr_kept())
		size *= 2;
	return size;
}

uint32_t ring_entries(void)
{
	return ring_size() / sizeof(struct kvm_dirty_gfn);
}

uint32_t ring_soft_limit(void)
{
	return ring_entries() - nr_kept();
}

struct kvm_dirty_gfn *ring_entry(struct kvm_vcpu *vcpu, uint32_t index)
{
	struct kvm_dirty_gfn *ring = vcpu_map_dirty_ring(vcpu);

	return &ring[index % vcpu->dirty_gfns_count];
}

bool ring_is_dirty(struct kvm_vcpu *vcpu, uint32_t index)
{
	struct kvm_dirty_gfn *entry = ring_entry(vcpu, index);

	/* KVM stores slot and offset before the flags. */
	return __atomic_load_n(&entry->flags, __ATOMIC_ACQUIRE) ==
	       KVM_DIRTY_GFN_F_DIRTY;
}

bool ring_harvest(struct kvm_vcpu *vcpu, uint32_t *index, uint32_t *slot,
		  uint64_t *offset)
{
	struct kvm_dirty_gfn *entry = ring_entry(vcpu, *index);

	if (!ring_is_dirty(vcpu, *index))
		return false;
	if (slot)
		*slot = entry->slot;
	if (offset)
		*offset = entry->offset;
	__atomic_store_n(&entry->flags, KVM_DIRTY_GFN_F_RESET, __ATOMIC_RELEASE);
	++*index;
	return true;
}
