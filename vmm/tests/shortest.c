// SPDX-License-Identifier: MIT
/*
 * Plans are as short as kvm-layout.h promises: compared with what a search of
 * all sequences of calls finds, in worlds of a few pages.
 *
 * shortest [-n PAIRS] [-r RULES] [-u EACH] [-c CLASS] [-p PAIR]
 *
 * -n: of how many pairs of layouts a plan is made, in each class of worlds;
 * they are spread evenly over all pairs; 0: of all; -r: what plans are compared
 * with, one of plain, strict and letter, see world.h; -u: in one of EACH, look
 * how much shorter a way is that merges what it splits again (for information);
 * -c: only that class; -p: only that pair of it, which is printed.
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tap.h"
#include "transition.h"
#include "world.h"

#define LOG		KVM_MEM_LOG_DIRTY_PAGES
#define RO		KVM_MEM_READONLY

#define FIRST_NUMBER	100
#define NR_NUMBERS	100
#define MAX_SHOWN	3
#define MAX_SHORTER	16

/* Coprime to the number of pairs of all classes. */
#define STRIDE		UINT64_C(2654435761)

static const struct class {
	const char *what;
	enum kvm_layout_mode mode;
	struct world world;
} classes[] = {
	{ "5 pages", KVM_LAYOUT_PARTITION, { 5, 0, 64 } },
	{ "6 pages", KVM_LAYOUT_PARTITION, { 6, 0, 64 } },
	{ "4 pages, read-only", KVM_LAYOUT_PARTITION, { 4, RO, 64 } },
	{ "5 pages, read-only", KVM_LAYOUT_PARTITION, { 5, RO, 64 } },
	{ "4 pages, log", KVM_LAYOUT_PARTITION, { 4, LOG, 64 } },
	{ "5 pages, log", KVM_LAYOUT_PARTITION, { 5, LOG, 64 } },
	{ "3 pages, read-only and log", KVM_LAYOUT_PARTITION,
		{ 3, RO | LOG, 64 } },
	{ "4 pages, read-only and log", KVM_LAYOUT_PARTITION,
		{ 4, RO | LOG, 64 } },
	{ "5 pages, read-only and log", KVM_LAYOUT_PARTITION,
		{ 5, RO | LOG, 64 } },
	{ "5 pages, 2 pieces", KVM_LAYOUT_PARTITION, { 5, 0, 2 } },
	{ "4 pages, read-only and log, 2 pieces", KVM_LAYOUT_PARTITION,
		{ 4, RO | LOG, 2 } },
	{ "5 pages, read-only and log, 3 pieces", KVM_LAYOUT_PARTITION,
		{ 5, RO | LOG, 3 } },
	{ "5 pages, map", KVM_LAYOUT_MAP, { 5, 0, 64 } },
	{ "4 pages, read-only and log, map", KVM_LAYOUT_MAP,
		{ 4, RO | LOG, 64 } },
};

enum { NR_CLASSES = sizeof(classes) / sizeof(*classes) };

/**
 * struct tally - what was found in a class
 * @nr_pairs: of layouts
 * @nr_none: no plan was made
 * @nr_longer: plans that were too long
 * @most: by how many steps at most
 * @nr_others: plans with a step against the rules
 * @nr_not_shortest: plans that a shorter one exists for
 * @nr_letter: others that could be shorter by WORLD_LETTER
 * @nr_free: pairs of which a freer way was searched
 * @shorter: how many of these were that much shorter
 */
struct tally {
	unsigned long nr_pairs;
	unsigned long nr_none;
	unsigned long nr_longer;
	int most;
	unsigned long nr_others;
	unsigned long nr_not_shortest;
	unsigned long nr_letter;
	unsigned long nr_free;
	unsigned long shorter[MAX_SHORTER];
};

static uint64_t nr_pairs = 4000;
static uint64_t free_each = 20;
static enum world_rules rules = WORLD_PLAIN;
static int64_t only_class = -1;
static int64_t only_pair = -1;

