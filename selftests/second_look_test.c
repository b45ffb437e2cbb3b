// SPDX-License-Identifier: GPL-2.0
/*
 * Somebody goes through slots and their rmaps, has yielded mmu_lock half-way, and need not be a
 * reader of the slots: kvm_zap_gfn_range() is one on some kernels, and not on others.
 *
 * An operation waits for it, whenever it began, and be there no reader left to wait for.
 */
#include "harness.h"

#include "kvm_util.h"
#include "processor.h"

#include "async.h"
#include "changes.h"
#include "held_thread.h"
#include "host.h"
#include "level.h"
#include "memslot_ops.h"
#include "ops.h"
#include "probe.h"
#include "slow_notifier.h"
#include "trace.h"

#define WAITS_FOR_WALKERS	"mmu_lock_when_quiet"
#define WAITS_FOR_READERS	"srcu"
#define WAITS_TO_SWAP		"slots_swap"
#define WAITS_AFTER_SWAP	"layout_swap"

enum { LATE, OTHER, NR_VCPUS };

/* In no slot. */
#define NOWHERE		(PROBE_GPA + CHANGE_SIZE + PAGE_SIZE)
/* Where a zap begins: in a slot that changes, by all operations. */
#define ZAP_FROM	(CHANGE_CUT + 500)
#define SAMPLE_EVERY	50

FIXTURE(second_look) {
	struct slow_notifier notifier;
	struct probe *p;
	char *mem;
	int dev;
	uint64_t swaps;
};

FIXTURE_SETUP(second_look)
{
	const struct probe_config config = {
		.nr_vcpus = NR_VCPUS,
		.size = CHANGE_SIZE,
	};

	self->p = NULL;
	REQUIRE_ALL_OPS();
	REQUIRE(held_thread_possible(), "held_thread.ko is not loaded");
	REQUIRE(slow_notifier_possible(), "slow_notifier.ko is not loaded");
	REQUIRE(trace_start(), "no tracefs");
	REQUIRE(level_has_rmaps(), "the TDP MMU has no rmaps");

	/* Of memory that no slot has. */
	slow_notifier_init(&self->notifier, PAGE_SIZE);
	self->p = probe_create(&config);
	self->mem = host_map(CHANGE_SIZE, HUGE_SIZE, 0, HOST_PAGES_4K);
	self->dev = memslot_ops_open(probe_vm(self->p));
	self->swaps = 0;
}

FIXTURE_TEARDOWN(second_look)
{
	if (!self->p)
		return;
	trace_stop();
	close(self->dev);
	probe_free(self->p);
	slow_notifier_close(&self->notifier);
}

/* A SHRINK after which the slot has the arrays that it had before: nothing is moved. */
static struct change keeps_most = {
	.name = "SHRINK to more than half",
	.before = {
		.nr = 1,
		.slot = { { .id = CHANGE_SLOT, .nr = CHANGE_PAGES } },
	},
	.after = {
		.nr = 1,
		.slot = { { .id = CHANGE_SLOT, .nr = ZAP_FROM } },
	},
};

static bool grows(const struct change *c)
{
	return c == &changes[CHANGE_GROW];
}

static bool shrinks(const struct change *c)
{
	return c == &changes[CHANGE_SHRINK] || c == &keeps_most;
}

static int nr_swaps(const struct change *c)
{
	return grows(c) || shrinks(c) ? 2 : 1;
}

static int make(void *arg)
{
	struct change_call *call = arg;

	if (call->change == &keeps_most)
		return slot_shrink(call->dev, CHANGE_SLOT, ZAP_FROM * PAGE_SIZE,
				   NULL);
	return change_call(call);
}

/* Maps pages of each slot, so that it has rmaps that are in use. */
static void begin(struct probe *p, const struct change *c, char *mem)
{
	uint64_t page;

	layout_create(probe_vm(p), &c->before, PROBE_GPA, mem);
	for (page = 0; page < CHANGE_PAGES; page += SAMPLE_EVERY) {
		*(uint64_t *)(mem + page * PAGE_SIZE) = page + 1;
		if (layout_has(&c->before, page))
			TEST_ASSERT_EQ(probe_read(p, PROBE_GPA + page * PAGE_SIZE),
				       page + 1);
	}
	/* With page tables to begin with: what is held later is a fault. */
	probe_access(p, LATE, PROBE_READ, PROBE_GPA, 0);
	probe_access(p, OTHER, PROBE_READ, PROBE_GPA, 0);
	TEST_ASSERT(trace_start(), "the trace cannot be emptied");
}

