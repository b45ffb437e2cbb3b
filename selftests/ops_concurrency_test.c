// SPDX-License-Identifier: GPL-2.0
/*
 * Operations by several threads, through two devices of one VM, beside KVM's own
 * changes of slots.
 *
 * Each thread has a lane of guest memory to itself, and knows at any time what
 * its slots must be.  One lane is everybody's: there nobody knows who wins, but
 * all of it stays mapped, reads never come out, and in the end each slot is one
 * range.
 */
#include "harness.h"

#include "kvm_util.h"
#include "processor.h"

#include "async.h"
#include "memslot_ops.h"
#include "ops.h"
#include "probe.h"
#include "xorshift.h"

#define NR_THREADS	4
#define ROUNDS		30
#define LANE_PAGES	(2 * HUGE_PAGES)
#define LANE		(LANE_PAGES * PAGE_SIZE)
/* The shared lane is the first. */
#define RANGE		((1 + NR_THREADS) * LANE)
/* Numbers of its slots; what KVM is asked to make and delete uses them, too. */
#define SHARED_SLOT	PROBE_SLOT
#define NR_SHARED	12
/* Each thread has some of its own. */
#define OWN_SLOT	100
#define NR_OWN		8
/* Where nothing else is. */
#define ELSEWHERE	(PROBE_GPA + 64 * GIGA_SIZE)

FIXTURE(concurrency) {
	struct probe *p;
	char *mem;
	int dev[2];
};

FIXTURE_VARIANT(concurrency) {
	enum host_pages host_pages;
	int nr_devices;
	bool unrest;
};

FIXTURE_VARIANT_ADD(concurrency, one_device_4k)
{
	.host_pages = HOST_PAGES_4K,
	.nr_devices = 1,
};

FIXTURE_VARIANT_ADD(concurrency, two_devices_thp)
{
	.host_pages = HOST_PAGES_THP,
	.nr_devices = 2,
};

/* The host changes the memory's protection all the time. */
FIXTURE_VARIANT_ADD(concurrency, unrest)
{
	.host_pages = HOST_PAGES_THP,
	.nr_devices = 2,
	.unrest = true,
};

FIXTURE_SETUP(concurrency)
{
	const struct probe_config config = {
		.nr_vcpus = 3,
		.size = RANGE,
	};
	uint64_t i;

	self->p = NULL;
	REQUIRE_ALL_OPS();
	host_seed();
	self->p = probe_create(&config);
	self->dev[0] = memslot_ops_open(probe_vm(self->p));
	self->dev[1] = variant->nr_devices > 1 ?
		       memslot_ops_open(probe_vm(self->p)) : dup(self->dev[0]);
	self->mem = host_map(RANGE, HUGE_SIZE, 0, variant->host_pages);
	for (i = 0; i < RANGE / PAGE_SIZE; i++)
		*(uint64_t *)(self->mem + i * PAGE_SIZE) = i;
	TEST_ASSERT_EQ(slot_set(probe_vm(self->p), SHARED_SLOT, 0, PROBE_GPA,
				LANE, self->mem), 0);
}

FIXTURE_TEARDOWN(concurrency)
{
	if (!self->p)
		return;
	close(self->dev[0]);
	close(self->dev[1]);
	probe_free(self->p);
	munmap(self->mem, RANGE);
}

struct player {
	struct async async;
	struct kvm_vm *vm;
	int dev, id;
	char *mem;			/* of the shared lane */
	uint64_t seed;
	/* What was asked for; toggles may have been nothing. */
	uint64_t ops, toggles, resizes, failed;
};

/* host_random() is for one thread. */
static uint64_t draw(struct player *t, uint64_t low, uint64_t high)
{
	return low + xorshift(&t->seed) % (high - low + 1);
}

/* ----------------------------------------------------------- a lane of one's own */

struct lane {
	uint64_t gpa;
	char *mem;
	uint32_t slot;
	uint64_t pages;			/* 0: no slot */
	bool readonly;
};

static void must(struct player *t, int err, const char *what)
{
	TEST_ASSERT(!err, "thread %d: %s fails: %s", t->id, what, strerror(err));
}

static uint32_t lane_flags(const struct lane *l)
{
	return l->readonly ? KVM_MEM_READONLY : 0;
}

static void lane_assert(struct player *t, const struct lane *l)
{
	if (l->pages)
		slot_assert(t->vm, l->slot, lane_flags(l), l->gpa,
			    l->pages * PAGE_SIZE, l->mem);
}

