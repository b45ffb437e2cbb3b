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
#include <poll.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <time.h>
#include <linux/userfaultfd.h>

#include "kvm_util.h"
#include "processor.h"

#include "async.h"
#include "dirty_ring.h"
#include "host.h"
#include "layout_model.h"
#include "level.h"
#include "memslot_ops.h"
#include "ops.h"

#define MAX_VCPUS	4

#define NOTES_SLOT	1
#define NOTES_GPA	(2 * GIGA_SIZE)

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

static uint64_t guest_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state >> 16;
}

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
			bits = guest_random(&random);
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
static int dev = -1;
static struct notes *notes;
static char *mem, *copy;
static struct layout layout = {
	.nr_pages = NR_PAGES,
	.first_id = FIRST_SLOT,
};

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

#define LOG_SIZE	40

static struct {
	uint64_t nr;
	char line[LOG_SIZE][200];
} history;

static bool over;

static __printf(1, 2) void log_step(const char *fmt, ...)
{
	char *line = history.line[history.nr++ % LOG_SIZE];
	va_list args;

	va_start(args, fmt);
	vsnprintf(line, sizeof(history.line[0]), fmt, args);
	va_end(args);
}

static const char *slot_name(const struct model_slot *s)
{
	static char names[4][64];
	static int next;
	char *name = names[next++ % 4];

	snprintf(name, sizeof(names[0]), "slot %u [%lu, %lu)%s", s->id,
		 s->first, s->first + s->nr,
		 s->flags & KVM_MEM_READONLY ? " ro" : "");
	return name;
}

static void print_setup(void)
{
	ksft_print_msg("options: -s %s -m %s -v %d -o %lu%s%s; %s pages, eager_page_split=%c\n",
		       getenv("SEED"), mode_name[opt.mode], opt.nr_vcpus,
		       opt.nr_ops,
		       opt.quiet ? " -q" : "", opt.control ? " -k" : "",
		       opt.thp ? "huge" : "small", opt.eager_split ? 'Y' : 'N');
}

/* At exit, whichever way a check failed. */
static void print_log(void)
{
	uint64_t i;

	if (over)
		return;
	over = true;

	ksft_print_msg("the last of %lu steps, oldest first:\n", history.nr);
	i = history.nr > LOG_SIZE ? history.nr - LOG_SIZE : 0;
	for (; i < history.nr; i++)
		ksft_print_msg("  %lu: %s\n", i, history.line[i % LOG_SIZE]);
	ksft_print_msg("the slots:\n");
	for (i = 0; i < layout.nr; i++)
		ksft_print_msg("  %s\n", slot_name(&layout.slot[i]));
	print_setup();
	ksft_test_result_fail("migration\n");
	fflush(NULL);
}

static const struct model_slot *slot_of(uint64_t page)
{
	unsigned int i;

	for (i = 0; i < layout.nr; i++) {
		if (page - layout.slot[i].first < layout.slot[i].nr)
			return &layout.slot[i];
	}
	return NULL;
}

static void finish(bool ok)
{
	over = true;
	if (ok)
		ksft_test_result_pass("migration\n");
	else
		ksft_test_result_fail("migration\n");
	fflush(NULL);
	/* Without a wait for vCPUs that may be in the middle of anything. */
	_exit(ok ? KSFT_PASS : KSFT_FAIL);
}

