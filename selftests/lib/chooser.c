// SPDX-License-Identifier: GPL-2.0
#include <stdlib.h>

#include "kvm_util.h"
#include "processor.h"

#include "chooser.h"
#include "host.h"
#include "memslot_ops.h"
#include "refusals.h"
#include "tally.h"

const char *const step_names[NR_STEPS] = {
	[STEP_GROW] = "grow",
	[STEP_SHRINK] = "shrink",
	[STEP_SPLIT] = "split",
	[STEP_MERGE] = "merge",
	[STEP_SET_READONLY] = "set_readonly",
	[STEP_INVALID] = "invalid",
	[STEP_CREATE] = "create",
	[STEP_DELETE] = "delete",
	[STEP_AWAY] = "move",
	[STEP_BACK] = "move back",
	[STEP_LOG] = "log",
};

void chooser_ask(struct chooser *c, int dev)
{
	c->features = memslot_ops_features(dev);
	c->max_pieces = memslot_ops_attr(dev, KVM_DEV_MEMSLOT_OPS_GRP_INFO,
					 KVM_MEMSLOT_INFO_MAX_PIECES);
}

/* ------------------------------------------------------- which slot suits */

static bool may_change(const struct chooser *c, unsigned int i)
{
	return !(c->layout.slot[i].flags & c->fixed_flags);
}

static bool suits(const struct chooser *c, enum step_kind kind, unsigned int i)
{
	const struct layout *l = &c->layout;

	switch (kind) {
	case STEP_GROW:
		return may_change(c, i) && layout_gap_after(l, i);
	case STEP_SHRINK:
	case STEP_SET_READONLY:
		return may_change(c, i);
	case STEP_SPLIT:
		return may_change(c, i) && l->slot[i].nr > 1 && l->nr < c->max_slots;
	case STEP_MERGE:
		return may_change(c, i) && layout_run(l, i) > 1;
	case STEP_INVALID:
		return l->nr < LAYOUT_MAX_SLOTS;
	default:
		return true;
	}
}

/* At random one that suits, of those with these flags; -1 for none. */
static int random_slot(const struct chooser *c, enum step_kind kind, uint32_t flags)
{
	const struct layout *l = &c->layout;
	unsigned int start, i, j;

	if (!l->nr)
		return -1;
	start = host_random() % l->nr;
	for (j = 0; j < l->nr; j++) {
		i = (start + j) % l->nr;
		if ((l->slot[i].flags & flags) == flags && suits(c, kind, i))
			return i;
	}
	return -1;
}

/* ---------------------------------------------------------- kinds of steps */

static uint64_t random_page(const struct chooser *c, const struct model_slot *slot,
			    uint64_t low, uint64_t high)
{
	return c->page ? c->page(slot, low, high) : host_random_between(low, high);
}

static void choose_grow(struct chooser *c, unsigned int i, struct step *s)
{
	const struct model_slot *slot = &c->layout.slot[i];
	uint64_t end = slot->first + slot->nr;
	uint64_t most = end + layout_gap_after(&c->layout, i);

	step_resize(s, &c->layout, i, host_one_in(4) ? most :
						     random_page(c, slot, end + 1, most));
}

/* Half of the time near where the vCPUs were busy just now, if that is wanted. */
static void choose_shrink(struct chooser *c, unsigned int i, struct step *s)
{
	const struct model_slot *slot = &c->layout.slot[i], *there;
	uint64_t page = c->place + host_random() % 40;

	page -= min(page, 20UL);
	there = layout_find(&c->layout, page);
	if (c->shrinks_there && there && host_one_in(2) &&
	    may_change(c, there - c->layout.slot)) {
		step_resize(s, &c->layout, there - c->layout.slot, page);
		return;
	}
	step_resize(s, &c->layout, i, host_one_in(5) ? slot->first :
		    random_page(c, slot, slot->first, slot->first + slot->nr - 1));
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(uint64_t *)a, y = *(uint64_t *)b;

	return x < y ? -1 : x > y;
}

static void choose_split(struct chooser *c, unsigned int i, struct step *s)
{
	const struct model_slot *slot = &c->layout.slot[i];
	uint64_t at[STEP_MAX_OTHERS];
	unsigned int want, n, j;

	want = host_one_in(16) ? c->max_pieces - 1 :
				 host_random_between(1, c->max_cuts);
	want = min(want, c->max_slots - c->layout.nr);
	for (j = 0; j < want; j++)
		at[j] = random_page(c, slot, slot->first + 1, slot->first + slot->nr - 1);
	qsort(at, want, sizeof(at[0]), compare);
	for (n = j = 0; j < want; j++) {
		if (!n || at[j] != at[n - 1])
			at[n++] = at[j];
	}
	step_split(s, &c->layout, i, n, at);
}

static void choose_merge(struct chooser *c, unsigned int i, struct step *s)
{
	unsigned int n = min(layout_run(&c->layout, i), c->max_pieces);

	step_merge(s, &c->layout, i, host_one_in(4) ? n : host_random_between(2, n));
}

static void choose_set_readonly(struct chooser *c, unsigned int i, struct step *s)
{
	bool is = c->layout.slot[i].flags & KVM_MEM_READONLY;

	/* Now and then as it is already. */
	step_set_readonly(s, &c->layout, i, host_one_in(16) ? is : !is);
}

