// SPDX-License-Identifier: GPL-2.0
/*
 * Page tables that KVM shadows, in the slots that operations change: those through which
 * L1 runs L2, be it nested page tables or, where the host has no nested paging, L2's own.
 *
 * Each vCPU runs L2 for a moment, changes its tables, and runs it again. L2 looks at
 * memory through aliases: words that say which page it is, and counters of its own. So a
 * mapping that KVM should have dropped, or a write that got lost, shows.
 */
#include "harness.h"

#include <pthread.h>
#include <sys/mman.h>

#include "kvm_util.h"
#include "processor.h"
#include "svm_util.h"
#include "ucall_common.h"

#include "chooser.h"
#include "host.h"
#include "host_noise.h"
#include "memslot_ops.h"
#include "nested.h"
#include "xorshift.h"

#define NR_VCPUS	2

#define GPA		(4 * GIGA_SIZE)		/* where L1's slots are */
#define NR_PAGES	6144UL
/* This much always is in a slot; the rest comes and goes. */
#define NR_FIXED	4096UL
/* SHRINK to here removes all tables, if they were put above it. */
#define NR_BELOW	1500UL
#define FIRST_SLOT	2

/* Where L2 sees pages, through tables that are in the slots. */
#define ALIAS		(5 * GIGA_SIZE)
#define NR_TABLES	2
#define NR_ALIASES	(NR_TABLES * 512)

/* Root, pointers, directory, tables, and spares. */
#define NR_SPARES	3
#define NR_TABLE_PAGES	(3 + NR_TABLES + NR_SPARES)

/* ----------------------------------------------------------- the guest */

struct note {
	/* By the test. */
	struct svm_test_data *svm;
	void *stack;
	uint64_t id;			/* of the vCPU */
	uint64_t random;
	bool nested_paging;
	bool changes;			/* L1 changes tables */
	bool stop;
	uint64_t nr_data;
	uint16_t data[NR_PAGES];	/* pages that may be aliased */
	uint64_t table[NR_TABLE_PAGES];	/* where tables are: guest addresses */

	/* What L1 has in its tables, and L2 should see. */
	uint16_t page[NR_ALIASES];
	uint32_t count[NR_PAGES];	/* increments that L2 made */

	/* What came of it. */
	uint64_t rounds, failures, changed;
	uint64_t last_exit;
	uint64_t wrong, wrong_alias, wrong_word;
};

/* Indices into note->table. */
enum {
	ROOT,
	POINTERS,
	DIRECTORY,
	TABLES,
	SPARES = TABLES + NR_TABLES,
};

/* Of a page, at an address where the guest sees it. */
static uint64_t *words_at(uint64_t gva)
{
	return (uint64_t *)gva;
}

static void l2_code(struct note *n)
{
	int i;

	for (i = 0; i < 32; i++) {
		uint64_t alias = xorshift(&n->random) % NR_ALIASES;
		uint64_t *words = words_at(ALIAS + alias * PAGE_SIZE);
		uint64_t word = READ_ONCE(words[0]);

		if (word != n->page[alias]) {
			n->wrong_alias = alias;
			n->wrong_word = word;
			n->wrong++;
			break;
		}
		WRITE_ONCE(words[1 + n->id], READ_ONCE(words[1 + n->id]) + 1);
		n->count[word]++;
	}
	vmmcall();
}

static void set_entry(struct note *n, int table, uint64_t i, uint64_t entry)
{
	WRITE_ONCE(words_at(n->table[table])[i], entry);
}

static void alias_page(struct note *n, uint64_t alias, uint16_t page)
{
	set_entry(n, TABLES + alias / 512, alias % 512,
		  (GPA + page * PAGE_SIZE) | NESTED_ENTRY);
	n->page[alias] = page;
}

