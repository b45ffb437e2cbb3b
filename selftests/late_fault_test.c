// SPDX-License-Identifier: GPL-2.0
/*
 * A vCPU's page fault looks its slot up, and when it comes to do something about it, the slots
 * are others.
 *
 * What it then does shows in KVM's own trace: each entry that KVM makes for a page, be it a
 * mapping or one that says MMIO.
 */
#include <sys/mman.h>

#include "harness.h"

#include "kvm_util.h"
#include "processor.h"

#include "async.h"
#include "changes.h"
#include "held_thread.h"
#include "host.h"
#include "memslot_ops.h"
#include "ops.h"
#include "probe.h"
#include "srcu.h"
#include "trace.h"
#include "tracker.h"

enum { LATE, OTHER, NR_VCPUS };

/* A page that GROW adds and SHRINK removes. */
#define PAGE		(CHANGE_CUT + 300)
#define GPA		(PROBE_GPA + PAGE * PAGE_SIZE)
/*
 * One that stays, and is in the same frame, so that it shares with it what the guest's page
 * tables note about accesses; but not so near that KVM would map the two together.
 */
#define STAYS		(PROBE_GPA + (CHANGE_CUT - 100) * PAGE_SIZE)
/* In no slot. */
#define NOWHERE		(PROBE_GPA + CHANGE_SIZE + 300 * PAGE_SIZE)

FIXTURE(late_fault) {
	struct probe *p;
	char *mem;
	int dev;
};

FIXTURE_VARIANT(late_fault) {
	enum probe_how how;
};

FIXTURE_VARIANT_ADD(late_fault, read)
{
	.how = PROBE_READ,
};

FIXTURE_VARIANT_ADD(late_fault, write)
{
	.how = PROBE_WRITE,
};

/* ------------------------------------------------- what becomes of a page's entry */

#define TRACING	"/sys/kernel/tracing/"
#define ENTRY	TRACING "events/kvmmmu/"

static bool trace_entries(void)
{
	return trace_start() &&
	       !host_write(ENTRY "kvm_mmu_set_spte/enable", "1") &&
	       !host_write(ENTRY "mark_mmio_spte/enable", "1");
}

struct entries {
	int mapped, mmio;
	bool lost;			/* a mapping was followed by MMIO */
};

static struct entries entries_of(uint64_t gpa)
{
	struct entries entries = { 0 };
	FILE *file = fopen(TRACING "trace", "r");
	char line[512], *event;
	unsigned long gfn;

	TEST_ASSERT(file, "cannot read the trace");
	while (fgets(line, sizeof(line), file)) {
		event = strstr(line, " kvm_mmu_set_spte: ");
		if (event && sscanf(event, " kvm_mmu_set_spte: gfn %lx", &gfn) == 1 &&
		    gfn == gpa / PAGE_SIZE)
			entries.mapped++;

		event = strstr(line, " mark_mmio_spte: ");
		if (event && sscanf(event, " mark_mmio_spte: sptep:%*s gfn %lx", &gfn) == 1 &&
		    gfn == gpa / PAGE_SIZE) {
			entries.mmio++;
			entries.lost |= entries.mapped;
		}
	}
	fclose(file);
	return entries;
}

/* --------------------------------------------------------------------- scene */

FIXTURE_SETUP(late_fault)
{
	const struct probe_config config = {
		.nr_vcpus = NR_VCPUS,
		.size = CHANGE_SIZE,
	};

	self->p = NULL;
	REQUIRE_ALL_OPS();
	REQUIRE(held_thread_possible(), "held_thread.ko is not loaded");
	REQUIRE(trace_entries(), "no tracefs");

	self->p = probe_create(&config);
	self->mem = host_map(CHANGE_SIZE, HUGE_SIZE, 0, HOST_PAGES_4K);
	self->dev = memslot_ops_open(probe_vm(self->p));
}

FIXTURE_TEARDOWN(late_fault)
{
	if (!self->p)
		return;
	trace_stop();
	close(self->dev);
	probe_free(self->p);
}

static void begin(struct probe *p, const struct change *c, char *mem)
{
	int id;

	/* Else it might be the page of zeros, and a write would be a change of the host's. */
	memset(mem + PAGE * PAGE_SIZE, 0, PAGE_SIZE);
	layout_create(probe_vm(p), &c->before, PROBE_GPA, mem);
	for (id = 0; id < NR_VCPUS; id++)
		probe_access(p, id, PROBE_WRITE, STAYS, 0);
	TEST_ASSERT(trace_start(), "the trace cannot be emptied");
}

