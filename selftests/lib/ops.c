// SPDX-License-Identifier: GPL-2.0
#include <stdlib.h>
#include <string.h>

#include "ops.h"

int slot_shrink(int dev, uint32_t slot, uint64_t size, void *bitmap)
{
	struct kvm_memslot_shrink shrink = {
		.slot = slot,
		.memory_size = size,
		.dirty_bitmap = (uintptr_t)bitmap,
	};

	return ioctl(dev, KVM_MEMSLOT_SHRINK, &shrink) ? errno : 0;
}

int slot_split(int dev, uint32_t slot, unsigned int nr_cuts,
	       const struct kvm_memslot_cut *cuts)
{
	struct kvm_memslot_split *split;
	int err;

	split = calloc(1, sizeof(*split) + nr_cuts * sizeof(*cuts));
	TEST_ASSERT(split, "no memory");
	split->slot = slot;
	split->nr_cuts = nr_cuts;
	if (nr_cuts)
		memcpy(split->cuts, cuts, nr_cuts * sizeof(*cuts));

	err = ioctl(dev, KVM_MEMSLOT_SPLIT, split) ? errno : 0;
	free(split);
	return err;
}

int slot_merge(int dev, uint32_t slot, unsigned int nr, const uint32_t *slots)
{
	struct kvm_memslot_merge *merge;
	int err;

	merge = calloc(1, sizeof(*merge) + nr * sizeof(*slots));
	TEST_ASSERT(merge, "no memory");
	merge->slot = slot;
	merge->nr_slots = nr;
	if (nr)
		memcpy(merge->slots, slots, nr * sizeof(*slots));

	err = ioctl(dev, KVM_MEMSLOT_MERGE, merge) ? errno : 0;
	free(merge);
	return err;
}

int slot_set_readonly(int dev, uint32_t slot, bool readonly)
{
	struct kvm_memslot_set_readonly set = {
		.slot = slot,
		.readonly = readonly,
	};

	return ioctl(dev, KVM_MEMSLOT_SET_READONLY, &set) ? errno : 0;
}
