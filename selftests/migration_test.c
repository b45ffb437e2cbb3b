// SPDX-License-Identifier: GPL-2.0
/*
 * Live migrations of a guest whose memory changes its slots all the while.
 *
 * The proof that no write is lost or goes unlogged is an oracle, not a comparison
 * of logs. vCPUs write increasing numbers to random pages; the VMM keeps a copy
 * of the memory, as the destination of a migration would. At each harvest of the
 * dirty log, every page that differs from the copy must have been named since it
 * was copied: a page that differs and was not named is a lost write. While vCPUs
 * run, this is asked of all writes that were over before the harvest began; while
 * they are out of KVM, of every byte.
 *
 *	-s SEED		repeats the operations of a run
 *	-n MIGRATIONS	how many (25)
 *	-t SECONDS	how long, in place of a number
 *	-m MODE		plain, manual, init (manual, initially set), ring or
 *			ring_bitmap
 *	-v VCPUS	1 to 4 (2)
 *	-o OPS		operations in a round (about 8)
 *	-q		faults do not sleep
 *	-k		a control: no operations
 *	-x N		forget every Nth page that the log names, on average, and
 *			succeed if that is noticed: shows that the test can fail
 */
#include <getopt.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <time.h>

#include "kvm_util.h"
#include "processor.h"

#include "chooser.h"
#include "dirty_ring.h"
#include "history.h"
#include "host.h"
#include "memslot_ops.h"
#include "notes.h"
#include "sleeper.h"
#include "tally.h"
#include "xorshift.h"

#define MAX_VCPUS	4

#define FIRST_SLOT	2
/* Neither whole words of a bitmap nor whole huge pages. */
#define NR_PAGES	917
#define RANGE		(NR_PAGES * PAGE_SIZE)
#define RANGE_GPA	(4 * GIGA_SIZE + 37 * PAGE_SIZE)

#define BITMAP_WORDS	DIV_ROUND_UP(NR_PAGES, 64)
#define NR_ROUNDS	5
#define NO_PAGE		(~0UL)

#define PORT_PAUSE	0x30
#define PORT_STRING	0x31

/* ------------------------------------- what the guest and the host share */

enum how {
	PLAIN,
	EMULATED,
	EMULATED_CMPXCHG,
	STRING,				/* from a port */
	CLOCK,				/* a place for KVM to write kvmclock to */
	STEAL,				/* the same for steal time */
	NR_HOW,
};

static const char * const how_name[] = {
	"plain", "emulated", "cmpxchg", "string", "kvmclock", "steal time",
};

/* A word says how it was written, above that is a number that only grows. */
#define HOW_BITS	3
#define HOW(word)	((word) & ((1 << HOW_BITS) - 1))

struct page {
	uint64_t word[MAX_VCPUS];	/* of each vCPU's writes */
	uint64_t pad[252];
	struct {
		uint64_t place[8];
	} clock[MAX_VCPUS], steal[MAX_VCPUS];
} __aligned(PAGE_SIZE);

struct note {
	uint64_t done;			/* the last word that was written */
	uint64_t page;			/* that is being written to */
	uint64_t word;			/* that is being written */
	uint64_t nr[NR_HOW];
	uint64_t refused;		/* MSRs that KVM does not have */
} __aligned(256);

struct notes {
	uint64_t pause;
	uint64_t seed;
	bool emulation;			/* KVM_FEP works */
	uint64_t hot_first;		/* pages that matter most just now */
	uint64_t hot_nr;
	struct note note[MAX_VCPUS];
};

static uint64_t gpa_of(uint64_t page)
{
	return RANGE_GPA + page * PAGE_SIZE;
}

/* ------------------------------------------------------------- the guest */

static enum how guest_how(struct notes *notes, uint64_t random)
{
	switch (random % 32) {
	case 0 ... 7:
		return notes->emulation ? EMULATED : PLAIN;
	case 8 ... 11:
		return notes->emulation ? EMULATED_CMPXCHG : PLAIN;
	case 12 ... 15:
		return STRING;
	case 16:
		return CLOCK;
	case 17:
		return STEAL;
	default:
		return PLAIN;
	}
}

static void guest_cmpxchg(uint64_t *p, uint64_t word)
{
	uint64_t old = READ_ONCE(*p);

	asm volatile(KVM_FEP "lock cmpxchg %2, (%1)"
		     : "+a"(old) : "r"(p), "r"(word) : "memory", "cc");
}

static void guest_write(struct notes *notes, int id, uint64_t nr,
			enum how how, uint64_t word)
{
	struct page *page = (void *)gpa_of(nr);
	struct note *me = &notes->note[id];
	uint64_t *p = &page->word[id];
	void *to = p;
	uint64_t count = 2;
	uint8_t refused = 0;

