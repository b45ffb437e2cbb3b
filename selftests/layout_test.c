// SPDX-License-Identifier: GPL-2.0
/*
 * Changes of the memory map that QEMU makes, as they were recorded, planned by
 * libkvm-layout and carried out beneath vCPUs that touch all that stays.
 *
 * What stays is in both layouts at the same host address.  They touch each page of
 * it in huge frames in which something begins or ends, and one of each other frame.
 * A page is quiet if no new boundary is beside it or cuts its huge mapping: it must not cost
 * a page fault.
 */
#include "harness.h"

#include <kvm-layout.h>

#include "kvm_util.h"
#include "processor.h"

#include "../vmm/example.h"
#include "level.h"
#include "memslot_ops.h"
#include "probe.h"
#include "recorded.h"

#define NR_VCPUS	2
#define MAX_REGIONS	16
#define MAX_TRANSACTIONS 100
/* Guest memory in which something stays; QEMU's guest had that much. */
#define SIZE		(512UL << 20)
/* Of the host, for each of the recording's; what is beyond that is not touched. */
#define HOST_SIZE	(4UL << 30)
#define NR_HOST		4

typedef struct kvm_userspace_memory_region region_t;

struct transaction {
	char name[220];
	size_t nr_gone, nr_come;
	region_t gone[MAX_REGIONS], come[MAX_REGIONS];
};

static struct transaction transactions[MAX_TRANSACTIONS];
static size_t nr_transactions;

static void parse_region(const char *line, char *host[NR_HOST])
{
	struct transaction *t = &transactions[nr_transactions - 1];
	unsigned long gpa, size, offset;
	region_t *region;
	unsigned int flags;
	char what, name;

	TEST_ASSERT(sscanf(line, "%c %lx %lx %c+%lx %x", &what, &gpa, &size,
			   &name, &offset, &flags) == 6 &&
		    (what == '+' || what == '-') && name - 'a' < NR_HOST &&
		    nr_transactions, "what is '%s'?", line);
	TEST_ASSERT(t->nr_gone < MAX_REGIONS && t->nr_come < MAX_REGIONS,
		    "%s has too many slots", t->name);
	region = what == '-' ? &t->gone[t->nr_gone++] : &t->come[t->nr_come++];
	*region = (region_t) {
		.flags = flags,
		.guest_phys_addr = PROBE_GPA + gpa,
		.memory_size = size,
		.userspace_addr = (uintptr_t)host[name - 'a'] + offset,
	};
}

static void parse(char *host[NR_HOST])
{
	const char *from = recorded;
	char line[200];
	size_t length;

	nr_transactions = 0;
	for (; from < recorded_end; from += length + 1) {
		length = strcspn(from, "\n");
		TEST_ASSERT(length < sizeof(line), "a long line");
		memcpy(line, from, length);
		line[length] = 0;
		if (!line[0] || line[0] == '#')
			continue;
		if (strncmp(line, "transaction ", 12)) {
			parse_region(line, host);
			continue;
		}
		TEST_ASSERT(nr_transactions < MAX_TRANSACTIONS, "too many");
		snprintf(transactions[nr_transactions].name,
			 sizeof(transactions->name), "%zu, %s", nr_transactions,
			 line + 12);
		nr_transactions++;
	}
	TEST_ASSERT(nr_transactions, "nothing was recorded");
}

/* ------------------------------------------------------- what a page is */

static const region_t *find(const region_t *regions, size_t nr, uint64_t gpa)
{
	size_t i;

	for (i = 0; i < nr; i++)
		if (gpa - regions[i].guest_phys_addr < regions[i].memory_size)
			return &regions[i];
	return NULL;
}

static bool stays(const struct transaction *t, uint64_t gpa)
{
	const region_t *old = find(t->gone, t->nr_gone, gpa);
	const region_t *new = find(t->come, t->nr_come, gpa);

	return old && new &&
	       old->userspace_addr - old->guest_phys_addr ==
	       new->userspace_addr - new->guest_phys_addr;
}

static bool is_writable(const struct transaction *t, uint64_t gpa)
{
	return !((find(t->gone, t->nr_gone, gpa)->flags |
		  find(t->come, t->nr_come, gpa)->flags) & KVM_MEM_READONLY);
}

