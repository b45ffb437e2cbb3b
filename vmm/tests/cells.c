// SPDX-License-Identifier: MIT
/*
 * Guest addresses and what becomes of them: see cells.h.
 */
#include "cells.h"

#include <stdlib.h>

typedef struct kvm_userspace_memory_region region_t;

static void *must_alloc(size_t nr, size_t size)
{
	void *p = calloc(nr ? nr : 1, size);

	if (!p)
		abort();
	return p;
}

static int compare_addresses(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a;
	uint64_t y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static size_t add_ends(uint64_t *ends, size_t nr, const region_t *regions,
		       size_t nr_regions)
{
	for (size_t i = 0; i < nr_regions; i++) {
		ends[nr++] = regions[i].guest_phys_addr;
		ends[nr++] = regions[i].guest_phys_addr +
			     regions[i].memory_size;
	}
	return nr;
}

static const region_t *region_at(const region_t *regions, size_t nr,
				 uint64_t gpa)
{
	for (size_t i = 0; i < nr; i++)
		if (gpa - regions[i].guest_phys_addr < regions[i].memory_size)
			return &regions[i];
	return NULL;
}

static void place_in(const region_t *region, uint64_t gpa,
		     struct kvm_model_place *place)
{
	place->there = true;
	place->offset = gpa - region->guest_phys_addr;
	place->hva = region->userspace_addr + place->offset;
	place->flags = region->flags;
	place->slot = region->slot;
}

static enum fate fate_of(const struct cell *cell, bool is_kept)
{
	if (is_kept)
		return KEPT;
	if (!cell->before.there)
		return COMES;
	if (!cell->after.there)
		return GOES;
	return cell->before.hva == cell->after.hva ? STAYS : REPLACED;
}

/* Return: false if nothing is there before and after */
static bool fill_cell(const struct transition *t, struct cell *cell)
{
	const region_t *slot, *come;
	bool is_kept;

	slot = region_at(t->slots, t->nr_slots, cell->gpa);
	come = region_at(t->come, t->nr_come, cell->gpa);
	if (!slot && !come)
		return false;
	is_kept = slot && slot - t->slots >= (ptrdiff_t)t->nr_gone;
	if (slot)
		place_in(slot, cell->gpa, &cell->before);
	if (is_kept)
		cell->after = cell->before;
	else if (come)
		place_in(come, cell->gpa, &cell->after);
	cell->wanted = come;
	cell->now = cell->before;
	cell->fate = fate_of(cell, is_kept);
	if (!t->no_bitmaps)
		cell->told = must_alloc(cell->size / KVM_LAYOUT_PAGE_SIZE, 1);
	return true;
}

struct cell *cells_make(const struct transition *t, size_t *nr)
{
	size_t nr_ends = 0, max = 2 * (t->nr_slots + t->nr_come);
	uint64_t *ends = must_alloc(max, sizeof(*ends));
	struct cell *cells = must_alloc(max, sizeof(*cells));

	nr_ends = add_ends(ends, nr_ends, t->slots, t->nr_slots);
	nr_ends = add_ends(ends, nr_ends, t->come, t->nr_come);
	qsort(ends, nr_ends, sizeof(*ends), compare_addresses);
	*nr = 0;
	for (size_t i = 0; i + 1 < nr_ends; i++) {
		struct cell *cell = &cells[*nr];

		if (ends[i] == ends[i + 1])
			continue;
		cell->gpa = ends[i];
		cell->size = ends[i + 1] - ends[i];
		*nr += fill_cell(t, cell);
	}
	free(ends);
	return cells;
}

void cells_free(struct cell *cells, size_t nr)
{
	for (size_t i = 0; i < nr; i++)
		free(cells[i].told);
	free(cells);
}

struct cell *cells_at(struct cell *cells, size_t nr, uint64_t gpa)
{
	for (size_t i = 0; i < nr; i++)
		if (gpa - cells[i].gpa < cells[i].size)
			return &cells[i];
	return NULL;
}