	WRITE_ONCE(me->word, word);
	WRITE_ONCE(me->page, nr);
	asm volatile("mfence" : : : "memory");
	switch (how) {
	case EMULATED:
		asm volatile(KVM_FEP "mov %1, (%0)"
			     : : "r"(p), "r"(word) : "memory");
		break;
	case EMULATED_CMPXCHG:
		guest_cmpxchg(p, word);
		break;
	case STRING:
		asm volatile("rep insl" : "+D"(to), "+c"(count)
			     : "d"(PORT_STRING) : "memory");
		break;
	case CLOCK:
		refused = wrmsr_safe(MSR_KVM_SYSTEM_TIME_NEW,
				     (uint64_t)&page->clock[id] | 1);
		break;
	case STEAL:
		refused = wrmsr_safe(MSR_KVM_STEAL_TIME,
				     (uint64_t)&page->steal[id] |
				     KVM_MSR_ENABLED);
		break;
	default:
		WRITE_ONCE(*p, word);
	}
	asm volatile("mfence" : : : "memory");
	WRITE_ONCE(me->done, word);
	WRITE_ONCE(me->page, NO_PAGE);
	me->nr[how]++;
	me->refused += !!refused;
}

static void guest_code(struct notes *notes, int id)
{
	uint64_t random = notes->seed * (2 * id + 3) | 1, serial = 0, bits;
	uint64_t nr, hot_nr;
	enum how how;

	for (;;) {
		while (!READ_ONCE(notes->pause)) {
			bits = xorshift(&random);
			how = guest_how(notes, bits);
			hot_nr = READ_ONCE(notes->hot_nr);
			nr = bits >> 16;
			if (hot_nr && bits & 0x100)
				nr = READ_ONCE(notes->hot_first) + nr % hot_nr;
			guest_write(notes, id, nr % NR_PAGES, how,
				    ++serial << HOW_BITS | how);
			/* Lets an emulated host turn to its other CPUs. */
			if (!(bits & 0xe00))
				cpu_relax();
		}
		asm volatile("outb %%al, %0" : : "N"(PORT_PAUSE), "a"(0)
			     : "memory");
	}
}

/* ---------------------------------------------------------- the options */

enum mode {
	MODE_PLAIN,
	MODE_MANUAL,
	MODE_INIT,
	MODE_RING,
	MODE_RING_BITMAP,
	NR_MODES,
};

static const char * const mode_name[] = {
	"plain", "manual", "init", "ring", "ring_bitmap",
};

static struct {
	uint64_t nr_migrations;
	uint64_t seconds;
	int nr_vcpus;
	uint64_t nr_ops;
	enum mode mode;
	bool quiet;
	bool control;
	uint64_t forget;
	/* The seed decides on these: */
	bool thp;
	bool eager_split;
} opt = {
	.nr_migrations = 25,
	.nr_vcpus = 2,
	.nr_ops = 8,
};

static bool uses_ring(void)
{
	return opt.mode == MODE_RING || opt.mode == MODE_RING_BITMAP;
}

/* ----------------------------------------------------- the state of it all */

static struct kvm_vm *vm;
static struct notes *notes;
static char *mem, *copy;
static struct range range;
static struct chooser chooser;
/* What the chooser keeps. */
static struct layout *const layout = &chooser.layout;

/* KVM_MEM_LOG_DIRTY_PAGES during a migration. */
static uint32_t log_flag;

/* What the VMM knows of a page. */
static struct {
	bool dirty;			/* to be copied */
	bool got;			/* KVM_GET_DIRTY_LOG says so; not cleared */
	bool initially;			/* its bit was set with its slot */
} state[NR_PAGES];

enum runner_state {
	RUNS,
	PAUSED,
	FULL,				/* waits for a reset of its ring */
};

struct runner {
	int id;
	struct kvm_vcpu *vcpu;
	pthread_t thread;
	atomic_int state;
	uint32_t harvested;		/* entries of its ring, ever */
	uint64_t exits, fulls;
};

static struct runner runners[MAX_VCPUS];

static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t gate_moves = PTHREAD_COND_INITIALIZER;
/* Behind the gate: */
static bool ends;
static uint64_t nr_resets;

/* What was done. */
static struct {
	uint64_t migrations, rounds, harvests, copied, tail_entries, late_resets;
	uint64_t delayed;
} nr;

/* ------------------------------------------------- what is said of a failure */

static void print_setup(void)
{
	ksft_print_msg("options: -s %s -m %s -v %d -o %lu%s%s; %s pages, eager_page_split=%c\n",
		       getenv("SEED"), mode_name[opt.mode], opt.nr_vcpus,
		       opt.nr_ops,
		       opt.quiet ? " -q" : "", opt.control ? " -k" : "",
		       opt.thp ? "huge" : "small", opt.eager_split ? 'Y' : 'N');
}

static void finish(bool ok)
{
	history_end(ok);
	/* Without a wait for vCPUs that may be in the middle of anything. */
	_exit(ok ? KSFT_PASS : KSFT_FAIL);
}

