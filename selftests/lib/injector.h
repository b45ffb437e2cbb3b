/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Operations in the VMs of a test that knows nothing of them: see injector.c.
 */
#ifndef SELFTESTS_INJECTOR_H
#define SELFTESTS_INJECTOR_H

#include <stdint.h>
#include <unistd.h>

/* For all VMs that this process creates from now on. */
void injector_start(void);
/* The end of it. Prints what was done, and returns how many operations that were. */
uint64_t injector_stop(void);

/* What the test calls as usleep(). */
int injector_usleep(useconds_t usec);

#endif
