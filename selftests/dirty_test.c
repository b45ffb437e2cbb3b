// SPDX-License-Identifier: GPL-2.0
/*
 * What the dirty log says after an operation: exactly which pages, under which
 * name, and that writes that come later are logged again. dirty_ring_test has the
 * same of rings.
 */
#include <sys/mman.h>

#include "harness.h"

#include "kvm_util.h"
#include "processor.h"

#include "async.h"
#include "host.h"
#include "logged.h"
#include "memslot_ops.h"
#include "trace.h"

static void get_log(struct logged *w, uint32_t slot, uint64_t *bitmap)
{
	memset(bitmap, 0xff, BITMAP_SIZE);
	kvm_vm_get_dirty_log(w->vm, slot, bitmap);
}

/* Gets the slot's log, and lets KVM log the next write to its pages. */
static void read_log(struct logged *w, uint32_t slot, uint64_t nr,
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
		TEST_ASSERT(test_bit(i, bitmap) == want[first + i],
			    "%s: bit %lu, of page %lu, is %d", what, i,
			    first + i, test_bit(i, bitmap));
	for (; i % 64; i++)
		TEST_ASSERT(!test_bit(i, bitmap), "%s: spare bit %lu after %lu pages is set",
			    what, i, nr);
}

/* The same where bits of other pages may be set as well. */
static void assert_has_bits(const uint64_t *bitmap, uint64_t first, uint64_t nr,
			    const bool *want, const char *what)
{
	bool has[NR_PAGES];
	uint64_t i;

	for (i = first; i < first + nr; i++)
		has[i] = want[i] || test_bit(i - first, bitmap);
	assert_bits(bitmap, first, nr, has, what);
}

static void assert_log(struct logged *w, uint32_t slot, uint64_t first,
		       uint64_t nr, const bool *want, const char *what)
{
	uint64_t bitmap[BITMAP_WORDS];

	read_log(w, slot, nr, bitmap);
	assert_bits(bitmap, first, nr, want, what);
}

