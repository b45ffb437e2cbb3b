// SPDX-License-Identifier: GPL-2.0
/*
 * On Intel's CPUs: page-modification logging is really at work where other
 * tests ask what the dirty log says.
 */
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>

#include "harness.h"

#include "kvm_util.h"
#include "processor.h"

#include "dirty_ring.h"
#include "host.h"
#include "memslot_ops.h"
#include "ops.h"
#include "probe.h"
#include "trace.h"

#define LOG		KVM_MEM_LOG_DIRTY_PAGES
/* More than a CPU can log before KVM has to look. */
#define NR_PAGES	1200UL
#define SIZE		(NR_PAGES * PAGE_SIZE)
#define PML_ENTRIES	512
#define OTHER_SLOT	(PROBE_SLOT + 1)

#define EXIT_PML_FULL	"62"

struct world {
	struct probe *p;
	struct kvm_vm *vm;
	char *mem;
	int dev;
	uint32_t index;			/* of a ring, up to where it has been harvested */
};

static void world_make(struct world *w, uint32_t ring_size)
{
	const struct probe_config config = {
		.nr_vcpus = 1,
		.size = SIZE,
		.ring_size = ring_size,
	};

	w->index = 0;
	w->p = probe_create(&config);
	w->vm = probe_vm(w->p);
	w->dev = memslot_ops_open(w->vm);
	w->mem = host_map(SIZE, HUGE_SIZE, 0, HOST_PAGES_4K);
	memset(w->mem, 0, SIZE);
	TEST_ASSERT_EQ(slot_set(w->vm, PROBE_SLOT, LOG, PROBE_GPA, SIZE, w->mem),
		       0);
}

static void world_free(struct world *w)
{
	close(w->dev);
	probe_free(w->p);
	munmap(w->mem, SIZE);
}

FIXTURE(pml) {
	struct world w;
};

FIXTURE_SETUP(pml)
{
	self->w.p = NULL;
	REQUIRE(host_has_pml(), "this host has no PML");
	REQUIRE_ALL_OPS();
	world_make(&self->w, 0);
}

FIXTURE_TEARDOWN(pml)
{
	if (self->w.p)
		world_free(&self->w);
}

/* One of KVM's events, where @filter is true of it; NULL: no more. */
static void trace_kvm(const char *event, const char *filter)
{
	char path[128];

	snprintf(path, sizeof(path), TRACEFS "events/kvm/%s/filter", event);
	TEST_ASSERT(!host_write(path, filter ? filter : "0"),
		    "KVM has no event %s", event);
	snprintf(path, sizeof(path), TRACEFS "events/kvm/%s/enable", event);
	host_write(path, filter ? "1" : "0");
}

static int nr_events(const char *event)
{
	char *line = NULL;
	size_t size = 0;
	FILE *trace;
	int nr = 0;

	trace = fopen(TRACEFS "trace", "r");
	TEST_ASSERT(trace, "cannot read the trace");
	while (getline(&line, &size, trace) > 0) {
		if (strstr(line, event))
			nr++;
	}
	fclose(trace);
	free(line);
	return nr;
}

/* Once to each page, while the buffer takes what it can. */
static void write_all(struct probe *p)
{
	probe_loop(p, 0, PROBE_WRITE, PROBE_GPA, NR_PAGES);
	probe_wait(p, 1);
}

static void assert_all_logged(struct kvm_vm *vm, uint32_t slot, uint64_t nr)
{
	uint64_t log[DIV_ROUND_UP(NR_PAGES, 64)] = { 0 }, i;

	kvm_vm_get_dirty_log(vm, slot, log);
	for (i = 0; i < nr; i++)
		TEST_ASSERT(test_bit(i, (void *)log),
			    "page %lu of slot %u is clean", i, slot);
}

/* All pages are mapped and have been written to, and KVM has forgotten that. */
static void write_and_clean(struct world *w)
{
	write_all(w->p);
	probe_stop(w->p);
	assert_all_logged(w->vm, PROBE_SLOT, NR_PAGES);
}

/*
 * Writes to clean pages are logged although no page fault tells KVM of them:
 * the CPU fills its buffer, and leaves the guest when that is full, unless an
 * interrupt makes it leave before.
 */