/* Another page becomes this table, and its page holds something else. */
static void replace_table(struct note *n, int table)
{
	int i, spare = SPARES + xorshift(&n->random) % NR_SPARES;
	uint64_t old = n->table[table], new = n->table[spare];

	for (i = 0; i < 512; i++)
		WRITE_ONCE(words_at(new)[i], READ_ONCE(words_at(old)[i]));
	n->table[table] = new;
	n->table[spare] = old;

	switch (table) {
	case ROOT:
		if (n->nested_paging)
			n->svm->vmcb->control.nested_cr3 = new;
		else
			n->svm->vmcb->save.cr3 = new;
		break;
	case POINTERS:
		set_entry(n, ROOT, 0, new | NESTED_ENTRY);
		break;
	case DIRECTORY:
		set_entry(n, POINTERS, ALIAS / GIGA_SIZE, new | NESTED_ENTRY);
		break;
	default:
		set_entry(n, DIRECTORY, table - TABLES, new | NESTED_ENTRY);
	}

	for (i = 0; i < 512; i++)
		WRITE_ONCE(words_at(old)[i], xorshift(&n->random) & ~1UL);
}

static void change_tables(struct note *n)
{
	int i;

	for (i = xorshift(&n->random) % 8; i; i--)
		alias_page(n, xorshift(&n->random) % NR_ALIASES,
			   n->data[xorshift(&n->random) % n->nr_data]);
	if (!(xorshift(&n->random) % 4))
		replace_table(n, xorshift(&n->random) % SPARES);
	n->changed++;
}

static void run_l2(struct note *n)
{
	struct vmcb *vmcb = n->svm->vmcb;
	uint64_t vmcb_gpa = n->svm->vmcb_gpa;
	struct note *arg = n;

	vmcb->save.rip = (uint64_t)l2_code;
	vmcb->save.rsp = (uint64_t)n->stack - 8;
	asm volatile("push %%rbp\n\t"
		     "vmload %%rax\n\t"
		     "vmrun %%rax\n\t"
		     "pop %%rbp\n\t"
		     : "+a"(vmcb_gpa), "+D"(arg) :
		     : "rbx", "rcx", "rdx", "rsi", "r8", "r9", "r10", "r11",
		       "r12", "r13", "r14", "r15", "memory", "cc");
}

static void l1_code(struct note *n)
{
	struct vmcb *vmcb = n->svm->vmcb;
	uint64_t root = n->table[ROOT];

	nested_make_ready(n->svm, l2_code, n->stack, n->nested_paging ? root : 0);
	vmcb->control.intercept |= 1UL << INTERCEPT_SHUTDOWN;
	/* L2 has no handler that would be there without its tables. */
	vmcb->control.intercept_exceptions = 1U << PF_VECTOR | 1U << DF_VECTOR;
	if (!n->nested_paging)
		vmcb->save.cr3 = root;

	while (!READ_ONCE(n->stop)) {
		if (READ_ONCE(n->changes))
			change_tables(n);
		run_l2(n);
		n->last_exit = vmcb->control.exit_code;
		if (n->last_exit == SVM_EXIT_VMMCALL)
			WRITE_ONCE(n->rounds, n->rounds + 1);
		else
			WRITE_ONCE(n->failures, n->failures + 1);
	}
	GUEST_DONE();
}

/* ------------------------------------------------------------ the host */

struct runner {
	struct kvm_vcpu *vcpu;
	struct note *note;
	struct counter faults;
	pthread_t thread;
};

static char *mem;		/* of L1's slots */

static void *runner_main(void *arg)
{
	struct runner *r = arg;
	struct kvm_run *run = r->vcpu->run;
	struct ucall uc;

	for (;;) {
		vcpu_run(r->vcpu);
		/* A write to a read-only slot: the VMM does it. */
		if (run->exit_reason == KVM_EXIT_MMIO && run->mmio.is_write &&
		    run->mmio.phys_addr - GPA < NR_FIXED * PAGE_SIZE) {
			memcpy(mem + run->mmio.phys_addr - GPA, run->mmio.data,
			       run->mmio.len);
			continue;
		}
		switch (get_ucall(r->vcpu, &uc)) {
		case UCALL_DONE:
			return NULL;
		case UCALL_ABORT:
			REPORT_GUEST_ASSERT(uc);
			break;
		default:
			TEST_FAIL("vCPU %d left with %s at %#llx", r->vcpu->id,
				  exit_reason_str(run->exit_reason),
				  run->exit_reason == KVM_EXIT_MMIO ?
				  run->mmio.phys_addr : 0);
		}
	}
}

