// SPDX-License-Identifier: GPL-2.0
#include <pthread.h>
#include <stdatomic.h>

#include "host.h"
#include "notes.h"
#include "writers.h"
#include "xorshift.h"

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
	uint64_t gpa, nr_pages;
	uint64_t hot_first;		/* pages that matter most just now */
	uint64_t hot_nr;
	struct note note[WRITERS_MAX];
};

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
	struct written_page *page = (void *)(notes->gpa + nr * PAGE_SIZE);
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
			guest_write(notes, id, nr % notes->nr_pages, how,
				    ++serial << HOW_BITS | how);
			/* Lets an emulated host turn to its other CPUs. */
			if (!(bits & 0xe00))
				cpu_relax();
		}
		asm volatile("outb %%al, %0" : : "N"(PORT_PAUSE), "a"(0)
			     : "memory");
	}
}

/* ----------------------------------------------------------------- vCPUs */

static struct writers_config config;
static struct notes *notes;

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
	uint64_t exits, fulls;
};

static struct runner runners[WRITERS_MAX];
static int nr_runners;

static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t gate_moves = PTHREAD_COND_INITIALIZER;
/* Behind the gate: */
static bool ends;
static uint64_t nr_resets;

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

void writers_init(const struct writers_config *new)
{
	config = *new;
	notes = notes_map(config.vm, sizeof(*notes));
	notes->gpa = config.gpa;
	notes->nr_pages = config.nr_pages;
	virt_map(config.vm, config.gpa, config.gpa, config.nr_pages);
}

struct kvm_vcpu *writers_add(void)
{
	int i = nr_runners++;

	TEST_ASSERT(i < WRITERS_MAX, "too many vCPUs");
	notes->note[i].page = NO_PAGE;
	runners[i].id = i;
	runners[i].vcpu = notes_vcpu_add(config.vm, i, guest_code);
	return runners[i].vcpu;
}

int writers_nr(void)
{
	return nr_runners;
}

void writers_start(void)
{
	int i;

	notes->emulation = !host_set(HOST_FEP, "1");
	notes->seed = host_random();
	for (i = 0; i < nr_runners; i++)
		pthread_create(&runners[i].thread, NULL, runner_main,
			       &runners[i]);
}

/* -------------------------------------------------------- orders to them */

static void open_gate(void)
{
	pthread_mutex_lock(&gate);
	pthread_cond_broadcast(&gate_moves);
	pthread_mutex_unlock(&gate);
}

static bool any_full(void)
{
	int i;

	for (i = 0; i < nr_runners; i++) {
		if (runners[i].state == FULL)
			return true;
	}
	return false;
}

static bool all_paused(void *arg)
{
	int i;

	if (any_full())
		config.harvest();
	for (i = 0; i < nr_runners; i++) {
		if (runners[i].state != PAUSED)
			return false;
	}
	return true;
}

void writers_pause(void)
{
	WRITE_ONCE(notes->pause, 1);
	TEST_ASSERT(host_wait(all_paused, NULL), "the vCPUs do not pause");
}

void writers_resume(void)
{
	pthread_mutex_lock(&gate);
	WRITE_ONCE(notes->pause, 0);
	pthread_mutex_unlock(&gate);
	open_gate();
}

void writers_rings_reset(void)
{
	pthread_mutex_lock(&gate);
	nr_resets++;
	pthread_mutex_unlock(&gate);
	open_gate();
}

void writers_stop(void)
{
	int i;

	writers_pause();
	pthread_mutex_lock(&gate);
	ends = true;
	pthread_mutex_unlock(&gate);
	open_gate();
	for (i = 0; i < nr_runners; i++)
		pthread_join(runners[i].thread, NULL);
}

static uint64_t nr_writes(void)
{
	uint64_t sum = 0;
	int i;

	for (i = 0; i < nr_runners; i++)
		sum += writers_done(i) >> HOW_BITS;
	return sum;
}

static bool wrote_until(void *arg)
{
	if (READ_ONCE(notes->pause))
		return true;
	/* They may wait for what the caller is about to do. */
	if (any_full() && !config.harvest())
		return true;
	return nr_writes() >= *(uint64_t *)arg;
}

void writers_wait(uint64_t nr_more)
{
	uint64_t until = nr_writes() + nr_more;

	TEST_ASSERT(host_wait(wrote_until, &until), "the vCPUs stand still");
}

void writers_crowd_around(uint64_t page)
{
	/* The guest takes any pair of numbers. */
	WRITE_ONCE(notes->hot_first, page < 20 ? 0 : page - 20);
	WRITE_ONCE(notes->hot_nr, 40);
}

const uint64_t *writers_crowd(void)
{
	return &notes->hot_first;
}

/* ------------------------------------------------------- what they wrote */

uint64_t writers_done(int id)
{
	return READ_ONCE(notes->note[id].done);
}

uint64_t writers_target(int id)
{
	return READ_ONCE(notes->note[id].page);
}

const char *writers_how(uint64_t word)
{
	return how_name[HOW(word)];
}

void writers_count(struct writers_numbers *n)
{
	uint64_t writes[NR_HOW] = { 0 };
	size_t i, len;
	int v;

	*n = (struct writers_numbers) { 0 };
	for (v = 0; v < nr_runners; v++) {
		for (i = 0; i < NR_HOW; i++)
			writes[i] += notes->note[v].nr[i];
		n->refused += notes->note[v].refused;
		n->exits += runners[v].exits;
		n->fulls += runners[v].fulls;
	}
	for (len = i = 0; i < NR_HOW; i++) {
		len += snprintf(n->ways + len, sizeof(n->ways) - len, ", %s %lu",
				how_name[i], writes[i]);
		n->writes += writes[i];
	}
}
