// SPDX-License-Identifier: GPL-2.0
/*
 * An MMU notifier of the VMM's process is under way, of memory that no slot has or of the
 * slots' own, and operations wait for its end: before they swap, and before they move
 * rmaps, which it may be going through.  vCPUs do not wait with them, and notice nothing.
 */
#include <sys/mman.h>

#include "harness.h"

#include "kvm_util.h"
#include "processor.h"

#include "async.h"
#include "changes.h"
#include "hammer.h"
#include "host.h"
#include "level.h"
#include "memslot_ops.h"
#include "probe.h"
#include "slow_notifier.h"
#include "trace.h"

FIXTURE(slow_notifier) {
	struct slow_notifier notifier;
	struct hammer *h;
	int dev;
};

FIXTURE_VARIANT(slow_notifier) {
	enum host_pages host_pages;
	/* The slots' own memory changes, which costs faults, and these have to wait. */
	bool related;
};

FIXTURE_VARIANT_ADD(slow_notifier, 4k)
{
	.host_pages = HOST_PAGES_4K,
};

FIXTURE_VARIANT_ADD(slow_notifier, thp)
{
	.host_pages = HOST_PAGES_THP,
};

FIXTURE_VARIANT_ADD(slow_notifier, 4k_related)
{
	.host_pages = HOST_PAGES_4K,
	.related = true,
};

FIXTURE_SETUP(slow_notifier)
{
	struct hammer_config config = {
		.nr_vcpus = 2,
		.max_size = CHANGE_SIZE,
		.host_pages = variant->host_pages,
	};

	self->h = NULL;
	REQUIRE_ALL_OPS();
	REQUIRE(slow_notifier_possible(), "slow_notifier.ko is not loaded");
	host_seed();
	slow_notifier_init(&self->notifier, CHANGE_SIZE);
	if (variant->related)
		config.mem = self->notifier.mem;
	self->h = hammer_create(&config);
	self->dev = memslot_ops_open(hammer_vm(self->h));
}

FIXTURE_TEARDOWN(slow_notifier)
{
	if (!self->h)
		return;
	close(self->dev);
	hammer_free(self->h);
	slow_notifier_close(&self->notifier);
}

#define WAITS_TO_SWAP	"slots_swap"
#define WAITS_TO_MOVE	"mmu_lock_when_quiet"

struct standing {
	const struct change *change;
	struct async *op;
	const char *function;
};

static bool stands(void *arg)
{
	struct standing *s = arg;

	TEST_ASSERT(!s->op->done, "%s did not wait for a notifier: %s",
		    s->change->name, strerror(s->op->err));
	if (!async_sleeps(s->op))
		return false;
	s->function = async_stands_in(s->op, WAITS_TO_SWAP) ? WAITS_TO_SWAP :
		      async_stands_in(s->op, WAITS_TO_MOVE) ? WAITS_TO_MOVE :
		      NULL;
	return s->function;
}

static void wait_until_it_waits(const struct change *c, struct async *op,
				const char *function)
{
	struct standing s = { c, op };

	TEST_ASSERT(host_wait(stands, &s), "%s does not come to wait", c->name);
	TEST_ASSERT(!strcmp(s.function, function), "%s waits in %s()", c->name,
		    s.function);
}

static void change_meanwhile(struct hammer *h, int dev, const struct change *c,
			     struct slow_notifier *notifier, bool related)
{
	/* GROW, which moves them as well, has swapped once before that. */
	const bool moves = c == &changes[CHANGE_MERGE] && level_has_rmaps();
	const char *function = related && moves ? WAITS_TO_MOVE : WAITS_TO_SWAP;
	struct change_call call = { c, dev };
	struct async op;
	uint64_t swaps = memslot_ops_stat(dev, KVM_MEMSLOT_STAT_SWAPS);

	slow_notifier_begin(notifier);
	async_start(&op, change_call, &call);
	wait_until_it_waits(c, &op, function);
	/* Those who fault on what changes must wait. */
	if (!related)
		hammer_wait(h, 1000);
	wait_until_it_waits(c, &op, function);
	TEST_ASSERT_EQ(memslot_ops_stat(dev, KVM_MEMSLOT_STAT_SWAPS), swaps);
	slow_notifier_end(notifier);
	async_must_succeed(&op, c->name);
}

static void change_once(struct hammer *h, int dev, const struct change *c,
			struct slow_notifier *notifier,
			enum host_pages host_pages, bool related)
{
	const bool toggles = c >= &changes[CHANGE_PROTECT];
	uint64_t quiet = c->quiet[host_pages], faults;
	struct kvm_vm *vm = hammer_vm(h);

