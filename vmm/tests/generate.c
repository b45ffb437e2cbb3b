// SPDX-License-Identifier: MIT
/*
 * Random transitions: see generate.h.
 *
 * Guest memory is a row of units, each of which leads somewhere or nowhere.
 * Units that lead to the same region, with the same flags, are in a slot unless
 * there is a cut.  The target is mostly the origin with a few changes, so that
 * much stays.
 */
#include "generate.h"

#include <stdlib.h>
#include <string.h>

#define PAGE		KVM_LAYOUT_PAGE_SIZE
#define LOG		KVM_MEM_LOG_DIRTY_PAGES
#define RO		KVM_MEM_READONLY

#define MAX_UNITS	64
#define MAX_REGIONS	4

typedef struct kvm_userspace_memory_region region_t;

/**
 * struct unit - a unit of guest addresses
 * @region: where it leads; 0: nowhere
 * @flags: of its slot
 * @cut: a slot starts here in any case
 * @kept: it is in a slot that does not go
 */
struct unit {
	uint8_t region;
	uint8_t flags;
	bool cut;
	bool kept;
};

/**
 * struct world - what random things are made of
 * @rng: chance
 * @nr: units
 * @size: bytes of a unit
 * @gpa: guest address of the first
 * @max_run: units of a slot at most
 * @nr_regions: where units may lead
 * @flags: that slots may have
 * @cuts: chance of a cut is 1 in this
 */
struct world {
	struct rng *rng;
	uint32_t nr;
	uint64_t size;
	uint64_t gpa;
	uint32_t max_run;
	uint32_t nr_regions;
	uint32_t flags;
	uint32_t cuts;
};

uint64_t rng_next(struct rng *rng)
{
	uint64_t x = rng->state += UINT64_C(0x9e3779b97f4a7c15);

	x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
	return x ^ x >> 31;
}

struct rng rng_start(uint64_t seed, uint64_t stream)
{
	struct rng rng = { seed };

	rng.state = rng_next(&rng) + stream * UINT64_C(0xd1342543de82ef95);
	return rng;
}

uint32_t rng_below(struct rng *rng, uint32_t limit)
{
	return (rng_next(rng) >> 32) * limit >> 32;
}

bool rng_chance(struct rng *rng, uint32_t of)
{
	return !rng_below(rng, of);
}

/* Regions 1 and 2 are the same memory, a unit apart. */
static uint64_t hva_of(const struct world *w, uint32_t region, uint32_t unit)
{
	uint64_t base = (uint64_t)((region + 1) / 2) << 50;

	return base + (unit + region % 2) * w->size;
}

static void make_world(struct world *w, struct rng *rng, uint32_t max_units)
{
	static const uint64_t pages[] = {
		1, 1, 1, 3, 16, 64, 1 << 28, 1 << 29
	};
	static const uint64_t starts[] = { 0, 0x100000, UINT64_C(1) << 32 };
	static const uint32_t cuts[] = { 1000, 8, 3, 1 };
	static const uint32_t flags[] = { 0, RO, LOG, RO | LOG, RO | LOG };

	w->rng = rng;
	w->nr = 2 + rng_below(rng, max_units - 1);
	w->size = pages[rng_below(rng, 8)] * PAGE;
	w->gpa = starts[rng_below(rng, 3)];
	w->max_run = KVM_LAYOUT_MAX_SIZE / w->size;
	w->nr_regions = 1 + rng_below(rng, MAX_REGIONS);
	w->flags = flags[rng_below(rng, 5)];
	w->cuts = cuts[rng_below(rng, 4)];
}

static uint8_t some_flags(struct world *w)
{
	if (!rng_chance(w->rng, 3))
		return 0;
	return rng_next(w->rng) & w->flags;
}

static uint8_t some_region(struct world *w)
{
	if (rng_chance(w->rng, 2))
		return 1;
	return 1 + rng_below(w->rng, w->nr_regions);
}

static void fill(struct world *w, struct unit *units)
{
	uint32_t longest = 1 + rng_below(w->rng, w->nr);
	uint32_t holes = 2 + rng_below(w->rng, 8);
	uint32_t at = 0;

	memset(units, 0, MAX_UNITS * sizeof(*units));
	while (at < w->nr) {
		uint32_t end = at + 1 + rng_below(w->rng, longest);
		struct unit unit = { .flags = some_flags(w) };

		if (!rng_chance(w->rng, holes))
			unit.region = some_region(w);
		for (; at < w->nr && at < end; at++) {
			unit.cut = rng_chance(w->rng, w->cuts);
			units[at] = unit;
		}
	}
}

