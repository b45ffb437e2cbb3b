/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What a test believes the slots of a range of guest memory to be. Pages are
 * counted from the start of the range.
 */
#ifndef SELFTESTS_LAYOUT_MODEL_H
#define SELFTESTS_LAYOUT_MODEL_H

#include <stdbool.h>
#include <stdint.h>

#define LAYOUT_MAX_SLOTS	200

struct model_slot {
	uint32_t id;
	uint32_t flags;
	uint64_t first;
	uint64_t nr;
};

struct layout {
	uint64_t nr_pages;
	uint32_t first_id;		/* LAYOUT_MAX_SLOTS numbers from here on */
	unsigned int nr;
	struct model_slot slot[LAYOUT_MAX_SLOTS];	/* by guest address */
};

void layout_add(struct layout *l, uint32_t id, uint32_t flags, uint64_t first,
		uint64_t nr);
void layout_remove(struct layout *l, unsigned int i);

bool layout_is_free(const struct layout *l, uint32_t id);
/* A number that no slot has, chosen at random; there must be one. */
uint32_t layout_free_id(const struct layout *l);

/* Pages between slot @i, or the start of the range for -1, and the next. */
uint64_t layout_gap_after(const struct layout *l, int i);

/* The slot that a page is in, or NULL; whether there is one, and may be written. */
const struct model_slot *layout_find(const struct layout *l, uint64_t page);
bool layout_has(const struct layout *l, uint64_t page);
bool layout_is_writable(const struct layout *l, uint64_t page);

/* Pages that are in slots; that are in read-only ones. */
uint64_t layout_nr_present(const struct layout *l);
uint64_t layout_nr_readonly(const struct layout *l);

/* For people; the last few results are kept. */
const char *model_slot_name(const struct model_slot *s);

/* How many slots from @i on, itself included, can be merged. */
unsigned int layout_run(const struct layout *l, unsigned int i);

#endif
