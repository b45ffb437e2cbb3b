// SPDX-License-Identifier: GPL-2.0
/*
 * With the workaround nx_huge_pages, KVM maps what a guest executes by small pages, and lists the
 * page tables that this takes.  A thread of KVM's takes them away again, so that huge pages come
 * back.  While any slot logs writes, it looks up the slot of each table on the list, and warns
 * (6.12) where there is none: so of what SHRINK removes, no table must be left there.
 *
 * Logging begins after SHRINK at the latest; then the thread goes through the whole list.  That
 * it did is seen by the list, which is empty, and by what stays, which is huge again.
 */
#include <sys/mman.h>

#include "harness.h"

#include "kvm_util.h"
#include "processor.h"

#include "hammer.h"
#include "host.h"
#include "memslot_ops.h"
#include "ops.h"

#define LOG		KVM_MEM_LOG_DIRTY_PAGES
#define PARAM		"/sys/module/kvm/parameters/nx_huge_pages"

/* In huge frames: the slot that changes, and one behind it that stays. */
#define CHANGING	4
#define STAYING		2
#define FRAMES		(CHANGING + STAYING)
#define RANGE		(FRAMES * HUGE_SIZE)

#define CHANGING_SLOT	HAMMER_SLOT
#define STAYING_SLOT	(HAMMER_SLOT + 1)
/* It logs, and the guest has nothing to do with it. */
#define LOGGING_SLOT	(HAMMER_SLOT + 2)
#define PIECE(i)	(HAMMER_SLOT + 3 + (i))

/* Where a cut inside a frame is. */
#define INSIDE		100

/* Who logs while the slot changes. Afterwards LOGGING_SLOT does, in any case. */
enum logging {
	NOBODY_LOGS,
	ANOTHER_LOGS,
	ITSELF_LOGS,
};

struct world {
	struct hammer *h;
	int dev, log;
	void *logged;
	enum logging logging;
	/* Page tables on KVM's list. */
	struct counter listed;
};

static bool workaround_is_on(void)
{
	char buf[8];

	return !host_read(PARAM, buf, sizeof(buf)) && buf[0] == 'Y';
}

static void set_param(const char *path, const char *value)
{
	int err = host_write(path, value);

	TEST_ASSERT(!err, "cannot set %s to %s: %s", path, value, strerror(err));
}

static void set_frames(struct world *w, uint32_t slot, uint32_t flags, int first, int nr)
{
	slot_must_set(hammer_vm(w->h), slot, flags, hammer_gpa(w->h) + first * HUGE_SIZE,
		      nr * HUGE_SIZE, hammer_hva(w->h) + first * HUGE_SIZE);
}

static void set_logging_slot(struct world *w, uint32_t flags)
{
	slot_must_set(hammer_vm(w->h), LOGGING_SLOT, flags, hammer_gpa(w->h) + GIGA_SIZE,
		      PAGE_SIZE, w->logged);
}

/* One page of each frame. */
static void touch(struct world *w, int first, int nr, int how)
{
	int i;

	for (i = first; i < first + nr; i++)
		hammer_sweep(w->h, i * HUGE_PAGES, 1, how);
}

FIXTURE(nx_recovery) {
	struct world w;
};

FIXTURE_VARIANT(nx_recovery) {
	enum logging logging;
};

FIXTURE_VARIANT_ADD(nx_recovery, nobody_logs)
{
	.logging = NOBODY_LOGS,
};

FIXTURE_VARIANT_ADD(nx_recovery, another_logs)
{
	.logging = ANOTHER_LOGS,
};

FIXTURE_VARIANT_ADD(nx_recovery, itself_logs)
{
	.logging = ITSELF_LOGS,
};

/* All frames are mapped huge first, and then have their tables on the list. */
FIXTURE_SETUP(nx_recovery)
{
	const struct hammer_config config = {
		.nr_vcpus = 1,
		.max_size = RANGE,
		.host_pages = HOST_PAGES_THP,
	};
	struct world *w = &self->w;

	w->h = NULL;
	REQUIRE_ALL_OPS();
	REQUIRE(workaround_is_on(), "nx_huge_pages is off");
	w->log = host_log_open();
	REQUIRE(w->log >= 0, "no kernel log, or one that has each warning only once");
	set_param(PARAM "_recovery_ratio", "0");

	w->h = hammer_create(&config);
	w->dev = memslot_ops_open(hammer_vm(w->h));
	w->listed = counter_open(vm_get_stats_fd(hammer_vm(w->h)), "nx_lpage_splits");
	w->logging = variant->logging;
	w->logged = host_map(PAGE_SIZE, PAGE_SIZE, 0, HOST_PAGES_4K);
	set_frames(w, CHANGING_SLOT, 0, 0, CHANGING);
	set_frames(w, STAYING_SLOT, 0, CHANGING, STAYING);
	touch(w, 0, FRAMES, HAMMER_READ | HAMMER_WRITE);
	REQUIRE(hammer_huge_mappings(w->h) == FRAMES, "the host has no huge pages");

	touch(w, 0, FRAMES, HAMMER_ALL);
	TEST_ASSERT_EQ(hammer_huge_mappings(w->h), 0);
	TEST_ASSERT_EQ(counter_read(&w->listed), FRAMES);

	set_logging_slot(w, w->logging == ANOTHER_LOGS ? LOG : 0);
	if (w->logging == ITSELF_LOGS)
		set_frames(w, CHANGING_SLOT, LOG, 0, CHANGING);
	TEST_ASSERT_EQ(counter_read(&w->listed), FRAMES);
}

