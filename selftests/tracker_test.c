// SPDX-License-Identifier: GPL-2.0
/*
 * External page-write trackers, as KVMGT is one: while one is attached to the VM,
 * operations are refused; what it tracks is not lost by those that are made
 * before and after; and it may come at any time, also while one is made.
 *
 * The tracker is modules/page_tracker.c.
 */
#include "harness.h"

#include "kvm_util.h"
#include "processor.h"

#include "async.h"
#include "changes.h"
#include "memslot_ops.h"
#include "ops.h"
#include "probe.h"
#include "trace.h"
#include "tracker.h"

#define SLEEPER	1

/* --------------------------------------------------------------- the scene */

/* A VM with the layout that a change begins with, and its tracker. */
struct scene {
	struct probe *p;
	char *mem;
	int dev, tracker;
	/* The change's, or those with logged writes. */
	struct layout before, after;
};

static uint64_t gpa_of(uint64_t page)
{
	return PROBE_GPA + page * PAGE_SIZE;
}

static uint64_t *word_of(struct scene *s, uint64_t page)
{
	return (uint64_t *)(s->mem + page * PAGE_SIZE);
}

static void log_writes(struct layout *l)
{
	unsigned int i;

	for (i = 0; i < l->nr; i++)
		l->slot[i].flags |= KVM_MEM_LOG_DIRTY_PAGES;
}

static void scene_create(struct scene *s, const struct change *c,
			 enum host_pages host_pages, bool logged)
{
	const struct probe_config config = {
		.nr_vcpus = 2,
		.size = CHANGE_SIZE,
	};
	uint64_t i;

	s->p = probe_create(&config);
	s->dev = memslot_ops_open(probe_vm(s->p));
	s->tracker = tracker_open(probe_vm(s->p));
	s->mem = host_map(CHANGE_SIZE, HUGE_SIZE, 0, host_pages);
	for (i = 0; i < CHANGE_PAGES; i++)
		*word_of(s, i) = i;
	s->before = c->before;
	s->after = c->after;
	if (logged) {
		log_writes(&s->before);
		log_writes(&s->after);
	}
	layout_create(probe_vm(s->p), &s->before, PROBE_GPA, s->mem);
}

static void scene_free(struct scene *s)
{
	close(s->tracker);
	close(s->dev);
	probe_free(s->p);
	munmap(s->mem, CHANGE_SIZE);
}

static bool in_both(struct scene *s, uint64_t page)
{
	return layout_is_writable(&s->before, page) &&
	       layout_is_writable(&s->after, page);
}

/* About all that is special, and something that is not. */
static const uint64_t samples[] = {
	0, 1, 77, HUGE_PAGES - 1, HUGE_PAGES, CHANGE_CUT - 1, CHANGE_CUT,
	CHANGE_CUT + 1, 2 * HUGE_PAGES - 1, 2 * HUGE_PAGES, 3 * HUGE_PAGES - 1,
	3 * HUGE_PAGES, CHANGE_PAGES - 1,
};

#define NR_SAMPLES	ARRAY_SIZE(samples)

/* A write by vCPU 0 of something new, which the tracker sees, or does not. */
static void check_write(struct scene *s, uint64_t page, bool tracked,
			const char *when)
{
	static uint64_t serial;
	const uint64_t value = ++serial << 32 | page;
	struct page_tracker_news was = tracker_news(s->tracker), is;

	probe_write(s->p, gpa_of(page), value);
	TEST_ASSERT(*word_of(s, page) == value,
		    "%s: a write to page %lu is lost", when, page);
	is = tracker_news(s->tracker);
	TEST_ASSERT(is.nr_writes == was.nr_writes + tracked,
		    "%s: the tracker sees %llu writes where %d is to be seen, to page %lu",
		    when, is.nr_writes - was.nr_writes, tracked, page);
	if (tracked)
		TEST_ASSERT(is.gpa == gpa_of(page) && is.data == value &&
			    is.len == sizeof(value),
			    "%s: the tracker sees %#llx at %#llx, %llu bytes, not %#lx at %#lx",
			    when, is.data, is.gpa, is.len, value, gpa_of(page));
}

