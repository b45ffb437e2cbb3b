// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "test_util.h"

#include "host.h"
#include "starve.h"

#define FAIL_NTH	"/proc/thread-self/fail-nth"
#define SLAB		"/sys/kernel/debug/failslab/"
#define PAGE_ALLOC	"/sys/kernel/debug/fail_page_alloc/"

bool starve_is_possible(void)
{
	return !host_write(FAIL_NTH, "0") &&
	       !host_write(SLAB "ignore-gfp-wait", "N") &&
	       !host_write(PAGE_ALLOC "ignore-gfp-wait", "N") &&
	       !host_write(PAGE_ALLOC "ignore-gfp-highmem", "N") &&
	       !host_write(PAGE_ALLOC "min-order", "0") &&
	       !host_write(SLAB "verbose", "0") &&
	       !host_write(PAGE_ALLOC "verbose", "0");
}

int starve_open(void)
{
	int fd = open(FAIL_NTH, O_RDWR | O_CLOEXEC);

	TEST_ASSERT(fd >= 0, "cannot open " FAIL_NTH);
	return fd;
}

void starve(int fd, int nth)
{
	char value[16];
	int len = snprintf(value, sizeof(value), "%d", nth);

	TEST_ASSERT(pwrite(fd, value, len, 0) == len, "cannot set " FAIL_NTH);
}

bool starve_end(int fd)
{
	int saved_errno = errno, len;
	char value[16];

	len = pread(fd, value, sizeof(value) - 1, 0);
	TEST_ASSERT(pwrite(fd, "0", 1, 0) == 1, "cannot reset " FAIL_NTH);
	TEST_ASSERT(len > 0, "cannot read " FAIL_NTH);
	value[len] = 0;
	errno = saved_errno;
	return !atoi(value);
}
