// SPDX-License-Identifier: GPL-2.0
#include <fcntl.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <linux/init.h>
#include <linux/kcov.h>

#include "kcov.h"

#define NR_PCS		(1UL << 16)
#define NR_COUNTERS	(1UL << 15)

/* libFuzzer clears them before each input. */
static uint8_t counters[NR_COUNTERS] __section("__libfuzzer_extra_counters");

static int fd = -1;
static unsigned long *pcs;	/* the first word is their number */
static unsigned int noted;

bool kcov_open(void)
{
	fd = open("/sys/kernel/debug/kcov", O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return false;
	pcs = MAP_FAILED;
	if (!ioctl(fd, KCOV_INIT_TRACE, NR_PCS))
		pcs = mmap(NULL, NR_PCS * sizeof(*pcs), PROT_READ | PROT_WRITE,
			   MAP_SHARED, fd, 0);
	if (pcs != MAP_FAILED)
		return true;
	close(fd);
	fd = -1;
	return false;
}

void kcov_begin(void)
{
	noted = 0;
	if (fd < 0)
		return;
	__atomic_store_n(&pcs[0], 0, __ATOMIC_RELAXED);
	ioctl(fd, KCOV_ENABLE, KCOV_TRACE_PC);
}

static uint32_t hash(unsigned long from, unsigned long to)
{
	return ((from * 0x9e3779b97f4a7c15UL) ^ (to * 0xc2b2ae3d27d4eb4fUL)) >> 49;
}

/* An edge is a place, and the one before it. */
static void count(unsigned long from, unsigned long to)
{
	uint8_t *counter = &counters[hash(from, to) % NR_COUNTERS];

	if (*counter < UINT8_MAX)
		++*counter;
}

void kcov_note(unsigned int what)
{
	if (fd < 0)
		count(noted, what);
	noted = what;
}

void kcov_end(void)
{
	unsigned long i, nr, from = 0;

	/* Without any, libFuzzer takes the program for one that does not count. */
	counters[0] = 1;
	if (fd < 0)
		return;
	ioctl(fd, KCOV_DISABLE, 0);
	nr = __atomic_load_n(&pcs[0], __ATOMIC_RELAXED);
	for (i = 1; i <= nr; i++) {
		count(from, pcs[i]);
		from = pcs[i];
	}
}
