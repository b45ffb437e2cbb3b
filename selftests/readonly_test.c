// SPDX-License-Identifier: GPL-2.0
/*
 * SET_READONLY under writers: once it has returned, no write of the guest lands,
 * whoever makes it and however it began; and reads never notice.
 *
 * "Lands" is seen in the host's memory, which must stay as it was while vCPUs
 * keep writing.  All that they write comes out as MMIO instead.
 */
#include "harness.h"

#include "kvm_util.h"
#include "processor.h"

#include "async.h"
#include "memslot_ops.h"
#include "ops.h"
#include "probe.h"
#include "trace.h"

#define RANGE		(8UL << 20)
#define PAGES		(RANGE / PAGE_SIZE)
#define NR_VCPUS	4
/* Where vCPUs loop: few pages, as each write there becomes an exit. */
#define LOOP		400
#define LOOP_PAGES	200

FIXTURE(readonly) {
	struct probe *p;
	char *mem, *before;
	int dev, uffd;
};

FIXTURE_VARIANT(readonly) {
	enum host_pages host_pages;
};

FIXTURE_VARIANT_ADD(readonly, 4k)
{
	.host_pages = HOST_PAGES_4K,
};

FIXTURE_VARIANT_ADD(readonly, thp)
{
	.host_pages = HOST_PAGES_THP,
};

FIXTURE_SETUP(readonly)
{
	const struct probe_config config = {
		.nr_vcpus = NR_VCPUS,
		.size = RANGE,
	};

	self->p = NULL;
	REQUIRE_OP(KVM_MEMSLOT_OP_SET_READONLY);
	REQUIRE(kvm_has_cap(KVM_CAP_READONLY_MEM), "no read-only slots");
	host_seed();
	self->p = probe_create(&config);
	self->dev = memslot_ops_open(probe_vm(self->p));
	self->mem = host_map(RANGE, HUGE_SIZE, 0, variant->host_pages);
	self->before = malloc(RANGE);
	self->uffd = uffd_open();
	memset(self->mem, 0, RANGE);
	TEST_ASSERT_EQ(slot_set(probe_vm(self->p), PROBE_SLOT, 0, PROBE_GPA,
				RANGE, self->mem), 0);
}

FIXTURE_TEARDOWN(readonly)
{
	if (!self->p)
		return;
	close(self->dev);
	close(self->uffd);
	probe_free(self->p);
	munmap(self->mem, RANGE);
	free(self->before);
}

static uint64_t page_gpa(uint64_t page)
{
	return PROBE_GPA + page * PAGE_SIZE;
}

static void assert_readonly(int dev, bool readonly)
{
	int err = slot_set_readonly(dev, PROBE_SLOT, readonly);

	TEST_ASSERT(!err, "SET_READONLY %d: %s", readonly, strerror(err));
}

static void assert_same(const char *mem, const char *before, const char *what)
{
	size_t i;

	for (i = 0; i < RANGE; i++)
		TEST_ASSERT(mem[i] == before[i],
			    "%s: a write landed at %#lx of a read-only slot",
			    what, i);
}

/* A write that must come out, as what it is. */
static void assert_comes_out(struct probe *p, int id, uint64_t gpa,
			     uint64_t value)
{
	struct probe_result r = probe_access(p, id, PROBE_WRITE, gpa, value);

	TEST_ASSERT(r.nr_writes == 1 && r.gpa == gpa && r.data == value &&
		    r.len == 8 && !r.err && !r.nr_reads,
		    "write of %#lx at %#lx: %d exits, the last with %#lx in %u bytes at %#lx; error %d",
		    value, gpa, r.nr_writes, r.data, r.len, r.gpa, r.err);
}

/*
 * Each round begins with other mappings: none, made by reads, made by writes,
 * and those left by the round before.
 */