/* The log of all that there is after @op; what SHRINK removed is not. */
static void assert_log_after(struct logged *w, enum operation op, uint64_t cut,
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
static void forget_before(struct logged *w, enum operation op, uint64_t cut)
{
	uint64_t bitmap[BITMAP_WORDS], i;

	for (i = 0; i < logged_nr_before(op, cut); i += 3)
		logged_write(w, 0, i);
	if (op == MERGE) {
		read_log(w, WHOLE, cut, bitmap);
		read_log(w, PIECE(0), 70, bitmap);
		return read_log(w, PIECE(1), NR_PAGES - cut - 70, bitmap);
	}
	read_log(w, WHOLE, logged_nr_before(op, cut), bitmap);
}

FIXTURE(bitmap) {
	struct logged w;
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
	REQUIRE(memslot_ops_has_feature(KVM_MEMSLOT_FEATURE_DIRTY_BITMAP),
		"the module does not handle dirty bitmaps");
	logged_make(&self->w, 0, variant->mode);
}

FIXTURE_TEARDOWN(bitmap)
{
	logged_free(&self->w);
}

/* Every bit stays that of its page, wherever a boundary comes or goes. */
TEST_F(bitmap, positions)
{
	struct logged *w = &self->w;
	uint64_t cut, i, tail[BITMAP_WORDS];
	enum operation op;

	for (op = 0; op < NR_OPS; op++) {
		for (cut = 65; cut < 65 + 64; cut++) {
			bool want[NR_PAGES] = { false };

			logged_make_before(w, op, cut);
			forget_before(w, op, cut);
			logged_write_some(w, cut, logged_nr_before(op, cut), want);
			for (i = cut; op == GROW && i < NR_PAGES; i++)
				want[i] = w->mode == INIT;

			if (op == SET_WRITABLE)
				logged_succeeds(logged_operate(w, SET_READONLY, cut, NULL), op);
			memset(tail, 0xff, sizeof(tail));
			logged_succeeds(logged_operate(w, op, cut, tail), op);
			/* All of a tail is dirty where KVM learns late. */
			if (op == SHRINK && !host_has_pml())
				assert_bits(tail, cut, NR_PAGES - cut, want,
					    "SHRINK's bitmap");
			assert_log_after(w, op, cut, want, op_name[op]);
			logged_unmake_after(w, op);
		}
	}
}

/* After it has been read, the next write to every page is logged again. */
TEST_F(bitmap, later_writes_are_logged)
{
	struct logged *w = &self->w;
	const uint64_t cut = 101;
	uint64_t i, nr;
	enum operation op;

	for (op = 0; op < NR_OPS; op++) {
		bool want[NR_PAGES] = { false };

		if (op == SET_READONLY)
			continue;
		logged_make_before(w, op, cut);
		for (i = 0; i < logged_nr_before(op, cut); i++)
			logged_write(w, 0, i);
		if (op == SET_WRITABLE)
			logged_succeeds(logged_operate(w, SET_READONLY, cut, NULL), op);
		logged_succeeds(logged_operate(w, op, cut, NULL), op);
		nr = op == SHRINK ? cut : NR_PAGES;
		for (i = 0; i < nr; i++)
			want[i] = i < logged_nr_before(op, cut) || w->mode == INIT;
		assert_log_after(w, op, cut, want, "what was written before");

		memset(want, 0, sizeof(want));
		assert_log_after(w, op, cut, want, "once more");
		for (i = 0; i < nr; i += 5) {
			logged_write(w, i % 3, i);
			want[i] = true;
		}
		assert_log_after(w, op, cut, want, "what was written after");
		logged_unmake_after(w, op);
	}
}

/*
 * An operation comes between KVM_GET_DIRTY_LOG and KVM_CLEAR_DIRTY_LOG. What the
 * VMM got by the old names it clears by the new ones, and no write is lost to it.
 */
TEST_F(bitmap, clear_after_an_operation)
{
	struct logged *w = &self->w;
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
		logged_make_before(w, op, cut);
		forget_before(w, op, cut);
		logged_write_some(w, cut, logged_nr_before(op, cut), was);
		for (j = 0; j < (op == MERGE ? 3 : 1); j++) {
			nr = op == MERGE ? firsts[j + 1] - firsts[j] :
					   logged_nr_before(op, cut);
			get_log(w, names[j], got);
			assert_bits(got, firsts[j], nr, was, "before");
		}
		if (op == SET_WRITABLE)
			logged_succeeds(logged_operate(w, SET_READONLY, cut, NULL), op);
		logged_succeeds(logged_operate(w, op, cut, NULL), op);

		/* A page that was not clean then, and is written to now. */
		logged_write(w, 0, 2);
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
				logged_write(w, 0, i);
		}
		assert_log_after(w, op, cut, was, "written after CLEAR");
		logged_unmake_after(w, op);
	}
}

/* Each of the pieces is a slot whose logging is its own. */
TEST_F(bitmap, logging_of_one_piece_ends_and_begins)
{
	struct logged *w = &self->w;
	const uint64_t cut = 101;
	bool want[NR_PAGES] = { false };
	uint64_t bitmap[BITMAP_WORDS], i;
	struct kvm_dirty_log log = {
		.slot = PIECE(0),
		.dirty_bitmap = bitmap,
	};

	logged_make_before(w, SPLIT, cut);
	forget_before(w, SPLIT, cut);
	logged_succeeds(logged_operate(w, SPLIT, cut, NULL), SPLIT);

	logged_set_slot(w, PIECE(0), 0, cut, 70);
	TEST_ASSERT(__vm_ioctl(w->vm, KVM_GET_DIRTY_LOG, &log) &&
		    errno == ENOENT, "a slot that does not log has a log");
	for (i = 0; i < NR_PAGES; i += 2) {
		logged_write(w, 0, i);
		want[i] = true;
	}
	assert_log(w, WHOLE, 0, cut, want, "the first piece");
	assert_log(w, PIECE(1), cut + 70, NR_PAGES - cut - 70, want,
		   "the third piece");

	logged_set_slot(w, PIECE(0), LOG, cut, 70);
	memset(want, w->mode == INIT, sizeof(want));
	assert_log(w, PIECE(0), cut, 70, want, "logging begins again");
	memset(want, 0, sizeof(want));
	for (i = 1; i < NR_PAGES; i += 4) {
		logged_write(w, 0, i);
		want[i] = true;
	}
	assert_log_after(w, SPLIT, cut, want, "all three");

	/* They are alike again. */
	logged_write(w, 0, cut);
	memset(want, 0, sizeof(want));
	want[cut] = true;
	logged_succeeds(logged_operate(w, MERGE, cut, NULL), MERGE);
	assert_log(w, WHOLE, 0, NR_PAGES, want, "the whole");
}

