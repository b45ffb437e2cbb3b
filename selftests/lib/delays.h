/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A debug build of the module waits after each phase of an operation as long as its
 * parameter delay_ms says.
 */
#ifndef SELFTESTS_DELAYS_H
#define SELFTESTS_DELAYS_H

/* After how many phases it can; 0 where it is not built for that. */
unsigned int delays_nr(void);

/* Milliseconds after one phase, none after the others. */
void delays_set(unsigned int phase, unsigned int ms);

/* None at all, from now on. It is so as well when the test ends. */
void delays_end(void);

#endif