FIXTURE_TEARDOWN(nx_recovery)
{
	struct world *w = &self->w;

	if (!w->h)
		return;
	hammer_verify(w->h);
	hammer_assert_no_bad_exits(w->h);
	close(w->listed.fd);
	close(w->dev);
	close(w->log);
	hammer_free(w->h);
	munmap(w->logged, PAGE_SIZE);
}

static void assert_shrink(struct world *w, uint32_t slot, uint64_t pages)
{
	int err = slot_shrink(w->dev, slot, pages * PAGE_SIZE, NULL);

	TEST_ASSERT(!err, "SHRINK of slot %u to %lu pages: %s", slot, pages, strerror(err));
}

/* SPLIT takes no table away. */
static void assert_split(struct world *w, unsigned int nr_cuts, const struct kvm_memslot_cut *cuts)
{
	int err = slot_split(w->dev, CHANGING_SLOT, nr_cuts, cuts);

	TEST_ASSERT(!err, "SPLIT: %s", strerror(err));
	TEST_ASSERT_EQ(counter_read(&w->listed), FRAMES);
}

static bool nothing_is_listed(void *listed)
{
	return !counter_read(listed);
}

/*
 * The slot has changed: of its frames, @nr from @first on are left, and whole.  Where the
 * operation has zapped these as well, they are executed once more, lest the list be empty.
 * What logs will not be huge again, nor listed anew.
 */
static void assert_recovery(struct world *w, int first, int nr)
{
	const int huge = STAYING + (w->logging == ITSELF_LOGS ? 0 : nr);
	uint64_t left = counter_read(&w->listed), listed;

	touch(w, first, nr, HAMMER_ALL);
	touch(w, CHANGING, STAYING, HAMMER_ALL);
	listed = counter_read(&w->listed);
	ksft_print_msg("%lu tables are left on the list, of %d; then there are %lu\n", left,
		       FRAMES, listed);
	TEST_ASSERT(listed >= huge, "%lu tables are listed, of %d frames", listed, huge);
	TEST_ASSERT_EQ(hammer_huge_mappings(w->h), 0);

	if (w->logging != ANOTHER_LOGS)
		set_logging_slot(w, LOG);
	set_param(PARAM "_recovery_period_ms", "10");
	set_param(PARAM "_recovery_ratio", "1");
	TEST_ASSERT(host_wait(nothing_is_listed, &w->listed),
		    "KVM's thread leaves %lu tables on the list", counter_read(&w->listed));
	set_param(PARAM "_recovery_ratio", "0");
	host_log_assert_no_warning(w->log);

	TEST_ASSERT_EQ(hammer_huge_mappings(w->h), 0);
	touch(w, first, nr, HAMMER_READ | HAMMER_WRITE);
	touch(w, CHANGING, STAYING, HAMMER_READ | HAMMER_WRITE);
	TEST_ASSERT_EQ(hammer_huge_mappings(w->h), huge);
}

/* The frame that is cut keeps its table, and its table has a slot. */
TEST_F(nx_recovery, tail)
{
	assert_shrink(&self->w, CHANGING_SLOT, HUGE_PAGES + INSIDE);
	assert_recovery(&self->w, 0, 1);
}

TEST_F(nx_recovery, whole)
{
	assert_shrink(&self->w, CHANGING_SLOT, 0);
	assert_recovery(&self->w, 0, 0);
}

static const struct kvm_memslot_cut three_pieces[] = {
	{ .offset = HUGE_SIZE, .slot = PIECE(0) },
	{ .offset = 3 * HUGE_SIZE, .slot = PIECE(1) },
};

TEST_F(nx_recovery, piece_in_the_middle)
{
	assert_split(&self->w, 2, three_pieces);
	assert_shrink(&self->w, PIECE(0), 0);
	assert_recovery(&self->w, 0, 1);
}

TEST_F(nx_recovery, last_piece)
{
	assert_split(&self->w, 2, three_pieces);
	assert_shrink(&self->w, PIECE(1), 0);
	assert_recovery(&self->w, 0, 3);
}

/* The table of the frame that is cut begins in the piece that goes, and serves the other too. */
TEST_F(nx_recovery, piece_ends_inside_a_frame)
{
	const struct kvm_memslot_cut cut = {
		.offset = HUGE_SIZE + INSIDE * PAGE_SIZE,
		.slot = PIECE(0),
	};

	assert_split(&self->w, 1, &cut);
	assert_shrink(&self->w, CHANGING_SLOT, 0);
	hammer_sweep(self->w.h, HUGE_PAGES + INSIDE, HUGE_PAGES - INSIDE, HAMMER_ALL);
	assert_recovery(&self->w, 2, 2);
}

/* The control: KVM's own delete, which zaps everything as long as no VMM asks for less. */
TEST_F(nx_recovery, kvm_deletes)
{
	set_frames(&self->w, CHANGING_SLOT, 0, 0, 0);
	assert_recovery(&self->w, 0, 0);
}

TEST_HARNESS_MAIN
