// SPDX-License-Identifier: GPL-2.0
/*
 * What the module is for, to look at.
 *
 * Two vCPUs read, write and execute all over their memory without a pause,
 * while the VMM changes its slots under them: once with the module, and once as
 * it is done without.  What happened to the guest is put side by side.
 */
#include <time.h>

#include "kvm_util.h"
#include "processor.h"

#include "hammer.h"
#include "memslot_ops.h"
#include "ops.h"

#define MIB		(1UL << 20)
/* Touches of each vCPU during a step and right after it. */
#define TOUCHES		2000

/* What happened in the course of one way to do a scenario. */
struct tally {
	int steps;
	int steps_with_death;
	uint64_t mmio;
	uint64_t faults_again;
	uint64_t longest_gap_us;
	uint64_t longest_gap_at_rest_us;
	uint64_t worst_step_us;
	uint64_t sum_step_us;
};

/* One way to do a scenario: the module's, or the one without it. */
struct way {
	const char *name;
	void (*step)(struct hammer *h, int dev, int step);
};

/*
 * A scenario is a number of steps.  Before the first, what start() left mapped
 * is what the vCPUs hammer; after each step, so are the pages up to pages().
 */
struct scenario {
	const char *title;
	uint64_t op;
	uint64_t max_size;
	int nr_steps;
	void (*start)(struct hammer *h);
	uint64_t (*pages)(int step);
	struct way ways[2];
};

/* --------------------------------------------------------- the scenarios */

#define GROW_FROM	(64 * MIB)
#define GROW_TO		(1024 * MIB)
#define GROW_STEPS	20

static uint64_t grow_size(int step)
{
	return GROW_FROM + (GROW_TO - GROW_FROM) / GROW_STEPS * step;
}

static uint64_t grow_pages(int step)
{
	return grow_size(step) / PAGE_SIZE;
}

static void grow_start(struct hammer *h)
{
	hammer_slot(h, GROW_FROM);
}

static void grow_new_way(struct hammer *h, int dev, int step)
{
	int err = slot_grow(dev, HAMMER_SLOT, grow_size(step));

	TEST_ASSERT(!err, "GROW: %s", strerror(err));
}

static void grow_old_way(struct hammer *h, int dev, int step)
{
	hammer_delete_and_create(h, grow_size(step));
}

/* What stays of the other scenarios' slot, and is used throughout. */
#define KEPT		(64 * MIB)
#define SHRINK_FROM	(256 * MIB)
#define NR_ROUNDS	16

static uint64_t kept_pages(int step)
{
	return KEPT / PAGE_SIZE;
}

static uint64_t shrunk_size(int step)
{
	return SHRINK_FROM - (SHRINK_FROM - KEPT) / NR_ROUNDS * step;
}

static void shrink_start(struct hammer *h)
{
	hammer_slot(h, SHRINK_FROM);
}

static void shrink_new_way(struct hammer *h, int dev, int step)
{
	int err = slot_shrink(dev, HAMMER_SLOT, shrunk_size(step), NULL);

	TEST_ASSERT(!err, "SHRINK: %s", strerror(err));
}

static void shrink_old_way(struct hammer *h, int dev, int step)
{
	hammer_delete_and_create(h, shrunk_size(step));
}

/* The first @nr quarters of what is kept become slots, one after the other. */
static void set_quarters(struct hammer *h, uint32_t id, int first, int nr,
			 uint32_t flags, bool exists)
{
	uint64_t size = KEPT / 4 * nr, offset = KEPT / 4 * first;

	TEST_ASSERT(!slot_set(hammer_vm(h), id, flags, hammer_gpa(h) + offset,
			      exists ? size : 0, hammer_hva(h) + offset),
		    "KVM_SET_USER_MEMORY_REGION");
}

static void split_start(struct hammer *h)
{
	hammer_slot(h, KEPT);
}

static void split_new_way(struct hammer *h, int dev, int step)
{
	const struct kvm_memslot_cut cuts[] = {
		{ .offset = KEPT / 4, .slot = HAMMER_SLOT + 1 },
		{ .offset = KEPT / 2, .slot = HAMMER_SLOT + 2 },
		{ .offset = KEPT / 4 * 3, .slot = HAMMER_SLOT + 3 },
	};
	const uint32_t pieces[] = {
		HAMMER_SLOT + 1, HAMMER_SLOT + 2, HAMMER_SLOT + 3,
	};
	int err;

	err = slot_split(dev, HAMMER_SLOT, ARRAY_SIZE(cuts), cuts);
	TEST_ASSERT(!err, "SPLIT: %s", strerror(err));
	err = slot_merge(dev, HAMMER_SLOT, ARRAY_SIZE(pieces), pieces);
	TEST_ASSERT(!err, "MERGE: %s", strerror(err));
}