static void lost_write(uint64_t page, const char *when)
{
	const struct model_slot *s = layout_find(layout, page);
	struct page *is = (void *)(mem + page * PAGE_SIZE);
	struct page *was = (void *)(copy + page * PAGE_SIZE);
	int v;

	ksft_print_msg("%s: page %lu, gpa %#lx, in %s: written since its copy, not logged\n",
		       when, page, gpa_of(page), s ? model_slot_name(s) : "no slot");
	for (v = 0; v < opt.nr_vcpus; v++)
		ksft_print_msg("vCPU %d: its word is %#lx (%s), was %#lx; it wrote %#lx last\n",
			       v, is->word[v], how_name[HOW(is->word[v])],
			       was->word[v], READ_ONCE(notes->note[v].done));
	for (v = 0; v < opt.nr_vcpus; v++)
		ksft_print_msg("vCPU %d: kvmclock is %s, steal time is %s\n", v,
			       memcmp(&is->clock[v], &was->clock[v],
				      sizeof(is->clock[v])) ? "new" : "as it was",
			       memcmp(&is->steal[v], &was->steal[v],
				      sizeof(is->steal[v])) ? "new" : "as it was");
	if (opt.forget)
		finish(true);
	exit(KSFT_FAIL);
}

/* ----------------------------------------------------------------- vCPUs */

/* True when the vCPU is to go on, false when it has ended. */
static bool wait_at_gate(struct runner *r, enum runner_state why)
{
	uint64_t resets;
	bool go;

	pthread_mutex_lock(&gate);
	resets = nr_resets;
	r->state = why;
	while (!ends && (why == PAUSED ? READ_ONCE(notes->pause) :
					 nr_resets == resets))
		pthread_cond_wait(&gate_moves, &gate);
	r->state = RUNS;
	go = !ends;
	pthread_mutex_unlock(&gate);
	return go;
}

static bool take_io(struct runner *r)
{
	struct kvm_run *run = r->vcpu->run;

	if (run->io.port == PORT_PAUSE)
		return wait_at_gate(r, PAUSED);

	TEST_ASSERT(run->io.port == PORT_STRING,
		    "vCPU %d: port %#x, after a write to page %lu", r->id,
		    run->io.port, notes->note[r->id].page);
	TEST_ASSERT(run->io.size * run->io.count <= sizeof(uint64_t),
		    "vCPU %d: %u times %u bytes from a port", r->id,
		    run->io.count, run->io.size);
	memcpy((void *)run + run->io.data_offset, &notes->note[r->id].word,
	       run->io.size * run->io.count);
	return true;
}

/* False when the vCPU is to end. */
static bool take_exit(struct runner *r)
{
	struct kvm_run *run = r->vcpu->run;

	switch (run->exit_reason) {
	case KVM_EXIT_MMIO:
		/* There is no memory, or it is read-only: the write is dropped. */
		if (!run->mmio.is_write)
			memset(run->mmio.data, 0xff, sizeof(run->mmio.data));
		r->exits++;
		return true;
	case KVM_EXIT_IO:
		return take_io(r);
	case KVM_EXIT_DIRTY_RING_FULL:
		r->fulls++;
		return wait_at_gate(r, FULL);
	default:
		TEST_FAIL("vCPU %d: unexpected exit: %s, suberror %u", r->id,
			  exit_reason_str(run->exit_reason),
			  run->internal.suberror);
		return false;
	}
}

static void *runner_main(void *arg)
{
	struct runner *r = arg;

	for (;;) {
		if (__vcpu_run(r->vcpu)) {
			TEST_ASSERT(errno == EINTR || errno == EAGAIN,
				    "vCPU %d: KVM_RUN: %s", r->id,
				    strerror(errno));
		} else if (!take_exit(r)) {
			return NULL;
		}
	}
}

static bool any_full(void)
{
	int i;

	for (i = 0; i < opt.nr_vcpus; i++) {
		if (runners[i].state == FULL)
			return true;
	}
	return false;
}

static void open_gate(void)
{
	pthread_mutex_lock(&gate);
	pthread_cond_broadcast(&gate_moves);
	pthread_mutex_unlock(&gate);
}

static void harvest(void);

static bool all_paused(void *arg)
{
	int i;

	if (any_full())
		harvest();
	for (i = 0; i < opt.nr_vcpus; i++) {
		if (runners[i].state != PAUSED)
			return false;
	}
	return true;
}

/* No vCPU is in KVM after this. */
static void pause_vcpus(void)
{
	WRITE_ONCE(notes->pause, 1);
	TEST_ASSERT(host_wait(all_paused, NULL), "the vCPUs do not pause");
}

static void resume_vcpus(void)
{
	pthread_mutex_lock(&gate);
	WRITE_ONCE(notes->pause, 0);
	pthread_mutex_unlock(&gate);
	open_gate();
}

static bool collecting;

static uint64_t nr_writes(void)
{
	uint64_t sum = 0;
	int i;

	for (i = 0; i < opt.nr_vcpus; i++)
		sum += READ_ONCE(notes->note[i].done) >> HOW_BITS;
	return sum;
}

