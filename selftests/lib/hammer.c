// SPDX-License-Identifier: GPL-2.0
#include <pthread.h>
#include <stdatomic.h>

#include "kvm_util.h"
#include "processor.h"
#include "ucall_common.h"

#include "hammer.h"
#include "level.h"

#define NOTES_GPA	(2 * GIGA_SIZE)
#define STAMP		(0x5eedUL << 48)

enum hammer_order {
	ORDER_PAUSE,
	ORDER_SWEEP,
	ORDER_RUN,
	ORDER_END,
};

struct page {
	uint64_t stamp;
	uint8_t code[8];		/* mov $number, %eax; ret */
	uint64_t counter[HAMMER_MAX_VCPUS];
};

/* What a vCPU and the host tell each other, on cache lines of the vCPU's own. */
struct vcpu_note {
	uint64_t done;			/* the last order that took effect */
	uint64_t touches;
	uint64_t longest_gap;		/* in TSC cycles; the host resets it */
	uint64_t nr_bad;
	uint64_t bad_page;		/* of the first bad touch: */
	uint64_t bad_how;
	uint64_t bad_got;
	uint64_t bad_want;
} __aligned(128);

struct notes {
	uint64_t order_nr;
	enum hammer_order order;
	uint64_t first;
	uint64_t nr;
	uint64_t how;
	uint64_t seed;
	uint64_t gva;
	uint64_t max_pages;
	struct vcpu_note vcpu[HAMMER_MAX_VCPUS];
	uint32_t counters[];		/* max_pages for each vCPU */
};

/* ------------------------------------------------------------- the guest */

static void guest_bad(struct vcpu_note *me, uint64_t page, int how,
		      uint64_t got, uint64_t want)
{
	if (!me->nr_bad) {
		me->bad_page = page;
		me->bad_how = how;
		me->bad_got = got;
		me->bad_want = want;
	}
	WRITE_ONCE(me->nr_bad, me->nr_bad + 1);
}

static void guest_touch(struct notes *notes, int id, uint64_t nr, int how)
{
	struct page *page = (void *)(notes->gva + nr * PAGE_SIZE);
	uint32_t *counter = &notes->counters[id * notes->max_pages + nr];
	struct vcpu_note *me = &notes->vcpu[id];
	uint64_t got;

	if (how & HAMMER_READ) {
		got = READ_ONCE(page->stamp);
		if (got != (STAMP | nr))
			guest_bad(me, nr, HAMMER_READ, got, STAMP | nr);
	}
	if (how & HAMMER_WRITE) {
		got = READ_ONCE(page->counter[id]);
		if (got != *counter)
			guest_bad(me, nr, HAMMER_WRITE, got, *counter);
		*counter = got + 1;
		WRITE_ONCE(page->counter[id], got + 1);
	}
	if (how & HAMMER_EXEC) {
		got = ((uint32_t (*)(void))page->code)();
		if (got != nr)
			guest_bad(me, nr, HAMMER_EXEC, got, nr);
	}
	WRITE_ONCE(me->touches, me->touches + 1);
}

static void guest_sweep(struct notes *notes, int id)
{
	uint64_t nr;

	for (nr = notes->first; nr < notes->first + notes->nr; nr++)
		guest_touch(notes, id, nr, notes->how);
}

static void guest_run(struct notes *notes, int id, uint64_t order_nr)
{
	struct vcpu_note *me = &notes->vcpu[id];
	uint64_t random = notes->seed * (2 * id + 3) | 1;
	uint64_t then, now = rdtsc();

	while (READ_ONCE(notes->order_nr) == order_nr) {
		random ^= random << 13;
		random ^= random >> 7;
		random ^= random << 17;
		guest_touch(notes, id, (random >> 20) % READ_ONCE(notes->nr),
			    1 << random % 3);

		then = now;
		now = rdtsc();
		if (now - then > READ_ONCE(me->longest_gap))
			WRITE_ONCE(me->longest_gap, now - then);
	}
}

