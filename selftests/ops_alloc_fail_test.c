// SPDX-License-Identifier: GPL-2.0
/*
 * All or nothing: the first allocation fails, then the second, and so on until
 * SHRINK, SPLIT, MERGE or SET_READONLY needs no more of them.  Each failure must
 * leave everything as it was.
 */
#include <fcntl.h>

#include "harness.h"

#include "kvm_util.h"
#include "processor.h"

#include "host.h"
#include "memslot_ops.h"
#include "ops.h"
#include "starve.h"

#define GPA		(4 * GIGA_SIZE)
#define ID		3
#define MOST		9

FIXTURE(alloc_fail) {
	struct kvm_vm *vm;
	char *mem;
	int dev;
};

/* Sizes decide which arrays are pages of their own and which are mapped. */
FIXTURE_VARIANT(alloc_fail) {
	uint64_t size;
	uint64_t cut;			/* where it is cut first */
	int nr_pieces;
};

FIXTURE_VARIANT_ADD(alloc_fail, small)
{
	.size = 10 * PAGE_SIZE,
	.cut = 3 * PAGE_SIZE,
	.nr_pieces = 4,
};

FIXTURE_VARIANT_ADD(alloc_fail, large)
{
	.size = 12 * GIGA_SIZE,
	.cut = 5 * GIGA_SIZE + PAGE_SIZE,
	.nr_pieces = 3,
};

FIXTURE_VARIANT_ADD(alloc_fail, many)
{
	.size = GIGA_SIZE,
	.cut = 700 * PAGE_SIZE,
	.nr_pieces = 9,
};

FIXTURE_SETUP(alloc_fail)
{
	self->vm = NULL;
	REQUIRE_ALL_OPS();
	REQUIRE(starve_is_possible(), "no fault injection");

	self->vm = vm_create_barebones();
	self->dev = memslot_ops_open(self->vm);
	/* Only addresses matter. */
	self->mem = (void *)(16UL << 40);
}

FIXTURE_TEARDOWN(alloc_fail)
{
	if (!self->vm)
		return;
	close(self->dev);
	kvm_vm_free(self->vm);
}

/* Consecutive slots from ID on; the first ends at the cut, the others are alike. */
struct layout {
	int nr;
	uint64_t end[MOST];
	uint32_t flags;
};

static struct layout layout_of(uint64_t size, uint64_t cut, int nr)
{
	struct layout l = { .nr = nr };
	int i;

	for (i = 0; i < nr - 1; i++)
		l.end[i] = cut + i * PAGE_SIZE;
	l.end[nr - 1] = size;
	return l;
}

static uint64_t layout_start(const struct layout *l, int i)
{
	return i ? l->end[i - 1] : 0;
}

static void layout_assert(struct kvm_vm *vm, const struct layout *l, char *mem)
{
	uint64_t start;
	int i;

	for (i = 0; i < l->nr; i++) {
		start = layout_start(l, i);
		slot_assert(vm, ID + i, l->flags, GPA + start,
			    l->end[i] - start, mem + start);
	}
	/* There is no further slot: it can be made, and is gone again. */
	TEST_ASSERT_EQ(slot_set(vm, ID + l->nr, 0, GPA / 2, PAGE_SIZE, mem), 0);
	TEST_ASSERT_EQ(slot_set(vm, ID + l->nr, 0, GPA / 2, 0, mem), 0);
}

static void layout_make(struct kvm_vm *vm, const struct layout *l, char *mem)
{
	uint64_t start;
	int i;

	for (i = 0; i < l->nr; i++) {
		start = layout_start(l, i);
		TEST_ASSERT_EQ(slot_set(vm, ID + i, l->flags, GPA + start,
					l->end[i] - start, mem + start), 0);
	}
}

static void layout_delete(struct kvm_vm *vm, const struct layout *l)
{
	int i;

	for (i = 0; i < l->nr; i++)
		TEST_ASSERT_EQ(slot_set(vm, ID + i, 0, GPA, 0, NULL), 0);
}

/* An operation that takes one layout to the other. */
struct operation {
	const char *name;
	struct layout from, to;
	int swaps;
	void *bitmap;			/* SHRINK's */
	int (*call)(int dev, const struct operation *op);
};

static int call_shrink(int dev, const struct operation *op)
{
	return slot_shrink(dev, ID, op->to.nr ? op->to.end[0] : 0, op->bitmap);
}

static int call_split(int dev, const struct operation *op)
{
	struct kvm_memslot_cut cuts[MOST] = {};
	int i;

	for (i = 1; i < op->to.nr; i++) {
		cuts[i - 1].offset = op->to.end[i - 1];
		cuts[i - 1].slot = ID + i;
	}
	return slot_split(dev, ID, op->to.nr - 1, cuts);
}

static int call_merge(int dev, const struct operation *op)
{
	uint32_t numbers[MOST];
	int i;

	for (i = 1; i < op->from.nr; i++)
		numbers[i - 1] = ID + i;
	return slot_merge(dev, ID, op->from.nr - 1, numbers);
}

static int call_readonly(int dev, const struct operation *op)
{
	return slot_set_readonly(dev, ID, op->to.flags);
}

static int call_failing(int dev, const struct operation *op, int nth,
			bool *failed)
{
	int fd = starve_open(), err;

	starve(fd, nth);
	err = op->call(dev, op);
	*failed = starve_end(fd);
	close(fd);
	return err;
}

