// SPDX-License-Identifier: GPL-2.0
/*
 * Live migrations of a guest whose memory changes its slots all the while.
 *
 * The proof that no write is lost or goes unlogged is an oracle, not a comparison
 * of logs. vCPUs write increasing numbers to random pages; the VMM keeps a copy
 * of the memory, as the destination of a migration would. At each harvest of the
 * dirty log, every page that differs from the copy must have been named since it
 * was copied: a page that differs and was not named is a lost write. While vCPUs
 * run, this is asked of all writes that were over before the harvest began; while
 * they are out of KVM, of every byte.
 *
 *	-s SEED		repeats the operations of a run
 *	-n MIGRATIONS	how many (25)
 *	-t SECONDS	how long, in place of a number
 *	-m MODE		plain, manual, init (manual, initially set), ring or
 *			ring_bitmap
 *	-v VCPUS	1 to 4 (2)
 *	-o OPS		operations in a round (about 8)
 *	-q		faults do not sleep
 *	-k		a control: no operations
 *	-x N		forget every Nth page that the log names, on average, and
 *			succeed if that is noticed: shows that the test can fail
 */
#include <getopt.h>
#include <time.h>

#include "kvm_util.h"
#include "processor.h"

#include "chooser.h"
#include "delays.h"
#include "destination.h"
#include "dirty_log.h"
#include "history.h"
#include "host.h"
#include "memslot_ops.h"
#include "notes.h"
#include "sleeper.h"
#include "tally.h"
#include "writers.h"

#define FIRST_SLOT	2
/* Neither whole words of a bitmap nor whole huge pages. */
#define NR_PAGES	917
#define RANGE		(NR_PAGES * PAGE_SIZE)
#define RANGE_GPA	(4 * GIGA_SIZE + 37 * PAGE_SIZE)

#define BITMAP_WORDS	DIV_ROUND_UP(NR_PAGES, 64)
#define NR_ROUNDS	5

/* ---------------------------------------------------------- the options */

static struct {
	uint64_t nr_migrations;
	uint64_t seconds;
	int nr_vcpus;
	uint64_t nr_ops;
	enum dirty_log_mode mode;
	bool quiet;
	bool control;
	uint64_t forget;
	/* The seed decides on these: */
	bool thp;
	bool eager_split;
} opt = {
	.nr_migrations = 25,
	.nr_vcpus = 2,
	.nr_ops = 8,
};

static bool uses_ring(void)
{
	return dirty_log_has_rings(opt.mode);
}

/* ----------------------------------------------------- the state of it all */

static struct kvm_vm *vm;
static char *mem;
static struct range range;
static struct chooser chooser;
/* What the chooser keeps. */
static struct layout *const layout = &chooser.layout;

/* What was done. */
static struct {
	uint64_t migrations, rounds, harvests, late_resets, delayed;
} nr;

/* ------------------------------------------------- what is said of a failure */

static void print_setup(void)
{
	ksft_print_msg("options: -s %s -m %s -v %d -o %lu%s%s; %s pages, eager_page_split=%c\n",
		       getenv("SEED"), dirty_log_mode_names[opt.mode], opt.nr_vcpus,
		       opt.nr_ops,
		       opt.quiet ? " -q" : "", opt.control ? " -k" : "",
		       opt.thp ? "huge" : "small", opt.eager_split ? 'Y' : 'N');
}

static void lost_write(void)
{
	if (!opt.forget)
		exit(KSFT_FAIL);
	history_end(true);
	/* Without a wait for vCPUs that may be in the middle of anything. */
	_exit(KSFT_PASS);
}

/* ------------------------------------------------------------- harvesting */

static bool collecting;

static void some_ops(uint64_t n);

/*
 * Learns which pages are dirty, and lets KVM log the next write to them. Where
 * these are two steps, there may be operations in between. False where a harvest
 * is under way already.
 */
static bool harvest(void)
{
	if (collecting)
		return false;
	collecting = true;
	nr.harvests++;
	destination_before_harvest();
	dirty_log_get();
	destination_after_harvest();

	if (opt.mode != DIRTY_LOG_PLAIN && host_one_in(2)) {
		some_ops(host_random_between(1, 2));
		nr.late_resets++;
	}
	dirty_log_clear();
	if (uses_ring())
		writers_rings_reset();
	collecting = false;
	return true;
}