struct test {
	struct kvm_vm *vm;
	struct range range;
	struct runner runner[NR_VCPUS];
	struct chooser chooser;
	bool running;
};

FIXTURE(nested) {
	struct test test;
};

FIXTURE_VARIANT(nested) {
	bool nested_paging;
	enum host_pages host_pages;
};

FIXTURE_VARIANT_ADD(nested, npt_4k)
{
	.nested_paging = true,
};

FIXTURE_VARIANT_ADD(nested, npt_thp)
{
	.nested_paging = true,
	.host_pages = HOST_PAGES_THP,
};

/* Shadowed by a host without nested paging; with it, the CPU walks these tables. */
FIXTURE_VARIANT_ADD(nested, own_tables)
{
};

static uint64_t *page_at(uint64_t gpa)
{
	return (uint64_t *)(mem + (gpa - GPA));
}

/*
 * Before 6.6, KVM takes a root in missing memory for a triple fault, and while it enters L2 that
 * makes it warn about itself: "nested_run_pending". It does so if it deletes a slot by itself.
 */
static bool roots_may_go(void)
{
	return !host_is_before(6, 6);
}

/*
 * Tables that are like those which L2 gets without this test, but for its aliases. They are
 * at random places from page @first on.
 */
static void make_tables(struct kvm_vm *vm, struct note *n, bool *used,
			uint64_t first)
{
	uint64_t base, pointers, page;
	int i;

	for (i = 0; i < NR_TABLE_PAGES; i++) {
		uint64_t low = i == ROOT && !roots_may_go() ? 0 : first;

		do {
			page = host_random_between(low, low == first ? NR_FIXED - 1 :
							first - 1);
		} while (used[page]);
		used[page] = true;
		n->table[i] = GPA + page * PAGE_SIZE;
		memset(page_at(n->table[i]), 0, PAGE_SIZE);
	}

	base = n->nested_paging ? nested_identity(vm) : vm->pgd;
	memcpy(page_at(n->table[ROOT]), addr_gpa2hva(vm, base & ~0xfffUL),
	       PAGE_SIZE);
	pointers = *page_at(n->table[ROOT]) & GENMASK_ULL(51, 12);
	memcpy(page_at(n->table[POINTERS]), addr_gpa2hva(vm, pointers),
	       PAGE_SIZE);
	page_at(n->table[ROOT])[0] = n->table[POINTERS] | NESTED_ENTRY;
	page_at(n->table[POINTERS])[ALIAS / GIGA_SIZE] =
		n->table[DIRECTORY] | NESTED_ENTRY;
	for (i = 0; i < NR_TABLES; i++)
		page_at(n->table[DIRECTORY])[i] = n->table[TABLES + i] | NESTED_ENTRY;
}

static void fill_tables(struct note *n)
{
	uint64_t alias;

	for (alias = 0; alias < NR_ALIASES; alias++) {
		uint16_t page = n->data[host_random() % n->nr_data];

		page_at(n->table[TABLES + alias / 512])[alias % 512] =
			(GPA + page * PAGE_SIZE) | NESTED_ENTRY;
		n->page[alias] = page;
	}
}

static void add_vcpu(struct kvm_vm *vm, struct runner *r, int id,
		     bool nested_paging)
{
	vm_vaddr_t svm, note, stack;

	r->vcpu = vm_vcpu_add(vm, id, l1_code);
	vcpu_alloc_svm(vm, &svm);
	stack = vm_vaddr_alloc_pages(vm, 2);
	note = vm_vaddr_alloc(vm, sizeof(*r->note), KVM_UTIL_MIN_VADDR);
	r->note = addr_gva2hva(vm, note);
	r->note->svm = (void *)svm;
	r->note->stack = (void *)stack + 2 * PAGE_SIZE;
	r->note->id = id;
	r->note->random = host_random() | 1;
	r->note->nested_paging = nested_paging;
	vcpu_args_set(r->vcpu, 1, note);
	r->faults = counter_open(vcpu_get_stats_fd(r->vcpu), "pf_taken");
}

