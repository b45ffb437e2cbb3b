// SPDX-License-Identifier: GPL-2.0
/*
 * System management mode has slots of its own. Here they are at the same guest
 * addresses as those of the guest outside, on other host memory, and both change
 * while vCPUs go from one to the other.
 *
 * A page says which address space and which page it is, and counts what each vCPU
 * wrote to it. The host says what a vCPU must find at each page: memory, memory
 * that cannot be written, or nothing. While that changes, either will do, but never
 * a page of the other address space, and never a count that is not the vCPU's.
 */
#include "harness.h"

#include <pthread.h>

#include "kvm_util.h"
#include "processor.h"
#include "ucall_common.h"

#include "chooser.h"
#include "host.h"
#include "memslot_ops.h"
#include "rule.h"
#include "smm.h"
#include "tally.h"
#include "xorshift.h"

#define NR_AS		2
#define NR_VCPUS	2
#define NR_PAGES	(4 * HUGE_PAGES)
#define RANGE		(NR_PAGES * PAGE_SIZE)
#define RANGE_GPA	GIGA_SIZE
/* The guest maps all of it twice: by huge pages, and by small ones. */
#define BY_HUGE_PAGES	RANGE_GPA
#define BY_SMALL_PAGES	(2 * GIGA_SIZE)
/* In SMM a part of it a third time, by an entry of a table that it rewrites. */
#define WINDOW		(BY_SMALL_PAGES + 256 * HUGE_SIZE)
#define FIRST_SLOT	2

/* Where the vCPUs' SMBASEs are: inside the second huge frame. */
#define SMRAM_FIRST	(HUGE_PAGES + 200)
#define SMRAM_NR	(NR_VCPUS * SMM_PAGES)

#define PORT_INS	0x31
/* What a read sees where there is no memory. */
#define NOTHING		0xabababababababab

#define PAGE_ID(as, page)	(0x5a4d000000000000 | (uint64_t)(as) << 32 | (page))

/* -------------------------------- what the guest and the host share */

enum want {
	ANY,
	MEMORY,
	READONLY,
	ABSENT,
};

struct page {
	uint64_t id;
	uint64_t counter[NR_VCPUS];
};

/* Of a vCPU, in an address space. */
struct note {
	uint64_t random;
	uint64_t touches;
	uint64_t misses;		/* accesses that came out */
	uint64_t dropped;		/* by the VMM: the last write came out */
	uint64_t value;			/* what an INS is to bring */
	uint32_t counter[NR_PAGES];
};

struct notes {
	uint64_t stop;
	uint64_t only;			/* touch no other page than this, once */
	uint64_t hot_first[NR_AS], hot_nr[NR_AS];
	uint64_t smis[NR_VCPUS];
	uint32_t rule[NR_AS][NR_PAGES];
	struct note note[NR_VCPUS][NR_AS];
};

#define ALL_PAGES	(-1UL)

static bool is_smram(int as, uint64_t page)
{
	return as && page - SMRAM_FIRST < SMRAM_NR &&
	       smm_uses((page - SMRAM_FIRST) % SMM_PAGES);
}

/* ------------------------------------------------------------- the guest */

/* INS is emulated: such a write looks its slot up each time. */
static void guest_store(struct note *me, uint64_t *to, uint64_t value, bool ins)
{
	if (!ins) {
		WRITE_ONCE(*to, value);
		return;
	}
	WRITE_ONCE(me->value, value);
	asm volatile("insl" : "+D"(to) : "d"(PORT_INS) : "memory");
}

/*
 * Has the window show the huge frame of a page. The table lies in a slot that
 * changes; without nested paging KVM must see what is written to it.
 */
static uint64_t guest_window(int id, uint64_t nr)
{
	const uint64_t table = SMRAM_FIRST + id * SMM_PAGES + SMM_DIRECTORY;
	uint64_t *entry = (uint64_t *)(BY_HUGE_PAGES + table * PAGE_SIZE) + 256;
	uint64_t frame = RANGE_GPA + nr / HUGE_PAGES * HUGE_SIZE;

	WRITE_ONCE(*entry, frame | PTE_LARGE_MASK | PTE_DIRTY_MASK |
		   PTE_ACCESSED_MASK | PTE_WRITABLE_MASK | PTE_PRESENT_MASK);
	asm volatile("invlpg (%0)" : : "r"(WINDOW + nr % HUGE_PAGES * PAGE_SIZE)
		     : "memory");
	return WINDOW + nr % HUGE_PAGES * PAGE_SIZE;
}

