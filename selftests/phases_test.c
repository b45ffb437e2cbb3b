// SPDX-License-Identifier: GPL-2.0
/*
 * An operation stops after each of its phases, and somebody has a good look.
 *
 * Each test makes each operation stop at each place in turn (stop.h) and does there
 * what vCPUs, the host and other threads may do at any time.
 */
#include <signal.h>
#include <sys/wait.h>

#include "harness.h"

#include "kvm_util.h"
#include "processor.h"

#include "async.h"
#include "changes.h"
#include "delays.h"
#include "hammer.h"
#include "host.h"
#include "memslot_ops.h"
#include "nested.h"
#include "ops.h"
#include "probe.h"
#include "stop.h"
#include "trace.h"
#include "tracker.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE	25
#endif

#define REQUIRE_DELAYS()						\
do {									\
	REQUIRE_OP(KVM_MEMSLOT_OP_SHRINK);				\
	REQUIRE_OP(KVM_MEMSLOT_OP_SPLIT);				\
	REQUIRE_OP(KVM_MEMSLOT_OP_MERGE);				\
	REQUIRE_OP(KVM_MEMSLOT_OP_SET_READONLY);			\
	REQUIRE(delays_nr(), "the module is built without delays");	\
	REQUIRE(trace_start(), "no tracefs to tell which swap it is");	\
	delays_end();							\
	host_seed();							\
} while (0)

/* KVM's mappings go, the host's pages stay. */
static void unmap_all(char *mem)
{
	const int rw = PROT_READ | PROT_WRITE;

	/* To and fro between two that allow all that a guest may do. */
	TEST_ASSERT_EQ(mprotect(mem, CHANGE_SIZE, rw | PROT_EXEC), 0);
	TEST_ASSERT_EQ(mprotect(mem, CHANGE_SIZE, rw), 0);
}

/* ---------------------------------------------------- vCPUs that are busy */

struct busy {
	struct hammer *h;
	int dev;
	enum host_pages host_pages;
	uint64_t reach;			/* pages for all, mapped or not */
	uint64_t faults;
};

FIXTURE(busy) {
	struct busy busy;
};

FIXTURE_VARIANT(busy) {
	enum host_pages host_pages;
};

FIXTURE_VARIANT_ADD(busy, 4k)
{
	.host_pages = HOST_PAGES_4K,
};

FIXTURE_VARIANT_ADD(busy, thp)
{
	.host_pages = HOST_PAGES_THP,
};

FIXTURE_SETUP(busy)
{
	const struct hammer_config config = {
		.nr_vcpus = 2,
		.max_size = CHANGE_SIZE,
		.host_pages = variant->host_pages,
	};

	self->busy.h = NULL;
	REQUIRE_DELAYS();
	self->busy.host_pages = variant->host_pages;
	self->busy.h = hammer_create(&config);
	self->busy.dev = memslot_ops_open(hammer_vm(self->busy.h));
}

FIXTURE_TEARDOWN(busy)
{
	if (!self->busy.h)
		return;
	trace_stop();
	close(self->busy.dev);
	hammer_free(self->busy.h);
}

static void busy_before(void *arg, struct stop *s)
{
	struct busy *me = arg;
	const struct change *c = s->change;

	/* What is read-only before or after is not for those who write. */
	me->reach = c >= &changes[CHANGE_PROTECT] ? c->quiet[0] : c->stays;
	layout_create(hammer_vm(me->h), &c->before, hammer_gpa(me->h),
		      hammer_hva(me->h));
	hammer_settle(me->h, c->quiet[me->host_pages]);
	me->faults = hammer_faults(me->h);
}

static void busy_there(void *arg, struct stop *s)
{
	struct busy *me = arg;
	uint64_t faults;

	/* All that they touch is mapped, and stays so. */
	hammer_wait(me->h, 200);
	faults = hammer_faults(me->h) - me->faults;
	if (change_may_zap_all(s->change))
		stop_expect(s, !faults || s->place->zapped,
			    "%lu faults on what stays before the zap", faults);
	else
		TEST_ASSERT(!faults, "%s, %s: %lu faults on what stays",
			    s->change->name, s->place->name, faults);

	/* And where nothing is mapped. */
	unmap_all(hammer_hva(me->h));
	hammer_extend(me->h, me->reach);
	hammer_wait(me->h, 200);
}

