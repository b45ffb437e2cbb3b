// SPDX-License-Identifier: MIT
/*
 * A world of a few pages, and the shortest ways in it: see world.h.
 *
 * The rules are those of kvm_layout_plan(), said once more:
 *
 * - What stays is always there, read-only as before or as after, logging as
 *   before or as after.
 * - What comes appears read-only as it will be, in a slot that has nothing but
 *   what the same wanted slot will have.
 * - What is replaced is missing from a call to the next one.
 * - A slot is split between bytes of different fate, that is between those that
 *   will be in different wanted slots, or are replaced by such, or go.
 * - Slots are merged that each have some of the same wanted slot, and nothing
 *   of another one.
 * - Nothing is deleted by KVM_SET_USER_MEMORY_REGION.
 *
 * A state is a number: five bits for each page.
 */
#include "world.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAGE		KVM_LAYOUT_PAGE_SIZE
#define LOG		KVM_MEM_LOG_DIRTY_PAGES
#define RO		KVM_MEM_READONLY

typedef struct kvm_userspace_memory_region region_t;
typedef uint32_t state_t;

/* What is in a page. */
enum content {
	NOTHING,
	OLD,		/* also what stays */
	NEW,
};

/**
 * struct now - a page in a state
 * @content: what is there
 * @flags: of its slot
 * @cut: its slot starts here
 */
struct now {
	uint8_t content;
	uint8_t flags;
	uint8_t cut;
};

/**
 * struct fate - what becomes of a page; the same through all of a search
 * @before: its region before, or 0
 * @after: and after
 * @flags_before: of its slot before
 * @flags_after: of the wanted slot
 * @wanted: number of the wanted slot, from 1 on, or 0
 * @stays: it does
 */
struct fate {
	uint8_t before;
	uint8_t after;
	uint8_t flags_before;
	uint8_t flags_after;
	uint8_t wanted;
	bool stays;
};

enum { TABLE_SIZE = 1 << 16, QUEUE_SIZE = 1 << 15, MAX_NEXT = 1 << 10 };

struct world_search {
	struct world world;
	struct world_layout from, to;
	enum kvm_layout_mode mode;
	struct fate fates[WORLD_MAX_PAGES];
	state_t first;
	state_t last;

	/* States that follow one. */
	enum world_rules rules;
	struct now now[WORLD_MAX_PAGES];
	bool is_missing;
	state_t next[MAX_NEXT];
	size_t nr_next;

	/* States that were seen; an entry is of this search if its stamp is. */
	state_t seen[TABLE_SIZE];
	uint32_t stamps[TABLE_SIZE];
	uint32_t stamp;
	state_t queue[QUEUE_SIZE];
	uint32_t parents[QUEUE_SIZE];
	uint32_t before_last;
};

static bool may_join(const struct world_page *a, const struct world_page *b)
{
	return a->region && a->region == b->region && a->flags == b->flags;
}

static void add_layouts(const struct world *world, struct world_layout *layout,
			uint32_t page, struct world_layout *layouts,
			size_t *nr)
{
	struct world_page *p = &layout->pages[page];

	if (page == world->nr_pages) {
		if (layouts)
			layouts[*nr] = *layout;
		++*nr;
		return;
	}
	memset(p, 0, sizeof(*p));
	add_layouts(world, layout, page + 1, layouts, nr);
	for (p->region = 1; p->region <= WORLD_NR_REGIONS; p->region++) {
		for (int flags = 0; flags < 4; flags++) {
			if (flags & ~world->flags)
				continue;
			p->flags = flags;
			p->cut = true;
			add_layouts(world, layout, page + 1, layouts, nr);
			p->cut = false;
			if (page && may_join(p - 1, p))
				add_layouts(world, layout, page + 1, layouts,
					    nr);
		}
	}
}

struct world_layout *world_layouts(const struct world *world, size_t *nr)
{
	struct world_layout layout = { 0 }, *layouts;

	*nr = 0;
	add_layouts(world, &layout, 0, NULL, nr);
	layouts = calloc(*nr, sizeof(*layouts));
	if (!layouts)
		abort();
	*nr = 0;
	add_layouts(world, &layout, 0, layouts, nr);
	return layouts;
}

