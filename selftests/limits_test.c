// SPDX-License-Identifier: GPL-2.0
/*
 * A caller who means ill: what it can make the kernel pin, allocate or wait for
 * has a limit, and it can be killed.
 */
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "harness.h"

#include "kvm_util.h"
#include "processor.h"

#include "async.h"
#include "host.h"
#include "memslot_ops.h"
#include "ops.h"
#include "probe.h"
#include "trace.h"

#define ID		3
#define OTHER		4
#define GPA		(4 * GIGA_SIZE)
#define OTHER_GPA	(2 * GIGA_SIZE)
/* Of dirty bits, those that fill a page. */
#define BITS_PER_PAGE	(8UL * PAGE_SIZE)
#define LOG		KVM_MEM_LOG_DIRTY_PAGES

/* Addresses matter, and not what is there. */
static char *const nowhere = (char *)(16UL << 40);

/* A VM with a slot whose dirty bits are set, all of them, and another one. */
struct logger {
	struct kvm_vm *vm;
	int dev;
};

static struct logger logger_make(uint64_t npages)
{
	struct logger l = { .vm = vm_create_barebones() };

	vm_enable_cap(l.vm, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2,
		      KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE |
		      KVM_DIRTY_LOG_INITIALLY_SET);
	l.dev = memslot_ops_open(l.vm);
	slot_must_set(l.vm, ID, LOG, GPA, npages * PAGE_SIZE, nowhere);
	slot_must_set(l.vm, OTHER, 0, OTHER_GPA, PAGE_SIZE,
		      nowhere - GIGA_SIZE);
	return l;
}

static void logger_free(struct logger *l)
{
	close(l->dev);
	kvm_vm_free(l->vm);
}

static void limit_locked_pages(unsigned long nr)
{
	struct rlimit limit = { nr * PAGE_SIZE, nr * PAGE_SIZE };

	TEST_ASSERT(!setrlimit(RLIMIT_MEMLOCK, &limit), "cannot set a limit");
}

/* SHRINK as a call for async_start(). */
struct shrink {
	int dev;
	uint64_t size;
	void *bitmap;
};

static int call_shrink(void *arg)
{
	struct shrink *s = arg;

	return slot_shrink(s->dev, ID, s->size, s->bitmap);
}

static int call_grow(void *arg)
{
	struct shrink *s = arg;

	return slot_grow(s->dev, ID, s->size);
}

/* ------------------------------------------------------ SHRINK's buffer */

#define NR_LOCKED	8

/* It counts as locked memory, which an ordinary user may not have without limit. */
TEST(rlimit_memlock)
{
	char *buffer = host_map((NR_LOCKED + 1) * PAGE_SIZE, PAGE_SIZE, 0,
				HOST_PAGES_4K);
	const uint64_t tail = NR_LOCKED * BITS_PER_PAGE;
	unsigned long before;
	struct logger l;

	REQUIRE_ALL_OPS();
	l = logger_make(tail + 1);
	before = host_locked_pages();

	/* Root may, but not the VMM that root starts. */
	limit_locked_pages(0);
	TEST_ASSERT_EQ(slot_shrink(l.dev, ID, tail * PAGE_SIZE, buffer), 0);
	TEST_ASSERT_EQ(slot_grow(l.dev, ID, (tail + 1) * PAGE_SIZE), 0);
	limit_locked_pages(before + NR_LOCKED);
	TEST_ASSERT(!setresuid(65534, 65534, 65534), "cannot be a user");

	/* In one page more than there are bits. */
	TEST_ASSERT_EQ(slot_shrink(l.dev, ID, PAGE_SIZE, buffer + 8), ENOMEM);
	slot_assert(l.vm, ID, LOG, GPA, (tail + 1) * PAGE_SIZE, nowhere);
	TEST_ASSERT_EQ(host_locked_pages(), before);
	memslot_ops_assert_stats(l.dev, 2, 2, 1);

	TEST_ASSERT_EQ(slot_shrink(l.dev, ID, PAGE_SIZE, buffer), 0);
	slot_assert(l.vm, ID, LOG, GPA, PAGE_SIZE, nowhere);
	TEST_ASSERT_EQ(host_locked_pages(), before);

	/* Nothing is locked where the buffer is no good. */
	TEST_ASSERT_EQ(slot_grow(l.dev, ID, (tail + 1) * PAGE_SIZE), 0);
	munmap(buffer + PAGE_SIZE, PAGE_SIZE);
	TEST_ASSERT_EQ(slot_shrink(l.dev, ID, PAGE_SIZE, buffer), EFAULT);
	TEST_ASSERT_EQ(host_locked_pages(), before);
	logger_free(&l);
}

