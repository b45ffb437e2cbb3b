// SPDX-License-Identifier: GPL-2.0
#include "kvm_util.h"
#include "processor.h"

#include "dirty_log.h"
#include "dirty_ring.h"
#include "host.h"

#define MAX_VCPUS	4

const char *const dirty_log_mode_names[NR_DIRTY_LOG_MODES] = {
	"plain", "manual", "init", "ring", "ring_bitmap",
};

static struct dirty_log_config config;
static bool is_on;

/* What the VMM knows of a page. */
static struct {
	bool dirty;			/* to be copied */
	bool got;			/* KVM_GET_DIRTY_LOG says so; not cleared */
	bool initially;			/* its bit was set with its slot */
} *state;

/* As many as there are pages, for a bitmap of any slot. */
static uint64_t *bits, nr_words;

static void enable_mode(void)
{
	uint64_t manual = KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE;

	switch (config.mode) {
	case DIRTY_LOG_INIT:
		manual |= KVM_DIRTY_LOG_INITIALLY_SET;
		fallthrough;
	case DIRTY_LOG_MANUAL:
		vm_enable_cap(config.vm, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, manual);
		break;
	case DIRTY_LOG_RING_BITMAP:
	case DIRTY_LOG_RING:
		vm_enable_dirty_ring(config.vm, ring_size());
		if (config.mode == DIRTY_LOG_RING_BITMAP)
			vm_enable_cap(config.vm, KVM_CAP_DIRTY_LOG_RING_WITH_BITMAP, 0);
		break;
	default:
		break;
	}
}

void dirty_log_init(const struct dirty_log_config *new)
{
	config = *new;
	nr_words = DIV_ROUND_UP(config.layout->nr_pages, 64);
	state = calloc(config.layout->nr_pages, sizeof(*state));
	bits = calloc(nr_words, sizeof(*bits));
	TEST_ASSERT(state && bits, "no memory");
	enable_mode();
}

void dirty_log_turn(bool on)
{
	is_on = on;
}

bool dirty_log_is_on(void)
{
	return is_on;
}

void dirty_log_pages_arrive(uint64_t first, uint64_t nr_pages)
{
	uint64_t i;

	for (i = first; i < first + nr_pages; i++)
		state[i].initially = is_on && config.mode == DIRTY_LOG_INIT;
}

void dirty_log_name_all(void)
{
	uint64_t i;

	for (i = 0; i < config.layout->nr_pages; i++)
		state[i].dirty = true;
}

bool dirty_log_named(uint64_t page)
{
	return state[page].dirty || state[page].got;
}

bool dirty_log_take(uint64_t page)
{
	bool dirty = state[page].dirty;

	TEST_ASSERT(!state[page].got, "page %lu was never cleared", page);
	state[page].dirty = false;
	return dirty;
}

static bool forget(void)
{
	return config.forget && !(host_random() % config.forget);
}

/* ------------------------------------------------------------ the bitmap */

/* @first: the page of the bitmap's first bit */
static void take_bitmap(const uint64_t *bitmap, uint64_t first,
			uint64_t nr_pages, bool clears, const char *from)
{
	uint64_t i, page;

	for (i = 0; i < nr_pages; i++) {
		page = first + i;
		TEST_ASSERT(test_bit(i, bitmap) || !state[page].initially,
			    "page %lu is not in %s, though its bit was set when its slot came to it",
			    page, from);
		if (clears)
			state[page].initially = false;
		if (!test_bit(i, bitmap) || forget())
			continue;
		if (clears)
			state[page].dirty = true;
		else
			state[page].got = true;
	}
	for (; i % 64; i++)
		TEST_ASSERT(!test_bit(i, bitmap), "spare bit %lu after %lu pages is set in %s",
			    i, nr_pages, from);
}

void dirty_log_get_slot(const struct model_slot *s)
{
	memset(bits, 0xff, nr_words * sizeof(*bits));
	kvm_vm_get_dirty_log(config.vm, s->id, bits);
	take_bitmap(bits, s->first, s->nr, config.mode == DIRTY_LOG_PLAIN,
		    "the dirty log");
}

static void get_logs(void)
{
	unsigned int i;

	for (i = 0; i < config.layout->nr; i++)
		dirty_log_get_slot(&config.layout->slot[i]);
}

