// SPDX-License-Identifier: GPL-2.0
/*
 * What the dirty log says after an operation: exactly which pages, under which
 * name, and that writes that come later are logged again.
 */
#include <sys/mman.h>

#include "harness.h"

#include "kvm_util.h"
#include "processor.h"

#include "async.h"
#include "dirty_ring.h"
#include "memslot_ops.h"
#include "ops.h"
#include "probe.h"
#include "trace.h"

#define LOG		KVM_MEM_LOG_DIRTY_PAGES

/* Some words of a bitmap, and not a whole number of them. */
/* More than fill a ring. */
#define NR_PAGES	(8 * 64 + 37)
#define RANGE		(NR_PAGES * PAGE_SIZE)
#define BITMAP_WORDS	DIV_ROUND_UP(NR_PAGES, 64)
#define BITMAP_SIZE	(BITMAP_WORDS * sizeof(uint64_t))

/* The number of the slot, and of those that are made of it. */
#define WHOLE		PROBE_SLOT
#define PIECE(i)	(PROBE_SLOT + 10 + (i))

static uint64_t gpa_of(uint64_t page)
{
	return PROBE_GPA + page * PAGE_SIZE;
}

enum mode {
	PLAIN,
	MANUAL,
	INIT,				/* manual, all bits set at first */
};

enum operation {
	GROW,
	SHRINK,
	SPLIT,
	MERGE,
	SET_READONLY,
	SET_WRITABLE,
	NR_OPS,
};

static const char * const op_name[] = {
	"GROW", "SHRINK", "SPLIT", "MERGE", "SET_READONLY 1", "SET_READONLY 0",
};

static bool has_feature(uint64_t feature)
{
	struct kvm_vm *vm = vm_create_barebones();
	int dev = memslot_ops_open(vm);
	bool has = memslot_ops_features(dev) & feature;

	close(dev);
	kvm_vm_free(vm);
	return has;
}

/* ------------------------------------------------- what both kinds share */

struct world {
	struct probe *p;
	struct kvm_vm *vm;
	char *mem;
	int dev, uffd;
	enum mode mode;
	uint64_t serial;
	/* Of the rings, what was harvested ever, and not yet reset. */
	uint32_t index[3], nr_unreset;
};

static void world_make(struct world *w, uint32_t ring_size, enum mode mode)
{
	const struct probe_config config = {
		.nr_vcpus = 3,
		.size = RANGE,
		.ring_size = ring_size,
	};

	host_seed();
	w->p = probe_create(&config);
	w->vm = probe_vm(w->p);
	w->mode = mode;
	if (mode != PLAIN)
		vm_enable_cap(w->vm, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
			      KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE |
			      (mode == INIT ? KVM_DIRTY_LOG_INITIALLY_SET : 0));
	w->dev = memslot_ops_open(w->vm);
	w->mem = host_map(RANGE, HUGE_SIZE, 0, HOST_PAGES_4K);
	memset(w->mem, 0, RANGE);
	w->uffd = uffd_open();
}

static void world_free(struct world *w)
{
	if (!w->p)
		return;
	close(w->dev);
	probe_free(w->p);
	munmap(w->mem, RANGE);
	close(w->uffd);
}

static void set_slot(struct world *w, uint32_t slot, uint32_t flags,
		     uint64_t first, uint64_t nr)
{
	int err = slot_set(w->vm, slot, flags, gpa_of(first), nr * PAGE_SIZE,
			   w->mem + first * PAGE_SIZE);

	TEST_ASSERT(!err, "cannot set slot %u to pages [%lu, %lu), flags %#x: %s",
		    slot, first, first + nr, flags, strerror(err));
}

static void unset_slot(struct world *w, uint32_t slot)
{
	int err = slot_set(w->vm, slot, 0, 0, 0, NULL);

	TEST_ASSERT(!err, "cannot delete slot %u: %s", slot, strerror(err));
}

static void write_page(struct world *w, int vcpu, uint64_t page)
{
	struct probe_result result;

	result = probe_access(w->p, vcpu, PROBE_WRITE, gpa_of(page),
			      ++w->serial);
	TEST_ASSERT(!result.err && !result.nr_writes && !result.ring_full,
		    "a write to page %lu did not end: error %d", page,
		    result.err);
}

static void succeeds(int err, enum operation op)
{
	TEST_ASSERT(!err, "%s: %s", op_name[op], strerror(err));
}

static uint64_t nr_before(enum operation op, uint64_t cut)
{
	return op == GROW ? cut : NR_PAGES;
}

/* The slots that @op is to be done to, at page @cut. */
static void make_before(struct world *w, enum operation op, uint64_t cut)
{
	switch (op) {
	case GROW:
		return set_slot(w, WHOLE, LOG, 0, cut);
	case MERGE:
		set_slot(w, WHOLE, LOG, 0, cut);
		set_slot(w, PIECE(0), LOG, cut, 70);
		return set_slot(w, PIECE(1), LOG, cut + 70, NR_PAGES - cut - 70);
	default:
		return set_slot(w, WHOLE, LOG, 0, NR_PAGES);
	}
}

static int do_op(struct world *w, enum operation op, uint64_t cut, uint64_t *bitmap)
{
	const struct kvm_memslot_cut cuts[] = {
		{ .offset = cut * PAGE_SIZE, .slot = PIECE(0) },
		{ .offset = (cut + 70) * PAGE_SIZE, .slot = PIECE(1) },
	};
	const uint32_t pieces[] = { PIECE(0), PIECE(1) };

	switch (op) {
	case GROW:
		return slot_grow(w->dev, WHOLE, RANGE);
	case SHRINK:
		return slot_shrink(w->dev, WHOLE, cut * PAGE_SIZE, bitmap);
	case SPLIT:
		return slot_split(w->dev, WHOLE, 2, cuts);
	case MERGE:
		return slot_merge(w->dev, WHOLE, 2, pieces);
	case SET_READONLY:
		return slot_set_readonly(w->dev, WHOLE, true);
	default:
		return slot_set_readonly(w->dev, WHOLE, false);
	}
}

