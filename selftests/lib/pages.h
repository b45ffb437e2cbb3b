/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The host's memory behind a range of guest memory whose slots come and go. A page
 * that is in a slot says which one it is, has code, and counts each vCPU's writes; one
 * that is in none holds what nobody may touch, or is no memory at all.
 */
#ifndef SELFTESTS_PAGES_H
#define SELFTESTS_PAGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define PAGES_MAX_VCPUS	4

struct page {
	uint64_t stamp;
	uint8_t code[8];			/* mov $number, %eax; ret */
	uint64_t counter[PAGES_MAX_VCPUS];	/* of each vCPU's writes */
};

#define PAGE_STAMP(nr)	(0x5eedUL << 48 | (nr))

struct pages_config {
	char *mem;			/* not touched so far */
	uint64_t gpa;			/* for people */
	uint64_t nr;
	/* Those whose contents the host throws away as it likes: left alone. */
	uint64_t scratch_first, scratch_nr;
	/*
	 * In pages, what memory is given back and mapped again by. Of smaller parts the
	 * host could not make huge pages again.
	 */
	uint64_t granule;
	bool thp, hugetlb;
	int nr_vcpus;
	const uint64_t *counter;	/* what each vCPU wrote to each page: nr for each */
};

void pages_init(const struct pages_config *config);

/* Gives pages their contents back before they come into a slot. */
void pages_give(uint64_t first, uint64_t nr);
/* Takes pages out of use that no vCPU can reach any more. */
void pages_take(uint64_t first, uint64_t nr);

/*
 * What a VMM does with memory that it took from its guest, while anything else
 * goes on.
 */
void pages_noise(uint64_t random);

/* While the vCPUs are paused: every write is there, and none too many. */
void pages_check(void);

/* The dirty log of pages is read. While nobody writes to them. */
void pages_log_forget(uint64_t first, uint64_t nr);
/* What was written since then is in @bitmap, whose first bit is @first's. */
void pages_log_check(uint64_t first, uint64_t nr, const uint64_t *bitmap);

#endif
