// SPDX-License-Identifier: GPL-2.0
/*
 * Random operations on the slots of a range of guest memory, of which vCPUs
 * use every page all the time, on a host that does to the memory behind it
 * whatever hosts do.
 *
 * For each page there is a rule that says whether a guest access must reach
 * memory, may, or must never. A rule is relaxed just before an operation that
 * changes what becomes of the page, and is strict again right after. An access
 * that saw the same rule before and after it is held to it; so pages that an
 * operation leaves alone are under a strict rule all the while.
 *
 *	-s SEED		repeats the operations of a run
 *	-n OPS		how many operations
 *	-t SECONDS	how long, if no number is given (20)
 *	-v VCPUS	1 to 4 (2)
 *	-b BACKING	4k, thp (default) or hugetlb
 *	-q		no noise from the host
 *	-k		a control: only what KVM can do by itself
 */
#include <getopt.h>
#include <pthread.h>
#include <sched.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <time.h>

#include "kvm_util.h"
#include "processor.h"
#include "ucall_common.h"

#include "chooser.h"
#include "history.h"
#include "host.h"
#include "host_noise.h"
#include "memslot_ops.h"
#include "notes.h"
#include "pages.h"
#include "rule.h"
#include "tally.h"
#include "xorshift.h"

#define MAX_VCPUS	PAGES_MAX_VCPUS

#define FIRST_SLOT	2
#define RANGE_FRAMES	12
#define RANGE		(RANGE_FRAMES * HUGE_SIZE)
#define NR_PAGES	(RANGE / PAGE_SIZE)
/* With a multiple of 1 GiB inside. */
#define RANGE_GPA	(5 * GIGA_SIZE - 5 * HUGE_SIZE)
/* Where a slot is moved to, and back from. */
#define PARK_GPA	(32 * GIGA_SIZE)

/* Pages whose contents the host throws away as it likes. */
#define SCRATCH_FIRST	(7 * HUGE_PAGES)
#define SCRATCH_NR	(2 * HUGE_PAGES)

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
	struct note note[MAX_VCPUS];
	struct rule rule[NR_PAGES];
	/* What page->counter should be. */
	uint64_t counter[MAX_VCPUS][NR_PAGES];
};

static bool is_scratch(uint64_t page)
{
	return page - SCRATCH_FIRST < SCRATCH_NR;
}

static uint64_t gpa_of(uint64_t page)
{
	return RANGE_GPA + page * PAGE_SIZE;
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
	struct page *page = (void *)gpa_of(nr);
	bool emulated = notes->emulation && !(random & 0xf);
	bool ask_stamp = random & 0x10;
	struct note *me = &notes->note[id];
	uint64_t got, wanted;

	wanted = ask_stamp ? PAGE_STAMP(nr) : notes->counter[id][nr];
	guest_begin(me, nr, READ, &notes->rule[nr].read);
	got = guest_load(ask_stamp ? &page->stamp : &page->counter[id], emulated);
	if (!guest_end(me, &notes->rule[nr].read))
		return;

	if (WANT(me->rule) == MUST && !is_scratch(nr) && got != wanted)
		guest_complain(me, ask_stamp ? BAD_STAMP : BAD_COUNTER,
			       me->rule, got, wanted);
}

