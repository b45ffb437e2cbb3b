// SPDX-License-Identifier: GPL-2.0
/*
 * SHRINK under load: what stays does not notice, and what goes is gone when the
 * call returns.
 *
 * "Does not notice" is counted: exits to user space, and page faults on pages
 * that were mapped.  "Gone" is seen in the host's memory: it gets new contents,
 * which no vCPU that keeps writing there must touch.
 */
#include <signal.h>
#include <sys/syscall.h>

#include "harness.h"

#include "kvm_util.h"
#include "processor.h"

#include "async.h"
#include "boundary.h"
#include "hammer.h"
#include "level.h"
#include "memslot_ops.h"
#include "ops.h"
#include "probe.h"
#include "srcu.h"
#include "trace.h"
#include "under_load.h"

static void assert_shrink(int dev, uint32_t slot, uint64_t pages)
{
	int err = slot_shrink(dev, slot, pages * PAGE_SIZE, NULL);

	TEST_ASSERT(!err, "SHRINK of slot %#x to %lu pages: %s", slot, pages,
		    strerror(err));
}

/* ------------------------------------------------------------ under load */

/* Where the next end is to be: on a frame's boundary, beside one, anywhere. */
static uint64_t next_end(uint64_t pages, int step)
{
	uint64_t end = pages - host_random_between(1, min(pages - 1, 700UL));

	if (step % 4 == 1 && end > HUGE_PAGES)
		end = align_down(end, HUGE_PAGES);
	if (step % 4 == 2 && end > HUGE_PAGES)
		end = align_down(end, HUGE_PAGES) + 1;
	return end;
}

/*
 * Every other time the vCPUs keep off the mapping that the new end cuts, and
 * must not take a single fault; else they are all over what stays, and may
 * take one for each page of the mapping and each vCPU.  Where all may be zapped,
 * faults prove nothing, and all that stays must come back.
 */
TEST_F(under_load, shrink)
{
	const bool huge = variant->backing != BACKING_4K;
	uint64_t pages = RANGE_PAGES, end, quiet, faults, most, spent = 0;
	int step, grows = 0;

	for (step = 0; step < 16; step++) {
		if (pages < 1500) {
			int err = slot_grow(self->dev, HAMMER_SLOT, RANGE);

			TEST_ASSERT(!err, "GROW after SHRINK: %s", strerror(err));
			pages = RANGE_PAGES;
			grows++;
		}
		hammer_settle(self->h, pages);
		end = next_end(pages, step);
		quiet = huge ? align_down(end - 1, HUGE_PAGES) : end - 1;
		most = quiet == end - 1 || !(end % HUGE_PAGES) ? 1 : end - quiet;
		if (step / 4 % 2 && quiet)
			hammer_run(self->h, quiet);
		else
			hammer_run(self->h, end);
		hammer_wait(self->h, 100);

		faults = hammer_faults(self->h);
		assert_shrink(self->dev, HAMMER_SLOT, end);
		hammer_wait(self->h, 100);
		if (step / 4 % 2 && quiet && !level_shadows())
			TEST_ASSERT(hammer_faults(self->h) == faults,
				    "SHRINK from %lu to %lu pages: %lu faults on the first %lu",
				    pages, end, hammer_faults(self->h) - faults,
				    quiet);

		hammer_sweep(self->h, 0, end, HAMMER_ALL);
		faults = hammer_faults(self->h) - faults;
		TEST_ASSERT(faults <= most * variant->nr_vcpus ||
			    level_shadows(),
			    "SHRINK from %lu to %lu pages: %lu faults on what stays, %lu mapped small then",
			    pages, end, faults, most);
		spent += faults;
		pages = end;
		hammer_assert_no_bad_exits(self->h);
		slot_assert(hammer_vm(self->h), HAMMER_SLOT, 0,
			    hammer_gpa(self->h), pages * PAGE_SIZE,
			    hammer_hva(self->h));
	}
	hammer_verify(self->h);
	hammer_assert_no_bad_exits(self->h);
	ksft_print_msg("%d steps, %lu faults beside the cuts\n", step, spent);

	memslot_ops_assert_stats(self->dev, step + grows, step + grows, 0);
}

/* -------------------------------------------------------------- the tail */

FIXTURE(tail) {
	struct probe *p;
	char *mem;
	int dev;
};

FIXTURE_VARIANT(tail) {
	enum host_pages host_pages;
	bool unrest;
};

FIXTURE_VARIANT_ADD(tail, 4k)
{
	.host_pages = HOST_PAGES_4K,
};

FIXTURE_VARIANT_ADD(tail, thp)
{
	.host_pages = HOST_PAGES_THP,
};

FIXTURE_VARIANT_ADD(tail, thp_unrest)
{
	.host_pages = HOST_PAGES_THP,
	.unrest = true,
};

#define TAIL_RANGE	(8UL << 20)
#define TAIL_PAGES	(TAIL_RANGE / PAGE_SIZE)
#define TAIL_VCPUS	4

FIXTURE_SETUP(tail)
{
	const struct probe_config config = {
		.nr_vcpus = TAIL_VCPUS,
		.size = TAIL_RANGE,
	};

	self->p = NULL;
	REQUIRE_OP(KVM_MEMSLOT_OP_SHRINK);
	host_seed();
	self->p = probe_create(&config);
	self->dev = memslot_ops_open(probe_vm(self->p));
	self->mem = host_map(TAIL_RANGE, HUGE_SIZE, 0, variant->host_pages);
	memset(self->mem, 0, TAIL_RANGE);
}

FIXTURE_TEARDOWN(tail)
{
	if (!self->p)
		return;
	close(self->dev);
	probe_free(self->p);
	munmap(self->mem, TAIL_RANGE);
}

