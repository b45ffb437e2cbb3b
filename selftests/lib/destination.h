/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The copy that a migration makes of the memory that the vCPUs of writers.h write
 * to, and an oracle that sees by it whether dirty_log.h told of every write: a page
 * that differs from its copy and was not named since is a lost write.
 */
#ifndef SELFTESTS_DESTINATION_H
#define SELFTESTS_DESTINATION_H

#include <stdint.h>

#include "layout_model.h"

struct destination_config {
	const char *mem;		/* all zeros so far */
	uint64_t gpa;			/* for people */
	const struct layout *layout;	/* the slots that are now */
	/* A write was lost, and what can be said of it was. Does not return. */
	void (*lost)(void);
};

/* The copy is all zeros, too. */
void destination_init(const struct destination_config *config);

/*
 * Around a harvest of the log, while vCPUs run: every write that was over when it
 * began must be in it, or in an earlier one.
 */
void destination_before_harvest(void);
void destination_after_harvest(void);
/* The same of pages that nobody can write to: every byte. */
void destination_check_still(uint64_t first, uint64_t nr_pages, const char *when);

/* Copies what was named, which is named no more. */
void destination_copy(void);
/* After that, while nobody writes: it is all the same. */
void destination_check_all(void);

/* Pages that were copied. */
uint64_t destination_nr_copied(void);

#endif
