// SPDX-License-Identifier: GPL-2.0
/*
 * What SHRINK, SPLIT, MERGE and SET_READONLY refuse, with which error; and that
 * nothing has changed then.
 */
#include <sys/wait.h>

#include "harness.h"

#include "kvm_util.h"
#include "processor.h"

#include "host.h"
#include "memslot_ops.h"
#include "ops.h"
#include "probe.h"

/*
 * Five slots: three that could be merged, one beside them in guest addresses
 * only, one read-only.
 */
#define A		10
#define B		11
#define C		12
#define D		13
#define RO		14
#define FREE		20
#define PAGES		16
#define SIZE		(PAGES * PAGE_SIZE)
#define RANGE		HUGE_SIZE

static const struct {
	uint32_t slot, flags;
	uint64_t gpa_page, hva_page;
} slots[] = {
	{ A, 0, 0, 0 },
	{ B, 0, PAGES, PAGES },
	{ C, 0, 2 * PAGES, 2 * PAGES },
	{ D, 0, 3 * PAGES, 4 * PAGES },
	{ RO, KVM_MEM_READONLY, 4 * PAGES, 5 * PAGES },
};

FIXTURE(errors) {
	struct probe *p;
	struct kvm_vm *vm;
	char *mem;
	int dev, max;
	uint64_t failed;
};

FIXTURE_SETUP(errors)
{
	const struct probe_config config = {
		.nr_vcpus = 1,
		.size = RANGE,
	};
	int i;

	self->p = NULL;
	REQUIRE_ALL_OPS();
	self->p = probe_create(&config);
	self->vm = probe_vm(self->p);
	self->dev = memslot_ops_open(self->vm);
	self->max = memslot_ops_attr(self->dev, KVM_DEV_MEMSLOT_OPS_GRP_INFO,
				     KVM_MEMSLOT_INFO_MAX_PIECES);
	self->mem = host_map(RANGE, HUGE_SIZE, 0, HOST_PAGES_4K);
	for (i = 0; i < RANGE / PAGE_SIZE; i++)
		*(uint64_t *)(self->mem + i * PAGE_SIZE) = i;
	for (i = 0; i < ARRAY_SIZE(slots); i++)
		TEST_ASSERT_EQ(slot_set(self->vm, slots[i].slot, slots[i].flags,
					PROBE_GPA + slots[i].gpa_page * PAGE_SIZE,
					SIZE, self->mem + slots[i].hva_page *
					PAGE_SIZE), 0);
	self->failed = 0;
}

FIXTURE_TEARDOWN(errors)
{
	if (!self->p)
		return;
	close(self->dev);
	probe_free(self->p);
	munmap(self->mem, RANGE);
}

static void assert_unchanged(struct probe *p, char *mem)
{
	uint64_t gpa, page;
	int i;

	for (i = 0; i < ARRAY_SIZE(slots); i++) {
		gpa = PROBE_GPA + slots[i].gpa_page * PAGE_SIZE;
		page = slots[i].hva_page;
		slot_assert(probe_vm(p), slots[i].slot, slots[i].flags, gpa,
			    SIZE, mem + page * PAGE_SIZE);
		TEST_ASSERT_EQ(probe_read(p, gpa), page);
		TEST_ASSERT_EQ(probe_read(p, gpa + SIZE - PAGE_SIZE),
			       page + PAGES - 1);
		/* Rewrites what is there. */
		TEST_ASSERT_EQ(probe_access(p, 0, PROBE_WRITE, gpa,
					    page).nr_writes, !!slots[i].flags);
	}
	TEST_ASSERT(probe_is_mmio(p, PROBE_GPA + 5 * SIZE),
		    "there is memory after the last slot");
}

static void assert_stats(int dev, uint64_t failed)
{
	TEST_ASSERT_EQ(memslot_ops_stat(dev, KVM_MEMSLOT_STAT_OPS), 0);
	TEST_ASSERT_EQ(memslot_ops_stat(dev, KVM_MEMSLOT_STAT_SWAPS), 0);
	TEST_ASSERT_EQ(memslot_ops_stat(dev, KVM_MEMSLOT_STAT_FAILED), failed);
}