/* What is done with the tail's memory once it is ours alone. */
enum reuse {
	REUSE_FILL,
	REUSE_REMAP,
	REUSE_DISCARD,
	REUSE_SMALL,			/* the kept part of a huge page stays */
	NR_REUSE,
};

static const char * const reuse_name[] = {
	"filled", "remapped", "discarded", "remapped near the cut",
};

static void reuse(char *tail, size_t size, enum reuse how, int canary)
{
	void *at = tail;

	switch (how) {
	case REUSE_REMAP:
		TEST_ASSERT(!munmap(tail, size), "cannot unmap the tail");
		at = mmap(tail, size, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
		break;
	case REUSE_DISCARD:
		TEST_ASSERT(!madvise(tail, size, MADV_DONTNEED),
			    "cannot discard the tail");
		break;
	case REUSE_SMALL:
		TEST_ASSERT(!munmap(tail, PAGE_SIZE), "cannot unmap a page");
		at = mmap(tail, PAGE_SIZE, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
		break;
	default:
		break;
	}
	TEST_ASSERT(at == tail, "cannot map the tail's place");
	memset(tail, canary, size);
}

static void assert_canary(const char *tail, size_t size, int canary,
			  const char *when)
{
	size_t i;

	for (i = 0; i < size; i++)
		TEST_ASSERT(tail[i] == (char)canary,
			    "%s: a vCPU wrote to the host's memory, %#lx bytes after the end",
			    when, i);
}

/* As the same of SET_READONLY says, no access tells; but KVM counts. */
TEST_F(tail, flushes_what_was_mapped)
{
	struct kvm_vm *vm = probe_vm(self->p);
	uint64_t flushes;
	int id;

	slot_must_set(vm, PROBE_SLOT, 0, PROBE_GPA, TAIL_RANGE, self->mem);
	for (id = 0; id < TAIL_VCPUS; id++)
		probe_loop(self->p, id, PROBE_WRITE, PROBE_GPA, TAIL_PAGES);
	probe_wait(self->p, 1);
	probe_stop(self->p);

	flushes = vm_stat(vm, FLUSHES);
	assert_shrink(self->dev, PROBE_SLOT, TAIL_PAGES - HUGE_PAGES);
	TEST_ASSERT(vm_stat(vm, FLUSHES) > flushes, "what was mapped was not flushed");
	slot_must_set(vm, PROBE_SLOT, 0, PROBE_GPA, 0, NULL);
}

/* All vCPUs write to all pages before, during and after. */
TEST_F(tail, is_out_of_reach_on_return)
{
	uint64_t pages, gone, i;
	struct unrest *unrest = variant->unrest ?
			       unrest_start(self->mem, TAIL_RANGE) : NULL;
	struct probe_exits exits;
	int round, id, canary;
	char *tail;

	for (round = 0; round < 8; round++) {
		const enum reuse how = round % NR_REUSE;

		/* Each access to the tail is an exit, so let there be few. */
		pages = host_random_between(TAIL_PAGES - 700, TAIL_PAGES - 1);
		if (round >= NR_REUSE)
			pages = align_down(pages, HUGE_PAGES);
		gone = TAIL_PAGES - pages;
		tail = self->mem + pages * PAGE_SIZE;
		canary = host_random_between(1, 255);

		slot_must_set(probe_vm(self->p), PROBE_SLOT, 0, PROBE_GPA,
			      TAIL_RANGE, self->mem);
		for (id = 0; id < TAIL_VCPUS; id++)
			probe_loop(self->p, id, id ? PROBE_WRITE : PROBE_READ,
				   PROBE_GPA, TAIL_PAGES);
		probe_wait(self->p, 1);
		probe_forget_exits(self->p);

		assert_shrink(self->dev, PROBE_SLOT, pages);
		reuse(tail, gone * PAGE_SIZE, how, canary);
		probe_wait(self->p, 1);
		exits = probe_exits(self->p);
		probe_stop(self->p);
		assert_canary(tail, gone * PAGE_SIZE, canary, reuse_name[how]);

		TEST_ASSERT(exits.low >= PROBE_GPA + pages * PAGE_SIZE,
			    "%lu pages stayed, but %#lx came out as MMIO", pages,
			    exits.low);
		TEST_ASSERT(!exits.wrong, "%lu writes came out wrong",
			    exits.wrong);
		/* Each writer wrote to each page of the tail once or more. */
		TEST_ASSERT(exits.writes >= (TAIL_VCPUS - 1) * gone &&
			    exits.reads >= gone,
			    "only %lu writes and %lu reads of %lu pages came out",
			    exits.writes, exits.reads, gone);

		/* And what stayed has what was written, up to the last round. */
		for (i = 0; i < pages; i++) {
			for (id = 1; id < TAIL_VCPUS; id++) {
				uint64_t *at = (void *)(self->mem +
							i * PAGE_SIZE);

				TEST_ASSERT(at[id] >> 32 == (PROBE_GPA >> 12) +
					    i, "page %lu: vCPU %d's write is lost",
					    i, id);
			}
		}
		if (pages)
			slot_assert(probe_vm(self->p), PROBE_SLOT, 0, PROBE_GPA,
				    pages * PAGE_SIZE, self->mem);
		if (!pages)
			TEST_ASSERT_EQ(slot_grow(self->dev, PROBE_SLOT,
						 TAIL_RANGE), ENOENT);
		else
			slot_must_set(probe_vm(self->p), PROBE_SLOT, 0, PROBE_GPA,
				      0, self->mem);
	}
	if (unrest)
		unrest_stop(unrest);
}

/*
 * A huge page of the host, one part of it in the slot: what happens to the other
 * part is nobody else's business.
 */
TEST_F(tail, parts_of_a_cut_frame_are_strangers)
{
	struct kvm_vm *vm = probe_vm(self->p);
	const uint64_t pages = HUGE_PAGES + 200;
	char *tail = self->mem + pages * PAGE_SIZE;
	const uint32_t other = PROBE_SLOT + 1;
	uint64_t log[TAIL_PAGES / 64] = { 0 }, i, faults;

	slot_must_set(vm, PROBE_SLOT, 0, PROBE_GPA, TAIL_RANGE, self->mem);
	for (i = 0; i < TAIL_PAGES; i++)
		probe_write(self->p, PROBE_GPA + i * PAGE_SIZE, i + 1);
	assert_shrink(self->dev, PROBE_SLOT, pages);

	/* A slot of its own now, whose writes are logged. */
	slot_must_set(vm, other, KVM_MEM_LOG_DIRTY_PAGES,
		      PROBE_GPA + pages * PAGE_SIZE, TAIL_RANGE - pages * PAGE_SIZE,
		      tail);
	for (i = HUGE_PAGES; i < 2 * HUGE_PAGES; i++)
		TEST_ASSERT_EQ(probe_read(self->p, PROBE_GPA + i * PAGE_SIZE),
			       i + 1);
	kvm_vm_get_dirty_log(vm, other, log);
	for (i = HUGE_PAGES; i < 2 * HUGE_PAGES; i++)
		probe_write(self->p, PROBE_GPA + i * PAGE_SIZE, 2 * i);
	kvm_vm_get_dirty_log(vm, other, log);
	for (i = 0; i < 2 * HUGE_PAGES - pages; i++)
		TEST_ASSERT(log[i / 64] & 1UL << i % 64,
			    "a write to page %lu after the cut is not logged",
			    i);

	/* Logging there does not cost faults here. */
	faults = probe_faults(self->p);
	for (i = HUGE_PAGES; i < pages; i++)
		probe_write(self->p, PROBE_GPA + i * PAGE_SIZE, 3 * i);
	TEST_ASSERT_EQ(probe_faults(self->p), faults);

	/* Nor does the host's protection reach further than it says. */
	TEST_ASSERT_EQ(mprotect(tail, TAIL_RANGE - pages * PAGE_SIZE, PROT_READ),
		       0);
	for (i = HUGE_PAGES; i < pages; i++)
		probe_write(self->p, PROBE_GPA + i * PAGE_SIZE, 4 * i);
	/* This vCPU is stuck there for good. */
	TEST_ASSERT_EQ(probe_access(self->p, 1, PROBE_WRITE, PROBE_GPA +
				    pages * PAGE_SIZE, 7).err, EFAULT);
	TEST_ASSERT_EQ(mprotect(tail, TAIL_RANGE - pages * PAGE_SIZE,
				PROT_READ | PROT_WRITE), 0);

	slot_must_set(vm, other, 0, PROBE_GPA + pages * PAGE_SIZE, 0, tail);
	TEST_ASSERT_EQ(munmap(tail, TAIL_RANGE - pages * PAGE_SIZE), 0);
	for (i = 0; i < pages; i++)
		probe_write(self->p, PROBE_GPA + i * PAGE_SIZE, 5 * i);
	for (i = 0; i < pages; i++)
		TEST_ASSERT_EQ(*(uint64_t *)(self->mem + i * PAGE_SIZE), 5 * i);
}

/* Size 0 removes the slot; other slots keep their mappings, if they can. */
TEST_F(tail, size_0_removes_the_slot)
{
	enum { NR = 4, SPACE = TAIL_PAGES / NR, GONE = 2 };
	struct kvm_vm *vm = probe_vm(self->p);
	uint64_t i, faults;
	int slot, round;

	for (slot = 0; slot < NR; slot++)
		slot_must_set(vm, PROBE_SLOT + slot, 0,
			      PROBE_GPA + slot * SPACE * PAGE_SIZE,
			      SPACE * PAGE_SIZE,
			      self->mem + slot * SPACE * PAGE_SIZE);
	for (round = 0; round < 4; round++) {
		for (i = 0; i < TAIL_PAGES; i++)
			probe_write(self->p, PROBE_GPA + i * PAGE_SIZE, i);
		faults = probe_faults(self->p);
		for (i = 0; i < TAIL_PAGES; i++)
			probe_write(self->p, PROBE_GPA + i * PAGE_SIZE, i);
		TEST_ASSERT_EQ(probe_faults(self->p), faults);

		/* The control: what KVM's own way costs. */
		if (round == 3)
			slot_must_set(vm, PROBE_SLOT + GONE, 0,
				      PROBE_GPA + GONE * SPACE * PAGE_SIZE, 0,
				      self->mem);
		else
			assert_shrink(self->dev, PROBE_SLOT + GONE, 0);
		for (i = 0; i < TAIL_PAGES; i++) {
			if (i / SPACE == GONE)
				continue;
			probe_write(self->p, PROBE_GPA + i * PAGE_SIZE, i);
		}
		faults = probe_faults(self->p) - faults;
		if (round == 3) {
			ksft_print_msg("KVM's delete: %lu faults on other slots\n",
				       faults);
			break;
		}
		TEST_ASSERT(!faults || level_shadows(),
			    "%lu faults on pages of other slots", faults);
		for (i = GONE * SPACE; i < (GONE + 1) * SPACE; i++)
			TEST_ASSERT(probe_is_mmio(self->p, PROBE_GPA +
						  i * PAGE_SIZE),
				    "page %lu of what was removed is there", i);
		TEST_ASSERT_EQ(slot_shrink(self->dev, PROBE_SLOT + GONE, 0,
					   NULL), ENOENT);

		/* The number is free, and so is the place. */
		slot_must_set(vm, PROBE_SLOT + GONE, 0, PROBE_GPA + TAIL_RANGE / 2,
			      SPACE * PAGE_SIZE,
			      self->mem + GONE * SPACE * PAGE_SIZE);
	}
}

/* ---------------------------------------------------- huge mappings */

/* As many frames as can be, none that crosses the end, before and after. */
TEST_F(boundary, no_mapping_crosses_the_end)
{
	const uint64_t phase = variant->gpa_pages;
	uint64_t pages = RANGE_PAGES, end, want, got;
	int step;

	for (step = 0; step < 30; step++) {
		if (pages < 1500) {
			TEST_ASSERT_EQ(slot_grow(self->dev, HAMMER_SLOT, RANGE),
				       0);
			/* All of it can be huge again: map it afresh. */
			TEST_ASSERT_EQ(mprotect(hammer_hva(self->h), RANGE,
						PROT_READ), 0);
			TEST_ASSERT_EQ(mprotect(hammer_hva(self->h), RANGE,
						PROT_READ | PROT_WRITE), 0);
			hammer_sweep(self->h, 0, RANGE_PAGES, HAMMER_ALL);
			TEST_ASSERT_EQ(hammer_huge_mappings(self->h),
				       hammer_whole_frames(self->h, 0, RANGE_PAGES));
			pages = RANGE_PAGES;
		}
		end = next_end(pages + phase, step);
		if (end <= phase + 1)
			continue;
		end -= phase;

		assert_shrink(self->dev, HAMMER_SLOT, end);
		want = hammer_whole_frames(self->h, 0, end);
		got = hammer_huge_mappings(self->h);
		/* The frame before an aligned cut comes back when touched. */
		TEST_ASSERT(got <= want &&
			    (got + 1 >= want || level_shadows()),
			    "SHRINK from %lu to %lu pages leaves %lu huge mappings where %lu frames are whole",
			    pages, end, got, want);
		hammer_sweep(self->h, 0, end, HAMMER_ALL);
		TEST_ASSERT(hammer_huge_mappings(self->h) == want,
			    "in use after SHRINK from %lu to %lu pages: %lu huge mappings where %lu frames are whole",
			    pages, end, hammer_huge_mappings(self->h), want);
		pages = end;
	}
}

/* The same one level up, where only shape can tell. */
TEST(giant_frames_by_shape)
{
	static const uint64_t ends[] = {
		4 * GIGA_SIZE / PAGE_SIZE, 3 * GIGA_SIZE / PAGE_SIZE + 7,
		2 * GIGA_SIZE / PAGE_SIZE, 2 * GIGA_SIZE / PAGE_SIZE - HUGE_PAGES,
		GIGA_SIZE / PAGE_SIZE + 5, GIGA_SIZE / PAGE_SIZE,
		GIGA_SIZE / PAGE_SIZE - 1, HUGE_PAGES, 1,
	};
	const struct hammer_config config = {
		.nr_vcpus = 1,
		.max_size = 4 * GIGA_SIZE,
		.sparse = true,
	};
	struct hammer *h;
	uint64_t before;
	int i, j, dev;

	REQUIRE_OP(KVM_MEMSLOT_OP_SHRINK);
	h = hammer_create(&config);
	dev = memslot_ops_open(hammer_vm(h));
	hammer_slot(h, ends[0] * PAGE_SIZE);
	for (i = 0; i < ARRAY_SIZE(ends); i++)
		hammer_populate(h, ends[i] - 1, 1);
	for (i = 0; i < ARRAY_SIZE(ends); i++) {
		if (i)
			assert_shrink(dev, HAMMER_SLOT, ends[i]);
		for (j = i; j < ARRAY_SIZE(ends); j++)
			hammer_sweep(h, ends[j] - 1, 1, HAMMER_ALL);
		hammer_assert_no_bad_exits(h);
	}
	hammer_verify(h);

	before = hammer_exits(h).mmio;
	hammer_sweep(h, ends[1] - 1, 1, HAMMER_READ);
	TEST_ASSERT_EQ(hammer_exits(h).mmio, before + 1);
	close(dev);
	hammer_free(h);
}

#define HUGE_1G	"/sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages"

/* And where the host has a page of that size. */
TEST(giant_page)
{
	struct hammer_config config = {
		.nr_vcpus = 1,
		.max_size = GIGA_SIZE,
		.sparse = true,
	};
	const uint64_t pages = GIGA_SIZE / PAGE_SIZE;
	struct hammer *h;
	int dev;

	REQUIRE_OP(KVM_MEMSLOT_OP_SHRINK);
	host_write(HUGE_1G, "1");
	config.mem = mmap(NULL, GIGA_SIZE, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB |
			  30 << MAP_HUGE_SHIFT, -1, 0);
	REQUIRE(config.mem != MAP_FAILED, "the host has no page of 1 GiB");

	h = hammer_create(&config);
	dev = memslot_ops_open(hammer_vm(h));
	hammer_populate(h, 0, 1);
	hammer_populate(h, pages / 2, 1);
	hammer_slot(h, GIGA_SIZE);
	hammer_sweep(h, 0, 1, HAMMER_ALL);
	TEST_ASSERT_EQ(vm_stat(hammer_vm(h), "pages_1g"), 1);

	assert_shrink(dev, HAMMER_SLOT, pages - HUGE_PAGES);
	TEST_ASSERT_EQ(vm_stat(hammer_vm(h), "pages_1g"), 0);
	hammer_sweep(h, 0, 1, HAMMER_ALL);
	hammer_sweep(h, pages / 2, 1, HAMMER_ALL);
	TEST_ASSERT_EQ(vm_stat(hammer_vm(h), "pages_1g"), 0);
	TEST_ASSERT_EQ(hammer_huge_mappings(h), 2);

	hammer_assert_no_bad_exits(h);
	hammer_verify(h);
	close(dev);
	hammer_free(h);
	host_write(HUGE_1G, "0");
}

/* -------------------------------------------------------- faults that sleep */

FIXTURE(held) {
	struct probe *p;
	char *mem;
	int dev, uffd;
};

FIXTURE_VARIANT(held) {
	enum host_pages host_pages;
};

FIXTURE_VARIANT_ADD(held, 4k)
{
	.host_pages = HOST_PAGES_4K,
};

FIXTURE_VARIANT_ADD(held, thp)
{
	.host_pages = HOST_PAGES_THP,
};

#define HELD_FRAMES	4
#define HELD_PAGES	(HELD_FRAMES * HUGE_PAGES)
#define HELD_RANGE	(HELD_PAGES * PAGE_SIZE)
/* The cut is inside the second frame. */
#define HELD_CUT	(HUGE_PAGES + 300)

static uint64_t held_gpa(uint64_t page)
{
	return PROBE_GPA + page * PAGE_SIZE;
}

FIXTURE_SETUP(held)
{
	const struct probe_config config = {
		.nr_vcpus = 3,
		.size = HELD_RANGE,
	};

	self->p = NULL;
	REQUIRE_OP(KVM_MEMSLOT_OP_SHRINK);
	self->uffd = uffd_open();
	REQUIRE(self->uffd >= 0, "no userfaultfd");
	REQUIRE(trace_start(), "no tracefs to tell when SHRINK has swapped");
	self->p = probe_create(&config);
	self->dev = memslot_ops_open(probe_vm(self->p));
	self->mem = host_map(HELD_RANGE, HUGE_SIZE, 0, variant->host_pages);
	/* All but the last frame, which faults that sleep are for. */
	memset(self->mem, 0, HELD_RANGE - HUGE_SIZE);
	slot_must_set(probe_vm(self->p), PROBE_SLOT, 0, PROBE_GPA, HELD_RANGE,
		      self->mem);
}

FIXTURE_TEARDOWN(held)
{
	if (!self->p)
		return;
	trace_stop();
	close(self->dev);
	probe_free(self->p);
	munmap(self->mem, HELD_RANGE);
	close(self->uffd);
}

struct shrink_call {
	int dev;
	uint64_t pages;
};

static int call_shrink(void *arg)
{
	struct shrink_call *c = arg;

	return slot_shrink(c->dev, PROBE_SLOT, c->pages * PAGE_SIZE, NULL);
}

/* A fault in what stays sleeps over the swap: its write lands. */
TEST_F(held, fault_of_what_stays)
{
	struct shrink_call call = { self->dev, HELD_PAGES - 5 };
	const uint64_t page = HELD_PAGES - HUGE_PAGES + 7;
	char *at = self->mem + page * PAGE_SIZE;
	struct async shrink;
	struct probe_result result;

	TEST_ASSERT(uffd_hold(self->uffd, self->mem + HELD_RANGE - HUGE_SIZE,
			      HUGE_SIZE, false), "no userfaultfd of the memory");
	probe_begin(self->p, 1, PROBE_WRITE, held_gpa(page), 0x1234);
	uffd_wait_for_fault(self->uffd, at);
	async_start(&shrink, call_shrink, &call);
	async_wait_for_swap(&shrink, 1);
	TEST_ASSERT(!probe_is_over(self->p, 1), "the write did not sleep");

	/* Others go on meanwhile, also where nothing was mapped. */
	probe_write(self->p, held_gpa(3), 3);
	probe_write(self->p, held_gpa(HELD_CUT), 4);
	TEST_ASSERT(!shrink.done, "SHRINK did not wait");

	uffd_resolve(self->uffd, at, false, 0);
	result = probe_end(self->p, 1);
	TEST_ASSERT(!result.nr_writes && !result.err,
		    "the write came out: %d times as MMIO, error %d",
		    result.nr_writes, result.err);
	async_must_succeed(&shrink, "SHRINK");
	TEST_ASSERT_EQ(*(uint64_t *)at, 0x1234);
	TEST_ASSERT(probe_is_mmio(self->p, held_gpa(call.pages)),
		    "the tail is there");
	slot_assert(probe_vm(self->p), PROBE_SLOT, 0, PROBE_GPA,
		    call.pages * PAGE_SIZE, self->mem);
}

/*
 * A fault in the tail sleeps over the swap. SHRINK waits for it; whatever it
 * mapped is gone when SHRINK returns.
 */
TEST_F(held, fault_of_the_tail)
{
	struct shrink_call call = { self->dev, HELD_CUT };
	const uint64_t page = HELD_PAGES - HUGE_PAGES + 7;
	const uint64_t tail_size = HELD_RANGE - HELD_CUT * PAGE_SIZE;
	char *at = self->mem + page * PAGE_SIZE;
	struct async shrink;
	struct probe_result result;

	TEST_ASSERT(uffd_hold(self->uffd, self->mem + HELD_RANGE - HUGE_SIZE,
			      HUGE_SIZE, false), "no userfaultfd of the memory");
	probe_write(self->p, held_gpa(HELD_CUT), 3);
	probe_begin(self->p, 1, PROBE_WRITE, held_gpa(page), 0x1234);
	uffd_wait_for_fault(self->uffd, at);
	async_start(&shrink, call_shrink, &call);
	async_wait_for_swap(&shrink, 1);
	TEST_ASSERT(!probe_is_over(self->p, 1), "the write did not sleep");

	uffd_resolve(self->uffd, at, false, 0x11);
	result = probe_end(self->p, 1);
	TEST_ASSERT_EQ(result.err, 0);
	async_must_succeed(&shrink, "SHRINK");

	/* Another write, by a vCPU that may have it mapped. */
	uffd_release(self->uffd, self->mem + HELD_RANGE - HUGE_SIZE, HUGE_SIZE);
	memset(self->mem + HELD_CUT * PAGE_SIZE, 0x5a, tail_size);
	result = probe_access(self->p, 1, PROBE_WRITE, held_gpa(page), 0x4321);
	assert_canary(self->mem + HELD_CUT * PAGE_SIZE, tail_size, 0x5a,
		      "a fault that slept");
	TEST_ASSERT(result.nr_writes == 1 && result.gpa == held_gpa(page) &&
		    result.data == 0x4321 && result.len == 8,
		    "%d writes to the tail came out, the last of %u bytes, %#lx, at %#lx",
		    result.nr_writes, result.len, result.data, result.gpa);
	TEST_ASSERT(probe_is_mmio(self->p, held_gpa(HELD_CUT)),
		    "the tail is there");
}

/*
 * What leaves is out of every vCPU's reach before it is out of KVM's sight, for
 * then no notifier would find it any more.  Two faults sleep, one over each swap,
 * so that there is time to look.
 */
TEST_F(held, out_of_reach_before_out_of_sight)
{
	struct shrink_call call = { self->dev, HELD_CUT };
	const uint64_t page[] = { 100, 200 };
	struct async shrink;
	uint64_t i;

	REQUIRE(srcu_watch(), "no kprobes to tell whom SHRINK waits for");
	for (i = 0; i < 3 * HUGE_PAGES; i++)
		probe_write(self->p, held_gpa(i), i);
	TEST_ASSERT_EQ(madvise(self->mem + page[0] * PAGE_SIZE, PAGE_SIZE,
			       MADV_DONTNEED), 0);
	TEST_ASSERT_EQ(madvise(self->mem + page[1] * PAGE_SIZE, PAGE_SIZE,
			       MADV_DONTNEED), 0);
	TEST_ASSERT(uffd_hold(self->uffd, self->mem, HUGE_SIZE, false),
		    "no userfaultfd of the memory");

	for (i = 0; i < 2; i++) {
		probe_begin(self->p, 1 + i, PROBE_WRITE, held_gpa(page[i]), 5);
		uffd_wait_for_fault(self->uffd, self->mem + page[i] * PAGE_SIZE);
		if (!i)
			async_start(&shrink, call_shrink, &call);
		else
			uffd_resolve(self->uffd, self->mem + page[0] * PAGE_SIZE,
				     false, 0);
		async_wait_for_swap(&shrink, 1 + i);
		/* The second fault is not to hold up the first wait. */
		if (!i)
			srcu_wait_for_change();
	}
	for (i = HELD_CUT; i < 3 * HUGE_PAGES; i++)
		TEST_ASSERT(probe_is_mmio(self->p, held_gpa(i)),
			    "page %lu of the tail is mapped, and no slot is left to find it by",
			    i);
	TEST_ASSERT(!shrink.done, "SHRINK did not wait");

	uffd_resolve(self->uffd, self->mem + page[1] * PAGE_SIZE, false, 0);
	TEST_ASSERT_EQ(probe_end(self->p, 1).nr_writes, 0);
	TEST_ASSERT_EQ(probe_end(self->p, 2).nr_writes, 0);
	async_must_succeed(&shrink, "SHRINK");
}

/*
 * While SHRINK waits for a reader, a vCPU touches the frame that the cut goes
 * through: it must not be mapped huge, through the old slot or the new one.
 */
TEST_F(held, cut_frame_is_touched_meanwhile)
{
	struct shrink_call call = { self->dev, HELD_CUT };
	const uint64_t page = HELD_PAGES - HUGE_PAGES + 7;
	char *at = self->mem + page * PAGE_SIZE;
	struct kvm_vm *vm = probe_vm(self->p);
	struct async shrink;
	uint64_t i;

	TEST_ASSERT(uffd_hold(self->uffd, self->mem + HELD_RANGE - HUGE_SIZE,
			      HUGE_SIZE, false), "no userfaultfd of the memory");
	probe_write(self->p, held_gpa(3), 3);
	probe_write(self->p, held_gpa(HUGE_PAGES), 4);
	if (variant->host_pages == HOST_PAGES_THP)
		REQUIRE(vm_stat(vm, "pages_2m") == 2, "no huge pages");

	probe_begin(self->p, 1, PROBE_WRITE, held_gpa(page), 0x1234);
	uffd_wait_for_fault(self->uffd, at);
	async_start(&shrink, call_shrink, &call);
	async_wait_for_swap(&shrink, 1);

	for (i = HUGE_PAGES; i < HELD_CUT; i++)
		probe_write(self->p, held_gpa(i), i);
	TEST_ASSERT(vm_stat(vm, "pages_2m") ==
		    (variant->host_pages == HOST_PAGES_THP ? 1 : 0),
		    "%lu huge mappings: one crosses the end",
		    vm_stat(vm, "pages_2m"));
	TEST_ASSERT(!shrink.done, "SHRINK did not wait");

	uffd_resolve(self->uffd, at, false, 0);
	probe_end(self->p, 1);
	async_must_succeed(&shrink, "SHRINK");

	/* The page beside the end belongs to somebody else now. */
	at = self->mem + HELD_CUT * PAGE_SIZE;
	TEST_ASSERT_EQ(munmap(at, PAGE_SIZE), 0);
	for (i = 0; i < HELD_CUT; i++)
		probe_write(self->p, held_gpa(i), 2 * i);
	for (i = 0; i < HELD_CUT; i++)
		TEST_ASSERT_EQ(*(uint64_t *)(self->mem + i * PAGE_SIZE), 2 * i);
	for (i = HELD_CUT; i < HELD_PAGES; i++)
		TEST_ASSERT(probe_is_mmio(self->p, held_gpa(i)),
			    "page %lu of the tail is there", i);
}

/* ------------------------------------------------------------ afterwards */

/* KVM's own calls find an ordinary slot. */
TEST_F(tail, ordinary_slot_afterwards)
{
	struct kvm_vm *vm = probe_vm(self->p);
	const uint64_t pages = 777, size = pages * PAGE_SIZE;
	uint64_t log[TAIL_PAGES / 64] = { 0 }, i;

	slot_must_set(vm, PROBE_SLOT, 0, PROBE_GPA, TAIL_RANGE, self->mem);
	for (i = 0; i < TAIL_PAGES; i++)
		probe_write(self->p, PROBE_GPA + i * PAGE_SIZE, i);
	assert_shrink(self->dev, PROBE_SLOT, pages);

	/* Flags: log, write, read the log. */
	slot_must_set(vm, PROBE_SLOT, KVM_MEM_LOG_DIRTY_PAGES, PROBE_GPA, size,
		      self->mem);
	for (i = 0; i < pages; i++)
		probe_read(self->p, PROBE_GPA + i * PAGE_SIZE);
	kvm_vm_get_dirty_log(vm, PROBE_SLOT, log);
	probe_write(self->p, PROBE_GPA + 600 * PAGE_SIZE, 6);
	probe_write(self->p, PROBE_GPA + 776 * PAGE_SIZE, 7);
	kvm_vm_get_dirty_log(vm, PROBE_SLOT, log);
	for (i = 0; i < DIV_ROUND_UP(pages, 64); i++) {
		uint64_t want = (i == 600 / 64 ? 1UL << 600 % 64 : 0) |
				(i == 776 / 64 ? 1UL << 776 % 64 : 0);

		TEST_ASSERT(log[i] == want, "dirty log word %lu is %#lx, not %#lx",
			    i, log[i], want);
	}
	slot_must_set(vm, PROBE_SLOT, 0, PROBE_GPA, size, self->mem);

	/* Another slot where the tail was, and the numbers of both used anew. */
	slot_must_set(vm, PROBE_SLOT + 1, 0, PROBE_GPA + size, TAIL_RANGE - size,
		      self->mem + size);
	for (i = 0; i < TAIL_PAGES; i++)
		probe_write(self->p, PROBE_GPA + i * PAGE_SIZE, i);
	slot_must_set(vm, PROBE_SLOT, 0, PROBE_GPA, 0, self->mem);
	TEST_ASSERT(probe_is_mmio(self->p, PROBE_GPA), "deleted, but there");
	slot_must_set(vm, PROBE_SLOT, 0, PROBE_GPA, size, self->mem);

	/* Moved away, and back. */
	slot_must_set(vm, PROBE_SLOT, 0, PROBE_GPA + 4 * TAIL_RANGE, size,
		      self->mem);
	TEST_ASSERT(probe_is_mmio(self->p, PROBE_GPA), "moved, but there");
	assert_shrink(self->dev, PROBE_SLOT, 10);
	slot_must_set(vm, PROBE_SLOT, 0, PROBE_GPA, 10 * PAGE_SIZE, self->mem);
	for (i = 0; i < 10; i++)
		TEST_ASSERT_EQ(probe_read(self->p, PROBE_GPA + i * PAGE_SIZE),
			       i);
	TEST_ASSERT(probe_is_mmio(self->p, PROBE_GPA + 10 * PAGE_SIZE),
		    "cut off, but there");

	/* Read-only, by KVM and in place. */
	slot_must_set(vm, PROBE_SLOT, 0, PROBE_GPA, 0, self->mem);
	slot_must_set(vm, PROBE_SLOT, KVM_MEM_READONLY, PROBE_GPA, size, self->mem);
	assert_shrink(self->dev, PROBE_SLOT, 5);
	slot_assert(vm, PROBE_SLOT, KVM_MEM_READONLY, PROBE_GPA, 5 * PAGE_SIZE,
		    self->mem);
	TEST_ASSERT_EQ(probe_access(self->p, 0, PROBE_WRITE, PROBE_GPA,
				    9).nr_writes, 1);
	probe_read(self->p, PROBE_GPA + 4 * PAGE_SIZE);
}

/* ------------------------------------------------------ KVM_PRE_FAULT_MEMORY */

struct prefaulter {
	struct kvm_vcpu *vcpu;
	pthread_t thread;
	uint64_t gpa, size;
	atomic_bool stop;
	uint64_t calls, mapped;
};

static void ignore_signal(int sig)
{
}

/* Maps the range in advance, all the time; as a VMM may. */
static int call_prefault(void *arg)
{
	struct prefaulter *f = arg;

	while (!f->stop) {
		struct kvm_pre_fault_memory range = {
			.gpa = f->gpa,
			.size = f->size,
		};
		int r = __vcpu_ioctl(f->vcpu, KVM_PRE_FAULT_MEMORY, &range);

		if (r && errno != EINTR && errno != EAGAIN && errno != ENOENT)
			return errno;
		f->calls++;
		f->mapped += range.size < f->size;
	}
	return 0;
}

/* Sends that signal every now and then. */
static int call_kicker(void *arg)
{
	struct prefaulter *f = arg;

	while (!f->stop) {
		pthread_kill(f->thread, SIGUSR1);
		usleep(1000);
	}
	return 0;
}

static bool has_mapped(void *arg)
{
	return READ_ONCE(((struct prefaulter *)arg)->mapped);
}

/*
 * While the range is invalid, KVM 6.12 tries again and again, until there is a
 * signal, and SHRINK waits for that; so does KVM's own delete.  What counts is
 * that a signal helps, and that it all goes on afterwards.
 */
TEST_F(tail, prefault_meanwhile)
{
	const struct sigaction action = { .sa_handler = ignore_signal };
	struct kvm_vm *vm = probe_vm(self->p);
	struct prefaulter faulter = {
		.vcpu = probe_vcpu(self->p, 1),
		.gpa = PROBE_GPA,
		.size = TAIL_RANGE,
	};
	struct async prefault, kicker;
	uint64_t pages, all = 0;
	int round;

	REQUIRE(kvm_has_cap(KVM_CAP_PRE_FAULT_MEMORY), "no KVM_PRE_FAULT_MEMORY");
	REQUIRE(!level_shadows(), "it is for direct page tables");
	sigaction(SIGUSR1, &action, NULL);
	async_start(&prefault, call_prefault, &faulter);
	faulter.thread = prefault.thread;
	async_start(&kicker, call_kicker, &faulter);
	for (round = 0; round < 10; round++) {
		pages = host_random_between(1, TAIL_PAGES - 1);
		slot_must_set(vm, PROBE_SLOT, 0, PROBE_GPA, TAIL_RANGE, self->mem);
		TEST_ASSERT(host_wait(has_mapped, &faulter),
			    "nothing is mapped in advance any more");
		probe_write(self->p, PROBE_GPA, 1);

		assert_shrink(self->dev, PROBE_SLOT, pages);
		memset(self->mem + pages * PAGE_SIZE, 0x77,
		       TAIL_RANGE - pages * PAGE_SIZE);
		TEST_ASSERT(probe_is_mmio(self->p, PROBE_GPA +
					  pages * PAGE_SIZE),
			    "the tail is there");
		TEST_ASSERT_EQ(probe_read(self->p, PROBE_GPA), 1);

		assert_shrink(self->dev, PROBE_SLOT, 0);
		TEST_ASSERT(probe_is_mmio(self->p, PROBE_GPA),
			    "the slot is there");
		TEST_ASSERT(!prefault.done, "prefaulting ends with %s",
			    strerror(prefault.err));
		all += faulter.mapped;
		WRITE_ONCE(faulter.mapped, 0);
	}
	faulter.stop = true;
	async_join(&kicker);
	async_must_succeed(&prefault, "prefaulting");
	ksft_print_msg("%lu calls, %lu of which mapped something\n",
		       faulter.calls, all);
}

/* ------------------------------------------------------------ page tables */

#define SPARSE		(512UL << 20)
#define SPARSE_STAYS	(8UL << 20)

/*
 * KVM's limit on page tables follows the VM's size, and where there are more, it frees the oldest.
 */
TEST(what_stays_keeps_its_page_tables)
{
	const struct probe_config config = { .nr_vcpus = 1, .size = SPARSE };
	uint64_t offset, faults;
	struct probe *p;
	char *mem;
	int dev;

	REQUIRE_OP(KVM_MEMSLOT_OP_SHRINK);
	p = probe_create(&config);
	dev = memslot_ops_open(probe_vm(p));
	mem = host_map(SPARSE, HUGE_SIZE, 0, HOST_PAGES_4K);
	slot_must_set(probe_vm(p), PROBE_SLOT, 0, PROBE_GPA, SPARSE, mem);
	for (offset = 0; offset < SPARSE; offset += HUGE_SIZE)
		probe_read(p, PROBE_GPA + offset);

	faults = probe_faults(p);
	assert_shrink(dev, PROBE_SLOT, SPARSE_STAYS / PAGE_SIZE);
	for (offset = 0; offset < SPARSE_STAYS; offset += HUGE_SIZE)
		probe_read(p, PROBE_GPA + offset);
	faults = probe_faults(p) - faults;
	/* Where all may be zapped, they prove nothing. */
	TEST_ASSERT(!faults || level_shadows(), "%lu faults on what stays", faults);

	close(dev);
	probe_free(p);
	munmap(mem, SPARSE);
}

/* Slots that need a page table each, though all of them together have few pages. */
#define NR_SCATTERED	300

static uint64_t faults_of_scattered(struct probe *p)
{
	uint64_t faults = probe_faults(p);
	int i;

	for (i = 0; i < NR_SCATTERED; i++)
		probe_read(p, PROBE_GPA + i * HUGE_SIZE);
	return probe_faults(p) - faults;
}

/* The limit of so small a VM is 64: each one's table goes before it is needed again. */
TEST(limit_on_page_tables_stays)
{
	const struct probe_config config = {
		.nr_vcpus = 1,
		.size = NR_SCATTERED * HUGE_SIZE,
	};
	struct probe *p;
	char *mem;
	int dev, i;

	REQUIRE(level_has_rmaps(), "the TDP MMU has no limit");
	REQUIRE(!level_shadows(), "faults that are the guest's");
	p = probe_create(&config);
	dev = memslot_ops_open(probe_vm(p));
	mem = host_map(2 * PAGE_SIZE, PAGE_SIZE, 0, HOST_PAGES_4K);
	for (i = 0; i < NR_SCATTERED; i++)
		slot_must_set(probe_vm(p), PROBE_SLOT + i, 0, PROBE_GPA + i * HUGE_SIZE,
			      (i ? 1 : 2) * PAGE_SIZE, mem);

	faults_of_scattered(p);
	for (i = 0; i < 8; i++) {
		assert_shrink(dev, PROBE_SLOT, 1);
		faults_of_scattered(p);
		TEST_ASSERT_EQ(slot_grow(dev, PROBE_SLOT, 2 * PAGE_SIZE), 0);
		TEST_ASSERT(faults_of_scattered(p) >= NR_SCATTERED,
			    "after %d operations page tables may be more", 2 * (i + 1));
	}

	close(dev);
	probe_free(p);
	munmap(mem, 2 * PAGE_SIZE);
}

TEST_HARNESS_MAIN
