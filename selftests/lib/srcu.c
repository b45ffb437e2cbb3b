// SPDX-License-Identifier: GPL-2.0
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kvm_util.h"

#include "host.h"
#include "srcu.h"
#include "trace.h"

/* The worker has had its turn. */
#define EVENT	"kvm_memslot_ops_srcu"
#define ENABLE	TRACEFS "events/kprobes/" EVENT "/enable"

bool srcu_watch(void)
{
	/* It may be there from the last time. */
	return !host_write(ENABLE, "1") ||
	       (!host_write(TRACEFS "kprobe_events", "r:" EVENT " process_srcu") &&
		!host_write(ENABLE, "1"));
}

static uint64_t nr_turns(void)
{
	char all[4096], *at;

	TEST_ASSERT(!host_read(TRACEFS "kprobe_profile", all, sizeof(all)),
		    "cannot read how often probes are hit");
	at = strstr(all, EVENT);
	TEST_ASSERT(at, "nobody watches");
	return strtoull(at + strlen(EVENT), NULL, 10);
}

static bool had_turns(void *arg)
{
	return nr_turns() >= *(uint64_t *)arg;
}

void srcu_wait_for_change(void)
{
	/* One that had begun already, and one that did not miss the wait. */
	uint64_t until = nr_turns() + 2;

	TEST_ASSERT(host_wait(had_turns, &until), "nobody looks for readers");
	host_write(ENABLE, "0");
}