/* A buffer whose first page does not come until the test says so. */
FIXTURE(missing_buffer) {
	struct logger l;
	struct shrink shrink;
	struct async caller;
	char *buffer;
	int uffd;
};

/* What is left of the slot, and what it has beside. */
#define KEPT		10
#define TAIL		BITS_PER_PAGE
#define BUFFER_SIZE	(4 * PAGE_SIZE)
/* What is in the buffer before. */
#define FILL		0x5a

FIXTURE_SETUP(missing_buffer)
{
	self->l.vm = NULL;
	REQUIRE_ALL_OPS();
	self->uffd = uffd_open();
	REQUIRE(self->uffd >= 0, "no userfaultfd");
	self->l = logger_make(KEPT + TAIL);
	self->buffer = host_map(BUFFER_SIZE, PAGE_SIZE, 0, HOST_PAGES_4K);
	memset(self->buffer + PAGE_SIZE, FILL, BUFFER_SIZE - PAGE_SIZE);
	TEST_ASSERT(uffd_hold(self->uffd, self->buffer, PAGE_SIZE, false),
		    "cannot hold a page");
	self->shrink = (struct shrink) {
		.dev = self->l.dev,
		.size = KEPT * PAGE_SIZE,
		.bitmap = self->buffer,
	};
}

FIXTURE_TEARDOWN(missing_buffer)
{
	if (!self->l.vm)
		return;
	logger_free(&self->l);
	close(self->uffd);
}

struct others {
	struct logger *l;
	uint64_t *log;
};

static int call_others(void *arg)
{
	struct others *o = arg;
	int dev = o->l->dev;

	kvm_vm_get_dirty_log(o->l->vm, ID, o->log);
	slot_assert(o->l->vm, OTHER, 0, OTHER_GPA, PAGE_SIZE,
		    nowhere - GIGA_SIZE);
	return slot_grow(dev, OTHER, 2 * PAGE_SIZE) ?:
	       slot_shrink(dev, OTHER, PAGE_SIZE, NULL);
}

TEST_F(missing_buffer, keeps_nobody_waiting_and_can_be_killed)
{
	struct others o = { &self->l, calloc(2, PAGE_SIZE) };
	struct async others;

	async_start_process(&self->caller, call_shrink, &self->shrink);
	uffd_wait_for_fault(self->uffd, self->buffer);

	async_start(&others, call_others, &o);
	TEST_ASSERT(host_wait_seconds(20, async_is_done, &others),
		    "who wants to change another slot has to wait");
	async_must_succeed(&others, "another slot's changes");
	TEST_ASSERT(!self->caller.done, "SHRINK did not wait for its buffer");

	async_kill(&self->caller);
	TEST_ASSERT(async_dies(&self->caller), "SHRINK outlives SIGKILL");
	memslot_ops_assert_stats(self->l.dev, 2, 2, 1);
	TEST_ASSERT_EQ(host_locked_pages(), 0);
	slot_assert(self->l.vm, ID, LOG, GPA, (KEPT + TAIL) * PAGE_SIZE,
		    nowhere);

	/* The VM goes on. */
	uffd_release(self->uffd, self->buffer, PAGE_SIZE);
	TEST_ASSERT_EQ(call_shrink(&self->shrink), 0);
	slot_assert(self->l.vm, ID, LOG, GPA, KEPT * PAGE_SIZE, nowhere);
	free(o.log);
}

