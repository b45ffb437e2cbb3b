// SPDX-License-Identifier: GPL-2.0
/*
 * GROW while vCPUs hammer the slot: they never notice.
 *
 * "Never notice" is counted, not timed: no exit to user space, and not one
 * page fault on a page that was mapped before.  The same run with KVM's own
 * delete-and-create shows that the counting works.
 */
#include "harness.h"

#include "kvm_util.h"
#include "processor.h"

#include "hammer.h"
#include "memslot_ops.h"

#define RANGE		(64UL << 20)
#define RANGE_PAGES	(RANGE / PAGE_SIZE)

FIXTURE(under_load) {
	struct hammer *h;
};

FIXTURE_VARIANT(under_load) {
	enum host_pages host_pages;
	bool guest_4k;
	uint64_t start;
};

FIXTURE_VARIANT_ADD(under_load, 4k)
{
	.host_pages = HOST_PAGES_4K,
	.start = 256 * PAGE_SIZE,
};

FIXTURE_VARIANT_ADD(under_load, 4k_guest_4k)
{
	.host_pages = HOST_PAGES_4K,
	.guest_4k = true,
	.start = 3 * PAGE_SIZE,
};

FIXTURE_VARIANT_ADD(under_load, 2m)
{
	.host_pages = HOST_PAGES_THP,
	.start = 2 * HUGE_SIZE + 5 * PAGE_SIZE,
};

FIXTURE_SETUP(under_load)
{
	const struct hammer_config config = {
		.nr_vcpus = 2,
		.max_size = RANGE,
		.host_pages = variant->host_pages,
		.guest_4k = variant->guest_4k,
	};

	host_seed();
	self->h = hammer_create(&config);
}

FIXTURE_TEARDOWN(under_load)
{
	if (self->h)
		hammer_free(self->h);
}

struct outcome {
	int steps;
	uint64_t faults;		/* on pages that were mapped before */
	uint64_t touches;		/* during the steps */
};

/*
 * Takes the slot from @start to its full range, and again, in small random
 * steps.  While steps are made, the vCPUs touch only pages that are mapped; in
 * between, they get the new ones.
 */
static struct outcome take_steps(struct hammer *h, uint64_t start, int nr_steps,
				 void (*step)(struct hammer *h, uint64_t size,
					      void *arg), void *arg)
{
	struct outcome outcome = { 0 };
	uint64_t pages = start / PAGE_SIZE, faults, touches;
	int in_window;

	hammer_slot(h, start);
	while (outcome.steps < nr_steps) {
		if (pages == RANGE_PAGES) {
			hammer_pause(h);
			pages = start / PAGE_SIZE;
			hammer_delete_and_create(h, start);
		}
		hammer_settle(h, pages);
		faults = hammer_faults(h);
		touches = hammer_touches(h);

		for (in_window = 0; in_window < 50 && pages < RANGE_PAGES &&
		     outcome.steps < nr_steps; in_window++) {
			pages += host_random_between(1, 64);
			pages = min(pages, (uint64_t)RANGE_PAGES);
			step(h, pages * PAGE_SIZE, arg);
			outcome.steps++;
			hammer_wait(h, 10);
		}
		outcome.faults += hammer_faults(h) - faults;
		outcome.touches += hammer_touches(h) - touches;

		/* What is new is there at once. */
		hammer_extend(h, pages);
		hammer_wait(h, 100);
	}
	hammer_settle(h, pages);
	return outcome;
}

static void grow_step(struct hammer *h, uint64_t size, void *arg)
{
	int err = slot_grow(*(int *)arg, HAMMER_SLOT, size);

	TEST_ASSERT(!err, "GROW to %#lx bytes: %s", size, strerror(err));
}

static void old_step(struct hammer *h, uint64_t size, void *arg)
{
	hammer_delete_and_create(h, size);
}

TEST_F(under_load, grow)
{
	struct outcome o;
	int dev;

	REQUIRE_OP(KVM_MEMSLOT_OP_GROW);
	dev = memslot_ops_open(hammer_vm(self->h));

	o = take_steps(self->h, variant->start, 1000, grow_step, &dev);
	ksft_print_msg("%d steps: %lu touches meanwhile, %lu page faults on mapped pages\n",
		       o.steps, o.touches, o.faults);

	hammer_assert_no_bad_exits(self->h);
	TEST_ASSERT(!o.faults,
		    "%d GROWs cost %lu page faults on pages that were mapped",
		    o.steps, o.faults);
	hammer_verify(self->h);
	if (variant->host_pages == HOST_PAGES_THP)
		TEST_ASSERT(vm_stat(hammer_vm(self->h), "pages_2m"),
			    "nothing was mapped huge");

	memslot_ops_assert_stats(dev, o.steps, o.steps, 0);
	close(dev);
}