/* Both regions are in the same memory, a page apart. */
static uint64_t hva_of(uint32_t region, uint32_t page)
{
	return UINT64_C(0x7f0000000000) + (uint64_t)(region + page) * PAGE;
}

static uint32_t slot_end(const struct world *world,
			 const struct world_layout *layout, uint32_t page)
{
	for (page++; page < world->nr_pages && layout->pages[page].region &&
	     !layout->pages[page].cut; page++)
		;
	return page;
}

size_t world_slots(const struct world *world,
		   const struct world_layout *layout, uint32_t first,
		   region_t *slots)
{
	size_t nr = 0;

	for (uint32_t i = 0, end; i < world->nr_pages; i = end) {
		const struct world_page *page = &layout->pages[i];

		end = slot_end(world, layout, i);
		if (!page->region) {
			end = i + 1;
			continue;
		}
		slots[nr] = (region_t) {
			.slot = first + nr,
			.flags = page->flags,
			.guest_phys_addr = i * PAGE,
			.memory_size = (end - i) * PAGE,
			.userspace_addr = hva_of(page->region, i),
		};
		nr++;
	}
	return nr;
}

struct world_search *world_search_new(const struct world *world)
{
	struct world_search *search = calloc(1, sizeof(*search));

	if (!search)
		abort();
	search->world = *world;
	return search;
}

void world_search_free(struct world_search *search)
{
	free(search);
}

/* States and pages. */

static state_t to_state(const struct world_search *s, const struct now *now)
{
	state_t state = 0;

	for (uint32_t i = 0; i < s->world.nr_pages; i++)
		if (now[i].content)
			state |= (state_t)(now[i].content | now[i].flags << 2 |
					   now[i].cut << 4) << 5 * i;
	return state;
}

static bool is_missing(const struct fate *fate, const struct now *now)
{
	return !now->content && fate->before && fate->after;
}

static void from_state(struct world_search *s, state_t state)
{
	s->is_missing = false;
	for (uint32_t i = 0; i < s->world.nr_pages; i++) {
		struct now *now = &s->now[i];

		now->content = state >> 5 * i & 3;
		now->flags = state >> (5 * i + 2) & 3;
		now->cut = state >> (5 * i + 4) & 1;
		s->is_missing |= is_missing(&s->fates[i], now);
	}
}

/* In a map, it does not matter where regions are cut that lead on. */
static void set_fates(struct world_search *s)
{
	uint8_t wanted = 0;

	for (uint32_t i = 0; i < s->world.nr_pages; i++) {
		const struct world_page *a = &s->from.pages[i];
		const struct world_page *b = &s->to.pages[i];
		struct fate *fate = &s->fates[i];

		if (b->cut && (s->mode == KVM_LAYOUT_PARTITION || !i ||
			       !may_join(b - 1, b)))
			wanted++;
		fate->before = a->region;
		fate->after = b->region;
		fate->flags_before = a->flags;
		fate->flags_after = b->flags;
		fate->wanted = b->region ? wanted : 0;
		fate->stays = a->region && a->region == b->region;
	}
}

void world_search_start(struct world_search *search,
			const struct world_layout *from,
			const struct world_layout *to,
			enum kvm_layout_mode mode)
{
	struct now first[WORLD_MAX_PAGES] = { 0 };
	struct now last[WORLD_MAX_PAGES] = { 0 };

	search->from = *from;
	search->to = *to;
	search->mode = mode;
	set_fates(search);
	for (uint32_t i = 0; i < search->world.nr_pages; i++) {
		const struct world_page *a = &from->pages[i];
		const struct world_page *b = &to->pages[i];

		first[i].content = a->region ? OLD : NOTHING;
		first[i].flags = a->flags;
		first[i].cut = a->cut;
		last[i].content = !b->region ? NOTHING :
				  search->fates[i].stays ? OLD : NEW;
		last[i].flags = b->flags;
		last[i].cut = b->cut;
	}
	search->first = to_state(search, first);
	search->last = to_state(search, last);
}

