/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Writes that sleep inside KVM until an operation has begun: each keeps the slot
 * that it looked up across a swap. At random, in a thread of its own.
 */
#ifndef SELFTESTS_SLEEPER_H
#define SELFTESTS_SLEEPER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Of the pages of @mem, half of those of the 40 from page *@hot on. False where it cannot
 * be had. Takes of the random numbers what it needs, whether or not it is @wanted.
 */
bool sleeper_start(char *mem, uint64_t nr_pages, const uint64_t *hot, bool wanted);
/* An operation begins. */
void sleeper_wake(void);
/* How many slept. */
uint64_t sleeper_nr(void);
void sleeper_stop(void);

#endif