/* A call that must fail, and leave everything as it was. */
#define assert_fails(_call, _errno)					\
do {									\
	int __err = (_call);						\
									\
	TEST_ASSERT(__err == (_errno), "%s gives %d (%s), not %s",	\
		    #_call, __err, strerror(__err), #_errno);		\
	assert_stats(self->dev, ++self->failed);			\
	assert_unchanged(self->p, self->mem);				\
} while (0)

static int call(int dev, unsigned long request, const void *arg)
{
	return ioctl(dev, request, arg) ? errno : 0;
}

/* One cut, one merged slot: the shortest of each. */
struct split1 {
	struct kvm_memslot_split head;
	struct kvm_memslot_cut cut;
};

struct merge1 {
	struct kvm_memslot_merge head;
	uint32_t slot;
};

#define GOOD_SPLIT							\
{									\
	.head = { .slot = A, .nr_cuts = 1 },				\
	.cut = { .offset = PAGE_SIZE, .slot = FREE },			\
}

#define GOOD_MERGE							\
{									\
	.head = { .slot = A, .nr_slots = 1 },				\
	.slot = B,							\
}

static int shrink(int dev, uint32_t slot, uint64_t size)
{
	return slot_shrink(dev, slot, size, NULL);
}

static int split(int dev, uint32_t slot, uint64_t offset, uint32_t piece)
{
	const struct kvm_memslot_cut cut = { .offset = offset, .slot = piece };

	return slot_split(dev, slot, 1, &cut);
}

static int split2(int dev, uint64_t first, uint32_t piece, uint64_t second,
		  uint32_t other)
{
	const struct kvm_memslot_cut cuts[] = {
		{ .offset = first, .slot = piece },
		{ .offset = second, .slot = other },
	};

	return slot_split(dev, A, 2, cuts);
}

static int merge(int dev, uint32_t slot, uint32_t other)
{
	return slot_merge(dev, slot, 1, &other);
}

static int merge3(int dev, uint32_t slot, uint32_t second, uint32_t third)
{
	const uint32_t others[] = { second, third };

	return slot_merge(dev, slot, 2, others);
}

#define shrink(...) shrink(self->dev, __VA_ARGS__)
#define split(...) split(self->dev, __VA_ARGS__)
#define split2(...) split2(self->dev, __VA_ARGS__)
#define merge(...) merge(self->dev, __VA_ARGS__)
#define merge3(...) merge3(self->dev, __VA_ARGS__)
#define readonly(...) slot_set_readonly(self->dev, __VA_ARGS__)

/* Else all of the below could fail for another reason. */
TEST_F(errors, what_is_not_one)
{
	const struct split1 good = GOOD_SPLIT;
	const struct merge1 good1 = GOOD_MERGE;

	TEST_ASSERT_EQ(call(self->dev, KVM_MEMSLOT_SPLIT, &good), 0);
	TEST_ASSERT_EQ(merge(A, FREE), 0);
	TEST_ASSERT_EQ(call(self->dev, KVM_MEMSLOT_MERGE, &good1), 0);
	TEST_ASSERT_EQ(split(A, SIZE, B), 0);
	TEST_ASSERT_EQ(merge3(A, B, C), 0);
	TEST_ASSERT_EQ(split2(SIZE, B, 2 * SIZE, C), 0);
	TEST_ASSERT_EQ(readonly(RO, 0), 0);
	TEST_ASSERT_EQ(readonly(RO, 1), 0);
	TEST_ASSERT_EQ(shrink(A, SIZE - PAGE_SIZE), 0);
	TEST_ASSERT_EQ(slot_grow(self->dev, A, SIZE), 0);
	assert_unchanged(self->p, self->mem);
	TEST_ASSERT_EQ(memslot_ops_stat(self->dev, KVM_MEMSLOT_STAT_FAILED), 0);
}

TEST_F(errors, einval_flags_and_pads)
{
	int bit;

	for (bit = 0; bit < 32; bit++) {
		const struct kvm_memslot_shrink shrink = {
			.slot = A,
			.flags = 1U << bit,
			.memory_size = PAGE_SIZE,
		};
		struct kvm_memslot_set_readonly readonly = {
			.slot = A,
			.flags = 1U << bit,
			.readonly = 1,
		};
		struct split1 split = GOOD_SPLIT;
		struct merge1 merge = GOOD_MERGE;

		assert_fails(call(self->dev, KVM_MEMSLOT_SHRINK, &shrink), EINVAL);

		split.head.flags = 1U << bit;
		assert_fails(call(self->dev, KVM_MEMSLOT_SPLIT, &split), EINVAL);
		split = (struct split1)GOOD_SPLIT;
		split.head.pad = 1U << bit;
		assert_fails(call(self->dev, KVM_MEMSLOT_SPLIT, &split), EINVAL);
		split = (struct split1)GOOD_SPLIT;
		split.cut.pad = 1U << bit;
		assert_fails(call(self->dev, KVM_MEMSLOT_SPLIT, &split), EINVAL);

		merge.head.flags = 1U << bit;
		assert_fails(call(self->dev, KVM_MEMSLOT_MERGE, &merge), EINVAL);
		merge = (struct merge1)GOOD_MERGE;
		merge.head.pad = 1U << bit;
		assert_fails(call(self->dev, KVM_MEMSLOT_MERGE, &merge), EINVAL);

		assert_fails(call(self->dev, KVM_MEMSLOT_SET_READONLY, &readonly),
			     EINVAL);
		readonly.flags = 0;
		readonly.pad = 1U << bit;
		assert_fails(call(self->dev, KVM_MEMSLOT_SET_READONLY, &readonly),
			     EINVAL);
		/* Also where nothing is to be done. */
		readonly.readonly = 0;
		assert_fails(call(self->dev, KVM_MEMSLOT_SET_READONLY, &readonly),
			     EINVAL);
		readonly.pad = 0;
		readonly.readonly = bit ? 1U << bit : -1;
		assert_fails(call(self->dev, KVM_MEMSLOT_SET_READONLY, &readonly),
			     EINVAL);
	}
}

TEST_F(errors, einval_slot_number)
{
	const uint32_t user_slots = kvm_check_cap(KVM_CAP_NR_MEMSLOTS);
	const uint32_t bad[] = {
		/* KVM's own: TSS, identity map, APIC page; and none at all. */
		user_slots, user_slots + 1, user_slots + 2, user_slots + 3,
		0x7fff, 0x8000, 0xffff,
		/* Address spaces there are not. */
		SLOT(2, A), SLOT(0x7fff, A), SLOT(0xffff, A), SLOT(0x8000, A),
	};
	int i;

	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_fails(shrink(bad[i], PAGE_SIZE), EINVAL);
		assert_fails(shrink(bad[i], 0), EINVAL);
		assert_fails(split(bad[i], PAGE_SIZE, FREE), EINVAL);
		assert_fails(split(A, PAGE_SIZE, bad[i]), EINVAL);
		assert_fails(split2(PAGE_SIZE, FREE, 2 * PAGE_SIZE, bad[i]),
			     EINVAL);
		assert_fails(merge(bad[i], B), EINVAL);
		assert_fails(merge(A, bad[i]), EINVAL);
		assert_fails(merge3(A, B, bad[i]), EINVAL);
		assert_fails(readonly(bad[i], 1), EINVAL);
		assert_fails(readonly(bad[i], 0), EINVAL);
	}
}

