// SPDX-License-Identifier: GPL-2.0
/*
 * Random operations on the slots of a range of guest memory, of which vCPUs
 * use every page all the time, on a host that does to the memory behind it
 * whatever hosts do.
 *
 * For each page there is a rule that says whether a guest access must reach
 * memory, may, or must never. A rule is relaxed just before an operation that
 * changes what becomes of the page, and is strict again right after. An access
 * that saw the same rule before and after it is held to it; so pages that an
 * operation leaves alone are under a strict rule all the while.
 *
 *	-s SEED		repeats the operations of a run
 *	-n OPS		how many operations
 *	-t SECONDS	how long, if no number is given (20)
 *	-v VCPUS	1 to 4 (2)
 *	-b BACKING	4k, thp (default) or hugetlb
 *	-q		no noise from the host
 *	-k		a control: only what KVM can do by itself
 */
#include <getopt.h>
#include <sys/mman.h>
#include <time.h>

#include "kvm_util.h"
#include "processor.h"

#include "chooser.h"
#include "history.h"
#include "host.h"
#include "host_noise.h"
#include "memslot_ops.h"
#include "notes.h"
#include "pages.h"
#include "tally.h"
#include "touchers.h"

#define FIRST_SLOT	2
#define RANGE_FRAMES	12
#define RANGE		(RANGE_FRAMES * HUGE_SIZE)
#define NR_PAGES	(RANGE / PAGE_SIZE)
/* With a multiple of 1 GiB inside. */
#define RANGE_GPA	(5 * GIGA_SIZE - 5 * HUGE_SIZE)
/* Where a slot is moved to, and back from. */
#define PARK_GPA	(32 * GIGA_SIZE)

/* Pages whose contents the host throws away as it likes. */
#define SCRATCH_FIRST	(7 * HUGE_PAGES)
#define SCRATCH_NR	(2 * HUGE_PAGES)

/* ---------------------------------------------------------- the options */

enum backing {
	BACKING_4K,
	BACKING_THP,
	BACKING_HUGETLB,
};

static struct {
	uint64_t nr_ops;
	uint64_t seconds;
	int nr_vcpus;
	enum backing backing;
	bool quiet;
	bool control;
	/* The seed decides on these: */
	bool guest_4k;
	size_t misaligned;
	bool eager_split;
} opt = {
	.seconds = 20,
	.nr_vcpus = 2,
	.backing = BACKING_THP,
};

static void print_setup(void)
{
	static const char * const backings[] = { "4k", "thp", "hugetlb" };

	ksft_print_msg("options: -s %s -v %d -b %s\n", getenv("SEED"),
		       opt.nr_vcpus, backings[opt.backing]);
	ksft_print_msg("guest pages of %s, host address misaligned by %#zx, eager_page_split=%c\n",
		       opt.guest_4k ? "4k" : "2m", opt.misaligned,
		       opt.eager_split ? 'Y' : 'N');
}

/* ----------------------------------------------------- the state of it all */

static struct kvm_vm *vm;
static char *mem;
static struct range range;
static struct chooser chooser;
/* What the chooser keeps. */
static struct layout *const layout = &chooser.layout;

static struct counter nr_huge;
static uint64_t most_huge;

/* ------------------------------------------------- pages leave and arrive */

/* Pages are about to leave. */
static void begin_leaving(uint64_t first, uint64_t nr, uint32_t flags)
{
	touchers_relax_rules(first, nr, flags);
	touchers_wait_fetches(first, nr);
}

/* They have left, and are put to another use at once. */
static void end_leaving(uint64_t first, uint64_t nr, uint32_t flags)
{
	touchers_set_rules(first, nr, false, flags);
	pages_take(first, nr);
}

static void begin_arriving(uint64_t first, uint64_t nr, uint32_t flags)
{
	pages_give(first, nr);
	pages_log_forget(first, nr);
	touchers_relax_rules(first, nr, flags);
}

/*
 * As begin_arriving(), but with nobody there: where KVM itself makes a slot, an
 * access that found none shortly before may replace what another one has mapped
 * since. GROW has a grace period against that. KVM has none: up to 6.12 it
 * flushes no TLB then, and a page can be written to that the host has taken
 * back; from 6.18 on it warns.
 */
static void begin_arriving_unseen(uint64_t first, uint64_t nr, uint32_t flags)
{
	begin_arriving(first, nr, flags);
	touchers_shun(first, nr);
}

/* ---------------------------------------------------------- the operations */