/* What was written before a slot is read-only is in its log, and nothing else. */
TEST_F(bitmap, readonly_and_back)
{
	struct logged *w = &self->w;
	bool want[NR_PAGES] = { false };
	struct probe_result result;
	uint64_t i;

	logged_make_before(w, SET_READONLY, 0);
	forget_before(w, SET_READONLY, 0);
	for (i = 0; i < NR_PAGES; i += 7) {
		logged_write(w, 0, i);
		want[i] = true;
	}
	logged_succeeds(slot_set_readonly(w->dev, WHOLE, true), SET_READONLY);
	for (i = 0; i < NR_PAGES; i++) {
		result = probe_access(w->p, 1, PROBE_WRITE, logged_gpa(i), 1);
		TEST_ASSERT(result.nr_writes == 1, "page %lu is writable", i);
	}
	assert_log(w, WHOLE, 0, NR_PAGES, want, "read-only");

	logged_succeeds(slot_set_readonly(w->dev, WHOLE, false), SET_WRITABLE);
	memset(want, 0, sizeof(want));
	assert_log(w, WHOLE, 0, NR_PAGES, want, "writable");
	for (i = 0; i < NR_PAGES; i += 3) {
		logged_write(w, 1, i);
		want[i] = true;
	}
	assert_log(w, WHOLE, 0, NR_PAGES, want, "written again");
}

/* A number that the tail has for a moment, and one that it had. */
TEST_F(bitmap, tail_has_no_log)
{
	struct logged *w = &self->w;
	uint64_t bitmap[BITMAP_WORDS];
	struct kvm_dirty_log log = {
		.slot = RING_NO_SLOT,
		.dirty_bitmap = bitmap,
	};

	logged_make_before(w, SHRINK, 0);
	logged_succeeds(logged_operate(w, SHRINK, 0, bitmap), SHRINK);
	TEST_ASSERT(__vm_ioctl(w->vm, KVM_GET_DIRTY_LOG, &log) &&
		    (errno == ENOENT || errno == EINVAL),
		    "the tail has a log: %s", strerror(errno));
	log.slot = WHOLE;
	TEST_ASSERT(__vm_ioctl(w->vm, KVM_GET_DIRTY_LOG, &log) &&
		    errno == ENOENT, "what was removed has a log: %s",
		    strerror(errno));
}

/* ------------------------------------------------------- SHRINK's buffer */

/* A slot with some pages of it logged, which @want names. */
static void make_logged(struct logged *w, bool *want)
{
	logged_make_before(w, SHRINK, CUT);
	forget_before(w, SHRINK, CUT);
	logged_write_some(w, CUT, NR_PAGES, want);
	logged_write(w, 0, NR_PAGES - 1);
	want[NR_PAGES - 1] = true;
}

TEST_F(bitmap, buffer_is_wrong)
{
	struct logged *w = &self->w;
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
		int err = logged_operate(w, SHRINK, CUT, bad[i]);

		TEST_ASSERT(err == EFAULT, "a buffer at %p: %s", bad[i],
			    strerror(err));
		slot_assert(w->vm, WHOLE, LOG, logged_gpa(0), RANGE, w->mem);
	}
	TEST_ASSERT_EQ(memslot_ops_stat(w->dev, KVM_MEMSLOT_STAT_OPS), ops);
	TEST_ASSERT_EQ(memslot_ops_stat(w->dev, KVM_MEMSLOT_STAT_FAILED),
		       ARRAY_SIZE(bad));
	assert_log(w, WHOLE, 0, NR_PAGES, want, "after what failed");

	/* And for a slot that has no bitmap. */
	logged_set_slot(w, WHOLE, 0, 0, NR_PAGES);
	TEST_ASSERT_EQ(logged_operate(w, SHRINK, CUT, (void *)pages), EINVAL);
	TEST_ASSERT_EQ(logged_operate(w, SHRINK, CUT, NULL), 0);
}

