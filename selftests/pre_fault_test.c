// SPDX-License-Identifier: GPL-2.0
/*
 * KVM_PRE_FAULT_MEMORY is under way while pages that it has not come to yet leave, or
 * come.  It is a reader of the slots from its first page to its last: the operation
 * waits for it, and it finds those pages in an invalid slot.  Linux from 6.18 on ends
 * with EAGAIN then; 6.12 tries again until a signal comes.
 */
#include <signal.h>
#include <sys/mman.h>

#include "harness.h"

#include "kvm_util.h"
#include "processor.h"

#include "async.h"
#include "host.h"
#include "level.h"
#include "memslot_ops.h"
#include "ops.h"
#include "probe.h"
#include "trace.h"

#define NR_PAGES	16
#define RANGE		(NR_PAGES * PAGE_SIZE)
/* What stays, and of that a page that is not there yet. */
#define NR_STAYS	8
#define HELD		2

struct world {
	struct probe *p;
	struct kvm_vm *vm;
	char *mem;
	int dev, uffd;
	struct async pre_fault, op;
	struct kvm_pre_fault_memory range;
	bool grows;
};

FIXTURE(pre_fault) {
	struct world w;
};

FIXTURE_VARIANT(pre_fault) {
	bool grows;
};

FIXTURE_VARIANT_ADD(pre_fault, grow)
{
	.grows = true,
};

FIXTURE_VARIANT_ADD(pre_fault, shrink)
{
	.grows = false,
};

static uint64_t gpa_of(uint64_t page)
{
	return PROBE_GPA + page * PAGE_SIZE;
}

static void wake(int sig)
{
}

static int call_pre_fault(void *arg)
{
	struct world *w = arg;

	return __vcpu_ioctl(probe_vcpu(w->p, 1), KVM_PRE_FAULT_MEMORY, &w->range) ? errno : 0;
}

static int call_op(void *arg)
{
	struct world *w = arg;

	return w->grows ? slot_grow(w->dev, PROBE_SLOT, RANGE) :
			  slot_shrink(w->dev, PROBE_SLOT, NR_STAYS * PAGE_SIZE, NULL);
}

FIXTURE_SETUP(pre_fault)
{
	const struct probe_config config = { .nr_vcpus = 2, .size = RANGE };
	const struct sigaction action = { .sa_handler = wake };
	struct world *w = &self->w;

	w->p = NULL;
	REQUIRE_ALL_OPS();
	REQUIRE(kvm_has_cap(KVM_CAP_PRE_FAULT_MEMORY), "this KVM fetches nothing in advance");
	REQUIRE(!level_shadows(), "it does not on shadow page tables");
	REQUIRE(trace_start(), "no tracefs to tell when the sets are swapped");
	w->uffd = uffd_open();
	REQUIRE(w->uffd >= 0, "no userfaultfd");
	sigaction(SIGUSR1, &action, NULL);

	w->p = probe_create(&config);
	w->vm = probe_vm(w->p);
	w->dev = memslot_ops_open(w->vm);
	w->mem = host_map(RANGE, PAGE_SIZE, 0, HOST_PAGES_4K);
	w->grows = variant->grows;
	slot_must_set(w->vm, PROBE_SLOT, 0, PROBE_GPA,
		      w->grows ? NR_STAYS * PAGE_SIZE : RANGE, w->mem);
	w->range = (struct kvm_pre_fault_memory) {
		.gpa = gpa_of(0),
		.size = RANGE,
	};
}

FIXTURE_TEARDOWN(pre_fault)
{
	if (!self->w.p)
		return;
	trace_stop();
	close(self->w.dev);
	probe_free(self->w.p);
	munmap(self->w.mem, RANGE);
	close(self->w.uffd);
}

/* Has it been at the last page that stays? */
static bool has_come_to_the_end(void *arg)
{
	struct world *w = arg;
	unsigned char there;

	TEST_ASSERT_EQ(mincore(w->mem + (NR_STAYS - 1) * PAGE_SIZE, PAGE_SIZE, &there), 0);
	return there;
}

/* It has read what stays, has found no memory beyond, and both end. */
TEST_F(pre_fault, meets_an_operation)
{
	struct world *w = &self->w;
	char *held = w->mem + HELD * PAGE_SIZE;
	uint64_t page;
	int err;

	TEST_ASSERT(uffd_hold(w->uffd, held, PAGE_SIZE, false), "no userfaultfd of the memory");
	async_start(&w->pre_fault, call_pre_fault, w);
	uffd_wait_for_fault(w->uffd, held);
	async_start(&w->op, call_op, w);
	async_wait_for_swap(&w->op, 1);
	TEST_ASSERT(!w->pre_fault.done && !w->op.done, "nobody waits");

	uffd_resolve(w->uffd, held, false, 0x11);
	if (host_is_before(6, 18)) {
		TEST_ASSERT(host_wait(has_come_to_the_end, w), "it does not go on");
		TEST_ASSERT(!w->pre_fault.done, "KVM_PRE_FAULT_MEMORY does not try again");
		TEST_ASSERT(!w->op.done, "the operation did not wait for a reader");
		pthread_kill(w->pre_fault.thread, SIGUSR1);
	}
	async_must_succeed(&w->op, "the operation");
	err = async_join(&w->pre_fault);
	/* Nothing is said of an error after some pages; where they end is. */
	TEST_ASSERT(!err && w->range.gpa == gpa_of(NR_STAYS),
		    "KVM_PRE_FAULT_MEMORY: %s, up to %#llx", strerror(err), w->range.gpa);

	slot_assert(w->vm, PROBE_SLOT, 0, PROBE_GPA, w->grows ? RANGE : NR_STAYS * PAGE_SIZE,
		    w->mem);
	TEST_ASSERT_EQ(probe_read(w->p, gpa_of(HELD)) & 0xff, 0x11);
	for (page = 0; page < NR_PAGES; page++)
		TEST_ASSERT(probe_is_mmio(w->p, gpa_of(page)) == (!w->grows && page >= NR_STAYS),
			    "page %lu is not what the slot says", page);

	/* And once more, to the end. */
	w->range.gpa = gpa_of(0);
	w->range.size = RANGE;
	err = call_pre_fault(w);
	TEST_ASSERT(w->grows ? !err && !w->range.size :
			       !err && w->range.gpa == gpa_of(NR_STAYS),
		    "after the operation: %s, up to %#llx", strerror(err), w->range.gpa);
}

TEST_HARNESS_MAIN