static void busy_after(void *arg, struct stop *s)
{
	struct busy *me = arg;

	hammer_sweep(me->h, 0, me->reach, HAMMER_ALL);
	hammer_verify(me->h);
	hammer_assert_no_bad_exits(me->h);
	layout_assert(hammer_vm(me->h), &s->change->after, hammer_gpa(me->h),
		      hammer_hva(me->h));
	layout_delete(hammer_vm(me->h), &s->change->after);
}

/* vCPUs that read, write and execute what stays notice nothing. */
TEST_F(busy, vcpus_go_on)
{
	const struct stop_actions actions = { busy_before, busy_there, busy_after };

	stop_everywhere(self->busy.dev, &actions, &self->busy);
}

/* ------------------------------------------------- one access at a time */

/* About everything that is special, and something that is not. */
static const uint64_t samples[] = {
	0, 1, HUGE_PAGES - 1, HUGE_PAGES, 600, CHANGE_CUT - 1, CHANGE_CUT,
	CHANGE_CUT + 1, 2 * HUGE_PAGES - 1, 2 * HUGE_PAGES, 3 * HUGE_PAGES - 1,
	3 * HUGE_PAGES, CHANGE_PAGES - 1,
};

#define SLEEPER		1
#define NESTER		2
/* A page of the tail that SHRINK removes. */
#define TAIL		(CHANGE_CUT + 5)

struct look {
	struct probe *p;
	char *mem;
	int dev;
	enum host_pages host_pages;
	uint64_t serial;
	bool sleeps;			/* an access of the tail */
	uint64_t tail_word;
};

FIXTURE(place) {
	struct look look;
};

FIXTURE_VARIANT(place) {
	enum host_pages host_pages;
};

FIXTURE_VARIANT_ADD(place, 4k)
{
	.host_pages = HOST_PAGES_4K,
};

FIXTURE_VARIANT_ADD(place, thp)
{
	.host_pages = HOST_PAGES_THP,
};

static uint64_t gpa_of(uint64_t page)
{
	return PROBE_GPA + page * PAGE_SIZE;
}

static uint64_t *word_of(char *mem, uint64_t page)
{
	return (uint64_t *)(mem + page * PAGE_SIZE);
}

static uint64_t nr_huge(struct probe *p)
{
	return vm_stat(probe_vm(p), "pages_2m");
}

FIXTURE_SETUP(place)
{
	const struct probe_config config = {
		.nr_vcpus = 2,
		.size = CHANGE_SIZE,
	};
	const struct layout *whole = &changes[CHANGE_SPLIT].before;
	uint64_t i;

	self->look.p = NULL;
	REQUIRE_DELAYS();
	self->look.host_pages = variant->host_pages;
	self->look.sleeps = false;
	self->look.serial = 1;
	self->look.p = probe_create(&config);
	self->look.dev = memslot_ops_open(probe_vm(self->look.p));
	self->look.mem = host_map(CHANGE_SIZE, HUGE_SIZE, 0, variant->host_pages);
	for (i = 0; i < CHANGE_PAGES; i++)
		*word_of(self->look.mem, i) = i;

	layout_create(probe_vm(self->look.p), whole, PROBE_GPA, self->look.mem);
	for (i = 0; i < CHANGE_PAGES; i += HUGE_PAGES)
		probe_read(self->look.p, gpa_of(i));
	if (variant->host_pages == HOST_PAGES_THP)
		REQUIRE(nr_huge(self->look.p) == CHANGE_FRAMES,
			"the host has no huge pages");
	layout_delete(probe_vm(self->look.p), whole);
}