static bool wrote_until(void *arg)
{
	if (READ_ONCE(notes->pause))
		return true;
	if (any_full()) {
		/* They wait for what the caller is about to do. */
		if (collecting)
			return true;
		harvest();
	}
	return nr_writes() >= *(uint64_t *)arg;
}

/* Until there are so many more writes; any of the vCPUs may sleep. */
static void wait_writes(uint64_t nr_more)
{
	uint64_t until = nr_writes() + nr_more;

	TEST_ASSERT(host_wait(wrote_until, &until), "the vCPUs stand still");
}

static void set_hot_around(uint64_t page)
{
	/* The guest takes any pair of numbers. */
	WRITE_ONCE(notes->hot_first, page < 20 ? 0 : page - 20);
	WRITE_ONCE(notes->hot_nr, 40);
}

/* --------------------------------------------------------- the oracle */

/* The memory's words, and then what was being written, and had been. */
static struct {
	uint64_t word[NR_PAGES][MAX_VCPUS];
	uint64_t done[MAX_VCPUS];
	uint64_t target[MAX_VCPUS];
} before;

static void take_snapshot(void)
{
	struct page *page = (void *)mem;
	uint64_t i;
	int v;

	for (i = 0; i < NR_PAGES; i++) {
		for (v = 0; v < opt.nr_vcpus; v++)
			before.word[i][v] = READ_ONCE(page[i].word[v]);
	}
	atomic_thread_fence(memory_order_seq_cst);
	for (v = 0; v < opt.nr_vcpus; v++) {
		before.done[v] = READ_ONCE(notes->note[v].done);
		before.target[v] = READ_ONCE(notes->note[v].page);
	}
	atomic_thread_fence(memory_order_seq_cst);
}

/*
 * A vCPU in the middle of a write may have mapped the page, and not yet have
 * logged it; then KVM logs no other's write there till it goes on. The page will
 * be in the next log.
 */
static bool other_is_at(uint64_t page, int vcpu)
{
	int v;

	for (v = 0; v < opt.nr_vcpus; v++) {
		if (v != vcpu && before.target[v] == page)
			return true;
	}
	return false;
}

static bool named(uint64_t page)
{
	return state[page].dirty || state[page].got;
}

/* What was over before the harvest began is in its log, or an earlier one. */
static void check_snapshot(void)
{
	struct page *was = (void *)copy;
	uint64_t i, word;
	int v;

	for (i = 0; log_flag && i < NR_PAGES; i++) {
		if (named(i))
			continue;
		for (v = 0; v < opt.nr_vcpus; v++) {
			word = before.word[i][v];
			if (word != was[i].word[v] && word <= before.done[v] &&
			    !other_is_at(i, v))
				lost_write(i, "while vCPUs run");
		}
		tally_promises(1);
	}
}

/* The same of pages that nobody can write to: every byte. */
static void check_still(uint64_t first, uint64_t nr_pages, const char *when)
{
	uint64_t i;

	for (i = first; log_flag && i < first + nr_pages; i++) {
		if (!named(i) && memcmp(mem + i * PAGE_SIZE,
					copy + i * PAGE_SIZE, PAGE_SIZE))
			lost_write(i, when);
		tally_promises(1);
		tally_bytes(PAGE_SIZE);
	}
}

static void copy_named(void)
{
	uint64_t i;

	for (i = 0; i < NR_PAGES; i++) {
		TEST_ASSERT(!state[i].got, "page %lu was never cleared", i);
		if (!state[i].dirty)
			continue;
		state[i].dirty = false;
		memcpy(copy + i * PAGE_SIZE, mem + i * PAGE_SIZE, PAGE_SIZE);
		nr.copied++;
	}
}

/* ------------------------------------------------------------ the bitmap */

static bool forget(void)
{
	return opt.forget && !(host_random() % opt.forget);
}

static bool bit(const uint64_t *bitmap, uint64_t i)
{
	return bitmap[i / 64] >> i % 64 & 1;
}

/* @first: the page of the bitmap's first bit */
static void take_bitmap(const uint64_t *bitmap, uint64_t first,
			uint64_t nr_pages, bool clears, const char *from)
{
	uint64_t i, page;

	for (i = 0; i < nr_pages; i++) {
		page = first + i;
		TEST_ASSERT(bit(bitmap, i) || !state[page].initially,
			    "page %lu is not in %s, though its bit was set when its slot came to it",
			    page, from);
		if (clears)
			state[page].initially = false;
		if (!bit(bitmap, i) || forget())
			continue;
		if (clears)
			state[page].dirty = true;
		else
			state[page].got = true;
	}
	for (; i % 64; i++)
		TEST_ASSERT(!bit(bitmap, i), "spare bit %lu after %lu pages is set in %s",
			    i, nr_pages, from);
}

