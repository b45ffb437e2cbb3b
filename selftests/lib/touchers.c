// SPDX-License-Identifier: GPL-2.0
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>

#include "kvm_util.h"
#include "processor.h"
#include "ucall_common.h"

#include "notes.h"
#include "pages.h"
#include "rule.h"
#include "touchers.h"
#include "xorshift.h"

#define MAX_VCPUS	PAGES_MAX_VCPUS
#define NO_PAGE		(~0UL)

/* ------------------------------------- what the guest and the host share */

enum want {
	NEVER,			/* the access must leave the guest */
	MAY,
	MUST,			/* the access must reach memory */
	SHUN,			/* nobody begins one */
};

struct rule {
	uint32_t read;		/* and to execute */
	uint32_t write;
};

enum how {
	READ,
	WRITE,
	EXEC,
};

enum wrong {
	LANDED,			/* what must leave the guest did not */
	BAD_STAMP,
	BAD_COUNTER,
	BAD_CODE,
};

enum order {
	ORDER_PAUSE,
	ORDER_RUN,
	ORDER_END,
};

/* A vCPU's side of it. */
struct note {
	uint64_t done;			/* the last order that took effect */
	uint64_t touches;
	uint64_t touches_changing;	/* whose rule was not strict */
	/* The access under way: */
	uint64_t page;
	uint64_t how;
	uint32_t rule;			/* before it */
	uint32_t exited;		/* set by the host */
	uint64_t exec_page;		/* to be left alone until it is NO_PAGE */
	/* What was wrong: */
	uint64_t wrong;
	uint64_t rule_after;
	uint64_t got;
	uint64_t wanted;
} __aligned(256);

struct notes {
	uint64_t order_nr;
	enum order order;
	uint64_t seed;
	bool emulation;			/* KVM_FEP works */
	uint64_t hot_first;		/* pages that matter most just now */
	uint64_t hot_nr;
	struct touchers_config config;	/* here, where the guest has it, too */
	struct note note[MAX_VCPUS];
	struct rule rule[TOUCHERS_MAX_PAGES];
	/* What page->counter should be: config.nr for each vCPU. */
	uint64_t counter[];
};

static bool is_scratch(struct notes *notes, uint64_t page)
{
	return page - notes->config.scratch_first < notes->config.scratch_nr;
}

static uint64_t gpa_of(struct notes *notes, uint64_t page)
{
	return notes->config.gpa + page * PAGE_SIZE;
}

static uint64_t *counter_of(struct notes *notes, int id, uint64_t page)
{
	return &notes->counter[id * notes->config.nr + page];
}

/* ------------------------------------------------------------- the guest */

static uint64_t guest_load(uint64_t *p, bool emulated)
{
	uint64_t value;

	if (emulated)
		asm volatile(KVM_FEP "mov (%1), %0"
			     : "=r"(value) : "r"(p) : "memory");
	else
		asm volatile("mov (%1), %0"
			     : "=r"(value) : "r"(p) : "memory");
	return value;
}

static void guest_store(uint64_t *p, uint64_t value, bool emulated)
{
	if (emulated)
		asm volatile(KVM_FEP "mov %1, (%0)"
			     : : "r"(p), "r"(value) : "memory");
	else
		asm volatile("mov %1, (%0)"
			     : : "r"(p), "r"(value) : "memory");
}

static void guest_complain(struct note *me, enum wrong what, uint32_t after,
			   uint64_t got, uint64_t wanted)
{
	me->wrong = what;
	me->rule_after = after;
	me->got = got;
	me->wanted = wanted;
	GUEST_SYNC(0);
}

static void guest_begin(struct note *me, uint64_t nr, enum how how,
			uint32_t *rule)
{
	me->page = nr;
	me->how = how;
	me->exited = 0;
	WRITE_ONCE(me->rule, READ_ONCE(*rule));
	barrier();
}

/* True if the access was under a strict rule all the time. */
static bool guest_end(struct note *me, uint32_t *rule)
{
	uint32_t after;

	/* A write must be over before the rule is read again. */
	asm volatile("mfence" : : : "memory");
	after = READ_ONCE(*rule);

	me->touches++;
	if (after != me->rule || WANT(after) == MAY || WANT(after) == SHUN) {
		me->touches_changing++;
		return false;
	}
	if (WANT(after) == NEVER && !READ_ONCE(me->exited))
		guest_complain(me, LANDED, after, 0, 0);
	return true;
}

