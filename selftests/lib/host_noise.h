/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Everything that a host does to the memory of its processes, at random, in
 * threads of its own.
 */
#ifndef SELFTESTS_HOST_NOISE_H
#define SELFTESTS_HOST_NOISE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct noise_config {
	char *mem;			/* what is disturbed; contents are kept */
	size_t size;
	char *scratch;			/* contents are lost now and then */
	size_t scratch_size;
	size_t granule;			/* bytes that can be told apart */
	bool thp;			/* advise huge pages, and against them */
	bool hugetlb;			/* leave out what these cannot do */
	uint64_t seed;
	/* One more kind of noise, or NULL; @random is for it to choose by. */
	void (*own)(uint64_t random);
};

void noise_start(const struct noise_config *config);
void noise_stop(void);
/* Prints what was done how often. */
void noise_print(void);

#endif
