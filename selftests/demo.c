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
	const char *proves;		/* the closing sentence */
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

static const struct scenario scenarios[] = {
	{
		.title = "A slot grows from 64 MiB to 1024 MiB while two vCPUs use all of it",
		.proves = "the guest's memory grew sixteenfold under two busy vCPUs",
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

static void print_row(const char *what, uint64_t ours, uint64_t theirs)
{
	printf("  %-46s %12lu %18lu\n", what, ours, theirs);
}

static void print_table(const struct scenario *s, const struct tally *t)
{
	printf("\n  %-46s %12s %18s\n", "", s->ways[0].name, s->ways[1].name);
	print_row("steps done", t[0].steps, t[1].steps);
	print_row("accesses that left the guest as bogus MMIO", t[0].mmio,
		  t[1].mmio);
	print_row("steps that would have killed the guest", t[0].steps_with_death,
		  t[1].steps_with_death);
	print_row("page faults on memory that was mapped before",
		  t[0].faults_again, t[1].faults_again);
	print_row("longest time a vCPU made no progress, in us",
		  t[0].longest_gap_us, t[1].longest_gap_us);
	print_row("  the same while nothing is done to it",
		  t[0].longest_gap_at_rest_us, t[1].longest_gap_at_rest_us);
	print_row("time for a step, on average, in us",
		  t[0].sum_step_us / t[0].steps, t[1].sum_step_us / t[1].steps);
	print_row("time for a step, at worst, in us", t[0].worst_step_us,
		  t[1].worst_step_us);
}

/* Whether the module's way went without the guest noticing. */
static bool run_scenario(const struct scenario *s)
{
	struct tally t[2];
	bool unnoticed;
	int i;

	printf("\n%s.\n\n", s->title);
	for (i = 0; i < 2; i++)
		t[i] = run_way(s, &s->ways[i]);
	print_table(s, t);

	unnoticed = !t[0].mmio && !t[0].steps_with_death && !t[0].faults_again;
	if (unnoticed)
		printf("\nShown: with %s, %s,\n"
		       "and not one of their accesses failed, left the guest or had to be mapped again.\n",
		       s->ways[0].name, s->proves);
	else
		printf("\nThe guest noticed %s: this should not be.\n",
		       s->ways[0].name);
	return unnoticed;
}

int main(void)
{
	bool good = true;
	int i;

	if (!memslot_ops_present()) {
		printf("The module is not loaded.\n");
		return KSFT_SKIP;
	}
	for (i = 0; i < ARRAY_SIZE(scenarios); i++) {
		if (!memslot_ops_has(scenarios[i].op)) {
			printf("\n%s: the module lacks that.\n",
			       scenarios[i].title);
			continue;
		}
		good &= run_scenario(&scenarios[i]);
	}
	return good ? 0 : 1;
}