/* The word in a page that a vCPU writes to when it loops. */
static uint64_t *word_of(char *mem, int id)
{
	return (uint64_t *)(mem + PAGE * PAGE_SIZE) + id;
}

struct arrival {
	struct probe *p;
	const uint64_t *word;
	uint64_t faults;
};

static bool lands_or_faults(void *arg)
{
	struct arrival *a = arg;

	return READ_ONCE(*a->word) || probe_faults(a->p) > a->faults + 50;
}

/* Has the other vCPU write to the page, on and on; whether that lands at once. */
static bool other_writes(struct probe *p, char *mem)
{
	struct arrival a = {
		.p = p,
		.word = word_of(mem, OTHER),
		.faults = probe_faults(p),
	};

	probe_forget_exits(p);
	probe_loop(p, OTHER, PROBE_WRITE, GPA, 1);
	TEST_ASSERT(host_wait(lands_or_faults, &a),
		    "a vCPU neither writes nor faults");
	return READ_ONCE(*a.word);
}

static void assert_waits(struct async *op)
{
	TEST_ASSERT(!op->done && trace_count("memslot_op_swap") == 1,
		    "the operation did not wait for a vCPU");
}

/* What the host takes away is gone for both vCPUs, and what they write then is there. */
static void assert_host_is_heard(struct probe *p, char *mem)
{
	probe_write(p, GPA, 1);
	TEST_ASSERT_EQ(madvise(mem + PAGE * PAGE_SIZE, PAGE_SIZE, MADV_DONTNEED),
		       0);
	/* The other vCPU has not stopped. */
	probe_wait(p, 1);
	TEST_ASSERT(READ_ONCE(*word_of(mem, OTHER)) >> 32 == GPA / PAGE_SIZE,
		    "a vCPU writes to a page that the host took away");
	TEST_ASSERT_EQ(probe_read(p, GPA), 0);
	probe_write(p, GPA, 2);
	TEST_ASSERT_EQ(READ_ONCE(*word_of(mem, LATE)), 2);
}

/* --------------------------------------------------------------------- tests */

/*
 * A vCPU found no slot, before GROW. Where another one could map the page by now, the entry
 * that the first one makes, MMIO, would take the place of the mapping, and nobody would flush.
 */
TEST_F(late_fault, found_no_slot_before_grow)
{
	const struct change *c = &changes[CHANGE_GROW];
	struct change_call call = { c, self->dev };
	struct late_access late;
	struct probe_result result;
	struct entries entries;
	struct async op;
	bool lands;

	begin(self->p, c, self->mem);
	late_access_begin(&late, self->p, LATE, variant->how, GPA, 0x1234);
	async_start(&op, change_call, &call);
	async_wait_for_swap(&op, 1);
	lands = other_writes(self->p, self->mem);
	assert_waits(&op);

	result = late_access_end(&late);
	async_must_succeed(&op, "GROW");
	probe_wait(self->p, 1);
	entries = entries_of(GPA);
	ksft_print_msg("another vCPU %s meanwhile; entries: %d MMIO, %d mapped\n",
		       lands ? "writes" : "waits", entries.mmio, entries.mapped);
	TEST_ASSERT(entries.mmio, "no vCPU was late");
	TEST_ASSERT(!entries.lost,
		    "a vCPU's late fault replaces a mapping of the new range");

	/* It lands, or comes out, and not both; that of who comes later always lands. */
	if (variant->how == PROBE_WRITE)
		TEST_ASSERT_EQ(*word_of(self->mem, LATE),
			       result.nr_writes ? 0 : 0x1234);
	TEST_ASSERT_EQ(probe_exits(self->p).writes, 0);
	assert_host_is_heard(self->p, self->mem);
	probe_stop(self->p);
	TEST_ASSERT_EQ(probe_exits(self->p).writes, 0);

	layout_assert(probe_vm(self->p), &c->after, PROBE_GPA, self->mem);
	memslot_ops_assert_stats(self->dev, 1, 1, 0);
}

#define CANARY	0x5a

