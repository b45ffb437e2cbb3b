/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A VM whose slots log what is written to them, by a bitmap or in rings, and the
 * operations that change these slots at a page of the test's choice.
 */
#ifndef SELFTESTS_LOGGED_H
#define SELFTESTS_LOGGED_H

#include "async.h"
#include "dirty_ring.h"
#include "memslot_ops.h"
#include "ops.h"
#include "probe.h"

#define LOG		KVM_MEM_LOG_DIRTY_PAGES

/* Some words of a bitmap, and not a whole number of them. More than fill a ring. */
#define NR_PAGES	(8 * 64 + 37)
#define RANGE		(NR_PAGES * PAGE_SIZE)
#define BITMAP_WORDS	DIV_ROUND_UP(NR_PAGES, 64)
#define BITMAP_SIZE	(BITMAP_WORDS * sizeof(uint64_t))

/* The number of the slot, and of those that are made of it. */
#define WHOLE		PROBE_SLOT
#define PIECE(i)	(PROBE_SLOT + 10 + (i))

/* Where what is about something else cuts, and what is beyond. */
#define CUT		101
#define TAIL		(NR_PAGES - CUT)

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

extern const char * const op_name[NR_OPS];

struct logged {
	struct probe *p;
	struct kvm_vm *vm;
	char *mem;
	int dev, uffd;
	enum mode mode;
	uint64_t serial;
	/* Of the rings, what was harvested ever, and not yet reset. */
	uint32_t index[3], nr_unreset;
};

/* Three vCPUs and the memory, but no slot of it; @ring_size in bytes, or 0. */
void logged_make(struct logged *w, uint32_t ring_size, enum mode mode);
void logged_free(struct logged *w);

uint64_t logged_gpa(uint64_t page);

/* By KVM's own call, of pages [@first, @first + @nr); it must succeed. */
void logged_set_slot(struct logged *w, uint32_t slot, uint32_t flags, uint64_t first,
		     uint64_t nr);
void logged_unset_slot(struct logged *w, uint32_t slot);

/* A write of a number that there was not yet, which must land. */
void logged_write(struct logged *w, int vcpu, uint64_t page);
/* Writes of vCPU 0 beside every boundary, and some others: @want says to which of @nr pages. */
void logged_write_some(struct logged *w, uint64_t cut, uint64_t nr, bool *want);

/* How many pages there are before the operation. */
uint64_t logged_nr_before(enum operation op, uint64_t cut);
/* The slots that the operation is to be done to, at page @cut. */
void logged_make_before(struct logged *w, enum operation op, uint64_t cut);
/* Does it. @bitmap is SHRINK's buffer, or NULL. Returns 0 or a positive errno. */
int logged_operate(struct logged *w, enum operation op, uint64_t cut, uint64_t *bitmap);
/* Fails the test if @err is not 0. */
void logged_succeeds(int err, enum operation op);
/* The name that a page has after the operation; what SHRINK removed has none. */
uint32_t logged_slot_after(enum operation op, uint64_t cut, uint64_t page,
			   uint64_t *offset);
/* Deletes what there is after it. */
void logged_unmake_after(struct logged *w, enum operation op);

/* An operation at CUT as a call for async_start(). */
struct logged_call {
	struct logged *w;
	enum operation op;
	void *bitmap;
};

int logged_make_call(void *call);

/*
 * While an operation waits, vCPU 1 sleeps in a page fault at @page[0], and vCPU 2 in an
 * emulated write to @page[1], both with the old slot at hand.
 */
void logged_hold(struct logged *w, const uint64_t *page);
/* Lets them go on, and the operation with them, which must not have ended before. */
void logged_release(struct logged *w, const uint64_t *page, struct async *a,
		    enum operation op);
/* Such pages: whose name stays in all operations, and whose does not. */
extern const uint64_t logged_held_page[2], logged_held_tail[2];

#endif