static void guest_code(struct notes *notes, int id)
{
	struct vcpu_note *me = &notes->vcpu[id];
	enum hammer_order order;
	uint64_t order_nr = 0;

	do {
		while (READ_ONCE(notes->order_nr) == order_nr)
			cpu_relax();
		order_nr = READ_ONCE(notes->order_nr);
		order = READ_ONCE(notes->order);

		if (order == ORDER_SWEEP)
			guest_sweep(notes, id);
		WRITE_ONCE(me->done, order_nr);
		if (order == ORDER_RUN)
			guest_run(notes, id, order_nr);
	} while (order != ORDER_END);
	GUEST_DONE();
}

/* -------------------------------------------------------------- the host */

struct runner {
	struct hammer *h;
	struct kvm_vcpu *vcpu;
	pthread_t thread;
	struct counter faults;
	/* Why the vCPU runs no more, if it should. */
	const char *dead;
};

struct hammer {
	struct hammer_config config;
	struct kvm_vm *vm;
	struct runner runner[HAMMER_MAX_VCPUS];
	struct notes *notes;
	size_t notes_size;
	char *mem;
	uint64_t tsc_khz;
	atomic_ulong mmio, internal_error, run_error;
	/* Of the first bad exit. */
	atomic_ulong bad_gpa;
};

struct kvm_vm *hammer_vm(struct hammer *h)
{
	return h->vm;
}

uint64_t hammer_gpa(struct hammer *h)
{
	return h->config.gpa;
}

void *hammer_hva(struct hammer *h)
{
	return h->mem;
}

/*
 * An access that KVM took for MMIO is made good, so that the guest goes on
 * and all that is wrong with it is the exit.
 */
static bool handle_mmio(struct hammer *h, struct kvm_run *run)
{
	uint64_t offset = run->mmio.phys_addr - h->config.gpa;

	if (offset >= h->config.max_size)
		return false;
	if (!h->mmio++)
		h->bad_gpa = run->mmio.phys_addr;
	if (run->mmio.is_write)
		memcpy(h->mem + offset, run->mmio.data, run->mmio.len);
	else
		memcpy(run->mmio.data, h->mem + offset, run->mmio.len);
	return true;
}

static void *runner_main(void *arg)
{
	struct runner *r = arg;
	struct kvm_run *run = r->vcpu->run;
	uint64_t retries = 0;
	struct ucall uc;

	/* Bounded: a guest that can never go on must not hang the test. */
	while (retries < 10000000) {
		if (__vcpu_run(r->vcpu)) {
			if (errno == EINTR || errno == EAGAIN)
				continue;
			r->h->run_error++;
			retries++;
			continue;
		}
		switch (run->exit_reason) {
		case KVM_EXIT_MMIO:
			if (handle_mmio(r->h, run))
				continue;
			WRITE_ONCE(r->dead, "MMIO outside of the range");
			return NULL;
		case KVM_EXIT_INTERNAL_ERROR:
			/* Nothing happened yet, so it can be tried again. */
			r->h->internal_error++;
			retries++;
			continue;
		case KVM_EXIT_IO:
			if (get_ucall(r->vcpu, &uc) == UCALL_DONE)
				return NULL;
			if (uc.cmd == UCALL_ABORT)
				REPORT_GUEST_ASSERT(uc);
			WRITE_ONCE(r->dead, "unexpected I/O");
			return NULL;
		default:
			WRITE_ONCE(r->dead, exit_reason_str(run->exit_reason));
			return NULL;
		}
	}
	WRITE_ONCE(r->dead, "no progress");
	return NULL;
}

static void hammer_check_alive(struct hammer *h)
{
	int i;

	for (i = 0; i < h->config.nr_vcpus; i++) {
		const char *dead = READ_ONCE(h->runner[i].dead);

		TEST_ASSERT(!dead, "vCPU %d died: %s", i, dead);
	}
}

