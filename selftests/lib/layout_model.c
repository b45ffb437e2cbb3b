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

const struct model_slot *layout_find(const struct layout *l, uint64_t page)
{
	unsigned int i;

	for (i = 0; i < l->nr; i++) {
		if (page - l->slot[i].first < l->slot[i].nr)
			return &l->slot[i];
	}
	return NULL;
}

bool layout_has(const struct layout *l, uint64_t page)
{
	return layout_find(l, page);
}

bool layout_is_writable(const struct layout *l, uint64_t page)
{
	const struct model_slot *s = layout_find(l, page);

	return s && !(s->flags & KVM_MEM_READONLY);
}

uint64_t layout_nr_present(const struct layout *l)
{
	uint64_t sum = 0;
	unsigned int i;

	for (i = 0; i < l->nr; i++)
		sum += l->slot[i].nr;
	return sum;
}

uint64_t layout_nr_readonly(const struct layout *l)
{
	uint64_t sum = 0;
	unsigned int i;

	for (i = 0; i < l->nr; i++) {
		if (l->slot[i].flags & KVM_MEM_READONLY)
			sum += l->slot[i].nr;
	}
	return sum;
}

const char *model_slot_name(const struct model_slot *s)
{
	static __thread char names[4][64];
	static __thread int next;
	char *name = names[next++ % ARRAY_SIZE(names)];

	snprintf(name, sizeof(names[0]), "slot %#x [%lu, %lu)%s%s", s->id,
		 s->first, s->first + s->nr,
		 s->flags & KVM_MEM_READONLY ? " ro" : "",
		 s->flags & KVM_MEM_LOG_DIRTY_PAGES ? " log" : "");
	return name;
}

unsigned int layout_run(const struct layout *l, unsigned int i)
{
	unsigned int end = i + 1;

	while (end < l->nr && !layout_gap_after(l, end - 1) &&
	       l->slot[end].flags == l->slot[i].flags)
		end++;
	return end - i;
}
