/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Chooses steps at random that are possible on a layout, which it keeps: what a
 * test believes the slots to be. The test makes each, expects of it what struct
 * step says, and tells how it ended.
 */
#ifndef SELFTESTS_CHOOSER_H
#define SELFTESTS_CHOOSER_H

#include "step.h"

struct chooser {
	struct layout layout;
	/* How often each kind is tried; 0: never. */
	unsigned int weight[NR_STEPS];
	unsigned int max_slots;
	unsigned int max_cuts;		/* of a SPLIT, but for one in 16 */
	uint32_t create_flags;		/* of new slots; some are read-only as well */
	uint32_t fixed_flags;		/* slots with these are none of the module's business */
	uint64_t park_gpa;		/* where AWAY takes slots: as much as the range has */
	bool shrinks_there;		/* SHRINK often ends where the step before was */
	/*
	 * A page from @low to @high, where a boundary is to be, inside or behind
	 * @slot, which is NULL for one that is to come. NULL: any.
	 */
	uint64_t (*page)(const struct model_slot *slot, uint64_t low, uint64_t high);
	/* Whether the test can do with it; or NULL. */
	bool (*allows)(const struct chooser *c, const struct step *s, void *arg);
	void *arg;

	/* Of the module, by chooser_ask(). */
	uint64_t features;
	unsigned int max_pieces;
	uint64_t place;			/* of the step before */
	/* What was made, and what the module has counted by now. */
	uint64_t made[NR_STEPS];
	uint64_t ops, resizes, failed;
};

extern const char *const step_names[NR_STEPS];

/* Asks the module what it can do; for any weight of an operation. */
void chooser_ask(struct chooser *c, int dev);

/* The next step, which is possible; there must be one. */
void chooser_next(struct chooser *c, struct step *s);

/*
 * Fails the test if the step, which ended with that errno, should have ended
 * otherwise. The layout follows. For steps of other makers, too.
 */
void chooser_made(struct chooser *c, const struct step *s, int err);

/* Fails it unless the module has counted what was made. */
void chooser_assert_stats(const struct chooser *c, int dev);

/* Operations that were made: the module's, KVM's own, and those that were refused. */
uint64_t chooser_nr_made(const struct chooser *c);
/* How often each kind that has a weight, as " NAME N, NAME N". */
const char *chooser_summary(const struct chooser *c);

#endif
