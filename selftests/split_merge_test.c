// SPDX-License-Identifier: GPL-2.0
/*
 * SPLIT and MERGE under load: no vCPU can tell.  The pieces are ordinary slots,
 * and no huge mapping is in two of them.
 */
#include "harness.h"

#include "kvm_util.h"
#include "processor.h"

#include "async.h"
#include "boundary.h"
#include "hammer.h"
#include "level.h"
#include "memslot_ops.h"
#include "ops.h"
#include "probe.h"
#include "trace.h"
#include "under_load.h"

#define MOST		256

/* Where a slot is cut, in pages; its pieces, the first with its own number. */
struct cuts {
	int nr;				/* of pieces */
	uint64_t page[MOST + 1];	/* where each starts; the end */
	uint32_t slot[MOST];
};

static void add_cut(struct cuts *c, uint64_t page)
{
	int i;

	for (i = 0; i < c->nr && c->page[i] != page; i++)
		;
	if (i < c->nr)
		return;
	for (i = c->nr++; i && c->page[i - 1] > page; i--)
		c->page[i] = c->page[i - 1];
	c->page[i] = page;
}

/* Random cuts in [@low, @high), every fourth on the boundary of a frame. */
static struct cuts random_cuts(int nr, uint32_t slot, uint64_t low,
			       uint64_t high, uint64_t end)
{
	struct cuts c = { .nr = 1 };
	uint64_t page;
	int i;

	while (c.nr < nr) {
		page = host_random_between(low, high - 1);
		if (!(host_random() % 4) && page > HUGE_PAGES)
			page = align_down(page, HUGE_PAGES);
		if (page >= low)
			add_cut(&c, page);
	}
	c.page[nr] = end;
	for (i = 0; i < nr; i++)
		c.slot[i] = slot + i;
	/* Numbers need not be in order. */
	for (i = 1; i < nr; i++) {
		int other = host_random_between(1, nr - 1);
		uint32_t tmp = c.slot[i];

		c.slot[i] = c.slot[other];
		c.slot[other] = tmp;
	}
	return c;
}

static void assert_split(int dev, const struct cuts *c)
{
	struct kvm_memslot_cut cuts[MOST] = {};
	int i, err;

	for (i = 1; i < c->nr; i++) {
		cuts[i - 1].offset = c->page[i] * PAGE_SIZE;
		cuts[i - 1].slot = c->slot[i];
	}
	err = slot_split(dev, c->slot[0], c->nr - 1, cuts);
	TEST_ASSERT(!err, "SPLIT into %d: %s", c->nr, strerror(err));
}

static void assert_merge(int dev, const struct cuts *c)
{
	int err = slot_merge(dev, c->slot[0], c->nr - 1, &c->slot[1]);

	TEST_ASSERT(!err, "MERGE of %d: %s", c->nr, strerror(err));
}

static void assert_pieces(struct kvm_vm *vm, const struct cuts *c, uint64_t gpa,
			  char *hva)
{
	int i;

	for (i = 0; i < c->nr; i++)
		slot_assert(vm, c->slot[i], 0, gpa + c->page[i] * PAGE_SIZE,
			    (c->page[i + 1] - c->page[i]) * PAGE_SIZE,
			    hva + c->page[i] * PAGE_SIZE);
}

/* ------------------------------------------------------------ under load */

static int max_pieces(int dev)
{
	uint64_t max = memslot_ops_attr(dev, KVM_DEV_MEMSLOT_OPS_GRP_INFO,
					KVM_MEMSLOT_INFO_MAX_PIECES);

	TEST_ASSERT(max >= 64, "at most %lu pieces", max);
	return min_t(uint64_t, max, MOST);
}

/* How many pages are mapped small, or anew, because of the cuts? */
static uint64_t pages_at_cuts(const struct cuts *c, bool huge)
{
	uint64_t pages = 0, frame, last = -1UL;
	int i;

	if (!huge)
		return 2 * (c->nr - 1);
	for (i = 1; i < c->nr; i++) {
		frame = c->page[i] / HUGE_PAGES;
		if (!(c->page[i] % HUGE_PAGES)) {
			/* Those on both sides, one fault each at least. */
			if (frame - 1 != last)
				pages += HUGE_PAGES;
		}
		if (frame != last)
			pages += HUGE_PAGES;
		last = frame;
	}
	return pages;
}

/*
 * Every other time all cuts are where the vCPUs do not go, and there must not be
 * one fault. Else a vCPU may take one for each page that a cut has unmapped.
 */
