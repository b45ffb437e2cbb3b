// SPDX-License-Identifier: GPL-2.0
/*
 * What the rings of dirty pages say after an operation: each entry has its page's new
 * name, or none, is harvested and reset by it, and writes that come later are logged
 * again.
 */
#include "harness.h"

#include "kvm_util.h"
#include "processor.h"

#include "async.h"
#include "dirty_ring.h"
#include "host.h"
#include "logged.h"
#include "memslot_ops.h"
#include "trace.h"

FIXTURE(ring) {
	struct logged w;
};

FIXTURE_SETUP(ring)
{
	self->w.p = NULL;
	REQUIRE_OP(KVM_MEMSLOT_OP_SET_READONLY);
	REQUIRE(memslot_ops_has_feature(KVM_MEMSLOT_FEATURE_DIRTY_RING),
		"the module does not handle dirty rings");
	REQUIRE(kvm_has_cap(KVM_CAP_DIRTY_LOG_RING_ACQ_REL),
		"this KVM has no dirty rings");
	logged_make(&self->w, ring_size(), PLAIN);
}

FIXTURE_TEARDOWN(ring)
{
	logged_free(&self->w);
}

static uint32_t nr_dirty(struct kvm_vcpu *vcpu, uint32_t from)
{
	uint32_t n = 0;

	while (n < ring_entries() && ring_is_dirty(vcpu, from + n))
		n++;
	return n;
}

/* Harvests the first @most entries of a vCPU's ring, if there are so many. */
static void harvest(struct logged *w, int vcpu, uint32_t most)
{
	while (most-- && ring_harvest(probe_vcpu(w->p, vcpu), &w->index[vcpu],
				      NULL, NULL))
		w->nr_unreset++;
}

/* What is harvested is what is reset: no operation changes an entry's flags. */
static void reset_rings(struct logged *w)
{
	uint32_t n = kvm_vm_reset_dirty_ring(w->vm);

	TEST_ASSERT(n == w->nr_unreset, "%u entries are reset, %u were harvested",
		    n, w->nr_unreset);
	w->nr_unreset = 0;
}

/* Harvests and resets all rings, whatever is in them. */
static void drain(struct logged *w)
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

static void assert_entry(struct logged *w, enum operation op, uint64_t cut,
			 int vcpu, uint64_t page, uint32_t index)
{
	struct kvm_vcpu *v = probe_vcpu(w->p, vcpu);
	struct kvm_dirty_gfn *e = ring_entry(v, index);
	uint64_t offset;
	uint32_t slot = logged_slot_after(op, cut, page, &offset);

	TEST_ASSERT(ring_is_dirty(v, index),
		    "%s at %lu: the write of vCPU %d to page %lu is not logged",
		    op_name[op], cut, vcpu, page);
	TEST_ASSERT(e->slot == slot && e->offset == offset,
		    "%s at %lu: the write of vCPU %d to page %lu is page %#llx of slot %#x",
		    op_name[op], cut, vcpu, page, e->offset, e->slot);
}

/* A write to the page gives an entry of this name, so it is write-protected. */
static void assert_logs(struct logged *w, enum operation op, uint64_t cut,
			int vcpu, uint64_t page, uint32_t index)
{
	TEST_ASSERT(!ring_is_dirty(probe_vcpu(w->p, vcpu), index),
		    "an entry too many");
	logged_write(w, vcpu, page);
	assert_entry(w, op, cut, vcpu, page, index);
}

/*
 * Does the operation at @cut while there are entries from @index on, the first
 * @nr_harvested of them harvested and not reset, and checks each.
 */
