// SPDX-License-Identifier: GPL-2.0
#include <sys/mman.h>

#include "kvm_util.h"
#include "processor.h"

#include "host.h"
#include "logged.h"

const char * const op_name[NR_OPS] = {
	"GROW", "SHRINK", "SPLIT", "MERGE", "SET_READONLY 1", "SET_READONLY 0",
};

const uint64_t logged_held_page[2] = { 37, CUT - 1 };
const uint64_t logged_held_tail[2] = { CUT, NR_PAGES - 1 };

uint64_t logged_gpa(uint64_t page)
{
	return PROBE_GPA + page * PAGE_SIZE;
}

void logged_make(struct logged *w, uint32_t ring_size, enum mode mode)
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

void logged_free(struct logged *w)
{
	if (!w->p)
		return;
	close(w->dev);
	probe_free(w->p);
	munmap(w->mem, RANGE);
	close(w->uffd);
}

void logged_set_slot(struct logged *w, uint32_t slot, uint32_t flags,
		     uint64_t first, uint64_t nr)
{
	int err = slot_set(w->vm, slot, flags, logged_gpa(first), nr * PAGE_SIZE,
			   w->mem + first * PAGE_SIZE);

	TEST_ASSERT(!err, "cannot set slot %u to pages [%lu, %lu), flags %#x: %s",
		    slot, first, first + nr, flags, strerror(err));
}

void logged_unset_slot(struct logged *w, uint32_t slot)
{
	int err = slot_set(w->vm, slot, 0, 0, 0, NULL);

	TEST_ASSERT(!err, "cannot delete slot %u: %s", slot, strerror(err));
}

void logged_write(struct logged *w, int vcpu, uint64_t page)
{
	struct probe_result result;

	result = probe_access(w->p, vcpu, PROBE_WRITE, logged_gpa(page),
			      ++w->serial);
	TEST_ASSERT(!result.err && !result.nr_writes && !result.ring_full,
		    "a write to page %lu did not end: error %d", page,
		    result.err);
}

void logged_succeeds(int err, enum operation op)
{
	TEST_ASSERT(!err, "%s: %s", op_name[op], strerror(err));
}

uint64_t logged_nr_before(enum operation op, uint64_t cut)
{
	return op == GROW ? cut : NR_PAGES;
}

void logged_make_before(struct logged *w, enum operation op, uint64_t cut)
{
	switch (op) {
	case GROW:
		return logged_set_slot(w, WHOLE, LOG, 0, cut);
	case MERGE:
		logged_set_slot(w, WHOLE, LOG, 0, cut);
		logged_set_slot(w, PIECE(0), LOG, cut, 70);
		return logged_set_slot(w, PIECE(1), LOG, cut + 70, NR_PAGES - cut - 70);
	default:
		return logged_set_slot(w, WHOLE, LOG, 0, NR_PAGES);
	}
}

int logged_operate(struct logged *w, enum operation op, uint64_t cut, uint64_t *bitmap)
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

uint32_t logged_slot_after(enum operation op, uint64_t cut, uint64_t page,
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

void logged_unmake_after(struct logged *w, enum operation op)
{
	logged_unset_slot(w, WHOLE);
	if (op == SPLIT) {
		logged_unset_slot(w, PIECE(0));
		logged_unset_slot(w, PIECE(1));
	}
}

void logged_write_some(struct logged *w, uint64_t cut, uint64_t nr, bool *want)
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
		logged_write(w, 0, page);
		want[page] = true;
	}
}

int logged_make_call(void *arg)
{
	struct logged_call *c = arg;

	return logged_operate(c->w, c->op, CUT, c->bitmap);
}

void logged_hold(struct logged *w, const uint64_t *page)
{
	int i;

	for (i = 0; i < 2; i++) {
		char *at = w->mem + page[i] * PAGE_SIZE;

		TEST_ASSERT_EQ(madvise(at, PAGE_SIZE, MADV_DONTNEED), 0);
		TEST_ASSERT(uffd_hold(w->uffd, at, PAGE_SIZE, false),
			    "no userfaultfd of the memory");
		probe_begin(w->p, 1 + i, i ? PROBE_INS : PROBE_WRITE,
			    logged_gpa(page[i]), 0x66);
		uffd_wait_for_fault(w->uffd, at);
	}
}

void logged_release(struct logged *w, const uint64_t *page, struct async *a,
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
	logged_succeeds(async_join(a), op);
	/* A write to the tail cannot end before. */
	for (i = 0; i < 2; i++) {
		result = probe_end(w->p, 1 + i);
		TEST_ASSERT(!result.err && !result.ring_full,
			    "the write to page %lu: error %d", page[i],
			    result.err);
		uffd_release(w->uffd, w->mem + page[i] * PAGE_SIZE, PAGE_SIZE);
	}
}