/* ---------------------------------------------------------- the operations */

/* Often one whose bit is near the end of a word. */
static uint64_t random_page(const struct model_slot *slot, uint64_t low, uint64_t high)
{
	uint64_t page = host_random_between(low, high);
	uint64_t start = slot ? slot->first : low;

	switch (host_random() % 4) {
	case 0:
		page = start + align_down(page - start, 64) +
		       host_random_between(0, 4);
		page -= min(page, 2UL);
		break;
	case 1:
		page = host_one_in(2) ? low + host_random() % 8 :
					high - host_random() % 8;
		break;
	default:
		return page;
	}
	return page >= low && page <= high ? page :
					     host_random_between(low, high);
}

/* Let there be memory, and most of it be writable. */
static bool allows(const struct chooser *c, const struct step *s, void *arg)
{
	switch (s->kind) {
	case STEP_SHRINK:
		return layout_nr_present(layout) >= NR_PAGES * 3 / 4 &&
		       (s->size || (layout->nr > 1 && s->nr_pages < 200));
	case STEP_SET_READONLY:
		return !s->readonly || s->effect == STEP_CHANGES_NOTHING ||
		       layout_nr_readonly(layout) + s->nr_pages <= NR_PAGES / 6;
	default:
		return true;
	}
}

static struct chooser chooser = {
	.layout = {
		.nr_pages = NR_PAGES,
		.first_id = FIRST_SLOT,
	},
	.weight = {
		[STEP_GROW] = 24,
		[STEP_SHRINK] = 20,
		[STEP_SPLIT] = 14,
		[STEP_MERGE] = 24,
		[STEP_SET_READONLY] = 14,
		[STEP_INVALID] = 4,
		[STEP_CREATE] = 8,
	},
	.max_slots = 35,
	.max_cuts = 5,
	.shrinks_there = true,
	.page = random_page,
	.allows = allows,
};

/* What was written until then can be asked for at once. */
static void take_what_is_readonly(const struct step *s)
{
	if (!dirty_log_is_on() || uses_ring() || host_one_in(2))
		return;
	dirty_log_get_slot(layout_find(layout, s->first));
	destination_check_still(s->first, s->nr_pages, "after SET_READONLY");
	if (!collecting)
		dirty_log_clear();
}

static void make(struct step *s)
{
	uint64_t bitmap[BITMAP_WORDS];
	int err;

	if (s->kind == STEP_SHRINK)
		s->wants_bitmap = dirty_log_is_on() && !uses_ring() &&
				  !host_one_in(8);
	history_add("%s%s", s->text, s->wants_bitmap ? ", with bitmap" : "");
	sleeper_wake();
	memset(bitmap, 0xff, sizeof(bitmap));
	writers_crowd_around(s->place);
	err = step_make(&range, s, bitmap);
	chooser_made(&chooser, s, err);

	/* What is named from here on is named by the new layout. */
	switch (s->effect) {
	case STEP_BRINGS:
		dirty_log_pages_arrive(s->first, s->nr_pages);
		break;
	case STEP_TAKES:
		dirty_log_take_tail(s->first, s->nr_pages,
				    s->wants_bitmap ? bitmap : NULL);
		destination_check_still(s->first, s->nr_pages, "after SHRINK");
		break;
	case STEP_CHANGES_WRITES:
		if (s->readonly)
			take_what_is_readonly(s);
		break;
	default:
		break;
	}
}

static void some_ops(uint64_t n)
{
	struct step s;

	while (n--) {
		if (!opt.control) {
			chooser_next(&chooser, &s);
			make(&s);
		}
		writers_wait(host_random() % 60);
	}
}

/* -------------------------------------------------- delays of the module */

#define NR_PHASES	8

/* Of a debug build only: draws one of the phases out, or none. */
static void set_delays(void)
{
	unsigned int phase = host_random() % (2 * NR_PHASES);
	unsigned int ms = host_random_between(1, 8);

	if (!delays_nr())
		return;
	if (phase >= NR_PHASES) {
		delays_end();
		return;
	}
	history_add("a delay of %u ms after phase %u", ms, phase);
	delays_set(phase, ms);
	nr.delayed++;
}

/* ------------------------------------------------------------ migrations */

