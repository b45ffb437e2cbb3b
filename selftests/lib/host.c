// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "kvm_util.h"
#include "processor.h"

#include "host.h"
#include "xorshift.h"

static uint64_t state;

void host_seed(void)
{
	const char *given = getenv("SEED");

	if (given)
		state = strtoull(given, NULL, 0);
	else if (getrandom(&state, sizeof(state), GRND_NONBLOCK) != sizeof(state))
		state = rdtsc();
	state |= 1;
	ksft_print_msg("SEED=%#lx\n", state);
}

void host_choose_seed(void)
{
	char seed[32];
	uint64_t random;

	if (getrandom(&random, sizeof(random), GRND_NONBLOCK) != sizeof(random))
		random = rdtsc();
	snprintf(seed, sizeof(seed), "%#lx", random | 1);
	setenv("SEED", seed, 0);
}

uint64_t host_random(void)
{
	return xorshift(&state);
}

uint64_t host_random_between(uint64_t low, uint64_t high)
{
	return low + host_random() % (high - low + 1);
}

bool host_one_in(unsigned int n)
{
	return !(host_random() % n);
}

int host_write(const char *path, const char *value)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	int ret = 0;

	if (fd < 0)
		return errno;
	if (write(fd, value, strlen(value)) < 0)
		ret = errno;
	close(fd);
	return ret;
}

int host_read(const char *path, char *buf, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t got;
	int ret;

	if (fd < 0)
		return errno;
	got = read(fd, buf, size - 1);
	ret = got < 0 ? errno : 0;
	buf[got < 0 ? 0 : got] = 0;
	close(fd);
	return ret;
}

static struct {
	const char *path;
	char value[32];
} changed[4];
static unsigned int nr_changed;

int host_set(const char *path, const char *value)
{
	int err;

	TEST_ASSERT(nr_changed < ARRAY_SIZE(changed), "too much to restore");
	err = host_read(path, changed[nr_changed].value,
			sizeof(changed[nr_changed].value));
	if (err)
		return err;
	changed[nr_changed++].path = path;
	return host_write(path, value);
}

void host_restore(void)
{
	for (; nr_changed; nr_changed--)
		host_write(changed[nr_changed - 1].path, changed[nr_changed - 1].value);
}

bool host_is_before(int major, int minor)
{
	struct utsname host;
	int its_major, its_minor;

	TEST_ASSERT(!uname(&host) &&
		    sscanf(host.release, "%d.%d", &its_major, &its_minor) == 2,
		    "which release is this?");
	return its_major < major || (its_major == major && its_minor < minor);
}

double host_seconds_since(const struct timespec *start)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec - start->tv_sec +
	       (now.tv_nsec - start->tv_nsec) / 1e9;
}

bool host_has_pml(void)
{
	char buf[8];

	return !host_read("/sys/module/kvm_intel/parameters/pml", buf,
			  sizeof(buf)) && buf[0] == 'Y';
}

void host_quiet(void)
{
	/* What is not there does not disturb. */
	host_write("/proc/sys/vm/compaction_proactiveness", "0");
	host_write("/proc/sys/kernel/numa_balancing", "0");
	host_write("/sys/kernel/mm/ksm/run", "0");
	/* Every ten seconds it would make what is no huge page one. */
	host_write("/sys/kernel/mm/transparent_hugepage/khugepaged/scan_sleep_millisecs",
		   "3600000");
}

unsigned long host_locked_pages(void)
{
	char buf[4096], *line;

	TEST_ASSERT(!host_read("/proc/self/status", buf, sizeof(buf)),
		    "cannot read the process's status");
	line = strstr(buf, "VmLck:");
	TEST_ASSERT(line, "the status tells nothing of locked memory");
	return strtoul(line + 6, NULL, 10) * 1024 / PAGE_SIZE;
}

void *host_map(size_t size, size_t align, size_t offset, enum host_pages pages)
{
	char *map, *mem;

	map = mmap(NULL, size + align + offset, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	TEST_ASSERT(map != MAP_FAILED, "cannot map %#zx bytes", size);
	mem = align_ptr_up(map, align) + offset;

	/* A host without huge pages refuses the advice, and needs none. */
	madvise(mem, size,
		pages == HOST_PAGES_THP ? MADV_HUGEPAGE : MADV_NOHUGEPAGE);
	return mem;
}

int host_log_open(void)
{
	int log;

	if (host_write("/sys/kernel/debug/clear_warn_once", "1"))
		return -1;
	log = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (log >= 0)
		lseek(log, 0, SEEK_END);
	return log;
}

/* The next line of the log, if there is one. */
static bool log_read(int log, char *line, size_t size)
{
	char record[8192], *text;
	ssize_t got;

	/* A record is "priority,number,time,flags;text", and lines of what it is about. */
	got = read(log, record, sizeof(record) - 1);
	if (got < 0 && errno == EAGAIN)
		return false;
	TEST_ASSERT(got > 0, "cannot read the kernel's log");
	record[got] = 0;
	text = strchr(record, ';');
	TEST_ASSERT(text, "the kernel's log has no text: %s", record);
	snprintf(line, size, "%.*s", (int)strcspn(text + 1, "\n"), text + 1);
	return true;
}

void host_log_assert_no_warning(int log)
{
	char line[1024];

	while (log_read(log, line, sizeof(line)))
		TEST_ASSERT(!strstr(line, "WARNING:") && !strstr(line, "BUG:"),
			    "the kernel complains: %s", line);
}

int host_log_count(int log, const char *begin, const char *with, const char *also)
{
	char line[1024];
	int count = 0;

	while (log_read(log, line, sizeof(line))) {
		ksft_print_msg("%s\n", line);
		count += !strncmp(line, begin, strlen(begin)) && strstr(line, with) &&
			 strstr(line, also);
	}
	return count;
}

/* Objects in use in a cache of the kernel's. */
static long objects_in_use(const char *cache)
{
	char path[100], name[64], line[256];
	long active = -1, n;
	FILE *f;

	/* Else those that a CPU keeps at hand count as well. */
	snprintf(path, sizeof(path), "/sys/kernel/slab/%s/shrink", cache);
	host_write(path, "1");

	f = fopen("/proc/slabinfo", "r");
	while (f && fgets(line, sizeof(line), f)) {
		if (sscanf(line, "%63s %ld", name, &n) == 2 && !strcmp(name, cache))
			active = n;
	}
	if (f)
		fclose(f);
	TEST_ASSERT(active >= 0, "the kernel has no cache %s by itself", cache);
	return active;
}

static bool shadow_pages_are_gone(void *arg)
{
	return !objects_in_use("kvm_mmu_page_header") &&
	       !objects_in_use("pte_list_desc");
}

void host_assert_no_shadow_pages(void)
{
	/* The TDP MMU frees its pages after a grace period of RCU. */
	TEST_ASSERT(host_wait_seconds(30, shadow_pages_are_gone, NULL),
		    "KVM has %ld shadow pages and %ld entries of rmaps left",
		    objects_in_use("kvm_mmu_page_header"),
		    objects_in_use("pte_list_desc"));
}

bool host_wait_seconds(int seconds, bool (*done)(void *arg), void *arg)
{
	int i;

	for (i = 0; i < seconds * 10000; i++) {
		if (done(arg))
			return true;
		usleep(100);
	}
	return false;
}

bool host_wait(bool (*done)(void *arg), void *arg)
{
	return host_wait_seconds(300, done, arg);
}