/* A change of a few neighbouring units, or of a boundary. */
static void change(struct world *w, struct unit *units)
{
	uint32_t from = rng_below(w->rng, w->nr);
	uint32_t to = from + 1 + rng_below(w->rng, w->nr - from);
	uint8_t region = some_region(w);
	uint8_t flags = some_flags(w);
	uint32_t what = rng_below(w->rng, 8);

	for (uint32_t i = from; i < to; i++) {
		switch (what) {
		case 0:
			units[i].region = 0;
			break;
		case 1:
			units[i].region = region;
			units[i].flags = flags;
			break;
		case 2:
			units[i].region = region;
			break;
		case 3:
			units[i].flags ^= w->flags & RO;
			break;
		case 4:
			units[i].flags ^= w->flags & LOG;
			break;
		case 5:
			units[i].cut = false;
			break;
		case 6:
			units[i].cut = i == from;
			break;
		case 7:
			units[i].cut = rng_chance(w->rng, w->cuts);
			break;
		}
	}
	if (to < w->nr && what != 5)
		units[to].cut |= rng_chance(w->rng, 2);
}

/* Cuts are where slots start; nothing has flags and cuts that leads nowhere. */
static void settle(struct world *w, struct unit *units)
{
	uint32_t run = 0;

	for (uint32_t i = 0; i < w->nr; i++) {
		struct unit *unit = &units[i];

		if (!unit->region) {
			memset(unit, 0, sizeof(*unit));
			run = 0;
			continue;
		}
		if (!i || unit->region != unit[-1].region ||
		    unit->flags != unit[-1].flags ||
		    unit->kept != unit[-1].kept || run == w->max_run)
			unit->cut = true;
		run = unit->cut ? 1 : run + 1;
	}
}

static uint32_t run_end(const struct world *w, const struct unit *units,
			uint32_t at)
{
	for (at++; at < w->nr && units[at].region && !units[at].cut; at++)
		;
	return at;
}

/* Slots that the VMM does not speak of are in the target as they are. */
static void keep_some(struct world *w, struct unit *now, struct unit *then,
		      uint32_t one_in)
{
	for (uint32_t i = 0, end; i < w->nr; i = end) {
		end = run_end(w, now, i);
		if (!now[i].region || !rng_chance(w->rng, one_in))
			continue;
		for (uint32_t j = i; j < end; j++) {
			now[j].kept = true;
			then[j] = now[j];
		}
		if (end < w->nr)
			then[end].cut = true;
	}
}

/* Slots that are the same in both may as well not be spoken of. */
static void keep_same(struct world *w, struct unit *now, struct unit *then)
{
	for (uint32_t i = 0, end; i < w->nr; i = end) {
		end = run_end(w, now, i);
		if (!now[i].region || now[i].kept || !then[i].cut ||
		    run_end(w, then, i) != end ||
		    then[i].region != now[i].region ||
		    then[i].flags != now[i].flags || rng_chance(w->rng, 2))
			continue;
		for (uint32_t j = i; j < end; j++) {
			now[j].kept = true;
			then[j].kept = true;
		}
	}
}

static size_t to_regions(const struct world *w, const struct unit *units,
			 bool kept, region_t *regions)
{
	size_t nr = 0;

	for (uint32_t i = 0, end; i < w->nr; i = end) {
		end = run_end(w, units, i);
		if (!units[i].region || units[i].kept != kept)
			continue;
		regions[nr++] = (region_t) {
			.flags = units[i].flags,
			.guest_phys_addr = w->gpa + i * w->size,
			.memory_size = (end - i) * w->size,
			.userspace_addr = hva_of(w, units[i].region, i),
		};
	}
	return nr;
}

static void shuffle(struct rng *rng, region_t *regions, size_t nr)
{
	for (size_t i = nr; i > 1; i--) {
		size_t j = rng_below(rng, i);
		region_t region = regions[i - 1];

		regions[i - 1] = regions[j];
		regions[j] = region;
	}
}

/* Some slots have numbers that are not the plan's. */
static void number(struct world *w, struct transition *t)
{
	uint32_t used = 0, outside = t->first + t->nr_ids;

	for (size_t i = 0; i < t->nr_slots; i++) {
		uint32_t id;

		if (rng_chance(w->rng, 6)) {
			id = outside + 2 * rng_below(w->rng, MAX_UNITS);
			outside = id + 1;
		} else {
			id = t->first + used;
			used += 1 + rng_chance(w->rng, 4);
		}
		t->slots[i].slot = t->as_id << 16 | id;
	}
}

static void offer(struct world *w, struct transition *t)
{
	static const uint32_t pieces[] = { 2, 3, 4, 64, 64 };

	t->ops = KVM_LAYOUT_ALL_OPS;
	t->max_pieces = pieces[rng_below(w->rng, 5)];
	if (rng_chance(w->rng, 10))
		t->ops = 0;
	else if (rng_chance(w->rng, 3))
		t->ops &= rng_next(w->rng);
}

