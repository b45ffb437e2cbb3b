/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A fixture, for one test file each: vCPUs that hammer a slot of RANGE bytes, on
 * each kind of host pages.
 */
#ifndef SELFTESTS_UNDER_LOAD_H
#define SELFTESTS_UNDER_LOAD_H

#include "async.h"
#include "hammer.h"
#include "harness.h"

#define RANGE		(32UL << 20)
#define RANGE_PAGES	(RANGE / PAGE_SIZE)

#define HUGE_2M	"/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages"

enum backing {
	BACKING_4K,
	BACKING_THP,
	BACKING_HUGETLB,
};

FIXTURE(under_load) {
	struct hammer *h;
	struct unrest *unrest;
	int dev;
};

FIXTURE_VARIANT(under_load) {
	int nr_vcpus;
	enum backing backing;
	bool unrest;
};

FIXTURE_VARIANT_ADD(under_load, 4k_2_vcpus)
{
	.nr_vcpus = 2,
};

FIXTURE_VARIANT_ADD(under_load, 4k_4_vcpus)
{
	.nr_vcpus = 4,
};

FIXTURE_VARIANT_ADD(under_load, thp_2_vcpus)
{
	.nr_vcpus = 2,
	.backing = BACKING_THP,
};

FIXTURE_VARIANT_ADD(under_load, thp_4_vcpus)
{
	.nr_vcpus = 4,
	.backing = BACKING_THP,
};

FIXTURE_VARIANT_ADD(under_load, hugetlb)
{
	.nr_vcpus = 2,
	.backing = BACKING_HUGETLB,
};

/* An MMU notifier is under way most of the time. */
FIXTURE_VARIANT_ADD(under_load, thp_unrest)
{
	.nr_vcpus = 2,
	.backing = BACKING_THP,
	.unrest = true,
};

FIXTURE_SETUP(under_load)
{
	struct hammer_config config = {
		.nr_vcpus = variant->nr_vcpus,
		.max_size = RANGE,
		.host_pages = variant->backing == BACKING_THP ? HOST_PAGES_THP :
			      HOST_PAGES_4K,
	};

	self->h = NULL;
	self->unrest = NULL;
	REQUIRE_ALL_OPS();
	host_seed();
	if (variant->backing == BACKING_HUGETLB) {
		host_write(HUGE_2M, "16");
		config.mem = mmap(NULL, RANGE, PROT_READ | PROT_WRITE,
				  MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB |
				  21 << MAP_HUGE_SHIFT, -1, 0);
		REQUIRE(config.mem != MAP_FAILED, "the host has no huge pages");
	}
	self->h = hammer_create(&config);
	self->dev = memslot_ops_open(hammer_vm(self->h));
	hammer_slot(self->h, RANGE);
	if (variant->unrest)
		self->unrest = unrest_start(NULL, 0);
}

FIXTURE_TEARDOWN(under_load)
{
	if (self->unrest)
		unrest_stop(self->unrest);
	if (self->h) {
		close(self->dev);
		hammer_free(self->h);
	}
	if (variant->backing == BACKING_HUGETLB)
		host_write(HUGE_2M, "0");
}

#endif