TEST_F(pml, the_cpu_logs)
{
	/* Between frames: beside another cut, pages would be mapped anew. */
	const struct kvm_memslot_cut cut = {
		.offset = HUGE_SIZE,
		.slot = OTHER_SLOT,
	};
	const uint64_t first = PROBE_GPA, end = PROBE_GPA + SIZE;
	struct world *w = &self->w;
	char in_range[96];
	int round;

	snprintf(in_range, sizeof(in_range),
		 "fault_address >= %#lx && fault_address < %#lx", first, end);
	write_and_clean(w);
	REQUIRE(trace_start(), "there is no tracefs");
	trace_kvm("kvm_exit", "exit_reason == " EXIT_PML_FULL);
	trace_kvm("kvm_page_fault", in_range);
	for (round = 0; round < 100 && !nr_events("kvm_exit: "); round++)
		write_and_clean(w);
	ksft_print_msg("the buffer was full in round %d\n", round);
	TEST_ASSERT(nr_events("kvm_exit: "), "the CPU's buffer is never full");

	write_all(w->p);
	TEST_ASSERT_EQ(slot_split(w->dev, PROBE_SLOT, 1, &cut), 0);
	probe_stop(w->p);
	trace_kvm("kvm_exit", NULL);
	trace_kvm("kvm_page_fault", NULL);
	trace_stop();
	assert_all_logged(w->vm, PROBE_SLOT, HUGE_PAGES);
	assert_all_logged(w->vm, OTHER_SLOT, NR_PAGES - HUGE_PAGES);
	TEST_ASSERT(!nr_events("kvm_page_fault: "),
		    "%d page faults: it was not the CPU that logged",
		    nr_events("kvm_page_fault: "));
}

/* What a CPU may still know of, KVM cannot: all that SHRINK takes away is dirty. */
TEST_F(pml, a_tail_is_all_dirty)
{
	const uint64_t tail = 100;
	struct world *w = &self->w;
	uint64_t bits[2] = { 0 };
	int i;

	write_and_clean(w);
	TEST_ASSERT_EQ(slot_shrink(w->dev, PROBE_SLOT, SIZE - tail * PAGE_SIZE,
				   bits), 0);
	for (i = 0; i < tail; i++)
		TEST_ASSERT(test_bit(i, (void *)bits), "page %d is clean", i);
}

/* ------------------------------------------ a buffer that is emptied late */

/* The vCPU writes to this one, and to one that stays. */
#define TAIL_PAGE	(NR_PAGES - 1)
#define HOG_NS		200000000UL

static pthread_t hog;
static sem_t hog_begins;
static bool hog_ends;

/* Keeps the CPU busy for a while, whenever it is told. */
static void *hog_main(void *arg)
{
	struct timespec start, now;

	for (;;) {
		sem_wait(&hog_begins);
		if (READ_ONCE(hog_ends))
			return NULL;
		clock_gettime(CLOCK_MONOTONIC, &start);
		do {
			clock_gettime(CLOCK_MONOTONIC, &now);
		} while (timespec_to_ns(timespec_sub(now, start)) < HOG_NS);
	}
}

static void schedule_as(int policy, int priority)
{
	const struct sched_param param = { .sched_priority = priority };

	TEST_ASSERT(!sched_setscheduler(0, policy, &param),
		    "cannot be scheduled by policy %d: %s", policy,
		    strerror(errno));
}

/* The vCPU has what CPU time nobody else wants, and this thread what it wants. */
static void begin_late(struct world *w, uint32_t ring_size)
{
	const struct probe_range ranges[] = {
		{ .gpa = PROBE_GPA, .nr = 1, .stride = 1 },
		{ .gpa = PROBE_GPA + TAIL_PAGE * PAGE_SIZE, .nr = 1, .stride = 1 },
	};

	host_seed();
	world_make(w, ring_size);

	/* Threads are scheduled as the one that makes them. */
	sem_init(&hog_begins, 0, 0);
	pthread_create(&hog, NULL, hog_main, NULL);
	schedule_as(SCHED_IDLE, 0);
	probe_loop_ranges(w->p, 0, PROBE_WRITE, ranges, ARRAY_SIZE(ranges));
	schedule_as(SCHED_FIFO, 1);
}

static void end_late(struct world *w)
{
	if (!w->p)
		return;
	WRITE_ONCE(hog_ends, true);
	sem_post(&hog_begins);
	pthread_join(hog, NULL);
	world_free(w);
}

/*
 * The interrupt that wakes this thread makes the vCPU leave the guest, and the thread runs
 * before the vCPU can empty its buffer, of which the only CPU has no time left for it: when
 * @end_writes has kept it from the tail, the log must have what it wrote there all the same.
 */
static void assert_late_is_logged(struct world *w, void (*end_writes)(struct world *),
				  bool (*log_names_tail)(struct world *),
				  void (*begin_writes)(struct world *))
{
	uint64_t *word = (void *)(w->mem + TAIL_PAGE * PAGE_SIZE);
	int round, nr_written = 0;
	uint64_t before;

	for (round = 0; round < 40; round++) {
		probe_wait(w->p, 10);
		log_names_tail(w);
		before = READ_ONCE(*word);
		usleep(host_random_between(200, 3000));
		sem_post(&hog_begins);
		end_writes(w);
		if (READ_ONCE(*word) != before) {
			nr_written++;
			TEST_ASSERT(log_names_tail(w),
				    "round %d: a write to the tail is not in the log",
				    round);
		}
		begin_writes(w);
	}
	ksft_print_msg("the tail was written to in %d of %d rounds\n",
		       nr_written, round);
	TEST_ASSERT(nr_written, "the vCPU never wrote to it");
}