static void guest_touch_page(struct notes *notes, int id, int as, uint64_t nr,
			     uint64_t random)
{
	uint64_t gva = (random & 1 ? BY_SMALL_PAGES : BY_HUGE_PAGES) +
		       nr * PAGE_SIZE;
	struct page *page;
	struct note *me = &notes->note[id][as];
	uint32_t *rule = &notes->rule[as][nr], before, after;
	uint64_t got, back, count = me->counter[nr];
	bool dropped;

	if (as && random & 4)
		gva = guest_window(id, nr);
	page = (void *)gva;
	before = READ_ONCE(*rule);
	got = READ_ONCE(page->id);
	WRITE_ONCE(me->dropped, 0);
	guest_store(me, &page->counter[id], count + 1, random & 2);
	barrier();
	dropped = READ_ONCE(me->dropped);
	me->counter[nr] = count + !dropped;
	back = READ_ONCE(page->counter[id]);
	/* The write must be over before the rule is read again. */
	asm volatile("mfence" : : : "memory");
	after = READ_ONCE(*rule);

	me->touches++;
	me->misses += (got == NOTHING) + dropped + (back == NOTHING);

	__GUEST_ASSERT(got == PAGE_ID(as, nr) || got == NOTHING,
		       "page %lu of address space %u reads %lx", nr, as, got);
	__GUEST_ASSERT(back == me->counter[nr] || back == NOTHING,
		       "page %lu of address space %u counts %lu, not %u", nr, as,
		       back, me->counter[nr]);
	if (before != after || WANT(after) == ANY)
		return;
	__GUEST_ASSERT((got == NOTHING) == (WANT(after) == ABSENT) &&
		       (back == NOTHING) == (WANT(after) == ABSENT) &&
		       dropped == (WANT(after) != MEMORY),
		       "page %lu of address space %u, rule %x: reads %lx and %lx, a write %s",
		       nr, as, after, got, back, dropped ? "came out" : "landed");
}

static void guest_touch(struct notes *notes, int id, int as)
{
	uint64_t only = READ_ONCE(notes->only), i, random, nr;

	if (only != ALL_PAGES) {
		for (i = 0; i < 8; i++)
			guest_touch_page(notes, id, as, only, i);
		return;
	}
	for (i = 0; i < 8; i++) {
		random = xorshift(&notes->note[id][as].random);
		nr = random >> 12;
		if (random & 0x800)
			nr = notes->hot_first[as] + nr % notes->hot_nr[as];
		nr %= NR_PAGES;
		/* Exits take long, and INS is one. */
		if (random & 0x78)
			random &= ~2;
		if (!is_smram(as, nr) &&
		    (!(random & 0x380) || WANT(notes->rule[as][nr]) == MEMORY))
			guest_touch_page(notes, id, as, nr, random);
	}
}

static struct notes *smi_notes;		/* the guest's copy is used */

static void guest_smi(void *arg)
{
	int id = (uintptr_t)arg;

	guest_touch(smi_notes, id, 1);
	WRITE_ONCE(smi_notes->smis[id], smi_notes->smis[id] + 1);
}

static void guest_code(struct notes *notes, int id)
{
	uint64_t smis, round;

	smi_notes = notes;
	smm_guest_init();
	for (round = 0; ; round++) {
		guest_touch(notes, id, 0);
		smis = READ_ONCE(notes->smis[id]);
		smm_guest_enter();
		__GUEST_ASSERT(READ_ONCE(notes->smis[id]) > smis, "no SMI came");
		/* And at a moment that is not of the vCPU's choice. */
		if (!(round % 4) && READ_ONCE(notes->only) == ALL_PAGES)
			smm_guest_send(!id);
		if (READ_ONCE(notes->stop))
			GUEST_SYNC(0);
	}
}