FIXTURE_TEARDOWN(place)
{
	if (!self->look.p)
		return;
	trace_stop();
	close(self->look.dev);
	probe_free(self->look.p);
	munmap(self->look.mem, CHANGE_SIZE);
}

/*
 * Is the page in what leaves, and has begun to, or in what comes, and has not yet? Accesses
 * may have to wait.
 */
static bool is_invalid(const struct stop *s, uint64_t page)
{
	const bool was = layout_has(&s->change->before, page);
	const bool is = layout_has(&s->change->after, page);

	return s->place->swapped ? was && !is && !s->place->vanished :
				   is && !was && s->place->admitted;
}

static const struct layout *in_force(const struct stop *s)
{
	return s->place->swapped ? &s->change->after : &s->change->before;
}

static void check_read(struct look *me, struct stop *s, uint64_t page)
{
	const bool there = layout_has(in_force(s), page);
	struct probe_result r;

	r = probe_access(me->p, 0, PROBE_READ, gpa_of(page), 0);
	TEST_ASSERT(!r.err, "%s, %s: a read of page %lu gives error %d",
		    s->change->name, s->place->name, page, r.err);
	stop_expect(s, r.nr_reads == !there,
		    "a read of page %lu came out %d times, not %d", page,
		    r.nr_reads, !there);
	if (!r.nr_reads)
		TEST_ASSERT(r.value == *word_of(me->mem, page),
			    "%s, %s: page %lu reads as %#lx, not %#lx",
			    s->change->name, s->place->name, page, r.value,
			    *word_of(me->mem, page));
}

static void check_write(struct look *me, struct stop *s, uint64_t page,
			bool may_be_late)
{
	const bool lands = layout_is_writable(in_force(s), page);
	const uint64_t value = ++me->serial << 32 | page;
	struct probe_result r;

	r = probe_access(me->p, 0, PROBE_WRITE, gpa_of(page), value);
	TEST_ASSERT(!r.err, "%s, %s: a write to page %lu gives error %d",
		    s->change->name, s->place->name, page, r.err);
	TEST_ASSERT((*word_of(me->mem, page) == value) == !r.nr_writes,
		    "%s, %s: a write to page %lu came out %d times, and memory holds %#lx, not %#lx",
		    s->change->name, s->place->name, page, r.nr_writes,
		    *word_of(me->mem, page), value);
	if (!may_be_late)
		stop_expect(s, r.nr_writes == !lands,
			    "a write to page %lu came out %d times, not %d",
			    page, r.nr_writes, !lands);
}

/*
 * The layout that is in force is met by all accesses, or, where pages may still
 * be mapped as they were, by those that have to look.
 */
static void check_samples(struct look *me, struct stop *s, bool mapped)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(samples); i++) {
		const uint64_t page = samples[i];
		const bool was = layout_is_writable(&s->change->before, page);
		const bool is = layout_is_writable(&s->change->after, page);

		if (is_invalid(s, page))
			continue;
		check_read(me, s, page);
		check_write(me, s, page, mapped && was && !is &&
			    s->place->swapped && !s->place->zapped);
	}
}

/* Does any boundary of a layout go through a frame? */
static bool is_cut(const struct layout *l, uint64_t frame)
{
	unsigned int i;

	for (i = 0; i < l->nr; i++) {
		const uint64_t first = l->slot[i].first;
		const uint64_t end = first + l->slot[i].nr;

		if ((first % HUGE_PAGES && first / HUGE_PAGES == frame) ||
		    (end % HUGE_PAGES && end / HUGE_PAGES == frame))
			return true;
	}
	return false;
}

/* May a frame be mapped huge, as far as the layouts that count are concerned? */
static bool is_whole(const struct stop *s, uint64_t frame)
{
	if (s->place->shared && (is_cut(&s->change->before, frame) ||
				 is_cut(&s->change->after, frame)))
		return false;
	return !is_cut(in_force(s), frame);
}