/* In words, those of a bitmap of @nr pages that are all dirty; then there is what was there. */
static void assert_bits(const char *buffer, uint64_t nr)
{
	const uint64_t *words = (const uint64_t *)buffer;
	uint64_t i;

	for (i = 0; i < nr / 64; i++)
		TEST_ASSERT(words[i] == -1UL, "word %lu is %#lx", i, words[i]);
	if (nr % 64)
		TEST_ASSERT_EQ(words[i++], (1UL << nr % 64) - 1);
	for (i *= 8; i < BUFFER_SIZE; i++)
		TEST_ASSERT((uint8_t)buffer[i] == FILL,
			    "byte %lu was written to: %#x", i, buffer[i]);
}

static int shrink_through(struct _test_data_missing_buffer *self,
			  void (*change)(struct logger *l))
{
	async_start(&self->caller, call_shrink, &self->shrink);
	uffd_wait_for_fault(self->uffd, self->buffer);
	change(&self->l);
	uffd_resolve(self->uffd, self->buffer, false, FILL);
	return async_join(&self->caller);
}

static void grow_it(struct logger *l)
{
	TEST_ASSERT_EQ(slot_grow(l->dev, ID,
				 (KEPT + 2 * TAIL + 5) * PAGE_SIZE), 0);
}

static void cut_it(struct logger *l)
{
	const struct kvm_memslot_cut cut = {
		.offset = (KEPT + 70) * PAGE_SIZE,
		.slot = OTHER + 1,
	};

	TEST_ASSERT_EQ(slot_split(l->dev, ID, 1, &cut), 0);
}

static void delete_it(struct logger *l)
{
	TEST_ASSERT_EQ(slot_shrink(l->dev, ID, 0, NULL), 0);
}

static void shrink_it(struct logger *l)
{
	TEST_ASSERT_EQ(slot_shrink(l->dev, ID, KEPT * PAGE_SIZE, NULL), 0);
}

static void stop_its_log(struct logger *l)
{
	slot_must_set(l->vm, ID, 0, GPA, (KEPT + TAIL) * PAGE_SIZE, nowhere);
}

/* The slot is another when the buffer is there at last. */
TEST_F(missing_buffer, slot_grows_meanwhile)
{
	TEST_ASSERT_EQ(shrink_through(self, grow_it), 0);
	slot_assert(self->l.vm, ID, LOG, GPA, KEPT * PAGE_SIZE, nowhere);
	assert_bits(self->buffer, 2 * TAIL + 5);
}

TEST_F(missing_buffer, slot_is_cut_meanwhile)
{
	TEST_ASSERT_EQ(shrink_through(self, cut_it), 0);
	slot_assert(self->l.vm, ID, LOG, GPA, KEPT * PAGE_SIZE, nowhere);
	assert_bits(self->buffer, 70);
}

TEST_F(missing_buffer, slot_goes_meanwhile)
{
	TEST_ASSERT_EQ(shrink_through(self, delete_it), ENOENT);
	assert_bits(self->buffer, 0);
}

TEST_F(missing_buffer, slot_shrinks_meanwhile)
{
	TEST_ASSERT_EQ(shrink_through(self, shrink_it), EINVAL);
	assert_bits(self->buffer, 0);
}

TEST_F(missing_buffer, log_ends_meanwhile)
{
	TEST_ASSERT_EQ(shrink_through(self, stop_its_log), EINVAL);
	assert_bits(self->buffer, 0);
}

/* ---------------------------------------------------------------- waits */

/* A vCPU sleeps in a page fault, and operations wait for it. */
struct sleeper {
	struct probe *p;
	char *mem, *page;
	int dev, uffd;
};