/* ------------------------------------------------------ the host: its state */

struct world;

struct runner {
	struct world *w;
	struct kvm_vcpu *vcpu;
	pthread_t thread;
	bool runs;
	uint64_t exits[NR_AS];		/* reads and writes that came out */
	uint32_t comes;			/* a slot, as soon as it is missed in SMM */
};

struct world {
	struct kvm_vm *vm;
	struct notes *notes;		/* the guest's */
	struct runner runner[NR_VCPUS];
	char *mem[NR_AS];
	struct range range[NR_AS];
	struct chooser chooser[NR_AS];
	/* With dirty logging: what the pages were when they were named last. */
	char *saved[NR_AS];
	uint32_t log_flag;
	uint64_t counted[NR_VCPUS][NR_AS];	/* touches, for the tally */
};

static struct layout *layout_of(struct world *w, int as)
{
	return &w->chooser[as].layout;
}

static uint64_t gpa_of(uint64_t page)
{
	return RANGE_GPA + page * PAGE_SIZE;
}

static struct page *page_at(struct world *w, int as, uint64_t page)
{
	return (void *)(w->mem[as] + page * PAGE_SIZE);
}

/* ----------------------------------------------------------------- vCPUs */

static void take_mmio(struct runner *r, int as)
{
	const uint64_t nothing = NOTHING;
	struct kvm_run *run = r->vcpu->run;
	uint64_t page = (run->mmio.phys_addr - RANGE_GPA) / PAGE_SIZE;

	TEST_ASSERT(page < NR_PAGES,
		    "vCPU %d came out of address space %d at %#llx",
		    r->vcpu->id, as, run->mmio.phys_addr);
	r->exits[as]++;
	if (run->mmio.is_write)
		r->w->notes->note[r->vcpu->id][as].dropped = 1;
	else
		memcpy(run->mmio.data, &nothing, run->mmio.len);
	if (as && r->comes) {
		slot_must_set(r->w->vm, r->comes, 0, gpa_of(page), PAGE_SIZE,
			      page_at(r->w, as, page));
		r->comes = 0;
	}
}

/* Until the guest is asked to stop, and does. */
static void *runner_main(void *arg)
{
	struct runner *r = arg;
	struct kvm_run *run = r->vcpu->run;
	struct ucall uc;
	int as;

	for (;;) {
		if (__vcpu_run(r->vcpu)) {
			TEST_ASSERT(errno == EINTR || errno == EAGAIN,
				    "vCPU %d: KVM_RUN: %s", r->vcpu->id,
				    strerror(errno));
			continue;
		}
		as = !!(run->flags & KVM_RUN_X86_SMM);
		if (run->exit_reason == KVM_EXIT_MMIO) {
			take_mmio(r, as);
			continue;
		}
		TEST_ASSERT(run->exit_reason == KVM_EXIT_IO,
			    "vCPU %d left address space %d with %s", r->vcpu->id,
			    as, exit_reason_str(run->exit_reason));
		if (run->io.port == PORT_INS) {
			memcpy((void *)run + run->io.data_offset,
			       &r->w->notes->note[r->vcpu->id][as].value,
			       run->io.size);
			continue;
		}
		if (get_ucall(r->vcpu, &uc) == UCALL_ABORT)
			REPORT_GUEST_ASSERT(uc);
		TEST_ASSERT_EQ(uc.cmd, UCALL_SYNC);
		return NULL;
	}
}

static void start(struct world *w)
{
	int i;

	WRITE_ONCE(w->notes->stop, 0);
	for (i = 0; i < NR_VCPUS; i++) {
		w->runner[i].runs = true;
		pthread_create(&w->runner[i].thread, NULL, runner_main,
			       &w->runner[i]);
	}
}

static void stop(struct world *w)
{
	int i;

	WRITE_ONCE(w->notes->stop, 1);
	for (i = 0; i < NR_VCPUS; i++) {
		if (w->runner[i].runs)
			pthread_join(w->runner[i].thread, NULL);
		w->runner[i].runs = false;
	}
}