static void get_log(const struct model_slot *s)
{
	uint64_t bitmap[BITMAP_WORDS];

	memset(bitmap, 0xff, sizeof(bitmap));
	kvm_vm_get_dirty_log(vm, s->id, bitmap);
	take_bitmap(bitmap, s->first, s->nr, opt.mode == MODE_PLAIN,
		    "the dirty log");
}

static void get_logs(void)
{
	unsigned int i;

	for (i = 0; i < layout->nr; i++)
		get_log(&layout->slot[i]);
}

/* Clears what was got, of the slots that are now; a part at a time. */
static void clear_log(const struct model_slot *s)
{
	uint64_t first = 0, n, i, bitmap[BITMAP_WORDS];

	for (; first < s->nr; first += n) {
		bool any = false;

		n = 64 * host_random_between(1, BITMAP_WORDS);
		n = min(n, s->nr - first);
		memset(bitmap, 0, sizeof(bitmap));
		for (i = 0; i < n; i++) {
			if (!state[s->first + first + i].got)
				continue;
			bitmap[i / 64] |= 1UL << i % 64;
			any = true;
		}
		if (any)
			kvm_vm_clear_dirty_log(vm, s->id, bitmap, first, n);
	}
}

static void clear_logs(void)
{
	unsigned int i;

	for (i = 0; i < layout->nr; i++)
		clear_log(&layout->slot[i]);
	for (i = 0; i < NR_PAGES; i++) {
		if (!state[i].got)
			continue;
		state[i].got = false;
		state[i].dirty = true;
		state[i].initially = false;
	}
}

/* -------------------------------------------------------------- the ring */

/* What was cut off last, until its entries are harvested. */
static struct {
	uint64_t first, nr;
} tail;

static uint64_t nr_unreset;

static uint64_t page_of_entry(uint32_t slot, uint64_t offset)
{
	unsigned int i;

	if (slot == RING_NO_SLOT) {
		TEST_ASSERT(offset < tail.nr,
			    "a ring entry names page %#lx of a tail of %lu",
			    offset, tail.nr);
		nr.tail_entries++;
		return tail.first + offset;
	}
	for (i = 0; i < layout->nr; i++) {
		if (layout->slot[i].id == slot)
			break;
	}
	TEST_ASSERT(i < layout->nr, "a ring entry names slot %#x, page %#lx: there is no such slot",
		    slot, offset);
	TEST_ASSERT(offset < layout->slot[i].nr,
		    "a ring entry names page %#lx of %s", offset,
		    model_slot_name(&layout->slot[i]));
	return layout->slot[i].first + offset;
}

static void harvest_rings(void)
{
	uint64_t offset;
	uint32_t slot;
	int i;

	for (i = 0; i < opt.nr_vcpus; i++) {
		struct runner *r = &runners[i];

		while (ring_harvest(r->vcpu, &r->harvested, &slot, &offset)) {
			uint64_t page = page_of_entry(slot, offset);

			if (!forget())
				state[page].dirty = true;
			nr_unreset++;
		}
	}
	tail.nr = 0;
}

static void reset_rings(void)
{
	uint32_t n = kvm_vm_reset_dirty_ring(vm);

	TEST_ASSERT(n == nr_unreset, "%u entries were reset, of %lu harvested",
		    n, nr_unreset);
	nr_unreset = 0;
	pthread_mutex_lock(&gate);
	nr_resets++;
	pthread_mutex_unlock(&gate);
	open_gate();
}

/* ------------------------------------------------------------- harvesting */

static void some_ops(uint64_t n);

/*
 * Learns which pages are dirty, and lets KVM log the next write to them. Where
 * these are two steps, there may be operations in between.
 */
static void harvest(void)
{
	if (collecting)
		return;
	collecting = true;
	nr.harvests++;
	take_snapshot();
	if (uses_ring())
		harvest_rings();
	else if (log_flag)
		get_logs();
	check_snapshot();

	if (opt.mode != MODE_PLAIN && host_one_in(2)) {
		some_ops(host_random_between(1, 2));
		nr.late_resets++;
	}
	if (uses_ring())
		reset_rings();
	else if (opt.mode != MODE_PLAIN)
		clear_logs();
	collecting = false;
}

/* ---------------------------------------------------------- the operations */

/* Often one whose bit is near the end of a word. */
static uint64_t random_page(const struct model_slot *slot, uint64_t low, uint64_t high)
{
	uint64_t page = host_random_between(low, high);
	uint64_t start = slot ? slot->first : low;

	switch (host_random() % 4) {
	case 0:
		page = start + align_down(page - start, 64) +
		       host_random_between(0, 4);
		page -= min(page, 2UL);
		break;
	case 1:
		page = host_one_in(2) ? low + host_random() % 8 :
					high - host_random() % 8;
		break;
	default:
		return page;
	}
	return page >= low && page <= high ? page :
					     host_random_between(low, high);
}