#define REQUIRE_TRACKER()						\
do {									\
	REQUIRE_ALL_OPS();						\
	REQUIRE(tracker_possible(), "page_tracker.ko is not loaded");	\
} while (0)

FIXTURE(tracker) {
	struct scene scene;
};

FIXTURE_VARIANT(tracker) {
	enum host_pages host_pages;
	bool logged;
};

FIXTURE_VARIANT_ADD(tracker, 4k)
{
	.host_pages = HOST_PAGES_4K,
};

FIXTURE_VARIANT_ADD(tracker, thp)
{
	.host_pages = HOST_PAGES_THP,
};

FIXTURE_VARIANT_ADD(tracker, 4k_logged)
{
	.host_pages = HOST_PAGES_4K,
	.logged = true,
};

FIXTURE_SETUP(tracker)
{
	REQUIRE_TRACKER();
}

FIXTURE_TEARDOWN(tracker)
{
}

/* ---------------------------------------------------------- while attached */

/* Fails the test unless exactly the samples that can be written are logged. */
static void check_log(struct scene *s, const char *name)
{
	uint64_t log[CHANGE_PAGES / 64], page;
	const struct model_slot *slot;
	unsigned int i;
	bool want;

	for (slot = s->before.slot; slot < s->before.slot + s->before.nr; slot++) {
		memset(log, 0, sizeof(log));
		kvm_vm_get_dirty_log(probe_vm(s->p), slot->id, log);
		for (page = 0; page < slot->nr; page++) {
			want = false;
			for (i = 0; i < NR_SAMPLES; i++)
				want |= samples[i] == slot->first + page;
			want &= !(slot->flags & KVM_MEM_READONLY);
			TEST_ASSERT(!(log[page / 64] & 1UL << page % 64) == !want,
				    "%s: page %lu of slot %u %s in the log",
				    name, page, slot->id, want ? "is not" : "is");
		}
	}
}

static void write_samples(struct scene *s, const struct layout *l)
{
	unsigned int i;

	for (i = 0; i < NR_SAMPLES; i++) {
		if (layout_is_writable(l, samples[i]))
			check_write(s, samples[i], false, "not tracked");
	}
}

/* Refused, and nobody notices that it was asked for; done when the tracker is gone. */
TEST_F(tracker, refused_while_attached)
{
	struct scene *s = &self->scene;
	uint64_t faults, huge, failed;
	const struct change *c;
	int err, round;

	for (c = changes; c < changes + NR_CHANGES; c++) {
		scene_create(s, c, variant->host_pages, variant->logged);
		write_samples(s, &s->before);
		for (round = 0; round < 2; round++) {
			tracker_attach(s->tracker);
			faults = probe_faults(s->p);
			huge = vm_stat(probe_vm(s->p), "pages_2m");
			failed = memslot_ops_stat(s->dev, KVM_MEMSLOT_STAT_FAILED);

			err = change_make(s->dev, c);
			TEST_ASSERT(err == EBUSY, "%s: %s, not EBUSY", c->name,
				    strerror(err));
			TEST_ASSERT_EQ(memslot_ops_stat(s->dev,
							KVM_MEMSLOT_STAT_FAILED),
				       failed + 1);
			TEST_ASSERT_EQ(memslot_ops_stat(s->dev,
							KVM_MEMSLOT_STAT_OPS), 0);
			TEST_ASSERT_EQ(memslot_ops_stat(s->dev,
							KVM_MEMSLOT_STAT_SWAPS), 0);

			write_samples(s, &s->before);
			TEST_ASSERT(probe_faults(s->p) == faults,
				    "%s, refused, costs %lu faults", c->name,
				    probe_faults(s->p) - faults);
			TEST_ASSERT_EQ(vm_stat(probe_vm(s->p), "pages_2m"), huge);
			layout_assert(probe_vm(s->p), &s->before, PROBE_GPA,
				      s->mem);
			tracker_detach(s->tracker);
		}
		if (variant->logged)
			check_log(s, c->name);

		err = change_make(s->dev, c);
		TEST_ASSERT(!err, "%s when the tracker has gone: %s", c->name,
			    strerror(err));
		layout_assert(probe_vm(s->p), &s->after, PROBE_GPA, s->mem);
		write_samples(s, &s->after);
		scene_free(s);
	}
}