TEST_F(under_load, split_and_merge)
{
	const bool huge = variant->backing != BACKING_4K;
	const int nrs[] = { 2, 3, 17, max_pieces(self->dev) };
	struct kvm_vm *vm = hammer_vm(self->h);
	uint64_t gpa = hammer_gpa(self->h), faults, most, quiet, spent = 0;
	void *hva = hammer_hva(self->h);
	struct cuts c;
	int round;

	for (round = 0; round < 2 * ARRAY_SIZE(nrs); round++) {
		quiet = round / 4 % 2 ? RANGE_PAGES / 2 : RANGE_PAGES;
		/* The page, or frame, before a cut counts as the cut's. */
		c = random_cuts(nrs[round % 4], HAMMER_SLOT,
				quiet == RANGE_PAGES ? 1 : quiet + HUGE_PAGES,
				RANGE_PAGES, RANGE_PAGES);
		hammer_settle(self->h, quiet);

		faults = hammer_faults(self->h);
		assert_split(self->dev, &c);
		hammer_wait(self->h, 200);
		hammer_sweep(self->h, 0, quiet, HAMMER_ALL);
		faults = hammer_faults(self->h) - faults;
		most = quiet == RANGE_PAGES ? pages_at_cuts(&c, huge) : 0;
		TEST_ASSERT(faults <= most * variant->nr_vcpus,
			    "SPLIT into %d: %lu faults where %lu pages are beside cuts",
			    c.nr, faults, most);
		spent += faults;
		assert_pieces(vm, &c, gpa, hva);

		hammer_settle(self->h, quiet);
		faults = hammer_faults(self->h);
		assert_merge(self->dev, &c);
		hammer_wait(self->h, 200);
		hammer_sweep(self->h, 0, quiet, HAMMER_ALL);
		TEST_ASSERT(hammer_faults(self->h) == faults,
			    "MERGE of %d: %lu faults", c.nr,
			    hammer_faults(self->h) - faults);
		slot_assert(vm, HAMMER_SLOT, 0, gpa, RANGE, hva);
		hammer_assert_no_bad_exits(self->h);
	}
	hammer_verify(self->h);
	hammer_assert_no_bad_exits(self->h);
	ksft_print_msg("%d rounds, %lu faults beside the cuts\n", round, spent);

	memslot_ops_assert_stats(self->dev, 2 * round, 0, 0);
}

/* Many times, in quick succession, while the vCPUs go everywhere. */
TEST_F(under_load, round_after_round)
{
	const int rounds = variant->nr_vcpus > 2 || variant->backing ? 30 : 500;
	struct kvm_vm *vm = hammer_vm(self->h);
	struct cuts c;
	int round;

	hammer_settle(self->h, RANGE_PAGES);
	for (round = 0; round < rounds; round++) {
		c = random_cuts(host_random_between(2, 9), HAMMER_SLOT, 1,
				RANGE_PAGES, RANGE_PAGES);
		assert_split(self->dev, &c);
		if (!(round % 64))
			assert_pieces(vm, &c, hammer_gpa(self->h),
				      hammer_hva(self->h));
		assert_merge(self->dev, &c);
	}
	slot_assert(vm, HAMMER_SLOT, 0, hammer_gpa(self->h), RANGE,
		    hammer_hva(self->h));
	hammer_settle(self->h, RANGE_PAGES);
	hammer_verify(self->h);
	hammer_assert_no_bad_exits(self->h);
	memslot_ops_assert_stats(self->dev, 2 * rounds, 0, 0);
}

/* ------------------------------------------------------------ huge mappings */

/* How many frames, alike in guest and host, are wholly in one of the pieces? */
static uint64_t whole_frames(struct hammer *h, const struct cuts *c)
{
	uint64_t frames = 0;
	int i;

	for (i = 0; i < c->nr; i++)
		frames += hammer_whole_frames(h, c->page[i], c->page[i + 1]);
	return frames;
}

/* KVM's mappings of it go, the host's pages stay. */
static void unmap_all(struct hammer *h)
{
	TEST_ASSERT_EQ(mprotect(hammer_hva(h), RANGE, PROT_READ), 0);
	TEST_ASSERT_EQ(mprotect(hammer_hva(h), RANGE, PROT_READ | PROT_WRITE),
		       0);
}

TEST_F(boundary, no_mapping_is_in_two_pieces)
{
	struct cuts whole = { .nr = 1, .page = { 0, RANGE_PAGES } }, c;
	const uint64_t all = whole_frames(self->h, &whole);
	/* Where all is small there is not much to see, and a lot to map. */
	const int rounds = all ? 6 : 2;
	uint64_t want;
	int round;

	for (round = 0; round < rounds; round++) {
		TEST_ASSERT(hammer_huge_mappings(self->h) == all,
			    "%lu huge mappings of the whole, where %lu frames are whole",
			    hammer_huge_mappings(self->h), all);
		c = random_cuts(host_random_between(2, 12), HAMMER_SLOT, 1,
				RANGE_PAGES, RANGE_PAGES);
		assert_split(self->dev, &c);
		want = whole_frames(self->h, &c);
		TEST_ASSERT(hammer_huge_mappings(self->h) <= want,
			    "SPLIT into %d leaves %lu huge mappings where %lu frames are whole",
			    c.nr, hammer_huge_mappings(self->h), want);
		hammer_sweep(self->h, 0, RANGE_PAGES, HAMMER_ALL);
		TEST_ASSERT(hammer_huge_mappings(self->h) == want,
			    "in use after SPLIT into %d: %lu huge mappings where %lu frames are whole",
			    c.nr, hammer_huge_mappings(self->h), want);

		/* Mapped from scratch, it must be the same. */
		if (round % 2) {
			unmap_all(self->h);
			hammer_sweep(self->h, 0, RANGE_PAGES, HAMMER_ALL);
			TEST_ASSERT(hammer_huge_mappings(self->h) == want,
				    "mapped anew after SPLIT into %d: %lu huge mappings where %lu frames are whole",
				    c.nr, hammer_huge_mappings(self->h), want);
		}

		assert_merge(self->dev, &c);
		TEST_ASSERT_EQ(hammer_huge_mappings(self->h), want);
		unmap_all(self->h);
		hammer_sweep(self->h, 0, RANGE_PAGES, HAMMER_ALL);
		TEST_ASSERT(hammer_huge_mappings(self->h) == all,
			    "after MERGE of %d: %lu huge mappings, where %lu frames are whole: something holds them off",
			    c.nr, hammer_huge_mappings(self->h), all);
	}
}