static void lost_write(uint64_t page, const char *when)
{
	const struct model_slot *s = slot_of(page);
	struct page *is = (void *)(mem + page * PAGE_SIZE);
	struct page *was = (void *)(copy + page * PAGE_SIZE);
	int v;

	ksft_print_msg("%s: page %lu, gpa %#lx, in %s: written since its copy, not logged\n",
		       when, page, gpa_of(page), s ? slot_name(s) : "no slot");
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

	for (i = 0; i < layout.nr; i++)
		get_log(&layout.slot[i]);
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

	for (i = 0; i < layout.nr; i++)
		clear_log(&layout.slot[i]);
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
	for (i = 0; i < layout.nr; i++) {
		if (layout.slot[i].id == slot)
			break;
	}
	TEST_ASSERT(i < layout.nr, "a ring entry names slot %#x, page %#lx: there is no such slot",
		    slot, offset);
	TEST_ASSERT(offset < layout.slot[i].nr,
		    "a ring entry names page %#lx of %s", offset,
		    slot_name(&layout.slot[i]));
	return layout.slot[i].first + offset;
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

static bool one_in(unsigned int n)
{
	return !(host_random() % n);
}

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

	if (opt.mode != MODE_PLAIN && one_in(2)) {
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

static void *hva_of(uint64_t page)
{
	return mem + page * PAGE_SIZE;
}

static void own_call(const struct model_slot *s, uint32_t flags)
{
	int err = slot_set(vm, s->id, flags, gpa_of(s->first),
			   s->nr * PAGE_SIZE, hva_of(s->first));

	TEST_ASSERT(!err, "KVM_SET_USER_MEMORY_REGION: %s", strerror(err));
}

/* A page number, often one whose bit is near the end of a word. */
static uint64_t random_page(uint64_t slot_first, uint64_t low, uint64_t high)
{
	uint64_t page = host_random_between(low, high);

	switch (host_random() % 4) {
	case 0:
		page = slot_first + align_down(page - slot_first, 64) +
		       host_random_between(0, 4);
		page -= min(page, 2UL);
		break;
	case 1:
		page = one_in(2) ? low + host_random() % 8 :
				   high - host_random() % 8;
		break;
	default:
		return page;
	}
	return page >= low && page <= high ? page :
					     host_random_between(low, high);
}

static uint64_t nr_present(void)
{
	uint64_t sum = 0;
	unsigned int i;

	for (i = 0; i < layout.nr; i++)
		sum += layout.slot[i].nr;
	return sum;
}

static uint64_t nr_readonly(void)
{
	uint64_t sum = 0;
	unsigned int i;

	for (i = 0; i < layout.nr; i++) {
		if (layout.slot[i].flags & KVM_MEM_READONLY)
			sum += layout.slot[i].nr;
	}
	return sum;
}

static struct model_slot *random_slot(unsigned int *index)
{
	*index = host_random() % layout.nr;
	return &layout.slot[*index];
}

static void succeeded(int err)
{
	TEST_ASSERT(!err, "it failed: %s", strerror(err));
}

static void pages_arrive(uint64_t first, uint64_t nr_pages)
{
	uint64_t i;

	for (i = first; i < first + nr_pages; i++)
		state[i].initially = log_flag && opt.mode == MODE_INIT;
}

static bool op_grow(void)
{
	unsigned int i;
	struct model_slot *s = random_slot(&i);
	uint64_t gap = layout_gap_after(&layout, i), end = s->first + s->nr;
	uint64_t more;

	if (!gap)
		return false;
	more = random_page(s->first, end + 1, end + gap) - end;
	log_step("grow %s to %lu", slot_name(s), end + more);
	set_hot_around(end);
	succeeded(slot_grow(dev, s->id, (s->nr + more) * PAGE_SIZE));
	s->nr += more;
	pages_arrive(end, more);
	return true;
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

/* Where a slot is to end: half of the time where the vCPUs were busy just now. */
static uint64_t choose_end(unsigned int *i)
{
	struct model_slot *s = random_slot(i);
	uint64_t page = notes->hot_first + host_random() % 40;
	bool near = one_in(2);
	unsigned int j;

	for (j = 0; near && j < layout.nr; j++) {
		if (page - layout.slot[j].first < layout.slot[j].nr) {
			*i = j;
			return page;
		}
	}
	return one_in(4) && s->nr < 200 ? s->first :
	       random_page(s->first, s->first + 1, s->first + s->nr) - 1;
}

static bool op_shrink(void)
{
	unsigned int i;
	uint64_t first = choose_end(&i), bitmap[BITMAP_WORDS];
	struct model_slot *s = &layout.slot[i];
	bool ask = log_flag && !uses_ring() && !one_in(8);
	uint32_t id = s->id;

	if (nr_present() < NR_PAGES * 3 / 4 ||
	    (first == s->first && layout.nr == 1))
		return false;
	log_step("shrink %s to %lu%s", slot_name(s), first,
		 ask ? ", with bitmap" : "");

	tail.first = first;
	tail.nr = s->first + s->nr - first;
	s->nr = first - s->first;
	memset(bitmap, 0xff, sizeof(bitmap));
	set_hot_around(first);
	succeeded(slot_shrink(dev, id, s->nr * PAGE_SIZE, ask ? bitmap : NULL));

	/* What is named from here on is named by the new layout. */
	if (!s->nr)
		layout_remove(&layout, i);
	take_tail(ask ? bitmap : NULL);
	return true;
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(uint64_t *)a, y = *(uint64_t *)b;

	return x < y ? -1 : x > y;
}

static bool op_split(void)
{
	struct kvm_memslot_cut cuts[6] = { 0 };
	unsigned int want = host_random_between(1, 5), n = 0, i, j;
	struct model_slot s = *random_slot(&i);
	uint64_t at[7];

	if (s.nr < 2 || layout.nr > 30)
		return false;
	for (j = 0; j < want; j++)
		at[j] = random_page(s.first, s.first + 1, s.first + s.nr - 1);
	qsort(at, want, sizeof(at[0]), compare);
	for (j = 0; j < want; j++) {
		if (!n || at[j] != at[n - 1])
			at[n++] = at[j];
	}
	at[n] = s.first + s.nr;
	log_step("split %s into %u, at %lu..%lu", slot_name(&s), n + 1, at[0],
		 at[n - 1]);
	layout.slot[i].nr = at[0] - s.first;
	for (j = 0; j < n; j++) {
		cuts[j].offset = (at[j] - s.first) * PAGE_SIZE;
		cuts[j].slot = layout_free_id(&layout);
		layout_add(&layout, cuts[j].slot, s.flags, at[j],
			   at[j + 1] - at[j]);
	}
	set_hot_around(at[host_random() % n]);
	succeeded(slot_split(dev, s.id, n, cuts));
	return true;
}

static bool op_merge(void)
{
	uint32_t ids[LAYOUT_MAX_SLOTS];
	unsigned int i, n, j;
	struct model_slot *s = random_slot(&i);

	n = min(layout_run(&layout, i), 8U);
	if (n < 2)
		return false;
	n = host_random_between(2, n);
	log_step("merge %s with the next %u, to %lu", slot_name(s), n - 1,
		 s[n - 1].first + s[n - 1].nr);
	for (j = 1; j < n; j++)
		ids[j - 1] = s[j].id;
	set_hot_around(s[host_random_between(1, n - 1)].first);
	succeeded(slot_merge(dev, s->id, n - 1, ids));
	for (j = 1; j < n; j++) {
		s->nr += s[1].nr;
		layout_remove(&layout, i + 1);
	}
	return true;
}

static bool op_set_readonly(void)
{
	unsigned int i;
	struct model_slot *s = random_slot(&i);
	bool readonly = !(s->flags & KVM_MEM_READONLY);

	/* Let most of the memory be writable. */
	if (readonly && nr_readonly() + s->nr > NR_PAGES / 6)
		return false;
	log_step("set_readonly %s %u", slot_name(s), readonly);
	set_hot_around(s->first + host_random() % s->nr);
	succeeded(slot_set_readonly(dev, s->id, readonly));
	s->flags ^= KVM_MEM_READONLY;

	/* What was written until then can be asked for at once. */
	if (readonly && log_flag && !uses_ring() && one_in(2)) {
		get_log(s);
		check_still(s->first, s->nr, "after SET_READONLY");
		if (opt.mode != MODE_PLAIN && !collecting)
			clear_logs();
	}
	return true;
}

/* KVM's own call, where a slot was, or a part of it. */
static bool op_create(void)
{
	uint64_t gap, start, first, end;
	struct model_slot s;
	int i = (int)(host_random() % (layout.nr + 1)) - 1;

	gap = layout_gap_after(&layout, i);
	if (!gap || layout.nr > 30)
		return false;
	start = i < 0 ? 0 : layout.slot[i].first + layout.slot[i].nr;
	first = one_in(2) ? start : random_page(start, start, start + gap - 1);
	end = one_in(2) ? start + gap :
			  random_page(first, first + 1, start + gap);
	s = (struct model_slot) {
		.id = layout_free_id(&layout),
		.flags = log_flag | (one_in(8) ? KVM_MEM_READONLY : 0),
		.first = first,
		.nr = end - first,
	};
	log_step("create %s", slot_name(&s));
	set_hot_around(first);
	own_call(&s, s.flags);
	layout_add(&layout, s.id, s.flags, s.first, s.nr);
	pages_arrive(s.first, s.nr);
	return true;
}

static struct op {
	const char *name;
	bool (*run)(void);		/* false if it was not possible */
	unsigned int weight;
	uint64_t nr;
} ops[] = {
	{ "grow", op_grow, 24 },
	{ "shrink", op_shrink, 20 },
	{ "split", op_split, 14 },
	{ "merge", op_merge, 24 },
	{ "set_readonly", op_set_readonly, 14 },
	{ "create", op_create, 8 },
};

/* Operations, also those that turn out not to be possible. */
static atomic_ulong nr_begun;

static bool some_op(void)
{
	unsigned int sum = 0, i;
	uint64_t random;

	for (i = 0; i < ARRAY_SIZE(ops); i++)
		sum += ops[i].weight;
	random = host_random() % sum;
	for (i = 0; random >= ops[i].weight; i++)
		random -= ops[i].weight;
	nr_begun++;
	if (!ops[i].run())
		return false;
	ops[i].nr++;
	return true;
}

static void some_ops(uint64_t n)
{
	while (n--) {
		while (!opt.control && !some_op())
			;
		wait_writes(host_random() % 60);
	}
}

/* ----------------------------------------------------- faults that sleep */

/*
 * Holds writes to some pages until an operation has begun: a write that sleeps inside
 * KVM keeps the slot that it looked up across a swap.
 */
#define NR_HELD		8

static struct {
	pthread_t thread;
	int uffd;
	atomic_bool stop;
	uint64_t seed;
	uint64_t nr;
} sleeper;

static void protect(uint64_t page, bool on)
{
	struct uffdio_writeprotect wp = {
		.range = { (uintptr_t)hva_of(page), PAGE_SIZE },
		.mode = on ? UFFDIO_WRITEPROTECT_MODE_WP : 0,
	};
	int r;

	/* A huge page that is being split is a reason to try again. */
	do {
		r = ioctl(sleeper.uffd, UFFDIO_WRITEPROTECT, &wp);
	} while (r && errno == EAGAIN);
	TEST_ASSERT(!r, "cannot change the protection of page %lu: %s", page,
		    strerror(errno));
}

/* There may be none, so not for long. */
static void wait_for_operation(void)
{
	uint64_t begun = nr_begun;
	int i;

	for (i = 0; i < 40 && nr_begun == begun; i++)
		usleep(250);
	usleep(guest_random(&sleeper.seed) % 3000);
}

static void *sleeper_main(void *arg)
{
	struct pollfd pfd = { .fd = sleeper.uffd, .events = POLLIN };
	uint64_t held[NR_HELD], hot;
	struct uffd_msg msg;
	int i;

	while (!sleeper.stop) {
		for (i = 0; i < NR_HELD; i++) {
			held[i] = guest_random(&sleeper.seed) % NR_PAGES;
			hot = READ_ONCE(notes->hot_first) + held[i] % 40;
			if (i % 2 && hot < NR_PAGES)
				held[i] = hot;
			protect(held[i], true);
		}
		if (poll(&pfd, 1, 5) == 1) {
			wait_for_operation();
			sleeper.nr++;
			while (read(sleeper.uffd, &msg, sizeof(msg)) > 0)
				;
		}
		for (i = 0; i < NR_HELD; i++)
			protect(held[i], false);
		usleep(guest_random(&sleeper.seed) % 2000);
	}
	return NULL;
}

static void start_sleeper(void)
{
	uint64_t i;

	sleeper.seed = host_random() | 1;
	if (opt.quiet)
		return;
	sleeper.uffd = uffd_open();
	if (sleeper.uffd < 0 || !uffd_hold(sleeper.uffd, mem, RANGE, true)) {
		ksft_print_msg("no userfaultfd: faults do not sleep\n");
		opt.quiet = true;
		return;
	}
	for (i = 0; i < NR_PAGES; i++)
		protect(i, false);
	pthread_create(&sleeper.thread, NULL, sleeper_main, NULL);
}

static void stop_sleeper(void)
{
	if (opt.quiet)
		return;
	sleeper.stop = true;
	pthread_join(sleeper.thread, NULL);
	close(sleeper.uffd);
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
	log_step("delays of %s", value);
	nr.delayed += any && phase < NR_PHASES;
}

/* ------------------------------------------------------------ migrations */

static void set_log_flags(uint32_t flag)
{
	unsigned int i;

	log_flag = flag;
	for (i = 0; i < layout.nr; i++) {
		struct model_slot *s = &layout.slot[i];

		s->flags &= ~KVM_MEM_LOG_DIRTY_PAGES;
		s->flags |= flag;
		own_call(s, s->flags);
		pages_arrive(s->first, s->nr);
	}
}

static void begin_logging(void)
{
	uint64_t i;

	log_step("begin migration %lu", nr.migrations);
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
	log_step("end migration %lu", nr.migrations);
	/* Entries of before name slots that are about to be other ones. */
	if (uses_ring())
		harvest();
}

static void do_round(void)
{
	log_step("round %lu", nr.rounds);
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
	end_logging();
	nr.migrations++;
	resume_vcpus();
}

/* ------------------------------------------------------------------ main */

static void make_slots(void)
{
	uint64_t first = 0, n;

	while (first < NR_PAGES) {
		struct model_slot s = {
			.id = layout_free_id(&layout),
			.first = first,
		};

		n = host_random_between(1, NR_PAGES / 2);
		s.nr = min(n, NR_PAGES - first);
		own_call(&s, 0);
		layout_add(&layout, s.id, 0, s.first, s.nr);
		first += s.nr;
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
	size_t size = align_up(sizeof(*notes), HUGE_SIZE);
	int i, err;

	vm = __vm_create(VM_SHAPE_DEFAULT, opt.nr_vcpus, 256);
	vm_enable_cap(vm, KVM_CAP_EXIT_ON_EMULATION_FAILURE, 1);
	if (kvm_check_cap(KVM_CAP_X86_DISABLE_EXITS) &
	    KVM_X86_DISABLE_EXITS_PAUSE)
		vm_enable_cap(vm, KVM_CAP_X86_DISABLE_EXITS,
			      KVM_X86_DISABLE_EXITS_PAUSE);
	enable_mode();

	notes = host_map(size, HUGE_SIZE, 0, HOST_PAGES_4K);
	err = slot_set(vm, NOTES_SLOT, 0, NOTES_GPA, size, notes);
	TEST_ASSERT(!err, "cannot make the slot for notes: %s", strerror(err));
	virt_map_level(vm, NOTES_GPA, NOTES_GPA, size, PG_LEVEL_2M);
	virt_map(vm, RANGE_GPA, RANGE_GPA, NR_PAGES);

	mem = host_map(RANGE, HUGE_SIZE, RANGE_GPA % HUGE_SIZE,
		       opt.thp ? HOST_PAGES_THP : HOST_PAGES_4K);
	memset(mem, 0, RANGE);
	copy = host_map(RANGE, PAGE_SIZE, 0, HOST_PAGES_4K);
	make_slots();
	if (!opt.control)
		dev = memslot_ops_open(vm);

	for (i = 0; i < opt.nr_vcpus; i++) {
		notes->note[i].page = NO_PAGE;
		runners[i].id = i;
		runners[i].vcpu = level_vcpu_add(vm, i, guest_code);
		vcpu_args_set(runners[i].vcpu, 2, NOTES_GPA, i);
	}
}

#define EAGER_SPLIT	"/sys/module/kvm/parameters/eager_page_split"
#define FEP	"/sys/module/kvm/parameters/force_emulation_prefix"

static void start_vcpus(void)
{
	int i;

	notes->emulation = !host_write(FEP, "1");
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
	host_write(FEP, "0");
	host_write(EAGER_SPLIT, "Y");
}

static double seconds_since(const struct timespec *start)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec - start->tv_sec +
	       (now.tv_nsec - start->tv_nsec) / 1e9;
}

static void print_numbers(double seconds)
{
	uint64_t sum = 0, writes[NR_HOW] = { 0 }, refused = 0, exits = 0, fulls = 0;
	char line[512];
	size_t i, len = 0;
	int v;

	for (i = 0; i < ARRAY_SIZE(ops); i++) {
		len += snprintf(line + len, sizeof(line) - len, ", %s %lu",
				ops[i].name, ops[i].nr);
		sum += ops[i].nr;
	}
	ksft_print_msg("%lu migrations of %d rounds, %.0f s; %lu harvests, %lu late; %lu pages\n",
		       nr.migrations, NR_ROUNDS, seconds, nr.harvests,
		       nr.late_resets, nr.copied);
	ksft_print_msg("%lu operations%s; phases were drawn out in %lu migrations\n",
		       sum, line, nr.delayed);

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
		       sum, line, refused, exits, sleeper.nr);
	if (uses_ring())
		ksft_print_msg("a ring was full %lu times; %lu entries of tails\n",
			       fulls, nr.tail_entries);
	TEST_ASSERT(sum && nr.copied, "the vCPUs did nothing");
}

static void choose_by_seed(void)
{
	opt.thp = host_random() & 1;
	/* Splitting huge mappings early hides what goes wrong with them. */
	opt.eager_split = host_random() & 1;
	host_write(EAGER_SPLIT, opt.eager_split ? "Y" : "N");
	print_setup();
}

static void run_test(void)
{
	struct timespec start;

	choose_by_seed();
	make_vm();
	start_sleeper();
	start_vcpus();

	clock_gettime(CLOCK_MONOTONIC, &start);
	while (nr.migrations < opt.nr_migrations)
		migrate();
	print_numbers(seconds_since(&start));

	stop_vcpus();
	stop_sleeper();
	set_delays(false);
	if (dev >= 0)
		close(dev);
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

	while ((c = getopt(argc, argv, "s:n:m:v:o:qkx:")) != -1) {
		switch (c) {
		case 's':
			setenv("SEED", optarg, 1);
			break;
		case 'n':
			opt.nr_migrations = strtoull(optarg, NULL, 0);
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

/* Chosen here, to be named again where the test fails. */
static void choose_seed(void)
{
	char seed[32];
	uint64_t random;

	if (getrandom(&random, sizeof(random), GRND_NONBLOCK) != sizeof(random))
		random = rdtsc();
	snprintf(seed, sizeof(seed), "%#lx", random | 1);
	setenv("SEED", seed, 0);
}

int main(int argc, char *argv[])
{
	setlinebuf(stdout);
	ksft_print_header();
	ksft_set_plan(1);
	parse_options(argc, argv);
	skip_what_is_not_there();

	choose_seed();
	host_seed();
	atexit(print_log);
	run_test();
	if (opt.forget) {
		ksft_print_msg("nobody noticed that pages were forgotten\n");
		exit(KSFT_FAIL);
	}
	over = true;
	ksft_test_result_pass("migration\n");
	ksft_finished();
}