/* The name that a page has after the operation; what SHRINK removed has none. */
static uint32_t slot_after(enum operation op, uint64_t cut, uint64_t page,
			   uint64_t *offset)
{
	*offset = page;
	if (page < cut || (op != SPLIT && op != SHRINK))
		return WHOLE;
	*offset = page - cut;
	if (op == SHRINK)
		return RING_NO_SLOT;
	if (page < cut + 70)
		return PIECE(0);
	*offset = page - cut - 70;
	return PIECE(1);
}

static void unmake_after(struct world *w, enum operation op)
{
	unset_slot(w, WHOLE);
	if (op == SPLIT) {
		unset_slot(w, PIECE(0));
		unset_slot(w, PIECE(1));
	}
}

/* ---------------------------------------------------------------- bitmaps */

static bool bit(const uint64_t *bitmap, uint64_t i)
{
	return bitmap[i / 64] >> i % 64 & 1;
}

static void get_log(struct world *w, uint32_t slot, uint64_t *bitmap)
{
	memset(bitmap, 0xff, BITMAP_SIZE);
	kvm_vm_get_dirty_log(w->vm, slot, bitmap);
}

/* Gets the slot's log, and lets KVM log the next write to its pages. */
static void read_log(struct world *w, uint32_t slot, uint64_t nr,
		     uint64_t *bitmap)
{
	get_log(w, slot, bitmap);
	if (w->mode != PLAIN)
		kvm_vm_clear_dirty_log(w->vm, slot, bitmap, 0, nr);
}

/* @want: of all pages; @first is the bitmap's first. Spare bits must be 0. */
static void assert_bits(const uint64_t *bitmap, uint64_t first, uint64_t nr,
			const bool *want, const char *what)
{
	uint64_t i;

	for (i = 0; i < nr; i++)
		TEST_ASSERT(bit(bitmap, i) == want[first + i],
			    "%s: bit %lu, of page %lu, is %d", what, i,
			    first + i, bit(bitmap, i));
	for (; i % 64; i++)
		TEST_ASSERT(!bit(bitmap, i), "%s: spare bit %lu after %lu pages is set",
			    what, i, nr);
}

/* The same where bits of other pages may be set as well. */
static void assert_has_bits(const uint64_t *bitmap, uint64_t first, uint64_t nr,
			    const bool *want, const char *what)
{
	bool has[NR_PAGES];
	uint64_t i;

	for (i = first; i < first + nr; i++)
		has[i] = want[i] || bit(bitmap, i - first);
	assert_bits(bitmap, first, nr, has, what);
}

static void assert_log(struct world *w, uint32_t slot, uint64_t first,
		       uint64_t nr, const bool *want, const char *what)
{
	uint64_t bitmap[BITMAP_WORDS];

	read_log(w, slot, nr, bitmap);
	assert_bits(bitmap, first, nr, want, what);
}

/* The log of all that there is after @op; what SHRINK removed is not. */
static void assert_log_after(struct world *w, enum operation op, uint64_t cut,
			     const bool *want, const char *what)
{
	switch (op) {
	case SHRINK:
		return assert_log(w, WHOLE, 0, cut, want, what);
	case SPLIT:
		assert_log(w, WHOLE, 0, cut, want, what);
		assert_log(w, PIECE(0), cut, 70, want, what);
		return assert_log(w, PIECE(1), cut + 70, NR_PAGES - cut - 70,
				  want, what);
	default:
		return assert_log(w, WHOLE, 0, NR_PAGES, want, what);
	}
}

/* Lets every slot begin with nothing logged, and its scratch half used. */
static void forget_before(struct world *w, enum operation op, uint64_t cut)
{
	uint64_t bitmap[BITMAP_WORDS], i;

	for (i = 0; i < nr_before(op, cut); i += 3)
		write_page(w, 0, i);
	if (op == MERGE) {
		read_log(w, WHOLE, cut, bitmap);
		read_log(w, PIECE(0), 70, bitmap);
		return read_log(w, PIECE(1), NR_PAGES - cut - 70, bitmap);
	}
	read_log(w, WHOLE, nr_before(op, cut), bitmap);
}

FIXTURE(bitmap) {
	struct world w;
};

FIXTURE_VARIANT(bitmap) {
	enum mode mode;
};

FIXTURE_VARIANT_ADD(bitmap, plain)
{
	.mode = PLAIN,
};

FIXTURE_VARIANT_ADD(bitmap, manual)
{
	.mode = MANUAL,
};

FIXTURE_VARIANT_ADD(bitmap, initially_set)
{
	.mode = INIT,
};

FIXTURE_SETUP(bitmap)
{
	self->w.p = NULL;
	REQUIRE_OP(KVM_MEMSLOT_OP_SET_READONLY);
	REQUIRE(has_feature(KVM_MEMSLOT_FEATURE_DIRTY_BITMAP),
		"the module does not handle dirty bitmaps");
	world_make(&self->w, 0, variant->mode);
}

FIXTURE_TEARDOWN(bitmap)
{
	world_free(&self->w);
}

/* Pages beside every boundary, and some others. */
static void write_some(struct world *w, uint64_t cut, uint64_t nr, bool *want)
{
	const uint64_t at[] = {
		0, 1, 63, 64, cut - 65, cut - 64, cut - 63, cut - 1, cut,
		cut + 1, cut + 6, cut + 63, cut + 64, cut + 69, cut + 70,
		cut + 71, NR_PAGES - 38, NR_PAGES - 37, NR_PAGES - 1,
	};
	uint64_t i, page;

	for (i = 0; i < ARRAY_SIZE(at) + 6; i++) {
		page = i < ARRAY_SIZE(at) ? at[i] : host_random() % nr;
		/* Not all at each cut, lest they hide each other's absence. */
		if (page >= nr || host_random() % 3 == 0)
			continue;
		write_page(w, 0, page);
		want[page] = true;
	}
}

/* Every bit stays that of its page, wherever a boundary comes or goes. */
TEST_F(bitmap, positions)
{
	struct world *w = &self->w;
	uint64_t cut, i, tail[BITMAP_WORDS];
	enum operation op;

	for (op = 0; op < NR_OPS; op++) {
		for (cut = 65; cut < 65 + 64; cut++) {
			bool want[NR_PAGES] = { false };

			make_before(w, op, cut);
			forget_before(w, op, cut);
			write_some(w, cut, nr_before(op, cut), want);
			for (i = cut; op == GROW && i < NR_PAGES; i++)
				want[i] = w->mode == INIT;

			if (op == SET_WRITABLE)
				succeeds(do_op(w, SET_READONLY, cut, NULL), op);
			memset(tail, 0xff, sizeof(tail));
			succeeds(do_op(w, op, cut, tail), op);
			/* All of a tail is dirty where KVM learns late. */
			if (op == SHRINK && !host_has_pml())
				assert_bits(tail, cut, NR_PAGES - cut, want,
					    "SHRINK's bitmap");
			assert_log_after(w, op, cut, want, op_name[op]);
			unmake_after(w, op);
		}
	}
}

