/* SPDX-License-Identifier: GPL-2.0 */
/*
 * One change of the slots of a range of guest memory: an operation of the module,
 * or a call of KVM's own. It is described first, on a model of the slots, so that
 * a test can say what it expects; then made; then the model follows.
 *
 * A new kind of step is added here, in chooser.c, and nowhere else.
 */
#ifndef SELFTESTS_STEP_H
#define SELFTESTS_STEP_H

#include <linux/kvm_memslot_ops.h>

#include "kvm_util.h"

#include "layout_model.h"

enum step_kind {
	STEP_GROW,
	STEP_SHRINK,
	STEP_SPLIT,
	STEP_MERGE,
	STEP_SET_READONLY,
	NR_OPERATIONS,
	/* Of these, one that must be refused: see refusals.h. */
	STEP_INVALID = NR_OPERATIONS,
	/* KVM_SET_USER_MEMORY_REGION */
	STEP_CREATE,
	STEP_DELETE,
	STEP_AWAY,			/* moves a slot out of the range */
	STEP_BACK,			/* the same slot to where it was */
	STEP_LOG,			/* begins or ends dirty logging */
	NR_STEPS,
};

/* What becomes of the pages from @first on. */
enum step_effect {
	STEP_CHANGES_NOTHING,
	STEP_BRINGS,
	STEP_TAKES,
	STEP_CHANGES_WRITES,		/* whether the guest may write to them */
};

#define STEP_MAX_OTHERS	256

struct step {
	enum step_kind kind;
	struct model_slot slot;		/* before it; after it, of CREATE and BACK */
	enum step_effect effect;
	uint64_t first, nr_pages;
	uint64_t place;			/* a page where it happens */
	char text[160];			/* what it is, for people */

	/* The call's arguments. */
	enum step_kind call;		/* @kind, or what is to be refused */
	uint32_t id;
	uint32_t flags;			/* of the slot after it */
	uint64_t size;			/* in bytes */
	uint64_t gpa;			/* of AWAY */
	unsigned int nr;		/* of others that it names */
	struct kvm_memslot_cut cuts[STEP_MAX_OTHERS];
	uint32_t ids[STEP_MAX_OTHERS];
	uint32_t readonly, pad;
	bool null_argument;
	bool wants_bitmap;		/* of SHRINK: of one that logs, unless changed */
	uint64_t refusals;		/* bit n: errno n is one of those that are right */
};

/* Where the slots of a model are. */
struct range {
	struct kvm_vm *vm;
	int dev;			/* of the module; not for KVM's own calls */
	uint64_t gpa;
	char *mem;
};

/* The descriptions, each on slot number @i of a layout. */
void step_resize(struct step *s, const struct layout *l, unsigned int i, uint64_t end);
/* At the @nr pages of @at, in order; under numbers that are free. */
void step_split(struct step *s, const struct layout *l, unsigned int i,
		unsigned int nr, const uint64_t *at);
/* With the next ones, so that it is @nr which become one. */
void step_merge(struct step *s, const struct layout *l, unsigned int i, unsigned int nr);
void step_set_readonly(struct step *s, const struct layout *l, unsigned int i,
		       bool readonly);
void step_create(struct step *s, const struct model_slot *slot);
void step_delete(struct step *s, const struct layout *l, unsigned int i);
void step_away(struct step *s, const struct layout *l, unsigned int i, uint64_t gpa);
void step_back(struct step *s, const struct step *away);
void step_log(struct step *s, const struct layout *l, unsigned int i);

/*
 * Makes it; returns 0 or a positive errno. @bitmap: where the dirty bits of what a
 * SHRINK takes go, if it wants them.
 */
int step_make(const struct range *r, const struct step *s, void *bitmap);

/* Has the model follow. */
void layout_apply(struct layout *l, const struct step *s);

/* Whether the slots that the step names are as it leaves them; the model has followed. */
void step_assert(const struct range *r, const struct layout *l, const struct step *s);

/* Fails the test unless a slot is as described, or is not there. */
void model_slot_assert(const struct range *r, const struct model_slot *s);
void model_slot_assert_gone(struct kvm_vm *vm, uint32_t id);
/* Fails it unless there are exactly these, of all numbers that the layout may use. */
void layout_assert_all(const struct range *r, const struct layout *l);

#endif