TEST_F(errors, enoent)
{
	const uint32_t last = kvm_check_cap(KVM_CAP_NR_MEMSLOTS) - 1;
	const uint32_t none[] = { FREE, last, SLOT(1, A) };
	const int nr = kvm_has_cap(KVM_CAP_MULTI_ADDRESS_SPACE) ? 3 : 2;
	int i;

	for (i = 0; i < nr; i++) {
		assert_fails(shrink(none[i], PAGE_SIZE), ENOENT);
		assert_fails(shrink(none[i], 0), ENOENT);
		assert_fails(split(none[i], PAGE_SIZE, (none[i] & ~0xffff) | 30),
			     ENOENT);
		assert_fails(readonly(none[i], 1), ENOENT);
		assert_fails(readonly(none[i], 0), ENOENT);
	}
	assert_fails(merge(FREE, B), ENOENT);
	assert_fails(merge(A, FREE), ENOENT);
	assert_fails(merge3(A, B, FREE), ENOENT);
}

/* Slots of the other address space are not for these. */
TEST_F(errors, einval_another_address_space)
{
	const uint32_t other = SLOT(1, B);
	void *hva = self->mem + SIZE;

	REQUIRE(kvm_has_cap(KVM_CAP_MULTI_ADDRESS_SPACE), "one address space");
	assert_fails(split(A, PAGE_SIZE, SLOT(1, FREE)), EINVAL);
	assert_fails(split2(PAGE_SIZE, FREE, 2 * PAGE_SIZE, SLOT(1, FREE + 1)),
		     EINVAL);

	/* All but the address space fits. */
	TEST_ASSERT_EQ(slot_set(self->vm, other, 0, PROBE_GPA + SIZE, SIZE, hva),
		       0);
	assert_fails(merge(A, other), EINVAL);
	assert_fails(merge3(A, other, C), EINVAL);
	slot_assert(self->vm, other, 0, PROBE_GPA + SIZE, SIZE, hva);

	TEST_ASSERT_EQ(slot_set(self->vm, SLOT(1, C), 0, PROBE_GPA + 2 * SIZE,
				SIZE, hva + SIZE), 0);
	assert_fails(merge3(A, B, SLOT(1, C)), EINVAL);
	/* Both of the others are of one. */
	assert_fails(merge3(A, other, SLOT(1, C)), EINVAL);
	TEST_ASSERT_EQ(merge(other, SLOT(1, C)), 0);
	slot_assert(self->vm, other, 0, PROBE_GPA + SIZE, 2 * SIZE, hva);
	assert_unchanged(self->p, self->mem);
}