/* Whether a slot begins or ends in [gpa, end], but for the wider end's own. */
static bool has_boundary(const region_t *regions, size_t nr, uint64_t gpa,
			 uint64_t end)
{
	size_t i;

	for (i = 0; i < nr; i++) {
		uint64_t first = regions[i].guest_phys_addr;
		uint64_t last = first + regions[i].memory_size;

		if ((first >= gpa && first <= end) ||
		    (last >= gpa && last <= end))
			return true;
	}
	return false;
}

static bool is_quiet(const struct transaction *t, uint64_t gpa)
{
	uint64_t frame = gpa & ~(HUGE_SIZE - 1);
	const region_t *old = find(t->gone, t->nr_gone, gpa);

	if (has_boundary(t->gone, t->nr_gone, gpa - PAGE_SIZE,
			 gpa + 2 * PAGE_SIZE) ||
	    has_boundary(t->come, t->nr_come, gpa - PAGE_SIZE,
			 gpa + 2 * PAGE_SIZE))
		return false;
	/* What is mapped huge is wholly in one slot; if the frame is cut, no more. */
	return old->guest_phys_addr > frame ||
	       old->guest_phys_addr + old->memory_size < frame + HUGE_SIZE ||
	       !has_boundary(t->come, t->nr_come, frame + 1,
			     frame + HUGE_SIZE - 1);
}

enum { ALL, WRITABLE, QUIET };

static bool is_of_kind(const struct transaction *t, uint64_t gpa, int kind)
{
	return stays(t, gpa) && (kind != WRITABLE || is_writable(t, gpa)) &&
	       (kind != QUIET || is_quiet(t, gpa));
}

/* Whether a frame is of that kind as a whole; then one page stands for it. */
static bool is_whole(const struct transaction *t, uint64_t frame, int kind)
{
	return !has_boundary(t->gone, t->nr_gone, frame, frame + HUGE_SIZE) &&
	       !has_boundary(t->come, t->nr_come, frame, frame + HUGE_SIZE) &&
	       is_of_kind(t, frame, kind);
}

static size_t ranges_of(const struct transaction *t, int kind,
			struct probe_range *ranges)
{
	uint64_t gpa, step;
	size_t nr = 0;

	for (gpa = PROBE_GPA; gpa < PROBE_GPA + SIZE; gpa += step) {
		struct probe_range *last = nr ? &ranges[nr - 1] : NULL;
		uint64_t stride;

		step = PAGE_SIZE;
		if (!(gpa % HUGE_SIZE) && is_whole(t, gpa, kind))
			step = HUGE_SIZE;
		else if (!is_of_kind(t, gpa, kind))
			continue;
		stride = step / PAGE_SIZE;
		if (last && last->stride == stride &&
		    last->gpa + last->nr * step == gpa) {
			last->nr++;
			continue;
		}
		TEST_ASSERT(nr < PROBE_MAX_RANGES, "too many ranges");
		ranges[nr++] = (struct probe_range) {
			.gpa = gpa,
			.nr = 1,
			.stride = stride,
		};
	}
	return nr;
}

/* ------------------------------------------------------------ the guest */

FIXTURE(transactions) {
	struct probe *p;
	struct kvm_layout_host host;
	char *host_mem[NR_HOST];
};

FIXTURE_VARIANT(transactions) {
	enum kvm_layout_mode mode;
};

FIXTURE_VARIANT_ADD(transactions, partition)
{
	.mode = KVM_LAYOUT_PARTITION,
};

FIXTURE_VARIANT_ADD(transactions, map)
{
	.mode = KVM_LAYOUT_MAP,
};

FIXTURE_SETUP(transactions)
{
	const struct probe_config config = {
		.nr_vcpus = NR_VCPUS,
		.size = SIZE,
	};
	int i, err;

	host_seed();
	for (i = 0; i < NR_HOST; i++)
		self->host_mem[i] = host_map(HOST_SIZE, HUGE_SIZE, 0,
					     HOST_PAGES_THP);
	parse(self->host_mem);
	self->p = probe_create(&config);
	err = kvm_layout_host_open(probe_vm(self->p)->fd, &self->host);
	TEST_ASSERT(!err, "the host: %s", strerror(-err));
	TEST_ASSERT(!self->host.ops == !memslot_ops_present(),
		    "the module is %sthere, and the operations are %#x",
		    memslot_ops_present() ? "" : "not ", self->host.ops);
}