static void check_rename(struct logged *w, enum operation op, uint64_t cut, int vcpu,
			 uint32_t index, uint32_t nr_harvested, uint32_t nr)
{
	struct kvm_vcpu *v = probe_vcpu(w->p, vcpu);
	struct kvm_dirty_gfn *before = calloc(nr, sizeof(*before));
	uint32_t i, slot;
	uint64_t offset, page;

	TEST_ASSERT(before, "no memory");
	for (i = 0; i < nr; i++)
		before[i] = *ring_entry(v, index + i);
	logged_succeeds(logged_operate(w, op, cut, NULL), op);

	for (i = 0; i < nr; i++) {
		struct kvm_dirty_gfn *e = ring_entry(v, index + i);

		page = page_before(op, cut, before[i].slot, before[i].offset);
		slot = logged_slot_after(op, cut, page, &offset);
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
	struct logged *w = &self->w;
	struct kvm_vcpu *vcpu = probe_vcpu(w->p, 0);
	uint32_t start, n, nr_harvested;
	uint64_t cut, i;
	enum operation op;

	for (op = 0; op < NR_OPS; op++) {
		for (cut = 65; cut < 65 + 64; cut += 3) {
			bool want[NR_PAGES] = { false };

			logged_make_before(w, op, cut);
			logged_write_some(w, cut, logged_nr_before(op, cut), want);
			start = w->index[0];
			n = nr_dirty(vcpu, start);
			nr_harvested = host_random() % (n + 1);
			harvest(w, 0, nr_harvested);
			if (op == SET_WRITABLE)
				logged_succeeds(logged_operate(w, SET_READONLY, cut, NULL), op);
			check_rename(w, op, cut, 0, start, nr_harvested, n);
			drain(w);

			/* Reset by those names, the next write is logged. */
			for (i = 0; i < logged_nr_before(op, cut); i++) {
				if (!want[i] || op == SET_READONLY ||
				    (op == SHRINK && i >= cut))
					continue;
				assert_logs(w, op, cut, 0, i, w->index[0]);
				harvest(w, 0, 1);
			}
			drain(w);
			logged_unmake_after(w, op);
		}
	}
}

/* All of a ring, from any entry on to where it began. */
TEST_F(ring, full_and_wrapped)
{
	struct logged *w = &self->w;
	struct kvm_vcpu *vcpu = probe_vcpu(w->p, 0);
	struct probe_result result = { 0 };
	uint32_t start, n;
	uint64_t page, last = 0;
	int round;

	for (round = 0; round < 5; round++) {
		const enum operation op = round % 2 ? SPLIT : SHRINK;

		logged_make_before(w, op, CUT);
		/* So that the next ones begin somewhere else. */
		for (page = 0; page < 17; page++)
			logged_write(w, 0, page);
		drain(w);

		start = w->index[0];
		for (page = NR_PAGES - 1; !result.ring_full; page--) {
			TEST_ASSERT(page, "the ring is never full");
			last = page;
			result = probe_access(w->p, 0, PROBE_WRITE,
					      logged_gpa(page), 9);
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
		logged_unmake_after(w, op);
	}
}

/* What a vCPU wrote to a tail is in its ring by the tail's name, if it landed. */
static void assert_tail_entries(struct logged *w, int vcpu, uint64_t page)
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
static void push_meanwhile(struct logged *w, enum operation op,
			   const uint64_t *page)
{
	const bool in_tail = op == SHRINK && page[0] >= CUT;
	struct logged_call call = { w, op, NULL };
	uint32_t n = w->index[0];
	struct async a;
	int v;

	trace_start();
	logged_make_before(w, op, CUT);
	if (op != GROW)
		logged_write(w, 0, CUT + 1);
	logged_hold(w, page);
	async_start(&a, logged_make_call, &call);
	async_wait_for_swap(&a, 1);
	logged_write(w, 0, CUT - 3);
	/* What comes or leaves is out of reach meanwhile. */
	if (op != SHRINK && op != GROW)
		logged_write(w, 0, CUT + 2);
	logged_release(w, page, &a, op);

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
	logged_unmake_after(w, op);
}

TEST_F(ring, entries_are_pushed_meanwhile)
{
	struct logged *w = &self->w;
	enum operation op;

	REQUIRE(w->uffd >= 0, "no userfaultfd");
	REQUIRE(trace_start(), "no tracefs to tell when it has swapped");
	for (op = 0; op < SET_READONLY; op++) {
		push_meanwhile(w, op, logged_held_page);
		/* Pages whose name is another one afterwards. */
		if (op != GROW)
			push_meanwhile(w, op, logged_held_tail);
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
	struct logged *w = &self->w;
	int late;
	uint64_t i;

	for (late = 0; late < 2; late++) {
		logged_make_before(w, SHRINK, CUT);
		for (i = 0; i < ARRAY_SIZE(pages); i++)
			logged_write(w, 0, pages[i]);
		if (late)
			harvest(w, 0, -1U);
		logged_succeeds(logged_operate(w, SHRINK, CUT, NULL), SHRINK);
		harvest(w, 0, -1U);
		reset_rings(w);
		for (i = 0; i < ARRAY_SIZE(pages); i++) {
			if (pages[i] >= CUT)
				continue;
			assert_logs(w, SHRINK, CUT, 0, pages[i], w->index[0]);
			harvest(w, 0, 1);
		}
		drain(w);
		logged_unmake_after(w, SHRINK);
	}
}

/* What user space wrote there has no page; it must not cost others theirs. */
TEST_F(ring, entry_out_of_range)
{
	struct logged *w = &self->w;
	struct kvm_vcpu *vcpu = probe_vcpu(w->p, 0);
	enum operation op;

	for (op = 0; op < SET_READONLY; op++) {
		struct kvm_dirty_gfn *e;
		uint32_t start = w->index[0];

		if (op == GROW)
			continue;
		logged_make_before(w, op, CUT);
		logged_write(w, 0, 50);
		logged_write(w, 0, 51);
		logged_write(w, 0, 52);
		e = ring_entry(vcpu, start + 1);
		e->offset = 100000;
		harvest(w, 0, -1U);
		logged_succeeds(logged_operate(w, op, CUT, NULL), op);
		TEST_ASSERT(e->slot == RING_NO_SLOT,
			    "%s: an entry for page 100000 names page %#llx of slot %#x",
			    op_name[op], e->offset, e->slot);
		reset_rings(w);
		assert_logs(w, op, CUT, 0, 50, w->index[0]);
		assert_logs(w, op, CUT, 0, 52, w->index[0] + 1);
		drain(w);
		logged_unmake_after(w, op);
	}
}

/*
 * Slots of the other address space have the same numbers. No vCPU is in SMM here, so
 * the test writes their entries itself.
 */
TEST_F(ring, address_spaces_are_apart)
{
	struct logged *w = &self->w;
	struct kvm_vcpu *vcpu = probe_vcpu(w->p, 0);
	const uint32_t other = SLOT(1, WHOLE);
	struct kvm_dirty_gfn *e[3];
	uint32_t i;

	REQUIRE(vm_check_cap(w->vm, KVM_CAP_MULTI_ADDRESS_SPACE) > 1,
		"this KVM has one address space");
	logged_make_before(w, SHRINK, CUT);
	logged_set_slot(w, other, LOG, 0, NR_PAGES);
	for (i = 0; i < 3; i++) {
		logged_write(w, 0, CUT + i);
		e[i] = ring_entry(vcpu, i);
		TEST_ASSERT_EQ(e[i]->offset, CUT + i);
	}
	e[1]->slot = other;
	e[2]->slot = SLOT(1, PIECE(2));
	harvest(w, 0, -1U);

	logged_succeeds(logged_operate(w, SHRINK, CUT, NULL), SHRINK);
	TEST_ASSERT(e[0]->slot == RING_NO_SLOT && !e[0]->offset &&
		    e[1]->slot == other && e[1]->offset == CUT + 1,
		    "SHRINK in address space 0: pages %#llx of slot %#x and %#llx of %#x",
		    e[0]->offset, e[0]->slot, e[1]->offset, e[1]->slot);
	logged_succeeds(slot_shrink(w->dev, other, CUT * PAGE_SIZE, NULL), SHRINK);
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
	struct logged *w = &self->w;
	struct kvm_dirty_gfn *e = ring_entry(probe_vcpu(w->p, 0), 0);

	logged_make_before(w, SHRINK, CUT);
	logged_write(w, 0, CUT + 1);
	logged_succeeds(logged_operate(w, SHRINK, CUT, NULL), SHRINK);
	logged_succeeds(slot_grow(w->dev, WHOLE, RANGE), GROW);
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
	struct logged *w = &self->w;
	struct kvm_vcpu *vcpu = probe_vcpu(w->p, 0);
	struct kvm_dirty_gfn *e;
	uint64_t i;

	logged_make_before(w, SPLIT, CUT);
	for (i = 0; i < ARRAY_SIZE(pages); i++)
		logged_write(w, 0, pages[i]);
	harvest(w, 0, 3);
	logged_succeeds(logged_operate(w, SPLIT, CUT, NULL), SPLIT);
	/* The middle goes, the last gets another name, its number a new use. */
	logged_succeeds(slot_shrink(w->dev, PIECE(0), 0, NULL), SHRINK);
	logged_succeeds(slot_split(w->dev, PIECE(1), 1, &cut), SPLIT);
	logged_set_slot(w, PIECE(0), LOG, CUT, 70);
	logged_succeeds(slot_merge(w->dev, PIECE(0), 2, others), MERGE);

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
		logged_write(w, 0, pages[i]);
	TEST_ASSERT_EQ(nr_dirty(vcpu, w->index[0]), ARRAY_SIZE(pages));
}

/* A slot that logs into a ring has no bitmap to ask for. */
TEST_F(ring, shrink_has_no_bitmap)
{
	struct logged *w = &self->w;
	uint64_t bitmap[BITMAP_WORDS];

	logged_make_before(w, SHRINK, CUT);
	TEST_ASSERT_EQ(logged_operate(w, SHRINK, CUT, bitmap), EINVAL);
	slot_assert(w->vm, WHOLE, LOG, logged_gpa(0), RANGE, w->mem);
}

TEST_HARNESS_MAIN
