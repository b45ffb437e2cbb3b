/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Whom a wait for readers waits for. SRCU counts readers in two groups, and a wait is
 * for those of the group that had come when it changed the groups; that is a little later
 * than it begins, when a worker of the kernel's has its turn.
 */
#ifndef SELFTESTS_SRCU_H
#define SELFTESTS_SRCU_H

#include <stdbool.h>

/* To be called before the wait begins; false where the worker cannot be watched. */
bool srcu_watch(void);

/*
 * For as long as a wait for readers that has begun is for one who does not leave: returns
 * when those who come from now on are none of its readers. Ends the watch.
 */
void srcu_wait_for_change(void);

#endif
