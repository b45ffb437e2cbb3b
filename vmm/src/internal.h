/* SPDX-License-Identifier: MIT */
/* What the files of this library share. */
#ifndef KVM_LAYOUT_INTERNAL_H
#define KVM_LAYOUT_INTERNAL_H

#include <kvm-layout.h>

typedef struct kvm_userspace_memory_region region_t;

#define KNOWN_FLAGS	(KVM_MEM_LOG_DIRTY_PAGES | KVM_MEM_READONLY)

static inline uint64_t region_end(const region_t *region)
{
	return region->guest_phys_addr + region->memory_size;
}

static inline bool region_same(const region_t *a, const region_t *b)
{
	return a->slot == b->slot && a->flags == b->flags &&
	       a->guest_phys_addr == b->guest_phys_addr &&
	       a->memory_size == b->memory_size &&
	       a->userspace_addr == b->userspace_addr;
}

/* Whether KVM would take a slot of this place and size. */
bool region_valid(const region_t *region);

/* qsort() */
int region_by_gpa(const void *a, const void *b);

/* What kvm_layout_new() was told. */
uint32_t layout_as_id(const struct kvm_layout *layout);
uint32_t layout_first_id(const struct kvm_layout *layout);
uint32_t layout_nr_ids(const struct kvm_layout *layout);

/* The index of the first slot that ends above the guest address. */
size_t layout_index(const struct kvm_layout *layout, uint64_t gpa);

/*
 * Makes room for @nr more slots with these numbers or lower ones, so that noting
 * steps cannot fail.
 */
int layout_reserve(struct kvm_layout *layout, size_t nr, uint32_t slot);

#endif /* KVM_LAYOUT_INTERNAL_H */