/* The same again and again, in the same frame: nothing adds up. */
TEST_F(boundary, nothing_is_left_behind)
{
	struct cuts whole = { .nr = 1, .page = { 0, RANGE_PAGES } };
	struct cuts c = {
		.nr = 4,
		.page = { 0, 700, 720, 1000, RANGE_PAGES },
		.slot = { HAMMER_SLOT, 9, 8, 7 },
	};
	int round;

	for (round = 0; round < 20; round++) {
		assert_split(self->dev, &c);
		assert_merge(self->dev, &c);
	}
	/* By halves. */
	for (round = 0; round < 10; round++) {
		struct cuts half = c;

		assert_split(self->dev, &c);
		half.nr = 3;
		assert_merge(self->dev, &half);
		half = (struct cuts) {
			.nr = 2,
			.slot = { HAMMER_SLOT, 7 },
		};
		assert_merge(self->dev, &half);
	}
	unmap_all(self->h);
	hammer_sweep(self->h, 0, RANGE_PAGES, HAMMER_ALL);
	TEST_ASSERT_EQ(hammer_huge_mappings(self->h), whole_frames(self->h, &whole));
}

/* One level up, where only shape can tell. */
TEST(giant_frames_by_shape)
{
	const uint64_t giga = GIGA_SIZE / PAGE_SIZE;
	const struct hammer_config config = {
		.nr_vcpus = 1,
		.max_size = 4 * GIGA_SIZE,
		.sparse = true,
	};
	const struct cuts c = {
		.nr = 6,
		.page = { 0, 1, giga, giga + 5, 2 * giga - HUGE_PAGES, 3 * giga,
			  4 * giga },
		.slot = { HAMMER_SLOT, 10, 11, 12, 13, 14 },
	};
	struct hammer *h;
	int i, round, dev;

	REQUIRE_OP(KVM_MEMSLOT_OP_SPLIT);
	REQUIRE_OP(KVM_MEMSLOT_OP_MERGE);
	h = hammer_create(&config);
	dev = memslot_ops_open(hammer_vm(h));
	hammer_slot(h, 4 * GIGA_SIZE);
	for (i = 0; i < c.nr; i++) {
		hammer_populate(h, c.page[i], 1);
		hammer_populate(h, c.page[i + 1] - 1, 1);
	}
	for (round = 0; round < 4; round++) {
		if (round % 2)
			assert_merge(dev, &c);
		else
			assert_split(dev, &c);
		for (i = 0; i < c.nr; i++) {
			hammer_sweep(h, c.page[i], 1, HAMMER_ALL);
			hammer_sweep(h, c.page[i + 1] - 1, 1, HAMMER_ALL);
		}
	}
	hammer_assert_no_bad_exits(h);
	hammer_verify(h);
	slot_assert(hammer_vm(h), HAMMER_SLOT, 0, hammer_gpa(h), 4 * GIGA_SIZE,
		    hammer_hva(h));
	close(dev);
	hammer_free(h);
}

#define HUGE_1G	"/sys/kernel/mm/hugepages/hugepages-1048576kB/nr_hugepages"

/* And where the host has a page of that size. */
TEST(giant_page)
{
	struct hammer_config config = {
		.nr_vcpus = 1,
		.max_size = GIGA_SIZE,
		.sparse = true,
	};
	const uint64_t pages = GIGA_SIZE / PAGE_SIZE;
	const struct cuts c = {
		.nr = 2,
		.page = { 0, pages / 2, pages },
		.slot = { HAMMER_SLOT, 10 },
	};
	struct hammer *h;
	struct kvm_vm *vm;
	int dev;

	REQUIRE_OP(KVM_MEMSLOT_OP_SPLIT);
	REQUIRE_OP(KVM_MEMSLOT_OP_MERGE);
	host_write(HUGE_1G, "1");
	config.mem = mmap(NULL, GIGA_SIZE, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB |
			  30 << MAP_HUGE_SHIFT, -1, 0);
	REQUIRE(config.mem != MAP_FAILED, "the host has no page of 1 GiB");

	h = hammer_create(&config);
	vm = hammer_vm(h);
	dev = memslot_ops_open(vm);
	hammer_populate(h, 0, 1);
	hammer_populate(h, pages / 2, 1);
	hammer_slot(h, GIGA_SIZE);
	hammer_sweep(h, 0, 1, HAMMER_ALL);
	TEST_ASSERT_EQ(vm_stat(vm, "pages_1g"), 1);

	assert_split(dev, &c);
	TEST_ASSERT_EQ(vm_stat(vm, "pages_1g"), 0);
	hammer_sweep(h, 0, 1, HAMMER_ALL);
	hammer_sweep(h, pages / 2, 1, HAMMER_ALL);
	TEST_ASSERT_EQ(vm_stat(vm, "pages_1g"), 0);
	TEST_ASSERT_EQ(hammer_huge_mappings(h), 2);

	assert_merge(dev, &c);
	hammer_populate(h, pages - 1, 1);
	hammer_sweep(h, pages - 1, 1, HAMMER_ALL);
	TEST_ASSERT_EQ(vm_stat(vm, "pages_1g"), 1);

	hammer_assert_no_bad_exits(h);
	hammer_verify(h);
	close(dev);
	hammer_free(h);
	host_write(HUGE_1G, "0");
}

