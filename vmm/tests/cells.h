/* SPDX-License-Identifier: MIT */
/*
 * Guest addresses, cut at all ends of the slots that are there and of the
 * regions that come.  What lies between two cuts, a cell, has one fate.
 */
#ifndef CELLS_H
#define CELLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "transition.h"

/* enum fate - what becomes of guest addresses; KEPT: it is not the plan's */
enum fate {
	KEPT,
	STAYS,
	GOES,
	COMES,
	REPLACED,
};

/**
 * struct cell - a range of guest addresses of one fate
 * @gpa: its start
 * @size: bytes
 * @fate: it
 * @before: where it leads before the plan
 * @after: where it should lead after it; but for the number and the offset
 * @wanted: the region that comes, or NULL
 * @now: where it leads now
 * @has_changed: what goes is gone, what comes is there
 * @is_missing: now
 * @was_missing: from a step to another
 * @first: that step
 * @last: the other
 * @told: for each page, who has told that it is dirty; NULL without bitmaps
 */
struct cell {
	uint64_t gpa;
	uint64_t size;
	enum fate fate;
	struct kvm_model_place before;
	struct kvm_model_place after;
	const struct kvm_userspace_memory_region *wanted;
	struct kvm_model_place now;
	bool has_changed;
	bool is_missing;
	bool was_missing;
	size_t first;
	size_t last;
	uint8_t *told;
};

/*
 * cells_make - all cells in which there is something, before or after
 * @nr: set to how many
 *
 * Return: these, by guest address; for cells_free()
 */
struct cell *cells_make(const struct transition *transition, size_t *nr);
void cells_free(struct cell *cells, size_t nr);

/* cells_at - Return: the cell that has the guest address, or NULL */
struct cell *cells_at(struct cell *cells, size_t nr, uint64_t gpa);

#endif /* CELLS_H */