	layout_create(vm, &c->before, hammer_gpa(h), hammer_hva(h));
	if (related) {
		/* What is read-only for a while is not for those who write. */
		quiet = toggles ? quiet : c->stays;
		hammer_run(h, quiet);
	} else {
		hammer_settle(h, quiet);
	}

	faults = hammer_faults(h);
	change_meanwhile(h, dev, c, notifier, related);
	hammer_wait(h, 100);
	if (!related && !change_may_zap_all(c))
		TEST_ASSERT(hammer_faults(h) == faults,
			    "%s: %lu faults on what stays", c->name,
			    hammer_faults(h) - faults);
	hammer_sweep(h, 0, toggles ? quiet : c->stays, HAMMER_ALL);
	hammer_assert_no_bad_exits(h);
	layout_assert(vm, &c->after, hammer_gpa(h), hammer_hva(h));
	layout_delete(vm, &c->after);
}

TEST_F(slow_notifier, operations_wait_vcpus_do_not)
{
	const struct change *c;

	for (c = changes; c < changes + NR_CHANGES; c++)
		change_once(self->h, self->dev, c, &self->notifier,
			    variant->host_pages, variant->related);
	hammer_verify(self->h);
	hammer_assert_no_bad_exits(self->h);

	memslot_ops_assert_stats(self->dev, NR_CHANGES, 2, 0);
}

#define OTHER_SLOT	(CHANGE_SLOT + 10)
#define OTHER_GPA	(PROBE_GPA + CHANGE_SIZE)

/* The notifier begins when the operation has swapped, and waits for a vCPU's fault. */
static void move_late(struct probe *p, int dev, const struct change *c,
		      struct slow_notifier *notifier, void *other, int uffd)
{
	struct change_call call = { c, dev };
	struct kvm_vm *vm = probe_vm(p);
	uint64_t page;
	struct async op;

	layout_create(vm, &c->before, PROBE_GPA, notifier->mem);
	for (page = 0; page < CHANGE_PAGES; page++)
		probe_write(p, PROBE_GPA + page * PAGE_SIZE, page);

	TEST_ASSERT(trace_start(), "the trace cannot be emptied");
	TEST_ASSERT_EQ(madvise(other, PAGE_SIZE, MADV_DONTNEED), 0);
	TEST_ASSERT(uffd_hold(uffd, other, PAGE_SIZE, false),
		    "no userfaultfd of the memory");
	probe_begin(p, 0, PROBE_WRITE, OTHER_GPA, 0);
	uffd_wait_for_fault(uffd, other);
	async_start(&op, change_call, &call);
	async_wait_for_swap(&op, 1);

	slow_notifier_begin(notifier);
	uffd_resolve(uffd, other, false, 0);
	TEST_ASSERT(!probe_end(p, 0).nr_writes, "the write came out as MMIO");
	wait_until_it_waits(c, &op, WAITS_TO_MOVE);
	slow_notifier_end(notifier);

	async_must_succeed(&op, c->name);
	uffd_release(uffd, other, PAGE_SIZE);
	for (page = 0; page < c->stays; page++)
		TEST_ASSERT_EQ(probe_read(p, PROBE_GPA + page * PAGE_SIZE), page);
	layout_assert(vm, &c->after, PROBE_GPA, notifier->mem);
	layout_delete(vm, &c->after);
}

TEST(rmaps_that_move_late)
{
	const struct probe_config config = {
		.nr_vcpus = 1,
		.size = CHANGE_SIZE + PAGE_SIZE,
	};
	struct slow_notifier notifier;
	struct probe *p;
	void *other;
	int dev, uffd;

	REQUIRE_ALL_OPS();
	REQUIRE(slow_notifier_possible(), "slow_notifier.ko is not loaded");
	REQUIRE(level_has_rmaps(), "the TDP MMU has no rmaps");
	REQUIRE(trace_start(), "no tracefs");
	uffd = uffd_open();
	REQUIRE(uffd >= 0, "no userfaultfd");

	slow_notifier_init(&notifier, CHANGE_SIZE);
	other = host_map(PAGE_SIZE, PAGE_SIZE, 0, HOST_PAGES_4K);
	p = probe_create(&config);
	dev = memslot_ops_open(probe_vm(p));
	slot_must_set(probe_vm(p), OTHER_SLOT, 0, OTHER_GPA, PAGE_SIZE, other);

	move_late(p, dev, &changes[CHANGE_SPLIT], &notifier, other, uffd);
	move_late(p, dev, &changes[CHANGE_SHRINK], &notifier, other, uffd);

	close(dev);
	probe_free(p);
	close(uffd);
	slow_notifier_close(&notifier);
}

TEST_HARNESS_MAIN
