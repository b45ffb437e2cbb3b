// SPDX-License-Identifier: GPL-2.0
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "kvm_util.h"

#include "costs.h"
#include "host.h"
#include "trace.h"

#define PROBES	TRACEFS "events/costs/"
#define PAGES	TRACEFS "events/kmem/mm_page_alloc/"

/* The trigger that counts pages by order, as it was set. */
static char trigger[100];

static bool define(const char *probe)
{
	return !host_write(TRACEFS "kprobe_events", probe);
}

static bool define_probes(void)
{
	static bool defined;

	/* What allocates many pages at once tells only how many; its name has changed. */
	if (!defined)
		defined = define("r:costs/locked _raw_write_lock") &&
			  define("p:costs/unlocks _raw_write_unlock") &&
			  (define("r:costs/bulk alloc_pages_bulk_noprof nr=$retval:u64") ||
			   define("r:costs/bulk __alloc_pages_bulk nr=$retval:u64"));
	return defined;
}

bool costs_start(void)
{
	char filter[64];
	int fd;

	if (!define_probes())
		return false;

	snprintf(filter, sizeof(filter), "common_pid == %d", gettid());
	snprintf(trigger, sizeof(trigger), "hist:keys=order if %s", filter);
	/* It is the opening that empties it. */
	fd = open(TRACEFS "trace", O_WRONLY | O_TRUNC | O_CLOEXEC);
	close(fd);
	return fd >= 0 && !host_write(TRACEFS "trace_clock", "mono") &&
	       !host_write(PROBES "filter", filter) &&
	       !host_write(PAGES "trigger", trigger) &&
	       !host_write(TRACEFS "tracing_on", "1") && !host_write(PROBES "enable", "1");
}

/* In a line of the trace, what comes right before ": NAME:", in nanoseconds; or 0 without that. */
static uint64_t time_of(const char *line, const char *name)
{
	const char *at = strstr(line, name);
	unsigned long s, us;

	while (at && at > line && at[-1] != ' ')
		at--;
	return at && sscanf(at, "%lu.%lu", &s, &us) == 2 ? s * 1000000000 + us * 1000 : 0;
}

static void read_probes(struct costs *costs)
{
	FILE *trace = fopen(TRACEFS "trace", "r");
	uint64_t locked = 0, t;
	char line[512], *nr;

	while (trace && fgets(line, sizeof(line), trace)) {
		t = time_of(line, ": locked:");
		if (t)
			locked = t;
		t = time_of(line, ": unlocks:");
		if (t && locked) {
			costs->longest_hold = max(costs->longest_hold, t - locked);
			locked = 0;
		}
		nr = strstr(line, " nr=");
		if (nr)
			costs->allocated += strtoull(nr + 4, NULL, 10) * getpagesize();
	}
	if (trace)
		fclose(trace);
}

static void read_hist(struct costs *costs)
{
	FILE *hist = fopen(PAGES "hist", "r");
	unsigned long order, hits;
	char line[256];

	while (hist && fgets(line, sizeof(line), hist)) {
		if (sscanf(line, "{ order: %lu } hitcount: %lu", &order, &hits) == 2)
			costs->allocated += hits * (getpagesize() << order);
	}
	if (hist)
		fclose(hist);
}

struct costs costs_end(void)
{
	struct costs costs = { 0 };
	char undo[sizeof(trigger) + 1];

	host_write(PROBES "enable", "0");
	read_probes(&costs);
	read_hist(&costs);
	snprintf(undo, sizeof(undo), "!%s", trigger);
	host_write(PAGES "trigger", undo);
	return costs;
}
