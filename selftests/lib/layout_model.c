// SPDX-License-Identifier: GPL-2.0
#include <string.h>

#include "kvm_util.h"

#include "host.h"
#include "layout_model.h"

void layout_add(struct layout *l, uint32_t id, uint32_t flags, uint64_t first,
		uint64_t nr)
{
	unsigned int i = l->nr;

	TEST_ASSERT(l->nr < LAYOUT_MAX_SLOTS, "the model has no room");
	while (i && l->slot[i - 1].first > first) {
		l->slot[i] = l->slot[i - 1];
		i--;
	}
	l->slot[i] = (struct model_slot) {
		.id = id,
		.flags = flags,
		.first = first,
		.nr = nr,
	};
	l->nr++;
}

void layout_remove(struct layout *l, unsigned int i)
{
	l->nr--;
	memmove(&l->slot[i], &l->slot[i + 1], (l->nr - i) * sizeof(l->slot[0]));
}

bool layout_is_free(const struct layout *l, uint32_t id)
{
	unsigned int i;

	for (i = 0; i < l->nr; i++) {
		if (l->slot[i].id == id)
			return false;
	}
	return true;
}

uint32_t layout_free_id(const struct layout *l)
{
	uint32_t id;

	TEST_ASSERT(l->nr < LAYOUT_MAX_SLOTS, "no slot number is free");
	do {
		id = l->first_id + host_random() % LAYOUT_MAX_SLOTS;
	} while (!layout_is_free(l, id));
	return id;
}

static uint64_t slot_end(const struct layout *l, int i)
{
	return i < 0 ? 0 : l->slot[i].first + l->slot[i].nr;
}

uint64_t layout_gap_after(const struct layout *l, int i)
{
	uint64_t next = i + 1 < (int)l->nr ? l->slot[i + 1].first : l->nr_pages;

	return next - slot_end(l, i);
}

unsigned int layout_run(const struct layout *l, unsigned int i)
{
	unsigned int end = i + 1;

	while (end < l->nr && !layout_gap_after(l, end - 1) &&
	       l->slot[end].flags == l->slot[i].flags)
		end++;
	return end - i;
}