TEST_F(readonly, no_write_lands_on_return)
{
	struct probe_exits exits;
	int round, id;
	uint64_t i;

	for (round = 0; round < 4; round++) {
		if (round % 4 == 0)
			TEST_ASSERT_EQ(madvise(self->mem, RANGE, MADV_DONTNEED),
				       0);
		for (i = 0; round % 4 == 1 && i < PAGES; i++)
			probe_read(self->p, page_gpa(i));
		for (i = 0; round % 4 == 2 && i < PAGES; i++)
			probe_write(self->p, page_gpa(i), ~i);

		/* All vCPUs write to all pages, before, during and after. */
		for (id = 0; id < NR_VCPUS; id++)
			probe_loop(self->p, id, id ? PROBE_WRITE : PROBE_READ,
				   page_gpa(LOOP), LOOP_PAGES);
		if (round % 4)
			probe_wait(self->p, 1);
		TEST_ASSERT_EQ(probe_exits(self->p).writes, 0);

		assert_readonly(self->dev, true);
		memcpy(self->before, self->mem, RANGE);
		probe_wait(self->p, 1);
		exits = probe_exits(self->p);
		assert_same(self->mem, self->before, "4 vCPUs at once");
		TEST_ASSERT(exits.writes >= (NR_VCPUS - 1) * LOOP_PAGES,
			    "only %lu writes to %d pages came out",
			    exits.writes, LOOP_PAGES);
		TEST_ASSERT_EQ(exits.reads, 0);
		TEST_ASSERT(!exits.wrong, "%lu writes came out wrong",
			    exits.wrong);
		TEST_ASSERT(exits.low >= page_gpa(LOOP) &&
			    exits.high < page_gpa(LOOP + LOOP_PAGES),
			    "writes from %#lx to %#lx came out", exits.low,
			    exits.high);
		slot_assert(probe_vm(self->p), PROBE_SLOT, KVM_MEM_READONLY,
			    PROBE_GPA, RANGE, self->mem);

		/* And they land again. */
		assert_readonly(self->dev, false);
		probe_wait(self->p, 1);
		probe_forget_exits(self->p);
		probe_wait(self->p, 1);
		probe_stop(self->p);
		TEST_ASSERT_EQ(probe_exits(self->p).writes, 0);
		for (i = LOOP; i < LOOP + LOOP_PAGES; i++) {
			uint64_t *at = (void *)(self->mem + i * PAGE_SIZE);

			for (id = 1; id < NR_VCPUS; id++)
				TEST_ASSERT(at[id] >> 32 ==
					    page_gpa(i) / PAGE_SIZE &&
					    memcmp(at + id, self->before +
						   i * PAGE_SIZE + 8 * id, 8),
					    "page %lu: vCPU %d's writes land no more",
					    i, id);
		}
		slot_assert(probe_vm(self->p), PROBE_SLOT, 0, PROBE_GPA, RANGE,
			    self->mem);
	}
	memslot_ops_assert_stats(self->dev, 2 * round, 0, 0);
}

/*
 * The emulator drops translations more often than a CPU would, so no write tells that a flush
 * is missing; but KVM counts them.
 */
TEST_F(readonly, flushes_what_was_mapped)
{
	struct kvm_vm *vm = probe_vm(self->p);
	uint64_t flushes, i;

	for (i = 0; i < PAGES; i++)
		probe_write(self->p, page_gpa(i), i);
	flushes = vm_stat(vm, FLUSHES);
	assert_readonly(self->dev, true);
	TEST_ASSERT(vm_stat(vm, FLUSHES) > flushes, "what was mapped was not flushed");

	/* Nothing is mapped any more. */
	assert_readonly(self->dev, false);
	flushes = vm_stat(vm, FLUSHES);
	assert_readonly(self->dev, true);
	TEST_ASSERT(vm_stat(vm, FLUSHES) == flushes, "what was not mapped was flushed");
	assert_readonly(self->dev, false);
}