/* Clears what was got, of the slots that are now; a part at a time. */
static void clear_log(const struct model_slot *s)
{
	uint64_t first = 0, n, i;

	for (; first < s->nr; first += n) {
		bool any = false;

		n = 64 * host_random_between(1, nr_words);
		n = min(n, s->nr - first);
		memset(bits, 0, nr_words * sizeof(*bits));
		for (i = 0; i < n; i++) {
			if (!state[s->first + first + i].got)
				continue;
			bits[i / 64] |= 1UL << i % 64;
			any = true;
		}
		if (any)
			kvm_vm_clear_dirty_log(config.vm, s->id, bits, first, n);
	}
}

static void clear_logs(void)
{
	unsigned int i;

	for (i = 0; i < config.layout->nr; i++)
		clear_log(&config.layout->slot[i]);
	for (i = 0; i < config.layout->nr_pages; i++) {
		if (!state[i].got)
			continue;
		state[i].got = false;
		state[i].dirty = true;
		state[i].initially = false;
	}
}

/* ------------------------------------------------------------- the rings */

static struct {
	struct kvm_vcpu *vcpu;
	uint32_t harvested;		/* entries, ever */
} rings[MAX_VCPUS];

static int nr_rings;

/* What was cut off last, until its entries are harvested. */
static struct {
	uint64_t first, nr;
} tail;

static uint64_t nr_unreset, nr_tail_entries;

void dirty_log_add_vcpu(struct kvm_vcpu *vcpu)
{
	TEST_ASSERT(nr_rings < MAX_VCPUS, "too many vCPUs");
	rings[nr_rings++].vcpu = vcpu;
}

uint64_t dirty_log_nr_tail_entries(void)
{
	return nr_tail_entries;
}

static uint64_t page_of_entry(uint32_t slot, uint64_t offset)
{
	const struct layout *layout = config.layout;
	unsigned int i;

	if (slot == RING_NO_SLOT) {
		TEST_ASSERT(offset < tail.nr,
			    "a ring entry names page %#lx of a tail of %lu",
			    offset, tail.nr);
		nr_tail_entries++;
		return tail.first + offset;
	}
	for (i = 0; i < layout->nr; i++) {
		if (layout->slot[i].id == slot)
			break;
	}
	TEST_ASSERT(i < layout->nr, "a ring entry names slot %#x, page %#lx: there is no such slot",
		    slot, offset);
	TEST_ASSERT(offset < layout->slot[i].nr,
		    "a ring entry names page %#lx of %s", offset,
		    model_slot_name(&layout->slot[i]));
	return layout->slot[i].first + offset;
}

static void harvest_rings(void)
{
	uint64_t offset;
	uint32_t slot;
	int i;

	for (i = 0; i < nr_rings; i++) {
		while (ring_harvest(rings[i].vcpu, &rings[i].harvested, &slot, &offset)) {
			uint64_t page = page_of_entry(slot, offset);

			if (!forget())
				state[page].dirty = true;
			nr_unreset++;
		}
	}
	tail.nr = 0;
}

static void reset_rings(void)
{
	uint32_t n = kvm_vm_reset_dirty_ring(config.vm);

	TEST_ASSERT(n == nr_unreset, "%u entries were reset, of %lu harvested",
		    n, nr_unreset);
	nr_unreset = 0;
}

/* ------------------------------------------------------- whichever it is */

void dirty_log_get(void)
{
	if (dirty_log_has_rings(config.mode))
		harvest_rings();
	else if (is_on)
		get_logs();
}

void dirty_log_clear(void)
{
	if (dirty_log_has_rings(config.mode))
		reset_rings();
	else if (config.mode != DIRTY_LOG_PLAIN)
		clear_logs();
}

void dirty_log_take_tail(uint64_t first, uint64_t nr_pages, const uint64_t *bitmap)
{
	uint64_t i;

	tail.first = first;
	tail.nr = nr_pages;
	if (!is_on)
		return;
	if (dirty_log_has_rings(config.mode)) {
		harvest_rings();
	} else if (bitmap) {
		take_bitmap(bitmap, first, nr_pages, true, "SHRINK's bitmap");
	} else {
		for (i = first; i < first + nr_pages; i++) {
			state[i].dirty = true;
			state[i].initially = false;
		}
	}
}