/* All cuts but those of a map do not matter. */
static bool is_last(const struct world_search *s, state_t state)
{
	state_t cuts = 0;

	if (s->mode == KVM_LAYOUT_MAP)
		for (uint32_t i = 0; i < s->world.nr_pages; i++)
			cuts |= (state_t)1 << (5 * i + 4);
	return (state | cuts) == (s->last | cuts);
}

/* What follows a state. */

static void add_next(struct world_search *s, const struct now *now)
{
	if (s->is_missing)
		for (uint32_t i = 0; i < s->world.nr_pages; i++)
			if (is_missing(&s->fates[i], &now[i]))
				return;
	if (s->nr_next == MAX_NEXT)
		abort();
	s->next[s->nr_next++] = to_state(s, now);
}

static uint32_t end_of(const struct world_search *s, uint32_t page)
{
	for (page++; page < s->world.nr_pages && s->now[page].content &&
	     !s->now[page].cut; page++)
		;
	return page;
}

static void copy_now(const struct world_search *s, struct now *now)
{
	memcpy(now, s->now, sizeof(s->now));
}

static bool goes(const struct world_search *s, uint32_t page)
{
	return s->now[page].content == OLD && !s->fates[page].stays;
}

/* Where it leads now. */
static uint8_t region_now(const struct world_search *s, uint32_t page)
{
	if (s->now[page].content == OLD)
		return s->fates[page].before;
	return s->now[page].content ? s->fates[page].after : 0;
}

static void add_shrinks(struct world_search *s, uint32_t from, uint32_t to)
{
	struct now now[WORLD_MAX_PAGES];

	copy_now(s, now);
	while (to-- > from && goes(s, to)) {
		memset(&now[to], 0, sizeof(now[to]));
		add_next(s, now);
	}
}

/* The wanted slot, and whether it is already there or only replaces. */
static int kind(const struct world_search *s, uint32_t page)
{
	return s->fates[page].wanted << 1 | goes(s, page);
}

/* All but a tail that goes, or as much as one call can. */
static bool splits_all(const struct world_search *s, uint32_t from, uint32_t to,
		       const struct now *now)
{
	uint32_t nr = 1, end = to;

	while (end > from && goes(s, end - 1))
		end--;
	for (uint32_t i = from + 1; i < to; i++) {
		nr += now[i].cut;
		if (i < end && !now[i].cut && kind(s, i - 1) != kind(s, i))
			return nr == s->world.max_pieces;
	}
	return true;
}

static void add_splits(struct world_search *s, uint32_t from, uint32_t to)
{
	struct now now[WORLD_MAX_PAGES];
	uint32_t nr = to - from - 1;

	for (uint32_t cuts = 1; cuts < 1U << nr; cuts++) {
		bool may = __builtin_popcount(cuts) <
			   (int)s->world.max_pieces;

		copy_now(s, now);
		for (uint32_t i = 0; i < nr; i++) {
			uint32_t page = from + 1 + i;

			if (!(cuts >> i & 1))
				continue;
			now[page].cut = true;
			may &= s->rules == WORLD_FREE ||
			       kind(s, page - 1) != kind(s, page);
		}
		may &= s->rules != WORLD_PLAIN || splits_all(s, from, to, now);
		if (may)
			add_next(s, now);
	}
}

/*
 * Return: the only wanted slot that a slot has something of, 0 if it has
 * nothing of any, -1 if there are several
 */
static int only_wanted(const struct world_search *s, uint32_t from, uint32_t to)
{
	int wanted = 0;

	for (uint32_t i = from; i < to; i++) {
		if (goes(s, i))
			continue;
		if (wanted && wanted != s->fates[i].wanted)
			return -1;
		wanted = s->fates[i].wanted;
	}
	return wanted;
}