TEST_F(errors, einval_shrink_size)
{
	assert_fails(shrink(A, SIZE), EINVAL);
	assert_fails(shrink(A, SIZE + PAGE_SIZE), EINVAL);
	assert_fails(shrink(A, 2 * SIZE), EINVAL);
	assert_fails(shrink(A, 1UL << 63), EINVAL);
	assert_fails(shrink(A, -(uint64_t)PAGE_SIZE), EINVAL);
	/* More pages than fit in 32 bits: sizes that truncate to good ones. */
	assert_fails(shrink(A, (1UL << 44) + PAGE_SIZE), EINVAL);
	assert_fails(shrink(A, 1UL << 44), EINVAL);
	assert_fails(shrink(A, 1), EINVAL);
	assert_fails(shrink(A, PAGE_SIZE - 1), EINVAL);
	assert_fails(shrink(A, PAGE_SIZE + 1), EINVAL);
	assert_fails(shrink(A, SIZE - 1), EINVAL);
	assert_fails(shrink(A, SIZE - PAGE_SIZE / 2), EINVAL);
	assert_fails(shrink(A, SIZE + 1), EINVAL);
}

/* These slots keep no bitmap, wherever it was to go. */
TEST_F(errors, einval_dirty_bitmap)
{
	uint64_t bitmap[4] = { 5, 6, 7, 8 };

	assert_fails(slot_shrink(self->dev, A, PAGE_SIZE, bitmap), EINVAL);
	assert_fails(slot_shrink(self->dev, A, 0, bitmap), EINVAL);
	assert_fails(slot_shrink(self->dev, RO, PAGE_SIZE, bitmap), EINVAL);
	TEST_ASSERT(bitmap[0] == 5 && bitmap[1] == 6 && bitmap[2] == 7 &&
		    bitmap[3] == 8, "the bitmap was written to");
}

