// SPDX-License-Identifier: GPL-2.0
/*
 * A slot nearly as large as KVM makes them, on a host that has a small part of that in memory:
 * all operations go, and a vCPU at its start notices nothing.
 *
 * Where KVM can be told of page writes by KVMGT, some of its versions have two bytes for each
 * page of any slot, and create none of that size in so little memory.  The slot is as much
 * smaller there as leaves room for a piece with other bytes.
 */
#include "harness.h"

#include "kvm_util.h"
#include "processor.h"

#include "busy.h"
#include "host.h"
#include "memslot_ops.h"
#include "ops.h"

#define ID	2
#define OTHER	3
#define GPA	(4 * GIGA_SIZE)
#define MAX_SIZE	(7936 * GIGA_SIZE)
#define STEP	(GIGA_SIZE / 8)

FIXTURE(giant_slot) {
	struct busy *busy;
	struct kvm_vm *vm;
	char *mem;
	uint64_t size;
	int dev;
	uint64_t faults;
};

FIXTURE_VARIANT(giant_slot) {
	uint32_t flags;
};

FIXTURE_VARIANT_ADD(giant_slot, plain)
{
};

FIXTURE_VARIANT_ADD(giant_slot, logs)
{
	.flags = KVM_MEM_LOG_DIRTY_PAGES,
};

FIXTURE_SETUP(giant_slot)
{
	const struct busy_config config = {
		.nr_vcpus = 1,
		.gpa = GPA,
		.size = HUGE_SIZE,
		.writes = true,
	};

	self->busy = NULL;
	REQUIRE_ALL_OPS();
	REQUIRE(host_has_tdp_mmu(), "the rmaps of such a slot do not fit into memory");
	self->busy = busy_create(&config);
	self->vm = busy_vm(self->busy);
	REQUIRE(GPA + MAX_SIZE + STEP <= 1UL << self->vm->pa_bits,
		"the CPU has no guest addresses that high");
	self->dev = memslot_ops_open(self->vm);
	self->mem = host_map(MAX_SIZE + STEP, GIGA_SIZE, 0, HOST_PAGES_4K);
	self->size = MAX_SIZE;
	if (slot_set(self->vm, ID, variant->flags, GPA, self->size, self->mem) == ENOMEM)
		self->size /= 4;
	slot_must_set(self->vm, ID, variant->flags, GPA, self->size, self->mem);
	ksft_print_msg("The slot has %lu GiB\n", self->size / GIGA_SIZE);
	busy_start(self->busy);
	busy_wait(self->busy);
	self->faults = busy_faults(self->busy);
}

FIXTURE_TEARDOWN(giant_slot)
{
	if (!self->busy)
		return;
	busy_stop(self->busy);
	close(self->dev);
	busy_free(self->busy);
}

static void succeeds(struct _test_data_giant_slot *self, const char *what, int err)
{
	TEST_ASSERT(!err, "%s: %s", what, strerror(err));
	busy_wait(self->busy);
	TEST_ASSERT(busy_faults(self->busy) == self->faults, "%s: %lu faults", what,
		    busy_faults(self->busy) - self->faults);
}

TEST_F(giant_slot, operations)
{
	const uint64_t size = self->size, places[] = { size / 2, size - STEP, 3 * HUGE_SIZE };
	struct kvm_memslot_cut cut = { .slot = OTHER };
	const uint32_t other = OTHER;
	unsigned int i;

	succeeds(self, "GROW", slot_grow(self->dev, ID, size + STEP));
	slot_assert(self->vm, ID, variant->flags, GPA, size + STEP, self->mem);
	succeeds(self, "SHRINK", slot_shrink(self->dev, ID, size, NULL));
	slot_assert(self->vm, ID, variant->flags, GPA, size, self->mem);

	for (i = 0; i < ARRAY_SIZE(places); i++) {
		cut.offset = places[i];
		succeeds(self, "SPLIT", slot_split(self->dev, ID, 1, &cut));
		slot_assert(self->vm, OTHER, variant->flags, GPA + places[i], size - places[i],
			    self->mem + places[i]);
		succeeds(self, "SET_READONLY 1", slot_set_readonly(self->dev, OTHER, true));
		succeeds(self, "SET_READONLY 0", slot_set_readonly(self->dev, OTHER, false));
		succeeds(self, "MERGE", slot_merge(self->dev, ID, 1, &other));
		slot_assert(self->vm, ID, variant->flags, GPA, size, self->mem);
	}
	memslot_ops_assert_stats(self->dev, 2 + 4 * ARRAY_SIZE(places), 2, 0);
}

/* The log has what the vCPU writes to, and nothing else. */
TEST_F(giant_slot, log_is_carried)
{
	const uint64_t size = self->size, words = size / PAGE_SIZE / 64, used = HUGE_PAGES / 64;
	struct kvm_memslot_cut cut = { .slot = OTHER, .offset = size / 2 };
	const uint32_t other = OTHER;
	uint64_t *log, i;

	REQUIRE(variant->flags, "nothing is logged");
	log = host_map(words * sizeof(*log), HUGE_SIZE, 0, HOST_PAGES_4K);
	succeeds(self, "SPLIT", slot_split(self->dev, ID, 1, &cut));
	succeeds(self, "MERGE", slot_merge(self->dev, ID, 1, &other));
	succeeds(self, "GROW", slot_grow(self->dev, ID, size + STEP));
	succeeds(self, "SHRINK", slot_shrink(self->dev, ID, size, NULL));
	kvm_vm_get_dirty_log(self->vm, ID, log);
	for (i = 0; i < words; i++)
		TEST_ASSERT(log[i] == (i < used ? ~0UL : 0), "word %lu of the log is %#lx", i,
			    log[i]);
}

TEST_HARNESS_MAIN