/* The other one of two is as good a reason. */
TEST_F(tracker, refused_while_one_of_two_is_attached)
{
	struct scene *s = &self->scene;
	const struct change *c;
	int second, err;

	for (c = changes; c < changes + NR_CHANGES; c++) {
		scene_create(s, c, variant->host_pages, variant->logged);
		second = tracker_open(probe_vm(s->p));
		tracker_attach(s->tracker);
		tracker_attach(second);
		tracker_detach(s->tracker);
		err = change_make(s->dev, c);
		TEST_ASSERT(err == EBUSY, "%s: %s, not EBUSY", c->name,
			    strerror(err));
		/* It goes with its file. */
		close(second);
		TEST_ASSERT_EQ(change_make(s->dev, c), 0);
		layout_assert(probe_vm(s->p), &s->after, PROBE_GPA, s->mem);
		scene_free(s);
	}
}

/* A tracker of one VM is nobody's business in another. */
TEST_F(tracker, of_another_vm)
{
	struct kvm_vm *other = vm_create_barebones();
	int tracker = tracker_open(other);
	struct scene *s = &self->scene;
	const struct change *c;

	tracker_attach(tracker);
	for (c = changes; c < changes + NR_CHANGES; c++) {
		scene_create(s, c, variant->host_pages, variant->logged);
		TEST_ASSERT_EQ(change_make(s->dev, c), 0);
		scene_free(s);
	}
	close(tracker);
	kvm_vm_free(other);
}

/* ------------------------------------------------------- what it has tracked */

/* KVM's mappings go, the host's pages stay. */
static void unmap_all(char *mem)
{
	const int rw = PROT_READ | PROT_WRITE;

	TEST_ASSERT_EQ(mprotect(mem, CHANGE_SIZE, rw | PROT_EXEC), 0);
	TEST_ASSERT_EQ(mprotect(mem, CHANGE_SIZE, rw), 0);
}

static void check_samples(struct scene *s, bool tracked, const char *when)
{
	unsigned int i;

	for (i = 0; i < NR_SAMPLES; i++) {
		if (in_both(s, samples[i]))
			check_write(s, samples[i], tracked, when);
	}
	/* A neighbour, which may have been mapped huge. */
	check_write(s, 5, false, when);
}

/*
 * A tracker leaves without a word about the pages that it tracks. KVM keeps their
 * counts, so operations do: who comes back finds each as it was. Were one lost,
 * KVM would complain when it is taken back.
 */
TEST_F(tracker, counts_stay)
{
	struct scene *s = &self->scene;
	const struct change *c;
	unsigned int i, times;
	uint64_t huge;

	for (c = changes; c < changes + NR_CHANGES; c++) {
		scene_create(s, c, variant->host_pages, variant->logged);
		tracker_attach(s->tracker);
		/* All that is there, once or twice; some of it will not stay. */
		for (i = 0; i < NR_SAMPLES; i++) {
			if (!layout_has(&s->before, samples[i]))
				continue;
			for (times = 0; times <= i % 2; times++)
				tracker_add(s->tracker, gpa_of(samples[i]));
		}
		check_samples(s, true, "before");
		tracker_detach(s->tracker);
		check_samples(s, false, "nobody looks");

		TEST_ASSERT_EQ(change_make(s->dev, c), 0);

		check_samples(s, false, "nobody looks afterwards");
		tracker_attach(s->tracker);
		check_samples(s, true, c->name);
		unmap_all(s->mem);
		check_samples(s, true, c->name);

		/* As often as it was tracked, and no more. */
		for (i = 1; i < NR_SAMPLES; i += 2) {
			if (layout_has(&s->before, samples[i]) &&
			    layout_has(&s->after, samples[i]))
				tracker_remove(s->tracker, gpa_of(samples[i]));
		}
		check_samples(s, true, "still tracked");
		for (i = 0; i < NR_SAMPLES; i++) {
			if (layout_has(&s->before, samples[i]) &&
			    layout_has(&s->after, samples[i]))
				tracker_remove(s->tracker, gpa_of(samples[i]));
		}
		check_samples(s, false, "not tracked any more");
		tracker_detach(s->tracker);

		/* No count against a huge mapping is left in a frame that nobody cuts. */
		unmap_all(s->mem);
		check_write(s, 5, false, "huge");
		huge = vm_stat(probe_vm(s->p), "pages_2m");
		TEST_ASSERT(huge == (variant->host_pages == HOST_PAGES_THP),
			    "%s: %lu huge mappings of the first frame", c->name,
			    huge);
		layout_assert(probe_vm(s->p), &s->after, PROBE_GPA, s->mem);
		scene_free(s);
	}
}