static struct world_layout *layouts;
static size_t nr_layouts;
static struct world_search *found;
static const struct class *class;
static struct tally tally;

/* Regions are alike: the first page that leads anywhere leads to region 1. */
static bool is_needless(const struct world_layout *a,
			const struct world_layout *b)
{
	for (uint32_t i = 0; i < class->world.nr_pages; i++)
		if (a->pages[i].region)
			return a->pages[i].region != 1;
	for (uint32_t i = 0; i < class->world.nr_pages; i++)
		if (b->pages[i].region)
			return b->pages[i].region != 1;
	return false;
}

static void show(const struct transition *t, const struct kvm_layout_plan *plan,
		 uint64_t pair, const char *what, bool way)
{
	size_t size;
	char *text;
	FILE *to = open_memstream(&text, &size);

	if (!to)
		abort();
	fprintf(to, "%s: -c %d -p %llu\n", what, (int)(class - classes),
		(unsigned long long)pair);
	transition_print(t, to);
	kvm_layout_plan_print(plan, to);
	if (way)
		world_print_way(found, to);
	fclose(to);
	tap_lines(text);
	free(text);
}

/* Return: whether each step is one by the rules, and leads to the end */
static bool is_by_rules(const struct transition *t,
			const struct kvm_layout_plan *plan)
{
	const struct kvm_layout_step *steps;
	struct kvm_model model, then;
	bool holds = true;
	size_t nr;

	transition_model(t, &model);
	steps = kvm_layout_plan_steps(plan, &nr);
	for (size_t i = 0; holds && i < nr; i++) {
		kvm_model_copy(&then, &model);
		holds = !kvm_model_step(&then, &steps[i], NULL) &&
			world_is_step(found, WORLD_STRICT, &model, &then);
		kvm_model_fini(&model);
		model = then;
	}
	kvm_model_fini(&model);
	return holds;
}

/* Return: calls of a way that is shorter than @nr, or @nr */
static int shorter_than(int nr, enum world_rules by)
{
	int shortest = nr ? world_shortest(found, by, nr - 1) : -1;

	return shortest < 0 ? nr : shortest;
}

/*
 * By how many steps, where both kinds of flags change at once.  No host has as few
 * pieces as some of these worlds.
 */
static int may_be_longer(void)
{
	if (class->world.flags != (RO | LOG))
		return 0;
	return class->world.max_pieces < 64 ? 2 : 1;
}

static void judge(const struct transition *t,
		  const struct kvm_layout_plan *plan, uint64_t pair)
{
	size_t nr_steps;
	int nr, shortest;

	kvm_layout_plan_steps(plan, &nr_steps);
	nr = nr_steps;
	/* A map is merged where that saves steps. */
	if (class->mode == KVM_LAYOUT_PARTITION && !is_by_rules(t, plan) &&
	    tally.nr_others++ < MAX_SHOWN)
		show(t, plan, pair, "a step against the rules", false);
	shortest = shorter_than(nr, rules);
	if (shortest < nr) {
		tally.nr_not_shortest++;
		if (tally.most < nr - shortest)
			tally.most = nr - shortest;
		if (nr - shortest > may_be_longer() &&
		    tally.nr_longer++ < MAX_SHOWN)
			show(t, plan, pair, "too long", true);
	} else if (shorter_than(nr, WORLD_LETTER) < nr) {
		if (!tally.nr_letter++)
			show(t, plan, pair, "shorter to the letter",
			     true);
	}
	if (pair % free_each)
		return;
	tally.nr_free++;
	shortest = shorter_than(nr, WORLD_FREE);
	if (nr - shortest < MAX_SHORTER)
		tally.shorter[nr - shortest]++;
}