/* Often one next to a 2 MiB boundary. */
static uint64_t random_page(const struct model_slot *slot, uint64_t low, uint64_t high)
{
	uint64_t page = host_random_between(low, high);

	switch (host_random() % 4) {
	case 0:
		return page;
	case 1:
		page = align_up(page, HUGE_PAGES);
		break;
	case 2:
		page = align_up(page, HUGE_PAGES) + host_random_between(0, 4) - 2;
		break;
	default:
		page = low + host_random() % 8;
	}
	return page >= low && page <= high ? page :
					     host_random_between(low, high);
}

/* Let there be memory, mostly. */
static bool allows(const struct chooser *c, const struct step *s, void *arg)
{
	return s->kind != STEP_SHRINK || host_one_in(4) ||
	       layout_nr_present(&c->layout) >= NR_PAGES / 2;
}

static struct chooser chooser = {
	.layout = {
		.nr_pages = NR_PAGES,
		.first_id = FIRST_SLOT,
	},
	.weight = {
		[STEP_GROW] = 20,
		[STEP_SHRINK] = 20,
		[STEP_SPLIT] = 15,
		[STEP_MERGE] = 20,
		[STEP_SET_READONLY] = 16,
		[STEP_INVALID] = 10,
		[STEP_CREATE] = 12,
		[STEP_DELETE] = 3,
		[STEP_AWAY] = 2,
		[STEP_LOG] = 20,
	},
	.max_slots = LAYOUT_MAX_SLOTS,
	.max_cuts = 7,
	.park_gpa = PARK_GPA,
	.page = random_page,
	.allows = allows,
};

static void relax_for(const struct step *s)
{
	switch (s->effect) {
	case STEP_BRINGS:
		if (s->kind == STEP_GROW)
			begin_arriving(s->first, s->nr_pages, s->flags);
		else
			begin_arriving_unseen(s->first, s->nr_pages, s->flags);
		break;
	case STEP_TAKES:
		begin_leaving(s->first, s->nr_pages, s->flags);
		break;
	case STEP_CHANGES_WRITES:
		touchers_relax_writes(s->first, s->nr_pages);
		break;
	default:
		break;
	}
}

static void settle_after(const struct step *s)
{
	switch (s->effect) {
	case STEP_TAKES:
		end_leaving(s->first, s->nr_pages, s->flags);
		break;
	case STEP_BRINGS:
	case STEP_CHANGES_WRITES:
		touchers_set_rules(s->first, s->nr_pages, true, s->flags);
		break;
	default:
		break;
	}
}

/* The pages around a boundary. */
static void set_hot_around(uint64_t page)
{
	touchers_set_hot(page < 8 ? 0 : page - 8, 16);
}

static void set_hot_for(const struct step *s)
{
	if (s->effect == STEP_CHANGES_WRITES)
		touchers_set_hot(s->first, host_one_in(2) ? s->nr_pages : 16);
	else if (s->kind != STEP_INVALID)
		set_hot_around(s->place);
}

static void make(const struct step *s)
{
	uint64_t bitmap[NR_PAGES / 64];
	int err;

	history_add("%s", s->text);
	set_hot_for(s);
	relax_for(s);
	err = step_make(&range, s, bitmap);
	settle_after(s);
	history_result(err);
	chooser_made(&chooser, s, err);
	if (s->kind == STEP_SHRINK && s->wants_bitmap)
		pages_log_check(s->first, s->nr_pages, bitmap);
	step_assert(&range, layout, s);
}

static void make_move(const struct step *away)
{
	struct step back;

	make(away);
	touchers_wait(host_random() % 50);
	step_back(&back, away);
	make(&back);
}

static void read_log(const struct model_slot *s, bool check)
{
	uint64_t bitmap[NR_PAGES / 64];

	kvm_vm_get_dirty_log(vm, s->id, bitmap);
	if (check)
		pages_log_check(s->first, s->nr, bitmap);
	pages_log_forget(s->first, s->nr);
}

static bool can_change(const struct model_slot *s)
{
	return !(s->flags & chooser.fixed_flags);
}

/*
 * Cuts slot @i in the middle of a huge frame, if there is one in it, and
 * returns which slot to log then: if a huge mapping survived the cut, writes on
 * one side of it go unlogged once there was one on the other side.
 */