TEST_F(errors, einval_offset)
{
	assert_fails(split(A, 0, FREE), EINVAL);
	assert_fails(split(A, SIZE, FREE), EINVAL);
	assert_fails(split(A, SIZE + PAGE_SIZE, FREE), EINVAL);
	assert_fails(split(A, 1UL << 63, FREE), EINVAL);
	assert_fails(split(A, -(uint64_t)PAGE_SIZE, FREE), EINVAL);
	assert_fails(split(A, (1UL << 44) + PAGE_SIZE, FREE), EINVAL);
	assert_fails(split(A, 1, FREE), EINVAL);
	assert_fails(split(A, PAGE_SIZE + 1, FREE), EINVAL);
	assert_fails(split(A, 2 * PAGE_SIZE - 1, FREE), EINVAL);
	assert_fails(split(A, PAGE_SIZE / 2, FREE), EINVAL);

	/* The second is no better than the first. */
	assert_fails(split2(PAGE_SIZE, FREE, PAGE_SIZE, FREE + 1), EINVAL);
	assert_fails(split2(2 * PAGE_SIZE, FREE, PAGE_SIZE, FREE + 1), EINVAL);
	assert_fails(split2(PAGE_SIZE, FREE, SIZE, FREE + 1), EINVAL);
	assert_fails(split2(PAGE_SIZE, FREE, 0, FREE + 1), EINVAL);
	assert_fails(split2(0, FREE, PAGE_SIZE, FREE + 1), EINVAL);
	assert_fails(split2(PAGE_SIZE, FREE, 2 * PAGE_SIZE + 8, FREE + 1),
		     EINVAL);
	assert_fails(split2(PAGE_SIZE, FREE, -(uint64_t)PAGE_SIZE, FREE + 1),
		     EINVAL);
}

TEST_F(errors, numbers_of_pieces)
{
	assert_fails(split2(PAGE_SIZE, FREE, 2 * PAGE_SIZE, FREE), EINVAL);

	assert_fails(split(A, PAGE_SIZE, B), EEXIST);
	assert_fails(split(A, PAGE_SIZE, RO), EEXIST);
	assert_fails(split2(PAGE_SIZE, FREE, 2 * PAGE_SIZE, D), EEXIST);
	assert_fails(split2(PAGE_SIZE, D, 2 * PAGE_SIZE, FREE), EEXIST);
	/* Its own is as taken as any. */
	assert_fails(split(A, PAGE_SIZE, A), EEXIST);
	assert_fails(split2(PAGE_SIZE, FREE, 2 * PAGE_SIZE, A), EEXIST);
}

TEST_F(errors, einval_none)
{
	assert_fails(slot_split(self->dev, A, 0, NULL), EINVAL);
	assert_fails(slot_merge(self->dev, A, 0, NULL), EINVAL);
}

/* As many as there may be, in one slot of as many pages. */
TEST_F(errors, most_pieces)
{
	const uint64_t gpa = PROBE_GPA + HUGE_SIZE;
	struct kvm_memslot_cut *cuts;
	const int max = self->max;
	const uint32_t slot = 100;
	uint32_t *merged;
	char *mem;
	int i;

	cuts = calloc(max + 2, sizeof(*cuts));
	merged = calloc(max + 2, sizeof(*merged));
	mem = host_map((max + 2) * PAGE_SIZE, HUGE_SIZE, 0, HOST_PAGES_4K);
	for (i = 0; i < max + 2; i++) {
		cuts[i].offset = (i + 1) * PAGE_SIZE;
		cuts[i].slot = slot + 1 + i;
		merged[i] = slot + 1 + i;
	}

	TEST_ASSERT_EQ(slot_set(self->vm, slot, 0, gpa, (max + 2) * PAGE_SIZE,
				mem), 0);
	assert_fails(slot_split(self->dev, slot, max, cuts), E2BIG);
	assert_fails(slot_split(self->dev, slot, max + 1, cuts), E2BIG);
	slot_assert(self->vm, slot, 0, gpa, (max + 2) * PAGE_SIZE, mem);
	TEST_ASSERT_EQ(slot_set(self->vm, slot, 0, gpa, 0, mem), 0);

	/* One slot a page: too many to merge at once. */
	for (i = 0; i <= max; i++)
		TEST_ASSERT_EQ(slot_set(self->vm, slot + i, 0,
					gpa + i * PAGE_SIZE, PAGE_SIZE,
					mem + i * PAGE_SIZE), 0);
	assert_fails(slot_merge(self->dev, slot, max, merged), E2BIG);
	for (i = 0; i <= max; i++)
		slot_assert(self->vm, slot + i, 0, gpa + i * PAGE_SIZE,
			    PAGE_SIZE, mem + i * PAGE_SIZE);

	/* But not one less. */
	TEST_ASSERT_EQ(slot_merge(self->dev, slot, max - 1, merged), 0);
	slot_assert(self->vm, slot, 0, gpa, max * PAGE_SIZE, mem);
	TEST_ASSERT_EQ(slot_split(self->dev, slot, max - 1, cuts), 0);
	for (i = 0; i <= max; i++)
		slot_assert(self->vm, slot + i, 0, gpa + i * PAGE_SIZE,
			    PAGE_SIZE, mem + i * PAGE_SIZE);
	assert_unchanged(self->p, self->mem);
	free(cuts);
	free(merged);
}