/* Lets both vCPUs touch a page, outside and in SMM, as the rules say. */
static void touch_once(struct world *w, uint64_t page)
{
	int i;

	WRITE_ONCE(w->notes->stop, 1);
	w->notes->only = page;
	for (i = 0; i < NR_VCPUS; i++)
		runner_main(&w->runner[i]);
	w->notes->only = ALL_PAGES;
}

struct wait_smis {
	struct world *w;
	uint64_t until[NR_VCPUS];
};

static bool took_smis(void *arg)
{
	struct wait_smis *wait = arg;
	int i;

	for (i = 0; i < NR_VCPUS; i++) {
		if (READ_ONCE(wait->w->notes->smis[i]) < wait->until[i])
			return false;
	}
	return true;
}

/* Until each vCPU has been in SMM that many more times. */
static void wait_smis(struct world *w, uint64_t times)
{
	struct wait_smis wait = { .w = w };
	int i;

	for (i = 0; i < NR_VCPUS; i++)
		wait.until[i] = READ_ONCE(w->notes->smis[i]) + times;
	TEST_ASSERT(host_wait(took_smis, &wait), "the vCPUs stand still");
}

/* ------------------------------------------------------ layouts and rules */

static enum want want_of(const struct layout *l, uint64_t page)
{
	return !layout_has(l, page) ? ABSENT :
	       layout_is_writable(l, page) ? MEMORY : READONLY;
}

/* What is about to change may be found either way. */
static void relax_rules(struct world *w, int as, const struct layout *after)
{
	uint64_t i;

	for (i = 0; i < NR_PAGES; i++) {
		if (want_of(layout_of(w, as), i) != want_of(after, i))
			set_rule(&w->notes->rule[as][i], ANY);
	}
	__sync_synchronize();
}

static void set_rules(struct world *w, int as)
{
	uint64_t i;

	__sync_synchronize();
	for (i = 0; i < NR_PAGES; i++)
		set_rule(&w->notes->rule[as][i], want_of(layout_of(w, as), i));
}

/* --------------------------------------------------------- the dirty log */

/* Pages that are named are as they are now; all others are as they were. */
static void take_log(struct world *w, int as, uint64_t first, uint64_t nr,
		     const uint64_t *bitmap, const char *whose)
{
	uint64_t i;

	for (i = 0; i < nr; i++) {
		char *saved = w->saved[as] + (first + i) * PAGE_SIZE;
		struct page *page = page_at(w, as, first + i);

		if (bitmap[i / 64] >> i % 64 & 1)
			memcpy(saved, page, PAGE_SIZE);
		else
			TEST_ASSERT(!memcmp(saved, page, PAGE_SIZE),
				    "page %lu of address space %d was written, %s does not say so",
				    first + i, as, whose);
	}
	tally_promises(nr);
	tally_bytes(nr * PAGE_SIZE);
}

static void take_logs(struct world *w, int as)
{
	const struct layout *l = layout_of(w, as);
	uint64_t bitmap[NR_PAGES / 64];
	const struct model_slot *s;

	for (s = l->slot; s < l->slot + l->nr; s++) {
		kvm_vm_get_dirty_log(w->vm, s->id, bitmap);
		take_log(w, as, s->first, s->nr, bitmap, "the log");
	}
}

/* ------------------------------------------------------------ the contents */

/* While the vCPUs stand still. */
static void verify(struct world *w)
{
	uint64_t i, misses, exits;
	int as, id;

	for (as = 0; as < NR_AS; as++) {
		layout_assert_all(&w->range[as], layout_of(w, as));
		if (w->log_flag)
			take_logs(w, as);
		for (i = 0; i < NR_PAGES; i++) {
			struct page *page = page_at(w, as, i);

			if (is_smram(as, i))
				continue;
			TEST_ASSERT_EQ(page->id, PAGE_ID(as, i));
			tally_bytes(sizeof(*page));
			for (id = 0; id < NR_VCPUS; id++)
				TEST_ASSERT(page->counter[id] ==
					    w->notes->note[id][as].counter[i],
					    "page %lu of address space %d counts %lu writes of vCPU %d, not %u",
					    i, as, page->counter[id], id,
					    w->notes->note[id][as].counter[i]);
		}
		for (id = 0; id < NR_VCPUS; id++) {
			tally_promises(w->notes->note[id][as].touches - w->counted[id][as]);
			w->counted[id][as] = w->notes->note[id][as].touches;
			misses = w->notes->note[id][as].misses;
			exits = w->runner[id].exits[as];
			TEST_ASSERT(exits == misses,
				    "vCPU %d came out of address space %d %lu times, not %lu",
				    id, as, exits, misses);
		}
	}
	memslot_ops_assert_stats(w->range[0].dev, w->chooser[0].ops + w->chooser[1].ops,
				 w->chooser[0].resizes + w->chooser[1].resizes,
				 w->chooser[0].failed + w->chooser[1].failed);
}

