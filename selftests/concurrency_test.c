// SPDX-License-Identifier: GPL-2.0
/*
 * GROW among everything else: other operations, KVM's own changes of slots, and
 * a host that does things to the memory.  Each thread does a fixed number of
 * random things; then all is checked.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <sys/wait.h>

#include "harness.h"

#include "kvm_util.h"
#include "processor.h"

#include "hammer.h"
#include "memslot_ops.h"
#include "xorshift.h"

/* The slots that grow lie side by side in the range that vCPUs hammer. */
#define NR_SLOTS	4
#define SPACE_PAGES	1024UL
#define RANGE_PAGES	(NR_SLOTS * SPACE_PAGES)
#define FIRST_PAGES	64
#define NR_GROWS	200

/* Slots that others make, change and delete. */
#define OTHER_GPA	(16 * GIGA_SIZE)
#define OTHER_PAGES	512UL
#define NR_OTHERS	6
#define OTHER_ID	(HAMMER_SLOT + NR_SLOTS)

/* What MADV_COLLAPSE and MADV_PAGEOUT are to older headers. */
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE	25
#endif

struct grown {
	uint64_t gpa;
	char *hva;
	/* No smaller than what succeeded; no larger than what was tried. */
	atomic_ulong done;
};

struct scene {
	struct hammer *h;
	struct grown slot[NR_SLOTS];
	char *other_mem;
	atomic_bool stop;
};

struct actor {
	pthread_t thread;
	struct scene *scene;
	int dev;
	uint64_t random;
	uint64_t nr_done, nr_refused;
};

static uint64_t actor_random(struct actor *a, uint64_t below)
{
	return xorshift(&a->random) % below;
}

static void raise_to(atomic_ulong *value, uint64_t to)
{
	uint64_t was = *value;

	while (was < to && !atomic_compare_exchange_weak(value, &was, to))
		;
}

/* Several of these work on the same slots, so one may be overtaken. */
static void *grow_slots(void *arg)
{
	struct actor *a = arg;
	uint64_t before, pages;
	struct grown *slot;
	int i, id, err;

	for (i = 0; i < NR_GROWS; i++) {
		id = actor_random(a, NR_SLOTS);
		slot = &a->scene->slot[id];
		before = slot->done;
		pages = min(before + 1 + actor_random(a, 16), SPACE_PAGES);

		err = slot_grow(a->dev, HAMMER_SLOT + id, pages * PAGE_SIZE);
		if (!err) {
			TEST_ASSERT(pages > before, "slot %d shrank", id);
			raise_to(&slot->done, pages);
			a->nr_done++;
			continue;
		}
		/* Somebody was faster, or was at the end of the space. */
		TEST_ASSERT(err == EINVAL, "GROW of slot %d to %lu pages: %s",
			    id, pages, strerror(err));
		a->nr_refused++;
	}
	return NULL;
}

/* Whatever KVM offers, on slots that nobody hammers. */
static void *change_others(void *arg)
{
	struct actor *a = arg;
	struct scene *s = a->scene;
	uint64_t gpa[NR_OTHERS] = { 0 }, spot;
	uint32_t flags;
	int i, err;

	while (!s->stop) {
		i = actor_random(a, NR_OTHERS);
		/* Places of their own, two for each. */
		spot = OTHER_GPA + (2 * i + actor_random(a, 2)) *
		       OTHER_PAGES * PAGE_SIZE;
		flags = actor_random(a, 2) ? KVM_MEM_LOG_DIRTY_PAGES : 0;
		switch (gpa[i] ? actor_random(a, 3) : 3) {
		case 0:			/* delete */
			err = slot_set(hammer_vm(s->h), OTHER_ID + i, 0, 0, 0,
				       NULL);
			gpa[i] = 0;
			break;
		case 1:			/* flags */
			spot = gpa[i];
			fallthrough;
		default:		/* move, or create */
			err = slot_set(hammer_vm(s->h), OTHER_ID + i, flags,
				       spot, OTHER_PAGES * PAGE_SIZE,
				       s->other_mem +
				       i * OTHER_PAGES * PAGE_SIZE);
			gpa[i] = spot;
		}
		TEST_ASSERT(!err, "KVM refuses slot %d: %s", OTHER_ID + i,
			    strerror(err));
		a->nr_done++;
	}
	return NULL;
}