static void add_merges(struct world_search *s, uint32_t from, uint32_t to)
{
	struct now now[WORLD_MAX_PAGES];
	int wanted = only_wanted(s, from, to);

	if (s->mode == KVM_LAYOUT_MAP && s->rules != WORLD_FREE)
		return;
	copy_now(s, now);
	for (uint32_t n = 2; n <= s->world.max_pieces &&
	     to < s->world.nr_pages && s->now[to].content; n++) {
		uint32_t end = end_of(s, to);

		if (region_now(s, to - 1) != region_now(s, to) ||
		    s->now[to - 1].flags != s->now[to].flags)
			return;
		if (s->rules != WORLD_FREE &&
		    (wanted <= 0 || only_wanted(s, to, end) != wanted))
			return;
		now[to].cut = false;
		add_next(s, now);
		to = end;
	}
}

static bool can_come(const struct world_search *s, uint32_t page)
{
	return page < s->world.nr_pages && !s->now[page].content &&
	       s->fates[page].after;
}

static bool may_come_with(const struct world_search *s, uint32_t page,
			  uint8_t flags)
{
	uint8_t wanted = s->fates[page].flags_after;

	if ((flags ^ wanted) & RO)
		return false;
	return s->rules > WORLD_STRICT || !(wanted & ~flags & LOG);
}

static void add_grows(struct world_search *s, uint32_t from, uint32_t to)
{
	struct now now[WORLD_MAX_PAGES];
	uint8_t flags = s->now[from].flags;
	int wanted = s->fates[to - 1].wanted;
	uint8_t region = region_now(s, to - 1);

	if (s->rules != WORLD_FREE)
		for (uint32_t i = from; i < to; i++)
			if (goes(s, i) || s->fates[i].wanted != wanted)
				return;
	copy_now(s, now);
	for (; can_come(s, to); to++) {
		if (s->fates[to].after != region ||
		    !may_come_with(s, to, flags))
			return;
		if (s->rules != WORLD_FREE && s->fates[to].wanted != wanted)
			return;
		now[to].content = NEW;
		now[to].flags = flags;
		add_next(s, now);
	}
}

static void add_creates(struct world_search *s, uint32_t from, uint8_t flags)
{
	struct now now[WORLD_MAX_PAGES];

	copy_now(s, now);
	for (uint32_t i = from; can_come(s, i); i++) {
		if (s->fates[i].after != s->fates[from].after ||
		    !may_come_with(s, i, flags))
			return;
		if (s->rules != WORLD_FREE &&
		    s->fates[i].wanted != s->fates[from].wanted)
			return;
		now[i].content = NEW;
		now[i].flags = flags;
		now[i].cut = i == from;
		add_next(s, now);
	}
}

/* A flag of a slot changes; whether it may, for one page of it. */
static bool may_change(const struct world_search *s, uint32_t page,
		       uint8_t flag)
{
	const struct fate *fate = &s->fates[page];
	bool then = !(s->now[page].flags & flag);

	if (s->now[page].content == NEW)
		return then == !!(fate->flags_after & flag) ||
		       (flag == LOG && (then || s->rules > WORLD_STRICT));
	if (fate->stays)
		return then == !!(fate->flags_before & flag) ||
		       then == !!(fate->flags_after & flag);
	return s->rules > WORLD_STRICT || flag == RO || then ||
	       !(fate->flags_before & flag);
}

/* A slot of before the plan, of which nothing is gone. */
static bool is_as_before(const struct world_search *s, uint32_t from,
			 uint32_t to)
{
	return s->from.pages[from].cut &&
	       slot_end(&s->world, &s->from, from) == to;
}

static void add_change(struct world_search *s, uint32_t from, uint32_t to,
		       uint8_t flag)
{
	struct now now[WORLD_MAX_PAGES];

	if (!(s->world.flags & flag))
		return;
	if (s->rules == WORLD_PLAIN && only_wanted(s, from, to) < 0 &&
	    !is_as_before(s, from, to))
		return;
	copy_now(s, now);
	for (uint32_t i = from; i < to; i++) {
		if (!may_change(s, i, flag))
			return;
		now[i].flags ^= flag;
	}
	add_next(s, now);
}