/* ---------------------------------------------------------- the operations */

static void make(struct world *w, int as, const struct step *s)
{
	struct chooser *c = &w->chooser[as];
	struct layout after = c->layout;
	uint64_t bitmap[NR_PAGES / 64];
	int err;

	layout_apply(&after, s);
	relax_rules(w, as, &after);
	err = step_make(&w->range[as], s, bitmap);
	chooser_made(c, s, err);
	set_rules(w, as);
	if (s->kind == STEP_SHRINK && s->wants_bitmap)
		take_log(w, as, s->first, s->nr_pages, bitmap, "SHRINK's bitmap");
	step_assert(&w->range[as], &c->layout, s);
}

/* ------------------------------------------------------------ steps at random */

#define KIND(kind)	(1 << (kind))
#define ALL_KINDS	(KIND(STEP_INVALID + 1) - 1)

/* From @low to @high, half of the time in or beside what SMM runs on. */
static uint64_t random_page(const struct model_slot *slot, uint64_t low, uint64_t high)
{
	uint64_t page = host_random_between(SMRAM_FIRST - 2,
					    SMRAM_FIRST + SMRAM_NR + 2);

	if (host_one_in(2) && page >= low && page <= high)
		return page;
	return host_random_between(low, high);
}

/*
 * What KVM itself and the handler cannot do without stays memory, and so does most of
 * the rest; and only a slot before it could bring a removed one back.
 */
static bool allows(const struct chooser *c, const struct step *s, void *as)
{
	struct layout after = c->layout;
	uint64_t i;

	layout_apply(&after, s);
	for (i = 0; i < NR_PAGES; i++) {
		if (is_smram((uintptr_t)as, i) && want_of(&after, i) != MEMORY)
			return false;
	}
	return (s->size || s->first || s->kind != STEP_SHRINK) &&
	       (s->kind != STEP_SHRINK ||
		layout_nr_present(&after) > NR_PAGES - NR_PAGES / 3) &&
	       (s->kind != STEP_SET_READONLY ||
		layout_nr_readonly(&after) < NR_PAGES / 3);
}

static const struct chooser chooser = {
	.weight = {
		[STEP_GROW] = 5,
		[STEP_SHRINK] = 3,
		[STEP_SPLIT] = 3,
		[STEP_MERGE] = 3,
		[STEP_SET_READONLY] = 3,
		[STEP_INVALID] = 1,
	},
	.max_slots = 15,
	.max_cuts = 3,
	.page = random_page,
	.allows = allows,
};

/* Where something changes, the vCPUs are to be busy. */
static void set_hot(struct world *w, uint64_t page)
{
	int as;

	for (as = 0; as < NR_AS; as++) {
		WRITE_ONCE(w->notes->hot_nr[as], 40);
		WRITE_ONCE(w->notes->hot_first[as], page < 20 ? 0 : page - 20);
	}
}

static void random_step(struct world *w, unsigned int spaces)
{
	struct step s;
	int as;

	do {
		as = host_random() % NR_AS;
	} while (!(spaces & 1 << as));
	chooser_next(&w->chooser[as], &s);
	set_hot(w, s.place);
	make(w, as, &s);
}

/* Of all kinds, these only. */
static void choose_of(struct world *w, unsigned int kinds)
{
	int as, kind;

	for (as = 0; as < NR_AS; as++) {
		for (kind = 0; kind < NR_STEPS; kind++) {
			if (!(kinds & KIND(kind)))
				w->chooser[as].weight[kind] = 0;
		}
	}
}

