/* SPDX-License-Identifier: GPL-2.0 */
/*
 * In which functions of the kernel the calling thread spends its time.
 */
#ifndef SELFTESTS_PROFILE_H
#define SELFTESTS_PROFILE_H

#include <stdbool.h>

/* False where the kernel has no means for it. */
bool profile_start(void);

/*
 * Prints the functions that most of it was spent in, those that they call included, and how
 * often they were called. Being looked at takes time, too: a share says more than a number.
 */
void profile_end(const char *title);

#endif