/* The last slot is all that gets shorter, down to what L1 needs. */
static bool allows(const struct chooser *c, const struct step *s, void *arg)
{
	const struct model_slot *last = &c->layout.slot[c->layout.nr - 1];

	return s->kind != STEP_SHRINK ||
	       (s->id == last->id && s->first >= NR_FIXED && s->size);
}

static void make(struct test *self, const struct step *s)
{
	uint64_t bitmap[NR_PAGES / 64 + 1];

	chooser_made(&self->chooser, s, step_make(&self->range, s, bitmap));
}

static void make_slot(struct test *self)
{
	const struct model_slot slot = { .id = FIRST_SLOT, .nr = NR_FIXED };
	struct step s;

	self->range = (struct range) {
		.vm = self->vm,
		.dev = memslot_ops_open(self->vm),
		.gpa = GPA,
		.mem = mem,
	};
	self->chooser = (struct chooser) {
		.layout = { .nr_pages = NR_PAGES, .first_id = FIRST_SLOT },
		.weight = {
			[STEP_GROW] = 2,
			[STEP_SHRINK] = 2,
			[STEP_SPLIT] = 4,
			[STEP_MERGE] = 2,
			[STEP_INVALID] = 1,
		},
		.max_slots = 12,
		.max_cuts = 1,
		.allows = allows,
	};
	chooser_ask(&self->chooser, self->range.dev);
	step_create(&s, &slot);
	make(self, &s);
}

FIXTURE_SETUP(nested)
{
	int id;

	self->test.vm = NULL;
	REQUIRE_ALL_OPS();
	REQUIRE(nested_is_possible(), "the host has no SVM");
	REQUIRE(!variant->nested_paging || kvm_cpu_has(X86_FEATURE_NPT),
		"L1 has no nested paging");
	host_seed();
	mem = host_map(NR_PAGES * PAGE_SIZE, HUGE_SIZE, 0, variant->host_pages);

	self->test.vm = __vm_create(VM_SHAPE_DEFAULT, NR_VCPUS, 256);
	vm_enable_cap(self->test.vm, KVM_CAP_EXIT_ON_EMULATION_FAILURE, 1);
	virt_map_level(self->test.vm, GPA, GPA, NR_PAGES * PAGE_SIZE, PG_LEVEL_2M);
	virt_map_level(self->test.vm, ALIAS, ALIAS, NR_ALIASES * PAGE_SIZE,
		       PG_LEVEL_2M);
	for (id = 0; id < NR_VCPUS; id++)
		add_vcpu(self->test.vm, &self->test.runner[id], id,
			 variant->nested_paging);

	make_slot(&self->test);
}

/* Puts the tables at or above a page, and starts the vCPUs. */
static void start(struct test *self, uint64_t first, bool changes)
{
	static bool used[NR_PAGES];
	uint64_t page;
	int id;

	for (id = 0; id < NR_VCPUS; id++)
		make_tables(self->vm, self->runner[id].note, used, first);

	/* What is not a table is data, but near tables that are to go. */
	for (page = 0; page < (first ?: NR_FIXED); page++) {
		if (used[page])
			continue;
		page_at(GPA + page * PAGE_SIZE)[0] = page;
		for (id = 0; id < NR_VCPUS; id++) {
			struct note *n = self->runner[id].note;

			n->data[n->nr_data++] = page;
		}
	}

	for (id = 0; id < NR_VCPUS; id++) {
		struct runner *r = &self->runner[id];

		fill_tables(r->note);
		r->note->changes = changes;
		pthread_create(&r->thread, NULL, runner_main, r);
	}
	self->running = true;
}

static void stop(struct test *self)
{
	int id;

	for (id = 0; id < NR_VCPUS; id++)
		WRITE_ONCE(self->runner[id].note->stop, true);
	for (id = 0; id < NR_VCPUS; id++)
		pthread_join(self->runner[id].thread, NULL);
	self->running = false;
}

struct goal {
	struct note *note;
	uint64_t rounds, failures;
};

static bool reached(void *arg)
{
	struct goal *goal = arg;

	return READ_ONCE(goal->note->rounds) >= goal->rounds &&
	       READ_ONCE(goal->note->failures) >= goal->failures;
}