/* ------------------------------------------------------------- afterwards */

#define PIECES_RANGE	(12UL << 20)
#define PIECES_PAGES	(PIECES_RANGE / PAGE_SIZE)

FIXTURE(pieces) {
	struct probe *p;
	char *mem;
	int dev;
};

FIXTURE_VARIANT(pieces) {
	enum host_pages host_pages;
};

FIXTURE_VARIANT_ADD(pieces, 4k)
{
	.host_pages = HOST_PAGES_4K,
};

FIXTURE_VARIANT_ADD(pieces, thp)
{
	.host_pages = HOST_PAGES_THP,
};

/* All cuts are inside of frames; the second piece has less than one. */
static const struct cuts quarters = {
	.nr = 4,
	.page = { 0, 300, 700, 1500, PIECES_PAGES },
	.slot = { PROBE_SLOT, 13, 11, 12 },
};

static const struct cuts unity = {
	.nr = 1,
	.page = { 0, PIECES_PAGES },
	.slot = { PROBE_SLOT },
};

FIXTURE_SETUP(pieces)
{
	const struct probe_config config = {
		.nr_vcpus = 2,
		.size = PIECES_RANGE,
	};
	uint64_t i;

	self->p = NULL;
	REQUIRE_OP(KVM_MEMSLOT_OP_SPLIT);
	REQUIRE_OP(KVM_MEMSLOT_OP_MERGE);
	host_seed();
	self->p = probe_create(&config);
	self->dev = memslot_ops_open(probe_vm(self->p));
	self->mem = host_map(PIECES_RANGE, HUGE_SIZE, 0, variant->host_pages);
	slot_must_set(probe_vm(self->p), PROBE_SLOT, 0, PROBE_GPA, PIECES_RANGE,
		      self->mem);
	for (i = 0; i < PIECES_PAGES; i++)
		probe_write(self->p, PROBE_GPA + i * PAGE_SIZE, i);
}

FIXTURE_TEARDOWN(pieces)
{
	if (!self->p)
		return;
	close(self->dev);
	probe_free(self->p);
	munmap(self->mem, PIECES_RANGE);
}

static uint64_t piece_gpa(const struct cuts *c, int i)
{
	return PROBE_GPA + c->page[i] * PAGE_SIZE;
}

static uint64_t piece_size(const struct cuts *c, int i)
{
	return (c->page[i + 1] - c->page[i]) * PAGE_SIZE;
}

/* Reads pages of all; those of piece @missing are not there. */
static void assert_all_there(struct probe *p, const struct cuts *c, int missing)
{
	uint64_t page;
	int i;

	for (i = 0; i < c->nr; i++) {
		for (page = c->page[i]; page < c->page[i + 1]; page++) {
			uint64_t gpa = PROBE_GPA + page * PAGE_SIZE;

			/* Each that is beside a cut, and some others. */
			if (page % 8 && page > c->page[i] + 2 &&
			    page < c->page[i + 1] - 3)
				continue;
			if (i == missing)
				TEST_ASSERT(probe_is_mmio(p, gpa),
					    "page %lu is still there", page);
			else
				TEST_ASSERT_EQ(probe_read(p, gpa), page);
		}
	}
}

/* Changes one piece by KVM's own calls; the others do not change with it. */
TEST_F(pieces, are_ordinary_slots)
{
	struct kvm_vm *vm = probe_vm(self->p);
	const struct cuts *c = &quarters;
	uint64_t page;
	int i;

	assert_split(self->dev, c);
	for (i = 0; i < c->nr; i++) {
		void *hva = self->mem + c->page[i] * PAGE_SIZE;
		struct probe_result r;

		/* Deleted, and made again. */
		slot_must_set(vm, c->slot[i], 0, piece_gpa(c, i), 0, hva);
		assert_all_there(self->p, c, i);
		slot_must_set(vm, c->slot[i], 0, piece_gpa(c, i), piece_size(c, i),
			      hva);

		/* Moved, and moved back. */
		slot_must_set(vm, c->slot[i], 0, PROBE_GPA + 2 * PIECES_RANGE,
			      piece_size(c, i), hva);
		assert_all_there(self->p, c, i);
		slot_must_set(vm, c->slot[i], 0, piece_gpa(c, i), piece_size(c, i),
			      hva);

		/* Made anew read-only, as KVM has no other way. */
		slot_must_set(vm, c->slot[i], 0, piece_gpa(c, i), 0, hva);
		slot_must_set(vm, c->slot[i], KVM_MEM_READONLY, piece_gpa(c, i),
			      piece_size(c, i), hva);
		assert_all_there(self->p, c, -1);
		r = probe_access(self->p, 0, PROBE_WRITE, piece_gpa(c, i), 99);
		TEST_ASSERT_EQ(r.nr_writes, 1);
		for (page = 0; page < PIECES_PAGES; page++) {
			if (page >= c->page[i] && page < c->page[i + 1])
				continue;
			probe_write(self->p, PROBE_GPA + page * PAGE_SIZE, page);
		}
		slot_must_set(vm, c->slot[i], 0, piece_gpa(c, i), 0, hva);
		slot_must_set(vm, c->slot[i], 0, piece_gpa(c, i), piece_size(c, i),
			      hva);
	}
	assert_pieces(vm, c, PROBE_GPA, self->mem);
	assert_merge(self->dev, c);
	assert_pieces(vm, &unity, PROBE_GPA, self->mem);
	assert_all_there(self->p, &unity, -1);
}