/* The control: the same counters, and they count. */
TEST_F(under_load, delete_and_create)
{
	struct hammer_exits exits;
	struct outcome o;

	o = take_steps(self->h, variant->start, 100, old_step, NULL);
	exits = hammer_exits(self->h);
	ksft_print_msg("%d steps: %lu touches meanwhile, %lu page faults on mapped pages\n",
		       o.steps, o.touches, o.faults);
	ksft_print_msg("%lu MMIO exits, %lu internal errors\n", exits.mmio,
		       exits.internal_error);

	TEST_ASSERT(o.faults, "no page was faulted in again");
	TEST_ASSERT(exits.mmio + exits.internal_error,
		    "no vCPU saw its memory blink");
	hammer_verify(self->h);
}

FIXTURE(grow) {
	struct hammer *h;
	int dev;
};

FIXTURE_SETUP(grow)
{
	const struct hammer_config config = {
		.nr_vcpus = 2,
		.max_size = RANGE,
	};

	host_seed();
	self->dev = -1;
	self->h = NULL;
	REQUIRE_OP(KVM_MEMSLOT_OP_GROW);
	self->h = hammer_create(&config);
	self->dev = memslot_ops_open(hammer_vm(self->h));
}

FIXTURE_TEARDOWN(grow)
{
	if (!self->h)
		return;
	close(self->dev);
	hammer_free(self->h);
}

static void assert_grow(int dev, uint32_t slot, uint64_t size)
{
	int err = slot_grow(dev, slot, size);

	TEST_ASSERT(!err, "GROW of slot %#x to %#lx bytes: %s", slot, size,
		    strerror(err));
}

/* The pages are there for every vCPU and every kind of access, at once. */
TEST_F(grow, new_pages_are_there_on_return)
{
	uint64_t pages = 16, more;
	int i;

	hammer_slot(self->h, pages * PAGE_SIZE);
	for (i = 0; i < 100; i++) {
		more = host_random_between(1, 100);
		assert_grow(self->dev, HAMMER_SLOT, (pages + more) * PAGE_SIZE);
		hammer_sweep(self->h, pages, more, HAMMER_ALL);
		hammer_assert_no_bad_exits(self->h);
		pages += more;
		slot_assert(hammer_vm(self->h), HAMMER_SLOT, 0,
			    hammer_gpa(self->h), pages * PAGE_SIZE,
			    hammer_hva(self->h));
	}
	hammer_verify(self->h);
}

/*
 * A vCPU that touched a page before it was memory has that cached as MMIO, in
 * its page table and in the vCPU.
 */
TEST_F(grow, forgets_that_it_was_mmio)
{
	const uint64_t pages = 16, beyond = 8;
	uint64_t before;

	hammer_slot(self->h, pages * PAGE_SIZE);
	hammer_sweep(self->h, 0, pages, HAMMER_ALL);
	hammer_assert_no_bad_exits(self->h);

	hammer_sweep(self->h, pages, beyond, HAMMER_READ | HAMMER_WRITE);
	before = hammer_exits(self->h).mmio;
	/* Two reads and a write, of each of two vCPUs. */
	TEST_ASSERT(before == 2 * 3 * beyond,
		    "%lu pages beyond the slot gave %lu MMIO exits",
		    beyond, before);

	assert_grow(self->dev, HAMMER_SLOT, (pages + beyond) * PAGE_SIZE);
	hammer_sweep(self->h, 0, pages + beyond, HAMMER_ALL);
	TEST_ASSERT(hammer_bad_exits(self->h) == before,
		    "%lu more accesses left the guest after GROW",
		    hammer_bad_exits(self->h) - before);
	hammer_verify(self->h);
}

TEST_F(grow, read_only_slot_stays_read_only)
{
	struct kvm_vm *vm = hammer_vm(self->h);
	const uint64_t pages = 600, old = 100;
	int err;

	REQUIRE(kvm_has_cap(KVM_CAP_READONLY_MEM), "no read-only slots");
	err = slot_set(vm, HAMMER_SLOT, KVM_MEM_READONLY, hammer_gpa(self->h),
		       old * PAGE_SIZE, hammer_hva(self->h));
	TEST_ASSERT(!err, "cannot make a read-only slot: %s", strerror(err));
	hammer_sweep(self->h, 0, old, HAMMER_READ | HAMMER_EXEC);

	assert_grow(self->dev, HAMMER_SLOT, pages * PAGE_SIZE);
	slot_assert(vm, HAMMER_SLOT, KVM_MEM_READONLY, hammer_gpa(self->h),
		    pages * PAGE_SIZE, hammer_hva(self->h));
	hammer_sweep(self->h, 0, pages, HAMMER_READ | HAMMER_EXEC);
	hammer_assert_no_bad_exits(self->h);

	/* Each write, and nothing else, comes to us; old pages and new. */
	hammer_sweep(self->h, old - 10, 20, HAMMER_WRITE);
	TEST_ASSERT_EQ(hammer_bad_exits(self->h), 2 * 20);
	TEST_ASSERT_EQ(hammer_exits(self->h).mmio, 2 * 20);
	hammer_verify(self->h);
}