/* No mapping is in two slots, though nobody has touched a thing. */
static void check_cuts(struct look *me, struct stop *s)
{
	uint64_t frame, most = 0;

	/* What leaves may be mapped until it is zapped. */
	for (frame = 0; frame < CHANGE_FRAMES; frame++)
		most += is_whole(s, frame) &&
			(!s->place->zapped ||
			 layout_has(in_force(s), frame * HUGE_PAGES));
	stop_expect(s, nr_huge(me->p) <= most,
		    "%lu huge mappings, one of which is in two slots",
		    nr_huge(me->p));
}

/* All that can be touched has been, since nothing was mapped. */
static void check_huge(struct look *me, struct stop *s)
{
	uint64_t frame, want = 0, got = nr_huge(me->p);

	for (frame = 0; frame < CHANGE_FRAMES; frame++) {
		want += layout_has(in_force(s), frame * HUGE_PAGES) &&
			is_whole(s, frame);
	}
	if (me->host_pages == HOST_PAGES_4K)
		want = 0;
	stop_expect(s, got == want, "%lu huge mappings, not %lu", got, want);
}

/* Somebody writes to the tail. It may have to wait until that is gone, or there. */
static void tail_begin(struct look *me, struct stop *s)
{
	if (!is_invalid(s, TAIL))
		return;
	me->tail_word = *word_of(me->mem, TAIL);
	probe_begin(me->p, SLEEPER, PROBE_WRITE, gpa_of(TAIL), 0xdead);
	me->sleeps = true;
}

static void tail_end(struct look *me, struct stop *s)
{
	struct probe_result r;

	if (!me->sleeps)
		return;
	me->sleeps = false;
	r = probe_end(me->p, SLEEPER);
	if (layout_has(&s->change->after, TAIL)) {
		TEST_ASSERT(!r.nr_writes && !r.err && *word_of(me->mem, TAIL) == 0xdead,
			    "%s: a write to what was added came out %d times, error %d",
			    s->change->name, r.nr_writes, r.err);
		return;
	}
	TEST_ASSERT(r.nr_writes == 1 && r.data == 0xdead && !r.err,
		    "%s: a write to the tail came out %d times, the last with %#lx; error %d",
		    s->change->name, r.nr_writes, r.data, r.err);
	TEST_ASSERT(*word_of(me->mem, TAIL) == me->tail_word,
		    "%s: a write landed in a tail that nothing maps",
		    s->change->name);
}

static void place_before(void *arg, struct stop *s)
{
	struct look *me = arg;
	const struct place before = { .name = "not begun" };
	struct stop now = *s;

	layout_create(probe_vm(me->p), &s->change->before, PROBE_GPA, me->mem);
	now.place = &before;
	check_samples(me, &now, true);
	TEST_ASSERT(!now.wrong[0], "%s, not begun: %s", s->change->name,
		    now.wrong);
}

static void place_there(void *arg, struct stop *s)
{
	struct look *me = arg;

	/* As it was mapped. */
	check_cuts(me, s);
	check_samples(me, s, true);

	/* And where nothing is. */
	unmap_all(me->mem);
	tail_begin(me, s);
	check_samples(me, s, false);
	check_huge(me, s);
	if (me->sleeps)
		stop_expect(s, !probe_is_over(me->p, SLEEPER),
			    "a write to what leaves or comes did not have to wait");
}

static void place_after(void *arg, struct stop *s)
{
	struct look *me = arg;

	tail_end(me, s);
	check_cuts(me, s);
	check_samples(me, s, false);
	unmap_all(me->mem);
	check_samples(me, s, false);
	check_huge(me, s);
	layout_assert(probe_vm(me->p), &s->change->after, PROBE_GPA, me->mem);
	layout_delete(probe_vm(me->p), &s->change->after);
}

/*
 * Until the swap the old layout is what counts, and after it the new one, in
 * what is there, what may be written, and what may be mapped huge.
 */
TEST_F(place, layout_in_force)
{
	const struct stop_actions actions = { place_before, place_there, place_after };

	stop_everywhere(self->look.dev, &actions, &self->look);
}

