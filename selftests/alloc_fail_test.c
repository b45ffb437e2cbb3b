// SPDX-License-Identifier: GPL-2.0
/*
 * All or nothing: the first allocation fails, then the second, and so on until
 * an operation needs no more of them.  Each failure must leave everything as it
 * was.  The kernel makes them fail, through /proc/thread-self/fail-nth.
 */
#include "harness.h"

#include "kvm_util.h"
#include "processor.h"

#include "host.h"
#include "memslot_ops.h"
#include "starve.h"

#define GPA		(4 * GIGA_SIZE)
#define ID		3

FIXTURE(alloc_fail) {
	struct kvm_vm *vm;
	char *mem;
	int dev;
};

/* Sizes decide how many pages an array has, and which of them are new. */
FIXTURE_VARIANT(alloc_fail) {
	uint64_t old_size, new_size;
};

FIXTURE_VARIANT_ADD(alloc_fail, small)
{
	.old_size = 3 * PAGE_SIZE,
	.new_size = 10 * PAGE_SIZE,
};

FIXTURE_VARIANT_ADD(alloc_fail, large)
{
	.old_size = 5 * GIGA_SIZE,
	.new_size = 12 * GIGA_SIZE,
};

FIXTURE_VARIANT_ADD(alloc_fail, larger)
{
	.old_size = 40 * GIGA_SIZE + PAGE_SIZE,
	.new_size = 40 * GIGA_SIZE + 2 * PAGE_SIZE,
};

FIXTURE_SETUP(alloc_fail)
{
	self->vm = NULL;
	REQUIRE_OP(KVM_MEMSLOT_OP_GROW);
	REQUIRE(starve_is_possible(), "no fault injection");

	self->vm = vm_create_barebones();
	self->dev = memslot_ops_open(self->vm);
	/* Only addresses matter. */
	self->mem = (void *)(16UL << 40);
	TEST_ASSERT_EQ(slot_set(self->vm, ID, 0, GPA, variant->old_size,
				self->mem), 0);
}

FIXTURE_TEARDOWN(alloc_fail)
{
	if (!self->vm)
		return;
	close(self->dev);
	kvm_vm_free(self->vm);
}

static void recreate(struct kvm_vm *vm, uint64_t size, void *mem)
{
	TEST_ASSERT_EQ(slot_set(vm, ID, 0, GPA, 0, mem), 0);
	TEST_ASSERT_EQ(slot_set(vm, ID, 0, GPA, size, mem), 0);
}

static void fail_each(struct kvm_vm *vm, int dev, void *mem, uint64_t old_size,
		      uint64_t new_size, bool retry)
{
	uint64_t ops, swaps, failures;
	int nth, err, nr_enomem = 0, nr_fallback = 0, fail = starve_open();

	for (nth = 1;; nth++) {
		ops = memslot_ops_stat(dev, KVM_MEMSLOT_STAT_OPS);
		swaps = memslot_ops_stat(dev, KVM_MEMSLOT_STAT_SWAPS);
		failures = memslot_ops_stat(dev, KVM_MEMSLOT_STAT_FAILED);
		starve(fail, nth);
		err = slot_grow(dev, ID, new_size);
		if (!starve_end(fail))
			break;

		if (!err) {
			/* Not every allocation is needed. */
			nr_fallback++;
			slot_assert(vm, ID, 0, GPA, new_size, mem);
			recreate(vm, old_size, mem);
			continue;
		}

		TEST_ASSERT(err == ENOMEM,
			    "allocation %d fails, and GROW with %s", nth,
			    strerror(err));
		nr_enomem++;
		slot_assert(vm, ID, 0, GPA, old_size, mem);
		TEST_ASSERT_EQ(memslot_ops_stat(dev, KVM_MEMSLOT_STAT_OPS), ops);
		TEST_ASSERT_EQ(memslot_ops_stat(dev, KVM_MEMSLOT_STAT_SWAPS),
			       swaps);
		TEST_ASSERT_EQ(memslot_ops_stat(dev, KVM_MEMSLOT_STAT_FAILED),
			       failures + 1);
		if (!retry)
			continue;

		err = slot_grow(dev, ID, new_size);
		TEST_ASSERT(!err, "GROW after failed allocation %d: %s", nth,
			    strerror(err));
		slot_assert(vm, ID, 0, GPA, new_size, mem);
		recreate(vm, old_size, mem);
	}

	close(fail);
	TEST_ASSERT(!err, "GROW without a failed allocation: %s", strerror(err));
	slot_assert(vm, ID, 0, GPA, new_size, mem);
	recreate(vm, old_size, mem);
	ksft_print_msg("%d allocations failed with ENOMEM, %d without harm\n",
		       nr_enomem, nr_fallback);
	TEST_ASSERT(nr_enomem, "no allocation failed");
}

TEST_F(alloc_fail, grow)
{
	/* Without a success in between, what is kept for later is not there. */
	fail_each(self->vm, self->dev, self->mem, variant->old_size,
		  variant->new_size, false);
	fail_each(self->vm, self->dev, self->mem, variant->old_size,
		  variant->new_size, true);
}

TEST_F(alloc_fail, create_device)
{
	int nth, dev, nr_enomem = 0, fail = starve_open();
	bool failed;

	for (nth = 1;; nth++) {
		starve(fail, nth);
		dev = __kvm_create_device(self->vm, memslot_ops_type());
		failed = starve_end(fail);
		if (!failed)
			break;

		if (dev >= 0) {
			close(dev);
			continue;
		}
		nr_enomem++;
		TEST_ASSERT(errno == ENOMEM || errno == ENFILE,
			    "allocation %d fails, and making a device with %s",
			    nth, strerror(errno));
	}
	close(fail);
	TEST_ASSERT(dev >= 0, "making a device fails by itself");
	TEST_ASSERT(nr_enomem, "no allocation failed");
	close(dev);
	TEST_ASSERT_EQ(slot_grow(self->dev, ID, variant->new_size), 0);
	TEST_ASSERT_EQ(memslot_ops_stat(self->dev, KVM_MEMSLOT_STAT_OPS), 1);
}

TEST_HARNESS_MAIN