static void *regions_alloc(void)
{
	void *regions = calloc(MAX_UNITS, sizeof(region_t));

	if (!regions)
		abort();
	return regions;
}

static struct transition *make_transition(struct world *w, struct unit *now,
					  struct unit *then)
{
	struct transition *t = calloc(1, sizeof(*t));

	if (!t)
		abort();
	t->as_id = rng_chance(w->rng, 3);
	t->first = rng_chance(w->rng, 2) ? 0 : rng_below(w->rng, 100);
	t->nr_ids = 4 * MAX_UNITS;
	t->mode = KVM_LAYOUT_PARTITION;
	t->no_bitmaps = w->size > 64 * PAGE;
	t->slots = regions_alloc();
	t->come = regions_alloc();
	t->nr_gone = to_regions(w, now, false, t->slots);
	t->nr_slots = t->nr_gone + to_regions(w, now, true,
					      t->slots + t->nr_gone);
	t->nr_come = to_regions(w, then, false, t->come);
	shuffle(w->rng, t->slots, t->nr_gone);
	shuffle(w->rng, t->come, t->nr_come);
	number(w, t);
	offer(w, t);
	return t;
}

struct transition *generate(struct rng *rng, uint32_t max_units)
{
	static const uint32_t kept[] = { 1000, 4, 2 };
	struct unit now[MAX_UNITS], then[MAX_UNITS];
	struct world w;

	make_world(&w, rng, max_units < MAX_UNITS ? max_units : MAX_UNITS);
	fill(&w, now);
	settle(&w, now);
	memcpy(then, now, sizeof(then));
	if (rng_chance(rng, 4))
		fill(&w, then);
	else
		for (uint32_t n = 1 + rng_below(rng, 5); n; n--)
			change(&w, then);
	keep_some(&w, now, then, kept[rng_below(rng, 3)]);
	settle(&w, then);
	if (rng_chance(rng, 2))
		keep_same(&w, now, then);
	return make_transition(&w, now, then);
}

/* All of @from's slots go, and come back. */
static struct transition *same_again(const struct transition *from)
{
	struct transition *t = transition_copy(from);

	t->ops = KVM_LAYOUT_ALL_OPS;
	free(t->come);
	t->come = regions_alloc();
	t->nr_come = t->nr_gone;
	memcpy(t->come, t->slots, t->nr_come * sizeof(*t->come));
	return t;
}

/* How much is free behind a region. */
static uint64_t room_behind(const struct transition *t, const region_t *region)
{
	uint64_t end = region->guest_phys_addr + region->memory_size;
	uint64_t room = 4 * (uint64_t)PAGE;

	for (size_t i = 0; i < t->nr_slots + t->nr_come; i++) {
		const region_t *other = i < t->nr_slots ? &t->slots[i] :
					&t->come[i - t->nr_slots];

		if (other->guest_phys_addr >= end &&
		    other->guest_phys_addr - end < room)
			room = other->guest_phys_addr - end;
	}
	return room / PAGE * PAGE;
}

static uint64_t some_of(struct rng *rng, uint64_t size)
{
	return (1 + rng_below(rng, size / PAGE)) * (uint64_t)PAGE;
}

struct transition *generate_added(struct rng *rng,
				  const struct transition *from)
{
	struct transition *t = same_again(from);

	for (size_t i = 0; i < t->nr_gone; i++) {
		uint64_t room = room_behind(t, &t->come[i]);
		region_t *added = &t->come[t->nr_come];

		if (room && rng_chance(rng, 2) &&
		    t->come[i].memory_size + room <= KVM_LAYOUT_MAX_SIZE)
			t->come[i].memory_size += some_of(rng, room);
		room = room_behind(t, &t->come[i]);
		if (!room || !rng_chance(rng, 3) || t->nr_come == MAX_UNITS)
			continue;
		added->guest_phys_addr = t->come[i].guest_phys_addr +
					 t->come[i].memory_size;
		added->memory_size = some_of(rng, room);
		added->userspace_addr = t->come[i].userspace_addr +
					t->come[i].memory_size;
		added->flags = t->come[i].flags;
		t->nr_come++;
	}
	return t;
}

struct transition *generate_resized(struct rng *rng,
				    const struct transition *from)
{
	struct transition *t = same_again(from);
	region_t *region;
	uint64_t room;

	if (!t->nr_gone)
		return t;
	region = &t->come[rng_below(rng, t->nr_come)];
	room = room_behind(t, region);
	if (room && region->memory_size + room <= KVM_LAYOUT_MAX_SIZE &&
	    rng_chance(rng, 2))
		region->memory_size += some_of(rng, room);
	else if (region->memory_size > PAGE)
		region->memory_size -= PAGE;
	return t;
}
