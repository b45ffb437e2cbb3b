// SPDX-License-Identifier: GPL-2.0
/*
 * The host asks all the time how young guest memory is, as it does before it reclaims some,
 * while slots change.  Where KVM has rmaps, it goes through them for that; since Linux 6.15
 * without mmu_lock.
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
#include "ops.h"
#include "trace.h"

#define LRU_GEN		"/sys/kernel/debug/lru_gen"
#define ENABLED		"/sys/kernel/mm/lru_gen/enabled"
#define TRACING		"/sys/kernel/tracing/"

#define NR_ROUNDS	15
#define NR_TIMES	100

/* ---------------------------------------------------------------- aging */

/*
 * Makes one more generation of the first group's pages, of which all are as young as they
 * have been used since the last one.  Returns 0 or an errno.
 */
static int age_once(void)
{
	char text[4096], command[128], *line, *rest = text;
	unsigned long generation, newest = 0;
	int memcg = -1, node = -1, id;

	int err = host_read(LRU_GEN, text, sizeof(text));

	if (err)
		return err;
	while ((line = strsep(&rest, "\n"))) {
		if (sscanf(line, "memcg %d", &id) == 1) {
			if (memcg >= 0)
				break;
			memcg = id;
		} else if (sscanf(line, " node %d", &id) == 1) {
			if (node >= 0)
				break;
			node = id;
		} else if (sscanf(line, " %lu", &generation) == 1) {
			newest = generation;
		}
	}
	/* With what can be swapped, and looking at all page tables. */
	snprintf(command, sizeof(command), "+ %d %d %lu 1 1", memcg, node, newest);
	return host_write(LRU_GEN, command);
}

static atomic_bool enough;
static atomic_int nr_ages;

static int age(void *arg)
{
	int err = 0;

	while (!enough && !err) {
		err = age_once();
		/* Somebody else made a generation meanwhile, or is about to. */
		if (err == EINVAL || err == EEXIST)
			err = 0;
		nr_ages++;
	}
	return err;
}

static bool asked(void *arg)
{
	FILE *file = fopen(TRACING "trace", "r");
	bool found = false;
	char line[512];

	TEST_ASSERT(file, "cannot read the trace");
	while (!found && fgets(line, sizeof(line), file))
		found = strstr(line, " kvm_age_hva: ") || strstr(line, " kvm_test_age_hva: ");
	fclose(file);
	return found;
}

/* Whether aging comes to KVM, seen in KVM's own trace. */
static bool kvm_is_asked(void)
{
	bool is;

	host_write(TRACING "events/kvm/kvm_age_hva/enable", "1");
	host_write(TRACING "events/kvm/kvm_test_age_hva/enable", "1");
	is = trace_start() && host_wait_seconds(60, asked, NULL);
	host_write(TRACING "events/kvm/kvm_age_hva/enable", "0");
	host_write(TRACING "events/kvm/kvm_test_age_hva/enable", "0");
	return is;
}

/* ---------------------------------------------------------------- scene */

FIXTURE(aging) {
	struct hammer *h;
	struct async ager;
	int dev;
};

FIXTURE_VARIANT(aging) {
	enum host_pages host_pages;
};

FIXTURE_VARIANT_ADD(aging, 4k)
{
	.host_pages = HOST_PAGES_4K,
};

FIXTURE_VARIANT_ADD(aging, thp)
{
	.host_pages = HOST_PAGES_THP,
};

FIXTURE_SETUP(aging)
{
	const struct hammer_config config = {
		.nr_vcpus = 2,
		.max_size = CHANGE_SIZE,
		.host_pages = variant->host_pages,
	};

	self->h = NULL;
	REQUIRE_ALL_OPS();
	REQUIRE(level_has_rmaps(), "the TDP MMU has no rmaps");
	REQUIRE(!host_write(ENABLED, "y") && !age_once(), "no multi-generational LRU");

	host_seed();
	self->h = hammer_create(&config);
	self->dev = memslot_ops_open(hammer_vm(self->h));
	enough = false;
	async_start(&self->ager, age, NULL);
}

