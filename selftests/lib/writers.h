/* SPDX-License-Identifier: GPL-2.0 */
/*
 * vCPUs that write to random pages without pause, in all the ways in which guest
 * memory comes to be written: by plain and by emulated instructions, by string I/O,
 * and by KVM itself. What a vCPU writes is a number that only grows, at a place
 * where nobody else writes: so it can be told what of it was over at some time.
 */
#ifndef SELFTESTS_WRITERS_H
#define SELFTESTS_WRITERS_H

#include "kvm_util.h"
#include "processor.h"

#define WRITERS_MAX	4

/* What they make of a page. */
struct written_page {
	uint64_t word[WRITERS_MAX];	/* of each vCPU's writes */
	uint64_t pad[252];
	struct {
		uint64_t place[8];
	} clock[WRITERS_MAX], steal[WRITERS_MAX];
} __aligned(PAGE_SIZE);

struct writers_config {
	struct kvm_vm *vm;		/* of notes_vm_create() */
	uint64_t gpa, nr_pages;		/* what they write to */
	/*
	 * With dirty rings: one is full. Harvests and resets them; false if that is
	 * under way, so that nothing may wait for writes.
	 */
	bool (*harvest)(void);
};

/* Maps the pages for the guest; slots may come later. */
void writers_init(const struct writers_config *config);
/* One more vCPU; they are counted from 0. */
struct kvm_vcpu *writers_add(void);
/* How many there are. */
int writers_nr(void);

/* All of them, by the host's next random number. */
void writers_start(void);
/* For good: their threads are gone. */
void writers_stop(void);
/* No vCPU is in KVM after this. */
void writers_pause(void);
/* After that. */
void writers_resume(void);
/* Those whose rings were full can go on. */
void writers_rings_reset(void);
/* Until there are so many more writes; any of the vCPUs may sleep. */
void writers_wait(uint64_t nr_more);

/* Half of all writes go to 40 pages with this one in the middle from now on. */
void writers_crowd_around(uint64_t page);
/* Where the first of these is to be found, for sleeper_start(). */
const uint64_t *writers_crowd(void);

/* The last word that a vCPU has written, or tried to: all lower ones were before. */
uint64_t writers_done(int id);
/* The page that it is writing to, or none that there is. */
uint64_t writers_target(int id);
/* In which way a word was written, for people. */
const char *writers_how(uint64_t word);

struct writers_numbers {
	uint64_t writes;
	char ways[256];			/* how many in each way, as ", NAME N, NAME N" */
	uint64_t refused;		/* of these: KVM has no such MSR */
	uint64_t exits;			/* accesses that went to no memory */
	uint64_t fulls;			/* how often a ring was full */
};

/* What they have done so far. */
void writers_count(struct writers_numbers *n);

#endif
