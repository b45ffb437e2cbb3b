/* SPDX-License-Identifier: GPL-2.0 */
/*
 * An MMU notifier of this process's that is under way for as long as a test likes, by
 * modules/slow_notifier.c.
 */
#ifndef SELFTESTS_SLOW_NOTIFIER_H
#define SELFTESTS_SLOW_NOTIFIER_H

#include "../modules/slow_notifier.h"

#include "async.h"

struct slow_notifier {
	/* Whose notifier it is. Written to once, a page keeps what it holds. */
	void *mem;
	size_t size;
	int file, dev;
	struct async hole;
};

/* Whether the host has the module. */
bool slow_notifier_possible(void);

void slow_notifier_init(struct slow_notifier *s, size_t size);
/* Leaves the memory to whoever it was made for. */
void slow_notifier_close(struct slow_notifier *s);

/*
 * From the return of the first to that of the second, all VMs that are there already have
 * been told that the memory changes, and not that it is over. The process may fault and
 * map meanwhile.
 */
void slow_notifier_begin(struct slow_notifier *s);
void slow_notifier_end(struct slow_notifier *s);

#endif