/* Numbers that would not fit in memory, or overflow a size. */
TEST_F(errors, e2big_without_reading)
{
	const uint32_t nrs[] = {
		self->max, self->max + 1, 1U << 16, 1U << 28, 1U << 30, 1U << 31,
		-1U,
	};
	struct split1 split = GOOD_SPLIT;
	struct merge1 merge = GOOD_MERGE;
	int i;

	for (i = 0; i < ARRAY_SIZE(nrs); i++) {
		split.head.nr_cuts = nrs[i];
		assert_fails(call(self->dev, KVM_MEMSLOT_SPLIT, &split), E2BIG);
		merge.head.nr_slots = nrs[i];
		assert_fails(call(self->dev, KVM_MEMSLOT_MERGE, &merge), E2BIG);
	}
}

TEST_F(errors, einval_merge)
{
	/* Not in order. */
	assert_fails(merge(B, A), EINVAL);
	assert_fails(merge3(A, C, B), EINVAL);
	assert_fails(merge3(C, B, A), EINVAL);
	/* Something in between, or other slots on both sides. */
	assert_fails(merge(A, C), EINVAL);
	assert_fails(merge3(A, B, D), EINVAL);
	/* The same one twice. */
	assert_fails(merge(A, A), EINVAL);
	assert_fails(merge3(A, B, B), EINVAL);
	assert_fails(merge3(A, B, A), EINVAL);
	/* Host addresses are not contiguous; guest addresses are. */
	assert_fails(merge(C, D), EINVAL);
	assert_fails(merge3(B, C, D), EINVAL);
	/* Not of the same flags. */
	assert_fails(merge(D, RO), EINVAL);
}

/* Guest addresses are not contiguous; host addresses are. */
TEST_F(errors, einval_merge_gap)
{
	const uint64_t gpa = PROBE_GPA + HUGE_SIZE;

	TEST_ASSERT_EQ(slot_set(self->vm, FREE, 0, gpa, SIZE, self->mem), 0);
	TEST_ASSERT_EQ(slot_set(self->vm, FREE + 1, 0, gpa + SIZE + PAGE_SIZE,
				SIZE, self->mem + SIZE), 0);
	assert_fails(merge(FREE, FREE + 1), EINVAL);
	slot_assert(self->vm, FREE, 0, gpa, SIZE, self->mem);
	slot_assert(self->vm, FREE + 1, 0, gpa + SIZE + PAGE_SIZE, SIZE,
		    self->mem + SIZE);
}

/* One too many pages together: an address space, not memory. */
TEST_F(errors, einval_merge_too_many_pages)
{
	const uint64_t half = (1UL << 30) * PAGE_SIZE;
	void *low = (void *)(16UL << 40);

	REQUIRE(!slot_set(self->vm, FREE, 0, half, half, low) &&
		!slot_set(self->vm, FREE + 1, 0, 2 * half, half, low + half),
		"the CPU has no guest addresses that high");
	/* 2^31 pages, where one less is what KVM allows. */
	assert_fails(merge(FREE, FREE + 1), EINVAL);
	slot_assert(self->vm, FREE, 0, half, half, low);
	slot_assert(self->vm, FREE + 1, 0, 2 * half, half, low + half);

	TEST_ASSERT_EQ(shrink(FREE + 1, half - PAGE_SIZE), 0);
	TEST_ASSERT_EQ(merge(FREE, FREE + 1), 0);
	slot_assert(self->vm, FREE, 0, half, 2 * half - PAGE_SIZE, low);
}