/*
 * One piece logs its writes. A mapping that it shared with its neighbour would
 * hide some: the neighbour's faults would make it writable, unlogged.
 */
TEST_F(pieces, one_logs_its_writes)
{
	struct kvm_vm *vm = probe_vm(self->p);
	const struct cuts *c = &quarters;
	uint64_t page, gpa, faults, nr, i;
	uint64_t log[PIECES_PAGES / 64];
	int one, round;

	assert_split(self->dev, c);
	for (one = 0; one < c->nr; one++) {
		void *hva = self->mem + c->page[one] * PAGE_SIZE;

		slot_must_set(vm, c->slot[one], KVM_MEM_LOG_DIRTY_PAGES,
			      piece_gpa(c, one), piece_size(c, one), hva);
		nr = c->page[one + 1] - c->page[one];

		for (round = 0; round < 2; round++) {
			/* The first read may be logged, for it maps. */
			for (page = 0; page < PIECES_PAGES; page++)
				probe_read(self->p, PROBE_GPA +
					   page * PAGE_SIZE);
			kvm_vm_get_dirty_log(vm, c->slot[one], log);
			for (page = 0; page < PIECES_PAGES; page++)
				probe_read(self->p, PROBE_GPA +
					   page * PAGE_SIZE);
			memset(log, 0, sizeof(log));
			kvm_vm_get_dirty_log(vm, c->slot[one], log);
			for (i = 0; i < DIV_ROUND_UP(nr, 64); i++)
				TEST_ASSERT(!log[i], "reads are logged as writes: word %lu is %#lx",
					    i, log[i]);

			/* Outside first, to see whether that spoils it. */
			for (page = 0; page < PIECES_PAGES; page++) {
				gpa = PROBE_GPA + page * PAGE_SIZE;
				if (page < c->page[one] ||
				    page >= c->page[one + 1])
					probe_write(self->p, gpa, page);
			}
			for (page = c->page[one] + round;
			     page < c->page[one + 1]; page += 3)
				probe_write(self->p, PROBE_GPA +
					    page * PAGE_SIZE, page);

			kvm_vm_get_dirty_log(vm, c->slot[one], log);
			for (i = 0; i < nr; i++) {
				bool want = i >= round && !((i - round) % 3);
				bool got = log[i / 64] & 1UL << i % 64;

				TEST_ASSERT(want == got,
					    "piece %d: page %lu was %swritten, but its bit is %d",
					    one, i, want ? "" : "not ", got);
			}
		}

		/* The others never cared. */
		faults = probe_faults(self->p);
		for (page = 0; page < PIECES_PAGES; page++) {
			gpa = PROBE_GPA + page * PAGE_SIZE;
			if (page < c->page[one] || page >= c->page[one + 1])
				probe_write(self->p, gpa, page);
		}
		TEST_ASSERT_EQ(probe_faults(self->p), faults);
		slot_must_set(vm, c->slot[one], 0, piece_gpa(c, one),
			      piece_size(c, one), hva);
	}
	assert_merge(self->dev, c);
	assert_all_there(self->p, &unity, -1);
}

/* Each piece is its host memory's, up to the page. */
TEST_F(pieces, host_memory_of_one_changes)
{
	const struct cuts *c = &quarters;
	const uint64_t page = c->page[1];
	char *hva = self->mem + page * PAGE_SIZE;
	const size_t size = piece_size(c, 1);
	uint64_t i, faults;

	assert_split(self->dev, c);
	for (i = 0; i < PIECES_PAGES; i++)
		probe_write(self->p, PROBE_GPA + i * PAGE_SIZE, i);

	TEST_ASSERT_EQ(madvise(hva, size, MADV_DONTNEED), 0);
	for (i = page; i < c->page[2]; i++)
		TEST_ASSERT_EQ(probe_read(self->p, PROBE_GPA + i * PAGE_SIZE), 0);
	for (i = page; i < c->page[2]; i++)
		probe_write(self->p, PROBE_GPA + i * PAGE_SIZE, i);
	assert_all_there(self->p, &unity, -1);

	assert_merge(self->dev, c);
	faults = probe_faults(self->p);
	assert_all_there(self->p, &unity, -1);
	TEST_ASSERT_EQ(probe_faults(self->p), faults);
}