/* Until each vCPU has run L2 that often more, and failed to. */
static void wait_for(struct test *self, uint64_t rounds,
		     uint64_t failures)
{
	int id;

	for (id = 0; id < NR_VCPUS; id++) {
		struct note *n = self->runner[id].note;
		struct goal goal = {
			.note = n,
			.rounds = READ_ONCE(n->rounds) + rounds,
			.failures = READ_ONCE(n->failures) + failures,
		};

		TEST_ASSERT(host_wait(reached, &goal),
			    "vCPU %d stands: %lu rounds, %lu failures, last exit %#lx",
			    id, n->rounds, n->failures, n->last_exit);
	}
}

static uint64_t rounds(struct test *self)
{
	return READ_ONCE(self->runner[0].note->rounds) +
	       READ_ONCE(self->runner[1].note->rounds);
}

static uint64_t faults(struct test *self)
{
	return counter_read(&self->runner[0].faults) +
	       counter_read(&self->runner[1].faults);
}

/* Did L2 see what L1 meant it to, and are its writes where they belong? */
static void verify(struct test *self)
{
	uint64_t page;
	int id;

	for (id = 0; id < NR_VCPUS; id++) {
		struct note *n = self->runner[id].note;

		TEST_ASSERT(!n->wrong,
			    "vCPU %d: alias %lu shows %#lx, and not page %u",
			    id, n->wrong_alias, n->wrong_word,
			    n->page[n->wrong_alias]);
		for (page = 0; page < NR_PAGES; page++) {
			uint64_t have = page_at(GPA + page * PAGE_SIZE)[1 + id];

			TEST_ASSERT(!n->count[page] || have == n->count[page],
				    "vCPU %d: %lu writes to page %lu, and not %u",
				    id, have, page, n->count[page]);
		}
	}
}

FIXTURE_TEARDOWN(nested)
{
	int id;

	if (!self->test.vm)
		return;
	if (self->test.running)
		stop(&self->test);
	verify(&self->test);
	for (id = 0; id < NR_VCPUS; id++)
		close(self->test.runner[id].faults.fd);
	close(self->test.range.dev);
	kvm_vm_free(self->test.vm);
	munmap(mem, NR_PAGES * PAGE_SIZE);
	host_assert_no_shadow_pages();
}

static struct layout *layout_of(struct test *self)
{
	return &self->chooser.layout;
}

static void split(struct test *self, unsigned int i, uint64_t at)
{
	struct step s;

	at += layout_of(self)->slot[i].first;
	step_split(&s, layout_of(self), i, 1, &at);
	make(self, &s);
}

static void merge(struct test *self, unsigned int i, unsigned int nr)
{
	struct step s;

	step_merge(&s, layout_of(self), i, nr);
	make(self, &s);
}

/* The last slot. */
static void resize(struct test *self, uint64_t end)
{
	struct step s;

	step_resize(&s, layout_of(self), layout_of(self)->nr - 1, end);
	make(self, &s);
}

/* One of all that can be done to the slots; not SET_READONLY if L1 writes to tables. */
static void operate(struct test *self, bool readonly)
{
	struct step s;

	self->chooser.weight[STEP_SET_READONLY] = readonly ? 2 : 0;
	chooser_next(&self->chooser, &s);
	make(self, &s);
}

static void operate_often(struct test *self, int nr, bool readonly)
{
	while (nr--) {
		operate(self, readonly);
		wait_for(self, 1, 0);
	}
}

#define NR_OPERATIONS	120

/* Tables are written, freed and used for something else in the slots that change. */
TEST_F(nested, tables_change)
{
	start(&self->test, 0, true);
	operate_often(&self->test, NR_OPERATIONS, false);
	stop(&self->test);
	ksft_print_msg("%lu rounds, %lu changes\n", rounds(&self->test),
		       self->test.runner[0].note->changed +
		       self->test.runner[1].note->changed);
	ASSERT_EQ(self->test.runner[0].note->failures, 0);
	ASSERT_EQ(self->test.runner[1].note->failures, 0);
}