/* Each by itself: gpa and data are what the guest meant. */
TEST_F(readonly, writes_come_out_as_they_are)
{
	uint64_t i;

	for (i = 0; i < PAGES; i++)
		probe_write(self->p, page_gpa(i), i);
	assert_readonly(self->dev, true);
	memcpy(self->before, self->mem, RANGE);
	for (i = 0; i < PAGES; i += 7)
		assert_comes_out(self->p, i % NR_VCPUS, page_gpa(i) + i % 500 * 8,
				 i * 0x123456789);
	for (i = 0; i < PAGES; i++)
		TEST_ASSERT_EQ(probe_read(self->p, page_gpa(i)), i);
	assert_same(self->mem, self->before, "one by one");

	/* What came out has not made the pages writable, or unreadable. */
	for (i = 0; i < PAGES; i += 11)
		assert_comes_out(self->p, 0, page_gpa(i), ~i);
	assert_same(self->mem, self->before, "one by one, mapped");
}

/* Back to writable: reads do not take a fault for it. */
TEST_F(readonly, reads_do_not_care_for_writable)
{
	uint64_t i, faults;
	int round;

	for (round = 0; round < 5; round++) {
		assert_readonly(self->dev, true);
		for (i = 0; i < PAGES; i++)
			probe_read(self->p, page_gpa(i));
		faults = probe_faults(self->p);
		assert_readonly(self->dev, false);
		for (i = 0; i < PAGES; i++)
			probe_read(self->p, page_gpa(i));
		faults = probe_faults(self->p) - faults;
		TEST_ASSERT(!faults, "SET_READONLY 0 costs reads %lu faults",
			    faults);
		for (i = 0; i < PAGES; i++)
			probe_write(self->p, page_gpa(i), i + round);
		for (i = 0; i < PAGES; i++)
			TEST_ASSERT_EQ(*(uint64_t *)(self->mem + i * PAGE_SIZE),
				       i + round);
	}
}

/* What it is already is fine, and nothing. */
TEST_F(readonly, same_again_is_nothing)
{
	uint64_t i, faults;

	for (i = 0; i < PAGES; i++)
		probe_write(self->p, page_gpa(i), i);
	faults = probe_faults(self->p);
	for (i = 0; i < 10; i++)
		assert_readonly(self->dev, false);
	memslot_ops_assert_stats(self->dev, 0, 0, 0);

	assert_readonly(self->dev, true);
	for (i = 0; i < PAGES; i++)
		probe_read(self->p, page_gpa(i));
	TEST_ASSERT(probe_faults(self->p) > faults, "nothing was zapped");
	faults = probe_faults(self->p);
	for (i = 0; i < 10; i++)
		assert_readonly(self->dev, true);
	for (i = 0; i < PAGES; i++)
		probe_read(self->p, page_gpa(i));
	TEST_ASSERT_EQ(probe_faults(self->p), faults);
	memslot_ops_assert_stats(self->dev, 1, 0, 0);
}

/* To and fro under readers, who never notice. */
TEST_F(readonly, readers_see_nothing_of_500_toggles)
{
	struct unrest *unrest = unrest_start(NULL, 0);
	struct probe_exits exits;
	int round, id;
	uint64_t i;

	for (i = 0; i < PAGES; i++)
		probe_write(self->p, page_gpa(i), i);
	for (id = 1; id < NR_VCPUS; id++)
		probe_loop(self->p, id, PROBE_READ, PROBE_GPA, PAGES);
	for (round = 0; round < 500; round++) {
		assert_readonly(self->dev, !(round % 2));
		i = host_random_between(0, PAGES - 1);
		if (round % 2)
			probe_write(self->p, page_gpa(i), i);
		else
			assert_comes_out(self->p, 0, page_gpa(i), round);
	}
	probe_wait(self->p, 1);
	probe_stop(self->p);
	exits = probe_exits(self->p);
	TEST_ASSERT(!exits.reads && !exits.writes,
		    "%lu reads came out as MMIO", exits.reads);
	for (i = 0; i < PAGES; i++)
		TEST_ASSERT_EQ(probe_read(self->p, page_gpa(i)), i);
	TEST_ASSERT_EQ(memslot_ops_stat(self->dev, KVM_MEMSLOT_STAT_OPS), 500);
	unrest_stop(unrest);
}

/* --------------------------------------------------------- faults that sleep */