/* --------------------------------------------------------------- the VM */

static void make_memory(struct world *w, int as, int dev, enum host_pages host_pages)
{
	struct chooser *c = &w->chooser[as];
	struct model_slot slot = {
		.id = SLOT(as, FIRST_SLOT),
		.flags = w->log_flag,
		.nr = NR_PAGES,
	};
	struct step s;
	uint64_t i;

	w->mem[as] = host_map(RANGE, HUGE_SIZE, 0, host_pages);
	for (i = 0; i < NR_PAGES; i++)
		page_at(w, as, i)->id = PAGE_ID(as, i);
	w->range[as] = (struct range) {
		.vm = w->vm,
		.dev = dev,
		.gpa = RANGE_GPA,
		.mem = w->mem[as],
	};
	*c = chooser;
	c->arg = (void *)(uintptr_t)as;
	c->layout.nr_pages = NR_PAGES;
	c->layout.first_id = slot.id;
	chooser_ask(c, dev);
	step_create(&s, &slot);
	make(w, as, &s);
	w->notes->hot_nr[as] = NR_PAGES;
}

static void add_vcpu(struct world *w, int id, vm_vaddr_t notes)
{
	const uint64_t smram = SMRAM_FIRST + id * SMM_PAGES;
	struct runner *r = &w->runner[id];
	int as;

	r->w = w;
	r->vcpu = vm_vcpu_add(w->vm, id, guest_code);
	vcpu_args_set(r->vcpu, 2, notes, id);
	smm_setup(r->vcpu, gpa_of(smram), w->mem[1] + smram * PAGE_SIZE,
		  BY_SMALL_PAGES, guest_smi, id);
	for (as = 0; as < NR_AS; as++)
		w->notes->note[id][as].random = host_random() | 1;
}

static struct world *world_create(enum host_pages host_pages, uint32_t log_flag)
{
	struct world *w = calloc(1, sizeof(*w));
	vm_vaddr_t notes;
	int i, dev;

	w->log_flag = log_flag;
	/* Others want noise. */
	if (!getenv("SOAK"))
		host_quiet();
	w->vm = __vm_create(VM_SHAPE_DEFAULT, NR_VCPUS,
			    2 * NR_PAGES + sizeof(struct notes) / PAGE_SIZE);
	dev = memslot_ops_open(w->vm);
	smm_share_library_slot(w->vm);
	virt_map_level(w->vm, BY_HUGE_PAGES, RANGE_GPA, RANGE, PG_LEVEL_2M);
	virt_map(w->vm, BY_SMALL_PAGES, RANGE_GPA, NR_PAGES);
	notes = vm_vaddr_alloc(w->vm, sizeof(struct notes), KVM_UTIL_MIN_VADDR);
	w->notes = addr_gva2hva(w->vm, notes);
	w->notes->only = ALL_PAGES;

	for (i = 0; i < NR_AS; i++)
		make_memory(w, i, dev, host_pages);
	for (i = 0; i < NR_VCPUS; i++)
		add_vcpu(w, i, notes);
	for (i = 0; i < NR_AS; i++) {
		w->saved[i] = malloc(RANGE);
		memcpy(w->saved[i], w->mem[i], RANGE);
	}
	return w;
}

static void world_free(struct world *w)
{
	int as;

	close(w->range[0].dev);
	kvm_vm_free(w->vm);
	for (as = 0; as < NR_AS; as++) {
		munmap(w->mem[as], RANGE);
		free(w->saved[as]);
	}
	free(w);
}

/* ------------------------------------------------------------ KVM by itself */

/*
 * Whether a vCPU in SMM goes on to see nothing where KVM itself has created a slot.
 * So it is where KVM asks the generation of the other address space whether what
 * the vCPU knows still holds.  The slot comes while the vCPU waits for what a read
 * of it is to bring.
 */
