/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A vCPU's ring of dirty pages, as a VMM reads it.
 */
#ifndef SELFTESTS_DIRTY_RING_H
#define SELFTESTS_DIRTY_RING_H

#include <stdbool.h>
#include <stdint.h>

#include "kvm_util.h"

/* The smallest ring that this host's KVM makes, in bytes. */
uint32_t ring_size(void);

/* How many entries fit into it. */
uint32_t ring_entries(void);

/*
 * How many the guest may fill before KVM_RUN ends. KVM keeps 64 for itself, and
 * as many as a CPU logs before KVM looks.
 */
uint32_t ring_soft_limit(void);

/* The number that entries of a removed tail name: no slot can have it. */
#define RING_NO_SLOT	0x7fff

/* Entry @index, counted from the VM's start; it wraps around. */
struct kvm_dirty_gfn *ring_entry(struct kvm_vcpu *vcpu, uint32_t index);

/* Whether KVM has filled the entry, and nobody harvested it. */
bool ring_is_dirty(struct kvm_vcpu *vcpu, uint32_t index);

/*
 * Harvests the entry at *@index, moves *@index on, and returns true; or returns
 * false where there is none. Any of @slot and @offset may be NULL.
 */
bool ring_harvest(struct kvm_vcpu *vcpu, uint32_t *index, uint32_t *slot,
		  uint64_t *offset);

#endif
