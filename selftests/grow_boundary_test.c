// SPDX-License-Identifier: GPL-2.0
/*
 * Huge mappings and the end of a slot: none crosses it while it is there, and
 * nothing keeps them away once it has moved on.
 *
 * KVM's statistics tell how many pages of each size are mapped.  Only the range
 * under test is backed by huge pages, so every huge mapping is one of it.
 */
#include "harness.h"

#include "kvm_util.h"
#include "processor.h"

#include "boundary.h"
#include "hammer.h"
#include "memslot_ops.h"

#define ROUNDS		20

static void start_over(struct hammer *h, uint64_t pages)
{
	hammer_delete_and_create(h, pages * PAGE_SIZE);
	TEST_ASSERT(!hammer_huge_mappings(h), "%lu huge mappings outlive their slot",
		    hammer_huge_mappings(h));
}

static void grow_pages(struct hammer *h, int dev, uint64_t pages)
{
	int err = slot_grow(dev, HAMMER_SLOT, pages * PAGE_SIZE);

	TEST_ASSERT(!err, "GROW to %lu pages: %s", pages, strerror(err));
}

static void assert_huge(struct hammer *h, uint64_t pages, const char *when)
{
	uint64_t want = hammer_whole_frames(h, 0, pages);
	uint64_t got = hammer_huge_mappings(h);

	TEST_ASSERT(got <= want,
		    "%s: %lu huge mappings, but only %lu whole frames in %lu pages: one crosses the end",
		    when, got, want, pages);
	TEST_ASSERT(got == want,
		    "%s: %lu huge mappings, where %lu frames of %lu pages could be: something holds them off",
		    when, got, want, pages);
}

/* The frame's first pages were mapped small; a new page makes it huge. */
TEST_F(boundary, frame_that_was_mapped_small)
{
	uint64_t pages, more;
	int i;

	for (i = 0; i < ROUNDS; i++) {
		pages = host_random_between(1, 3 * HUGE_PAGES);
		more = host_random_between(1, 4 * HUGE_PAGES);

		start_over(self->h, pages);
		hammer_sweep(self->h, 0, pages, HAMMER_ALL);
		assert_huge(self->h, pages, "small");

		grow_pages(self->h, self->dev, pages + more);
		assert_huge(self->h, pages, "after GROW, nothing touched yet");
		hammer_sweep(self->h, pages, more, HAMMER_ALL);
		assert_huge(self->h, pages + more, "after GROW");
	}
}

/* The frame was not mapped at all; one touch maps all of it. */
TEST_F(boundary, frame_that_was_not_mapped)
{
	uint64_t pages, more;
	int i;

	for (i = 0; i < ROUNDS; i++) {
		pages = host_random_between(1, 3 * HUGE_PAGES);
		more = host_random_between(1, 4 * HUGE_PAGES);

		start_over(self->h, pages);
		grow_pages(self->h, self->dev, pages + more);
		hammer_sweep(self->h, 0, pages + more, HAMMER_READ);
		assert_huge(self->h, pages + more, "after GROW");
	}
}

/* The end moves on in many steps, most of them inside of a frame. */
TEST_F(boundary, end_walks_through_frames)
{
	uint64_t pages = 1, more;

	start_over(self->h, pages);
	while (pages < RANGE / PAGE_SIZE) {
		more = min(host_random_between(1, 150),
			   (uint64_t)(RANGE / PAGE_SIZE - pages));
		grow_pages(self->h, self->dev, pages + more);
		hammer_sweep(self->h, pages, more, HAMMER_ALL);
		pages += more;
		assert_huge(self->h, pages, "on the way");
	}
}