static void guest_write(struct notes *notes, int id, uint64_t nr, uint64_t random)
{
	struct page *page = (void *)gpa_of(nr);
	bool emulated = notes->emulation && !(random & 0xf);
	uint64_t *counter = &notes->counter[id][nr];
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
	struct page *page = (void *)gpa_of(nr);
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
	nr %= NR_PAGES;
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
		if (!is_scratch(nr))
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

/* ---------------------------------------------------------- the options */

enum backing {
	BACKING_4K,
	BACKING_THP,
	BACKING_HUGETLB,
};

static struct {
	uint64_t nr_ops;
	uint64_t seconds;
	int nr_vcpus;
	enum backing backing;
	bool quiet;
	bool control;
	/* The seed decides on these: */
	bool guest_4k;
	size_t misaligned;
	bool eager_split;
} opt = {
	.seconds = 20,
	.nr_vcpus = 2,
	.backing = BACKING_THP,
};

/* ----------------------------------------------------- the state of it all */

static struct kvm_vm *vm;
static struct notes *notes;
static char *mem;
static struct range range;
static struct chooser chooser;
/* What the chooser keeps. */
static struct layout *const layout = &chooser.layout;

struct runner {
	int id;
	struct kvm_vcpu *vcpu;
	pthread_t thread;
	uint64_t exits;
};

static struct runner runners[MAX_VCPUS];

static struct counter nr_huge;
static uint64_t most_huge;

/* ------------------------------------------------- what is said of a failure */

static pthread_mutex_t fail_mutex = PTHREAD_MUTEX_INITIALIZER;

static void print_setup(void)
{
	static const char * const backings[] = { "4k", "thp", "hugetlb" };

	ksft_print_msg("options: -s %s -v %d -b %s\n", getenv("SEED"),
		       opt.nr_vcpus, backings[opt.backing]);
	ksft_print_msg("guest pages of %s, host address misaligned by %#zx, eager_page_split=%c\n",
		       opt.guest_4k ? "4k" : "2m", opt.misaligned,
		       opt.eager_split ? 'Y' : 'N');
}

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
	struct rule *rule = &notes->rule[note->page % NR_PAGES];
	char what[256];
	va_list args;

	/* Who is not the first waits for the process to end. */
	pthread_mutex_lock(&fail_mutex);
	va_start(args, fmt);
	vsnprintf(what, sizeof(what), fmt, args);
	va_end(args);

	ksft_print_msg("vCPU %d: %s\n", r->id, what);
	ksft_print_msg("at a %s of page %lu, gpa %#lx; this reaches memory: %s\n",
		       how_name(note->how), note->page, gpa_of(note->page),
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
	uint64_t page = (run->mmio.phys_addr - RANGE_GPA) / PAGE_SIZE;
	struct note *note = &notes->note[r->id];
	uint32_t now;

	if (page >= NR_PAGES || page != note->page || run->mmio.len != 8 ||
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

	for (i = 0; i < opt.nr_vcpus; i++) {
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

static bool touched_until(void *arg)
{
	uint64_t *until = arg;
	int i;

	for (i = 0; i < opt.nr_vcpus; i++) {
		if (READ_ONCE(notes->note[i].touches) < until[i])
			return false;
	}
	return true;
}

/* Until each vCPU has touched so many more pages. */
static void wait_touches(uint64_t nr)
{
	uint64_t until[MAX_VCPUS];
	int i;

	for (i = 0; i < opt.nr_vcpus; i++)
		until[i] = READ_ONCE(notes->note[i].touches) + nr;
	TEST_ASSERT(host_wait(touched_until, until), "the vCPUs stand still");
}

static void set_hot(uint64_t first, uint64_t nr)
{
	/* The guest takes any pair of numbers. */
	WRITE_ONCE(notes->hot_first, first);
	WRITE_ONCE(notes->hot_nr, nr);
}

/* The pages around a boundary. */
static void set_hot_around(uint64_t page)
{
	set_hot(page < 8 ? 0 : page - 8, 16);
}

/* ------------------------------------------------------------- the rules */

static enum want stricter(bool there)
{
	return there ? MUST : NEVER;
}

/* What becomes of pages is settled: accesses land, or they do not. */
static void set_rules(uint64_t first, uint64_t nr, bool there, uint32_t flags)
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

static void relax_writes(uint64_t first, uint64_t nr)
{
	uint64_t i;

	for (i = first; i < first + nr; i++)
		set_rule(&notes->rule[i].write, MAY);
	atomic_thread_fence(memory_order_seq_cst);
}

static void relax_rules(uint64_t first, uint64_t nr, uint32_t flags)
{
	uint64_t i;

	for (i = first; i < first + nr; i++)
		set_rule(&notes->rule[i].read, MAY);
	/* Pages of a read-only slot come and go without ever being writable. */
	if (!(flags & KVM_MEM_READONLY))
		relax_writes(first, nr);
	atomic_thread_fence(memory_order_seq_cst);
}

static bool nobody_executes(void *arg)
{
	uint64_t *range = arg;
	int i;

	for (i = 0; i < opt.nr_vcpus; i++) {
		if (READ_ONCE(notes->note[i].exec_page) - range[0] < range[1])
			return false;
	}
	return true;
}

/* Pages are about to leave. */
static void begin_leaving(uint64_t first, uint64_t nr, uint32_t flags)
{
	uint64_t range[] = { first, nr };

	relax_rules(first, nr, flags);
	TEST_ASSERT(host_wait(nobody_executes, range),
		    "a vCPU does not come back from executing a page");
}

/* They have left, and are put to another use at once. */
static void end_leaving(uint64_t first, uint64_t nr, uint32_t flags)
{
	set_rules(first, nr, false, flags);
	pages_take(first, nr);
}

static void begin_arriving(uint64_t first, uint64_t nr, uint32_t flags)
{
	pages_give(first, nr);
	pages_log_forget(first, nr);
	relax_rules(first, nr, flags);
}

/*
 * As begin_arriving(), but with nobody there: where KVM itself makes a slot, an
 * access that found none shortly before may replace what another one has mapped
 * since. GROW has a grace period against that. KVM has none: up to 6.12 it
 * flushes no TLB then, and a page can be written to that the host has taken
 * back; from 6.18 on it warns.
 */
static void begin_arriving_unseen(uint64_t first, uint64_t nr, uint32_t flags)
{
	uint64_t i;

	begin_arriving(first, nr, flags);
	for (i = first; i < first + nr; i++) {
		set_rule(&notes->rule[i].read, SHUN);
		set_rule(&notes->rule[i].write, SHUN);
	}
	atomic_thread_fence(memory_order_seq_cst);
	/* What had begun by then is over. */
	wait_touches(1);
}

/* ---------------------------------------------------------- the operations */

/* Often one next to a 2 MiB boundary. */
static uint64_t random_page(const struct model_slot *slot, uint64_t low, uint64_t high)
{
	uint64_t page = host_random_between(low, high);

	switch (host_random() % 4) {
	case 0:
		return page;
	case 1:
		page = align_up(page, HUGE_PAGES);
		break;
	case 2:
		page = align_up(page, HUGE_PAGES) + host_random_between(0, 4) - 2;
		break;
	default:
		page = low + host_random() % 8;
	}
	return page >= low && page <= high ? page :
					     host_random_between(low, high);
}

/* Let there be memory, mostly. */
static bool allows(const struct chooser *c, const struct step *s, void *arg)
{
	return s->kind != STEP_SHRINK || host_one_in(4) ||
	       layout_nr_present(&c->layout) >= NR_PAGES / 2;
}

static struct chooser chooser = {
	.layout = {
		.nr_pages = NR_PAGES,
		.first_id = FIRST_SLOT,
	},
	.weight = {
		[STEP_GROW] = 20,
		[STEP_SHRINK] = 20,
		[STEP_SPLIT] = 15,
		[STEP_MERGE] = 20,
		[STEP_SET_READONLY] = 16,
		[STEP_INVALID] = 10,
		[STEP_CREATE] = 12,
		[STEP_DELETE] = 3,
		[STEP_AWAY] = 2,
		[STEP_LOG] = 20,
	},
	.max_slots = LAYOUT_MAX_SLOTS,
	.max_cuts = 7,
	.park_gpa = PARK_GPA,
	.page = random_page,
	.allows = allows,
};

static void relax_for(const struct step *s)
{
	switch (s->effect) {
	case STEP_BRINGS:
		if (s->kind == STEP_GROW)
			begin_arriving(s->first, s->nr_pages, s->flags);
		else
			begin_arriving_unseen(s->first, s->nr_pages, s->flags);
		break;
	case STEP_TAKES:
		begin_leaving(s->first, s->nr_pages, s->flags);
		break;
	case STEP_CHANGES_WRITES:
		relax_writes(s->first, s->nr_pages);
		break;
	default:
		break;
	}
}

static void settle_after(const struct step *s)
{
	switch (s->effect) {
	case STEP_TAKES:
		end_leaving(s->first, s->nr_pages, s->flags);
		break;
	case STEP_BRINGS:
	case STEP_CHANGES_WRITES:
		set_rules(s->first, s->nr_pages, true, s->flags);
		break;
	default:
		break;
	}
}

static void set_hot_for(const struct step *s)
{
	if (s->effect == STEP_CHANGES_WRITES)
		set_hot(s->first, host_one_in(2) ? s->nr_pages : 16);
	else if (s->kind != STEP_INVALID)
		set_hot_around(s->place);
}

static void make(const struct step *s)
{
	uint64_t bitmap[NR_PAGES / 64];
	int err;

	history_add("%s", s->text);
	set_hot_for(s);
	relax_for(s);
	err = step_make(&range, s, bitmap);
	settle_after(s);
	history_result(err);
	chooser_made(&chooser, s, err);
	if (s->kind == STEP_SHRINK && s->wants_bitmap)
		pages_log_check(s->first, s->nr_pages, bitmap);
	step_assert(&range, layout, s);
}

static void make_move(const struct step *away)
{
	struct step back;

	make(away);
	wait_touches(host_random() % 50);
	step_back(&back, away);
	make(&back);
}

static void read_log(const struct model_slot *s, bool check)
{
	uint64_t bitmap[NR_PAGES / 64];

	kvm_vm_get_dirty_log(vm, s->id, bitmap);
	if (check)
		pages_log_check(s->first, s->nr, bitmap);
	pages_log_forget(s->first, s->nr);
}

static bool can_change(const struct model_slot *s)
{
	return !(s->flags & chooser.fixed_flags);
}

/*
 * Cuts slot @i in the middle of a huge frame, if there is one in it, and
 * returns which slot to log then: if a huge mapping survived the cut, writes on
 * one side of it go unlogged once there was one on the other side.
 */
static unsigned int cut_huge_frame(unsigned int i)
{
	const struct model_slot *s = &layout->slot[i];
	uint64_t first = align_up(s->first, HUGE_PAGES), at;
	uint64_t frames = align_down(s->first + s->nr, HUGE_PAGES) / HUGE_PAGES;
	struct step cut;

	if (opt.control || !can_change(s) || layout->nr == LAYOUT_MAX_SLOTS ||
	    frames <= first / HUGE_PAGES)
		return i;

	frames -= first / HUGE_PAGES;
	first += host_random() % frames * HUGE_PAGES;
	set_hot(first, HUGE_PAGES);
	wait_touches(50);
	at = first + host_random_between(1, HUGE_PAGES - 1);
	step_split(&cut, layout, i, 1, &at);
	make(&cut);
	return i + host_random() % 2;
}

/* Begins to log writes to a slot, reads its log, or ends that. */
static void make_log(struct step *s)
{
	unsigned int i = layout_find(layout, s->slot.first) - layout->slot;
	bool logging;

	if (host_one_in(2))
		step_log(s, layout, cut_huge_frame(i));
	logging = s->slot.flags & KVM_MEM_LOG_DIRTY_PAGES;

	give_order(ORDER_PAUSE);
	if (logging)
		read_log(&s->slot, true);
	if (!logging || can_change(&s->slot) || !host_one_in(4))
		make(s);
	if (!logging)
		read_log(&s->slot, false);
	notes->seed = host_random();
	give_order(ORDER_RUN);

	set_hot_around(s->first + (host_one_in(2) ? 0 : s->nr_pages));
	wait_touches(100);
	step_assert(&range, layout, s);
}

/* ------------------------------------------------------------------ main */

static void run_step(void)
{
	struct step s;

	chooser_next(&chooser, &s);
	switch (s.kind) {
	case STEP_AWAY:
		make_move(&s);
		break;
	case STEP_LOG:
		make_log(&s);
		break;
	default:
		/* Where it is to be refused, all must stay: no rule is relaxed. */
		make(&s);
	}
	chooser_assert_stats(&chooser, range.dev);
}

static void check_all(void)
{
	give_order(ORDER_PAUSE);
	most_huge = max(most_huge, counter_read(&nr_huge));
	pages_check();
	layout_assert_all(&range, layout);
	notes->seed = host_random();
	give_order(ORDER_RUN);
}

static uint64_t run_steps(void)
{
	struct timespec start;
	uint64_t n = 0;

	clock_gettime(CLOCK_MONOTONIC, &start);
	while (opt.nr_ops ? n < opt.nr_ops : host_seconds_since(&start) < opt.seconds) {
		run_step();
		if (!host_one_in(4))
			wait_touches(host_random() % 200);
		if (!(++n % 32))
			check_all();
	}
	check_all();
	return n;
}

static void make_memory(void)
{
	size_t offset = RANGE_GPA % GIGA_SIZE + opt.misaligned;

	if (opt.backing == BACKING_HUGETLB) {
		mem = mmap(NULL, RANGE, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1, 0);
		if (mem == MAP_FAILED)
			ksft_exit_skip("no huge pages\n");
	} else {
		mem = host_map(RANGE, GIGA_SIZE, offset,
			       opt.backing == BACKING_THP ? HOST_PAGES_THP :
							    HOST_PAGES_4K);
	}
}

static void prepare_pages(void)
{
	const struct pages_config config = {
		.mem = mem,
		.gpa = RANGE_GPA,
		.nr = NR_PAGES,
		.scratch_first = SCRATCH_FIRST,
		.scratch_nr = SCRATCH_NR,
		.granule = opt.backing == BACKING_4K ? 1 : HUGE_PAGES,
		.thp = opt.backing == BACKING_THP,
		.hugetlb = opt.backing == BACKING_HUGETLB,
		.nr_vcpus = opt.nr_vcpus,
		.counter = notes->counter[0],
	};

	pages_init(&config);
}

static void prepare_chooser(void)
{
	int kind;

	chooser_ask(&chooser, range.dev);
	if (!(chooser.features & KVM_MEMSLOT_FEATURE_DIRTY_BITMAP))
		chooser.fixed_flags = KVM_MEM_LOG_DIRTY_PAGES;
	for (kind = 0; opt.control && kind <= STEP_INVALID; kind++)
		chooser.weight[kind] = 0;
}

static void make_vm(void)
{
	int i;

	vm = notes_vm_create(opt.nr_vcpus);
	notes = notes_map(vm, sizeof(*notes));
	virt_map_level(vm, RANGE_GPA, RANGE_GPA, RANGE,
		       opt.guest_4k ? PG_LEVEL_4K : PG_LEVEL_2M);

	range = (struct range) {
		.vm = vm,
		.dev = memslot_ops_open(vm),
		.gpa = RANGE_GPA,
		.mem = mem,
	};
	prepare_pages();
	prepare_chooser();
	nr_huge = counter_open(vm_get_stats_fd(vm), "pages_2m");

	for (i = 0; i < opt.nr_vcpus; i++) {
		notes->note[i].page = NO_PAGE;
		notes->note[i].exec_page = NO_PAGE;
		runners[i].id = i;
		runners[i].vcpu = notes_vcpu_add(vm, i, guest_code);
	}
}

static void start_vcpus(void)
{
	int i;

	notes->emulation = !host_set(HOST_FEP, "1");
	notes->seed = host_random();
	for (i = 0; i < opt.nr_vcpus; i++)
		pthread_create(&runners[i].thread, NULL, runner_main,
			       &runners[i]);
	give_order(ORDER_RUN);
}

static void stop_vcpus(void)
{
	int i;

	give_order(ORDER_END);
	for (i = 0; i < opt.nr_vcpus; i++)
		pthread_join(runners[i].thread, NULL);
	host_restore();
}

static void print_numbers(uint64_t n, double seconds)
{
	uint64_t touches = 0, changing = 0, exits = 0;
	int i;

	for (i = 0; i < opt.nr_vcpus; i++) {
		touches += notes->note[i].touches;
		changing += notes->note[i].touches_changing;
		exits += runners[i].exits;
	}
	tally_promises(touches - changing);
	ksft_print_msg("%lu steps in %.0f seconds:%s\n", n, seconds,
		       chooser_summary(&chooser));
	ksft_print_msg("%lu touches, %lu of them amid a change, %lu exits, <= %lu huge mappings\n",
		       touches, changing, exits, most_huge);
	tally_print();
	TEST_ASSERT(touches && exits, "the vCPUs did nothing");
}

static void choose_by_seed(void)
{
	opt.guest_4k = host_one_in(2);
	/* Splitting huge mappings early hides what goes wrong with them. */
	opt.eager_split = host_one_in(2);
	host_set(HOST_EAGER_SPLIT, opt.eager_split ? "Y" : "N");
	if (opt.backing != BACKING_HUGETLB && host_one_in(4))
		opt.misaligned = host_random_between(1, 600) * PAGE_SIZE;
	print_setup();
}

static void start_noise(void)
{
	const struct noise_config config = {
		.mem = mem,
		.size = RANGE,
		.scratch = mem + SCRATCH_FIRST * PAGE_SIZE,
		.scratch_size = SCRATCH_NR * PAGE_SIZE,
		.granule = opt.backing == BACKING_HUGETLB ? HUGE_SIZE :
							    PAGE_SIZE,
		.thp = opt.backing == BACKING_THP,
		.hugetlb = opt.backing == BACKING_HUGETLB,
		.seed = host_random(),
		.own = pages_noise,
	};

	if (!opt.quiet)
		noise_start(&config);
}

static void run_test(void)
{
	struct timespec start;
	double seconds;
	uint64_t n;

	choose_by_seed();
	make_memory();
	make_vm();
	start_noise();
	start_vcpus();

	clock_gettime(CLOCK_MONOTONIC, &start);
	n = run_steps();
	seconds = host_seconds_since(&start);

	stop_vcpus();
	if (!opt.quiet) {
		noise_stop();
		noise_print();
	}
	print_numbers(n, seconds);
	close(range.dev);
	kvm_vm_free(vm);
}

static enum backing backing_named(const char *name)
{
	if (!strcmp(name, "4k"))
		return BACKING_4K;
	if (!strcmp(name, "thp"))
		return BACKING_THP;
	if (!strcmp(name, "hugetlb"))
		return BACKING_HUGETLB;
	ksft_exit_fail_msg("no backing is called %s\n", name);
}

static void parse_options(int argc, char *argv[])
{
	int c;

	while ((c = getopt(argc, argv, "s:n:t:v:b:qk")) != -1) {
		switch (c) {
		case 's':
			setenv("SEED", optarg, 1);
			break;
		case 'n':
			opt.nr_ops = strtoull(optarg, NULL, 0);
			break;
		case 't':
			opt.seconds = strtoull(optarg, NULL, 0);
			break;
		case 'v':
			opt.nr_vcpus = atoi(optarg);
			break;
		case 'b':
			opt.backing = backing_named(optarg);
			break;
		case 'q':
			opt.quiet = true;
			break;
		case 'k':
			opt.control = true;
			break;
		default:
			ksft_exit_fail_msg("see the source for the options\n");
		}
	}
	if (opt.nr_vcpus < 1 || opt.nr_vcpus > MAX_VCPUS)
		ksft_exit_fail_msg("1 to %d vCPUs\n", MAX_VCPUS);
}

int main(int argc, char *argv[])
{
	setlinebuf(stdout);
	ksft_print_header();
	ksft_set_plan(1);
	parse_options(argc, argv);

	if (!memslot_ops_present() ||
	    !memslot_ops_has(KVM_MEMSLOT_OP_SET_READONLY))
		ksft_exit_skip("the module is not loaded, or lacks operations\n");
	if (opt.backing == BACKING_HUGETLB)
		host_write("/proc/sys/vm/nr_hugepages", "32");

	history_begin("stress", layout, print_setup);
	run_test();
	history_end(true);
	ksft_finished();
}