static void try(uint64_t pair)
{
	const struct world_layout *from = &layouts[pair / nr_layouts];
	const struct world_layout *to = &layouts[pair % nr_layouts];
	struct kvm_userspace_memory_region slots[WORLD_MAX_PAGES];
	struct kvm_userspace_memory_region come[WORLD_MAX_PAGES];
	struct transition t = {
		.first = FIRST_NUMBER,
		.nr_ids = NR_NUMBERS,
		.ops = KVM_LAYOUT_ALL_OPS,
		.max_pieces = class->world.max_pieces,
		.mode = class->mode,
		.slots = slots,
		.come = come,
	};
	struct kvm_layout_plan *plan;
	struct kvm_layout *layout;

	if (is_needless(from, to))
		return;
	t.nr_slots = world_slots(&class->world, from, FIRST_NUMBER, slots);
	t.nr_gone = t.nr_slots;
	t.nr_come = world_slots(&class->world, to, 0, come);
	layout = transition_layout(&t);
	tally.nr_pairs++;
	if (layout && !transition_plan(&t, layout, &plan)) {
		world_search_start(found, from, to, class->mode);
		judge(&t, plan, pair);
		if (only_pair >= 0)
			show(&t, plan, pair, "this", false);
		kvm_layout_plan_free(plan);
	} else {
		tally.nr_none++;
	}
	kvm_layout_free(layout);
}

static void report(void)
{
	tap_ok(!tally.nr_none && !tally.nr_longer && !tally.nr_others,
	       "%s: plans are as short as can be by the rules, or %d longer",
	       class->what, may_be_longer());
	tap_note("%lu of %llu pairs of %zu layouts", tally.nr_pairs,
		 (unsigned long long)nr_layouts * nr_layouts, nr_layouts);
	tap_note("no plan: %lu; a step against the rules: %lu", tally.nr_none,
		 tally.nr_others);
	tap_note("longer: %lu, by %d at most", tally.nr_not_shortest,
		 tally.most);
	if (tally.nr_letter)
		tap_note("%lu could be shorter, to the letter",
			 tally.nr_letter);
	tap_note("merging what is split again would make shorter, of %lu:",
		 tally.nr_free);
	for (int i = 1; i < MAX_SHORTER; i++)
		if (tally.shorter[i])
			tap_note("%lu by %d", tally.shorter[i], i);
}

static void run(void)
{
	uint64_t all, some;

	memset(&tally, 0, sizeof(tally));
	layouts = world_layouts(&class->world, &nr_layouts);
	found = world_search_new(&class->world);
	all = (uint64_t)nr_layouts * nr_layouts;
	some = nr_pairs && nr_pairs < all ? nr_pairs : all;
	if (only_pair >= 0)
		try(only_pair % all);
	else
		for (uint64_t i = 0; i < some; i++)
			try(some == all ? i : i * STRIDE % all);
	report();
	world_search_free(found);
	free(layouts);
}

static void usage(void)
{
	fputs("usage: shortest [-n PAIRS] [-r RULES] [-u EACH] [-c CLASS]\n"
	      "                [-p PAIR]\n",
	      stderr);
	exit(2);
}

static enum world_rules rules_of(const char *text)
{
	static const char *const names[] = {
		[WORLD_PLAIN] = "plain",
		[WORLD_STRICT] = "strict",
		[WORLD_LETTER] = "letter",
	};

	for (int i = 0; i <= WORLD_LETTER; i++)
		if (!strcmp(text, names[i]))
			return i;
	usage();
	return WORLD_PLAIN;
}

int main(int argc, char **argv)
{
	int c;

	while ((c = getopt(argc, argv, "n:r:u:c:p:")) != -1) {
		if (c == 'n')
			nr_pairs = tap_number(optarg, 0, usage);
		else if (c == 'r')
			rules = rules_of(optarg);
		else if (c == 'u')
			free_each = tap_number(optarg, 1, usage);
		else if (c == 'c')
			only_class = tap_number(optarg, 0, usage);
		else if (c == 'p')
			only_pair = tap_number(optarg, 0, usage);
		else
			usage();
	}
	for (int i = 0; i < NR_CLASSES; i++) {
		class = &classes[i];
		if (only_class < 0 || only_class == i)
			run();
	}
	return tap_end();
}
