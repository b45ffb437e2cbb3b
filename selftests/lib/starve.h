/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Allocations of the kernel's that fail, on an instrumented kernel, through
 * /proc/thread-self/fail-nth.
 */
#ifndef SELFTESTS_STARVE_H
#define SELFTESTS_STARVE_H

#include <stdbool.h>

/* Whether the kernel can; keeps it from writing each failure to its log. */
bool starve_is_possible(void);

/* For this thread: opening allocates, so it comes before anything is to fail. */
int starve_open(void);
/* Of the allocations that this thread makes from now on, the @nth fails. */
void starve(int fd, int nth);
/* Whether it was reached; none fails any more. Leaves errno alone. */
bool starve_end(int fd);

#endif
