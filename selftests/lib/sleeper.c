// SPDX-License-Identifier: GPL-2.0
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "kvm_util.h"
#include "processor.h"

#include "async.h"
#include "host.h"
#include "sleeper.h"
#include "xorshift.h"

#define NR_HELD		8

static struct {
	pthread_t thread;
	char *mem;
	uint64_t nr_pages;
	const uint64_t *hot;
	int uffd;
	bool runs;
	atomic_bool stop;
	atomic_ulong nr_begun;		/* operations */
	uint64_t seed;
	uint64_t nr;
} sleeper;

static void protect(uint64_t page, bool on)
{
	struct uffdio_writeprotect wp = {
		.range = { (uintptr_t)sleeper.mem + page * PAGE_SIZE, PAGE_SIZE },
		.mode = on ? UFFDIO_WRITEPROTECT_MODE_WP : 0,
	};
	int r;

	/* A huge page that is being split is a reason to try again. */
	do {
		r = ioctl(sleeper.uffd, UFFDIO_WRITEPROTECT, &wp);
	} while (r && errno == EAGAIN);
	TEST_ASSERT(!r, "cannot change the protection of page %lu: %s", page,
		    strerror(errno));
}

/* There may be none, so not for long. */
static void wait_for_operation(void)
{
	uint64_t begun = sleeper.nr_begun;
	int i;

	for (i = 0; i < 40 && sleeper.nr_begun == begun; i++)
		usleep(250);
	usleep(xorshift(&sleeper.seed) % 3000);
}

static void *sleeper_main(void *arg)
{
	struct pollfd pfd = { .fd = sleeper.uffd, .events = POLLIN };
	uint64_t held[NR_HELD], hot;
	struct uffd_msg msg;
	int i;

	while (!sleeper.stop) {
		for (i = 0; i < NR_HELD; i++) {
			held[i] = xorshift(&sleeper.seed) % sleeper.nr_pages;
			hot = READ_ONCE(*sleeper.hot) + held[i] % 40;
			if (i % 2 && hot < sleeper.nr_pages)
				held[i] = hot;
			protect(held[i], true);
		}
		if (poll(&pfd, 1, 5) == 1) {
			wait_for_operation();
			sleeper.nr++;
			while (read(sleeper.uffd, &msg, sizeof(msg)) > 0)
				;
		}
		for (i = 0; i < NR_HELD; i++)
			protect(held[i], false);
		usleep(xorshift(&sleeper.seed) % 2000);
	}
	return NULL;
}

bool sleeper_start(char *mem, uint64_t nr_pages, const uint64_t *hot, bool wanted)
{
	uint64_t i;

	sleeper.mem = mem;
	sleeper.nr_pages = nr_pages;
	sleeper.hot = hot;
	sleeper.seed = host_random() | 1;
	if (!wanted)
		return true;
	sleeper.uffd = uffd_open();
	if (sleeper.uffd < 0 ||
	    !uffd_hold(sleeper.uffd, mem, nr_pages * PAGE_SIZE, true))
		return false;
	for (i = 0; i < nr_pages; i++)
		protect(i, false);
	sleeper.runs = true;
	pthread_create(&sleeper.thread, NULL, sleeper_main, NULL);
	return true;
}

void sleeper_wake(void)
{
	sleeper.nr_begun++;
}

uint64_t sleeper_nr(void)
{
	return sleeper.nr;
}

void sleeper_stop(void)
{
	if (!sleeper.runs)
		return;
	sleeper.stop = true;
	pthread_join(sleeper.thread, NULL);
	close(sleeper.uffd);
	sleeper.runs = false;
}