/* Counts against huge mappings that were left would show in KVM's own doings. */
TEST_F(boundary, nothing_is_left_behind)
{
	struct kvm_vm *vm = hammer_vm(self->h);
	uint64_t pages = 10, gpa = hammer_gpa(self->h);
	void *hva = hammer_hva(self->h);
	int i;

	start_over(self->h, pages);
	for (i = 0; i < 5; i++) {
		pages += host_random_between(1, HUGE_PAGES);
		grow_pages(self->h, self->dev, pages);
	}
	hammer_sweep(self->h, 0, pages, HAMMER_ALL);
	assert_huge(self->h, pages, "after GROW");

	/* Logging maps small, and lets huge pages come back. */
	TEST_ASSERT_EQ(slot_set(vm, HAMMER_SLOT, KVM_MEM_LOG_DIRTY_PAGES, gpa,
				pages * PAGE_SIZE, hva), 0);
	hammer_sweep(self->h, 0, pages, HAMMER_ALL);
	TEST_ASSERT_EQ(hammer_huge_mappings(self->h), 0);
	TEST_ASSERT_EQ(slot_set(vm, HAMMER_SLOT, 0, gpa, pages * PAGE_SIZE, hva),
		       0);

	start_over(self->h, pages);
	hammer_sweep(self->h, 0, pages, HAMMER_ALL);
	assert_huge(self->h, pages, "created anew");
}

/* The same one level up, where only shape can tell. */
TEST(giant_frames_by_shape)
{
	static const uint64_t ends[] = {
		1, HUGE_PAGES, GIGA_SIZE / PAGE_SIZE - 1, GIGA_SIZE / PAGE_SIZE,
		GIGA_SIZE / PAGE_SIZE + 5, 2 * GIGA_SIZE / PAGE_SIZE - HUGE_PAGES,
		2 * GIGA_SIZE / PAGE_SIZE, 3 * GIGA_SIZE / PAGE_SIZE + 7,
	};
	const struct hammer_config config = {
		.nr_vcpus = 1,
		.max_size = 4 * GIGA_SIZE,
		.sparse = true,
	};
	struct hammer *h;
	int i, j, dev;

	REQUIRE_OP(KVM_MEMSLOT_OP_GROW);
	h = hammer_create(&config);
	dev = memslot_ops_open(hammer_vm(h));
	hammer_slot(h, ends[0] * PAGE_SIZE);
	hammer_populate(h, 0, 1);
	for (i = 1; i < ARRAY_SIZE(ends); i++) {
		grow_pages(h, dev, ends[i]);
		hammer_populate(h, ends[i - 1], 1);
		hammer_populate(h, ends[i] - 1, 1);
		/* The ends of all sizes that the slot has had. */
		for (j = 0; j <= i; j++) {
			hammer_sweep(h, ends[j] - 1, 1, HAMMER_ALL);
			if (j < i)
				hammer_sweep(h, ends[j], 1, HAMMER_ALL);
		}
	}
	hammer_assert_no_bad_exits(h);
	hammer_verify(h);
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

	REQUIRE_OP(KVM_MEMSLOT_OP_GROW);
	host_write(HUGE_1G, "1");
	config.mem = mmap(NULL, GIGA_SIZE, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB |
			  30 << MAP_HUGE_SHIFT, -1, 0);
	REQUIRE(config.mem != MAP_FAILED, "the host has no page of 1 GiB");

	h = hammer_create(&config);
	dev = memslot_ops_open(hammer_vm(h));
	hammer_populate(h, 0, 1);
	hammer_populate(h, pages / 2, 1);
	hammer_populate(h, pages - 1, 1);

	hammer_slot(h, GIGA_SIZE - PAGE_SIZE);
	hammer_sweep(h, 0, 1, HAMMER_ALL);
	hammer_sweep(h, pages / 2, 1, HAMMER_ALL);
	TEST_ASSERT_EQ(vm_stat(hammer_vm(h), "pages_1g"), 0);
	TEST_ASSERT_EQ(hammer_huge_mappings(h), 2);

	grow_pages(h, dev, pages);
	hammer_sweep(h, pages - 1, 1, HAMMER_ALL);
	TEST_ASSERT_EQ(vm_stat(hammer_vm(h), "pages_1g"), 1);
	hammer_sweep(h, 0, 1, HAMMER_ALL);
	hammer_sweep(h, pages / 2, 1, HAMMER_ALL);

	hammer_assert_no_bad_exits(h);
	hammer_verify(h);
	close(dev);
	hammer_free(h);
	host_write(HUGE_1G, "0");
}

TEST_HARNESS_MAIN