/* A vCPU found the slot, before SHRINK, and maps a page that is about to go. */
TEST_F(late_fault, found_the_slot_before_shrink)
{
	const struct change *c = &changes[CHANGE_SHRINK];
	struct change_call call = { c, self->dev };
	char *tail = self->mem + CHANGE_CUT * PAGE_SIZE;
	const size_t size = (CHANGE_PAGES - CHANGE_CUT) * PAGE_SIZE;
	struct probe_result result;
	struct late_access late;
	struct async op;
	size_t i;

	begin(self->p, c, self->mem);
	late_access_begin(&late, self->p, LATE, variant->how, GPA, 0x1234);
	async_start(&op, change_call, &call);
	async_wait_for_swap(&op, 1);
	TEST_ASSERT(!other_writes(self->p, self->mem),
		    "a vCPU writes to what is about to go");
	assert_waits(&op);
	TEST_ASSERT_EQ(entries_of(GPA).mapped, 0);

	late_access_end(&late);
	async_must_succeed(&op, "SHRINK");
	TEST_ASSERT(entries_of(GPA).mapped, "no vCPU was late");

	memset(tail, CANARY, size);
	probe_wait(self->p, 1);
	result = probe_access(self->p, LATE, PROBE_WRITE, GPA, 0x1234);
	TEST_ASSERT(result.nr_writes == 1 && !result.err,
		    "a write came out %d times as MMIO, error %d",
		    result.nr_writes, result.err);
	probe_wait(self->p, 1);
	probe_stop(self->p);
	TEST_ASSERT(probe_exits(self->p).writes, "no write came out");
	for (i = 0; i < size; i++)
		TEST_ASSERT(tail[i] == CANARY,
			    "a vCPU wrote to the host's memory, %#zx bytes after the end",
			    i);

	layout_assert(probe_vm(self->p), &c->after, PROBE_GPA, self->mem);
	memslot_ops_assert_stats(self->dev, 1, 1, 0);
}

#define ONE_SLOT(_flags)						\
{									\
	.before = {							\
		.nr = 1,						\
		.slot = {						\
			{ .id = CHANGE_SLOT, .flags = (_flags), .nr = CHANGE_PAGES }, \
		},							\
	},								\
}

static int make_readonly(void *dev)
{
	return slot_set_readonly(*(int *)dev, CHANGE_SLOT, 1);
}

static int make_writable(void *dev)
{
	return slot_set_readonly(*(int *)dev, CHANGE_SLOT, 0);
}

/*
 * A vCPU found the slot read-only, before SET_READONLY 0, and maps the page like that when another
 * one has mapped it writable already. No TLB must go on with what is no longer so. KVM may leave
 * the entry as it is, too, and then even that vCPU can write without a fault.
 */
TEST_F(late_fault, found_the_slot_read_only)
{
	const struct change from = ONE_SLOT(KVM_MEM_READONLY);
	struct kvm_vm *vm = probe_vm(self->p);
	struct late_access late;
	struct async op;
	uint64_t flushes, faults;

	begin(self->p, &from, self->mem);
	late_access_begin(&late, self->p, LATE, PROBE_READ, GPA, 0);
	async_start(&op, make_writable, &self->dev);
	async_wait_for_swap(&op, 1);
	TEST_ASSERT(other_writes(self->p, self->mem),
		    "no vCPU writes to what is writable again");
	assert_waits(&op);

	flushes = vm_stat(vm, "remote_tlb_flush_requests");
	faults = probe_faults(self->p);
	late_access_end(&late);
	async_must_succeed(&op, "SET_READONLY 0");
	flushes = vm_stat(vm, "remote_tlb_flush_requests") - flushes;
	probe_write(self->p, GPA, 1);
	faults = probe_faults(self->p) - faults;
	ksft_print_msg("%lu flushes, %lu faults\n", flushes, faults);
	TEST_ASSERT(flushes || !faults,
		    "a late fault has made a page read-only, and nobody flushed");
	probe_wait(self->p, 1);
	probe_stop(self->p);
	TEST_ASSERT_EQ(probe_exits(self->p).writes, 0);
}

/* Not for those whom it has met. */
static bool waits_for_more(void *arg)
{
	struct async *op = arg;

	TEST_ASSERT(!op->done, "SET_READONLY 1 does not wait for who may have to note a write");
	return async_sleeps(op) && async_stands_in(op, "srcu") &&
	       !async_stands_in(op, "layout_swap");
}

/*
 * A vCPU that comes when SET_READONLY 1 has swapped the sets may give a page its writable bit
 * back, as long as that has not been zapped, and note only later that another one writes there.
 */