/* After it has been read, the next write to every page is logged again. */
TEST_F(bitmap, later_writes_are_logged)
{
	struct world *w = &self->w;
	const uint64_t cut = 101;
	uint64_t i, nr;
	enum operation op;

	for (op = 0; op < NR_OPS; op++) {
		bool want[NR_PAGES] = { false };

		if (op == SET_READONLY)
			continue;
		make_before(w, op, cut);
		for (i = 0; i < nr_before(op, cut); i++)
			write_page(w, 0, i);
		if (op == SET_WRITABLE)
			succeeds(do_op(w, SET_READONLY, cut, NULL), op);
		succeeds(do_op(w, op, cut, NULL), op);
		nr = op == SHRINK ? cut : NR_PAGES;
		for (i = 0; i < nr; i++)
			want[i] = i < nr_before(op, cut) || w->mode == INIT;
		assert_log_after(w, op, cut, want, "what was written before");

		memset(want, 0, sizeof(want));
		assert_log_after(w, op, cut, want, "once more");
		for (i = 0; i < nr; i += 5) {
			write_page(w, i % 3, i);
			want[i] = true;
		}
		assert_log_after(w, op, cut, want, "what was written after");
		unmake_after(w, op);
	}
}

/*
 * An operation comes between KVM_GET_DIRTY_LOG and KVM_CLEAR_DIRTY_LOG. What the
 * VMM got by the old names it clears by the new ones, and no write is lost to it.
 */
TEST_F(bitmap, clear_after_an_operation)
{
	struct world *w = &self->w;
	const uint64_t cut = 101;
	uint64_t got[BITMAP_WORDS], moved[BITMAP_WORDS], i, nr, offset;
	enum operation op;

	REQUIRE(w->mode != PLAIN, "nothing is cleared in this mode");
	for (op = 0; op < NR_OPS; op++) {
		const uint32_t names[] = { WHOLE, PIECE(0), PIECE(1) };
		const uint64_t firsts[] = { 0, cut, cut + 70, NR_PAGES };
		bool want[NR_PAGES] = { false }, was[NR_PAGES] = { false };
		int j, nr_after = op == SPLIT ? 3 : 1;

		if (op == SET_READONLY)
			continue;
		make_before(w, op, cut);
		forget_before(w, op, cut);
		write_some(w, cut, nr_before(op, cut), was);
		for (j = 0; j < (op == MERGE ? 3 : 1); j++) {
			nr = op == MERGE ? firsts[j + 1] - firsts[j] :
					   nr_before(op, cut);
			get_log(w, names[j], got);
			assert_bits(got, firsts[j], nr, was, "before");
		}
		if (op == SET_WRITABLE)
			succeeds(do_op(w, SET_READONLY, cut, NULL), op);
		succeeds(do_op(w, op, cut, NULL), op);

		/* A page that was not clean then, and is written to now. */
		write_page(w, 0, 2);
		want[2] = !was[2];
		nr = op == SHRINK ? cut : NR_PAGES;
		for (j = 0; j < nr_after; j++) {
			uint64_t end = nr_after == 1 ? nr : firsts[j + 1];

			memset(moved, 0, sizeof(moved));
			for (i = firsts[j]; i < end; i++) {
				offset = i - firsts[j];
				if (was[i])
					moved[offset / 64] |= 1UL << offset % 64;
			}
			kvm_vm_clear_dirty_log(w->vm, names[j], moved, 0,
					       end - firsts[j]);
		}
		for (i = cut; op == GROW && i < NR_PAGES; i++)
			want[i] = w->mode == INIT;
		assert_log_after(w, op, cut, want, "after CLEAR");

		/* What was cleared is write-protected: it is logged again. */
		for (i = 0; i < nr; i++) {
			if (was[i])
				write_page(w, 0, i);
		}
		assert_log_after(w, op, cut, was, "written after CLEAR");
		unmake_after(w, op);
	}
}

/* Each of the pieces is a slot whose logging is its own. */
TEST_F(bitmap, logging_of_one_piece_ends_and_begins)
{
	struct world *w = &self->w;
	const uint64_t cut = 101;
	bool want[NR_PAGES] = { false };
	uint64_t bitmap[BITMAP_WORDS], i;
	struct kvm_dirty_log log = {
		.slot = PIECE(0),
		.dirty_bitmap = bitmap,
	};

	make_before(w, SPLIT, cut);
	forget_before(w, SPLIT, cut);
	succeeds(do_op(w, SPLIT, cut, NULL), SPLIT);

	set_slot(w, PIECE(0), 0, cut, 70);
	TEST_ASSERT(__vm_ioctl(w->vm, KVM_GET_DIRTY_LOG, &log) &&
		    errno == ENOENT, "a slot that does not log has a log");
	for (i = 0; i < NR_PAGES; i += 2) {
		write_page(w, 0, i);
		want[i] = true;
	}
	assert_log(w, WHOLE, 0, cut, want, "the first piece");
	assert_log(w, PIECE(1), cut + 70, NR_PAGES - cut - 70, want,
		   "the third piece");

	set_slot(w, PIECE(0), LOG, cut, 70);
	memset(want, w->mode == INIT, sizeof(want));
	assert_log(w, PIECE(0), cut, 70, want, "logging begins again");
	memset(want, 0, sizeof(want));
	for (i = 1; i < NR_PAGES; i += 4) {
		write_page(w, 0, i);
		want[i] = true;
	}
	assert_log_after(w, SPLIT, cut, want, "all three");

	/* They are alike again. */
	write_page(w, 0, cut);
	memset(want, 0, sizeof(want));
	want[cut] = true;
	succeeds(do_op(w, MERGE, cut, NULL), MERGE);
	assert_log(w, WHOLE, 0, NR_PAGES, want, "the whole");
}