static int call_readonly(void *arg)
{
	return slot_set_readonly(*(int *)arg, PROBE_SLOT, true);
}

/* A writable mapping that such a fault made would let this through. */
static void assert_nothing_is_writable(struct probe *p, char *mem, char *before,
				       uint64_t page)
{
	uint64_t i;

	memcpy(before, mem, RANGE);
	assert_comes_out(p, 1, page_gpa(page) + 8, 0x9999);
	assert_comes_out(p, 2, page_gpa(page) + 16, 0x8888);
	for (i = page - 1; i <= page + 1; i++)
		assert_comes_out(p, 0, page_gpa(i), 0x7777);
	assert_same(mem, before, "after a write that slept");
}

/*
 * A write fault looks the slot up, then sleeps until its page is there.
 * SET_READONLY waits for it. Where the write goes then is its own affair; but
 * the next one comes out.
 */
static void write_sleeps(struct probe *p, int dev, int uffd, char *mem,
			 char *before, bool protected)
{
	const uint64_t page = PAGES - HUGE_PAGES + 5;
	char *at = mem + page * PAGE_SIZE;
	struct probe_result r;
	struct async op;

	/* A neighbour that is mapped, and has been written to. */
	probe_write(p, page_gpa(page - 1), 1);
	if (protected)
		probe_write(p, page_gpa(page), 2);
	else
		TEST_ASSERT_EQ(madvise(at, PAGE_SIZE, MADV_DONTNEED), 0);
	TEST_ASSERT(uffd_hold(uffd, at, PAGE_SIZE, protected), "no userfaultfd");

	probe_begin(p, 1, PROBE_WRITE, page_gpa(page), 0x1234);
	uffd_wait_for_fault(uffd, at);
	async_start(&op, call_readonly, &dev);
	async_wait_for_swap(&op, 1);
	TEST_ASSERT(!probe_is_over(p, 1), "the write did not sleep");

	/* Reads go on meanwhile, mapped or not. */
	probe_read(p, page_gpa(page - 1));
	probe_read(p, page_gpa(HUGE_PAGES));
	TEST_ASSERT(!op.done, "SET_READONLY did not wait");

	uffd_resolve(uffd, at, protected, 0);
	r = probe_end(p, 1);
	TEST_ASSERT(!r.err && !r.nr_reads, "the write ends with error %d", r.err);
	async_must_succeed(&op, "SET_READONLY");
	TEST_ASSERT(r.nr_writes ? *(uint64_t *)at != 0x1234 :
		    *(uint64_t *)at == 0x1234,
		    "the write came out %d times, and memory holds %#lx",
		    r.nr_writes, *(uint64_t *)at);
	uffd_release(uffd, at, PAGE_SIZE);
	assert_nothing_is_writable(p, mem, before, page);
}

TEST_F(readonly, write_to_a_missing_page_sleeps)
{
	REQUIRE(self->uffd >= 0, "no userfaultfd");
	REQUIRE(trace_start(), "no tracefs to tell when the sets are swapped");
	write_sleeps(self->p, self->dev, self->uffd, self->mem, self->before,
		     false);
	trace_stop();
}

TEST_F(readonly, write_to_a_protected_page_sleeps)
{
	REQUIRE(self->uffd >= 0, "no userfaultfd");
	REQUIRE(trace_start(), "no tracefs to tell when the sets are swapped");
	REQUIRE(uffd_hold(self->uffd, self->mem, PAGE_SIZE, true),
		"userfaultfd cannot protect");
	uffd_resolve(self->uffd, self->mem, true, 0);
	uffd_release(self->uffd, self->mem, PAGE_SIZE);
	write_sleeps(self->p, self->dev, self->uffd, self->mem, self->before,
		     true);
	trace_stop();
}

/*
 * While one write sleeps, others fault in more pages through the new slot, or
 * use what they have. Nothing of that outlives the call.
 */