static void end(struct probe *p, const struct change *c, char *mem)
{
	uint64_t page, gpa;

	for (page = 0; page < CHANGE_PAGES; page += SAMPLE_EVERY) {
		gpa = PROBE_GPA + page * PAGE_SIZE;
		if (layout_has(&c->after, page))
			TEST_ASSERT_EQ(probe_read(p, gpa), page + 1);
		else
			TEST_ASSERT(probe_is_mmio(p, gpa),
				    "%s: page %lu is there", c->name, page);
	}
	layout_assert(probe_vm(p), &c->after, PROBE_GPA, mem);
	layout_delete(probe_vm(p), &c->after);
}

struct standing {
	const struct change *change;
	struct async *op;
	int swaps;			/* that it has made */
	bool for_readers;
};

static bool stands(void *arg)
{
	struct standing *s = arg;

	TEST_ASSERT(!s->op->done, "%s did not wait for a zap: %s",
		    s->change->name, strerror(s->op->err));
	if (!async_sleeps(s->op))
		return false;
	s->for_readers = async_stands_in(s->op, WAITS_FOR_READERS);
	return s->for_readers || async_stands_in(s->op, WAITS_FOR_WALKERS);
}

/* Until an operation stands there, and for a while; returns whether it waits for a reader. */
static bool assert_waits(const struct change *c, struct async *op, int swaps)
{
	struct standing s = { c, op };
	int i, swapped;

	for (i = 0; i < 3; i++) {
		TEST_ASSERT(host_wait(stands, &s), "%s does not come to wait",
			    c->name);
		usleep(50000);
	}
	swapped = trace_count("memslot_op_swap");
	TEST_ASSERT(swapped == swaps, "%s waits after swap %d, not %d", c->name,
		    swapped, swaps);
	return s.for_readers;
}

static void assert_succeeds(const struct change *c, struct async *op)
{
	async_must_succeed(op, c->name);
	TEST_ASSERT_EQ(trace_count("memslot_op_swap"), nr_swaps(c));
}

/* It began before the operation. */
static void zap_is_first(struct probe *p, int dev, const struct change *c, char *mem)
{
	/* MERGE moves rmaps before it swaps. GROW does as well, but it has swapped before. */
	const int swaps = c == &changes[CHANGE_MERGE] ? 0 : 1;
	const uint64_t from = grows(c) ? 0 : ZAP_FROM;
	struct change_call call = { c, dev };
	struct late_zap zap;
	struct async op;
	bool for_readers;

	begin(p, c, mem);
	late_zap_begin(&zap, probe_vm(p), PROBE_GPA + from * PAGE_SIZE,
		       CHANGE_SIZE - from * PAGE_SIZE);
	async_start(&op, make, &call);
	for_readers = assert_waits(c, &op, swaps);
	ksft_print_msg("%s, after swap %d: waits in %s\n", c->name, swaps,
		       for_readers ? WAITS_FOR_READERS : WAITS_FOR_WALKERS);
	late_zap_end(&zap);
	assert_succeeds(c, &op);
	end(p, c, mem);
}

TEST_F(second_look, zap_began_before_the_operation)
{
	const struct change *c;

	for (c = changes; c < changes + NR_CHANGES; c++)
		zap_is_first(self->p, self->dev, c, self->mem);
	zap_is_first(self->p, self->dev, &keeps_most, self->mem);
}

static bool waits_to_swap(void *arg)
{
	struct standing *s = arg;

	TEST_ASSERT(!s->op->done, "%s did not wait for a notifier: %s",
		    s->change->name, strerror(s->op->err));
	return trace_count("memslot_op_swap") == s->swaps &&
	       async_sleeps(s->op) && async_stands_in(s->op, WAITS_TO_SWAP);
}

/*
 * It begins just before the operation swaps for the @nth time, when that has looked for such as
 * it for the last time before.
 */
static void zap_is_late(struct probe *p, int dev, const struct change *c, char *mem,
			struct slow_notifier *notifier, int nth)
{
	const uint64_t from = grows(c) && nth == 1 ? 0 : ZAP_FROM;
	struct change_call call = { c, dev };
	struct late_access late;
	struct late_zap zap;
	struct async op;
	struct standing s = { .change = c, .op = &op, .swaps = nth - 1 };
	bool for_readers;

	begin(p, c, mem);
	/* A notifier is what it waits for before a swap, and a vCPU after the first one. */
	if (nth == 2) {
		late_access_begin(&late, p, LATE, PROBE_READ, NOWHERE, 0);
		async_start(&op, make, &call);
		async_wait_for_swap(&op, 1);
		slow_notifier_begin(notifier);
		late_access_end(&late);
	} else {
		slow_notifier_begin(notifier);
		async_start(&op, make, &call);
	}
	TEST_ASSERT(host_wait(waits_to_swap, &s), "%s does not come to wait",
		    c->name);
	late_zap_begin(&zap, probe_vm(p), PROBE_GPA + from * PAGE_SIZE,
		       CHANGE_SIZE - from * PAGE_SIZE);
	slow_notifier_end(notifier);