static bool smm_misses_new_slots(void)
{
	const uint64_t page = NR_PAGES - 1;
	struct world *w = world_create(HOST_PAGES_4K, 0);
	struct runner *r = &w->runner[0];
	uint64_t exits;

	slot_must_set(w->vm, layout_of(w, 1)->first_id, 0, gpa_of(0), 0, NULL);
	slot_must_set(w->vm, layout_of(w, 1)->first_id, 0, gpa_of(0),
		      page * PAGE_SIZE, w->mem[1]);
	set_rule(&w->notes->rule[1][page], ANY);
	r->comes = layout_of(w, 1)->first_id + 1;
	WRITE_ONCE(w->notes->stop, 1);
	w->notes->only = page;
	runner_main(r);
	exits = r->exits[1];
	TEST_ASSERT(exits, "there was no slot, and nothing came out");
	world_free(w);
	return exits > 1;
}

#define REQUIRE_SMM()							\
do {									\
	struct kvm_vm *_vm = vm_create_barebones();			\
	bool _is_possible = smm_is_possible(_vm);			\
									\
	kvm_vm_free(_vm);						\
	REQUIRE(_is_possible, "no system management mode");		\
	REQUIRE_ALL_OPS();						\
} while (0)

/* For what has memory come. */
#define REQUIRE_SMM_SEES_NEW_SLOTS()					\
	REQUIRE(!smm_misses_new_slots(),				\
		"in SMM, KVM misses slots that it has created itself")

/* ------------------------------------------------ everything at random */

FIXTURE(steps) {
	struct world *w;
};

FIXTURE_VARIANT(steps) {
	unsigned int spaces;		/* bit n: that slots of n change */
	unsigned int kinds;
	enum host_pages host_pages;
	uint32_t log_flag;
};

FIXTURE_VARIANT_ADD(steps, thp)
{
	.spaces = 3,
	.kinds = ALL_KINDS,
	.host_pages = HOST_PAGES_THP,
};

FIXTURE_VARIANT_ADD(steps, 4k)
{
	.spaces = 3,
	.kinds = ALL_KINDS,
	.host_pages = HOST_PAGES_4K,
};

FIXTURE_VARIANT_ADD(steps, logged)
{
	.spaces = 3,
	.kinds = ALL_KINDS,
	.host_pages = HOST_PAGES_THP,
	.log_flag = KVM_MEM_LOG_DIRTY_PAGES,
};

/* The slot that holds the handler's code is cut and merged as it runs. */
FIXTURE_VARIANT_ADD(steps, smram_is_cut)
{
	.spaces = 2,
	.kinds = KIND(STEP_SPLIT) | KIND(STEP_MERGE),
	.host_pages = HOST_PAGES_THP,
};

FIXTURE_VARIANT_ADD(steps, outside_only)
{
	.spaces = 1,
	.kinds = ALL_KINDS,
	.host_pages = HOST_PAGES_THP,
};

/* What fails here is KVM's doing, or the test's. */
FIXTURE_VARIANT_ADD(steps, nothing_changes)
{
	.host_pages = HOST_PAGES_THP,
};

FIXTURE_SETUP(steps)
{
	self->w = NULL;
	REQUIRE_SMM();
	host_seed();
	if (variant->kinds & ~(KIND(STEP_SPLIT) | KIND(STEP_MERGE)))
		REQUIRE_SMM_SEES_NEW_SLOTS();
	self->w = world_create(variant->host_pages, variant->log_flag);
	choose_of(self->w, variant->kinds);
}

FIXTURE_TEARDOWN(steps)
{
	if (self->w)
		world_free(self->w);
}

#define ROUNDS		4
#define STEPS		15

/* SOAK=<seconds>: for as long. */
static bool goes_on(int round, const struct timespec *start)
{
	const char *soak = getenv("SOAK");

	return soak ? host_seconds_since(start) < atoi(soak) : round < ROUNDS;
}