/* -------------------------------------------------------------- the tail */

static void tail_there(void *arg, struct stop *s)
{
	struct look *me = arg;

	/* What was mapped before is out of reach from the zap on. */
	if (s->place->zapped)
		tail_begin(me, s);
	check_samples(me, s, true);
}

/* As it was mapped: nothing unmaps it but the operation. */
TEST_F(place, tail_that_was_mapped)
{
	const struct stop_actions actions = { place_before, tail_there, place_after };

	stop_one_everywhere(&changes[CHANGE_SHRINK], self->look.dev, &actions, &self->look);
}

/* ------------------------------------------------------------ host memory */

/* New pages, with new contents, in the place of some. */
static void replace_pages(struct look *me, uint64_t first, uint64_t nr)
{
	char *at = me->mem + first * PAGE_SIZE;
	uint64_t i;

	TEST_ASSERT_EQ(munmap(at, nr * PAGE_SIZE), 0);
	TEST_ASSERT(mmap(at, nr * PAGE_SIZE, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == at,
		    "cannot map pages");
	for (i = first; i < first + nr; i++)
		*word_of(me->mem, i) = ++me->serial << 32 | i;
}

static void discard_pages(struct look *me, uint64_t first, uint64_t nr)
{
	uint64_t i;

	TEST_ASSERT_EQ(madvise(me->mem + first * PAGE_SIZE, nr * PAGE_SIZE,
			       MADV_DONTNEED), 0);
	/* Some stay away until a vCPU wants them. */
	for (i = first; i < first + nr; i += 2)
		*word_of(me->mem, i) = ++me->serial << 32 | i;
}

/* The guest's pages are the host's, whatever happened to those. */
static void check_shared_view(struct look *me, struct stop *s)
{
	const struct place *p = s->place;
	uint64_t page;

	for (page = 0; page < CHANGE_PAGES; page += p == &nowhere ? 3 : 97) {
		if (is_invalid(s, page))
			continue;
		check_read(me, s, page);
		check_write(me, s, page, false);
	}
	check_samples(me, s, false);
}

static pid_t fork_idle(void)
{
	pid_t pid = fork();

	if (!pid) {
		for (;;)
			pause();
	}
	TEST_ASSERT(pid > 0, "cannot fork");
	return pid;
}

static void host_there(void *arg, struct stop *s)
{
	struct look *me = arg;
	const uint64_t cut = CHANGE_CUT;
	pid_t child;

	/* Pages of what stays, of the tail, and on both sides of the cut. */
	discard_pages(me, 10, 20);
	discard_pages(me, cut - 3, 6);
	replace_pages(me, 100, 5);
	replace_pages(me, cut - 1, 2);
	replace_pages(me, cut + 100, 5);
	replace_pages(me, 3 * HUGE_PAGES + 7, 50);
	check_samples(me, s, true);

	/* All is copied when it is written. */
	child = fork_idle();
	check_samples(me, s, true);

	madvise(me->mem, CHANGE_SIZE, MADV_PAGEOUT);
	madvise(me->mem + 2 * HUGE_SIZE, HUGE_SIZE, MADV_COLLAPSE);
	madvise(me->mem + HUGE_SIZE, HUGE_SIZE, MADV_COLLAPSE);
	unmap_all(me->mem);
	check_samples(me, s, false);
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	check_shared_view(me, s);
}

static void host_after(void *arg, struct stop *s)
{
	struct look *me = arg;
	const uint64_t first = s->change->stays;
	uint64_t i;

	check_shared_view(me, s);

	/* What has left belongs to the host alone. */
	if (s->change == &changes[CHANGE_SHRINK]) {
		replace_pages(me, first, CHANGE_PAGES - first);
		check_shared_view(me, s);
	}
	layout_assert(probe_vm(me->p), &s->change->after, PROBE_GPA, me->mem);
	layout_delete(probe_vm(me->p), &s->change->after);

	/* As large as it was, for the next. */
	madvise(me->mem, CHANGE_SIZE, MADV_DONTNEED);
	if (me->host_pages == HOST_PAGES_THP)
		madvise(me->mem, CHANGE_SIZE, MADV_HUGEPAGE);
	for (i = 0; i < CHANGE_PAGES; i++)
		*word_of(me->mem, i) = i;
}

/* The host does what it likes with the memory. */
TEST_F(place, host_memory_changes)
{
	const struct stop_actions actions = { place_before, host_there, host_after };

	stop_everywhere(self->look.dev, &actions, &self->look);
}

/* ----------------------------------------------------------- taking turns */

/* Another thread that wants to change slots of the same VM. */
struct other {
	struct async async;
	struct kvm_vm *vm;
	int dev;
	char *mem;
};

#define ELSEWHERE	(PROBE_GPA + 64 * GIGA_SIZE)
#define OTHER_SLOT	50

static int call_grow_other(void *arg)
{
	struct other *o = arg;

	return slot_grow(o->dev, OTHER_SLOT, 2 * PAGE_SIZE);
}

static int call_protect_other(void *arg)
{
	struct other *o = arg;

	return slot_set_readonly(o->dev, OTHER_SLOT + 1, true);
}

static int call_create_other(void *arg)
{
	struct other *o = arg;

	return slot_set(o->vm, OTHER_SLOT + 2, 0, ELSEWHERE + 8 * PAGE_SIZE,
			PAGE_SIZE, o->mem);
}

#define NR_OTHERS	3

static struct other others[NR_OTHERS];

static void turns_before(void *arg, struct stop *s)
{
	struct look *me = arg;
	struct kvm_vm *vm = probe_vm(me->p);
	int i;

	place_before(arg, s);
	for (i = 0; i < 2; i++)
		TEST_ASSERT_EQ(slot_set(vm, OTHER_SLOT + i, 0,
					ELSEWHERE + 4 * i * PAGE_SIZE,
					PAGE_SIZE, me->mem), 0);
}

static bool others_wait_or_gone(void *arg)
{
	struct stop *s = arg;
	int i, waiting = 0;

	for (i = 0; i < NR_OTHERS; i++)
		waiting += async_sleeps(&others[i].async);
	return waiting == NR_OTHERS || !stop_stands(s);
}

static void turns_there(void *arg, struct stop *s)
{
	static int (*const calls[NR_OTHERS])(void *arg) = {
		call_grow_other, call_protect_other, call_create_other,
	};
	struct look *me = arg;
	int i;

	for (i = 0; i < NR_OTHERS; i++) {
		others[i].vm = probe_vm(me->p);
		others[i].mem = me->mem;
		others[i].dev = me->dev;
		async_start(&others[i].async, calls[i], &others[i]);
	}
	TEST_ASSERT(host_wait(others_wait_or_gone, s), "%s, %s: others do not wait",
		    s->change->name, s->place->name);
	check_samples(me, s, true);
	for (i = 0; i < NR_OTHERS; i++)
		stop_expect(s, !others[i].async.done, "call %d did not wait", i);
}

static void turns_after(void *arg, struct stop *s)
{
	struct look *me = arg;
	struct kvm_vm *vm = probe_vm(me->p);
	int i;

	for (i = 0; i < NR_OTHERS; i++) {
		if (!others[i].async.call)
			continue;
		async_must_succeed(&others[i].async, "another slot's call");
		others[i].async.call = NULL;
		slot_assert(vm, OTHER_SLOT + i, i == 1 ? KVM_MEM_READONLY : 0,
			    ELSEWHERE + 4 * i * PAGE_SIZE,
			    (i ? 1 : 2) * PAGE_SIZE, me->mem);
	}
	for (i = 0; i < NR_OTHERS; i++)
		slot_set(vm, OTHER_SLOT + i, 0, 0, 0, NULL);
	place_after(arg, s);
}

/* Two more operations and a call of KVM's own wait until this one is through. */
TEST_F(place, others_wait_their_turn)
{
	const struct stop_actions actions = { turns_before, turns_there, turns_after };

	stop_everywhere(self->look.dev, &actions, &self->look);
}

/* ------------------------------------------------------ a first shadow root */

struct shadow {
	struct look *look;
	struct nested *nested;
	struct async run;
	bool runs;
};

static void shadow_before(void *arg, struct stop *s)
{
	const struct probe_config config = { .nr_vcpus = 2, .size = CHANGE_SIZE };
	struct shadow *me = arg;

	/* A VM has one such root, so each look takes a VM. */
	close(me->look->dev);
	probe_free(me->look->p);
	free(me->nested);
	me->look->p = probe_create(&config);
	me->look->dev = memslot_ops_open(probe_vm(me->look->p));
	me->nested = nested_add(probe_vm(me->look->p), NESTER, 0);
	s->dev = me->look->dev;
	place_before(me->look, s);
}

static bool run_is_over(void *arg)
{
	return ((struct shadow *)arg)->run.done;
}

static void shadow_there(void *arg, struct stop *s)
{
	struct shadow *me = arg;

	async_start(&me->run, nested_run, me->nested);
	me->runs = true;
	/* From prepare to the swap it has to wait for the operation, else it does not. */
	if (s->place->swapped || s->place->coming)
		TEST_ASSERT(host_wait(run_is_over, me), "L2 hangs");
	check_samples(me->look, s, true);
	unmap_all(me->look->mem);
	tail_begin(me->look, s);
	check_samples(me->look, s, false);
}

static void shadow_after(void *arg, struct stop *s)
{
	struct shadow *me = arg;
	struct look *look = me->look;
	int err;

	if (!me->runs)
		async_start(&me->run, nested_run, me->nested);
	TEST_ASSERT(!async_join(&me->run), "L2 does not run");
	me->runs = false;

	tail_end(look, s);
	check_samples(look, s, false);
	nested_run(me->nested);
	unmap_all(look->mem);
	check_samples(look, s, false);

	/* What is there now has all that KVM takes for granted. */
	err = slot_shrink(look->dev, CHANGE_SLOT, PAGE_SIZE, NULL);
	TEST_ASSERT(!err, "SHRINK after the first shadow root: %s",
		    strerror(err));
	layout_delete(probe_vm(look->p), &s->change->after);
	nested_run(me->nested);
}

/* Another vCPU makes it, there or as soon as it can. */
TEST_F(place, first_shadow_root)
{
	const struct stop_actions actions = {
		shadow_before, shadow_there, shadow_after,
	};
	struct shadow me = { .look = &self->look };

	REQUIRE(nested_is_possible(), "no nested SVM");
	REQUIRE(host_has_tdp_mmu(), "without the TDP MMU all roots are shadow roots");
	stop_everywhere(self->look.dev, &actions, &me);
	free(me.nested);
}

/* ------------------------------------------- somebody who tracks page writes */

/* A page that stays, and may be written throughout. */
#define TRACKED		20

struct visit {
	struct probe *p;
	char *mem;
	int dev, tracker;
	struct async attach;
	bool again;			/* the VM has had a tracker before */
	bool tracks;
};

FIXTURE(tracker) {
	struct visit visit;
};

FIXTURE_VARIANT(tracker) {
	enum host_pages host_pages;
	bool again;
};

/* KVM makes the arrays that trackers need when the first one attaches. */
FIXTURE_VARIANT_ADD(tracker, first)
{
	.host_pages = HOST_PAGES_4K,
};

FIXTURE_VARIANT_ADD(tracker, again)
{
	.host_pages = HOST_PAGES_THP,
	.again = true,
};

static void visit_leave(struct visit *me)
{
	if (!me->p)
		return;
	close(me->tracker);
	close(me->dev);
	probe_free(me->p);
	me->p = NULL;
}

FIXTURE_SETUP(tracker)
{
	self->visit.mem = NULL;
	self->visit.p = NULL;
	REQUIRE_DELAYS();
	REQUIRE(tracker_possible(), "page_tracker.ko is not loaded");
	self->visit.again = variant->again;
	self->visit.mem = host_map(CHANGE_SIZE, HUGE_SIZE, 0,
				   variant->host_pages);
	memset(self->visit.mem, 0, CHANGE_SIZE);
}

FIXTURE_TEARDOWN(tracker)
{
	if (!self->visit.mem)
		return;
	trace_stop();
	visit_leave(&self->visit);
	munmap(self->visit.mem, CHANGE_SIZE);
}

static void visit_before(void *arg, struct stop *s)
{
	const struct probe_config config = {
		.nr_vcpus = 1,
		.size = CHANGE_SIZE,
	};
	struct visit *me = arg;

	visit_leave(me);
	me->tracks = false;
	me->p = probe_create(&config);
	me->tracker = tracker_open(probe_vm(me->p));
	me->dev = memslot_ops_open(probe_vm(me->p));
	s->dev = me->dev;
	layout_create(probe_vm(me->p), &s->change->before, PROBE_GPA, me->mem);
	if (me->again) {
		tracker_attach(me->tracker);
		tracker_detach(me->tracker);
	}
	probe_write(me->p, gpa_of(TRACKED), 1);
}

static bool is_attached_or_waits(void *arg)
{
	struct visit *me = arg;

	return me->attach.done ||
	       (async_sleeps(&me->attach) &&
		async_stands_in(&me->attach, "kvm_page_track_register_notifier"));
}

/* The tracker sees a write if the page is tracked, and no other. */
static void check_sight(struct visit *me, struct stop *s, bool tracked)
{
	uint64_t was = tracker_news(me->tracker).nr_writes, seen;

	probe_write(me->p, gpa_of(TRACKED), was + 2);
	probe_write(me->p, gpa_of(TRACKED + 1), was + 2);
	seen = tracker_news(me->tracker).nr_writes - was;
	TEST_ASSERT(seen == tracked, "%s, %s: the tracker sees %lu writes, not %d",
		    s->change->name, s->place->name, seen, tracked);
}

static void visit_begin(struct visit *me, struct stop *s)
{
	TEST_ASSERT(!me->attach.err, "%s, %s: the tracker cannot attach: %s",
		    s->change->name, s->place->name, strerror(me->attach.err));
	tracker_add(me->tracker, gpa_of(TRACKED));
	me->tracks = true;
	check_sight(me, s, true);
}

static void visit_there(void *arg, struct stop *s)
{
	struct visit *me = arg;

	async_start(&me->attach, tracker_call_attach, &me->tracker);
	TEST_ASSERT(host_wait(is_attached_or_waits, me), "the tracker hangs");
	/* The first may have to wait for the swap. */
	if (!me->attach.done && !s->place->swapped)
		return;
	async_join(&me->attach);
	visit_begin(me, s);
	if (!s->place->shared && !s->place->swapped)
		s->err = EBUSY;
}

static void visit_after(void *arg, struct stop *s)
{
	const struct layout *now = s->op.err ? &s->change->before :
					       &s->change->after;
	struct visit *me = arg;

	if (!me->tracks) {
		async_join(&me->attach);
		visit_begin(me, s);
	}
	layout_assert(probe_vm(me->p), now, PROBE_GPA, me->mem);
	check_sight(me, s, true);
	unmap_all(me->mem);
	check_sight(me, s, true);
	TEST_ASSERT_EQ(slot_shrink(me->dev, CHANGE_SLOT, PAGE_SIZE, NULL), EBUSY);
	tracker_remove(me->tracker, gpa_of(TRACKED));
	check_sight(me, s, false);
}

/*
 * One attaches there, or as soon as it can. If that is before the operation has
 * looked for the last time, it is refused.
 */
TEST_F(tracker, attaches)
{
	const struct stop_actions actions = { visit_before, visit_there, visit_after };

	stop_everywhere(-1, &actions, &self->visit);
}

TEST_HARNESS_MAIN