/* Any address will do, with nothing touched beside it. */
TEST_F(bitmap, buffer_is_anywhere)
{
	static const int offsets[] = { 0, 1, 4, 7, 8, PAGE_SIZE - 8, 24,
				       PAGE_SIZE - 1, PAGE_SIZE - 20 };
	const size_t size = DIV_ROUND_UP(TAIL, 64) * sizeof(uint64_t);
	struct logged *w = &self->w;
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
		logged_succeeds(logged_operate(w, SHRINK, CUT, (void *)(pages + offsets[i])),
				SHRINK);
		memcpy(bitmap, pages + offsets[i], size);
		assert_bits(bitmap, CUT, TAIL, want, "SHRINK's bitmap");
		for (j = 0; j < 3 * PAGE_SIZE; j++) {
			if (j >= offsets[i] && j < offsets[i] + size)
				continue;
			TEST_ASSERT_EQ(pages[j], i % 2 ? 0x5a : 0);
		}
		munmap(pages, 3 * PAGE_SIZE);
		logged_unset_slot(w, WHOLE);
	}
}

/*
 * While SHRINK waits for a vCPU that sleeps, its buffer is unmapped, and so is the
 * last chance to say what was dirty: it is a caller's own fault, and only that.
 */
TEST_F(bitmap, buffer_goes_away)
{
	struct logged *w = &self->w;
	bool want[NR_PAGES] = { false };
	struct logged_call call = { w, SHRINK };
	struct async shrink;

	REQUIRE(w->uffd >= 0, "no userfaultfd");
	REQUIRE(trace_start(), "no tracefs to tell when SHRINK has swapped");
	call.bitmap = mmap(NULL, PAGE_SIZE, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	make_logged(w, want);
	madvise(w->mem + 5 * PAGE_SIZE, PAGE_SIZE, MADV_DONTNEED);
	TEST_ASSERT(uffd_hold(w->uffd, w->mem + 5 * PAGE_SIZE, PAGE_SIZE, false),
		    "no userfaultfd of the memory");
	probe_begin(w->p, 1, PROBE_WRITE, logged_gpa(5), 5);
	uffd_wait_for_fault(w->uffd, w->mem + 5 * PAGE_SIZE);
	async_start(&shrink, logged_make_call, &call);
	async_wait_for_swap(&shrink, 1);

	munmap(call.bitmap, PAGE_SIZE);
	uffd_resolve(w->uffd, w->mem + 5 * PAGE_SIZE, false, 0);
	TEST_ASSERT_EQ(probe_end(w->p, 1).nr_writes, 0);
	logged_succeeds(async_join(&shrink), SHRINK);
	want[5] = true;
	slot_assert(w->vm, WHOLE, LOG, logged_gpa(0), CUT * PAGE_SIZE, w->mem);
	assert_log(w, WHOLE, 0, CUT, want, "what stays");
	trace_stop();
}

/* -------------------------------------------------------- faults that sleep */

TEST_F(bitmap, held_writes_are_logged)
{
	struct logged *w = &self->w;
	uint64_t tail[BITMAP_WORDS], log[BITMAP_WORDS];
	struct async a;
	enum operation op;
	int i, pass;

	REQUIRE(w->uffd >= 0, "no userfaultfd");
	REQUIRE(trace_start(), "no tracefs to tell when it has swapped");
	for (op = 0; op < NR_OPS; op++) {
		for (pass = 0; pass < (op == GROW ? 1 : 2); pass++) {
			const uint64_t *page = pass ? logged_held_tail : logged_held_page;
			struct logged_call call = { w, op, tail };
			bool want[NR_PAGES] = { false }, late;

			trace_start();
			if (op == SET_WRITABLE)
				continue;
			logged_make_before(w, op, CUT);
			forget_before(w, op, CUT);
			/* Bits beside those to come, in the old words and new. */
			logged_write(w, 0, 36);
			want[36] = true;
			memset(tail, 0xff, sizeof(tail));

			logged_hold(w, page);
			async_start(&a, logged_make_call, &call);
			async_wait_for_swap(&a, 1);
			if (op != SET_READONLY) {
				logged_write(w, 0, 39);
				want[39] = true;
			}
			logged_release(w, page, &a, op);

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
			logged_unmake_after(w, op);
		}
	}
	trace_stop();
}

TEST_HARNESS_MAIN