FIXTURE_TEARDOWN(aging)
{
	if (!self->h)
		return;
	enough = true;
	async_must_succeed(&self->ager, "aging");
	ksft_print_msg("%d generations\n", nr_ages);
	close(self->dev);
	hammer_free(self->h);
}

static bool is_older(void *before)
{
	return nr_ages > *(int *)before + 1;
}

/* Until all pages have been asked for, from then on. */
static void wait_for_age(void)
{
	int before = nr_ages;

	TEST_ASSERT(host_wait(is_older, &before), "nothing ages");
}

/* ---------------------------------------------------------------- tests */

static void change_once(struct hammer *h, int dev, const struct change *c,
			enum host_pages host_pages)
{
	const bool toggles = c >= &changes[CHANGE_PROTECT];
	uint64_t quiet = toggles ? c->quiet[host_pages] : c->stays;
	struct kvm_vm *vm = hammer_vm(h);

	layout_create(vm, &c->before, hammer_gpa(h), hammer_hva(h));
	hammer_run(h, quiet);
	wait_for_age();
	TEST_ASSERT_EQ(change_make(dev, c), 0);
	hammer_wait(h, 100);
	wait_for_age();
	hammer_sweep(h, 0, quiet, HAMMER_ALL);
	hammer_assert_no_bad_exits(h);
	layout_assert(vm, &c->after, hammer_gpa(h), hammer_hva(h));
	layout_delete(vm, &c->after);
}

TEST_F(aging, each_operation)
{
	const struct change *c;
	int i;

	layout_create(hammer_vm(self->h), &changes[0].before, hammer_gpa(self->h),
		      hammer_hva(self->h));
	hammer_run(self->h, changes[0].stays);
	TEST_ASSERT(kvm_is_asked(), "KVM is never asked how young pages are");
	hammer_pause(self->h);
	layout_delete(hammer_vm(self->h), &changes[0].before);

	for (i = 0; i < NR_ROUNDS; i++) {
		for (c = changes; c < changes + NR_CHANGES; c++)
			change_once(self->h, self->dev, c, variant->host_pages);
	}
	hammer_verify(self->h);
	memslot_ops_assert_stats(self->dev, NR_ROUNDS * NR_CHANGES, NR_ROUNDS * 2, 0);
}

/*
 * One slot, whose rmaps are moved again and again, and nothing else happens to it. The first
 * piece, and what is left of it, is so small that it gets arrays of its own.
 */
TEST_F(aging, there_and_back)
{
	const uint64_t part = CHANGE_SIZE / 4 + PAGE_SIZE;
	const uint32_t second = HAMMER_SLOT + 1;
	const struct kvm_memslot_cut cut = { .offset = part, .slot = second };
	int i;

	hammer_slot(self->h, CHANGE_SIZE);
	hammer_run(self->h, CHANGE_PAGES);
	TEST_ASSERT(kvm_is_asked(), "KVM is never asked how young pages are");
	for (i = 0; i < NR_TIMES; i++) {
		TEST_ASSERT_EQ(slot_split(self->dev, HAMMER_SLOT, 1, &cut), 0);
		hammer_wait(self->h, 100);
		TEST_ASSERT_EQ(slot_merge(self->dev, HAMMER_SLOT, 1, &second), 0);
		hammer_wait(self->h, 100);
		hammer_run(self->h, part / PAGE_SIZE);
		TEST_ASSERT_EQ(slot_shrink(self->dev, HAMMER_SLOT, part, NULL), 0);
		hammer_wait(self->h, 100);
		TEST_ASSERT_EQ(slot_grow(self->dev, HAMMER_SLOT, CHANGE_SIZE), 0);
		hammer_run(self->h, CHANGE_PAGES);
		hammer_wait(self->h, 100);
	}
	wait_for_age();
	hammer_sweep(self->h, 0, CHANGE_PAGES, HAMMER_ALL);
	hammer_assert_no_bad_exits(self->h);
	hammer_verify(self->h);
	memslot_ops_assert_stats(self->dev, 4 * NR_TIMES, 2 * NR_TIMES, 0);
}

TEST_HARNESS_MAIN