TEST_F(late_fault, notes_a_write_to_what_is_read_only)
{
	const struct change from = ONE_SLOT(KVM_MEM_LOG_DIRTY_PAGES);
	struct late_access before, after;
	struct async op;

	REQUIRE(srcu_watch(), "no kprobes to tell whom SET_READONLY waits for");
	begin(self->p, &from, self->mem);
	late_access_begin(&before, self->p, LATE, variant->how, NOWHERE, 0);
	async_start(&op, make_readonly, &self->dev);
	async_wait_for_swap(&op, 1);
	srcu_wait_for_change();
	late_access_begin(&after, self->p, OTHER, variant->how, NOWHERE, 0);
	late_access_end(&before);
	TEST_ASSERT(host_wait(waits_for_more, &op), "SET_READONLY 1 does not come to wait");
	late_access_end(&after);
	async_must_succeed(&op, "SET_READONLY 1");
}

static bool faults(void *arg)
{
	struct arrival *a = arg;

	return probe_is_over(a->p, OTHER) || probe_faults(a->p) > a->faults + 50;
}

static bool is_over(void *p)
{
	return probe_is_over(p, OTHER);
}

/*
 * While GROW waits for a vCPU, somebody comes to track page writes, so GROW has to give up.
 * What it prepared for the vCPUs does not stay behind.
 */
TEST_F(late_fault, grow_gives_up)
{
	const struct change *c = &changes[CHANGE_GROW];
	struct change_call call = { c, self->dev };
	struct kvm_vm *vm = probe_vm(self->p);
	struct async op, attach;
	struct arrival arrival = { .p = self->p };
	struct late_access late;
	int tracker;

	REQUIRE(tracker_possible(), "page_tracker.ko is not loaded");
	tracker = tracker_open(vm);

	begin(self->p, c, self->mem);
	late_access_begin(&late, self->p, LATE, variant->how, NOWHERE, 0x1234);
	async_start(&op, change_call, &call);
	async_wait_for_swap(&op, 1);
	arrival.faults = probe_faults(self->p);
	probe_begin(self->p, OTHER, PROBE_READ, GPA, 0x4321);
	TEST_ASSERT(host_wait(faults, &arrival), "a vCPU neither reads nor faults");
	async_start(&attach, tracker_call_attach, &tracker);
	TEST_ASSERT(host_wait(async_is_done, &attach), "a tracker cannot attach");
	TEST_ASSERT_EQ(async_join(&attach), 0);
	assert_waits(&op);

	late_access_end(&late);
	async_join(&op);
	TEST_ASSERT(op.err == EBUSY, "GROW: %s, not EBUSY", strerror(op.err));
	TEST_ASSERT(host_wait_seconds(5, is_over, self->p),
		    "a vCPU that came meanwhile is stuck");
	TEST_ASSERT(probe_end(self->p, OTHER).nr_reads == 1,
		    "a vCPU read memory that was not there");
	TEST_ASSERT_EQ(entries_of(GPA).mapped, 0);
	memslot_ops_assert_stats(self->dev, 0, 0, 1);

	/* There is nothing after the slot: an access comes out, another slot fits in. */
	layout_assert(vm, &c->before, PROBE_GPA, self->mem);
	TEST_ASSERT(probe_is_mmio(self->p, PROBE_GPA + CHANGE_CUT * PAGE_SIZE) &&
		    probe_is_mmio(self->p, PROBE_GPA + CHANGE_SIZE - PAGE_SIZE),
		    "there is memory that was not there");
	slot_must_set(vm, CHANGE_SLOT + 5, 0, PROBE_GPA + CHANGE_CUT * PAGE_SIZE,
		      CHANGE_SIZE - CHANGE_CUT * PAGE_SIZE,
		      self->mem + CHANGE_CUT * PAGE_SIZE);
	probe_write(self->p, GPA, 1);
	slot_must_set(vm, CHANGE_SLOT + 5, 0, 0, 0, NULL);

	TEST_ASSERT_EQ(change_make(self->dev, c), EBUSY);
	TEST_ASSERT(probe_is_mmio(self->p, GPA), "a slot was not deleted");
	tracker_detach(tracker);
	TEST_ASSERT_EQ(change_make(self->dev, c), 0);
	TEST_ASSERT_EQ(probe_read(self->p, GPA), 1);
	probe_loop(self->p, OTHER, PROBE_WRITE, GPA, 1);
	probe_wait(self->p, 1);
	assert_host_is_heard(self->p, self->mem);
	probe_stop(self->p);
	layout_assert(vm, &c->after, PROBE_GPA, self->mem);
	memslot_ops_assert_stats(self->dev, 1, 1, 2);
	close(tracker);
}

TEST_HARNESS_MAIN