/* Let there be memory, and most of it be writable. */
static bool allows(const struct chooser *c, const struct step *s, void *arg)
{
	switch (s->kind) {
	case STEP_SHRINK:
		return layout_nr_present(layout) >= NR_PAGES * 3 / 4 &&
		       (s->size || (layout->nr > 1 && s->nr_pages < 200));
	case STEP_SET_READONLY:
		return !s->readonly || s->effect == STEP_CHANGES_NOTHING ||
		       layout_nr_readonly(layout) + s->nr_pages <= NR_PAGES / 6;
	default:
		return true;
	}
}

static struct chooser chooser = {
	.layout = {
		.nr_pages = NR_PAGES,
		.first_id = FIRST_SLOT,
	},
	.weight = {
		[STEP_GROW] = 24,
		[STEP_SHRINK] = 20,
		[STEP_SPLIT] = 14,
		[STEP_MERGE] = 24,
		[STEP_SET_READONLY] = 14,
		[STEP_INVALID] = 4,
		[STEP_CREATE] = 8,
	},
	.max_slots = 35,
	.max_cuts = 5,
	.shrinks_there = true,
	.page = random_page,
	.allows = allows,
};

static void pages_arrive(uint64_t first, uint64_t nr_pages)
{
	uint64_t i;

	for (i = first; i < first + nr_pages; i++)
		state[i].initially = log_flag && opt.mode == MODE_INIT;
}

/* Who does not ask for the bits must take the whole tail for dirty. */
static void take_tail(const uint64_t *bitmap)
{
	uint64_t first = tail.first, nr_pages = tail.nr, i;

	if (!log_flag)
		return;
	if (uses_ring()) {
		harvest_rings();
	} else if (bitmap) {
		take_bitmap(bitmap, first, nr_pages, true, "SHRINK's bitmap");
	} else {
		for (i = first; i < first + nr_pages; i++) {
			state[i].dirty = true;
			state[i].initially = false;
		}
	}
	check_still(first, nr_pages, "after SHRINK");
}

/* What was written until then can be asked for at once. */
static void take_what_is_readonly(const struct step *s)
{
	if (!log_flag || uses_ring() || host_one_in(2))
		return;
	get_log(layout_find(layout, s->first));
	check_still(s->first, s->nr_pages, "after SET_READONLY");
	if (opt.mode != MODE_PLAIN && !collecting)
		clear_logs();
}

static void make(struct step *s)
{
	uint64_t bitmap[BITMAP_WORDS];
	int err;

	if (s->kind == STEP_SHRINK) {
		s->wants_bitmap = log_flag && !uses_ring() && !host_one_in(8);
		tail.first = s->first;
		tail.nr = s->nr_pages;
	}
	history_add("%s%s", s->text, s->wants_bitmap ? ", with bitmap" : "");
	sleeper_wake();
	memset(bitmap, 0xff, sizeof(bitmap));
	set_hot_around(s->place);
	err = step_make(&range, s, bitmap);
	chooser_made(&chooser, s, err);

	/* What is named from here on is named by the new layout. */
	switch (s->effect) {
	case STEP_BRINGS:
		pages_arrive(s->first, s->nr_pages);
		break;
	case STEP_TAKES:
		take_tail(s->wants_bitmap ? bitmap : NULL);
		break;
	case STEP_CHANGES_WRITES:
		if (s->readonly)
			take_what_is_readonly(s);
		break;
	default:
		break;
	}
}

static void some_ops(uint64_t n)
{
	struct step s;

	while (n--) {
		if (!opt.control) {
			chooser_next(&chooser, &s);
			make(&s);
		}
		wait_writes(host_random() % 60);
	}
}

/* -------------------------------------------------- delays of the module */

#define DELAYS	"/sys/module/kvm_memslot_ops/parameters/delay_ms"
#define NR_PHASES	8

/* Of a debug build only: draws one of the phases out, or none. */
static void set_delays(bool any)
{
	unsigned int phase = host_random() % (2 * NR_PHASES), i;
	unsigned int ms = host_random_between(1, 8);
	char value[64];
	size_t len = 0;

	for (i = 0; i < NR_PHASES; i++)
		len += snprintf(value + len, sizeof(value) - len, "%s%u",
				i ? "," : "", any && i == phase ? ms : 0);
	if (host_write(DELAYS, value))
		return;
	history_add("delays of %s", value);
	nr.delayed += any && phase < NR_PHASES;
}

/* ------------------------------------------------------------ migrations */

static void set_log_flags(uint32_t flag)
{
	struct step s;
	unsigned int i;

	log_flag = flag;
	chooser.create_flags = flag;
	for (i = 0; i < layout->nr; i++) {
		step_log(&s, layout, i);
		chooser_made(&chooser, &s, step_make(&range, &s, NULL));
		pages_arrive(s.first, s.nr_pages);
	}
}

