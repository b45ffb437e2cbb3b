/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What a run at random was worth, for who adds up many: any thread may count.
 */
#ifndef SELFTESTS_TALLY_H
#define SELFTESTS_TALLY_H

#include <stdbool.h>
#include <stdint.h>

/* A step was made, and ended as it had to: an operation of the module's, or KVM's own call. */
void tally_operation(bool kvms_own);
/* Something that was promised was looked at, and held, so many times. */
void tally_promises(uint64_t nr);
/* Bytes of guest memory were compared with what they must be. */
void tally_bytes(uint64_t nr);

/* "tally: N operations, N own calls, N promises, N bytes" */
void tally_print(void);

#endif
