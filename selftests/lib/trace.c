// SPDX-License-Identifier: GPL-2.0
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kvm_util.h"

#include "host.h"
#include "trace.h"

#define EVENTS	TRACEFS "events/kvm_memslot_ops/enable"

/* It is the opening that empties it; what is written there is ignored. */
static bool trace_empty(void)
{
	int fd = open(TRACEFS "trace", O_WRONLY | O_TRUNC | O_CLOEXEC);

	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

bool trace_start(void)
{
	return trace_empty() &&
	       !host_write(TRACEFS "tracing_on", "1") &&
	       !host_write(EVENTS, "1");
}

void trace_stop(void)
{
	host_write(EVENTS, "0");
}

char *trace_read(void)
{
	const size_t size = 1 << 20;
	char *all = calloc(1, size), *ours = calloc(1, size), *line, *rest, vm[32];
	FILE *file = fopen(TRACEFS "trace", "r");

	TEST_ASSERT(file && all && ours, "cannot read the trace");
	TEST_ASSERT(fread(all, 1, size - 1, file) < size - 1,
		    "the trace is too long");
	fclose(file);

	snprintf(vm, sizeof(vm), ": vm %d ", getpid());
	for (rest = all; (line = strsep(&rest, "\n"));) {
		if (line[0] == '#' || !strstr(line, vm))
			continue;
		strcat(ours, line);
		strcat(ours, "\n");
	}
	free(all);
	return ours;
}

int trace_count(const char *event)
{
	char *trace = trace_read(), *at = trace, name[64];
	int count = 0;

	snprintf(name, sizeof(name), " %s: ", event);
	while ((at = strstr(at, name))) {
		count++;
		at++;
	}
	free(trace);
	return count;
}