FIXTURE_TEARDOWN(transactions)
{
	kvm_layout_host_close(&self->host);
	probe_free(self->p);
}

/* What kvm_layout_apply() tells its hooks. */
struct guest {
	const struct transaction *t;
	struct probe *p;
	int kind;			/* of the pages that vCPUs touch */
	bool touches;			/* something stays that they can touch */
	size_t nr_steps, nr_holds;
	size_t fail_at;			/* before which step */
	const struct kvm_layout_plan *plan; /* NULL: it does not blink */
};

/* vCPUs that touch what stays: one writes what can be written, the other reads. */
static void start(struct guest *g)
{
	struct probe_range ranges[PROBE_MAX_RANGES];
	size_t nr = ranges_of(g->t, g->kind, ranges);

	g->touches = nr;
	if (!nr)
		return;
	probe_loop_ranges(g->p, 0, PROBE_READ, ranges, nr);
	if (g->kind == ALL) {
		nr = ranges_of(g->t, WRITABLE, ranges);
		if (nr)
			probe_loop_ranges(g->p, 1, PROBE_WRITE, ranges, nr);
	}
	/* From the second round on all of it is mapped. */
	probe_wait(g->p, 2);
}

static int hold(void *opaque)
{
	struct guest *g = opaque;

	probe_stop(g->p);
	g->nr_holds++;
	return 0;
}

static void release(void *opaque)
{
	start(opaque);
}

static int before(void *opaque, const struct kvm_layout_step *step)
{
	struct guest *g = opaque;

	return g->nr_steps++ == g->fail_at ? -ECANCELED : 0;
}

/* Whether some of what stays is missing after so many steps. */
static bool is_missing(const struct kvm_layout_plan *plan, size_t nr_steps)
{
	const struct kvm_layout_gap *gaps;
	size_t i, nr;

	gaps = kvm_layout_plan_gaps(plan, &nr);
	for (i = 0; i < nr; i++)
		if (!gaps[i].replaced && gaps[i].first < nr_steps &&
		    gaps[i].last >= nr_steps)
			return true;
	return false;
}

static bool came_out(void *opaque)
{
	struct guest *g = opaque;

	return probe_exits(g->p).reads;
}

static void after(void *opaque, const struct kvm_layout_step *step,
		  const uint64_t *dirty)
{
	struct guest *g = opaque;

	if (!g->touches || g->nr_holds)
		return;
	if (!g->plan)
		probe_wait(g->p, 1);
	else if (is_missing(g->plan, g->nr_steps))
		TEST_ASSERT(host_wait(came_out, g), "nobody saw that");
}

static const struct kvm_layout_hooks watch = {
	.before = before,
	.after = after,
};

static const struct kvm_layout_hooks watch_and_hold = {
	.hold = hold,
	.release = release,
	.before = before,
	.after = after,
};

/* -------------------------------------------------------- the host's side */

/* Makes the slots that there are at first. Numbers below are the library's. */
static struct kvm_layout *create(struct kvm_vm *vm, const struct transaction *t)
{
	struct kvm_layout *layout = kvm_layout_new(0, PROBE_SLOT, 100);
	size_t i;

	for (i = 0; i < t->nr_gone; i++) {
		region_t slot = t->gone[i];

		slot.slot = PROBE_SLOT + i;
		vm_ioctl(vm, KVM_SET_USER_MEMORY_REGION, &slot);
		TEST_ASSERT(!kvm_layout_add(layout, &slot), "%s", t->name);
	}
	return layout;
}

static void delete(struct kvm_vm *vm, struct kvm_layout *layout)
{
	const region_t *slots;
	size_t i, nr;

	slots = kvm_layout_slots(layout, &nr);
	for (i = 0; i < nr; i++)
		slot_must_set(vm, slots[i].slot, 0, 0, 0, NULL);
	kvm_layout_free(layout);
}

/* Fails the test unless KVM has what the layout says. */
static void assert_same(struct kvm_vm *vm, const struct kvm_layout *layout)
{
	const region_t *slots;
	size_t i, nr;

	slots = kvm_layout_slots(layout, &nr);
	for (i = 0; i < nr; i++)
		slot_assert(vm, slots[i].slot, slots[i].flags,
			    slots[i].guest_phys_addr, slots[i].memory_size,
			    (void *)slots[i].userspace_addr);
}