/* What was written before a slot is read-only is in its log, and nothing else. */
TEST_F(bitmap, readonly_and_back)
{
	struct world *w = &self->w;
	bool want[NR_PAGES] = { false };
	struct probe_result result;
	uint64_t i;

	make_before(w, SET_READONLY, 0);
	forget_before(w, SET_READONLY, 0);
	for (i = 0; i < NR_PAGES; i += 7) {
		write_page(w, 0, i);
		want[i] = true;
	}
	succeeds(slot_set_readonly(w->dev, WHOLE, true), SET_READONLY);
	for (i = 0; i < NR_PAGES; i++) {
		result = probe_access(w->p, 1, PROBE_WRITE, gpa_of(i), 1);
		TEST_ASSERT(result.nr_writes == 1, "page %lu is writable", i);
	}
	assert_log(w, WHOLE, 0, NR_PAGES, want, "read-only");

	succeeds(slot_set_readonly(w->dev, WHOLE, false), SET_WRITABLE);
	memset(want, 0, sizeof(want));
	assert_log(w, WHOLE, 0, NR_PAGES, want, "writable");
	for (i = 0; i < NR_PAGES; i += 3) {
		write_page(w, 1, i);
		want[i] = true;
	}
	assert_log(w, WHOLE, 0, NR_PAGES, want, "written again");
}

/* A number that the tail has for a moment, and one that it had. */
TEST_F(bitmap, tail_has_no_log)
{
	struct world *w = &self->w;
	uint64_t bitmap[BITMAP_WORDS];
	struct kvm_dirty_log log = {
		.slot = RING_NO_SLOT,
		.dirty_bitmap = bitmap,
	};

	make_before(w, SHRINK, 0);
	succeeds(do_op(w, SHRINK, 0, bitmap), SHRINK);
	TEST_ASSERT(__vm_ioctl(w->vm, KVM_GET_DIRTY_LOG, &log) &&
		    (errno == ENOENT || errno == EINVAL),
		    "the tail has a log: %s", strerror(errno));
	log.slot = WHOLE;
	TEST_ASSERT(__vm_ioctl(w->vm, KVM_GET_DIRTY_LOG, &log) &&
		    errno == ENOENT, "what was removed has a log: %s",
		    strerror(errno));
}

/* ------------------------------------------------------- SHRINK's buffer */

#define CUT	101
#define TAIL	(NR_PAGES - CUT)

/* A slot with some pages of it logged, which @want names. */
static void make_logged(struct world *w, bool *want)
{
	make_before(w, SHRINK, CUT);
	forget_before(w, SHRINK, CUT);
	write_some(w, CUT, NR_PAGES, want);
	write_page(w, 0, NR_PAGES - 1);
	want[NR_PAGES - 1] = true;
}

TEST_F(bitmap, buffer_is_wrong)
{
	struct world *w = &self->w;
	bool want[NR_PAGES] = { false };
	char *pages = mmap(NULL, 2 * PAGE_SIZE, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	void *bad[] = {
		pages + PAGE_SIZE,		/* unmapped, in a moment */
		pages + PAGE_SIZE - 8,		/* begins where it is not */
		(void *)w->mem,			/* read-only, in a moment */
		(void *)8,
		(void *)(1UL << 63),
		(void *)-8UL,
	};
	uint64_t ops = memslot_ops_stat(w->dev, KVM_MEMSLOT_STAT_OPS), i;

	TEST_ASSERT(pages != MAP_FAILED, "no memory");
	make_logged(w, want);
	munmap(pages + PAGE_SIZE, PAGE_SIZE);
	bad[2] = mmap(NULL, PAGE_SIZE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS,
		      -1, 0);
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		int err = do_op(w, SHRINK, CUT, bad[i]);

		TEST_ASSERT(err == EFAULT, "a buffer at %p: %s", bad[i],
			    strerror(err));
		slot_assert(w->vm, WHOLE, LOG, gpa_of(0), RANGE, w->mem);
	}
	TEST_ASSERT_EQ(memslot_ops_stat(w->dev, KVM_MEMSLOT_STAT_OPS), ops);
	TEST_ASSERT_EQ(memslot_ops_stat(w->dev, KVM_MEMSLOT_STAT_FAILED),
		       ARRAY_SIZE(bad));
	assert_log(w, WHOLE, 0, NR_PAGES, want, "after what failed");

	/* And for a slot that has no bitmap. */
	set_slot(w, WHOLE, 0, 0, NR_PAGES);
	TEST_ASSERT_EQ(do_op(w, SHRINK, CUT, (void *)pages), EINVAL);
	TEST_ASSERT_EQ(do_op(w, SHRINK, CUT, NULL), 0);
}