static void sleeper_make(struct sleeper *s, int uffd, uint64_t size)
{
	const struct probe_config config = { .nr_vcpus = 1, .size = HUGE_SIZE };

	s->uffd = uffd;
	s->p = probe_create(&config);
	s->dev = memslot_ops_open(probe_vm(s->p));
	s->mem = host_map(size + HUGE_SIZE, HUGE_SIZE, 0, HOST_PAGES_4K);
	s->page = s->mem + 5 * PAGE_SIZE;
	slot_must_set(probe_vm(s->p), ID, 0, PROBE_GPA, size, s->mem);
	probe_read(s->p, PROBE_GPA);
	TEST_ASSERT(uffd_hold(uffd, s->page, PAGE_SIZE, false),
		    "cannot hold a page");
	probe_begin(s->p, 0, PROBE_READ, PROBE_GPA + 5 * PAGE_SIZE, 0);
	uffd_wait_for_fault(uffd, s->page);
}

static void sleeper_wake(struct sleeper *s)
{
	struct probe_result result;

	uffd_resolve(s->uffd, s->page, false, 0);
	result = probe_end(s->p, 0);
	TEST_ASSERT(!result.err && !result.nr_reads, "the vCPU fails");
}

static void sleeper_free(struct sleeper *s)
{
	close(s->dev);
	probe_free(s->p);
}

FIXTURE(killed) {
	struct sleeper s;
	struct shrink grow;
	struct async caller;
	int uffd;
};

#define SIZE		(64 * PAGE_SIZE)

FIXTURE_SETUP(killed)
{
	self->s.p = NULL;
	REQUIRE_ALL_OPS();
	self->uffd = uffd_open();
	REQUIRE(self->uffd >= 0, "no userfaultfd");
	REQUIRE(trace_start(), "no tracefs to tell when it has swapped");
	sleeper_make(&self->s, self->uffd, SIZE);
	self->grow = (struct shrink) { self->s.dev, 2 * SIZE };
}

FIXTURE_TEARDOWN(killed)
{
	if (!self->s.p)
		return;
	sleeper_free(&self->s);
	close(self->uffd);
}

/* GROW can still be given up when what comes has been admitted. */
TEST_F(killed, between_two_swaps)
{
	struct sleeper *s = &self->s;

	async_start_process(&self->caller, call_grow, &self->grow);
	async_wait_for_swap(&self->caller, 1);
	async_kill(&self->caller);
	sleeper_wake(s);
	TEST_ASSERT(async_dies(&self->caller), "GROW outlives SIGKILL");

	memslot_ops_assert_stats(s->dev, 0, 0, 1);
	slot_assert(probe_vm(s->p), ID, 0, PROBE_GPA, SIZE, s->mem);
	TEST_ASSERT(probe_is_mmio(s->p, PROBE_GPA + SIZE), "it has grown");
	TEST_ASSERT_EQ(call_grow(&self->grow), 0);
	probe_read(s->p, PROBE_GPA + SIZE);
}

static bool waits_its_turn(void *arg)
{
	/* Stacks do not tell of mutexes. */
	return async_stands_in(arg, "memslot_device_ioctl") &&
	       !async_stands_in(arg, "memslot_grow") && async_sleeps(arg);
}

/* Whoever waits until another operation is over need not. */
TEST_F(killed, before_its_turn)
{
	struct sleeper *s = &self->s;
	struct async first;

	async_start(&first, call_grow, &self->grow);
	async_wait_for_swap(&first, 1);
	async_start_process(&self->caller, call_grow, &self->grow);
	TEST_ASSERT(host_wait(waits_its_turn, &self->caller),
		    "two GROWs at once");
	async_kill(&self->caller);
	TEST_ASSERT(async_dies(&self->caller), "GROW outlives SIGKILL");
	TEST_ASSERT(!first.done, "the first did not wait for a vCPU");

	sleeper_wake(s);
	async_must_succeed(&first, "the first GROW");
	memslot_ops_assert_stats(s->dev, 1, 1, 1);
}