/* From what is there to these regions. */
static struct kvm_layout_plan *plan_to(const struct kvm_layout_host *host,
				       const struct kvm_layout *layout,
				       const region_t *come, size_t nr_come,
				       enum kvm_layout_mode mode)
{
	struct kvm_layout_plan *plan = NULL;
	uint32_t gone[4 * MAX_REGIONS];
	const region_t *slots;
	size_t i, nr;
	int err;

	slots = kvm_layout_slots(layout, &nr);
	TEST_ASSERT(nr <= ARRAY_SIZE(gone), "%zu slots", nr);
	for (i = 0; i < nr; i++)
		gone[i] = slots[i].slot;
	err = kvm_layout_plan(host, layout, gone, nr, come, nr_come, mode,
			      &plan);
	TEST_ASSERT(!err, "a plan: %s", strerror(-err));
	return plan;
}

/* Fails the test unless guest addresses lead where they are to. */
static void assert_arrived(const struct transaction *t,
			   const struct kvm_layout *layout, const region_t *come,
			   size_t nr, enum kvm_layout_mode mode)
{
	size_t i, nr_slots;

	kvm_layout_slots(layout, &nr_slots);
	TEST_ASSERT(mode == KVM_LAYOUT_MAP || nr_slots == nr,
		    "%s: %zu slots instead of %zu", t->name, nr_slots, nr);
	for (i = 0; i < nr; i++) {
		uint64_t gpa = come[i].guest_phys_addr, end;

		end = gpa + come[i].memory_size;
		while (gpa < end) {
			const region_t *slot = kvm_layout_at(layout, gpa);

			TEST_ASSERT(slot && slot->flags == come[i].flags &&
				    slot->userspace_addr - slot->guest_phys_addr ==
				    come[i].userspace_addr -
				    come[i].guest_phys_addr,
				    "%s: %#lx is not as it should be", t->name,
				    gpa);
			gpa = slot->guest_phys_addr + slot->memory_size;
		}
	}
}

static void assert_no_exits(const struct transaction *t, struct probe *p,
			    const struct kvm_layout_plan *plan)
{
	struct probe_exits exits = probe_exits(p);

	if (exits.reads + exits.writes)
		kvm_layout_plan_print(plan, stdout);
	TEST_ASSERT(!exits.reads && !exits.writes,
		    "%s: %lu reads and %lu writes came out, from %#lx to %#lx",
		    t->name, exits.reads, exits.writes, exits.low, exits.high);
}

static void apply(const struct kvm_layout_host *host, struct kvm_layout *layout,
		  const struct kvm_layout_plan *plan, struct guest *g,
		  const struct kvm_layout_hooks *how)
{
	struct kvm_layout_hooks hooks = *how;
	size_t done, nr;
	int err;

	hooks.opaque = g;
	err = kvm_layout_apply(host, layout, plan, &hooks, &done);
	TEST_ASSERT(!err, "%s, step %zu: %s", g->t->name, done, strerror(-err));
	kvm_layout_plan_steps(plan, &nr);
	TEST_ASSERT(done == nr, "%zu of %zu steps", done, nr);
}

/* ------------------------------------------------------------- the tests */

/* Nothing that stays is missing, and it costs no page fault. */
static size_t no_blink(struct probe *p, const struct kvm_layout_host *host,
		       const struct transaction *t, enum kvm_layout_mode mode,
		       int kind)
{
	struct guest g = { .t = t, .p = p, .kind = kind, .fail_at = -1 };
	struct kvm_layout *layout = create(probe_vm(p), t);
	struct kvm_layout_plan *plan;
	const struct kvm_layout_gap *gaps;
	uint64_t faults;
	size_t i, nr;

	plan = plan_to(host, layout, t->come, t->nr_come, mode);
	gaps = kvm_layout_plan_gaps(plan, &nr);
	for (i = 0; i < nr; i++)
		TEST_ASSERT(gaps[i].replaced && gaps[i].last == gaps[i].first + 1,
			    "%s: %#lx is missing", t->name, (ulong)gaps[i].gpa);
	probe_forget_exits(p);
	start(&g);
	faults = probe_faults(p);
	apply(host, layout, plan, &g, &watch);
	if (g.touches)
		probe_wait(p, 1);
	faults = probe_faults(p) - faults;
	probe_stop(p);
	assert_no_exits(t, p, plan);
	TEST_ASSERT(kind != QUIET || level_shadows() || !faults,
		    "%s: %lu page faults on what stays", t->name, faults);
	assert_same(probe_vm(p), layout);
	assert_arrived(t, layout, t->come, t->nr_come, mode);

	kvm_layout_plan_steps(plan, &nr);
	kvm_layout_plan_free(plan);
	delete(probe_vm(p), layout);
	return nr;
}

