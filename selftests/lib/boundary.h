/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A fixture, for one test file each: a slot of RANGE bytes on huge pages, all of
 * it mapped, that starts at every kind of place in a huge frame.
 */
#ifndef SELFTESTS_BOUNDARY_H
#define SELFTESTS_BOUNDARY_H

#include "hammer.h"
#include "harness.h"

#define RANGE		(32UL << 20)
#define RANGE_PAGES	(RANGE / PAGE_SIZE)

FIXTURE(boundary) {
	struct hammer *h;
	int dev;
};

FIXTURE_VARIANT(boundary) {
	uint64_t gpa_pages;		/* where the slot starts in its frame */
	uint64_t hva_pages;
};

FIXTURE_VARIANT_ADD(boundary, aligned)
{
};

/* The first frame is cut by the slot's start, whatever happens at its end. */
FIXTURE_VARIANT_ADD(boundary, starts_inside_a_frame)
{
	.gpa_pages = 200,
	.hva_pages = 200,
};

/* No frame can ever be mapped huge. */
FIXTURE_VARIANT_ADD(boundary, hva_misaligned)
{
	.hva_pages = 3,
};

FIXTURE_VARIANT_ADD(boundary, gpa_misaligned)
{
	.gpa_pages = 511,
};

FIXTURE_SETUP(boundary)
{
	const struct hammer_config config = {
		.nr_vcpus = 1,
		.max_size = RANGE,
		.gpa = HAMMER_GPA + variant->gpa_pages * PAGE_SIZE,
		.hva_offset = variant->hva_pages * PAGE_SIZE,
		.host_pages = HOST_PAGES_THP,
	};

	self->h = NULL;
	REQUIRE_ALL_OPS();
	host_seed();
	self->h = hammer_create(&config);
	self->dev = memslot_ops_open(hammer_vm(self->h));

	/* With the whole range in the slot, is everything huge that can be? */
	hammer_slot(self->h, RANGE);
	hammer_sweep(self->h, 0, RANGE_PAGES, HAMMER_ALL);
	if (variant->gpa_pages == variant->hva_pages)
		REQUIRE(hammer_huge_mappings(self->h) >= RANGE / HUGE_SIZE - 1,
			"the host has no huge pages");
}

FIXTURE_TEARDOWN(boundary)
{
	if (!self->h)
		return;
	hammer_verify(self->h);
	hammer_assert_no_bad_exits(self->h);
	close(self->dev);
	hammer_free(self->h);
}

#endif