static void set_log_flags(uint32_t flag)
{
	struct step s;
	unsigned int i;

	dirty_log_turn(flag);
	chooser.create_flags = flag;
	for (i = 0; i < layout->nr; i++) {
		step_log(&s, layout, i);
		chooser_made(&chooser, &s, step_make(&range, &s, NULL));
		dirty_log_pages_arrive(s.first, s.nr_pages);
	}
}

static void begin_logging(void)
{
	history_add("begin migration %lu", nr.migrations);
	/* What is said while logging begins is not enough for a copy. */
	dirty_log_name_all();
	set_log_flags(KVM_MEM_LOG_DIRTY_PAGES);
	if (opt.mode == DIRTY_LOG_INIT) {
		dirty_log_get();
		dirty_log_clear();
	}
	if (uses_ring())
		harvest();
	destination_copy();
}

static void end_logging(void)
{
	set_log_flags(0);
	history_add("end migration %lu", nr.migrations);
	/* Entries of before name slots that are about to be other ones. */
	if (uses_ring())
		harvest();
}

static void do_round(void)
{
	history_add("round %lu", nr.rounds);
	some_ops(host_random_between(opt.nr_ops / 2, opt.nr_ops));
	harvest();
	destination_copy();

	some_ops(host_random_between(0, opt.nr_ops / 2));
	writers_pause();
	harvest();
	destination_check_still(0, NR_PAGES, "while vCPUs are paused");
	destination_copy();
	nr.rounds++;
}

static void migrate(void)
{
	int round;

	set_delays();
	some_ops(host_random_between(0, 5));
	begin_logging();
	for (round = 0; round < NR_ROUNDS; round++) {
		do_round();
		if (round + 1 < NR_ROUNDS)
			writers_resume();
	}
	destination_check_all();
	if (!opt.control)
		chooser_assert_stats(&chooser, range.dev);
	layout_assert_all(&range, layout);
	end_logging();
	nr.migrations++;
	writers_resume();
}

/* ------------------------------------------------------------------ main */

static void make_slots(void)
{
	uint64_t first = 0, n;
	struct step s;

	while (first < NR_PAGES) {
		struct model_slot slot = {
			.id = layout_free_id(layout),
			.first = first,
		};

		n = host_random_between(1, NR_PAGES / 2);
		slot.nr = min(n, NR_PAGES - first);
		step_create(&s, &slot);
		chooser_made(&chooser, &s, step_make(&range, &s, NULL));
		first += slot.nr;
	}
}

static void make_vm(void)
{
	int i;

	vm = notes_vm_create(opt.nr_vcpus);
	dirty_log_init(&(struct dirty_log_config) {
		.vm = vm,
		.mode = opt.mode,
		.layout = layout,
		.forget = opt.forget,
	});
	writers_init(&(struct writers_config) {
		.vm = vm,
		.gpa = RANGE_GPA,
		.nr_pages = NR_PAGES,
		.harvest = harvest,
	});

	mem = host_map(RANGE, HUGE_SIZE, RANGE_GPA % HUGE_SIZE,
		       opt.thp ? HOST_PAGES_THP : HOST_PAGES_4K);
	memset(mem, 0, RANGE);
	destination_init(&(struct destination_config) {
		.mem = mem,
		.gpa = RANGE_GPA,
		.layout = layout,
		.lost = lost_write,
	});
	range = (struct range) {
		.vm = vm,
		.dev = opt.control ? -1 : memslot_ops_open(vm),
		.gpa = RANGE_GPA,
		.mem = mem,
	};
	make_slots();
	if (!opt.control)
		chooser_ask(&chooser, range.dev);

	for (i = 0; i < opt.nr_vcpus; i++)
		dirty_log_add_vcpu(writers_add());
}

static void print_numbers(double seconds)
{
	struct writers_numbers n;

	ksft_print_msg("%lu migrations of %d rounds, %.0f s; %lu harvests, %lu late; %lu pages\n",
		       nr.migrations, NR_ROUNDS, seconds, nr.harvests,
		       nr.late_resets, destination_nr_copied());
	ksft_print_msg("%lu steps:%s; phases were drawn out in %lu migrations\n",
		       chooser_nr_made(&chooser), chooser_summary(&chooser), nr.delayed);

	writers_count(&n);
	ksft_print_msg("%lu writes%s (%lu refused); %lu went to no memory; %lu slept\n",
		       n.writes, n.ways, n.refused, n.exits, sleeper_nr());
	if (uses_ring())
		ksft_print_msg("a ring was full %lu times; %lu entries of tails\n",
			       n.fulls, dirty_log_nr_tail_entries());
	tally_print();
	TEST_ASSERT(n.writes && destination_nr_copied(), "the vCPUs did nothing");
}