static void begin_logging(void)
{
	uint64_t i;

	history_add("begin migration %lu", nr.migrations);
	/* What is said while logging begins is not enough for a copy. */
	for (i = 0; i < NR_PAGES; i++)
		state[i].dirty = true;
	set_log_flags(KVM_MEM_LOG_DIRTY_PAGES);
	if (opt.mode == MODE_INIT) {
		get_logs();
		clear_logs();
	}
	if (uses_ring())
		harvest();
	copy_named();
}

static void end_logging(void)
{
	set_log_flags(0);
	history_add("end migration %lu", nr.migrations);
	/* Entries of before name slots that are about to be other ones. */
	if (uses_ring())
		harvest();
}

static void do_round(void)
{
	history_add("round %lu", nr.rounds);
	some_ops(host_random_between(opt.nr_ops / 2, opt.nr_ops));
	harvest();
	copy_named();

	some_ops(host_random_between(0, opt.nr_ops / 2));
	pause_vcpus();
	harvest();
	check_still(0, NR_PAGES, "while vCPUs are paused");
	copy_named();
	nr.rounds++;
}

static void migrate(void)
{
	int round;

	set_delays(true);
	some_ops(host_random_between(0, 5));
	begin_logging();
	for (round = 0; round < NR_ROUNDS; round++) {
		do_round();
		if (round + 1 < NR_ROUNDS)
			resume_vcpus();
	}
	TEST_ASSERT(!memcmp(mem, copy, RANGE),
		    "the destination's memory is another");
	tally_bytes(RANGE);
	if (!opt.control)
		chooser_assert_stats(&chooser, range.dev);
	layout_assert_all(&range, layout);
	end_logging();
	nr.migrations++;
	resume_vcpus();
}

/* ------------------------------------------------------------------ main */

static void make_slots(void)
{
	uint64_t first = 0, n;
	struct step s;

	while (first < NR_PAGES) {
		struct model_slot slot = {
			.id = layout_free_id(layout),
			.first = first,
		};

		n = host_random_between(1, NR_PAGES / 2);
		slot.nr = min(n, NR_PAGES - first);
		step_create(&s, &slot);
		chooser_made(&chooser, &s, step_make(&range, &s, NULL));
		first += slot.nr;
	}
}

static void enable_mode(void)
{
	uint64_t manual = KVM_DIRTY_LOG_MANUAL_PROTECT_ENABLE;

	switch (opt.mode) {
	case MODE_INIT:
		manual |= KVM_DIRTY_LOG_INITIALLY_SET;
		fallthrough;
	case MODE_MANUAL:
		vm_enable_cap(vm, KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, manual);
		break;
	case MODE_RING_BITMAP:
	case MODE_RING:
		vm_enable_dirty_ring(vm, ring_size());
		if (opt.mode == MODE_RING_BITMAP)
			vm_enable_cap(vm, KVM_CAP_DIRTY_LOG_RING_WITH_BITMAP, 0);
		break;
	default:
		break;
	}
}