static bool order_done(void *arg)
{
	struct hammer *h = arg;
	int i;

	hammer_check_alive(h);
	for (i = 0; i < h->config.nr_vcpus; i++) {
		if (READ_ONCE(h->notes->vcpu[i].done) != h->notes->order_nr)
			return false;
	}
	return true;
}

static void give_order(struct hammer *h, enum hammer_order order)
{
	h->notes->order = order;
	atomic_thread_fence(memory_order_release);
	WRITE_ONCE(h->notes->order_nr, h->notes->order_nr + 1);
	TEST_ASSERT(host_wait(order_done, h), "the vCPUs ignore order %d", order);
}

void hammer_pause(struct hammer *h)
{
	give_order(h, ORDER_PAUSE);
}

void hammer_sweep(struct hammer *h, uint64_t first, uint64_t nr, int how)
{
	/* The running vCPUs look at the same numbers. */
	hammer_pause(h);
	h->notes->first = first;
	h->notes->nr = nr;
	h->notes->how = how;
	give_order(h, ORDER_SWEEP);
}

void hammer_run(struct hammer *h, uint64_t nr)
{
	hammer_pause(h);
	h->notes->nr = nr;
	h->notes->seed = host_random();
	give_order(h, ORDER_RUN);
}

void hammer_extend(struct hammer *h, uint64_t nr)
{
	WRITE_ONCE(h->notes->nr, nr);
}

struct wait_touches {
	struct hammer *h;
	uint64_t until[HAMMER_MAX_VCPUS];
};

static bool touched_enough(void *arg)
{
	struct wait_touches *wait = arg;
	int i;

	hammer_check_alive(wait->h);
	for (i = 0; i < wait->h->config.nr_vcpus; i++) {
		if (READ_ONCE(wait->h->notes->vcpu[i].touches) < wait->until[i])
			return false;
	}
	return true;
}

void hammer_wait(struct hammer *h, uint64_t times)
{
	struct wait_touches wait = { .h = h };
	int i;

	for (i = 0; i < h->config.nr_vcpus; i++)
		wait.until[i] = READ_ONCE(h->notes->vcpu[i].touches) + times;
	TEST_ASSERT(host_wait(touched_enough, &wait), "the vCPUs stand still");
}

void hammer_settle(struct hammer *h, uint64_t nr)
{
	uint64_t before, after;
	int rounds = 0;

	do {
		before = hammer_faults(h);
		hammer_sweep(h, 0, nr, HAMMER_ALL);
		hammer_run(h, nr);
		/* The guest's code for this is memory like any other. */
		hammer_wait(h, 1000);
		after = hammer_faults(h);
		TEST_ASSERT(++rounds < 50,
			    "page faults on mapped pages do not end");
	} while (after != before);
}

uint64_t hammer_touches(struct hammer *h)
{
	uint64_t sum = 0;
	int i;

	for (i = 0; i < h->config.nr_vcpus; i++)
		sum += READ_ONCE(h->notes->vcpu[i].touches);
	return sum;
}

uint64_t hammer_faults(struct hammer *h)
{
	uint64_t sum = 0;
	int i;

	for (i = 0; i < h->config.nr_vcpus; i++)
		sum += counter_read(&h->runner[i].faults);
	return sum;
}

struct hammer_exits hammer_exits(struct hammer *h)
{
	return (struct hammer_exits) {
		.mmio = h->mmio,
		.internal_error = h->internal_error,
		.run_error = h->run_error,
	};
}

uint64_t hammer_bad_exits(struct hammer *h)
{
	return h->mmio + h->internal_error + h->run_error;
}

void hammer_assert_no_bad_exits(struct hammer *h)
{
	TEST_ASSERT(!hammer_bad_exits(h),
		    "memory blinked: %lu MMIO exits (first at page %lu), %lu internal errors, %lu errors of KVM_RUN",
		    h->mmio, (uint64_t)((h->bad_gpa - h->config.gpa) / PAGE_SIZE),
		    h->internal_error, h->run_error);
}