static void fork_once(void)
{
	int pid = fork();

	if (!pid)
		_exit(0);
	if (pid > 0)
		waitpid(pid, NULL, 0);
}

static void map_something(struct actor *a)
{
	size_t size = (1 + actor_random(a, 64)) * PAGE_SIZE;
	char *map = mmap(NULL, size, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (map == MAP_FAILED)
		return;
	map[0] = 1;
	munmap(map, size);
}

/* The host does to the memory what it can without losing any of it. */
static void *disturb_memory(void *arg)
{
	struct actor *a = arg;
	struct scene *s = a->scene;
	char *range = hammer_hva(s->h), *other = s->other_mem;
	uint64_t first, size;

	while (!s->stop) {
		first = actor_random(a, RANGE_PAGES) * PAGE_SIZE;
		size = (1 + actor_random(a, 1024)) * PAGE_SIZE;
		size = min(size, (uint64_t)(RANGE_PAGES * PAGE_SIZE - first));

		switch (actor_random(a, 9)) {
		case 0:
			mprotect(range + first, size,
				 PROT_READ | PROT_WRITE | PROT_EXEC);
			break;
		case 1:
			mprotect(range + first, size, PROT_READ | PROT_WRITE);
			break;
		case 2:
			madvise(range + first, size, MADV_PAGEOUT);
			break;
		case 3:
			madvise(range + align_down(first, HUGE_SIZE), HUGE_SIZE,
				MADV_COLLAPSE);
			break;
		case 4:
			fork_once();
			break;
		case 5:
			map_something(a);
			break;
		case 6:
			madvise(other, NR_OTHERS * OTHER_PAGES * PAGE_SIZE,
				MADV_DONTNEED);
			break;
		case 7:
			mprotect(other, OTHER_PAGES * PAGE_SIZE, PROT_READ);
			mprotect(other, OTHER_PAGES * PAGE_SIZE,
				 PROT_READ | PROT_WRITE);
			break;
		case 8:
			madvise(range + first, size, MADV_COLD);
			break;
		}
		a->nr_done++;
	}
	return NULL;
}

static void make_scene(struct scene *s)
{
	const struct hammer_config config = {
		.nr_vcpus = 2,
		.max_size = RANGE_PAGES * PAGE_SIZE,
		.host_pages = HOST_PAGES_THP,
	};
	int i, err;

	memset(s, 0, sizeof(*s));
	s->h = hammer_create(&config);
	s->other_mem = host_map(NR_OTHERS * OTHER_PAGES * PAGE_SIZE, HUGE_SIZE,
				0, HOST_PAGES_4K);
	for (i = 0; i < NR_SLOTS; i++) {
		struct grown *g = &s->slot[i];

		g->gpa = hammer_gpa(s->h) + i * SPACE_PAGES * PAGE_SIZE;
		g->hva = hammer_hva(s->h) + i * SPACE_PAGES * PAGE_SIZE;
		g->done = FIRST_PAGES;
		err = slot_set(hammer_vm(s->h), HAMMER_SLOT + i, 0, g->gpa,
			       FIRST_PAGES * PAGE_SIZE, g->hva);
		TEST_ASSERT(!err, "cannot make slot %d: %s", i, strerror(err));
	}
}

static void start(struct actor *a, struct scene *s, int dev,
		  void *(*act)(void *arg))
{
	a->scene = s;
	a->dev = dev;
	a->random = host_random() | 1;
	pthread_create(&a->thread, NULL, act, a);
}

static void finish(struct actor *a)
{
	pthread_join(a->thread, NULL);
}

static void check_scene(struct scene *s)
{
	uint64_t pages;
	int i;

	for (i = 0; i < NR_SLOTS; i++) {
		pages = s->slot[i].done;
		slot_assert(hammer_vm(s->h), HAMMER_SLOT + i, 0, s->slot[i].gpa,
			    pages * PAGE_SIZE, s->slot[i].hva);
		hammer_sweep(s->h, i * SPACE_PAGES, pages, HAMMER_ALL);
	}
	hammer_assert_no_bad_exits(s->h);
	hammer_verify(s->h);
}

TEST(grow_amid_everything)
{
	struct actor growers[3] = { 0 }, others = { 0 }, noise = { 0 };
	uint64_t done = 0, refused = 0;
	struct scene s;
	int dev[2], i;

	REQUIRE_OP(KVM_MEMSLOT_OP_GROW);
	host_seed();
	make_scene(&s);
	dev[0] = memslot_ops_open(hammer_vm(s.h));
	dev[1] = memslot_ops_open(hammer_vm(s.h));

	/* The vCPUs stay in the first slot's first pages; all sweep at the end. */
	hammer_run(s.h, FIRST_PAGES);
	start(&others, &s, -1, change_others);
	start(&noise, &s, -1, disturb_memory);
	for (i = 0; i < ARRAY_SIZE(growers); i++)
		start(&growers[i], &s, dev[i % 2], grow_slots);

	for (i = 0; i < ARRAY_SIZE(growers); i++) {
		finish(&growers[i]);
		done += growers[i].nr_done;
		refused += growers[i].nr_refused;
	}
	s.stop = true;
	finish(&others);
	finish(&noise);
	ksft_print_msg("%lu GROWs, %lu overtaken, %lu changes of other slots, %lu disturbances\n",
		       done, refused, others.nr_done, noise.nr_done);

	for (i = 0; i < ARRAY_SIZE(dev); i++)
		memslot_ops_assert_stats(dev[i], done, done, refused);
	TEST_ASSERT(done && others.nr_done && noise.nr_done,
		    "somebody did nothing");
	check_scene(&s);
	close(dev[0]);
	close(dev[1]);
	hammer_free(s.h);
}

/* Every page of a slot that grows is used as soon as it can be. */
TEST(grow_under_the_vcpus_feet)
{
	struct actor noise = { 0 }, others = { 0 };
	uint64_t pages = FIRST_PAGES;
	struct scene s;
	int dev, i, err;

	REQUIRE_OP(KVM_MEMSLOT_OP_GROW);
	host_seed();
	make_scene(&s);
	dev = memslot_ops_open(hammer_vm(s.h));
	/* The first slot gets all the range to itself. */
	for (i = 1; i < NR_SLOTS; i++)
		TEST_ASSERT_EQ(slot_set(hammer_vm(s.h), HAMMER_SLOT + i, 0, 0, 0,
					NULL), 0);

	hammer_run(s.h, pages);
	start(&others, &s, -1, change_others);
	start(&noise, &s, -1, disturb_memory);
	while (pages < RANGE_PAGES) {
		pages = min(pages + host_random_between(1, 64), RANGE_PAGES);
		err = slot_grow(dev, HAMMER_SLOT, pages * PAGE_SIZE);
		TEST_ASSERT(!err, "GROW to %lu pages: %s", pages, strerror(err));
		hammer_extend(s.h, pages);
		hammer_wait(s.h, 10);
	}
	s.stop = true;
	finish(&others);
	finish(&noise);

	hammer_sweep(s.h, 0, pages, HAMMER_ALL);
	hammer_assert_no_bad_exits(s.h);
	hammer_verify(s.h);
	close(dev);
	hammer_free(s.h);
}

TEST_HARNESS_MAIN