/* Hole punching: SPLIT, and SHRINK of the middle to nothing. */
TEST_F(pieces, hole)
{
	struct kvm_vm *vm = probe_vm(self->p);
	const struct cuts *c = &quarters;
	uint64_t page, faults;

	REQUIRE_OP(KVM_MEMSLOT_OP_SHRINK);
	probe_loop(self->p, 1, PROBE_READ, PROBE_GPA, c->page[1]);
	assert_split(self->dev, c);
	/* All is mapped, as small as it must be. */
	for (page = 0; page < PIECES_PAGES; page++)
		probe_read(self->p, PROBE_GPA + page * PAGE_SIZE);
	probe_wait(self->p, 1);
	faults = probe_faults(self->p);
	TEST_ASSERT_EQ(slot_shrink(self->dev, c->slot[1], 0, NULL), 0);
	for (page = 0; page < PIECES_PAGES; page++) {
		if (page < c->page[1] || page >= c->page[2])
			TEST_ASSERT_EQ(probe_read(self->p, PROBE_GPA +
						  page * PAGE_SIZE), page);
	}
	if (!level_shadows())
		TEST_ASSERT_EQ(probe_faults(self->p), faults);
	assert_all_there(self->p, c, 1);
	TEST_ASSERT_EQ(munmap(self->mem + c->page[1] * PAGE_SIZE,
			      piece_size(c, 1)), 0);
	assert_all_there(self->p, c, 1);

	/* Nothing to merge over the hole; filled again, there is. */
	TEST_ASSERT_EQ(slot_merge(self->dev, c->slot[0], 1, &c->slot[2]),
		       EINVAL);
	TEST_ASSERT(mmap(self->mem + c->page[1] * PAGE_SIZE, piece_size(c, 1),
			 PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS |
			 MAP_FIXED, -1, 0) != MAP_FAILED, "no memory");
	slot_must_set(vm, c->slot[1], 0, piece_gpa(c, 1), piece_size(c, 1),
		      self->mem + c->page[1] * PAGE_SIZE);
	for (page = c->page[1]; page < c->page[2]; page++)
		probe_write(self->p, PROBE_GPA + page * PAGE_SIZE, page);
	assert_merge(self->dev, c);
	assert_all_there(self->p, &unity, -1);

	probe_stop(self->p);
	TEST_ASSERT(!probe_exits(self->p).reads,
		    "the first piece blinked: %lu MMIO exits",
		    probe_exits(self->p).reads);
}

/*
 * A piece may have arrays that are the same memory as the predecessor's, if that is large
 * enough to keep those of the whole, behind its end. When it has grown, some of that is other
 * memory: to merge the two must not take the rest for free.
 */
static void regrow_and_merge(struct probe *p, int dev, char *mem, bool by_kvm)
{
	const uint64_t frame = HUGE_SIZE / PAGE_SIZE;
	const struct cuts c = {
		.nr = 3,
		.page = { 0, 4 * frame, 5 * frame, PIECES_PAGES },
		.slot = { PROBE_SLOT, 13, 11 },
	};
	struct kvm_vm *vm = probe_vm(p);
	uint64_t page, faults;

	assert_split(dev, &c);
	if (by_kvm)
		slot_must_set(vm, c.slot[2], 0, piece_gpa(&c, 2), 0,
			      mem + c.page[2] * PAGE_SIZE);
	else
		TEST_ASSERT_EQ(slot_shrink(dev, c.slot[2], 0, NULL), 0);
	TEST_ASSERT_EQ(slot_grow(dev, c.slot[1], PIECES_RANGE - 4 * HUGE_SIZE),
		       0);
	for (page = 0; page < PIECES_PAGES; page++)
		TEST_ASSERT_EQ(probe_read(p, PROBE_GPA + page * PAGE_SIZE), page);
	faults = probe_faults(p);
	TEST_ASSERT_EQ(slot_merge(dev, c.slot[0], 1, &c.slot[1]), 0);
	for (page = 0; page < PIECES_PAGES; page++)
		TEST_ASSERT_EQ(probe_read(p, PROBE_GPA + page * PAGE_SIZE), page);
	TEST_ASSERT_EQ(probe_faults(p), faults);

	/* What is mapped is found by its host address: it can be taken away. */
	TEST_ASSERT_EQ(madvise(mem, PIECES_RANGE, MADV_DONTNEED), 0);
	for (page = 0; page < PIECES_PAGES; page++)
		TEST_ASSERT_EQ(probe_read(p, PROBE_GPA + page * PAGE_SIZE), 0);
	for (page = 0; page < PIECES_PAGES; page++)
		probe_write(p, PROBE_GPA + page * PAGE_SIZE, page);
}

TEST_F(pieces, regrown_and_merged)
{
	REQUIRE_ALL_OPS();
	regrow_and_merge(self->p, self->dev, self->mem, false);
	regrow_and_merge(self->p, self->dev, self->mem, true);
	regrow_and_merge(self->p, self->dev, self->mem, false);
	assert_all_there(self->p, &unity, -1);
}

/* The start moves up: SPLIT, and SHRINK of the first piece to nothing. */
TEST_F(pieces, start_moves_up)
{
	const struct cuts *c = &quarters;
	struct cuts rest = {
		.nr = 3,
		.page = { 300, 700, 1500, PIECES_PAGES },
		.slot = { c->slot[1], c->slot[2], c->slot[3] },
	};

	REQUIRE_OP(KVM_MEMSLOT_OP_SHRINK);
	assert_split(self->dev, c);
	TEST_ASSERT_EQ(slot_shrink(self->dev, c->slot[0], 0, NULL), 0);
	assert_merge(self->dev, &rest);
	assert_all_there(self->p, c, 0);
	slot_assert(probe_vm(self->p), c->slot[1], 0, piece_gpa(c, 1),
		    PIECES_RANGE - piece_size(c, 0),
		    self->mem + piece_size(c, 0));
	TEST_ASSERT_EQ(slot_shrink(self->dev, c->slot[0], 0, NULL), ENOENT);
}