struct stats {
	uint64_t ops, swaps, failed;
};

static struct stats stats_of(int dev)
{
	return (struct stats) {
		.ops = memslot_ops_stat(dev, KVM_MEMSLOT_STAT_OPS),
		.swaps = memslot_ops_stat(dev, KVM_MEMSLOT_STAT_SWAPS),
		.failed = memslot_ops_stat(dev, KVM_MEMSLOT_STAT_FAILED),
	};
}

static void start_over(struct kvm_vm *vm, const struct operation *op, char *mem)
{
	layout_assert(vm, &op->to, mem);
	layout_delete(vm, &op->to);
	layout_make(vm, &op->from, mem);
}

static void fail_each(struct kvm_vm *vm, int dev, char *mem,
		      const struct operation *op)
{
	int nth, err, nr_enomem = 0, nr_fallback = 0;
	unsigned long locked = host_locked_pages();
	struct stats before, after;
	bool failed;

	layout_make(vm, &op->from, mem);
	for (nth = 1;; nth++) {
		before = stats_of(dev);
		err = call_failing(dev, op, nth, &failed);
		after = stats_of(dev);
		if (!err) {
			TEST_ASSERT(after.ops == before.ops + 1 &&
				    after.swaps == before.swaps + op->swaps &&
				    after.failed == before.failed,
				    "%s is not counted", op->name);
			start_over(vm, op, mem);
			/* Not every allocation is needed. */
			nr_fallback += failed;
		}
		if (!failed)
			break;
		if (!err)
			continue;

		TEST_ASSERT(err == ENOMEM,
			    "allocation %d fails, and %s with %s", nth,
			    op->name, strerror(err));
		nr_enomem++;
		TEST_ASSERT(after.ops == before.ops &&
			    after.swaps == before.swaps &&
			    after.failed == before.failed + 1,
			    "a failure of %s is not counted as one", op->name);
		TEST_ASSERT_EQ(host_locked_pages(), locked);
		layout_assert(vm, &op->from, mem);

		/* What was given up does not stand in the way. */
		err = op->call(dev, op);
		TEST_ASSERT(!err, "%s after failed allocation %d: %s", op->name,
			    nth, strerror(err));
		start_over(vm, op, mem);
	}
	TEST_ASSERT(!err, "%s without a failed allocation: %s", op->name,
		    strerror(err));
	layout_delete(vm, &op->from);
	ksft_print_msg("%s: %d allocations failed with ENOMEM, %d without harm\n",
		       op->name, nr_enomem, nr_fallback);
	TEST_ASSERT(nr_enomem, "no allocation of %s failed", op->name);
}

/* A part of it, and all of it. */
static void fail_each_of_shrink(struct kvm_vm *vm, int dev, char *mem,
				uint64_t size, uint64_t cut, uint32_t flags,
				void *bitmap)
{
	struct operation op = {
		.name = "SHRINK",
		.from = layout_of(size, 0, 1),
		.to = layout_of(cut, 0, 1),
		.swaps = 2,
		.bitmap = bitmap,
		.call = call_shrink,
	};

	op.from.flags = flags;
	op.to.flags = flags;
	fail_each(vm, dev, mem, &op);
	op.name = "SHRINK to 0";
	op.to.nr = 0;
	fail_each(vm, dev, mem, &op);
}

TEST_F(alloc_fail, shrink)
{
	fail_each_of_shrink(self->vm, self->dev, self->mem, variant->size,
			    variant->cut, 0, NULL);
}

/* It has bits to take over, and a buffer to hold for them. */
TEST_F(alloc_fail, shrink_logged)
{
	size_t bytes = variant->size / PAGE_SIZE / 8 + PAGE_SIZE;

	fail_each_of_shrink(self->vm, self->dev, self->mem, variant->size,
			    variant->cut, KVM_MEM_LOG_DIRTY_PAGES,
			    host_map(bytes, PAGE_SIZE, 0, HOST_PAGES_4K));
}

TEST_F(alloc_fail, split)
{
	const struct operation op = {
		.name = "SPLIT",
		.from = layout_of(variant->size, 0, 1),
		.to = layout_of(variant->size, variant->cut, variant->nr_pieces),
		.swaps = 1,
		.call = call_split,
	};

	fail_each(self->vm, self->dev, self->mem, &op);
}

TEST_F(alloc_fail, merge)
{
	const struct operation op = {
		.name = "MERGE",
		.from = layout_of(variant->size, variant->cut,
				  variant->nr_pieces),
		.to = layout_of(variant->size, 0, 1),
		.swaps = 1,
		.call = call_merge,
	};

	fail_each(self->vm, self->dev, self->mem, &op);
}

TEST_F(alloc_fail, set_readonly)
{
	struct operation op = {
		.name = "SET_READONLY",
		.from = layout_of(variant->size, 0, 1),
		.to = layout_of(variant->size, 0, 1),
		.swaps = 1,
		.call = call_readonly,
	};

	REQUIRE(kvm_has_cap(KVM_CAP_READONLY_MEM), "no read-only slots");
	op.to.flags = KVM_MEM_READONLY;
	fail_each(self->vm, self->dev, self->mem, &op);
	op.from.flags = KVM_MEM_READONLY;
	op.to.flags = 0;
	fail_each(self->vm, self->dev, self->mem, &op);
}

TEST_HARNESS_MAIN
