/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Each of the five operations once, SET_READONLY both ways, on four huge frames
 * of guest memory: what the slots are before and after it, and what of that
 * nobody should notice.
 */
#ifndef SELFTESTS_CHANGES_H
#define SELFTESTS_CHANGES_H

#include "host.h"
#include "layout_model.h"
#include "memslot_ops.h"

#define CHANGE_FRAMES	4
#define CHANGE_PAGES	(CHANGE_FRAMES * HUGE_PAGES)
#define CHANGE_SIZE	(CHANGE_PAGES * PAGE_SIZE)
/* Where GROW begins, SHRINK ends, and a cut is: inside the second frame. */
#define CHANGE_CUT	700
/* The first number of slots; others follow. */
#define CHANGE_SLOT	2

enum {
	CHANGE_GROW,
	CHANGE_SHRINK,
	CHANGE_SPLIT,
	CHANGE_MERGE,
	CHANGE_PROTECT,
	CHANGE_UNPROTECT,
	NR_CHANGES,
};

struct change {
	const char *name;
	struct layout before, after;
	/* Pages, from the start of the range, that are in both. */
	uint64_t stays;
	/*
	 * Those that the change must not cost a fault, by what backs them: all but
	 * the mappings that a new boundary cuts, and the pages beside it.  See
	 * change_may_zap_all().
	 */
	uint64_t quiet[2];
};

extern const struct change changes[NR_CHANGES];

/* Whether this host's KVM may zap all that is mapped: SHRINK among shadow pages. */
bool change_may_zap_all(const struct change *c);

/* Makes the operation; returns 0 or a positive errno. */
int change_make(int dev, const struct change *c);

/* The same as a call for async_start(). */
struct change_call {
	const struct change *change;
	int dev;
};

int change_call(void *call);

/* By KVM's own calls: makes all slots of a layout, or deletes them. */
void layout_create(struct kvm_vm *vm, const struct layout *l, uint64_t gpa,
		   char *mem);
void layout_delete(struct kvm_vm *vm, const struct layout *l);
/* Fails the test unless KVM holds exactly these slots. */
void layout_assert(struct kvm_vm *vm, const struct layout *l, uint64_t gpa,
		   char *mem);

#endif
