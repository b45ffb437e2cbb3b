/* SPDX-License-Identifier: GPL-2.0 */
/*
 * vCPUs that read, write and execute pages without pause, count what they do,
 * and notice when a page is not what it should be.
 *
 * The pages are numbered from the start of a range of guest-physical memory
 * which one host mapping backs; which of it is in a slot is the test's business.
 * Each page holds its number, a function that returns the number, and one
 * counter for each vCPU, which nobody else writes. A vCPU keeps a copy of its
 * counters elsewhere, so that a lost write shows.
 */
#ifndef SELFTESTS_HAMMER_H
#define SELFTESTS_HAMMER_H

#include "host.h"
#include "memslot_ops.h"

#define HAMMER_MAX_VCPUS	4

/* The slot with the vCPUs' own notes. Tests start theirs at HAMMER_SLOT. */
#define HAMMER_NOTES_SLOT	1
#define HAMMER_SLOT		2

#define HAMMER_GPA		(4 * GIGA_SIZE)

#define HAMMER_READ		1
#define HAMMER_WRITE		2
#define HAMMER_EXEC		4
#define HAMMER_ALL		7

struct hammer_config {
	int nr_vcpus;
	uint64_t max_size;		/* of the range, in bytes */
	uint64_t gpa;			/* of the range; 0: HAMMER_GPA */
	size_t hva_offset;		/* from a boundary as large as fits */
	enum host_pages host_pages;
	bool guest_4k;			/* guest page tables of 4 KiB pages */
	bool sparse;			/* only hammer_populate() fills pages */
	void *mem;			/* to use instead of a mapping of its own */
};

/* What a vCPU should never be sent to user space for. */
struct hammer_exits {
	uint64_t mmio;
	uint64_t internal_error;	/* the end of an ordinary VMM's guest */
	uint64_t run_error;		/* KVM_RUN itself failed */
};

struct hammer;

/* Makes the VM and its vCPUs, but no slot for the range. */
struct hammer *hammer_create(const struct hammer_config *config);
/* Stops the vCPUs and frees everything. */
void hammer_free(struct hammer *h);

struct kvm_vm *hammer_vm(struct hammer *h);
uint64_t hammer_gpa(struct hammer *h);
void *hammer_hva(struct hammer *h);

/* Sets up the range's first @size bytes as slot HAMMER_SLOT. */
void hammer_slot(struct hammer *h, uint64_t size);
/* The old way to another size. */
void hammer_delete_and_create(struct hammer *h, uint64_t size);

/* Writes the contents of pages which a sparse range starts without. */
void hammer_populate(struct hammer *h, uint64_t first, uint64_t nr);

/*
 * Orders to the vCPUs. Each takes effect before it returns: a sweep is over, a
 * run has begun.
 */
void hammer_pause(struct hammer *h);
/* Every vCPU touches each of @nr pages from @first on, in the ways of @how. */
void hammer_sweep(struct hammer *h, uint64_t first, uint64_t nr, int how);
/* The vCPUs touch the first @nr pages at random until the next order. */
void hammer_run(struct hammer *h, uint64_t nr);
/* Raises @nr without as much as a pause. */
void hammer_extend(struct hammer *h, uint64_t nr);
/* Until each vCPU has touched @times more pages, when running. */
void hammer_wait(struct hammer *h, uint64_t times);
/*
 * Leaves the vCPUs running over the first @nr pages, all of which are mapped
 * for them: nothing that they do from here on costs a page fault.
 */
void hammer_settle(struct hammer *h, uint64_t nr);

uint64_t hammer_touches(struct hammer *h);
/* Page faults that KVM took for the vCPUs. */
uint64_t hammer_faults(struct hammer *h);
struct hammer_exits hammer_exits(struct hammer *h);
uint64_t hammer_bad_exits(struct hammer *h);
/* The longest time between two touches since the last call, in microseconds. */
uint64_t hammer_longest_gap(struct hammer *h);

/* How many huge mappings of 2 MiB the vCPUs use. */
uint64_t hammer_huge_mappings(struct hammer *h);
/*
 * How many huge frames, alike in guest and host, are wholly between two pages: no
 * more can be mapped so.
 */
uint64_t hammer_whole_frames(struct hammer *h, uint64_t first, uint64_t end);

/* Fails the test if a vCPU found a page wrong or a write is missing. */
void hammer_verify(struct hammer *h);
/* Fails the test, saying what happened, if a vCPU had a bad exit. */
void hammer_assert_no_bad_exits(struct hammer *h);

#endif