TEST_F(steps, under_load)
{
	struct world *w = self->w;
	struct timespec start_time;
	int round, step;

	clock_gettime(CLOCK_MONOTONIC, &start_time);
	for (round = 0; goes_on(round, &start_time); round++) {
		start(w);
		for (step = 0; step < STEPS; step++) {
			wait_smis(w, 2);
			if (variant->kinds)
				random_step(w, variant->spaces);
		}
		wait_smis(w, 2);
		stop(w);
		verify(w);
	}
	for (round = 0; round < NR_AS; round++)
		ksft_print_msg("%s:%s\n", round ? "in SMM" : "outside",
			       chooser_summary(&w->chooser[round]));
	tally_print();
	ksft_print_msg("%lu SMIs, %lu and %lu touches, %lu and %lu exits\n",
		       w->notes->smis[0], w->notes->note[0][0].touches,
		       w->notes->note[0][1].touches, w->runner[0].exits[0],
		       w->runner[0].exits[1]);
}

/* ------------------------------------------------------------ one by one */

FIXTURE(one) {
	struct world *w;
};

FIXTURE_SETUP(one)
{
	self->w = NULL;
	REQUIRE_SMM();
	host_seed();
	REQUIRE_SMM_SEES_NEW_SLOTS();
	self->w = world_create(HOST_PAGES_THP, 0);
}

FIXTURE_TEARDOWN(one)
{
	if (!self->w)
		return;
	verify(self->w);
	world_free(self->w);
}

static void step_and_touch(struct world *w, int as, const struct step *s, uint64_t page)
{
	make(w, as, s);
	touch_once(w, page - 1);
	touch_once(w, page);
	verify(w);
}

/* What changes for the guest here is as it was there. */
TEST_F(one, sees_only_its_own)
{
	static const uint64_t ends[] = {
		NR_PAGES - 1, SMRAM_FIRST + SMRAM_NR,
	};
	struct world *w = self->w;
	struct layout *l;
	struct step s;
	uint64_t end;
	int as, i;

	for (i = 0; i < NR_AS * ARRAY_SIZE(ends); i++) {
		as = i % NR_AS;
		end = ends[i / NR_AS];
		l = layout_of(w, as);
		touch_once(w, end - 1);
		touch_once(w, end);

		step_resize(&s, l, 0, end);
		step_and_touch(w, as, &s, end);
		TEST_ASSERT_EQ(want_of(l, end), ABSENT);
		TEST_ASSERT_EQ(want_of(layout_of(w, !as), end), MEMORY);
		step_resize(&s, l, 0, NR_PAGES);
		step_and_touch(w, as, &s, end);

		step_split(&s, l, 0, 1, &end);
		step_and_touch(w, as, &s, end);
		step_set_readonly(&s, l, 1, true);
		step_and_touch(w, as, &s, end);
		TEST_ASSERT_EQ(want_of(l, end), READONLY);
		TEST_ASSERT_EQ(want_of(layout_of(w, !as), end), MEMORY);
		step_set_readonly(&s, l, 1, false);
		step_and_touch(w, as, &s, end);
		step_merge(&s, l, 0, 2);
		step_and_touch(w, as, &s, end);
	}
	/* In turns, writes came out of one and landed in the other. */
	for (as = 0; as < NR_AS; as++)
		TEST_ASSERT(w->runner[0].exits[as], "nothing came out of %d", as);
}

/*
 * KVM tells by the generation whether a slot, or the lack of one, that a vCPU
 * remembers still holds. So no generation may come in both address spaces: here
 * that of each overtakes the other's.
 */
TEST_F(one, generations_are_apart)
{
	const uint64_t cut = 3, gone = NR_PAGES - 1;
	struct world *w = self->w;
	uint64_t page = cut;
	struct step s;
	int i, lap, as;

	step_resize(&s, layout_of(w, 0), 0, gone);
	make(w, 0, &s);
	for (lap = 0; lap < 4; lap++) {
		as = !(lap % 2);
		for (i = 0; i < (lap ? 24 : 12); i++) {
			if (i % 2)
				step_merge(&s, layout_of(w, as), 0, 2);
			else
				step_split(&s, layout_of(w, as), 0, 1, &cut);
			make(w, as, &s);
			if (!lap)
				continue;
			/* That nobody has touched yet. */
			do {
				page++;
			} while (is_smram(1, page));
			touch_once(w, page);
			touch_once(w, gone);
		}
	}
}

TEST_HARNESS_MAIN