/* Part of a slot is protected for a while: SPLIT, SET_READONLY, undo, MERGE. */
TEST_F(pieces, protected_part)
{
	const struct cuts *c = &quarters;
	struct probe_exits exits;
	int round;

	REQUIRE_OP(KVM_MEMSLOT_OP_SET_READONLY);
	probe_loop(self->p, 1, PROBE_WRITE, PROBE_GPA, PIECES_PAGES);
	for (round = 0; round < 5; round++) {
		probe_wait(self->p, 1);
		probe_forget_exits(self->p);
		assert_split(self->dev, c);
		TEST_ASSERT_EQ(slot_set_readonly(self->dev, c->slot[1], 1), 0);
		TEST_ASSERT_EQ(slot_merge(self->dev, c->slot[0], 1,
					  &c->slot[1]), EINVAL);
		probe_wait(self->p, 1);
		TEST_ASSERT_EQ(slot_set_readonly(self->dev, c->slot[1], 0), 0);
		probe_wait(self->p, 1);
		exits = probe_exits(self->p);
		assert_merge(self->dev, c);

		TEST_ASSERT(exits.writes >= c->page[2] - c->page[1],
			    "only %lu writes to what is protected came out",
			    exits.writes);
		TEST_ASSERT(exits.low >= piece_gpa(c, 1) &&
			    exits.high < piece_gpa(c, 2),
			    "writes between %#lx and %#lx came out, %#lx to %#lx was protected",
			    exits.low, exits.high, piece_gpa(c, 1),
			    piece_gpa(c, 2));
		TEST_ASSERT_EQ(exits.reads, 0);
		TEST_ASSERT_EQ(exits.wrong, 0);
	}
	probe_forget_exits(self->p);
	probe_wait(self->p, 2);
	probe_stop(self->p);
	TEST_ASSERT_EQ(probe_exits(self->p).writes, 0);
	assert_all_there(self->p, &unity, -1);
	slot_assert(probe_vm(self->p), PROBE_SLOT, 0, PROBE_GPA, PIECES_RANGE,
		    self->mem);
}

/* Pieces are split further, grow and shrink, and come together again. */
TEST_F(pieces, of_pieces)
{
	const struct cuts *c = &quarters;
	const struct kvm_memslot_cut again = { .offset = PAGE_SIZE, .slot = 20 };
	const uint32_t number = 20;

	REQUIRE_OP(KVM_MEMSLOT_OP_SHRINK);
	assert_split(self->dev, c);
	TEST_ASSERT_EQ(slot_split(self->dev, c->slot[2], 1, &again), 0);
	TEST_ASSERT_EQ(slot_grow(self->dev, c->slot[1],
				 piece_size(c, 1) + PAGE_SIZE), EEXIST);
	TEST_ASSERT_EQ(slot_shrink(self->dev, c->slot[1], PAGE_SIZE, NULL), 0);
	TEST_ASSERT_EQ(slot_grow(self->dev, c->slot[1], piece_size(c, 1)), 0);
	TEST_ASSERT_EQ(slot_merge(self->dev, c->slot[2], 1, &number), 0);
	assert_pieces(probe_vm(self->p), c, PROBE_GPA, self->mem);
	assert_merge(self->dev, c);
	assert_all_there(self->p, &unity, -1);
	slot_assert(probe_vm(self->p), PROBE_SLOT, 0, PROBE_GPA, PIECES_RANGE,
		    self->mem);
}

/* --------------------------------------------------------- faults that sleep */

struct layout_call {
	int dev;
	bool merge;
	const struct cuts *cuts;
};

static int call_layout(void *arg)
{
	struct layout_call *call = arg;

	if (call->merge)
		assert_merge(call->dev, call->cuts);
	else
		assert_split(call->dev, call->cuts);
	return 0;
}

/*
 * While the operation waits for a reader, another vCPU touches the frames that
 * cuts of the old layout, or the new one, go through.  They must not be mapped
 * huge: who still holds a slot of the other layout would not expect it.
 */