static void find_next(struct world_search *s, state_t state)
{
	s->nr_next = 0;
	from_state(s, state);
	for (uint32_t i = 0, end; i < s->world.nr_pages; i = end) {
		end = end_of(s, i);
		if (!s->now[i].content) {
			end = i + 1;
			for (int flags = 0; flags < 4; flags++)
				if (!(flags & ~s->world.flags))
					add_creates(s, i, flags);
			continue;
		}
		add_shrinks(s, i, end);
		add_splits(s, i, end);
		add_merges(s, i, end);
		add_grows(s, i, end);
		add_change(s, i, end, RO);
		add_change(s, i, end, LOG);
	}
}

/* The search. */

static bool see(struct world_search *s, state_t state)
{
	uint32_t at = state * UINT32_C(0x9e3779b1) >> 16;

	while (s->stamps[at] == s->stamp) {
		if (s->seen[at] == state)
			return false;
		at = (at + 1) % TABLE_SIZE;
	}
	s->stamps[at] = s->stamp;
	s->seen[at] = state;
	return true;
}

int world_shortest(struct world_search *s, enum world_rules rules, int max)
{
	size_t head = 0, tail = 0, level_end;
	int calls = 0;

	if (is_last(s, s->first))
		return 0;
	s->rules = rules;
	s->stamp++;
	see(s, s->first);
	s->queue[tail++] = s->first;
	level_end = tail;
	while (head < tail && calls < max) {
		find_next(s, s->queue[head]);
		for (size_t i = 0; i < s->nr_next; i++) {
			s->before_last = head;
			if (is_last(s, s->next[i]))
				return calls + 1;
			if (!see(s, s->next[i]))
				continue;
			if (tail == QUEUE_SIZE)
				abort();
			s->parents[tail] = head;
			s->queue[tail++] = s->next[i];
		}
		if (++head == level_end) {
			level_end = tail;
			calls++;
		}
	}
	return -1;
}

static void print_state(struct world_search *s, state_t state, FILE *to)
{
	from_state(s, state);
	for (uint32_t i = 0, end; i < s->world.nr_pages; i = end) {
		end = end_of(s, i);
		if (!s->now[i].content) {
			end = i + 1;
			continue;
		}
		fprintf(to, " %u-%u:", i, end);
		for (uint32_t j = i; j < end; j++)
			fputc('`' + region_now(s, j), to);
		fprintf(to, "%s%s", s->now[i].flags & RO ? ",ro" : "",
			s->now[i].flags & LOG ? ",log" : "");
	}
	fputc('\n', to);
}

void world_print_way(struct world_search *s, FILE *to)
{
	uint32_t way[64], nr = 0;

	for (uint32_t at = s->before_last; at; at = s->parents[at])
		way[nr++] = at;
	print_state(s, s->first, to);
	while (nr--)
		print_state(s, s->queue[way[nr]], to);
	print_state(s, s->last, to);
}

/* Return: false if that is no state */
static bool state_of(const struct world_search *s,
		     const struct kvm_model *model, state_t *state)
{
	struct now now[WORLD_MAX_PAGES] = { 0 };

	for (size_t i = 0; i < model->nr_slots; i++) {
		const region_t *region = &model->slots[i].region;
		uint32_t from = region->guest_phys_addr / PAGE;
		uint32_t to = from + region->memory_size / PAGE;

		for (uint32_t j = from; j < to; j++) {
			const struct fate *fate = &s->fates[j];
			uint64_t hva = region->userspace_addr +
				       (j - from) * PAGE;

			if (fate->before && hva == hva_of(fate->before, j))
				now[j].content = OLD;
			else if (fate->after && hva == hva_of(fate->after, j))
				now[j].content = NEW;
			else
				return false;
			now[j].flags = region->flags;
			now[j].cut = j == from;
		}
	}
	*state = to_state(s, now);
	return true;
}

bool world_is_step(struct world_search *s, enum world_rules rules,
		   const struct kvm_model *a, const struct kvm_model *b)
{
	state_t from, to;

	if (!state_of(s, a, &from) || !state_of(s, b, &to))
		return false;
	s->rules = rules;
	find_next(s, from);
	for (size_t i = 0; i < s->nr_next; i++)
		if (s->next[i] == to)
			return true;
	return false;
}