TEST_F(readonly, writers_while_a_write_sleeps)
{
	const uint64_t page = PAGES - HUGE_PAGES + 5;
	char *at = self->mem + page * PAGE_SIZE;
	struct async op;
	uint64_t i;

	REQUIRE(self->uffd >= 0, "no userfaultfd");
	REQUIRE(trace_start(), "no tracefs to tell when the sets are swapped");
	for (i = 0; i < HUGE_PAGES; i++)
		probe_write(self->p, page_gpa(i), i);
	TEST_ASSERT_EQ(madvise(at, PAGE_SIZE, MADV_DONTNEED), 0);
	TEST_ASSERT(uffd_hold(self->uffd, at, PAGE_SIZE, false),
		    "no userfaultfd of the memory");
	probe_begin(self->p, 1, PROBE_WRITE, page_gpa(page), 0x1234);
	uffd_wait_for_fault(self->uffd, at);
	async_start(&op, call_readonly, &self->dev);
	async_wait_for_swap(&op, 1);

	probe_loop(self->p, 2, PROBE_WRITE, page_gpa(LOOP), LOOP_PAGES);
	probe_loop(self->p, 3, PROBE_READ, page_gpa(LOOP), 2 * HUGE_PAGES);
	probe_wait(self->p, 1);
	TEST_ASSERT(!op.done, "SET_READONLY did not wait");

	uffd_resolve(self->uffd, at, false, 0);
	probe_end(self->p, 1);
	async_must_succeed(&op, "SET_READONLY");
	memcpy(self->before, self->mem, RANGE);
	probe_wait(self->p, 2);
	probe_stop(self->p);
	assert_same(self->mem, self->before, "writers meanwhile");
	TEST_ASSERT_EQ(probe_exits(self->p).reads, 0);
	uffd_release(self->uffd, at, PAGE_SIZE);
	assert_nothing_is_writable(self->p, self->mem, self->before, page);
	trace_stop();
}

/* ----------------------------------------------------------- emulated writes */

/* KVM writes for the guest: by the host address, not by the page table. */
static void emulated_write(struct probe *p, int dev, char *mem, char *before,
			   enum probe_how how)
{
	struct probe_result r;
	uint64_t i;

	for (i = 0; i < 3 * HUGE_PAGES; i += 100) {
		r = probe_access(p, 0, how, page_gpa(i) + 3, 0x5a);
		TEST_ASSERT(!r.nr_writes && !r.err,
			    "an emulated write came out: %d, error %d",
			    r.nr_writes, r.err);
		TEST_ASSERT_EQ(mem[i * PAGE_SIZE + 3], 0x5a);
	}

	assert_readonly(dev, true);
	memcpy(before, mem, RANGE);
	for (i = 0; i < 3 * HUGE_PAGES; i += 50) {
		r = probe_access(p, i / 50 % NR_VCPUS, how, page_gpa(i) + 3,
				 0x77);
		TEST_ASSERT(r.nr_writes == 1 && r.gpa == page_gpa(i) + 3 &&
			    r.data == 0x77 && r.len == 1 && !r.err,
			    "emulated write of 0x77 at %#lx: %d exits, the last with %#lx in %u bytes at %#lx; error %d",
			    page_gpa(i) + 3, r.nr_writes, r.data, r.len, r.gpa,
			    r.err);
	}
	assert_same(mem, before, "emulated");

	assert_readonly(dev, false);
	r = probe_access(p, 0, how, page_gpa(7) + 3, 0x11);
	TEST_ASSERT_EQ(r.nr_writes, 0);
	TEST_ASSERT_EQ(mem[7 * PAGE_SIZE + 3], 0x11);
}

TEST_F(readonly, string_input)
{
	emulated_write(self->p, self->dev, self->mem, self->before, PROBE_INS);
}

TEST_F(readonly, copy_from_mmio)
{
	emulated_write(self->p, self->dev, self->mem, self->before, PROBE_MOVS);
}

