/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The host that the test runs on: random numbers, settings, memory.
 */
#ifndef SELFTESTS_HOST_H
#define SELFTESTS_HOST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#define HUGE_SIZE	(1UL << 21)
#define HUGE_PAGES	(HUGE_SIZE / PAGE_SIZE)
#define GIGA_SIZE	(1UL << 30)

/*
 * Seeds the generator and prints the seed. SEED=<number> in the environment
 * repeats a run.
 */
void host_seed(void);
uint64_t host_random(void);
/* Between @low and @high, both included. */
uint64_t host_random_between(uint64_t low, uint64_t high);
/* True once in @n times, at random. */
bool host_one_in(unsigned int n);
/* Chooses SEED, if it is not given, so that it can be named again. */
void host_choose_seed(void);

/* Both return 0 or an errno. */
int host_write(const char *path, const char *value);
int host_read(const char *path, char *buf, size_t size);
/* The same as host_write(), but host_restore() brings back what there was. */
int host_set(const char *path, const char *value);
void host_restore(void);

/* KVM splits huge mappings before it logs; it emulates what begins with KVM_FEP. */
#define HOST_EAGER_SPLIT	"/sys/module/kvm/parameters/eager_page_split"
#define HOST_FEP		"/sys/module/kvm/parameters/force_emulation_prefix"

/* Whether its kernel is older than this release. */
bool host_is_before(int major, int minor);

double host_seconds_since(const struct timespec *start);

/* Whether CPUs log writes, of which KVM learns later. */
bool host_has_pml(void);

/*
 * Keeps the host from moving or merging pages on its own account: each such
 * move costs page faults which tests that count them would blame on others.
 */
void host_quiet(void);

enum host_pages {
	HOST_PAGES_4K,
	HOST_PAGES_THP,
};

/* What this process has locked, in pages. */
unsigned long host_locked_pages(void);

/*
 * Anonymous memory, not yet populated, that starts @offset bytes after a
 * multiple of @align.
 */
void *host_map(size_t size, size_t align, size_t offset, enum host_pages pages);

/*
 * The kernel's log from now on, or -1.  What the kernel warns of once counts from here.
 */
int host_log_open(void);
/* Fails the test if the kernel warned of anything since that, or the last such call. */
void host_log_assert_no_warning(int log);
/* Prints what is new in it, and counts the lines that begin like that and have the rest in them. */
int host_log_count(int log, const char *begin, const char *with, const char *also);

/*
 * Fails the test if KVM has a shadow page or an entry of an rmap left. No VM may be there;
 * each cache of the kernel's must be one by itself (slab_nomerge).
 */
void host_assert_no_shadow_pages(void);

/*
 * Waits until @done returns true, for as long as a hung machine would be
 * told from a slow one, or for some seconds; false if it never did.
 */
bool host_wait(bool (*done)(void *arg), void *arg);
bool host_wait_seconds(int seconds, bool (*done)(void *arg), void *arg);

#endif