static void guest_read(struct notes *notes, int id, uint64_t nr, uint64_t random)
{
	struct page *page = (void *)gpa_of(notes, nr);
	bool emulated = notes->emulation && !(random & 0xf);
	bool ask_stamp = random & 0x10;
	struct note *me = &notes->note[id];
	uint64_t got, wanted;

	wanted = ask_stamp ? PAGE_STAMP(nr) : *counter_of(notes, id, nr);
	guest_begin(me, nr, READ, &notes->rule[nr].read);
	got = guest_load(ask_stamp ? &page->stamp : &page->counter[id], emulated);
	if (!guest_end(me, &notes->rule[nr].read))
		return;

	if (WANT(me->rule) == MUST && !is_scratch(notes, nr) && got != wanted)
		guest_complain(me, ask_stamp ? BAD_STAMP : BAD_COUNTER,
			       me->rule, got, wanted);
}

static void guest_write(struct notes *notes, int id, uint64_t nr, uint64_t random)
{
	struct page *page = (void *)gpa_of(notes, nr);
	bool emulated = notes->emulation && !(random & 0xf);
	uint64_t *counter = counter_of(notes, id, nr);
	struct note *me = &notes->note[id];

	guest_begin(me, nr, WRITE, &notes->rule[nr].write);
	guest_store(&page->counter[id], *counter + 1, emulated);
	barrier();
	if (!READ_ONCE(me->exited))
		*counter += 1;
	guest_end(me, &notes->rule[nr].write);
}

/*
 * A fetch that finds no memory cannot be survived. The host leaves a page alone
 * while a vCPU says that it is about to execute it.
 */
static void guest_exec(struct notes *notes, int id, uint64_t nr)
{
	struct page *page = (void *)gpa_of(notes, nr);
	struct note *me = &notes->note[id];
	uint64_t got;

	WRITE_ONCE(me->exec_page, nr);
	asm volatile("mfence" : : : "memory");
	guest_begin(me, nr, EXEC, &notes->rule[nr].read);
	if (WANT(me->rule) == MUST) {
		got = ((uint32_t (*)(void))page->code)();
		guest_end(me, &notes->rule[nr].read);
		if (got != nr)
			guest_complain(me, BAD_CODE, me->rule, got, nr);
	}
	WRITE_ONCE(me->exec_page, NO_PAGE);
}

static void guest_touch(struct notes *notes, int id, uint64_t random)
{
	uint64_t hot_nr = READ_ONCE(notes->hot_nr), nr;
	/* Exits take long. */
	bool exit_is_due = !(random >> 4 & 0xf);
	struct rule *rule;

	if (hot_nr && random & 1)
		nr = READ_ONCE(notes->hot_first) + (random >> 16) % hot_nr;
	else
		nr = random >> 16;
	nr %= notes->config.nr;
	rule = &notes->rule[nr];
	if (WANT(rule->read) == SHUN) {
		notes->note[id].touches++;
		notes->note[id].touches_changing++;
		return;
	}

	switch (random >> 1 & 7) {
	case 0 ... 2:
		if (WANT(rule->read) != NEVER || exit_is_due)
			guest_read(notes, id, nr, random >> 8);
		break;
	case 3 ... 5:
		if (WANT(rule->write) != NEVER || exit_is_due)
			guest_write(notes, id, nr, random >> 8);
		break;
	default:
		if (!is_scratch(notes, nr))
			guest_exec(notes, id, nr);
		break;
	}
}

static void guest_code(struct notes *notes, int id)
{
	struct note *me = &notes->note[id];
	uint64_t order_nr = 0, random;
	enum order order;

	random = notes->seed * (2 * id + 3) | 1;
	do {
		while (READ_ONCE(notes->order_nr) == order_nr)
			cpu_relax();
		order_nr = READ_ONCE(notes->order_nr);
		order = READ_ONCE(notes->order);
		WRITE_ONCE(me->done, order_nr);
		while (order == ORDER_RUN &&
		       READ_ONCE(notes->order_nr) == order_nr) {
			guest_touch(notes, id, xorshift(&random));
			/* Lets an emulated host turn to its other CPUs. */
			if (!(random & 0xf))
				cpu_relax();
		}
	} while (order != ORDER_END);
	GUEST_DONE();
}

/* ---------------------------------------------------- the host: its state */

static struct notes *notes;		/* the guest's */

struct runner {
	int id;
	struct kvm_vcpu *vcpu;
	pthread_t thread;
	uint64_t exits;
};

static struct runner runners[MAX_VCPUS];

/* ------------------------------------------------- what is said of a failure */

static pthread_mutex_t fail_mutex = PTHREAD_MUTEX_INITIALIZER;

static const char *how_name(enum how how)
{
	return how == READ ? "read" : how == WRITE ? "write" : "fetch";
}

static const char *rule_name(uint32_t rule)
{
	static const char * const names[] = { "never", "may", "must", "shun" };
	static char buf[4][32];
	static int next;
	char *name = buf[next++ % 4];

	snprintf(name, sizeof(buf[0]), "%s (#%u)", names[WANT(rule)],
		 rule >> WANT_BITS);
	return name;
}