static unsigned int cut_huge_frame(unsigned int i)
{
	const struct model_slot *s = &layout->slot[i];
	uint64_t first = align_up(s->first, HUGE_PAGES), at;
	uint64_t frames = align_down(s->first + s->nr, HUGE_PAGES) / HUGE_PAGES;
	struct step cut;

	if (opt.control || !can_change(s) || layout->nr == LAYOUT_MAX_SLOTS ||
	    frames <= first / HUGE_PAGES)
		return i;

	frames -= first / HUGE_PAGES;
	first += host_random() % frames * HUGE_PAGES;
	touchers_set_hot(first, HUGE_PAGES);
	touchers_wait(50);
	at = first + host_random_between(1, HUGE_PAGES - 1);
	step_split(&cut, layout, i, 1, &at);
	make(&cut);
	return i + host_random() % 2;
}

/* Begins to log writes to a slot, reads its log, or ends that. */
static void make_log(struct step *s)
{
	unsigned int i = layout_find(layout, s->slot.first) - layout->slot;
	bool logging;

	if (host_one_in(2))
		step_log(s, layout, cut_huge_frame(i));
	logging = s->slot.flags & KVM_MEM_LOG_DIRTY_PAGES;

	touchers_pause();
	if (logging)
		read_log(&s->slot, true);
	if (!logging || can_change(&s->slot) || !host_one_in(4))
		make(s);
	if (!logging)
		read_log(&s->slot, false);
	touchers_resume();

	set_hot_around(s->first + (host_one_in(2) ? 0 : s->nr_pages));
	touchers_wait(100);
	step_assert(&range, layout, s);
}

/* ------------------------------------------------------------------ main */

static void run_step(void)
{
	struct step s;

	chooser_next(&chooser, &s);
	switch (s.kind) {
	case STEP_AWAY:
		make_move(&s);
		break;
	case STEP_LOG:
		make_log(&s);
		break;
	default:
		/* Where it is to be refused, all must stay: no rule is relaxed. */
		make(&s);
	}
	chooser_assert_stats(&chooser, range.dev);
}

static void check_all(void)
{
	touchers_pause();
	most_huge = max(most_huge, counter_read(&nr_huge));
	pages_check();
	layout_assert_all(&range, layout);
	touchers_resume();
}

static uint64_t run_steps(void)
{
	struct timespec start;
	uint64_t n = 0;

	clock_gettime(CLOCK_MONOTONIC, &start);
	while (opt.nr_ops ? n < opt.nr_ops : host_seconds_since(&start) < opt.seconds) {
		run_step();
		if (!host_one_in(4))
			touchers_wait(host_random() % 200);
		if (!(++n % 32))
			check_all();
	}
	check_all();
	return n;
}