TEST_F(nested, tables_change_in_noise)
{
	const struct noise_config config = {
		.mem = mem,
		.size = NR_FIXED * PAGE_SIZE,
		.scratch = mem + NR_FIXED * PAGE_SIZE,
		.scratch_size = (NR_PAGES - NR_FIXED) * PAGE_SIZE,
		.granule = sizeof(uint64_t),
		.thp = variant->host_pages == HOST_PAGES_THP,
		.seed = host_random(),
	};

	start(&self->test, 0, true);
	noise_start(&config);
	operate_often(&self->test, NR_OPERATIONS, false);
	noise_stop();
	noise_print();
	stop(&self->test);
	ASSERT_EQ(self->test.runner[0].note->failures, 0);
	ASSERT_EQ(self->test.runner[1].note->failures, 0);
}

/* L2 alone goes on, and what it writes to read-only slots comes out. */
TEST_F(nested, tables_stay)
{
	/*
	 * A CPU that walks tables in a read-only slot faults for want of leave to write to
	 * them. KVM emulates the instruction then, and may take the table for its operand.
	 */
	bool readonly = variant->nested_paging || !kvm_cpu_has(X86_FEATURE_NPT);
	const struct layout *l = layout_of(&self->test);
	struct step s;
	unsigned int i;

	start(&self->test, 0, false);
	operate_often(&self->test, NR_OPERATIONS, readonly);
	for (i = 0; i < l->nr; i++) {
		step_set_readonly(&s, l, i, false);
		make(&self->test, &s);
	}
	stop(&self->test);
	ASSERT_EQ(self->test.runner[0].note->failures, 0);
	ASSERT_EQ(self->test.runner[1].note->failures, 0);
}

/* Until L2 has touched everything. */
static void settle(struct test *self)
{
	uint64_t before;

	do {
		before = faults(self);
		wait_for(self, 200, 0);
	} while (faults(self) != before);
}

/* No mapping of L1's or L2's is lost where no boundary goes through a frame. */
TEST_F(nested, mappings_are_kept)
{
	uint64_t before;
	int i;

	start(&self->test, 0, false);
	for (i = 0; i < 10; i++) {
		settle(&self->test);
		before = faults(&self->test);
		split(&self->test, 0, 2 * HUGE_PAGES);
		split(&self->test, 1, HUGE_PAGES);
		wait_for(&self->test, 20, 0);
		merge(&self->test, 0, 3);
		wait_for(&self->test, 20, 0);
		resize(&self->test, NR_PAGES - 100 * i);
		wait_for(&self->test, 200, 0);
		ASSERT_EQ(faults(&self->test) - before, 0);
		resize(&self->test, NR_FIXED);
	}
	stop(&self->test);
}

/*
 * All tables, the roots too where KVM can do with that, are in what SHRINK takes
 * away, while L2 is entered in a loop: KVM must not keep a shadow of them, and L1 is told.
 */
TEST_F(nested, tables_are_removed)
{
	const size_t size = (NR_FIXED - NR_BELOW) * PAGE_SIZE;
	char *tail = mem + NR_BELOW * PAGE_SIZE, *copy = malloc(size);
	uint64_t before;
	int i;

	if (!variant->nested_paging)
		REQUIRE(!kvm_cpu_has(X86_FEATURE_NPT),
			"the CPU walks the tables, and emulation stops where they end");
	start(&self->test, NR_BELOW, false);
	for (i = 0; i < 30; i++) {
		wait_for(&self->test, host_random_between(1, 20), 0);
		resize(&self->test, NR_BELOW);
		before = rounds(&self->test);
		memcpy(copy, tail, size);
		wait_for(&self->test, 0, 2);
		/* Those that were under way may have ended. */
		ASSERT_LE(rounds(&self->test) - before, NR_VCPUS);
		ASSERT_EQ(memcmp(copy, tail, size), 0);
		resize(&self->test, NR_FIXED);
	}
	wait_for(&self->test, 1, 0);
	stop(&self->test);
	ksft_print_msg("%lu rounds, %lu failures; the last exit was %#lx\n",
		       rounds(&self->test), self->test.runner[0].note->failures,
		       self->test.runner[0].note->last_exit);
	free(copy);
}

TEST_HARNESS_MAIN
