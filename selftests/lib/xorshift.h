/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Random numbers for guests and threads, each from a state of its own, which must
 * not be 0.
 */
#ifndef SELFTESTS_XORSHIFT_H
#define SELFTESTS_XORSHIFT_H

#include <stdint.h>

static inline uint64_t xorshift(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	/* The low bits are the least random. */
	return *state >> 16;
}

#endif