/* -------------------------------------------------- while an operation is made */

/* The page of the fault that sleeps, and some that are tracked meanwhile. */
#define HELD		10
#define KNOWN		20
#define UNKNOWN		21

FIXTURE(arrival) {
	struct scene scene;
	int uffd;
};

FIXTURE_VARIANT(arrival) {
	enum host_pages host_pages;
	bool again;			/* it has been there before */
	bool leaves;			/* without waiting for the end */
};

FIXTURE_VARIANT_ADD(arrival, first_4k)
{
	.host_pages = HOST_PAGES_4K,
};

FIXTURE_VARIANT_ADD(arrival, first_thp)
{
	.host_pages = HOST_PAGES_THP,
};

FIXTURE_VARIANT_ADD(arrival, again_4k)
{
	.host_pages = HOST_PAGES_4K,
	.again = true,
};

FIXTURE_VARIANT_ADD(arrival, again_thp)
{
	.host_pages = HOST_PAGES_THP,
	.again = true,
};

FIXTURE_VARIANT_ADD(arrival, first_and_gone)
{
	.host_pages = HOST_PAGES_4K,
	.leaves = true,
};

FIXTURE_VARIANT_ADD(arrival, again_and_gone)
{
	.host_pages = HOST_PAGES_4K,
	.again = true,
	.leaves = true,
};

FIXTURE_SETUP(arrival)
{
	REQUIRE_TRACKER();
	self->uffd = uffd_open();
	REQUIRE(self->uffd >= 0, "no userfaultfd");
	REQUIRE(trace_start(), "no tracefs to tell when an operation has swapped");
}

FIXTURE_TEARDOWN(arrival)
{
	trace_stop();
	close(self->uffd);
}

/*
 * It comes between the swap and the end of the wait, with a vCPU's write asleep
 * through the old slot. What it tracks from then on it sees, be it that write.
 */