/* Into pieces, changes to some of them, and together again. */
static void lane_pieces(struct player *t, struct lane *l)
{
	struct kvm_memslot_cut cuts[NR_OWN - 1] = {};
	uint32_t numbers[NR_OWN - 1];
	uint64_t page = 0, end;
	int nr, i;

	for (nr = 0; nr < NR_OWN - 1; nr++) {
		page += draw(t, 1, 200);
		if (page >= l->pages)
			break;
		cuts[nr].offset = page * PAGE_SIZE;
		cuts[nr].slot = l->slot + 1 + nr;
		numbers[nr] = cuts[nr].slot;
	}
	if (!nr)
		return;
	must(t, slot_split(t->dev, l->slot, nr, cuts), "SPLIT");
	t->ops++;

	i = draw(t, 0, nr - 1);
	must(t, slot_set_readonly(t->dev, numbers[i], !l->readonly),
	     "SET_READONLY of a piece");
	must(t, slot_set_readonly(t->dev, numbers[i], l->readonly),
	     "SET_READONLY of a piece, undone");
	t->ops += 2;
	for (i = 0; i < nr; i++) {
		end = i + 1 < nr ? cuts[i + 1].offset : l->pages * PAGE_SIZE;
		slot_assert(t->vm, numbers[i], lane_flags(l),
			    l->gpa + cuts[i].offset, end - cuts[i].offset,
			    l->mem + cuts[i].offset);
	}
	must(t, slot_merge(t->dev, l->slot, nr, numbers), "MERGE");
	t->ops++;
}

static void lane_log(struct player *t, struct lane *l)
{
	uint64_t log[LANE_PAGES / 64];
	struct kvm_dirty_log get = {
		.slot = l->slot,
		.dirty_bitmap = log,
	};

	must(t, slot_set(t->vm, l->slot, lane_flags(l) | KVM_MEM_LOG_DIRTY_PAGES,
			 l->gpa, l->pages * PAGE_SIZE, l->mem), "logging");
	must(t, __vm_ioctl(t->vm, KVM_GET_DIRTY_LOG, &get) ? errno : 0,
	     "KVM_GET_DIRTY_LOG");
	must(t, slot_set(t->vm, l->slot, lane_flags(l), l->gpa,
			 l->pages * PAGE_SIZE, l->mem), "logging no more");
}

static void lane_step(struct player *t, struct lane *l)
{
	uint64_t pages;

	if (!l->pages) {
		l->pages = draw(t, 1, LANE_PAGES);
		l->readonly = draw(t, 0, 1);
		must(t, slot_set(t->vm, l->slot, lane_flags(l), l->gpa,
				 l->pages * PAGE_SIZE, l->mem), "creation");
		return;
	}

	switch (draw(t, 0, 6)) {
	case 0:
		if (l->pages == LANE_PAGES)
			break;
		l->pages = draw(t, l->pages + 1, LANE_PAGES);
		must(t, slot_grow(t->dev, l->slot, l->pages * PAGE_SIZE),
		     "GROW");
		t->ops++;
		t->resizes++;
		break;
	case 1:
		pages = draw(t, 0, l->pages - 1);
		must(t, slot_shrink(t->dev, l->slot, pages * PAGE_SIZE, NULL),
		     "SHRINK");
		l->pages = pages;
		t->ops++;
		t->resizes++;
		break;
	case 2:
		l->readonly = !l->readonly;
		must(t, slot_set_readonly(t->dev, l->slot, l->readonly),
		     "SET_READONLY");
		t->ops++;
		break;
	case 3:
		lane_log(t, l);
		break;
	case 4:
		must(t, slot_set(t->vm, l->slot, 0, l->gpa, 0, l->mem),
		     "deletion");
		l->pages = 0;
		break;
	default:
		lane_pieces(t, l);
	}
	lane_assert(t, l);
}

/* --------------------------------------------------------- everybody's lane */

static void count(struct player *t, int err, const char *what)
{
	/* What can be wrong with an operation that somebody was ahead of. */
	TEST_ASSERT(!err || err == EINVAL || err == ENOENT || err == EEXIST,
		    "thread %d: %s gives %s", t->id, what, strerror(err));
	if (err)
		t->failed++;
	else
		t->ops++;
}

static uint32_t any_shared(struct player *t)
{
	return SHARED_SLOT + draw(t, 0, NR_SHARED - 1);
}

static void shared_step(struct player *t)
{
	const uint32_t slot = any_shared(t), other = any_shared(t);
	const struct kvm_memslot_cut cut = {
		.offset = draw(t, 1, LANE_PAGES / 4) * PAGE_SIZE,
		.slot = other,
	};
	int err;

	switch (draw(t, 0, 4)) {
	case 0:
	case 1:
		count(t, slot_split(t->dev, slot, 1, &cut), "SPLIT");
		break;
	case 2:
	case 3:
		count(t, slot_merge(t->dev, slot, 1, &other), "MERGE");
		break;
	case 4:
		err = slot_set_readonly(t->dev, slot, draw(t, 0, 1));
		t->toggles += !err;
		count(t, err, "SET_READONLY");
	}
}

static int play(void *arg)
{
	struct player *t = arg;
	struct lane lane = {
		.gpa = PROBE_GPA + (1 + t->id) * LANE,
		.mem = t->mem + (1 + t->id) * LANE,
		.slot = OWN_SLOT + t->id * NR_OWN,
	};
	int i, j;

	for (i = 0; i < ROUNDS; i++) {
		lane_step(t, &lane);
		for (j = 0; j < 4; j++)
			shared_step(t);
	}
	/* Leave it as one slot, or none. */
	lane_assert(t, &lane);
	if (lane.pages)
		must(t, slot_set(t->vm, lane.slot, 0, lane.gpa, 0, lane.mem),
		     "deletion in the end");
	return 0;
}