/* --------------------------------------------------------------- memory */

#define CGROUPS		"/tmp/cgroups"
#define GROUP		CGROUPS "/limits"

static bool group_make(void)
{
	mkdir(CGROUPS, 0755);
	if (host_write(CGROUPS "/cgroup.procs", "0") &&
	    mount("none", CGROUPS, "cgroup2", 0, NULL))
		return false;
	if (host_write(CGROUPS "/cgroup.subtree_control", "+memory"))
		return false;
	/* That of another test, which has left it. */
	rmdir(GROUP);
	TEST_ASSERT(!mkdir(GROUP, 0755), "cannot make a memory cgroup");
	return true;
}

static uint64_t group_value(const char *name)
{
	char path[128], buf[64];

	snprintf(path, sizeof(path), GROUP "/%s", name);
	TEST_ASSERT(!host_read(path, buf, sizeof(buf)), "cannot read %s", path);
	return strtoull(buf, NULL, 10);
}

static uint64_t group_memory(void)
{
	return group_value("memory.current");
}

/* What the numbers are behind, and what else a test takes. */
#define SLACK		(1UL << 20)
#define SMALL		(GIGA_SIZE)
#define LARGE		(128 * GIGA_SIZE)

/* Of a bitmap, with what is KVM's of it. */
static uint64_t bitmap_bytes(uint64_t size)
{
	return size / PAGE_SIZE * 2 / 8;
}

static bool is_back(void *before)
{
	return group_memory() < *(uint64_t *)before + SLACK;
}

static void assert_more(const char *what, uint64_t before, uint64_t bytes)
{
	uint64_t now = group_memory();

	ksft_print_msg("%s: %lu bytes more\n", what, now - before);
	TEST_ASSERT(now >= before + bytes,
		    "%s: %lu bytes are charged, and were %lu before", what, now,
		    before);
}

/* Whatever is as large as a slot is charged to the caller's memory cgroup. */
TEST(memory_is_accounted)
{
	const struct kvm_memslot_cut cut = {
		.offset = LARGE / 2 + PAGE_SIZE,
		.slot = OTHER + 1,
	};
	const uint32_t piece = OTHER + 1;
	uint64_t small;
	struct logger l;

	REQUIRE_ALL_OPS();
	REQUIRE(group_make(), "no memory cgroups");
	TEST_ASSERT(!host_write(GROUP "/cgroup.procs", "0"),
		    "cannot be in a memory cgroup");
	l = logger_make(SMALL / PAGE_SIZE);
	small = group_memory();

	TEST_ASSERT_EQ(slot_grow(l.dev, ID, LARGE), 0);
	assert_more("a slot that has grown", small, bitmap_bytes(LARGE));

	/* The second half cannot share the bitmap, for its bits lie otherwise. */
	TEST_ASSERT_EQ(slot_split(l.dev, ID, 1, &cut), 0);
	slot_must_set(l.vm, ID, 0, GPA, 0, nowhere);
	assert_more("half of it", small, bitmap_bytes(LARGE / 2) - SLACK);
	slot_must_set(l.vm, ID, LOG, GPA, cut.offset, nowhere);
	TEST_ASSERT_EQ(slot_merge(l.dev, ID, 1, &piece), 0);
	assert_more("both halves", small, bitmap_bytes(LARGE));

	/* And goes with it. */
	TEST_ASSERT_EQ(slot_shrink(l.dev, ID, SMALL, NULL), 0);
	TEST_ASSERT(host_wait_seconds(20, is_back, &small),
		    "%lu bytes are charged, and were %lu for a slot as small",
		    group_memory(), small);
	logger_free(&l);
}

