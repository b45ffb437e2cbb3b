// SPDX-License-Identifier: GPL-2.0
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kvm_util.h"
#include "processor.h"

#include "host.h"
#include "host_noise.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE	25
#endif

#define KSM_RUN		"/sys/kernel/mm/ksm/run"
#define UNRELATED_SIZE	(8UL << 20)

static struct noise_config config;
static bool stopping;
static pthread_t main_thread, unrelated_thread, uffd_thread;
static char *unrelated;
static int uffd = -1;
static uint64_t nr_unrelated, nr_uffd;

static uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

struct range {
	char *start;
	size_t size;
};

/*
 * Small and large ones, mostly of whole huge pages where there are some: few
 * would be left otherwise.
 */
static struct range random_range(char *mem, size_t size, uint64_t random)
{
	bool huge = config.thp && random >> 60 & 3;
	uint64_t unit = huge ? HUGE_SIZE : config.granule;
	uint64_t units = size / unit, first, nr;
	uint64_t most = random >> 15 & 1 ? 16 : 2048;

	first = random % units;
	nr = 1 + (random >> 16) % min(units - first, most);
	return (struct range) {
		.start = mem + first * unit,
		.size = nr * unit,
	};
}

/* ------------------------------------------------------ kinds of noise */

/* Advice that cannot be taken is refused, and does no harm. */
static void advise(uint64_t random, int advice)
{
	struct range r = random_range(config.mem, config.size, random);

	madvise(r.start, r.size, advice);
}

static void noise_own(uint64_t random)
{
	if (config.own)
		config.own(random);
}

static void noise_discard(uint64_t random)
{
	struct range r = random_range(config.scratch, config.scratch_size,
				      random);
	bool lazily = !config.hugetlb && random >> 40 & 1;

	madvise(r.start, r.size, lazily ? MADV_FREE : MADV_DONTNEED);
}

static void noise_pageout(uint64_t random)
{
	advise(random, random >> 40 & 1 ? MADV_PAGEOUT : MADV_COLD);
}

static void noise_mprotect(uint64_t random)
{
	struct range r = random_range(config.mem, config.size, random);

	/* To and fro between two that allow all that a guest may do. */
	mprotect(r.start, r.size, PROT_READ | PROT_WRITE | PROT_EXEC);
	mprotect(r.start, r.size, PROT_READ | PROT_WRITE);
}

static void noise_thp(uint64_t random)
{
	if (config.thp)
		advise(random, random >> 40 & 3 ? MADV_HUGEPAGE :
						  MADV_NOHUGEPAGE);
}

static void noise_collapse(uint64_t random)
{
	uint64_t frames = config.size / HUGE_SIZE, first, nr;

	first = random % frames;
	nr = 1 + (random >> 40) % min(frames - first, (uint64_t)4);
	if (config.thp)
		madvise(config.mem + first * HUGE_SIZE, nr * HUGE_SIZE,
			MADV_COLLAPSE);
}

static void noise_ksm(uint64_t random)
{
	advise(random, random >> 40 & 1 ? MADV_MERGEABLE : MADV_UNMERGEABLE);
}

static void noise_compact(uint64_t random)
{
	host_write("/proc/sys/vm/compact_memory", "1");
}

static void noise_fork(uint64_t random)
{
	pid_t pid;

	/* Copies of private huge pages could run out of them. */
	if (config.hugetlb)
		return;

	pid = fork();
	if (!pid) {
		usleep(random % 5000);
		_exit(0);
	}
	if (pid > 0)
		waitpid(pid, NULL, 0);
}

static struct noise {
	const char *name;
	void (*make)(uint64_t random);
	unsigned int weight;
	uint64_t nr;
} noises[] = {
	{ "own", noise_own, 30 },
	{ "discard", noise_discard, 20 },
	{ "pageout", noise_pageout, 6 },
	{ "mprotect", noise_mprotect, 15 },
	{ "thp", noise_thp, 8 },
	{ "collapse", noise_collapse, 12 },
	{ "ksm", noise_ksm, 4 },
	{ "compact", noise_compact, 1 },
	{ "fork", noise_fork, 1 },
};

static struct noise *choose(uint64_t random)
{
	unsigned int sum = 0, i;