TEST_F(arrival, while_an_operation_waits)
{
	struct change_call call;
	struct scene *s = &self->scene;
	struct async op, attach;
	struct page_tracker_news was, is;
	struct probe_result result;
	bool tells;
	char *held;
	unsigned int i;

	for (call.change = changes; call.change < changes + NR_CHANGES;
	     call.change++) {
		const char *name = call.change->name;

		/* It gives up when a tracker comes while it waits, see late_fault_test. */
		if (call.change == &changes[CHANGE_GROW])
			continue;
		scene_create(s, call.change, variant->host_pages, false);
		call.dev = s->dev;
		held = (char *)word_of(s, HELD);
		if (variant->again) {
			tracker_attach(s->tracker);
			tracker_add(s->tracker, gpa_of(KNOWN));
			tracker_detach(s->tracker);
		}
		write_samples(s, &s->before);
		TEST_ASSERT_EQ(madvise(held, PAGE_SIZE, MADV_DONTNEED), 0);
		TEST_ASSERT(uffd_hold(self->uffd, held, PAGE_SIZE, false),
			    "no userfaultfd of the memory");
		probe_begin(s->p, SLEEPER, PROBE_WRITE, gpa_of(HELD), 0x1234);
		uffd_wait_for_fault(self->uffd, held);

		trace_start();
		async_start(&op, change_call, &call);
		async_wait_for_swap(&op, 1);

		async_start(&attach, tracker_call_attach, &s->tracker);
		TEST_ASSERT(host_wait(async_is_done, &attach),
			    "%s: a tracker cannot attach", name);
		TEST_ASSERT_EQ(async_join(&attach), 0);
		if (!variant->again)
			tracker_add(s->tracker, gpa_of(KNOWN));
		tracker_add(s->tracker, gpa_of(HELD));
		for (i = 0; i < NR_SAMPLES; i++) {
			/* The tail too. */
			if (layout_has(&s->before, samples[i]) ||
			    layout_has(&s->after, samples[i]))
				tracker_add(s->tracker, gpa_of(samples[i]));
		}
		check_write(s, KNOWN, true, name);
		check_write(s, UNKNOWN, false, name);
		for (i = 0; i < NR_SAMPLES; i++) {
			if (layout_is_writable(&s->after, samples[i]))
				check_write(s, samples[i], true, name);
		}
		if (variant->leaves)
			tracker_detach(s->tracker);
		TEST_ASSERT(!op.done && !probe_is_over(s->p, SLEEPER),
			    "%s: somebody did not wait", name);

		was = tracker_news(s->tracker);
		uffd_resolve(self->uffd, held, false, 0);
		result = probe_end(s->p, SLEEPER);
		TEST_ASSERT(!result.nr_writes && !result.err,
			    "%s: the write came out: %d times as MMIO, error %d",
			    name, result.nr_writes, result.err);
		async_must_succeed(&op, name);
		uffd_release(self->uffd, held, PAGE_SIZE);
		is = tracker_news(s->tracker);
		TEST_ASSERT(is.nr_writes == was.nr_writes + !variant->leaves,
			    "%s: the tracker saw %llu writes of one that slept",
			    name, is.nr_writes - was.nr_writes);
		TEST_ASSERT_EQ(*word_of(s, HELD), 0x1234);

		/* What a SHRINK takes away is told to those who are there. */
		tells = !variant->leaves &&
			call.change == &changes[CHANGE_SHRINK];
		TEST_ASSERT(is.nr_removals == tells,
			    "%s: the tracker is told of %llu slots that were removed",
			    name, is.nr_removals);
		if (tells) {
			TEST_ASSERT_EQ(is.gfn, gpa_of(CHANGE_CUT) / PAGE_SIZE);
			TEST_ASSERT_EQ(is.nr_pages, CHANGE_PAGES - CHANGE_CUT);
		}

		/* It stays, or comes back, and sees what it did. */
		if (variant->leaves)
			tracker_attach(s->tracker);
		TEST_ASSERT_EQ(slot_shrink(s->dev, CHANGE_SLOT, PAGE_SIZE, NULL),
			       EBUSY);
		layout_assert(probe_vm(s->p), &s->after, PROBE_GPA, s->mem);
		check_write(s, KNOWN, true, name);
		check_write(s, HELD, true, name);
		check_write(s, UNKNOWN, false, name);
		unmap_all(s->mem);
		for (i = 0; i < NR_SAMPLES; i++) {
			if (layout_is_writable(&s->after, samples[i]))
				check_write(s, samples[i], true, name);
			if (layout_has(&s->after, samples[i]))
				tracker_remove(s->tracker, gpa_of(samples[i]));
		}
		tracker_remove(s->tracker, gpa_of(KNOWN));
		tracker_remove(s->tracker, gpa_of(HELD));
		check_write(s, KNOWN, false, name);
		check_write(s, HELD, false, name);
		check_samples(s, false, name);
		tracker_detach(s->tracker);

		/* The slots are ordinary ones. */
		TEST_ASSERT_EQ(slot_shrink(s->dev, CHANGE_SLOT, PAGE_SIZE, NULL),
			       0);
		layout_delete(probe_vm(s->p), &s->after);
		scene_free(s);
	}
}

/* ---------------------------------------------------------- again and again */

/* One comes and goes, and takes back what it tracks before or after it goes. */
struct guest_of_honour {
	struct scene *s;
	struct async async;
	atomic_bool stop;
	atomic_ulong changes;		/* that were made */
	uint64_t visits;
};

struct sight {
	struct guest_of_honour *g;
	uint64_t nr_writes;
};