/* More than that there is not. */
TEST(memory_is_limited)
{
	const uint64_t most = 16UL << 20;
	int pid, status;
	struct logger l;
	char max[32];

	REQUIRE_ALL_OPS();
	REQUIRE(group_make(), "no memory cgroups");

	pid = fork();
	if (!pid) {
		TEST_ASSERT(!host_write(GROUP "/cgroup.procs", "0"),
			    "cannot be in a memory cgroup");
		l = logger_make(SMALL / PAGE_SIZE);
		snprintf(max, sizeof(max), "%lu", group_memory() + most);
		TEST_ASSERT(!host_write(GROUP "/memory.max", max),
			    "cannot set a limit");
		_exit(slot_grow(l.dev, ID, 8 * LARGE) == ENOMEM ? 0 : 1);
	}
	TEST_ASSERT(waitpid(pid, &status, 0) == pid, "no child");
	TEST_ASSERT(!status || (WIFSIGNALED(status) &&
				WTERMSIG(status) == SIGKILL),
		    "GROW beyond the limit ends with %#x", status);
	ksft_print_msg("at the limit: %s; at most %lu bytes of %lu\n",
		       status ? "killed" : "ENOMEM", group_value("memory.peak"),
		       group_value("memory.max"));
	TEST_ASSERT(group_value("memory.peak") <=
		    group_value("memory.max") + SLACK,
		    "more was charged than may be");
}

/* In bytes of addresses, what stand-ins take. */
static unsigned long standins(void)
{
	unsigned long bytes = 0, area;
	FILE *file = fopen("/proc/vmallocinfo", "r");
	char line[512];

	TEST_ASSERT(file, "cannot read what vmalloc has");
	while (fgets(line, sizeof(line), file)) {
		if (strstr(line, "vm_map_ram") &&
		    sscanf(line, "%*s %lu", &area) == 1)
			bytes += area;
	}
	fclose(file);
	return bytes;
}

#define NR_VMS		3

static int call_readonly(void *dev)
{
	return slot_set_readonly(*(int *)dev, ID, true);
}

static bool waits_with_standins(void *arg)
{
	struct async *a = arg;

	TEST_ASSERT(!a->done, "the operation did not wait for a vCPU: %s",
		    strerror(a->err));
	return async_stands_in(a, "readers_wait_end") ||
	       async_stands_in(a, "synchronize_srcu");
}

/* No cgroup is charged for these: so VMs do not get one each. */
TEST(standins_are_the_hosts)
{
	unsigned long bytes[NR_VMS];
	struct async caller[NR_VMS];
	struct sleeper s[NR_VMS];
	int i, uffd[NR_VMS];

	REQUIRE_ALL_OPS();
	REQUIRE(host_has_tdp_mmu(), "slots have the arrays that would be stood in for");

	for (i = 0; i < NR_VMS; i++) {
		uffd[i] = uffd_open();
		REQUIRE(uffd[i] >= 0, "no userfaultfd");
		sleeper_make(&s[i], uffd[i], 200 * GIGA_SIZE);
		async_start(&caller[i], call_readonly, &s[i].dev);
		TEST_ASSERT(host_wait(waits_with_standins, &caller[i]),
			    "the operation does not wait");
		bytes[i] = standins();
	}
	ksft_print_msg("stand-ins: %lu, %lu, %lu bytes of addresses\n",
		       bytes[0], bytes[1], bytes[2]);
	TEST_ASSERT(bytes[0], "there are none");
	TEST_ASSERT_EQ(bytes[1], bytes[0]);
	TEST_ASSERT_EQ(bytes[2], bytes[0]);

	for (i = 0; i < NR_VMS; i++) {
		sleeper_wake(&s[i]);
		async_must_succeed(&caller[i], "SET_READONLY");
		sleeper_free(&s[i]);
		close(uffd[i]);
	}
	TEST_ASSERT_EQ(standins(), bytes[0]);
}

TEST_HARNESS_MAIN
