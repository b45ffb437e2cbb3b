// SPDX-License-Identifier: GPL-2.0
#include <stdatomic.h>

#include "kvm_util.h"
#include "processor.h"

#include "destination.h"
#include "dirty_log.h"
#include "host.h"
#include "tally.h"
#include "writers.h"

static struct destination_config config;
static uint64_t nr_pages, nr_copied;
static char *copy;

/* The memory's words, and then what was being written, and had been. */
static struct {
	uint64_t (*word)[WRITERS_MAX];	/* of each page */
	uint64_t done[WRITERS_MAX];
	uint64_t target[WRITERS_MAX];
} before;

void destination_init(const struct destination_config *new)
{
	config = *new;
	nr_pages = config.layout->nr_pages;
	copy = host_map(nr_pages * PAGE_SIZE, PAGE_SIZE, 0, HOST_PAGES_4K);
	before.word = calloc(nr_pages, sizeof(*before.word));
	TEST_ASSERT(before.word, "no memory");
}

static uint64_t gpa_of(uint64_t page)
{
	return config.gpa + page * PAGE_SIZE;
}

static void lost_write(uint64_t page, const char *when)
{
	const struct model_slot *s = layout_find(config.layout, page);
	const struct written_page *is = (void *)(config.mem + page * PAGE_SIZE);
	const struct written_page *was = (void *)(copy + page * PAGE_SIZE);
	int v;

	ksft_print_msg("%s: page %lu, gpa %#lx, in %s: written since its copy, not logged\n",
		       when, page, gpa_of(page), s ? model_slot_name(s) : "no slot");
	for (v = 0; v < writers_nr(); v++)
		ksft_print_msg("vCPU %d: its word is %#lx (%s), was %#lx; it wrote %#lx last\n",
			       v, is->word[v], writers_how(is->word[v]),
			       was->word[v], writers_done(v));
	for (v = 0; v < writers_nr(); v++)
		ksft_print_msg("vCPU %d: kvmclock is %s, steal time is %s\n", v,
			       memcmp(&is->clock[v], &was->clock[v],
				      sizeof(is->clock[v])) ? "new" : "as it was",
			       memcmp(&is->steal[v], &was->steal[v],
				      sizeof(is->steal[v])) ? "new" : "as it was");
	config.lost();
}

void destination_before_harvest(void)
{
	const struct written_page *page = (void *)config.mem;
	uint64_t i;
	int v;

	for (i = 0; i < nr_pages; i++) {
		for (v = 0; v < writers_nr(); v++)
			before.word[i][v] = READ_ONCE(page[i].word[v]);
	}
	atomic_thread_fence(memory_order_seq_cst);
	for (v = 0; v < writers_nr(); v++) {
		before.done[v] = writers_done(v);
		before.target[v] = writers_target(v);
	}
	atomic_thread_fence(memory_order_seq_cst);
}

/*
 * A vCPU in the middle of a write may have mapped the page, and not yet have
 * logged it; then KVM logs no other's write there till it goes on. The page will
 * be in the next log.
 */
static bool other_is_at(uint64_t page, int vcpu)
{
	int v;

	for (v = 0; v < writers_nr(); v++) {
		if (v != vcpu && before.target[v] == page)
			return true;
	}
	return false;
}

void destination_after_harvest(void)
{
	const struct written_page *was = (void *)copy;
	uint64_t i, word;
	int v;

	for (i = 0; dirty_log_is_on() && i < nr_pages; i++) {
		if (dirty_log_named(i))
			continue;
		for (v = 0; v < writers_nr(); v++) {
			word = before.word[i][v];
			if (word != was[i].word[v] && word <= before.done[v] &&
			    !other_is_at(i, v))
				lost_write(i, "while vCPUs run");
		}
		tally_promises(1);
	}
}

void destination_check_still(uint64_t first, uint64_t nr, const char *when)
{
	uint64_t i;

	for (i = first; dirty_log_is_on() && i < first + nr; i++) {
		if (!dirty_log_named(i) && memcmp(config.mem + i * PAGE_SIZE,
						  copy + i * PAGE_SIZE, PAGE_SIZE))
			lost_write(i, when);
		tally_promises(1);
		tally_bytes(PAGE_SIZE);
	}
}

void destination_copy(void)
{
	uint64_t i;

	for (i = 0; i < nr_pages; i++) {
		if (!dirty_log_take(i))
			continue;
		memcpy(copy + i * PAGE_SIZE, config.mem + i * PAGE_SIZE, PAGE_SIZE);
		nr_copied++;
	}
}

void destination_check_all(void)
{
	TEST_ASSERT(!memcmp(config.mem, copy, nr_pages * PAGE_SIZE),
		    "the destination's memory is another");
	tally_bytes(nr_pages * PAGE_SIZE);
}

uint64_t destination_nr_copied(void)
{
	return nr_copied;
}