/* Any address will do, with nothing touched beside it. */
TEST_F(bitmap, buffer_is_anywhere)
{
	static const int offsets[] = { 0, 1, 4, 7, 8, PAGE_SIZE - 8, 24,
				       PAGE_SIZE - 1, PAGE_SIZE - 20 };
	const size_t size = DIV_ROUND_UP(TAIL, 64) * sizeof(uint64_t);
	struct world *w = &self->w;
	uint64_t bitmap[BITMAP_WORDS], i, j;
	char *pages;

	REQUIRE(!host_has_pml(), "all bits of the tail are set");
	for (i = 0; i < ARRAY_SIZE(offsets); i++) {
		bool want[NR_PAGES] = { false };

		/* Not yet faulted in. */
		pages = mmap(NULL, 3 * PAGE_SIZE, PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		TEST_ASSERT(pages != MAP_FAILED, "no memory");
		if (i % 2)
			memset(pages, 0x5a, 3 * PAGE_SIZE);
		make_logged(w, want);
		succeeds(do_op(w, SHRINK, CUT, (void *)(pages + offsets[i])),
			 SHRINK);
		memcpy(bitmap, pages + offsets[i], size);
		assert_bits(bitmap, CUT, TAIL, want, "SHRINK's bitmap");
		for (j = 0; j < 3 * PAGE_SIZE; j++) {
			if (j >= offsets[i] && j < offsets[i] + size)
				continue;
			TEST_ASSERT_EQ(pages[j], i % 2 ? 0x5a : 0);
		}
		munmap(pages, 3 * PAGE_SIZE);
		unset_slot(w, WHOLE);
	}
}

struct shrink_call {
	struct world *w;
	void *buffer;
};

static int call_shrink(void *arg)
{
	struct shrink_call *c = arg;

	return do_op(c->w, SHRINK, CUT, c->buffer);
}

/*
 * While SHRINK waits for a vCPU that sleeps, its buffer is unmapped, and so is the
 * last chance to say what was dirty: it is a caller's own fault, and only that.
 */
TEST_F(bitmap, buffer_goes_away)
{
	struct world *w = &self->w;
	bool want[NR_PAGES] = { false };
	struct shrink_call call = { w };
	struct async shrink;

	REQUIRE(w->uffd >= 0, "no userfaultfd");
	REQUIRE(trace_start(), "no tracefs to tell when SHRINK has swapped");
	call.buffer = mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	make_logged(w, want);
	madvise(w->mem + 5 * PAGE_SIZE, PAGE_SIZE, MADV_DONTNEED);
	TEST_ASSERT(uffd_hold(w->uffd, w->mem + 5 * PAGE_SIZE, PAGE_SIZE, false),
		    "no userfaultfd of the memory");
	probe_begin(w->p, 1, PROBE_WRITE, gpa_of(5), 5);
	uffd_wait_for_fault(w->uffd, w->mem + 5 * PAGE_SIZE);
	async_start(&shrink, call_shrink, &call);
	async_wait_for_swap(&shrink, 1);

	munmap(call.buffer, PAGE_SIZE);
	uffd_resolve(w->uffd, w->mem + 5 * PAGE_SIZE, false, 0);
	TEST_ASSERT_EQ(probe_end(w->p, 1).nr_writes, 0);
	succeeds(async_join(&shrink), SHRINK);
	want[5] = true;
	slot_assert(w->vm, WHOLE, LOG, gpa_of(0), CUT * PAGE_SIZE, w->mem);
	assert_log(w, WHOLE, 0, CUT, want, "what stays");
	trace_stop();
}

/* -------------------------------------------------------- faults that sleep */

struct op_call {
	struct world *w;
	enum operation op;
	uint64_t *tail;
};

static int call_op(void *arg)
{
	struct op_call *c = arg;

	return do_op(c->w, c->op, CUT, c->tail);
}

/*
 * While an operation waits, one vCPU sleeps in a page fault and one in an emulated
 * write, both with the old slot at hand; a third writes through the new one.
 */
static const uint64_t held_page[] = { 37, CUT - 1 };
static const uint64_t held_tail[] = { CUT, NR_PAGES - 1 };

static void hold(struct world *w, const uint64_t *page)
{
	int i;

	for (i = 0; i < 2; i++) {
		char *at = w->mem + page[i] * PAGE_SIZE;

		TEST_ASSERT_EQ(madvise(at, PAGE_SIZE, MADV_DONTNEED), 0);
		TEST_ASSERT(uffd_hold(w->uffd, at, PAGE_SIZE, false),
			    "no userfaultfd of the memory");
		probe_begin(w->p, 1 + i, i ? PROBE_INS : PROBE_WRITE,
			    gpa_of(page[i]), 0x66);
		uffd_wait_for_fault(w->uffd, at);
	}
}

/* Lets them go on, and the operation with them. */
static void release(struct world *w, const uint64_t *page, struct async *a,
		    enum operation op)
{
	struct probe_result result;
	int i;

	TEST_ASSERT(!a->done, "%s did not wait", op_name[op]);
	for (i = 0; i < 2; i++) {
		TEST_ASSERT(!probe_is_over(w->p, 1 + i),
			    "the write to page %lu did not sleep", page[i]);
		uffd_resolve(w->uffd, w->mem + page[i] * PAGE_SIZE, false, 0);
	}
	succeeds(async_join(a), op);
	/* A write to the tail cannot end before. */
	for (i = 0; i < 2; i++) {
		result = probe_end(w->p, 1 + i);
		TEST_ASSERT(!result.err && !result.ring_full,
			    "the write to page %lu: error %d", page[i],
			    result.err);
		uffd_release(w->uffd, w->mem + page[i] * PAGE_SIZE, PAGE_SIZE);
	}
}

TEST_F(bitmap, held_writes_are_logged)
{
	struct world *w = &self->w;
	uint64_t tail[BITMAP_WORDS], log[BITMAP_WORDS];
	struct async a;
	enum operation op;
	int i, pass;

	REQUIRE(w->uffd >= 0, "no userfaultfd");
	REQUIRE(trace_start(), "no tracefs to tell when it has swapped");
	for (op = 0; op < NR_OPS; op++) {
		for (pass = 0; pass < (op == GROW ? 1 : 2); pass++) {
			const uint64_t *page = pass ? held_tail : held_page;
			struct op_call call = { w, op, tail };
			bool want[NR_PAGES] = { false }, late;

			trace_start();
			if (op == SET_WRITABLE)
				continue;
			make_before(w, op, CUT);
			forget_before(w, op, CUT);
			/* Bits beside those to come, in the old words and new. */
			write_page(w, 0, 36);
			want[36] = true;
			memset(tail, 0xff, sizeof(tail));

			hold(w, page);
			async_start(&a, call_op, &call);
			async_wait_for_swap(&a, 1);
			if (op != SET_READONLY) {
				write_page(w, 0, 39);
				want[39] = true;
			}
			release(w, page, &a, op);

			/* A write that came too late to land need not be there. */
			late = op == SET_READONLY || (op == SHRINK && pass);
			for (i = 0; i < 2; i++) {
				uint8_t *at = (void *)(w->mem + page[i] *
						       PAGE_SIZE);

				TEST_ASSERT(*at == 0x66 || (late && !*at),
					    "%s: page %lu holds %#x",
					    op_name[op], page[i], *at);
				want[page[i]] = *at;
			}
			for (i = CUT; op == GROW && i < NR_PAGES; i++)
				want[i] = w->mode == INIT;
			if (op == SHRINK)
				assert_has_bits(tail, CUT, TAIL, want,
						"SHRINK's bitmap");
			if (op == SET_READONLY) {
				read_log(w, WHOLE, NR_PAGES, log);
				assert_has_bits(log, 0, NR_PAGES, want,
						op_name[op]);
			} else {
				assert_log_after(w, op, CUT, want, op_name[op]);
			}
			unmake_after(w, op);
		}
	}
	trace_stop();
}

/* ------------------------------------------------------------------ rings */

FIXTURE(ring) {
	struct world w;
};

FIXTURE_SETUP(ring)
{
	self->w.p = NULL;
	REQUIRE_OP(KVM_MEMSLOT_OP_SET_READONLY);
	REQUIRE(has_feature(KVM_MEMSLOT_FEATURE_DIRTY_RING),
		"the module does not handle dirty rings");
	REQUIRE(kvm_has_cap(KVM_CAP_DIRTY_LOG_RING_ACQ_REL),
		"this KVM has no dirty rings");
	world_make(&self->w, ring_size(), PLAIN);
}

FIXTURE_TEARDOWN(ring)
{
	world_free(&self->w);
}

static uint32_t nr_dirty(struct kvm_vcpu *vcpu, uint32_t from)
{
	uint32_t n = 0;

	while (n < ring_entries() && ring_is_dirty(vcpu, from + n))
		n++;
	return n;
}

/* Harvests the first @most entries of a vCPU's ring, if there are so many. */
static void harvest(struct world *w, int vcpu, uint32_t most)
{
	while (most-- && ring_harvest(probe_vcpu(w->p, vcpu), &w->index[vcpu],
				      NULL, NULL))
		w->nr_unreset++;
}

/* What is harvested is what is reset: no operation changes an entry's flags. */
static void reset_rings(struct world *w)
{
	uint32_t n = kvm_vm_reset_dirty_ring(w->vm);

	TEST_ASSERT(n == w->nr_unreset, "%u entries are reset, %u were harvested",
		    n, w->nr_unreset);
	w->nr_unreset = 0;
}

/* Harvests and resets all rings, whatever is in them. */
static void drain(struct world *w)
{
	int v;

	for (v = 0; v < 3; v++)
		harvest(w, v, -1U);
	reset_rings(w);
}

static uint64_t page_before(enum operation op, uint64_t cut, uint32_t slot,
			    uint64_t offset)
{
	if (slot == WHOLE)
		return offset;
	TEST_ASSERT(op == MERGE && (slot == PIECE(0) || slot == PIECE(1)),
		    "an entry names slot %#x", slot);
	return offset + cut + (slot == PIECE(1) ? 70 : 0);
}

static void assert_entry(struct world *w, enum operation op, uint64_t cut,
			 int vcpu, uint64_t page, uint32_t index)
{
	struct kvm_vcpu *v = probe_vcpu(w->p, vcpu);
	struct kvm_dirty_gfn *e = ring_entry(v, index);
	uint64_t offset;
	uint32_t slot = slot_after(op, cut, page, &offset);

	TEST_ASSERT(ring_is_dirty(v, index),
		    "%s at %lu: the write of vCPU %d to page %lu is not logged",
		    op_name[op], cut, vcpu, page);
	TEST_ASSERT(e->slot == slot && e->offset == offset,
		    "%s at %lu: the write of vCPU %d to page %lu is page %#llx of slot %#x",
		    op_name[op], cut, vcpu, page, e->offset, e->slot);
}

/* A write to the page gives an entry of this name, so it is write-protected. */
static void assert_logs(struct world *w, enum operation op, uint64_t cut,
			int vcpu, uint64_t page, uint32_t index)
{
	TEST_ASSERT(!ring_is_dirty(probe_vcpu(w->p, vcpu), index),
		    "an entry too many");
	write_page(w, vcpu, page);
	assert_entry(w, op, cut, vcpu, page, index);
}

/*
 * Does the operation at @cut while there are entries from @index on, the first
 * @nr_harvested of them harvested and not reset, and checks each.
 */
static void check_rename(struct world *w, enum operation op, uint64_t cut, int vcpu,
			 uint32_t index, uint32_t nr_harvested, uint32_t nr)
{
	struct kvm_vcpu *v = probe_vcpu(w->p, vcpu);
	struct kvm_dirty_gfn *before = calloc(nr, sizeof(*before));
	uint32_t i, slot;
	uint64_t offset, page;

	TEST_ASSERT(before, "no memory");
	for (i = 0; i < nr; i++)
		before[i] = *ring_entry(v, index + i);
	succeeds(do_op(w, op, cut, NULL), op);

	for (i = 0; i < nr; i++) {
		struct kvm_dirty_gfn *e = ring_entry(v, index + i);

		page = page_before(op, cut, before[i].slot, before[i].offset);
		slot = slot_after(op, cut, page, &offset);
		TEST_ASSERT(e->slot == slot && e->offset == offset,
			    "after %s at %lu, entry %u of %u, page %#llx of slot %#x, is page %#llx of slot %#x, not %#lx of %#x",
			    op_name[op], cut, i, nr, before[i].offset,
			    before[i].slot, e->offset, e->slot, offset, slot);
		TEST_ASSERT(e->flags == before[i].flags &&
			    e->flags == (i < nr_harvested ?
					 KVM_DIRTY_GFN_F_RESET :
					 KVM_DIRTY_GFN_F_DIRTY),
			    "after %s, entry %u has flags %#x", op_name[op], i,
			    e->flags);
	}
	free(before);
}

/* Entries that wait to be harvested, or to be reset, get the new names. */
TEST_F(ring, entries_are_renamed)
{
	struct world *w = &self->w;
	struct kvm_vcpu *vcpu = probe_vcpu(w->p, 0);
	uint32_t start, n, nr_harvested;
	uint64_t cut, i;
	enum operation op;

	for (op = 0; op < NR_OPS; op++) {
		for (cut = 65; cut < 65 + 64; cut += 3) {
			bool want[NR_PAGES] = { false };

			make_before(w, op, cut);
			write_some(w, cut, nr_before(op, cut), want);
			start = w->index[0];
			n = nr_dirty(vcpu, start);
			nr_harvested = host_random() % (n + 1);
			harvest(w, 0, nr_harvested);
			if (op == SET_WRITABLE)
				succeeds(do_op(w, SET_READONLY, cut, NULL), op);
			check_rename(w, op, cut, 0, start, nr_harvested, n);
			drain(w);

			/* Reset by those names, the next write is logged. */
			for (i = 0; i < nr_before(op, cut); i++) {
				if (!want[i] || op == SET_READONLY ||
				    (op == SHRINK && i >= cut))
					continue;
				assert_logs(w, op, cut, 0, i, w->index[0]);
				harvest(w, 0, 1);
			}
			drain(w);
			unmake_after(w, op);
		}
	}
}

/* All of a ring, from any entry on to where it began. */
TEST_F(ring, full_and_wrapped)
{
	struct world *w = &self->w;
	struct kvm_vcpu *vcpu = probe_vcpu(w->p, 0);
	struct probe_result result = { 0 };
	uint32_t start, n;
	uint64_t page, last = 0;
	int round;

	for (round = 0; round < 5; round++) {
		const enum operation op = round % 2 ? SPLIT : SHRINK;

		make_before(w, op, CUT);
		/* So that the next ones begin somewhere else. */
		for (page = 0; page < 17; page++)
			write_page(w, 0, page);
		drain(w);

		start = w->index[0];
		for (page = NR_PAGES - 1; !result.ring_full; page--) {
			TEST_ASSERT(page, "the ring is never full");
			last = page;
			result = probe_access(w->p, 0, PROBE_WRITE,
					      gpa_of(page), 9);
		}
		n = nr_dirty(vcpu, start);
		TEST_ASSERT(n >= ring_soft_limit(), "only %u entries", n);
		/* Some of them harvested, up to beyond the wrap and not. */
		harvest(w, 0, round * 40);
		check_rename(w, op, CUT, 0, start, round * 40, n);
		drain(w);

		/* The write that was held up: of a page that is still there. */
		result = probe_go_on(w->p, 0);
		TEST_ASSERT(!result.err && !result.ring_full,
			    "the vCPU does not go on");
		TEST_ASSERT(result.nr_writes == (op == SHRINK && last >= CUT),
			    "the last write, to page %lu, came out %d times",
			    last, result.nr_writes);
		drain(w);
		unmake_after(w, op);
	}
}

/* What a vCPU wrote to a tail is in its ring by the tail's name, if it landed. */
static void assert_tail_entries(struct world *w, int vcpu, uint64_t page)
{
	uint32_t n = nr_dirty(probe_vcpu(w->p, vcpu), w->index[vcpu]), i;

	TEST_ASSERT(n || !w->mem[page * PAGE_SIZE],
		    "the write of vCPU %d to page %lu is not logged", vcpu, page);
	for (i = 0; i < n; i++)
		assert_entry(w, SHRINK, CUT, vcpu, page, w->index[vcpu] + i);
}

/*
 * While the operation waits, a ring gets entries by old names and new ones. Two
 * vCPUs sleep with the old slot at hand, at pages @page.
 */
static void push_meanwhile(struct world *w, enum operation op,
			   const uint64_t *page)
{
	const bool in_tail = op == SHRINK && page[0] >= CUT;
	struct op_call call = { w, op, NULL };
	uint32_t n = w->index[0];
	struct async a;
	int v;

	trace_start();
	make_before(w, op, CUT);
	if (op != GROW)
		write_page(w, 0, CUT + 1);
	hold(w, page);
	async_start(&a, call_op, &call);
	async_wait_for_swap(&a, 1);
	write_page(w, 0, CUT - 3);
	/* What comes or leaves is out of reach meanwhile. */
	if (op != SHRINK && op != GROW)
		write_page(w, 0, CUT + 2);
	release(w, page, &a, op);

	if (op != GROW)
		assert_entry(w, op, CUT, 0, CUT + 1, n++);
	assert_entry(w, op, CUT, 0, CUT - 3, n++);
	if (op != SHRINK && op != GROW)
		assert_entry(w, op, CUT, 0, CUT + 2, n++);
	for (v = 1; v < 3; v++) {
		if (in_tail)
			assert_tail_entries(w, v, page[v - 1]);
		else
			assert_entry(w, op, CUT, v, page[v - 1], w->index[v]);
	}
	drain(w);

	/* And by those names they are reset. */
	for (v = 1; v < 3 && !in_tail; v++)
		assert_logs(w, op, CUT, v, page[v - 1], w->index[v]);
	drain(w);
	unmake_after(w, op);
}

TEST_F(ring, entries_are_pushed_meanwhile)
{
	struct world *w = &self->w;
	enum operation op;

	REQUIRE(w->uffd >= 0, "no userfaultfd");
	REQUIRE(trace_start(), "no tracefs to tell when it has swapped");
	for (op = 0; op < SET_READONLY; op++) {
		push_meanwhile(w, op, held_page);
		/* Pages whose name is another one afterwards. */
		if (op != GROW)
			push_meanwhile(w, op, held_tail);
	}
	trace_stop();
}

/*
 * KVM resets neighbours together, and none of them if one is out of range: entries of
 * what is gone must not keep those of what stays from being reset.
 */
TEST_F(ring, stale_beside_fresh)
{
	static const uint64_t pages[] = {
		CUT - 3, CUT + 4, CUT - 2, CUT - 1, CUT, CUT + 40, CUT - 20,
	};
	struct world *w = &self->w;
	int late;
	uint64_t i;

	for (late = 0; late < 2; late++) {
		make_before(w, SHRINK, CUT);
		for (i = 0; i < ARRAY_SIZE(pages); i++)
			write_page(w, 0, pages[i]);
		if (late)
			harvest(w, 0, -1U);
		succeeds(do_op(w, SHRINK, CUT, NULL), SHRINK);
		harvest(w, 0, -1U);
		reset_rings(w);
		for (i = 0; i < ARRAY_SIZE(pages); i++) {
			if (pages[i] >= CUT)
				continue;
			assert_logs(w, SHRINK, CUT, 0, pages[i], w->index[0]);
			harvest(w, 0, 1);
		}
		drain(w);
		unmake_after(w, SHRINK);
	}
}

/* What user space wrote there has no page; it must not cost others theirs. */
TEST_F(ring, entry_out_of_range)
{
	struct world *w = &self->w;
	struct kvm_vcpu *vcpu = probe_vcpu(w->p, 0);
	enum operation op;

	for (op = 0; op < SET_READONLY; op++) {
		struct kvm_dirty_gfn *e;
		uint32_t start = w->index[0];

		if (op == GROW)
			continue;
		make_before(w, op, CUT);
		write_page(w, 0, 50);
		write_page(w, 0, 51);
		write_page(w, 0, 52);
		e = ring_entry(vcpu, start + 1);
		e->offset = 100000;
		harvest(w, 0, -1U);
		succeeds(do_op(w, op, CUT, NULL), op);
		TEST_ASSERT(e->slot == RING_NO_SLOT,
			    "%s: an entry for page 100000 names page %#llx of slot %#x",
			    op_name[op], e->offset, e->slot);
		reset_rings(w);
		assert_logs(w, op, CUT, 0, 50, w->index[0]);
		assert_logs(w, op, CUT, 0, 52, w->index[0] + 1);
		drain(w);
		unmake_after(w, op);
	}
}

/*
 * Slots of the other address space have the same numbers. No vCPU is in SMM here, so
 * the test writes their entries itself.
 */
TEST_F(ring, address_spaces_are_apart)
{
	struct world *w = &self->w;
	struct kvm_vcpu *vcpu = probe_vcpu(w->p, 0);
	const uint32_t other = SLOT(1, WHOLE);
	struct kvm_dirty_gfn *e[3];
	uint32_t i;

	REQUIRE(vm_check_cap(w->vm, KVM_CAP_MULTI_ADDRESS_SPACE) > 1,
		"this KVM has one address space");
	make_before(w, SHRINK, CUT);
	set_slot(w, other, LOG, 0, NR_PAGES);
	for (i = 0; i < 3; i++) {
		write_page(w, 0, CUT + i);
		e[i] = ring_entry(vcpu, i);
		TEST_ASSERT_EQ(e[i]->offset, CUT + i);
	}
	e[1]->slot = other;
	e[2]->slot = SLOT(1, PIECE(2));
	harvest(w, 0, -1U);

	succeeds(do_op(w, SHRINK, CUT, NULL), SHRINK);
	TEST_ASSERT(e[0]->slot == RING_NO_SLOT && !e[0]->offset &&
		    e[1]->slot == other && e[1]->offset == CUT + 1,
		    "SHRINK in address space 0: pages %#llx of slot %#x and %#llx of %#x",
		    e[0]->offset, e[0]->slot, e[1]->offset, e[1]->slot);
	succeeds(slot_shrink(w->dev, other, CUT * PAGE_SIZE, NULL), SHRINK);
	TEST_ASSERT(e[1]->slot == SLOT(1, RING_NO_SLOT) && e[1]->offset == 1,
		    "SHRINK in address space 1: page %#llx of slot %#x",
		    e[1]->offset, e[1]->slot);
	TEST_ASSERT(e[2]->slot == SLOT(1, PIECE(2)) && e[2]->offset == CUT + 2,
		    "an entry of another slot is page %#llx of slot %#x",
		    e[2]->offset, e[2]->slot);
	reset_rings(w);
}

/* What left is not taken for what comes, though both have that number. */
TEST_F(ring, removed_is_not_what_comes)
{
	struct world *w = &self->w;
	struct kvm_dirty_gfn *e = ring_entry(probe_vcpu(w->p, 0), 0);

	make_before(w, SHRINK, CUT);
	write_page(w, 0, CUT + 1);
	succeeds(do_op(w, SHRINK, CUT, NULL), SHRINK);
	succeeds(slot_grow(w->dev, WHOLE, RANGE), GROW);
	TEST_ASSERT(e->slot == RING_NO_SLOT && e->offset == 1,
		    "after SHRINK and GROW, an entry of what left is page %#llx of slot %#x",
		    e->offset, e->slot);
	harvest(w, 0, 1);
	reset_rings(w);
	assert_logs(w, GROW, CUT, 0, CUT + 1, w->index[0]);
}

/* Entries keep up with one operation after the other until they are reset. */
TEST_F(ring, entries_go_through_many_operations)
{
	static const uint64_t pages[] = { 3, CUT - 1, CUT, CUT + 70, NR_PAGES - 1 };
	const struct kvm_memslot_cut cut = {
		.offset = 10 * PAGE_SIZE,
		.slot = PIECE(3),
	};
	const uint32_t others[] = { PIECE(1), PIECE(3) };
	struct world *w = &self->w;
	struct kvm_vcpu *vcpu = probe_vcpu(w->p, 0);
	struct kvm_dirty_gfn *e;
	uint64_t i;

	make_before(w, SPLIT, CUT);
	for (i = 0; i < ARRAY_SIZE(pages); i++)
		write_page(w, 0, pages[i]);
	harvest(w, 0, 3);
	succeeds(do_op(w, SPLIT, CUT, NULL), SPLIT);
	/* The middle goes, the last gets another name, its number a new use. */
	succeeds(slot_shrink(w->dev, PIECE(0), 0, NULL), SHRINK);
	succeeds(slot_split(w->dev, PIECE(1), 1, &cut), SPLIT);
	set_slot(w, PIECE(0), LOG, CUT, 70);
	succeeds(slot_merge(w->dev, PIECE(0), 2, others), MERGE);

	for (i = 0; i < ARRAY_SIZE(pages); i++) {
		e = ring_entry(vcpu, i);
		TEST_ASSERT(e->slot == (i < 2 ? WHOLE : i == 2 ? RING_NO_SLOT :
					PIECE(0)) &&
			    e->offset == (i < 2 ? pages[i] : pages[i] - CUT),
			    "entry %lu is page %#llx of slot %#x", i, e->offset,
			    e->slot);
	}
	harvest(w, 0, -1U);
	reset_rings(w);
	for (i = 0; i < ARRAY_SIZE(pages); i++)
		write_page(w, 0, pages[i]);
	TEST_ASSERT_EQ(nr_dirty(vcpu, w->index[0]), ARRAY_SIZE(pages));
}

/* A slot that logs into a ring has no bitmap to ask for. */
TEST_F(ring, shrink_has_no_bitmap)
{
	struct world *w = &self->w;
	uint64_t bitmap[BITMAP_WORDS];

	make_before(w, SHRINK, CUT);
	TEST_ASSERT_EQ(do_op(w, SHRINK, CUT, bitmap), EINVAL);
	slot_assert(w->vm, WHOLE, LOG, gpa_of(0), RANGE, w->mem);
}

TEST_HARNESS_MAIN