/* Slots side by side, each growing into the space before the next. */
TEST_F(grow, several_slots_in_random_order)
{
	enum { NR = 8, SPACE = RANGE_PAGES / NR };
	struct kvm_vm *vm = hammer_vm(self->h);
	uint64_t size[NR], gpa, more;
	void *hva;
	int i, step, err;

	for (i = 0; i < NR; i++) {
		gpa = hammer_gpa(self->h) + i * SPACE * PAGE_SIZE;
		hva = hammer_hva(self->h) + i * SPACE * PAGE_SIZE;
		size[i] = host_random_between(1, 100);
		err = slot_set(vm, HAMMER_SLOT + i, 0, gpa, size[i] * PAGE_SIZE,
			       hva);
		TEST_ASSERT(!err, "cannot make slot %d: %s", i, strerror(err));
	}

	for (step = 0; step < 200; step++) {
		i = host_random_between(0, NR - 1);
		if (size[i] == SPACE)
			continue;
		more = min(host_random_between(1, 200), SPACE - size[i]);
		assert_grow(self->dev, HAMMER_SLOT + i,
			    (size[i] + more) * PAGE_SIZE);
		/* The last old one, and the new ones. */
		hammer_sweep(self->h, i * SPACE + size[i] - 1, more + 1,
			     HAMMER_ALL);
		size[i] += more;
	}

	for (i = 0; i < NR; i++) {
		if (size[i] < SPACE)
			assert_grow(self->dev, HAMMER_SLOT + i,
				    SPACE * PAGE_SIZE);
		gpa = hammer_gpa(self->h) + i * SPACE * PAGE_SIZE;
		hva = hammer_hva(self->h) + i * SPACE * PAGE_SIZE;
		slot_assert(vm, HAMMER_SLOT + i, 0, gpa, SPACE * PAGE_SIZE, hva);
	}
	hammer_settle(self->h, RANGE_PAGES);
	hammer_assert_no_bad_exits(self->h);
	hammer_verify(self->h);
}

/* KVM's own calls find an ordinary slot. */
TEST_F(grow, ordinary_slot_afterwards)
{
	struct kvm_vm *vm = hammer_vm(self->h);
	const uint64_t size = RANGE / 2;
	uint64_t gpa = hammer_gpa(self->h), ops;
	void *hva = hammer_hva(self->h);
	int err;

	hammer_slot(self->h, 5 * PAGE_SIZE);
	assert_grow(self->dev, HAMMER_SLOT, size);
	ops = memslot_ops_stat(self->dev, KVM_MEMSLOT_STAT_OPS);
	TEST_ASSERT_EQ(ops, 1);

	/* Flags: log, write, read the log.  A first touch would count as a write. */
	hammer_sweep(self->h, 0, 2000, HAMMER_ALL);
	err = slot_set(vm, HAMMER_SLOT, KVM_MEM_LOG_DIRTY_PAGES, gpa, size, hva);
	TEST_ASSERT(!err, "cannot log dirty pages: %s", strerror(err));
	hammer_sweep(self->h, 0, 2000, HAMMER_READ);
	hammer_sweep(self->h, 1000, 3, HAMMER_WRITE);
	{
		uint64_t log[RANGE / 2 / PAGE_SIZE / 64];
		int i;

		kvm_vm_get_dirty_log(vm, HAMMER_SLOT, log);
		for (i = 0; i < RANGE / 2 / PAGE_SIZE / 64; i++) {
			uint64_t want = i == 1000 / 64 ? 7ULL << 1000 % 64 : 0;

			TEST_ASSERT(log[i] == want,
				    "dirty log word %d is %#lx, not %#lx", i,
				    log[i], want);
		}
	}
	err = slot_set(vm, HAMMER_SLOT, 0, gpa, size, hva);
	TEST_ASSERT(!err, "cannot stop logging: %s", strerror(err));

	/* And back to a size that can grow again. */
	hammer_pause(self->h);
	hammer_delete_and_create(self->h, 7 * PAGE_SIZE);
	assert_grow(self->dev, HAMMER_SLOT, RANGE);
	hammer_settle(self->h, RANGE_PAGES);

	/* Moved away and back, nobody is looking. */
	hammer_pause(self->h);
	err = slot_set(vm, HAMMER_SLOT, 0, gpa + 2 * RANGE, RANGE, hva);
	TEST_ASSERT(!err, "cannot move the slot: %s", strerror(err));
	assert_grow(self->dev, HAMMER_SLOT, RANGE + PAGE_SIZE);
	err = slot_set(vm, HAMMER_SLOT, 0, gpa, RANGE + PAGE_SIZE, hva);
	TEST_ASSERT(!err, "cannot move the slot back: %s", strerror(err));

	hammer_settle(self->h, RANGE_PAGES);
	hammer_assert_no_bad_exits(self->h);
	hammer_verify(self->h);
}