/* In loops, with the exit to user space in the middle of each. */
TEST_F(readonly, emulated_writes_meanwhile)
{
	int round;
	uint64_t i;

	for (i = 0; i < PAGES; i++)
		probe_write(self->p, page_gpa(i), i);
	for (round = 0; round < 3; round++) {
		probe_loop(self->p, 1, PROBE_INS, page_gpa(0), 32);
		probe_loop(self->p, 2, PROBE_MOVS, page_gpa(0), 32);
		probe_loop(self->p, 3, PROBE_INS, page_gpa(HUGE_PAGES), 32);
		probe_wait(self->p, 1);
		assert_readonly(self->dev, true);
		/* What the ports and MMIO read as is 0; look for that. */
		memset(self->mem, 0x33, 2 * HUGE_SIZE);
		memcpy(self->before, self->mem, RANGE);
		probe_wait(self->p, 1);
		probe_stop(self->p);
		assert_same(self->mem, self->before, "emulated, in loops");
		assert_readonly(self->dev, false);
	}
}

/* An emulated write sleeps in its page fault: it holds the slot no less. */
TEST_F(readonly, emulated_write_sleeps)
{
	const uint64_t page = PAGES - HUGE_PAGES + 5;
	char *at = self->mem + page * PAGE_SIZE;
	struct probe_result r;
	struct async op;

	REQUIRE(self->uffd >= 0, "no userfaultfd");
	REQUIRE(trace_start(), "no tracefs to tell when the sets are swapped");
	TEST_ASSERT_EQ(madvise(at, PAGE_SIZE, MADV_DONTNEED), 0);
	TEST_ASSERT(uffd_hold(self->uffd, at, PAGE_SIZE, false),
		    "no userfaultfd of the memory");
	probe_begin(self->p, 1, PROBE_INS, page_gpa(page), 0x12);
	uffd_wait_for_fault(self->uffd, at);
	async_start(&op, call_readonly, &self->dev);
	async_wait_for_swap(&op, 1);
	TEST_ASSERT(!probe_is_over(self->p, 1) && !op.done,
		    "somebody did not wait");

	uffd_resolve(self->uffd, at, false, 0);
	r = probe_end(self->p, 1);
	async_must_succeed(&op, "SET_READONLY");
	TEST_ASSERT(!r.err && (r.nr_writes ? !*at : *at == 0x12),
		    "the write came out %d times, and memory holds %#x",
		    r.nr_writes, *at);
	uffd_release(self->uffd, at, PAGE_SIZE);
	memcpy(self->before, self->mem, RANGE);
	r = probe_access(self->p, 1, PROBE_INS, page_gpa(page), 0x21);
	TEST_ASSERT_EQ(r.nr_writes, 1);
	assert_same(self->mem, self->before, "after an emulated write that slept");
	trace_stop();
}

/* ------------------------------------------------- faults without mmu_lock */

/*
 * Logging leaves mappings that are write-protected, but that the fast page
 * fault may make writable, without mmu_lock or a look at the slot's flags.
 */
TEST_F(readonly, mappings_left_by_dirty_logging)
{
	struct kvm_vm *vm = probe_vm(self->p);
	uint64_t log[PAGES / 64], i;
	int round;

	for (round = 0; round < 3; round++) {
		TEST_ASSERT_EQ(slot_set(vm, PROBE_SLOT, KVM_MEM_LOG_DIRTY_PAGES,
					PROBE_GPA, RANGE, self->mem), 0);
		for (i = 0; i < PAGES; i++)
			probe_write(self->p, page_gpa(i), i);
		kvm_vm_get_dirty_log(vm, PROBE_SLOT, log);
		/* No more logging, and no more faults for what is mapped. */
		TEST_ASSERT_EQ(slot_set(vm, PROBE_SLOT, 0, PROBE_GPA, RANGE,
					self->mem), 0);
		for (i = 0; round && i < PAGES; i += 3)
			probe_read(self->p, page_gpa(i));

		assert_readonly(self->dev, true);
		memcpy(self->before, self->mem, RANGE);
		for (i = 0; i < PAGES; i += 5)
			assert_comes_out(self->p, i % NR_VCPUS, page_gpa(i), ~i);
		for (i = 0; i < PAGES; i++)
			TEST_ASSERT_EQ(probe_read(self->p, page_gpa(i)), i);
		for (i = 0; i < PAGES; i += 5)
			assert_comes_out(self->p, i % NR_VCPUS, page_gpa(i), ~i);
		assert_same(self->mem, self->before, "logged before");
		assert_readonly(self->dev, false);
	}
}