static bool has_seen_one(void *arg)
{
	struct sight *sight = arg;

	return tracker_news(sight->g->s->tracker).nr_writes > sight->nr_writes;
}

static int come_and_go(void *arg)
{
	struct guest_of_honour *g = arg;
	struct sight sight = { .g = g };
	unsigned long changes;

	while (!g->stop) {
		changes = g->changes;
		tracker_attach(g->s->tracker);
		sight.nr_writes = tracker_news(g->s->tracker).nr_writes;
		tracker_add(g->s->tracker, gpa_of(KNOWN));
		TEST_ASSERT(host_wait(has_seen_one, &sight),
			    "the tracker does not see writes");
		if (g->visits % 2)
			tracker_remove(g->s->tracker, gpa_of(KNOWN));
		tracker_detach(g->s->tracker);
		if (!(g->visits % 2))
			tracker_remove(g->s->tracker, gpa_of(KNOWN));
		g->visits++;
		/* Else it could be there whenever somebody looks. */
		while (!g->stop && g->changes == changes)
			usleep(100);
	}
	return 0;
}

#define ROUNDS	10

/* Each operation is done in the end, and refused until then. */
static void change_until_done(struct scene *s, const struct change *c,
			      uint64_t *refused)
{
	int err;

	while ((err = change_make(s->dev, c))) {
		TEST_ASSERT(err == EBUSY, "%s: %s", c->name, strerror(err));
		++*refused;
	}
	layout_assert(probe_vm(s->p), &c->after, PROBE_GPA, s->mem);
}

static void change_in_circles(struct scene *s, const int *circle,
			      uint64_t *refused)
{
	const uint64_t ops = memslot_ops_stat(s->dev, KVM_MEMSLOT_STAT_OPS);
	struct guest_of_honour guest = { .s = s };
	uint64_t done = 0;
	const int *which;

	probe_loop(s->p, 0, PROBE_WRITE, gpa_of(0), CHANGE_CUT);
	probe_loop(s->p, 1, PROBE_READ, gpa_of(0), CHANGE_CUT);
	probe_wait(s->p, 1);
	async_start(&guest.async, come_and_go, &guest);
	/* Until both have happened often enough. */
	while (done < ROUNDS || guest.visits < ROUNDS) {
		for (which = circle; *which >= 0; which++) {
			change_until_done(s, &changes[*which], refused);
			guest.changes++;
		}
		done++;
	}
	guest.stop = true;
	async_join(&guest.async);
	probe_wait(s->p, 1);
	probe_stop(s->p);
	TEST_ASSERT_EQ(probe_exits(s->p).reads + probe_exits(s->p).writes, 0);
	TEST_ASSERT_EQ(memslot_ops_stat(s->dev, KVM_MEMSLOT_STAT_OPS),
		       ops + done * (which - circle));
	ksft_print_msg("%lu visits, %lu rounds\n", guest.visits, done);
	check_write(s, KNOWN, false, "it has gone");
}

TEST(comes_and_goes)
{
	const int sizes[] = {
		CHANGE_GROW, CHANGE_SPLIT, CHANGE_MERGE, CHANGE_SHRINK, -1,
	};
	const int toggles[] = { CHANGE_PROTECT, CHANGE_UNPROTECT, -1 };
	enum host_pages host_pages;
	uint64_t refused;
	struct scene s;

	REQUIRE_TRACKER();
	for (host_pages = HOST_PAGES_4K; host_pages <= HOST_PAGES_THP;
	     host_pages++) {
		refused = 0;
		scene_create(&s, &changes[CHANGE_GROW], host_pages, false);
		change_in_circles(&s, sizes, &refused);
		layout_delete(probe_vm(s.p), &changes[CHANGE_GROW].before);
		layout_create(probe_vm(s.p), &changes[CHANGE_PROTECT].before,
			      PROBE_GPA, s.mem);
		change_in_circles(&s, toggles, &refused);
		TEST_ASSERT(refused, "no operation was refused");
		TEST_ASSERT_EQ(memslot_ops_stat(s.dev, KVM_MEMSLOT_STAT_FAILED),
			       refused);
		scene_free(&s);
	}
}

TEST_HARNESS_MAIN
