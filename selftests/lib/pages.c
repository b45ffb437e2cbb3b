// SPDX-License-Identifier: GPL-2.0
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include "kvm_util.h"
#include "processor.h"

#include "pages.h"
#include "tally.h"

#define CANARY		(0xdeadUL << 48)

static struct pages_config config;

/* What a page is for the host. */
enum page_state {
	PAGE_LIVE,		/* in a slot, as the guest left it */
	PAGE_CANARY,		/* in none: holds what nobody may touch */
	PAGE_ZERO,		/* the same, with zeros */
	PAGE_VOID,		/* in none, and has no memory */
	PAGE_BUSY,		/* pages_noise() is at it */
};

static pthread_mutex_t pages_lock = PTHREAD_MUTEX_INITIALIZER;
static enum page_state *page_state;
/* The counters of pages that are not live. */
static uint64_t (*saved)[PAGES_MAX_VCPUS];
/* What the guest had written to a page when its log was last read. */
static uint64_t *logged;

static bool is_scratch(uint64_t page)
{
	return page - config.scratch_first < config.scratch_nr;
}

static uint64_t gpa_of_page(uint64_t page)
{
	return config.gpa + page * PAGE_SIZE;
}

static struct page *page_at(uint64_t nr)
{
	return (void *)(config.mem + nr * PAGE_SIZE);
}

void pages_init(const struct pages_config *new)
{
	uint64_t i;

	config = *new;
	page_state = calloc(config.nr, sizeof(*page_state));
	saved = calloc(config.nr, sizeof(*saved));
	logged = calloc(config.nr, sizeof(*logged));
	TEST_ASSERT(page_state && saved && logged, "no memory");
	for (i = 0; i < config.nr; i++)
		page_state[i] = is_scratch(i) ? PAGE_LIVE : PAGE_ZERO;
}

static struct page canary_of(uint64_t nr)
{
	struct page page;
	uint64_t *words = (void *)&page;
	unsigned int i;

	for (i = 0; i < sizeof(page) / sizeof(*words); i++)
		words[i] = CANARY | (uint64_t)i << 32 | nr;
	return page;
}

static void fill_page(uint64_t nr)
{
	struct page *page = page_at(nr);
	uint32_t number = nr;

	page->stamp = PAGE_STAMP(nr);
	memcpy(page->counter, saved[nr], sizeof(page->counter));
	page->code[0] = 0xb8;
	memcpy(&page->code[1], &number, sizeof(number));
	page->code[5] = 0xc3;
}

/* A page that is in no slot is as the host left it. */
static void check_untouched(uint64_t nr, enum page_state state)
{
	static const struct page zeros;
	struct page want = canary_of(nr);
	uint64_t *word = (void *)page_at(nr);

	if (state == PAGE_ZERO) {
		want = zeros;
		/* To read first would fault twice, and flush TLBs in between. */
		__atomic_fetch_or(word, 0, __ATOMIC_SEQ_CST);
	}
	if (state == PAGE_CANARY || state == PAGE_ZERO)
		TEST_ASSERT(!memcmp(word, &want, sizeof(want)),
			    "page %lu, gpa %#lx, is in no slot, and was written to: the host wrote %#lx..., and finds %#lx %#lx %#lx %#lx %#lx %#lx",
			    nr, gpa_of_page(nr), want.stamp,
			    word[0], word[1], word[2], word[3], word[4], word[5]);
}

static void map_memory(uint64_t first, uint64_t nr, int prot, int flags)
{
	char *at = config.mem + first * PAGE_SIZE;
	char *map;

	flags |= MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED;
	map = mmap(at, nr * PAGE_SIZE, prot, flags, -1, 0);
	TEST_ASSERT(map == at, "cannot map pages [%lu, %lu): %s", first,
		    first + nr, strerror(errno));
}

/* In place of munmap(), lest other memory come there. */
static void make_void(uint64_t first, uint64_t nr)
{
	map_memory(first, nr, PROT_NONE, 0);
}

