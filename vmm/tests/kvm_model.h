/* SPDX-License-Identifier: MIT */
/*
 * A model of what KVM and its device kvm_memslot_ops do to the memslots of one
 * address space: which calls they refuse, what the slots are afterwards, and
 * where dirty bits are.
 *
 * Calls return 0 or a negative errno.  One that fails changes nothing.
 */
#ifndef KVM_MODEL_H
#define KVM_MODEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <linux/kvm.h>
#include <linux/kvm_memslot_ops.h>

#include "kvm-layout.h"

#ifdef __cplusplus
extern "C" {
#endif

/* KVM_MEM_SLOTS_NUM: ids are below, and also the number of a removed tail. */
#define KVM_MODEL_MAX_IDS	32767

/**
 * struct kvm_model_slot - a slot
 * @region: as KVM was told
 * @dirty: a byte for each page, 1 where it is dirty; NULL if it keeps no bitmap
 */
struct kvm_model_slot {
	struct kvm_userspace_memory_region region;
	uint8_t *dirty;
};

/**
 * struct kvm_model - the slots of an address space, and what may be done
 * @as_id: the address space
 * @nr_ids: ids are below
 * @ops: 1 << KVM_LAYOUT_* that the device offers
 * @max_pieces: of one split or merge
 * @no_bitmaps: slots that log keep none: there is a dirty ring, or they are too
 *	large for a test
 * @slots: in the order of guest addresses
 * @nr_slots: of these
 * @nr_calls: made so far, those that failed included
 * @nr_swaps: of KVM's two slot sets, made so far
 * @fail_call: number of the call that fails, the first is 1; 0: none
 * @fail_errno: with what, positive
 */
struct kvm_model {
	uint32_t as_id;
	uint32_t nr_ids;
	uint32_t ops;
	uint32_t max_pieces;
	bool no_bitmaps;
	struct kvm_model_slot *slots;
	size_t nr_slots;
	unsigned long nr_calls;
	unsigned long nr_swaps;
	unsigned long fail_call;
	int fail_errno;
};

/**
 * struct kvm_model_place - where a guest address leads
 * @there: somewhere
 * @hva: the host address
 * @flags: of the slot
 * @slot: its number
 * @offset: from its start, in bytes
 */
struct kvm_model_place {
	bool there;
	uint64_t hva;
	uint32_t flags;
	uint32_t slot;
	uint64_t offset;
};

/* kvm_model_init - an address space without slots, where all is on offer */
void kvm_model_init(struct kvm_model *model, uint32_t as_id);
void kvm_model_fini(struct kvm_model *model);
/* kvm_model_copy - @to is not initialized */
void kvm_model_copy(struct kvm_model *to, const struct kvm_model *from);

int kvm_model_set_region(struct kvm_model *model,
			 const struct kvm_userspace_memory_region *region);
int kvm_model_grow(struct kvm_model *model, uint32_t slot, uint64_t size);
/* kvm_model_shrink - @bitmap: NULL, or as the dirty_bitmap of the call */
int kvm_model_shrink(struct kvm_model *model, uint32_t slot, uint64_t size,
		     uint64_t *bitmap);
int kvm_model_split(struct kvm_model *model, uint32_t slot,
		    const struct kvm_memslot_cut *cuts, size_t nr_cuts);
int kvm_model_merge(struct kvm_model *model, uint32_t slot,
		    const uint32_t *slots, size_t nr_slots);
int kvm_model_set_readonly(struct kvm_model *model, uint32_t slot,
			   uint32_t readonly);

/* kvm_model_step - make the call that a step of a plan describes */
int kvm_model_step(struct kvm_model *model, const struct kvm_layout_step *step,
		   uint64_t *bitmap);

/* kvm_model_find - the slot with that number, or NULL */
struct kvm_model_slot *kvm_model_find(const struct kvm_model *model,
				      uint32_t slot);

/*
 * kvm_model_look - where a range leads
 *
 * Return: false if a part of it leads elsewhere than the rest
 */
bool kvm_model_look(const struct kvm_model *model, uint64_t gpa, uint64_t size,
		    struct kvm_model_place *place);

/* kvm_model_size - all that is mapped, in bytes */
uint64_t kvm_model_size(const struct kvm_model *model);

/* kvm_model_same_region - equal in all that KVM knows of a slot */
bool kvm_model_same_region(const struct kvm_userspace_memory_region *a,
			   const struct kvm_userspace_memory_region *b);

/* kvm_model_is - the library's bookkeeping says the same */
bool kvm_model_is(const struct kvm_model *model,
		  const struct kvm_layout *layout);

/*
 * kvm_model_selftest - the model itself does and refuses what it should
 *
 * Prints TAP.  Return: how many tests failed
 */
int kvm_model_selftest(void);

#ifdef __cplusplus
}
#endif

#endif /* KVM_MODEL_H */
