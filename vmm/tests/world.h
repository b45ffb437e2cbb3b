/* SPDX-License-Identifier: MIT */
/*
 * A world of a few pages: all of its layouts, and the shortest way from one to
 * another, found by trying every order of every call.
 */
#ifndef WORLD_H
#define WORLD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "kvm-layout.h"
#include "kvm_model.h"

#define WORLD_MAX_PAGES		6
#define WORLD_NR_REGIONS	2

/**
 * struct world_page - a page of a layout
 * @region: of the host, where it leads, from 1 on; 0: nowhere
 * @flags: of its slot
 * @cut: a slot starts here
 */
struct world_page {
	uint8_t region;
	uint8_t flags;
	bool cut;
};

struct world_layout {
	struct world_page pages[WORLD_MAX_PAGES];
};

/**
 * struct world - a world
 * @nr_pages: its size
 * @flags: that slots may have
 * @max_pieces: of one split or merge
 */
struct world {
	uint32_t nr_pages;
	uint32_t flags;
	uint32_t max_pieces;
};

/**
 * enum world_rules - which sequences are ways
 * @WORLD_PLAIN: what kvm_layout_plan() promises; flags change of all of a slot
 *	before it is split, or of pieces of one fate; what comes logs from the
 *	start, if it will
 * @WORLD_STRICT: the same, but a slot may be split again and again
 * @WORLD_LETTER: the same, and what goes or comes need not log
 * @WORLD_FREE: slots that go are merged and split in any way; only what a guest
 *	could notice is promised
 */
enum world_rules {
	WORLD_PLAIN,
	WORLD_STRICT,
	WORLD_LETTER,
	WORLD_FREE,
};

/*
 * world_layouts - all layouts
 * @nr: set to how many
 *
 * Return: these; to be freed
 */
struct world_layout *world_layouts(const struct world *world, size_t *nr);

/*
 * world_slots - what @layout is to KVM; numbers from @first on
 *
 * Return: how many
 */
size_t world_slots(const struct world *world,
		   const struct world_layout *layout, uint32_t first,
		   struct kvm_userspace_memory_region *slots);

/* struct world_search - ways from a layout to another */
struct world_search;

struct world_search *world_search_new(const struct world *world);
void world_search_free(struct world_search *search);

/* world_search_start - ways from @from to @to are searched from here on */
void world_search_start(struct world_search *search,
			const struct world_layout *from,
			const struct world_layout *to,
			enum kvm_layout_mode mode);

/*
 * world_shortest - calls of the shortest way by @rules
 *
 * Return: how many, or -1 if it has more than @max
 */
int world_shortest(struct world_search *search, enum world_rules rules,
		   int max);

/* world_print_way - print the states on the way that was found last */
void world_print_way(struct world_search *search, FILE *to);

/* world_is_step - by @rules a call leads from the slots of @a to those of @b */
bool world_is_step(struct world_search *search, enum world_rules rules,
		   const struct kvm_model *a, const struct kvm_model *b);

#endif /* WORLD_H */