/* ----------------------------------------------------------------- other */

/* KVM's own calls find an ordinary slot; it cannot clear the flag, nor set it. */
TEST_F(readonly, ordinary_slot_afterwards)
{
	struct kvm_vm *vm = probe_vm(self->p);
	uint64_t log[PAGES / 64] = { 0 }, i;

	for (i = 0; i < PAGES; i++)
		probe_write(self->p, page_gpa(i), i);
	assert_readonly(self->dev, true);
	TEST_ASSERT_EQ(slot_set(vm, PROBE_SLOT, 0, PROBE_GPA, RANGE, self->mem),
		       EINVAL);

	/* Moved, read-only as it is. */
	TEST_ASSERT_EQ(slot_set(vm, PROBE_SLOT, KVM_MEM_READONLY,
				PROBE_GPA + 2 * RANGE, RANGE, self->mem), 0);
	TEST_ASSERT(probe_is_mmio(self->p, PROBE_GPA), "moved, but there");
	TEST_ASSERT_EQ(slot_set(vm, PROBE_SLOT, KVM_MEM_READONLY, PROBE_GPA,
				RANGE, self->mem), 0);
	assert_comes_out(self->p, 0, PROBE_GPA, 5);

	assert_readonly(self->dev, false);
	TEST_ASSERT_EQ(slot_set(vm, PROBE_SLOT, KVM_MEM_READONLY, PROBE_GPA,
				RANGE, self->mem), EINVAL);
	TEST_ASSERT_EQ(slot_set(vm, PROBE_SLOT, KVM_MEM_LOG_DIRTY_PAGES,
				PROBE_GPA, RANGE, self->mem), 0);
	for (i = 0; i < PAGES; i++)
		probe_read(self->p, page_gpa(i));
	kvm_vm_get_dirty_log(vm, PROBE_SLOT, log);
	probe_write(self->p, page_gpa(700), 7);
	kvm_vm_get_dirty_log(vm, PROBE_SLOT, log);
	for (i = 0; i < PAGES / 64; i++)
		TEST_ASSERT_EQ(log[i], i == 700 / 64 ? 1UL << 700 % 64 : 0);
	TEST_ASSERT_EQ(slot_set(vm, PROBE_SLOT, 0, PROBE_GPA, RANGE, self->mem),
		       0);

	/* A slot that was made read-only becomes writable. */
	TEST_ASSERT_EQ(slot_set(vm, PROBE_SLOT, 0, PROBE_GPA, 0, self->mem), 0);
	TEST_ASSERT_EQ(slot_set(vm, PROBE_SLOT, KVM_MEM_READONLY, PROBE_GPA,
				RANGE, self->mem), 0);
	assert_comes_out(self->p, 0, page_gpa(3), 5);
	assert_readonly(self->dev, false);
	probe_write(self->p, page_gpa(3), 6);
	TEST_ASSERT_EQ(*(uint64_t *)(self->mem + 3 * PAGE_SIZE), 6);
}

/* The host's memory may itself be read-only; then this is what helps. */
TEST_F(readonly, host_memory_is_read_only)
{
	TEST_ASSERT_EQ(mprotect(self->mem, RANGE, PROT_READ), 0);
	assert_readonly(self->dev, true);
	TEST_ASSERT_EQ(probe_read(self->p, page_gpa(9)), 0);
	assert_comes_out(self->p, 0, page_gpa(9), 9);
	TEST_ASSERT_EQ(mprotect(self->mem, RANGE, PROT_READ | PROT_WRITE), 0);
	assert_comes_out(self->p, 0, page_gpa(9), 9);
	assert_readonly(self->dev, false);
	probe_write(self->p, page_gpa(9), 10);
	TEST_ASSERT_EQ(*(uint64_t *)(self->mem + 9 * PAGE_SIZE), 10);
}

TEST_HARNESS_MAIN