/* Fails the test because of what vCPU @r does, which it is not back from. */
static __printf(2, 3) void fail(struct runner *r, const char *fmt, ...)
{
	struct note *note = &notes->note[r->id];
	struct rule *rule = &notes->rule[note->page % notes->config.nr];
	char what[256];
	va_list args;

	/* Who is not the first waits for the process to end. */
	pthread_mutex_lock(&fail_mutex);
	va_start(args, fmt);
	vsnprintf(what, sizeof(what), fmt, args);
	va_end(args);

	ksft_print_msg("vCPU %d: %s\n", r->id, what);
	ksft_print_msg("at a %s of page %lu, gpa %#lx; this reaches memory: %s\n",
		       how_name(note->how), note->page, gpa_of(notes, note->page),
		       rule_name(note->rule));
	ksft_print_msg("now reads reach memory: %s, writes: %s\n",
		       rule_name(READ_ONCE(rule->read)),
		       rule_name(READ_ONCE(rule->write)));
	exit(KSFT_FAIL);
}

/* ----------------------------------------------------------------- vCPUs */

static void take_mmio(struct runner *r)
{
	struct kvm_run *run = r->vcpu->run;
	uint64_t page = (run->mmio.phys_addr - notes->config.gpa) / PAGE_SIZE;
	struct note *note = &notes->note[r->id];
	uint32_t now;

	if (page >= notes->config.nr || page != note->page || run->mmio.len != 8 ||
	    note->how != (run->mmio.is_write ? WRITE : READ))
		fail(r, "KVM_EXIT_MMIO for what it did not do: a %s of %u bytes at %#llx",
		     run->mmio.is_write ? "write" : "read", run->mmio.len,
		     run->mmio.phys_addr);

	now = run->mmio.is_write ? READ_ONCE(notes->rule[page].write) :
				   READ_ONCE(notes->rule[page].read);
	if (now == note->rule && WANT(now) == MUST)
		fail(r, "KVM_EXIT_MMIO: memory blinked");

	/* The write is lost, as the device that nobody emulates would lose it. */
	if (!run->mmio.is_write)
		memset(run->mmio.data, 0xff, 8);
	note->exited = 1;
	r->exits++;
}

static void fail_as_guest_said(struct runner *r)
{
	static const char * const names[] = {
		[BAD_STAMP] = "wrong contents",
		[BAD_COUNTER] = "a write was lost, or came from nowhere",
		[BAD_CODE] = "wrong code",
	};
	struct note *note = &notes->note[r->id];

	if (note->wrong == LANDED)
		fail(r, "the access landed where there is no memory for it");
	fail(r, "%s: %#lx, not %#lx", names[note->wrong], note->got,
	     note->wanted);
}

/* False when the guest has ended. */
static bool take_exit(struct runner *r)
{
	struct kvm_run *run = r->vcpu->run;
	struct ucall uc;

	switch (run->exit_reason) {
	case KVM_EXIT_MMIO:
		take_mmio(r);
		return true;
	case KVM_EXIT_IO:
		switch (get_ucall(r->vcpu, &uc)) {
		case UCALL_DONE:
			return false;
		case UCALL_SYNC:
			fail_as_guest_said(r);
		default:
			fail(r, "unexpected ucall %lu", uc.cmd);
		}
		return false;
	case KVM_EXIT_INTERNAL_ERROR:
		fail(r, "KVM_EXIT_INTERNAL_ERROR, suberror %u",
		     run->internal.suberror);
		return false;
	default:
		fail(r, "unexpected exit: %s",
		     exit_reason_str(run->exit_reason));
		return false;
	}
}

static void *runner_main(void *arg)
{
	struct runner *r = arg;

	for (;;) {
		if (__vcpu_run(r->vcpu)) {
			if (errno != EINTR && errno != EAGAIN)
				fail(r, "KVM_RUN: %s", strerror(errno));
		} else if (!take_exit(r)) {
			return NULL;
		}
	}
}

static bool order_done(void *arg)
{
	int i;

	for (i = 0; i < notes->config.nr_vcpus; i++) {
		if (READ_ONCE(notes->note[i].done) != notes->order_nr)
			return false;
	}
	return true;
}

static void give_order(enum order order)
{
	notes->order = order;
	atomic_thread_fence(memory_order_release);
	WRITE_ONCE(notes->order_nr, notes->order_nr + 1);
	TEST_ASSERT(host_wait(order_done, NULL), "the vCPUs ignore order %d",
		    order);
}

void touchers_start(void)
{
	int i;

	notes->emulation = !host_set(HOST_FEP, "1");
	notes->seed = host_random();
	for (i = 0; i < notes->config.nr_vcpus; i++)
		pthread_create(&runners[i].thread, NULL, runner_main,
			       &runners[i]);
	give_order(ORDER_RUN);
}