	for (i = 0; i < ARRAY_SIZE(noises); i++)
		sum += noises[i].weight;
	random %= sum;
	for (i = 0; random >= noises[i].weight; i++)
		random -= noises[i].weight;
	return &noises[i];
}

/* -------------------------------------------------------- the threads */

static void *make_noise(void *arg)
{
	uint64_t state = config.seed * 3 | 1;
	struct noise *noise;

	while (!READ_ONCE(stopping)) {
		noise = choose(next_random(&state));
		noise->make(next_random(&state));
		noise->nr++;
		usleep(next_random(&state) % 10000);
	}
	return NULL;
}

/* Long notifiers of memory that no slot holds: every swap has to wait. */
static void *make_unrelated_noise(void *arg)
{
	uint64_t state = config.seed * 5 | 1;

	while (!READ_ONCE(stopping)) {
		mprotect(unrelated, UNRELATED_SIZE, PROT_READ);
		mprotect(unrelated, UNRELATED_SIZE, PROT_READ | PROT_WRITE);
		nr_unrelated++;
		usleep(next_random(&state) % 50000);
	}
	return NULL;
}

/* Page faults that take their time. */
static void *resolve_faults(void *arg)
{
	uint64_t state = config.seed * 7 | 1;
	struct pollfd pollfd = { .fd = uffd, .events = POLLIN };
	struct uffdio_zeropage zero = { 0 };
	struct uffd_msg msg;

	while (!READ_ONCE(stopping)) {
		if (poll(&pollfd, 1, 10) <= 0 ||
		    read(uffd, &msg, sizeof(msg)) != sizeof(msg))
			continue;
		if (msg.event != UFFD_EVENT_PAGEFAULT)
			continue;

		/* Mostly short; now and then an operation has to wait. */
		usleep(next_random(&state) %
		       (next_random(&state) % 32 ? 1000 : 20000));
		zero.range.start = align_down(msg.arg.pagefault.address,
					      PAGE_SIZE);
		zero.range.len = PAGE_SIZE;
		if (ioctl(uffd, UFFDIO_ZEROPAGE, &zero))
			ioctl(uffd, UFFDIO_WAKE, &zero.range);
		nr_uffd++;
	}
	return NULL;
}

/* The second half of the scratch range; false where it cannot be had. */
static bool register_uffd(void)
{
	size_t half = align_down(config.scratch_size / 2, PAGE_SIZE);
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = {
		.range.start = (uintptr_t)config.scratch +
			       config.scratch_size - half,
		.range.len = half,
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};

	if (config.hugetlb)
		return false;
	uffd = syscall(__NR_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	if (uffd < 0)
		return false;
	if (!ioctl(uffd, UFFDIO_API, &api) &&
	    !ioctl(uffd, UFFDIO_REGISTER, &reg))
		return true;
	close(uffd);
	uffd = -1;
	return false;
}

void noise_start(const struct noise_config *new)
{
	config = *new;
	stopping = false;

	unrelated = mmap(NULL, UNRELATED_SIZE, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	TEST_ASSERT(unrelated != MAP_FAILED, "no memory");
	madvise(unrelated, UNRELATED_SIZE, MADV_NOHUGEPAGE);
	memset(unrelated, 1, UNRELATED_SIZE);

	host_write(KSM_RUN, "1");
	if (register_uffd())
		pthread_create(&uffd_thread, NULL, resolve_faults, NULL);
	pthread_create(&main_thread, NULL, make_noise, NULL);
	pthread_create(&unrelated_thread, NULL, make_unrelated_noise, NULL);
}

void noise_stop(void)
{
	WRITE_ONCE(stopping, true);
	pthread_join(unrelated_thread, NULL);
	pthread_join(main_thread, NULL);
	if (uffd >= 0) {
		pthread_join(uffd_thread, NULL);
		/* Wakes those who still wait, and ends their registration. */
		close(uffd);
		uffd = -1;
	}
	munmap(unrelated, UNRELATED_SIZE);
	host_write(KSM_RUN, "2");
}

void noise_print(void)
{
	char line[512];
	size_t i, len = 0;

	for (i = 0; i < ARRAY_SIZE(noises); i++)
		len += snprintf(line + len, sizeof(line) - len, " %s %lu,",
				noises[i].name, noises[i].nr);
	ksft_print_msg("noise:%s unrelated %lu, uffd %lu\n", line, nr_unrelated,
		       nr_uffd);
}