TEST_F_TIMEOUT(transactions, no_blink, 600)
{
	size_t i, steps = 0;

	REQUIRE_ALL_OPS();
	for (i = 0; i < nr_transactions; i++)
		steps += no_blink(self->p, &self->host, &transactions[i],
				  variant->mode, ALL);
	ksft_print_msg("%zu transactions in %zu steps\n", nr_transactions,
		       steps);
}

TEST_F_TIMEOUT(transactions, no_page_fault, 600)
{
	size_t i;

	REQUIRE_ALL_OPS();
	for (i = 0; i < nr_transactions; i++)
		no_blink(self->p, &self->host, &transactions[i], variant->mode,
			 QUIET);
}

/* Stopped before a step, what is known is what is; and from there it leads on. */
static void stop_before(struct probe *p, const struct kvm_layout_host *host,
			const struct transaction *t, enum kvm_layout_mode mode,
			size_t step, bool on)
{
	struct guest g = { .t = t, .p = p, .fail_at = step };
	struct kvm_layout_hooks hooks = watch;
	struct kvm_layout *layout = create(probe_vm(p), t);
	const region_t *to = on ? t->come : t->gone;
	size_t nr_to = on ? t->nr_come : t->nr_gone, done;
	struct kvm_layout_plan *plan;
	int err;

	plan = plan_to(host, layout, t->come, t->nr_come, mode);
	probe_forget_exits(p);
	start(&g);
	hooks.opaque = &g;
	err = kvm_layout_apply(host, layout, plan, &hooks, &done);
	TEST_ASSERT(err == -ECANCELED && done == step, "%s: step %zu of %zu: %s",
		    t->name, done, step, strerror(-err));
	assert_same(probe_vm(p), layout);
	kvm_layout_plan_free(plan);

	plan = plan_to(host, layout, to, nr_to, mode);
	g.fail_at = -1;
	apply(host, layout, plan, &g, &watch);
	probe_stop(p);
	assert_no_exits(t, p, plan);
	assert_same(probe_vm(p), layout);
	assert_arrived(t, layout, to, nr_to, mode);
	kvm_layout_plan_free(plan);
	delete(probe_vm(p), layout);
}

TEST_F_TIMEOUT(transactions, stopped_anywhere, 900)
{
	struct kvm_layout_plan *plan;
	struct kvm_layout *layout;
	size_t i, k, nr;

	REQUIRE_ALL_OPS();
	for (i = 0; i < nr_transactions; i++) {
		const struct transaction *t = &transactions[i];

		layout = create(probe_vm(self->p), t);
		plan = plan_to(&self->host, layout, t->come, t->nr_come,
			       variant->mode);
		kvm_layout_plan_steps(plan, &nr);
		kvm_layout_plan_free(plan);
		delete(probe_vm(self->p), layout);
		for (k = 0; t->nr_gone && k < nr; k++) {
			stop_before(self->p, &self->host, t, variant->mode, k,
				    true);
			stop_before(self->p, &self->host, t, variant->mode, k,
				    false);
		}
	}
}

/*
 * Without the operations the same plans delete and create.  Where that shows they
 * say so, vCPUs are held, and so it does not; not held, they see it.
 */