void touchers_pause(void)
{
	give_order(ORDER_PAUSE);
}

void touchers_resume(void)
{
	notes->seed = host_random();
	give_order(ORDER_RUN);
}

void touchers_stop(void)
{
	int i;

	give_order(ORDER_END);
	for (i = 0; i < notes->config.nr_vcpus; i++)
		pthread_join(runners[i].thread, NULL);
}

static bool touched_until(void *arg)
{
	uint64_t *until = arg;
	int i;

	for (i = 0; i < notes->config.nr_vcpus; i++) {
		if (READ_ONCE(notes->note[i].touches) < until[i])
			return false;
	}
	return true;
}

void touchers_wait(uint64_t nr)
{
	uint64_t until[MAX_VCPUS];
	int i;

	for (i = 0; i < notes->config.nr_vcpus; i++)
		until[i] = READ_ONCE(notes->note[i].touches) + nr;
	TEST_ASSERT(host_wait(touched_until, until), "the vCPUs stand still");
}

void touchers_set_hot(uint64_t first, uint64_t nr)
{
	/* The guest takes any pair of numbers. */
	WRITE_ONCE(notes->hot_first, first);
	WRITE_ONCE(notes->hot_nr, nr);
}

struct touchers_sums touchers_sums(void)
{
	struct touchers_sums sums = {};
	int i;

	for (i = 0; i < notes->config.nr_vcpus; i++) {
		sums.touches += notes->note[i].touches;
		sums.changing += notes->note[i].touches_changing;
		sums.exits += runners[i].exits;
	}
	return sums;
}

/* ------------------------------------------------------------- the rules */

static enum want stricter(bool there)
{
	return there ? MUST : NEVER;
}

void touchers_set_rules(uint64_t first, uint64_t nr, bool there, uint32_t flags)
{
	uint64_t i;

	atomic_thread_fence(memory_order_seq_cst);
	for (i = first; i < first + nr; i++) {
		set_rule(&notes->rule[i].read, stricter(there));
		set_rule(&notes->rule[i].write,
			 stricter(there && !(flags & KVM_MEM_READONLY)));
	}
	atomic_thread_fence(memory_order_seq_cst);
}

void touchers_relax_writes(uint64_t first, uint64_t nr)
{
	uint64_t i;

	for (i = first; i < first + nr; i++)
		set_rule(&notes->rule[i].write, MAY);
	atomic_thread_fence(memory_order_seq_cst);
}

void touchers_relax_rules(uint64_t first, uint64_t nr, uint32_t flags)
{
	uint64_t i;

	for (i = first; i < first + nr; i++)
		set_rule(&notes->rule[i].read, MAY);
	/* Pages of a read-only slot come and go without ever being writable. */
	if (!(flags & KVM_MEM_READONLY))
		touchers_relax_writes(first, nr);
	atomic_thread_fence(memory_order_seq_cst);
}

static bool nobody_executes(void *arg)
{
	uint64_t *range = arg;
	int i;

	for (i = 0; i < notes->config.nr_vcpus; i++) {
		if (READ_ONCE(notes->note[i].exec_page) - range[0] < range[1])
			return false;
	}
	return true;
}

void touchers_wait_fetches(uint64_t first, uint64_t nr)
{
	uint64_t range[] = { first, nr };

	TEST_ASSERT(host_wait(nobody_executes, range),
		    "a vCPU does not come back from executing a page");
}

void touchers_shun(uint64_t first, uint64_t nr)
{
	uint64_t i;

	for (i = first; i < first + nr; i++) {
		set_rule(&notes->rule[i].read, SHUN);
		set_rule(&notes->rule[i].write, SHUN);
	}
	atomic_thread_fence(memory_order_seq_cst);
	/* What had begun by then is over. */
	touchers_wait(1);
}

/* --------------------------------------------------------------- the VM */

void touchers_init(struct kvm_vm *vm, const struct touchers_config *config)
{
	size_t size = config->nr * PAGE_SIZE;

	TEST_ASSERT(config->nr <= TOUCHERS_MAX_PAGES, "too many pages");
	notes = notes_map(vm, sizeof(*notes) +
			  MAX_VCPUS * config->nr * sizeof(*notes->counter));
	notes->config = *config;
	virt_map_level(vm, config->gpa, config->gpa, size,
		       config->guest_4k ? PG_LEVEL_4K : PG_LEVEL_2M);
}

const uint64_t *touchers_counters(void)
{
	return notes->counter;
}

void touchers_add_vcpus(struct kvm_vm *vm)
{
	int i;

	for (i = 0; i < notes->config.nr_vcpus; i++) {
		notes->note[i].page = NO_PAGE;
		notes->note[i].exec_page = NO_PAGE;
		runners[i].id = i;
		runners[i].vcpu = notes_vcpu_add(vm, i, guest_code);
	}
}