static void make_zero(uint64_t first, uint64_t nr)
{
	map_memory(first, nr, PROT_READ | PROT_WRITE,
		   config.hugetlb ? MAP_HUGETLB : 0);
	if (!config.hugetlb)
		madvise(config.mem + first * PAGE_SIZE, nr * PAGE_SIZE,
			config.thp ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
}

static uint64_t run_of(uint64_t first, uint64_t end)
{
	uint64_t nr = first;

	while (nr < end && page_state[nr] == page_state[first] &&
	       !is_scratch(nr))
		nr++;
	return nr - first;
}

void pages_take(uint64_t first, uint64_t nr)
{
	struct page canary;
	uint64_t i;

	pthread_mutex_lock(&pages_lock);
	for (i = first; i < first + nr; i++) {
		if (is_scratch(i))
			continue;
		canary = canary_of(i);
		memcpy(saved[i], page_at(i)->counter, sizeof(saved[i]));
		memcpy(page_at(i), &canary, sizeof(canary));
		page_state[i] = PAGE_CANARY;
	}
	pthread_mutex_unlock(&pages_lock);
}

static bool any_busy(uint64_t first, uint64_t nr)
{
	uint64_t i;

	for (i = first; i < first + nr; i++) {
		if (page_state[i] == PAGE_BUSY)
			return true;
	}
	return false;
}

/* Waits until the noise has no page of the range, and takes the lock. */
static void pages_lock_range(uint64_t first, uint64_t nr)
{
	pthread_mutex_lock(&pages_lock);
	while (any_busy(first, nr)) {
		pthread_mutex_unlock(&pages_lock);
		usleep(100);
		pthread_mutex_lock(&pages_lock);
	}
}

/* Voids get memory again; of huge pages, whole ones. */
static void fill_voids(uint64_t first, uint64_t end)
{
	uint64_t i = first, nr;

	while (i < end) {
		if (page_state[i] != PAGE_VOID) {
			i++;
			continue;
		}
		nr = run_of(i, end);
		make_zero(i, nr);
		for (; nr; nr--)
			page_state[i++] = PAGE_ZERO;
	}
}

void pages_give(uint64_t first, uint64_t nr)
{
	uint64_t start = align_down(first, config.granule);
	uint64_t end = align_up(first + nr, config.granule), i;

	pages_lock_range(start, end - start);
	fill_voids(start, end);
	for (i = first; i < first + nr; i++) {
		if (is_scratch(i))
			continue;
		check_untouched(i, page_state[i]);
		fill_page(i);
		page_state[i] = PAGE_LIVE;
	}
	pthread_mutex_unlock(&pages_lock);
}

void pages_noise(uint64_t random)
{
	uint64_t first = align_down(random % config.nr, config.granule), nr, i;
	enum page_state before, after;

	pthread_mutex_lock(&pages_lock);
	before = page_state[first];
	nr = run_of(first, min(first + 1 + (random >> 32) % 2048,
			       config.nr));
	nr = align_down(nr, config.granule);
	if (!nr || before == PAGE_LIVE) {
		pthread_mutex_unlock(&pages_lock);
		return;
	}
	for (i = first; i < first + nr; i++)
		page_state[i] = PAGE_BUSY;
	pthread_mutex_unlock(&pages_lock);

	for (i = first; i < first + nr; i++)
		check_untouched(i, before);
	after = before;
	if (before == PAGE_VOID) {
		make_zero(first, nr);
		after = PAGE_ZERO;
	} else if (random >> 60 & 1) {
		make_void(first, nr);
		after = PAGE_VOID;
	} else if (random >> 61 & 1) {
		madvise(config.mem + first * PAGE_SIZE, nr * PAGE_SIZE, MADV_DONTNEED);
		after = PAGE_ZERO;
	}

	pthread_mutex_lock(&pages_lock);
	for (i = first; i < first + nr; i++)
		page_state[i] = after;
	pthread_mutex_unlock(&pages_lock);
}

static void check_live(uint64_t nr)
{
	struct page *page = page_at(nr);

	TEST_ASSERT(page->stamp == PAGE_STAMP(nr),
		    "page %lu, gpa %#lx: its stamp is %#lx", nr,
		    gpa_of_page(nr), page->stamp);
}

void pages_check(void)
{
	uint64_t nr, want, *got;
	int i;

	pages_lock_range(0, config.nr);
	for (nr = 0; nr < config.nr; nr++) {
		if (is_scratch(nr))
			continue;
		if (page_state[nr] == PAGE_LIVE)
			check_live(nr);
		else
			check_untouched(nr, page_state[nr]);
		got = page_state[nr] == PAGE_LIVE ? page_at(nr)->counter :
						    saved[nr];
		for (i = 0; i < config.nr_vcpus; i++) {
			want = config.counter[i * config.nr + nr];
			TEST_ASSERT(got[i] == want,
				    "page %lu, gpa %#lx: vCPU %d wrote %lu, its memory %s %lu",
				    nr, gpa_of_page(nr), i, want,
				    page_state[nr] == PAGE_LIVE ? "holds" : "held",
				    got[i]);
		}
		tally_bytes(sizeof(struct page));
	}
	pthread_mutex_unlock(&pages_lock);
}

/* --------------------------------------------------------- the dirty log */

static uint64_t nr_writes(uint64_t page)
{
	uint64_t *counter = page_state[page] == PAGE_LIVE ?
			    page_at(page)->counter : saved[page];
	uint64_t sum = 0;
	int i;

	for (i = 0; i < config.nr_vcpus; i++)
		sum += counter[i];
	return sum;
}

void pages_log_forget(uint64_t first, uint64_t nr)
{
	uint64_t i;

	for (i = first; i < first + nr; i++)
		logged[i] = nr_writes(i);
}

void pages_log_check(uint64_t first, uint64_t nr, const uint64_t *bitmap)
{
	uint64_t i, now;

	for (i = first; i < first + nr; i++) {
		if (is_scratch(i) || test_bit(i - first, (void *)bitmap))
			continue;
		now = nr_writes(i);
		tally_promises(1);
		TEST_ASSERT(now == logged[i],
			    "page %lu, gpa %#lx, was written to %lu times since its dirty log was read, and is not in the log",
			    i, gpa_of_page(i), now - logged[i]);
	}
}