static void make_memory(void)
{
	size_t offset = RANGE_GPA % GIGA_SIZE + opt.misaligned;

	if (opt.backing == BACKING_HUGETLB) {
		mem = mmap(NULL, RANGE, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
		if (mem == MAP_FAILED)
			ksft_exit_skip("no huge pages\n");
	} else {
		mem = host_map(RANGE, GIGA_SIZE, offset,
			       opt.backing == BACKING_THP ? HOST_PAGES_THP :
							    HOST_PAGES_4K);
	}
}

static void prepare_touchers(void)
{
	const struct touchers_config config = {
		.nr_vcpus = opt.nr_vcpus,
		.gpa = RANGE_GPA,
		.nr = NR_PAGES,
		.guest_4k = opt.guest_4k,
		.scratch_first = SCRATCH_FIRST,
		.scratch_nr = SCRATCH_NR,
	};

	touchers_init(vm, &config);
}

static void prepare_pages(void)
{
	const struct pages_config config = {
		.mem = mem,
		.gpa = RANGE_GPA,
		.nr = NR_PAGES,
		.scratch_first = SCRATCH_FIRST,
		.scratch_nr = SCRATCH_NR,
		.granule = opt.backing == BACKING_4K ? 1 : HUGE_PAGES,
		.thp = opt.backing == BACKING_THP,
		.hugetlb = opt.backing == BACKING_HUGETLB,
		.nr_vcpus = opt.nr_vcpus,
		.counter = touchers_counters(),
	};

	pages_init(&config);
}

static void prepare_chooser(void)
{
	int kind;

	chooser_ask(&chooser, range.dev);
	if (!(chooser.features & KVM_MEMSLOT_FEATURE_DIRTY_BITMAP))
		chooser.fixed_flags = KVM_MEM_LOG_DIRTY_PAGES;
	for (kind = 0; opt.control && kind <= STEP_INVALID; kind++)
		chooser.weight[kind] = 0;
}

static void make_vm(void)
{
	vm = notes_vm_create(opt.nr_vcpus);
	prepare_touchers();

	range = (struct range) {
		.vm = vm,
		.dev = memslot_ops_open(vm),
		.gpa = RANGE_GPA,
		.mem = mem,
	};
	prepare_pages();
	prepare_chooser();
	nr_huge = counter_open(vm_get_stats_fd(vm), "pages_2m");

	touchers_add_vcpus(vm);
}

static void print_numbers(uint64_t n, double seconds)
{
	const struct touchers_sums sums = touchers_sums();

	tally_promises(sums.touches - sums.changing);
	ksft_print_msg("%lu steps in %.0f seconds:%s\n", n, seconds,
		       chooser_summary(&chooser));
	ksft_print_msg("%lu touches, %lu of them amid a change, %lu exits, <= %lu huge mappings\n",
		       sums.touches, sums.changing, sums.exits, most_huge);
	tally_print();
	TEST_ASSERT(sums.touches && sums.exits, "the vCPUs did nothing");
}

static void choose_by_seed(void)
{
	opt.guest_4k = host_one_in(2);
	/* Splitting huge mappings early hides what goes wrong with them. */
	opt.eager_split = host_one_in(2);
	host_set(HOST_EAGER_SPLIT, opt.eager_split ? "Y" : "N");
	if (opt.backing != BACKING_HUGETLB && host_one_in(4))
		opt.misaligned = host_random_between(1, 600) * PAGE_SIZE;
	print_setup();
}

static void start_noise(void)
{
	const struct noise_config config = {
		.mem = mem,
		.size = RANGE,
		.scratch = mem + SCRATCH_FIRST * PAGE_SIZE,
		.scratch_size = SCRATCH_NR * PAGE_SIZE,
		.granule = opt.backing == BACKING_HUGETLB ? HUGE_SIZE :
							    PAGE_SIZE,
		.thp = opt.backing == BACKING_THP,
		.hugetlb = opt.backing == BACKING_HUGETLB,
		.seed = host_random(),
		.own = pages_noise,
	};

	if (!opt.quiet)
		noise_start(&config);
}

static void run_test(void)
{
	struct timespec start;
	double seconds;
	uint64_t n;

	choose_by_seed();
	make_memory();
	make_vm();
	start_noise();
	touchers_start();

	clock_gettime(CLOCK_MONOTONIC, &start);
	n = run_steps();
	seconds = host_seconds_since(&start);

	touchers_stop();
	host_restore();
	if (!opt.quiet) {
		noise_stop();
		noise_print();
	}
	print_numbers(n, seconds);
	close(range.dev);
	kvm_vm_free(vm);
}

static enum backing backing_named(const char *name)
{
	if (!strcmp(name, "4k"))
		return BACKING_4K;
	if (!strcmp(name, "thp"))
		return BACKING_THP;
	if (!strcmp(name, "hugetlb"))
		return BACKING_HUGETLB;
	ksft_exit_fail_msg("no backing is called %s\n", name);
}

static void parse_options(int argc, char *argv[])
{
	int c;

	while ((c = getopt(argc, argv, "s:n:t:v:b:qk")) != -1) {
		switch (c) {
		case 's':
			setenv("SEED", optarg, 1);
			break;
		case 'n':
			opt.nr_ops = strtoull(optarg, NULL, 0);
			break;
		case 't':
			opt.seconds = strtoull(optarg, NULL, 0);
			break;
		case 'v':
			opt.nr_vcpus = atoi(optarg);
			break;
		case 'b':
			opt.backing = backing_named(optarg);
			break;
		case 'q':
			opt.quiet = true;
			break;
		case 'k':
			opt.control = true;
			break;
		default:
			ksft_exit_fail_msg("see the source for the options\n");
		}
	}
	if (opt.nr_vcpus < 1 || opt.nr_vcpus > PAGES_MAX_VCPUS)
		ksft_exit_fail_msg("1 to %d vCPUs\n", PAGES_MAX_VCPUS);
}

int main(int argc, char *argv[])
{
	setlinebuf(stdout);
	ksft_print_header();
	ksft_set_plan(1);
	parse_options(argc, argv);

	if (!memslot_ops_present() ||
	    !memslot_ops_has(KVM_MEMSLOT_OP_SET_READONLY))
		ksft_exit_skip("the module is not loaded, or lacks operations\n");
	if (opt.backing == BACKING_HUGETLB)
		host_write("/proc/sys/vm/nr_hugepages", "32");

	history_begin("stress", layout, print_setup);
	run_test();
	history_end(true);
	ksft_finished();
}