	for_readers = assert_waits(c, &op, nth);
	ksft_print_msg("%s, after swap %d: waits in %s\n", c->name, nth,
		       for_readers ? WAITS_FOR_READERS : WAITS_FOR_WALKERS);
	late_zap_end(&zap);
	assert_succeeds(c, &op);
	end(p, c, mem);
}

TEST_F(second_look, zap_begins_before_a_swap)
{
	const struct change *c;
	int nth;

	for (c = changes; c < changes + NR_CHANGES; c++) {
		for (nth = 1; nth <= nr_swaps(c); nth++)
			zap_is_late(self->p, self->dev, c, self->mem,
				    &self->notifier, nth);
	}
	zap_is_late(self->p, self->dev, &keeps_most, self->mem, &self->notifier, 1);
	zap_is_late(self->p, self->dev, &keeps_most, self->mem, &self->notifier, 2);
}

static bool waits_to_free(void *arg)
{
	struct standing *s = arg;

	TEST_ASSERT(!s->op->done, "%s did not wait for a reader: %s", s->change->name,
		    strerror(s->op->err));
	return async_sleeps(s->op) && async_stands_in(s->op, WAITS_FOR_READERS) &&
	       !async_stands_in(s->op, WAITS_AFTER_SWAP);
}

/*
 * A reader that begins when the slots have been swapped, and for which that wait need not last,
 * may have found an array that they then move away from.
 */
TEST_F(second_look, reader_begins_after_the_swap)
{
	const struct change *c = &changes[CHANGE_SPLIT];
	struct change_call call = { c, self->dev };
	struct late_access before, after;
	struct async op;
	struct standing s = { .change = c, .op = &op };

	begin(self->p, c, self->mem);
	late_access_begin(&before, self->p, LATE, PROBE_READ, NOWHERE, 0);
	async_start(&op, make, &call);
	async_wait_for_swap(&op, 1);
	late_access_begin(&after, self->p, OTHER, PROBE_READ, NOWHERE, 0);
	late_access_end(&before);
	TEST_ASSERT(host_wait(waits_to_free, &s), "%s does not come to wait", c->name);
	late_access_end(&after);
	assert_succeeds(c, &op);
	end(self->p, c, self->mem);
}

/* Whether a vCPU that writes to a word on and on has come to rest. */
static bool rests(const uint64_t *word)
{
	uint64_t was = READ_ONCE(*word);

	usleep(50000);
	if (READ_ONCE(*word) != was)
		return false;
	usleep(500000);
	return READ_ONCE(*word) == was;
}

static void zap_rest(struct late_zap *zap, struct probe *p)
{
	late_zap_begin(zap, probe_vm(p), PROBE_GPA + ZAP_FROM * PAGE_SIZE,
		       CHANGE_SIZE - ZAP_FROM * PAGE_SIZE);
}

/*
 * A guest's vCPUs could relieve each other, so that there is always one that zaps. So in the
 * end they are kept out of the guest, and come back.
 */
TEST_F(second_look, zaps_without_end)
{
	const struct change *c = &changes[CHANGE_PROTECT];
	const uint64_t *word = (uint64_t *)self->mem + OTHER;
	struct change_call call = { c, self->dev };
	struct late_zap zap[2];
	struct async op;
	int i = 0;

	begin(self->p, c, self->mem);
	probe_loop(self->p, OTHER, PROBE_WRITE, PROBE_GPA, 1);
	probe_wait(self->p, 1);
	zap_rest(&zap[0], self->p);
	probe_wait(self->p, 1);
	async_start(&op, make, &call);
	/* A reader leaves in the end, whatever others do. */
	if (!assert_waits(c, &op, 1)) {
		while (!rests(word)) {
			TEST_ASSERT(i < 1000, "a vCPU goes on while an operation cannot");
			zap_rest(&zap[++i % 2], self->p);
			late_zap_end(&zap[(i - 1) % 2]);
		}
		ksft_print_msg("vCPUs rest after %d zaps\n", i);
	}
	assert_waits(c, &op, 1);
	late_zap_end(&zap[i % 2]);
	assert_succeeds(c, &op);
	probe_wait(self->p, 1);
	probe_stop(self->p);
	TEST_ASSERT_EQ(probe_exits(self->p).writes, 0);
	end(self->p, c, self->mem);
}

TEST_HARNESS_MAIN