uint64_t hammer_longest_gap(struct hammer *h)
{
	uint64_t gap = 0;
	int i;

	for (i = 0; i < h->config.nr_vcpus; i++) {
		gap = max(gap, READ_ONCE(h->notes->vcpu[i].longest_gap));
		WRITE_ONCE(h->notes->vcpu[i].longest_gap, 0);
	}
	return gap * 1000 / h->tsc_khz;
}

static const char *how_name(uint64_t how)
{
	return how == HAMMER_READ ? "read" :
	       how == HAMMER_WRITE ? "counter" : "executed";
}

uint64_t hammer_huge_mappings(struct hammer *h)
{
	return vm_stat(hammer_vm(h), "pages_2m");
}

uint64_t hammer_whole_frames(struct hammer *h, uint64_t first, uint64_t end)
{
	uint64_t start = hammer_gpa(h) / PAGE_SIZE;

	if ((hammer_gpa(h) ^ (uintptr_t)hammer_hva(h)) & (HUGE_SIZE - 1))
		return 0;
	first = DIV_ROUND_UP(start + first, HUGE_PAGES);
	end = (start + end) / HUGE_PAGES;
	return end > first ? end - first : 0;
}

void hammer_verify(struct hammer *h)
{
	uint64_t max_pages = h->notes->max_pages, nr, got, want;
	int i;

	hammer_pause(h);
	for (i = 0; i < h->config.nr_vcpus; i++) {
		struct vcpu_note *v = &h->notes->vcpu[i];

		TEST_ASSERT(!v->nr_bad,
			    "vCPU %d found %lu wrong pages; the first is %lu: %s %#lx, not %#lx",
			    i, v->nr_bad, v->bad_page, how_name(v->bad_how),
			    v->bad_got, v->bad_want);
		for (nr = 0; nr < max_pages; nr++) {
			want = h->notes->counters[i * max_pages + nr];
			if (!want)
				continue;
			got = ((struct page *)(h->mem + nr * PAGE_SIZE))->counter[i];
			TEST_ASSERT(got == want,
				    "page %lu: vCPU %d wrote %lu, its memory holds %lu",
				    nr, i, want, got);
		}
	}
}

void hammer_populate(struct hammer *h, uint64_t first, uint64_t nr)
{
	uint64_t i;

	for (i = first; i < first + nr; i++) {
		struct page *page = (void *)(h->mem + i * PAGE_SIZE);
		uint32_t number = i;

		page->stamp = STAMP | i;
		page->code[0] = 0xb8;
		memcpy(&page->code[1], &number, sizeof(number));
		page->code[5] = 0xc3;
	}
}

void hammer_slot(struct hammer *h, uint64_t size)
{
	int err = slot_set(h->vm, HAMMER_SLOT, 0, h->config.gpa, size, h->mem);

	TEST_ASSERT(!err, "cannot make a slot of %#lx bytes: %s", size,
		    strerror(err));
}

void hammer_delete_and_create(struct hammer *h, uint64_t size)
{
	int err = slot_set(h->vm, HAMMER_SLOT, 0, h->config.gpa, 0, h->mem);

	TEST_ASSERT(!err, "cannot delete the slot: %s", strerror(err));
	hammer_slot(h, size);
}

static void make_notes(struct hammer *h)
{
	uint64_t pages = h->config.max_size / PAGE_SIZE;
	int err;

	h->notes_size = align_up(sizeof(struct notes) + h->config.nr_vcpus *
				 pages * sizeof(h->notes->counters[0]),
				 HUGE_SIZE);
	h->notes = host_map(h->notes_size, HUGE_SIZE, 0, HOST_PAGES_4K);
	h->notes->max_pages = pages;
	h->notes->gva = h->config.gpa;
	err = slot_set(h->vm, HAMMER_NOTES_SLOT, 0, NOTES_GPA, h->notes_size,
		       h->notes);
	TEST_ASSERT(!err, "cannot make the slot for notes: %s", strerror(err));
	virt_map_level(h->vm, NOTES_GPA, NOTES_GPA, h->notes_size, PG_LEVEL_2M);
}