/* An argument that begins, but does not end, in memory. */
static char *before_the_end(char *page, const void *arg, size_t size,
			    size_t there)
{
	return memcpy(page + PAGE_SIZE - there, arg, min(size, there));
}

TEST_F(errors, efault)
{
	const struct kvm_memslot_shrink shrink = {
		.slot = A,
		.memory_size = PAGE_SIZE,
	};
	const struct kvm_memslot_set_readonly readonly = {
		.slot = A,
		.readonly = 1,
	};
	const struct split1 split = GOOD_SPLIT;
	const struct merge1 merge = GOOD_MERGE;
	const struct {
		unsigned long request;
		const void *arg;
		size_t size;
	} calls[] = {
		{ KVM_MEMSLOT_SHRINK, &shrink, sizeof(shrink) },
		{ KVM_MEMSLOT_SPLIT, &split, sizeof(split) },
		{ KVM_MEMSLOT_MERGE, &merge, sizeof(merge) },
		{ KVM_MEMSLOT_SET_READONLY, &readonly, sizeof(readonly) },
	};
	char *page = host_map(2 * PAGE_SIZE, PAGE_SIZE, 0, HOST_PAGES_4K);
	size_t there;
	int i;

	TEST_ASSERT_EQ(mprotect(page + PAGE_SIZE, PAGE_SIZE, PROT_NONE), 0);
	for (i = 0; i < ARRAY_SIZE(calls); i++) {
		assert_fails(call(self->dev, calls[i].request, NULL), EFAULT);
		assert_fails(call(self->dev, calls[i].request, (void *)-8UL),
			     EFAULT);
		assert_fails(call(self->dev, calls[i].request,
				  page + PAGE_SIZE), EFAULT);
		/* Each shorter one, the array's end included. */
		for (there = 4; there < calls[i].size; there += 4)
			assert_fails(call(self->dev, calls[i].request,
					  before_the_end(page, calls[i].arg,
							 calls[i].size, there)),
				     EFAULT);
	}

	/* All of it is just there. */
	TEST_ASSERT_EQ(call(self->dev, KVM_MEMSLOT_SPLIT,
			    before_the_end(page, &split, sizeof(split),
					   sizeof(split))), 0);
}

TEST_F(errors, enotty_is_not_counted)
{
	static const unsigned long requests[] = {
		KVM_MEMSLOT_SHRINK, KVM_MEMSLOT_SPLIT, KVM_MEMSLOT_MERGE,
		KVM_MEMSLOT_SET_READONLY,
	};
	char arg[256] = { 0 };
	int i;

	for (i = 0; i < ARRAY_SIZE(requests); i++) {
		unsigned int nr = _IOC_NR(requests[i]);

		TEST_ASSERT_EQ(call(self->dev, _IO(KVMIO, nr), arg), ENOTTY);
		TEST_ASSERT_EQ(call(self->dev, _IOW(KVMIO, nr, char[64]), arg),
			       ENOTTY);
		TEST_ASSERT_EQ(call(self->dev, _IOWR(KVMIO, nr, char[16]), arg),
			       ENOTTY);
	}
	assert_stats(self->dev, 0);
	assert_unchanged(self->p, self->mem);
}

