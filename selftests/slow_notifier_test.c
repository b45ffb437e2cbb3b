// SPDX-License-Identifier: GPL-2.0
/*
 * An MMU notifier of the VMM's process is under way when an operation is asked for: it
 * waits for the end of that before it swaps.  vCPUs do not wait with it, and notice nothing.
 *
 * The notifier is one of memory that no slot has, or of the slots' own.
 */
#include "harness.h"

#include "kvm_util.h"
#include "processor.h"

#include "async.h"
#include "changes.h"
#include "hammer.h"
#include "host.h"
#include "level.h"
#include "memslot_ops.h"
#include "slow_notifier.h"

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
#define WAITS_TO_MOVE	"lock_mmu_to_move"

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

/*
 * Waits until the operation waits for the notifier. If rmaps are to move to a new slot,
 * that is before they do: the notifier may have been going through them.
 */
static void wait_until_it_waits(const struct change *c, struct async *op,
				bool related)
{
	const bool moves = c == &changes[CHANGE_GROW] ||
			   c == &changes[CHANGE_MERGE];
	const bool shadows = level_shadows() || !host_has_tdp_mmu();
	struct standing s = { c, op };

	TEST_ASSERT(host_wait(stands, &s), "%s does not come to wait", c->name);
	TEST_ASSERT(!strcmp(s.function, related && moves && shadows ?
			    WAITS_TO_MOVE : WAITS_TO_SWAP),
		    "%s waits in %s()", c->name, s.function);
}

static void change_meanwhile(struct hammer *h, int dev, const struct change *c,
			     struct slow_notifier *notifier, bool related)
{
	struct change_call call = { c, dev };
	struct async op;
	uint64_t swaps = memslot_ops_stat(dev, KVM_MEMSLOT_STAT_SWAPS);

	slow_notifier_begin(notifier);
	async_start(&op, change_call, &call);
	wait_until_it_waits(c, &op, related);
	/* Those who fault on what changes must wait. */
	if (!related)
		hammer_wait(h, 1000);
	wait_until_it_waits(c, &op, related);
	TEST_ASSERT_EQ(memslot_ops_stat(dev, KVM_MEMSLOT_STAT_SWAPS), swaps);
	slow_notifier_end(notifier);
	TEST_ASSERT(!async_join(&op), "%s: %s", c->name, strerror(op.err));
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
	uint64_t ops;

	for (c = changes; c < changes + NR_CHANGES; c++)
		change_once(self->h, self->dev, c, &self->notifier,
			    variant->host_pages, variant->related);
	hammer_verify(self->h);
	hammer_assert_no_bad_exits(self->h);

	/* SHRINK swaps twice. */
	ops = memslot_ops_stat(self->dev, KVM_MEMSLOT_STAT_OPS);
	TEST_ASSERT_EQ(ops, NR_CHANGES);
	TEST_ASSERT_EQ(memslot_ops_stat(self->dev, KVM_MEMSLOT_STAT_SWAPS),
		       ops + 1);
	TEST_ASSERT_EQ(memslot_ops_stat(self->dev, KVM_MEMSLOT_STAT_FAILED), 0);
}

TEST_HARNESS_MAIN