/*
 * They are dirty from the start. While one is not, KVM shadows what it maps in
 * parts read-only, and keeps that beside what it makes when the page is dirty:
 * huge mappings would be counted twice.
 */
static void map_by_giant_pages(struct hammer *h)
{
	uint64_t gpa = h->config.gpa, end = gpa + h->config.max_size;

	virt_map_level(h->vm, gpa, gpa, end - gpa, PG_LEVEL_1G);
	for (; gpa < end; gpa += GIGA_SIZE) {
		int level = PG_LEVEL_1G;

		*__vm_get_page_table_entry(h->vm, gpa, &level) |=
			PTE_ACCESSED_MASK | PTE_DIRTY_MASK;
	}
}

static void make_memory(struct hammer *h)
{
	struct hammer_config *c = &h->config;

	h->mem = c->mem ?:
		 host_map(c->max_size,
			  c->max_size >= GIGA_SIZE ? GIGA_SIZE : HUGE_SIZE,
			  c->hva_offset, c->host_pages);
	if (!c->sparse)
		hammer_populate(h, 0, c->max_size / PAGE_SIZE);

	/*
	 * All that can ever be in the slot is mapped in the guest already, by
	 * pages as large as fit: KVM shadows none by a larger one.
	 */
	if (c->guest_4k)
		virt_map(h->vm, c->gpa, c->gpa, c->max_size / PAGE_SIZE);
	else if (!(c->gpa % GIGA_SIZE) && !(c->max_size % GIGA_SIZE) &&
		 kvm_cpu_has(X86_FEATURE_GBPAGES))
		map_by_giant_pages(h);
	else
		virt_map_level(h->vm, align_down(c->gpa, HUGE_SIZE),
			       align_down(c->gpa, HUGE_SIZE),
			       align_up(c->gpa + c->max_size, HUGE_SIZE) -
			       align_down(c->gpa, HUGE_SIZE), PG_LEVEL_2M);
}

static void start_vcpu(struct hammer *h, int id)
{
	struct runner *r = &h->runner[id];

	r->h = h;
	r->vcpu = level_vcpu_add(h->vm, id, guest_code);
	vcpu_args_set(r->vcpu, 2, NOTES_GPA, id);
	r->faults = counter_open(vcpu_get_stats_fd(r->vcpu), "pf_taken");
	pthread_create(&r->thread, NULL, runner_main, r);
}

struct hammer *hammer_create(const struct hammer_config *config)
{
	struct hammer *h = calloc(1, sizeof(*h));
	int i;

	TEST_ASSERT(config->nr_vcpus <= HAMMER_MAX_VCPUS, "too many vCPUs");
	h->config = *config;
	if (!h->config.gpa)
		h->config.gpa = HAMMER_GPA;

	host_quiet();
	h->vm = __vm_create(VM_SHAPE_DEFAULT, config->nr_vcpus,
			    config->guest_4k ? config->max_size / PAGE_SIZE :
			    config->max_size / HUGE_SIZE);
	/* Else a failed emulation leaves a #UD behind, and cannot be retried. */
	vm_enable_cap(h->vm, KVM_CAP_EXIT_ON_EMULATION_FAILURE, 1);
	h->tsc_khz = __vm_ioctl(h->vm, KVM_GET_TSC_KHZ, NULL);

	make_notes(h);
	make_memory(h);
	for (i = 0; i < config->nr_vcpus; i++)
		start_vcpu(h, i);
	return h;
}

void hammer_free(struct hammer *h)
{
	int i;

	give_order(h, ORDER_END);
	for (i = 0; i < h->config.nr_vcpus; i++) {
		pthread_join(h->runner[i].thread, NULL);
		close(h->runner[i].faults.fd);
	}
	kvm_vm_free(h->vm);
	munmap(h->mem, h->config.max_size);
	munmap(h->notes, h->notes_size);
	free(h);
}