static void choose_by_seed(void)
{
	opt.thp = host_random() & 1;
	/* Splitting huge mappings early hides what goes wrong with them. */
	opt.eager_split = host_random() & 1;
	host_set(HOST_EAGER_SPLIT, opt.eager_split ? "Y" : "N");
	print_setup();
}

static void run_test(void)
{
	struct timespec start;

	choose_by_seed();
	make_vm();
	if (!sleeper_start(mem, NR_PAGES, writers_crowd(), !opt.quiet)) {
		ksft_print_msg("no userfaultfd: faults do not sleep\n");
		opt.quiet = true;
	}
	writers_start();

	clock_gettime(CLOCK_MONOTONIC, &start);
	while (opt.seconds ? host_seconds_since(&start) < opt.seconds :
			     nr.migrations < opt.nr_migrations)
		migrate();
	print_numbers(host_seconds_since(&start));

	writers_stop();
	host_restore();
	sleeper_stop();
	delays_end();
	if (range.dev >= 0)
		close(range.dev);
	kvm_vm_free(vm);
}

static enum dirty_log_mode mode_named(const char *name)
{
	int i;

	for (i = 0; i < NR_DIRTY_LOG_MODES; i++) {
		if (!strcmp(name, dirty_log_mode_names[i]))
			return i;
	}
	ksft_exit_fail_msg("no mode is called %s\n", name);
}

static void parse_options(int argc, char *argv[])
{
	int c;

	while ((c = getopt(argc, argv, "s:n:t:m:v:o:qkx:")) != -1) {
		switch (c) {
		case 's':
			setenv("SEED", optarg, 1);
			break;
		case 'n':
			opt.nr_migrations = strtoull(optarg, NULL, 0);
			break;
		case 't':
			opt.seconds = strtoull(optarg, NULL, 0);
			break;
		case 'm':
			opt.mode = mode_named(optarg);
			break;
		case 'v':
			opt.nr_vcpus = atoi(optarg);
			break;
		case 'o':
			opt.nr_ops = strtoul(optarg, NULL, 0);
			break;
		case 'q':
			opt.quiet = true;
			break;
		case 'k':
			opt.control = true;
			break;
		case 'x':
			opt.forget = strtoull(optarg, NULL, 0);
			break;
		default:
			ksft_exit_fail_msg("see the source for the options\n");
		}
	}
	if (opt.nr_vcpus < 1 || opt.nr_vcpus > WRITERS_MAX)
		ksft_exit_fail_msg("1 to %d vCPUs\n", WRITERS_MAX);
}

static void skip_what_is_not_there(void)
{
	if (opt.mode == DIRTY_LOG_RING_BITMAP &&
	    !kvm_has_cap(KVM_CAP_DIRTY_LOG_RING_WITH_BITMAP))
		ksft_exit_skip("this KVM has no rings with bitmaps\n");
	if (uses_ring() && !kvm_has_cap(KVM_CAP_DIRTY_LOG_RING_ACQ_REL))
		ksft_exit_skip("this KVM has no dirty rings\n");
	if (opt.control)
		return;
	if (!memslot_ops_present() ||
	    !memslot_ops_has(KVM_MEMSLOT_OP_SET_READONLY))
		ksft_exit_skip("the module is not loaded, or lacks operations\n");
	if (!memslot_ops_has_feature(uses_ring() ? KVM_MEMSLOT_FEATURE_DIRTY_RING :
						   KVM_MEMSLOT_FEATURE_DIRTY_BITMAP))
		ksft_exit_skip("the module does not handle dirty logs of this mode\n");
}

int main(int argc, char *argv[])
{
	setlinebuf(stdout);
	ksft_print_header();
	ksft_set_plan(1);
	parse_options(argc, argv);
	skip_what_is_not_there();

	history_begin("migration", layout, print_setup);
	run_test();
	if (opt.forget) {
		ksft_print_msg("nobody noticed that pages were forgotten\n");
		exit(KSFT_FAIL);
	}
	history_end(true);
	ksft_finished();
}
