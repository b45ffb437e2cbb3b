// SPDX-License-Identifier: GPL-2.0
/*
 * An MMU notifier of the VMM's process is under way most of the time, so that
 * each operation has to wait for its end before it may swap.  vCPUs do not wait
 * with it, and notice nothing.
 *
 * Notifiers come from long calls of mprotect() and munmap() by several threads,
 * on memory that no slot has, and on the slots' own.  That operations wait is
 * read off their stacks: each of them is made again until it was seen to.
 */
#include "harness.h"

#include "kvm_util.h"
#include "processor.h"

#include "async.h"
#include "changes.h"
#include "hammer.h"
#include "host.h"
#include "memslot_ops.h"

#define ROUNDS		8
#define MOST_ROUNDS	400
#define NR_UNREST	3

FIXTURE(slow_notifier) {
	struct hammer *h;
	struct unrest *unrest[NR_UNREST];
	int dev;
};

FIXTURE_VARIANT(slow_notifier) {
	enum host_pages host_pages;
	/* The slots' own memory changes as well, and costs faults. */
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

FIXTURE_VARIANT_ADD(slow_notifier, thp_related)
{
	.host_pages = HOST_PAGES_THP,
	.related = true,
};

FIXTURE_SETUP(slow_notifier)
{
	const struct hammer_config config = {
		.nr_vcpus = 2,
		.max_size = CHANGE_SIZE,
		.host_pages = variant->host_pages,
	};

	self->h = NULL;
	REQUIRE_ALL_OPS();
	host_seed();
	self->h = hammer_create(&config);
	self->dev = memslot_ops_open(hammer_vm(self->h));
	self->unrest[0] = unrest_start(NULL, 0);
	self->unrest[1] = unrest_start_unmapping();
	self->unrest[2] = variant->related ?
			  unrest_start(hammer_hva(self->h), CHANGE_SIZE) :
			  unrest_start(NULL, 0);
}

FIXTURE_TEARDOWN(slow_notifier)
{
	int i;

	if (!self->h)
		return;
	for (i = 0; i < NR_UNREST; i++)
		unrest_stop(self->unrest[i]);
	close(self->dev);
	hammer_free(self->h);
}

/* Makes the operation; returns whether it was seen to wait for a notifier. */
static bool change_and_watch(int dev, const struct change *c)
{
	struct change_call call = { c, dev };
	bool waited = false;
	struct async op;

	async_start(&op, change_call, &call);
	while (!op.done)
		waited |= async_sleeps(&op) && async_stands_in(&op, "slots_swap");
	TEST_ASSERT(!async_join(&op), "%s: %s", c->name, strerror(op.err));
	return waited;
}

static bool change_once(struct hammer *h, int dev, const struct change *c,
			enum host_pages host_pages, bool related)
{
	const bool toggles = c >= &changes[CHANGE_PROTECT];
	uint64_t quiet = c->quiet[host_pages], faults;
	struct kvm_vm *vm = hammer_vm(h);
	bool waited;

	layout_create(vm, &c->before, hammer_gpa(h), hammer_hva(h));
	if (related) {
		/* What is read-only for a while is not for those who write. */
		quiet = toggles ? quiet : c->stays;
		hammer_run(h, quiet);
	} else {
		hammer_settle(h, quiet);
	}

	faults = hammer_faults(h);
	waited = change_and_watch(dev, c);
	hammer_wait(h, 100);
	if (!related && !change_may_zap_all(c))
		TEST_ASSERT(hammer_faults(h) == faults,
			    "%s: %lu faults on what stays", c->name,
			    hammer_faults(h) - faults);
	hammer_sweep(h, 0, toggles ? quiet : c->stays, HAMMER_ALL);
	hammer_assert_no_bad_exits(h);
	layout_assert(vm, &c->after, hammer_gpa(h), hammer_hva(h));
	layout_delete(vm, &c->after);
	return waited;
}

TEST_F(slow_notifier, operations_wait_vcpus_do_not)
{
	uint64_t ops, shrinks = 0, all = 0;
	const struct change *c;
	int round, waits;

	for (c = changes; c < changes + NR_CHANGES; c++) {
		waits = 0;
		for (round = 0; round < ROUNDS || !waits; round++) {
			TEST_ASSERT(round < MOST_ROUNDS,
				    "%s was never seen to wait for a notifier",
				    c->name);
			waits += change_once(self->h, self->dev, c,
					     variant->host_pages,
					     variant->related);
		}
		ksft_print_msg("%s: %d of %d waited for a notifier\n", c->name,
			       waits, round);
		all += round;
		shrinks += c == &changes[CHANGE_SHRINK] ? round : 0;
	}
	hammer_verify(self->h);
	hammer_assert_no_bad_exits(self->h);

	ops = memslot_ops_stat(self->dev, KVM_MEMSLOT_STAT_OPS);
	TEST_ASSERT_EQ(ops, all);
	TEST_ASSERT_EQ(memslot_ops_stat(self->dev, KVM_MEMSLOT_STAT_SWAPS),
		       ops + shrinks);
	TEST_ASSERT_EQ(memslot_ops_stat(self->dev, KVM_MEMSLOT_STAT_FAILED), 0);
}

TEST_HARNESS_MAIN
