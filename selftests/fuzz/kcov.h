/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What a thread executes of code that the kernel was told to instrument, counted
 * where libFuzzer looks for it.
 */
#ifndef FUZZ_KCOV_H
#define FUZZ_KCOV_H

#include <stdbool.h>

/* False where the kernel has no KCOV: there it is what has been noted that counts. */
bool kcov_open(void);
/* Of the calling thread, from here to there. */
void kcov_begin(void);
void kcov_end(void);
/* In between: which call it was, and how it ended. */
void kcov_note(unsigned int what);

#endif
