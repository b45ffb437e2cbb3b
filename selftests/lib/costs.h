/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the kernel does for the calling thread, as far as tracing tells.
 */
#ifndef SELFTESTS_COSTS_H
#define SELFTESTS_COSTS_H

#include <stdbool.h>
#include <stdint.h>

struct costs {
	/* In nanoseconds, of a lock for readers and writers: mmu_lock is the only such one. */
	uint64_t longest_hold;
	/* In bytes: pages, whatever for. */
	uint64_t allocated;
};

/* False where the kernel has no means for it. */
bool costs_start(void);
struct costs costs_end(void);

#endif