FIXTURE(late_ring) {
	struct world w;
};

FIXTURE_SETUP(late_ring)
{
	self->w.p = NULL;
	REQUIRE(host_has_pml(), "this host has no PML");
	REQUIRE(kvm_has_cap(KVM_CAP_DIRTY_LOG_RING_ACQ_REL),
		"this KVM has no dirty rings");
	REQUIRE_ALL_OPS();
	begin_late(&self->w, ring_size());
}

FIXTURE_TEARDOWN(late_ring)
{
	end_late(&self->w);
}

/* Whether the ring names the page, by the slot's number or as one of a tail. */
static bool ring_names_tail(struct world *w)
{
	struct kvm_vcpu *vcpu = probe_vcpu(w->p, 0);
	uint32_t slot, nr = 0;
	uint64_t offset;
	bool named = false;

	while (ring_harvest(vcpu, &w->index, &slot, &offset)) {
		named |= slot == RING_NO_SLOT ? !offset :
			 slot == PROBE_SLOT && offset == TAIL_PAGE;
		nr++;
	}
	TEST_ASSERT_EQ(kvm_vm_reset_dirty_ring(w->vm), nr);
	return named;
}

static void remove_tail(struct world *w)
{
	TEST_ASSERT_EQ(slot_shrink(w->dev, PROBE_SLOT, SIZE - PAGE_SIZE, NULL), 0);
	/* The vCPU has been everywhere since. */
	probe_wait(w->p, 2);
}

static void add_tail(struct world *w)
{
	TEST_ASSERT_EQ(slot_grow(w->dev, PROBE_SLOT, SIZE), 0);
}

/* Before it is, the tail must not have vanished. */
TEST_F(late_ring, is_filled_before_the_tail_vanishes)
{
	assert_late_is_logged(&self->w, remove_tail, ring_names_tail, add_tail);
}

FIXTURE(late_bitmap) {
	struct world w;
};

FIXTURE_SETUP(late_bitmap)
{
	self->w.p = NULL;
	REQUIRE(host_has_pml(), "this host has no PML");
	REQUIRE_ALL_OPS();
	begin_late(&self->w, 0);
}

FIXTURE_TEARDOWN(late_bitmap)
{
	end_late(&self->w);
}

static bool bitmap_names_tail(struct world *w)
{
	uint64_t bits = 0;

	kvm_vm_get_dirty_log(w->vm, OTHER_SLOT, &bits);
	return bits;
}

static void protect_tail(struct world *w)
{
	TEST_ASSERT_EQ(slot_set_readonly(w->dev, OTHER_SLOT, 1), 0);
}

static void unprotect_tail(struct world *w)
{
	TEST_ASSERT_EQ(slot_set_readonly(w->dev, OTHER_SLOT, 0), 0);
}

/* Nobody writes to what is read-only: whoever asks for its log then may ask for the last time. */
TEST_F(late_bitmap, is_filled_before_protect_returns)
{
	const struct kvm_memslot_cut cut = {
		.offset = TAIL_PAGE * PAGE_SIZE,
		.slot = OTHER_SLOT,
	};

	TEST_ASSERT_EQ(slot_split(self->w.dev, PROBE_SLOT, 1, &cut), 0);
	assert_late_is_logged(&self->w, protect_tail, bitmap_names_tail, unprotect_tail);
}

/* --------------------------------------------------------------- the rings */

/* KVM keeps as many entries of a ring as a CPU logs before it looks. */
TEST(pml_rings)
{
	struct kvm_vm *vm;
	int ret;

	REQUIRE(host_has_pml(), "this host has no PML");
	REQUIRE(kvm_has_cap(KVM_CAP_DIRTY_LOG_RING_ACQ_REL),
		"this KVM has no dirty rings");
	vm = vm_create_barebones();
	ret = __vm_enable_cap(vm, KVM_CAP_DIRTY_LOG_RING_ACQ_REL,
			      ring_size() / 2);
	TEST_ASSERT(ret && errno == EINVAL, "a ring of %u entries is taken",
		    ring_entries() / 2);
	TEST_ASSERT(ring_entries() / 2 <= 64 + PML_ENTRIES, "it is too small");
	vm_enable_dirty_ring(vm, ring_size());
	kvm_vm_free(vm);
}

TEST_HARNESS_MAIN
