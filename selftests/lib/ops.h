/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The operations besides slot_grow(). Each returns 0 or a positive errno.
 */
#ifndef SELFTESTS_OPS_H
#define SELFTESTS_OPS_H

#include "memslot_ops.h"

/* @bitmap: NULL, or where the removed range's final dirty bits go. */
int slot_shrink(int dev, uint32_t slot, uint64_t size, void *bitmap);

int slot_split(int dev, uint32_t slot, unsigned int nr_cuts,
	       const struct kvm_memslot_cut *cuts);

int slot_merge(int dev, uint32_t slot, unsigned int nr, const uint32_t *slots);

int slot_set_readonly(int dev, uint32_t slot, bool readonly);

#endif