static bool choose_create(struct chooser *c, struct step *s)
{
	const struct layout *l = &c->layout;
	struct model_slot slot;
	uint64_t gap, start;
	unsigned int n = 0;
	int i;

	if (l->nr == c->max_slots)
		return false;
	do {
		i = (int)(host_random() % (l->nr + 1)) - 1;
		gap = layout_gap_after(l, i);
	} while (!gap && n++ < 2 * LAYOUT_MAX_SLOTS);
	if (!gap)
		return false;

	start = i < 0 ? 0 : l->slot[i].first + l->slot[i].nr;
	slot.id = layout_free_id(l);
	slot.flags = c->create_flags | (host_one_in(6) ? KVM_MEM_READONLY : 0);
	slot.first = host_one_in(3) ? start : random_page(c, NULL, start, start + gap - 1);
	slot.nr = start + gap - slot.first;
	if (!host_one_in(3))
		slot.nr = random_page(c, NULL, slot.first + 1, start + gap) - slot.first;
	step_create(s, &slot);
	return true;
}

/* Rather one that logs. */
static void choose_log(struct chooser *c, unsigned int i, struct step *s)
{
	int logs = random_slot(c, STEP_LOG, KVM_MEM_LOG_DIRTY_PAGES);

	step_log(s, &c->layout, logs >= 0 && !host_one_in(4) ? logs : i);
}

/* False if this choice comes to nothing. */
static bool choose(struct chooser *c, enum step_kind kind, struct step *s)
{
	int i = random_slot(c, kind, 0);

	if (kind == STEP_CREATE)
		return choose_create(c, s);
	if (i < 0)
		return false;

	switch (kind) {
	case STEP_GROW:
		choose_grow(c, i, s);
		return true;
	case STEP_SHRINK:
		choose_shrink(c, i, s);
		return true;
	case STEP_SPLIT:
		choose_split(c, i, s);
		return true;
	case STEP_MERGE:
		choose_merge(c, i, s);
		return true;
	case STEP_SET_READONLY:
		choose_set_readonly(c, i, s);
		return true;
	case STEP_INVALID:
		return refusal_choose(c, i, s);
	case STEP_DELETE:
		step_delete(s, &c->layout, i);
		return true;
	case STEP_AWAY:
		step_away(s, &c->layout, i, c->park_gpa +
			  host_random() % c->layout.nr_pages * PAGE_SIZE);
		return true;
	case STEP_LOG:
		choose_log(c, i, s);
		return true;
	default:
		return false;
	}
}

static enum step_kind choose_kind(const struct chooser *c)
{
	unsigned int sum = 0, kind;
	uint64_t random;

	for (kind = 0; kind < NR_STEPS; kind++)
		sum += c->weight[kind];
	TEST_ASSERT(sum, "there is nothing to choose from");
	random = host_random() % sum;
	for (kind = 0; random >= c->weight[kind]; kind++)
		random -= c->weight[kind];
	return kind;
}

void chooser_next(struct chooser *c, struct step *s)
{
	int tries = 0;

	do {
		TEST_ASSERT(tries++ < 100000, "no step is possible");
	} while (!choose(c, choose_kind(c), s) ||
		 (c->allows && !c->allows(c, s, c->arg)));
	c->place = s->place;
}

/* ------------------------------------------------------------ what it came to */

static bool is_counted(const struct step *s)
{
	return s->kind < NR_OPERATIONS &&
	       (s->kind != STEP_SET_READONLY || s->effect != STEP_CHANGES_NOTHING);
}

void chooser_made(struct chooser *c, const struct step *s, int err)
{
	/* What is not to be had for any slot that logs may be said first. */
	bool refused = err == EOPNOTSUPP ? !c->features : s->refusals >> err & 1;

	if (s->kind == STEP_INVALID)
		TEST_ASSERT(refused, "%s: it was not refused as it should be: %s", s->text,
			    err ? strerror(err) : "done");
	else
		TEST_ASSERT(!err, "%s: it failed: %s", s->text, strerror(err));
	layout_apply(&c->layout, s);
	c->made[s->kind]++;
	c->ops += is_counted(s);
	c->resizes += s->kind == STEP_GROW || s->kind == STEP_SHRINK;
	c->failed += s->kind == STEP_INVALID;
	tally_operation(s->kind > STEP_INVALID);
}

void chooser_assert_stats(const struct chooser *c, int dev)
{
	memslot_ops_assert_stats(dev, c->ops, c->resizes, c->failed);
}

uint64_t chooser_nr_made(const struct chooser *c)
{
	uint64_t sum = 0;
	int kind;

	for (kind = 0; kind < NR_STEPS; kind++)
		sum += c->made[kind];
	return sum;
}

const char *chooser_summary(const struct chooser *c)
{
	static char line[512];
	size_t len = 0;
	int kind;

	line[0] = 0;
	for (kind = 0; kind < NR_STEPS; kind++) {
		if (c->weight[kind])
			len += snprintf(line + len, sizeof(line) - len, "%s %s %lu",
					len ? "," : "", step_names[kind],
					c->made[kind]);
	}
	return line;
}