TEST_F(pieces, frames_are_touched_meanwhile)
{
	const struct cuts *c = &quarters;
	struct layout_call call = { .dev = self->dev, .cuts = c };
	struct kvm_vm *vm = probe_vm(self->p);
	const uint64_t page = PIECES_PAGES - 5;
	char *at = self->mem + page * PAGE_SIZE;
	uint64_t i, want = 0, unmapped;
	struct probe_result result;
	struct async op;
	int uffd, round;

	uffd = uffd_open();
	REQUIRE(uffd >= 0, "no userfaultfd");
	REQUIRE(trace_start(), "no tracefs to tell when the sets are swapped");
	/* The last frame is small from here on, and is not counted. */
	TEST_ASSERT_EQ(madvise(self->mem + 3 * HUGE_SIZE, HUGE_SIZE,
			       MADV_NOHUGEPAGE), 0);
	TEST_ASSERT_EQ(madvise(self->mem + 3 * HUGE_SIZE, HUGE_SIZE,
			       MADV_DONTNEED), 0);
	if (variant->host_pages == HOST_PAGES_THP)
		REQUIRE(vm_stat(vm, "pages_2m") == 3, "no huge pages");

	for (round = 0; round < 4; round++) {
		call.merge = round % 2;
		TEST_ASSERT(trace_start(), "the trace cannot be emptied");
		TEST_ASSERT_EQ(madvise(at, PAGE_SIZE, MADV_DONTNEED), 0);
		TEST_ASSERT(uffd_hold(uffd, at, PAGE_SIZE, false),
			    "no userfaultfd of the memory");
		probe_begin(self->p, 1, PROBE_WRITE, PROBE_GPA +
			    page * PAGE_SIZE, page);
		uffd_wait_for_fault(uffd, at);
		async_start(&op, call_layout, &call);
		async_wait_for_swap(&op, 1);

		/* Cuts are in frames 0, 1 and 2: none can be whole. */
		unmapped = 3 * HUGE_SIZE;
		TEST_ASSERT_EQ(mprotect(self->mem, unmapped, PROT_READ), 0);
		TEST_ASSERT_EQ(mprotect(self->mem, unmapped,
					PROT_READ | PROT_WRITE), 0);
		for (i = 0; i < 3 * HUGE_PAGES; i++)
			probe_write(self->p, PROBE_GPA + i * PAGE_SIZE, i);
		TEST_ASSERT(!vm_stat(vm, "pages_2m"),
			    "%s: %lu huge mappings while both layouts are in use",
			    call.merge ? "MERGE" : "SPLIT",
			    vm_stat(vm, "pages_2m"));
		TEST_ASSERT(!op.done && !probe_is_over(self->p, 1),
			    "somebody did not wait");

		uffd_resolve(uffd, at, false, 0);
		result = probe_end(self->p, 1);
		TEST_ASSERT(!result.nr_writes && !result.err,
			    "the write came out: %d times as MMIO, error %d",
			    result.nr_writes, result.err);
		TEST_ASSERT_EQ(*(uint64_t *)at, page);
		async_join(&op);
		uffd_release(uffd, at, PAGE_SIZE);

		TEST_ASSERT_EQ(mprotect(self->mem, unmapped, PROT_READ), 0);
		TEST_ASSERT_EQ(mprotect(self->mem, unmapped,
					PROT_READ | PROT_WRITE), 0);
		for (i = 0; i < 3 * HUGE_PAGES; i++)
			probe_write(self->p, PROBE_GPA + i * PAGE_SIZE, i);
		if (variant->host_pages == HOST_PAGES_THP)
			want = call.merge ? 3 : 0;
		TEST_ASSERT(vm_stat(vm, "pages_2m") == want,
			    "after %s: %lu huge mappings, not %lu",
			    call.merge ? "MERGE" : "SPLIT",
			    vm_stat(vm, "pages_2m"), want);
	}
	trace_stop();
	close(uffd);
}

/* ----------------------------------------------------- second address space */

/* System management mode has slots of its own, with the same numbers. */
TEST(second_address_space)
{
	struct kvm_vm *vm;
	struct cuts c[2];
	char *hva[2];
	int as, dev, round, i;

	REQUIRE_OP(KVM_MEMSLOT_OP_SPLIT);
	REQUIRE_OP(KVM_MEMSLOT_OP_MERGE);
	REQUIRE_OP(KVM_MEMSLOT_OP_SHRINK);
	REQUIRE(kvm_has_cap(KVM_CAP_MULTI_ADDRESS_SPACE), "one address space");
	host_seed();
	vm = vm_create_barebones();
	REQUIRE(vm_check_cap(vm, KVM_CAP_MULTI_ADDRESS_SPACE) > 1,
		"this VM has one address space");
	dev = memslot_ops_open(vm);

	for (as = 0; as < 2; as++) {
		hva[as] = host_map(RANGE, HUGE_SIZE, 0, HOST_PAGES_4K);
		slot_must_set(vm, SLOT(as, 3), 0, GIGA_SIZE, RANGE, hva[as]);
	}
	for (round = 0; round < 20; round++) {
		for (as = 0; as < 2; as++) {
			c[as] = random_cuts(host_random_between(2, 9),
					    SLOT(as, 3), 1, RANGE_PAGES,
					    RANGE_PAGES);
			assert_split(dev, &c[as]);
			if (as)
				assert_pieces(vm, &c[0], GIGA_SIZE, hva[0]);
			assert_pieces(vm, &c[as], GIGA_SIZE, hva[as]);
		}
		as = host_random() % 2;
		assert_merge(dev, &c[as]);
		assert_pieces(vm, &c[!as], GIGA_SIZE, hva[!as]);
		slot_assert(vm, SLOT(as, 3), 0, GIGA_SIZE, RANGE, hva[as]);
		/* What is gone there is still here. */
		TEST_ASSERT_EQ(slot_shrink(dev, SLOT(as, 3), 0, NULL), 0);
		assert_pieces(vm, &c[!as], GIGA_SIZE, hva[!as]);
		slot_must_set(vm, SLOT(as, 3), 0, GIGA_SIZE, RANGE, hva[as]);
		assert_merge(dev, &c[!as]);
		slot_assert(vm, SLOT(!as, 3), 0, GIGA_SIZE, RANGE, hva[!as]);
	}

	/* Numbers of pieces are in the slot's address space. */
	for (i = 0; i < 2; i++) {
		struct kvm_memslot_cut cut = {
			.offset = PAGE_SIZE,
			.slot = SLOT(!i, 9),
		};

		TEST_ASSERT_EQ(slot_split(dev, SLOT(i, 3), 1, &cut), EINVAL);
	}
	close(dev);
	kvm_vm_free(vm);
}

TEST_HARNESS_MAIN