static void make_vm(void)
{
	int i;

	vm = notes_vm_create(opt.nr_vcpus);
	enable_mode();
	notes = notes_map(vm, sizeof(*notes));
	virt_map(vm, RANGE_GPA, RANGE_GPA, NR_PAGES);

	mem = host_map(RANGE, HUGE_SIZE, RANGE_GPA % HUGE_SIZE,
		       opt.thp ? HOST_PAGES_THP : HOST_PAGES_4K);
	memset(mem, 0, RANGE);
	copy = host_map(RANGE, PAGE_SIZE, 0, HOST_PAGES_4K);
	range = (struct range) {
		.vm = vm,
		.dev = opt.control ? -1 : memslot_ops_open(vm),
		.gpa = RANGE_GPA,
		.mem = mem,
	};
	make_slots();
	if (!opt.control)
		chooser_ask(&chooser, range.dev);

	for (i = 0; i < opt.nr_vcpus; i++) {
		notes->note[i].page = NO_PAGE;
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
}

static void stop_vcpus(void)
{
	int i;

	pause_vcpus();
	pthread_mutex_lock(&gate);
	ends = true;
	pthread_mutex_unlock(&gate);
	open_gate();
	for (i = 0; i < opt.nr_vcpus; i++)
		pthread_join(runners[i].thread, NULL);
	host_restore();
}

static void print_numbers(double seconds)
{
	uint64_t sum, writes[NR_HOW] = { 0 }, refused = 0, exits = 0, fulls = 0;
	char line[512];
	size_t i, len;
	int v;

	ksft_print_msg("%lu migrations of %d rounds, %.0f s; %lu harvests, %lu late; %lu pages\n",
		       nr.migrations, NR_ROUNDS, seconds, nr.harvests,
		       nr.late_resets, nr.copied);
	ksft_print_msg("%lu steps:%s; phases were drawn out in %lu migrations\n",
		       chooser_nr_made(&chooser), chooser_summary(&chooser), nr.delayed);

	for (v = 0; v < opt.nr_vcpus; v++) {
		for (i = 0; i < NR_HOW; i++)
			writes[i] += notes->note[v].nr[i];
		refused += notes->note[v].refused;
		exits += runners[v].exits;
		fulls += runners[v].fulls;
	}
	for (len = i = 0, sum = 0; i < NR_HOW; i++) {
		len += snprintf(line + len, sizeof(line) - len, ", %s %lu",
				how_name[i], writes[i]);
		sum += writes[i];
	}
	ksft_print_msg("%lu writes%s (%lu refused); %lu went to no memory; %lu slept\n",
		       sum, line, refused, exits, sleeper_nr());
	if (uses_ring())
		ksft_print_msg("a ring was full %lu times; %lu entries of tails\n",
			       fulls, nr.tail_entries);
	tally_print();
	TEST_ASSERT(sum && nr.copied, "the vCPUs did nothing");
}

static void choose_by_seed(void)
{
	opt.thp = host_random() & 1;
	/* Splitting huge mappings early hides what goes wrong with them. */
	opt.eager_split = host_random() & 1;
	host_set(HOST_EAGER_SPLIT, opt.eager_split ? "Y" : "N");
	print_setup();
}

static void run_test(void)
{
	struct timespec start;

	choose_by_seed();
	make_vm();
	if (!sleeper_start(mem, NR_PAGES, &notes->hot_first, !opt.quiet)) {
		ksft_print_msg("no userfaultfd: faults do not sleep\n");
		opt.quiet = true;
	}
	start_vcpus();

	clock_gettime(CLOCK_MONOTONIC, &start);
	while (opt.seconds ? host_seconds_since(&start) < opt.seconds :
			     nr.migrations < opt.nr_migrations)
		migrate();
	print_numbers(host_seconds_since(&start));

	stop_vcpus();
	sleeper_stop();
	set_delays(false);
	if (range.dev >= 0)
		close(range.dev);
	kvm_vm_free(vm);
}

static enum mode mode_named(const char *name)
{
	int i;

	for (i = 0; i < NR_MODES; i++) {
		if (!strcmp(name, mode_name[i]))
			return i;
	}
	ksft_exit_fail_msg("no mode is called %s\n", name);
}

static void parse_options(int argc, char *argv[])
{
	int c;

	while ((c = getopt(argc, argv, "s:n:t:m:v:o:qkx:")) != -1) {
		switch (c) {
		case 's':
			setenv("SEED", optarg, 1);
			break;
		case 'n':
			opt.nr_migrations = strtoull(optarg, NULL, 0);
			break;
		case 't':
			opt.seconds = strtoull(optarg, NULL, 0);
			break;
		case 'm':
			opt.mode = mode_named(optarg);
			break;
		case 'v':
			opt.nr_vcpus = atoi(optarg);
			break;
		case 'o':
			opt.nr_ops = strtoul(optarg, NULL, 0);
			break;
		case 'q':
			opt.quiet = true;
			break;
		case 'k':
			opt.control = true;
			break;
		case 'x':
			opt.forget = strtoull(optarg, NULL, 0);
			break;
		default:
			ksft_exit_fail_msg("see the source for the options\n");
		}
	}
	if (opt.nr_vcpus < 1 || opt.nr_vcpus > MAX_VCPUS)
		ksft_exit_fail_msg("1 to %d vCPUs\n", MAX_VCPUS);
}

static uint64_t features(void)
{
	struct kvm_vm *probe = vm_create_barebones();
	int fd = memslot_ops_open(probe);
	uint64_t value = memslot_ops_features(fd);

	close(fd);
	kvm_vm_free(probe);
	return value;
}

static void skip_what_is_not_there(void)
{
	if (opt.mode == MODE_RING_BITMAP &&
	    !kvm_has_cap(KVM_CAP_DIRTY_LOG_RING_WITH_BITMAP))
		ksft_exit_skip("this KVM has no rings with bitmaps\n");
	if (uses_ring() && !kvm_has_cap(KVM_CAP_DIRTY_LOG_RING_ACQ_REL))
		ksft_exit_skip("this KVM has no dirty rings\n");
	if (opt.control)
		return;
	if (!memslot_ops_present() ||
	    !memslot_ops_has(KVM_MEMSLOT_OP_SET_READONLY))
		ksft_exit_skip("the module is not loaded, or lacks operations\n");
	if (!(features() & (uses_ring() ? KVM_MEMSLOT_FEATURE_DIRTY_RING :
					  KVM_MEMSLOT_FEATURE_DIRTY_BITMAP)))
		ksft_exit_skip("the module does not handle dirty logs of this mode\n");
}

int main(int argc, char *argv[])
{
	setlinebuf(stdout);
	ksft_print_header();
	ksft_set_plan(1);
	parse_options(argc, argv);
	skip_what_is_not_there();

	history_begin("migration", layout, print_setup);
	run_test();
	if (opt.forget) {
		ksft_print_msg("nobody noticed that pages were forgotten\n");
		exit(KSFT_FAIL);
	}
	history_end(true);
	ksft_finished();
}