static void split_old_way(struct hammer *h, int dev, int step)
{
	int i;

	set_quarters(h, HAMMER_SLOT, 0, 4, 0, false);
	for (i = 0; i < 4; i++)
		set_quarters(h, HAMMER_SLOT + i, i, 1, 0, true);

	for (i = 0; i < 4; i++)
		set_quarters(h, HAMMER_SLOT + i, i, 1, 0, false);
	set_quarters(h, HAMMER_SLOT, 0, 4, 0, true);
}

/* The upper half is protected and is freed again; the vCPUs use the lower one. */
static uint64_t lower_pages(int step)
{
	return KEPT / 2 / PAGE_SIZE;
}

static void protect_new_way(struct hammer *h, int dev, int step)
{
	const struct kvm_memslot_cut cut = {
		.offset = KEPT / 2, .slot = HAMMER_SLOT + 1,
	};
	const uint32_t upper = HAMMER_SLOT + 1;
	int err;

	err = slot_split(dev, HAMMER_SLOT, 1, &cut);
	TEST_ASSERT(!err, "SPLIT: %s", strerror(err));
	err = slot_set_readonly(dev, upper, true);
	TEST_ASSERT(!err, "SET_READONLY 1: %s", strerror(err));
	err = slot_set_readonly(dev, upper, false);
	TEST_ASSERT(!err, "SET_READONLY 0: %s", strerror(err));
	err = slot_merge(dev, HAMMER_SLOT, 1, &upper);
	TEST_ASSERT(!err, "MERGE: %s", strerror(err));
}

static void protect_old_way(struct hammer *h, int dev, int step)
{
	set_quarters(h, HAMMER_SLOT, 0, 4, 0, false);
	set_quarters(h, HAMMER_SLOT, 0, 2, 0, true);
	set_quarters(h, HAMMER_SLOT + 1, 2, 2, KVM_MEM_READONLY, true);

	set_quarters(h, HAMMER_SLOT + 1, 2, 2, 0, false);
	set_quarters(h, HAMMER_SLOT, 0, 2, 0, false);
	set_quarters(h, HAMMER_SLOT, 0, 4, 0, true);
}

static const struct scenario scenarios[] = {
	{
		.title = "A slot grows from 64 MiB to 1024 MiB",
		.op = KVM_MEMSLOT_OP_GROW,
		.max_size = GROW_TO,
		.nr_steps = GROW_STEPS,
		.start = grow_start,
		.pages = grow_pages,
		.ways = {
			{ "GROW", grow_new_way },
			{ "delete + create", grow_old_way },
		},
	},
	{
		.title = "A slot shrinks from 256 MiB to 64 MiB; 64 MiB are in use",
		.op = KVM_MEMSLOT_OP_SHRINK,
		.max_size = SHRINK_FROM,
		.nr_steps = NR_ROUNDS,
		.start = shrink_start,
		.pages = kept_pages,
		.ways = {
			{ "SHRINK", shrink_new_way },
			{ "delete + create", shrink_old_way },
		},
	},
	{
		.title = "A slot of 64 MiB becomes four, and one again",
		.op = KVM_MEMSLOT_OP_SPLIT,
		.max_size = KEPT,
		.nr_steps = NR_ROUNDS,
		.start = split_start,
		.pages = kept_pages,
		.ways = {
			{ "SPLIT, MERGE", split_new_way },
			{ "delete + create", split_old_way },
		},
	},
	{
		.title = "Half of a slot is read-only for a while; the other is in use",
		.op = KVM_MEMSLOT_OP_SET_READONLY,
		.max_size = KEPT,
		.nr_steps = NR_ROUNDS,
		.start = split_start,
		.pages = lower_pages,
		.ways = {
			{ "SET_READONLY", protect_new_way },
			{ "delete + create", protect_old_way },
		},
	},
};

/* --------------------------------------------------------- how they run */

static uint64_t now_us(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000UL + now.tv_nsec / 1000;
}

static void show_progress(const char *name, int step, int nr_steps,
			  uint64_t size)
{
	printf("\r  %-16s [%-*.*s] %4lu MiB", name, nr_steps, step,
	       "########################################", size / MIB);
	if (step == nr_steps)
		printf("\n");
}

/*
 * One step.  The vCPUs touch only pages that they touched before it, so that
 * every page fault is one on a page which was mapped already.
 */