/* A child has the fd, but not the memory. */
TEST_F(errors, eio_from_another_process)
{
	const struct split1 split = GOOD_SPLIT;
	const struct merge1 merge = GOOD_MERGE;
	int i, pid, status, err;

	for (i = 0; i < 4; i++) {
		pid = fork();
		if (!pid) {
			err = i == 0 ? shrink(A, PAGE_SIZE) :
			      i == 1 ? call(self->dev, KVM_MEMSLOT_SPLIT,
					    &split) :
			      i == 2 ? call(self->dev, KVM_MEMSLOT_MERGE,
					    &merge) : readonly(A, 1);
			_exit(err);
		}
		TEST_ASSERT(waitpid(pid, &status, 0) == pid &&
			    WIFEXITED(status), "the child ended strangely: %#x",
			    status);
		TEST_ASSERT(WEXITSTATUS(status) == EIO,
			    "call %d of another process gives %s", i,
			    strerror(WEXITSTATUS(status)));
	}
	assert_stats(self->dev, 0);
	assert_unchanged(self->p, self->mem);
}

static void assert_not_supported(int dev)
{
	const struct kvm_memslot_cut cut = { .offset = PAGE_SIZE, .slot = FREE };
	const uint32_t other = B;

	TEST_ASSERT_EQ(slot_shrink(dev, A, PAGE_SIZE, NULL), EOPNOTSUPP);
	TEST_ASSERT_EQ(slot_split(dev, A, 1, &cut), EOPNOTSUPP);
	TEST_ASSERT_EQ(slot_merge(dev, A, 1, &other), EOPNOTSUPP);
}

/* Private memory: no slot of such a VM. */
TEST(eopnotsupp_private_memory)
{
	struct kvm_vm *vm;
	char *mem;
	int dev;

	REQUIRE_ALL_OPS();
	REQUIRE(kvm_check_cap(KVM_CAP_VM_TYPES) & BIT(KVM_X86_SW_PROTECTED_VM),
		"no VMs with private memory");
	vm = vm_create_barebones_type(KVM_X86_SW_PROTECTED_VM);
	dev = memslot_ops_open(vm);
	mem = host_map(2 * SIZE, HUGE_SIZE, 0, HOST_PAGES_4K);
	TEST_ASSERT_EQ(slot_set(vm, A, 0, PROBE_GPA, SIZE, mem), 0);
	TEST_ASSERT_EQ(slot_set(vm, B, 0, PROBE_GPA + SIZE, SIZE, mem + SIZE),
		       0);
	assert_not_supported(dev);
	/* Such a VM has no read-only slots either: either error will do. */
	TEST_ASSERT(slot_set_readonly(dev, A, true), "it became read-only");
	slot_assert(vm, A, 0, PROBE_GPA, SIZE, mem);
	slot_assert(vm, B, 0, PROBE_GPA + SIZE, SIZE, mem + SIZE);
	assert_stats(dev, 4);
	close(dev);
	kvm_vm_free(vm);
}

/* Newer kernels let any VM have slots on guest_memfd; GROW, too, refuses them. */
TEST(eopnotsupp_slot_on_guest_memfd)
{
	struct kvm_vm *vm;
	char *mem;
	int dev, fd;

	REQUIRE_ALL_OPS();
	vm = vm_create_barebones();
	REQUIRE(vm_check_cap(vm, KVM_CAP_GUEST_MEMFD),
		"ordinary VMs have no slots on guest_memfd");
	dev = memslot_ops_open(vm);
	fd = vm_create_guest_memfd(vm, 2 * SIZE, 0);
	mem = host_map(2 * SIZE, HUGE_SIZE, 0, HOST_PAGES_4K);
	vm_set_user_memory_region2(vm, A, KVM_MEM_GUEST_MEMFD, PROBE_GPA, SIZE,
				   mem, fd, 0);
	vm_set_user_memory_region2(vm, B, KVM_MEM_GUEST_MEMFD, PROBE_GPA + SIZE,
				   SIZE, mem + SIZE, fd, SIZE);
	TEST_ASSERT_EQ(slot_grow(dev, B, 2 * SIZE), EOPNOTSUPP);
	assert_not_supported(dev);
	TEST_ASSERT_EQ(slot_set_readonly(dev, A, true), EOPNOTSUPP);
	assert_stats(dev, 5);
	close(dev);
	close(fd);
	kvm_vm_free(vm);
}

TEST_HARNESS_MAIN