/* System management mode has slots of its own, with the same numbers. */
TEST(second_address_space)
{
	struct kvm_vm *vm;
	char *hva;
	int dev, err;

	REQUIRE_OP(KVM_MEMSLOT_OP_GROW);
	REQUIRE(kvm_has_cap(KVM_CAP_MULTI_ADDRESS_SPACE), "one address space");

	vm = vm_create_barebones();
	REQUIRE(vm_check_cap(vm, KVM_CAP_MULTI_ADDRESS_SPACE) > 1,
		"this VM has one address space");
	dev = memslot_ops_open(vm);
	hva = host_map(RANGE, HUGE_SIZE, 0, HOST_PAGES_4K);

	err = slot_set(vm, SLOT(0, 3), 0, GIGA_SIZE, 4 * PAGE_SIZE, hva);
	TEST_ASSERT(!err, "cannot make the slot: %s", strerror(err));
	err = slot_set(vm, SLOT(1, 3), 0, GIGA_SIZE, 4 * PAGE_SIZE,
		       hva + RANGE / 2);
	TEST_ASSERT(!err, "cannot make the SMM slot: %s", strerror(err));
	/* In the way of the first, but not of the second. */
	err = slot_set(vm, SLOT(0, 4), 0, GIGA_SIZE + 8 * PAGE_SIZE, PAGE_SIZE,
		       hva + 8 * PAGE_SIZE);
	TEST_ASSERT(!err, "cannot make the other slot: %s", strerror(err));

	TEST_ASSERT_EQ(slot_grow(dev, SLOT(0, 3), 20 * PAGE_SIZE), EEXIST);
	TEST_ASSERT_EQ(slot_grow(dev, SLOT(1, 3), 20 * PAGE_SIZE), 0);
	TEST_ASSERT_EQ(slot_grow(dev, SLOT(0, 3), 8 * PAGE_SIZE), 0);
	slot_assert(vm, SLOT(0, 3), 0, GIGA_SIZE, 8 * PAGE_SIZE, hva);
	slot_assert(vm, SLOT(1, 3), 0, GIGA_SIZE, 20 * PAGE_SIZE,
		    hva + RANGE / 2);
	slot_assert(vm, SLOT(0, 4), 0, GIGA_SIZE + 8 * PAGE_SIZE, PAGE_SIZE,
		    hva + 8 * PAGE_SIZE);

	close(dev);
	kvm_vm_free(vm);
}

/* To the most pages that KVM lets a slot have, or the CPU addresses. */
TEST(largest_slot)
{
	uint64_t most = ((1UL << 31) - 1) * PAGE_SIZE, gpa, end;
	void *hva = (void *)(16UL << 40);
	struct kvm_vm *vm;
	int dev, err;

	REQUIRE_OP(KVM_MEMSLOT_OP_GROW);
	vm = vm_create_barebones();
	dev = memslot_ops_open(vm);
	/* What the CPU addresses does not matter to shadow page tables. */
	end = 1UL << (host_shadows_pages() ? 52 : vm->pa_bits);
	most = min(most, end);
	/* Without the TDP MMU there are rmaps, of 2 MiB for each GiB. */
	if (!host_has_tdp_mmu())
		most = min(most, 64 * GIGA_SIZE);
	gpa = end - most;
	ksft_print_msg("%lu GiB from %#lx on\n", most / GIGA_SIZE, gpa);

	/* Nothing needs to be mapped there. */
	err = slot_set(vm, 0, 0, gpa, 3 * PAGE_SIZE, hva);
	TEST_ASSERT(!err, "cannot make the slot: %s", strerror(err));
	TEST_ASSERT_EQ(slot_grow(dev, 0, most + PAGE_SIZE), EINVAL);
	assert_grow(dev, 0, most / 2 - 5 * PAGE_SIZE);
	assert_grow(dev, 0, most);
	slot_assert(vm, 0, 0, gpa, most, hva);
	TEST_ASSERT_EQ(slot_set(vm, 0, 0, gpa, 0, hva), 0);

	close(dev);
	kvm_vm_free(vm);
}

TEST_HARNESS_MAIN