static void take_step(struct hammer *h, int dev, const struct way *way,
		      int step, struct tally *t)
{
	struct hammer_exits before = hammer_exits(h), after;
	uint64_t faults = hammer_faults(h), start = now_us(), us;

	hammer_longest_gap(h);
	way->step(h, dev, step);
	us = now_us() - start;
	hammer_wait(h, TOUCHES);

	after = hammer_exits(h);
	t->steps++;
	t->steps_with_death += after.internal_error != before.internal_error ||
			       after.run_error != before.run_error;
	t->mmio += after.mmio - before.mmio;
	t->faults_again += hammer_faults(h) - faults;
	t->longest_gap_us = max(t->longest_gap_us, hammer_longest_gap(h));
	t->worst_step_us = max(t->worst_step_us, us);
	t->sum_step_us += us;
}

/* How long a vCPU stands still when nobody does anything: it shares a CPU. */
static void rest(struct hammer *h, const struct scenario *s, struct tally *t)
{
	int i;

	hammer_longest_gap(h);
	for (i = 0; i < s->nr_steps; i++)
		hammer_wait(h, TOUCHES);
	t->longest_gap_at_rest_us = hammer_longest_gap(h);
}

static struct tally run_way(const struct scenario *s, const struct way *way)
{
	const struct hammer_config config = {
		.nr_vcpus = 2,
		.max_size = s->max_size,
		.host_pages = HOST_PAGES_THP,
	};
	struct tally t = { 0 };
	uint64_t pages, more;
	struct hammer *h;
	int dev, step;

	printf("\r  %-16s preparing memory ...", way->name);
	h = hammer_create(&config);
	dev = memslot_ops_open(hammer_vm(h));
	s->start(h);
	pages = s->pages(0);
	hammer_settle(h, pages);
	rest(h, s, &t);

	for (step = 1; step <= s->nr_steps; step++) {
		take_step(h, dev, way, step, &t);
		show_progress(way->name, step, s->nr_steps,
			      s->pages(step) * PAGE_SIZE);

		/* The first touch of what is new is a page fault, rightly. */
		more = s->pages(step) - pages;
		if (more)
			hammer_sweep(h, pages, more, HAMMER_ALL);
		pages += more;
		hammer_run(h, pages);
	}

	/* Not a write was lost on the way, blinks or not. */
	hammer_verify(h);
	close(dev);
	hammer_free(h);
	return t;
}

static void print_row(const char *name, const struct tally *t)
{
	printf("  %-16s %6d %10lu %12d %13lu %13lu %13lu %12lu\n", name, t->steps,
	       t->mmio, t->steps_with_death, t->faults_again, t->longest_gap_us,
	       t->longest_gap_at_rest_us, t->sum_step_us / t->steps);
}

static void print_table(const struct scenario *const *s, struct tally (*t)[2],
			int nr)
{
	int i;

	printf("\n  %-16s %6s %10s %12s %13s %13s %13s %12s\n", "", "steps",
	       "bogus MMIO", "steps deadly", "page faults", "longest stall",
	       "the same with", "time for");
	printf("  %-16s %6s %10s %12s %13s %13s %13s %12s\n", "", "done",
	       "exits", "to the guest", "taken again", "of a vCPU, us",
	       "nothing done", "a step, us");
	for (i = 0; i < nr; i++) {
		printf("\n%s:\n", s[i]->title);
		print_row(s[i]->ways[0].name, &t[i][0]);
		print_row(s[i]->ways[1].name, &t[i][1]);
	}
}

/* Whether the module's way went without the guest noticing. */
static bool unnoticed(const struct scenario *s, const struct tally *t)
{
	if (!t->mmio && !t->steps_with_death && !t->faults_again)
		return true;

	printf("\nThe guest noticed %s: this should not be.\n", s->ways[0].name);
	return false;
}

int main(void)
{
	const struct scenario *shown[ARRAY_SIZE(scenarios)];
	struct tally tallies[ARRAY_SIZE(scenarios)][2];
	bool good = true;
	int i, nr = 0;

	if (!memslot_ops_present()) {
		printf("The module is not loaded.\n");
		return KSFT_SKIP;
	}
	printf("Two vCPUs read, write and execute all over their memory, without a pause, while\n"
	       "its slots change: with this module, and as it is done without.\n");

	for (i = 0; i < ARRAY_SIZE(scenarios); i++) {
		const struct scenario *s = &scenarios[i];

		printf("\n%s.\n", s->title);
		if (!memslot_ops_has(s->op)) {
			printf("  The module lacks that.\n");
			continue;
		}
		tallies[nr][0] = run_way(s, &s->ways[0]);
		tallies[nr][1] = run_way(s, &s->ways[1]);
		shown[nr++] = s;
	}

	print_table(shown, tallies, nr);
	for (i = 0; i < nr; i++)
		good &= unnoticed(shown[i], &tallies[i][0]);
	if (good)
		printf("\nShown: the guest's memory grew, shrank, was split, merged and protected\n"
		       "under two busy vCPUs; not one access to what stayed failed, left the guest\n"
		       "or had to be mapped again.\n");
	return good ? 0 : 1;
}