TEST_F_TIMEOUT(transactions, without_operations, 600)
{
	struct kvm_layout_host host = self->host;
	size_t i, nr, blinking = 0, held = 0, seen = 0;
	bool hold;

	host.ops = 0;
	for (i = 0; i < 2 * nr_transactions; i++) {
		const struct transaction *t = &transactions[i / 2];
		struct guest g = { .t = t, .p = self->p, .fail_at = -1 };
		struct kvm_layout *layout = create(probe_vm(self->p), t);
		struct kvm_layout_plan *plan;

		plan = plan_to(&host, layout, t->come, t->nr_come,
			       variant->mode);
		hold = i % 2;
		probe_forget_exits(self->p);
		start(&g);
		if (kvm_layout_plan_blinks(plan))
			g.plan = plan;
		apply(&host, layout, plan, &g, hold ? &watch_and_hold : &watch);
		probe_stop(self->p);
		if (hold || !kvm_layout_plan_blinks(plan))
			assert_no_exits(t, self->p, plan);
		else
			seen += !!probe_exits(self->p).reads;
		kvm_layout_plan_gaps(plan, &nr);
		TEST_ASSERT(!hold || !nr == !g.nr_holds,
			    "%s: %zu gaps, but vCPUs were held %zu times",
			    t->name, nr, g.nr_holds);
		blinking += hold && nr;
		held += g.nr_holds;
		assert_same(probe_vm(self->p), layout);
		assert_arrived(t, layout, t->come, t->nr_come, variant->mode);
		kvm_layout_plan_free(plan);
		delete(probe_vm(self->p), layout);
	}
	ksft_print_msg("%zu of %zu transactions have gaps\n", blinking,
		       nr_transactions);
	ksft_print_msg("vCPUs were held %zu times; unheld, in %zu they saw it\n",
		       held, seen);
	TEST_ASSERT(seen, "nobody saw memory blink");
}

/* The twenty lines of the guide: a hole is made and filled beneath the vCPUs. */
int vm_hold_vcpus(void *vm)
{
	TEST_FAIL("nothing is to be held");
	return -1;
}

void vm_release_vcpus(void *vm)
{
}

TEST(guide)
{
	const struct probe_config config = { .nr_vcpus = NR_VCPUS, .size = SIZE };
	struct probe *p = probe_create(&config);
	region_t whole = { .guest_phys_addr = PROBE_GPA, .memory_size = SIZE };
	struct probe_range ranges[2] = {
		{ .gpa = PROBE_GPA, .nr = 100, .stride = 1 },
		{ .gpa = PROBE_GPA + SIZE / 2, .nr = 100, .stride = 1 },
	};
	const struct kvm_userspace_memory_region *slot;
	region_t around[2];
	struct vm vm = {};
	uint32_t gone[2];
	size_t nr;

	REQUIRE_ALL_OPS();
	whole.userspace_addr = (uintptr_t)host_map(SIZE, HUGE_SIZE, 0,
						   HOST_PAGES_4K);
	around[0] = whole;
	around[1] = whole;
	around[0].memory_size = SIZE / 4;
	around[1].memory_size = SIZE / 2;
	around[1].guest_phys_addr += SIZE / 2;
	around[1].userspace_addr += SIZE / 2;

	ASSERT_EQ(vm_open(&vm, probe_vm(p)->fd), 0);
	/* The library's own have these numbers. */
	kvm_layout_free(vm.layout);
	vm.layout = kvm_layout_new(0, PROBE_SLOT, 10);
	ASSERT_EQ(vm_change_map(&vm, NULL, 0, &whole, 1), 0);
	probe_loop_ranges(p, 0, PROBE_READ, ranges, 2);
	probe_loop_ranges(p, 1, PROBE_WRITE, ranges, 2);
	probe_wait(p, 2);

	slot = kvm_layout_slots(vm.layout, &nr);
	ASSERT_EQ(nr, 1);
	gone[0] = slot->slot;
	ASSERT_EQ(vm_change_map(&vm, gone, 1, around, 2), 0);
	probe_wait(p, 2);
	slot = kvm_layout_slots(vm.layout, &nr);
	ASSERT_EQ(nr, 2);
	gone[0] = slot[0].slot;
	gone[1] = slot[1].slot;
	ASSERT_EQ(vm_change_map(&vm, gone, 2, &whole, 1), 0);
	probe_wait(p, 2);
	probe_stop(p);
	EXPECT_EQ(probe_exits(p).reads + probe_exits(p).writes, 0);
	assert_same(probe_vm(p), vm.layout);
	memslot_ops_assert_stats(vm.host.dev_fd, 4, 2, 0);

	kvm_layout_free(vm.layout);
	kvm_layout_host_close(&vm.host);
	probe_free(p);
}

TEST_HARNESS_MAIN
