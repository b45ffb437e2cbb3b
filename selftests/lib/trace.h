/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The module's trace events, read from tracefs.
 */
#ifndef SELFTESTS_TRACE_H
#define SELFTESTS_TRACE_H

#include <stdbool.h>
#include <stddef.h>

/* Where tracefs is. */
#define TRACEFS	"/sys/kernel/tracing/"

/* Empties the trace and turns the module's events on; false without tracefs. */
bool trace_start(void);
void trace_stop(void);

/*
 * The events since trace_start(), one a line, oldest first. Lines of other
 * processes' VMs are left out. To be freed.
 */
char *trace_read(void);

/* How many of them are of this name. */
int trace_count(const char *event);

#endif