/* Takes numbers of the shared lane for slots elsewhere, for a moment each. */
static int meddle(void *arg)
{
	struct player *t = arg;
	uint64_t made = 0;
	int i, err;

	for (i = 0; i < 4 * ROUNDS; i++) {
		uint32_t slot = any_shared(t);

		/* With a host address that moves nothing there. */
		err = slot_set(t->vm, slot, 0, ELSEWHERE, PAGE_SIZE,
			       t->mem + LANE);
		if (err) {
			TEST_ASSERT(err == EINVAL || err == EEXIST,
				    "creation gives %s", strerror(err));
			continue;
		}
		made++;
		/* One page cannot be split, nor merged with anything. */
		must(t, slot_set(t->vm, slot, 0, ELSEWHERE, 0, t->mem),
		     "deletion");
	}
	return made ? 0 : ENOENT;
}

/* ------------------------------------------------------------------- the end */

/*
 * Deletes one slot after the other, and looks at what that takes away: one
 * range each, all of it in the end.
 */
static void assert_one_range_each(struct probe *p)
{
	bool gone[LANE_PAGES] = {}, now;
	uint64_t page, nr_gone = 0, nr, first, last;
	int slot, nr_slots = 0;

	for (slot = SHARED_SLOT; slot < SHARED_SLOT + NR_SHARED; slot++) {
		if (slot_set(probe_vm(p), slot, 0, PROBE_GPA, 0, NULL))
			continue;
		nr_slots++;
		nr = 0;
		first = -1UL;
		last = 0;
		for (page = 0; page < LANE_PAGES; page++) {
			now = probe_is_mmio(p, PROBE_GPA + page * PAGE_SIZE);
			if (gone[page]) {
				TEST_ASSERT(now, "page %lu was in two slots",
					    page);
				continue;
			}
			gone[page] = now;
			if (!now)
				continue;
			first = min(first, page);
			last = page;
			nr++;
		}
		TEST_ASSERT(nr && last - first + 1 == nr,
			    "slot %d had %lu pages, between %lu and %lu", slot,
			    nr, first, last);
		nr_gone += nr;
	}
	TEST_ASSERT(nr_gone == LANE_PAGES,
		    "only %lu pages were in slots that can be named", nr_gone);
	ksft_print_msg("%d slots in the end\n", nr_slots);
}

TEST_F(concurrency, all_at_once)
{
	struct player players[NR_THREADS + 1] = {}, *t;
	uint64_t ops = 0, toggles = 0, resizes = 0, failed = 0, got, i;
	struct unrest *unrest = NULL;
	struct probe_exits exits;

	if (variant->unrest)
		unrest = unrest_start(self->mem, RANGE);
	probe_loop(self->p, 0, PROBE_READ, PROBE_GPA, LANE_PAGES);
	probe_loop(self->p, 1, PROBE_READ, PROBE_GPA, LANE_PAGES);
	probe_loop(self->p, 2, PROBE_WRITE, PROBE_GPA, LANE_PAGES);
	for (i = 0; i <= NR_THREADS; i++) {
		t = &players[i];
		*t = (struct player) {
			.vm = probe_vm(self->p),
			.dev = self->dev[i % 2],
			.id = i,
			.mem = self->mem,
			.seed = host_random() | 1,
		};
		async_start(&t->async, i < NR_THREADS ? play : meddle, t);
	}
	for (i = 0; i <= NR_THREADS; i++) {
		t = &players[i];
		TEST_ASSERT(!async_join(&t->async), "thread %lu did nothing", i);
		ops += t->ops;
		toggles += t->toggles;
		resizes += t->resizes;
		failed += t->failed;
	}
	probe_wait(self->p, 1);
	probe_stop(self->p);
	if (unrest)
		unrest_stop(unrest);
	exits = probe_exits(self->p);
	ksft_print_msg("%lu operations, %lu refused; %lu writes came out\n",
		       ops, failed, exits.writes);
	TEST_ASSERT(!exits.reads, "%lu reads came out as MMIO", exits.reads);
	TEST_ASSERT(!exits.wrong, "%lu writes came out wrong", exits.wrong);

	/* Through either device. */
	for (i = 0; i < 2; i++) {
		got = memslot_ops_stat(self->dev[i], KVM_MEMSLOT_STAT_OPS);
		TEST_ASSERT(got <= ops && got >= ops - toggles,
			    "%lu operations are counted, of %lu, of which %lu may have been none",
			    got, ops, toggles);
		memslot_ops_assert_stats(self->dev[i], got, resizes, failed);
	}
	for (i = LANE_PAGES; i < RANGE / PAGE_SIZE; i += 100)
		TEST_ASSERT(probe_is_mmio(self->p, PROBE_GPA + i * PAGE_SIZE),
			    "page %lu of an empty lane is there", i);
	assert_one_range_each(self->p);
}

TEST_HARNESS_MAIN
