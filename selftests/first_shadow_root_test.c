// SPDX-License-Identifier: GPL-2.0
/*
 * A guest can time its first nested guest, and with it the VM's first shadow
 * page table, into the middle of an operation.
 *
 * vCPU 0 faults on a page whose slot it has looked up, and sleeps in
 * userfaultfd.  GROW swaps that slot away and waits for vCPU 0.  Now vCPU 1 runs
 * its first L2, for which KVM gives arrays to all slots it can see: not to the
 * one that vCPU 0 holds.  Then vCPU 0's fault goes on.  The host must survive
 * that, and the write must land.
 */
#include <linux/userfaultfd.h>

#include "harness.h"

#include "kvm_util.h"
#include "processor.h"
#include "ucall_common.h"

#include "async.h"
#include "changes.h"
#include "host.h"
#include "memslot_ops.h"
#include "nested.h"
#include "ops.h"
#include "starve.h"
#include "trace.h"

#define ID		3
#define GPA		(4 * GIGA_SIZE)
#define OTHER		(ID + 1)
#define OLD_PAGES	700
#define NEW_PAGES	1500
/* The page that vCPU 0 sleeps on, and one beside it. */
#define PAGE		600
#define BESIDE		(PAGE + 1)

#define OLD_WORD	0x01d01d01d
#define NEW_WORD	0x0e0e0e0e0

/* ----------------------------------------------------------- the guest */

struct orders {
	uint64_t gva;			/* where vCPU 0 writes */
	uint64_t value;			/* and what */
};

static struct orders orders;		/* the guest's copy is used */

/* vCPU 0: writes what it is told. */
static void writer_code(void)
{
	for (;;) {
		WRITE_ONCE(*(uint64_t *)READ_ONCE(orders.gva),
			   READ_ONCE(orders.value));
		GUEST_SYNC(0);
	}
}

/* ------------------------------------------------------------ the host */

FIXTURE(first_shadow_root) {
	struct kvm_vm *vm;
	struct kvm_vcpu *writer;
	struct nested *nester;
	struct orders *orders;		/* the guest's */
	char *mem;
	int dev, uffd;
	uint64_t old_size, new_size;
};

FIXTURE_VARIANT(first_shadow_root) {
	/* vCPU 0 sleeps because the page is write-protected, not missing. */
	bool protected;
	/* The page is a directory of L2's nested page table: KVM shadows it. */
	bool page_table;
	/* khugepaged asks meanwhile how young pages are. */
	bool aging;
	/* Bytes in the middle of the slot that nobody touches. */
	uint64_t gap;
};

FIXTURE_VARIANT_ADD(first_shadow_root, page_missing)
{
};

FIXTURE_VARIANT_ADD(first_shadow_root, page_missing_aging)
{
	.aging = true,
};

/* Larger than what the module has stand-ins at hand for. */
FIXTURE_VARIANT_ADD(first_shadow_root, page_missing_giant)
{
	.gap = 65 * GIGA_SIZE,
};

FIXTURE_VARIANT_ADD(first_shadow_root, page_protected)
{
	.protected = true,
};

FIXTURE_VARIANT_ADD(first_shadow_root, page_protected_aging)
{
	.protected = true,
	.aging = true,
};

/*
 * The page comes without vCPU 0 being told, L2 uses it as a page table, and
 * only then does vCPU 0 wake up: with no invalidation in between, nothing but
 * the write-tracking count can stop it from mapping the page writable.
 */
FIXTURE_VARIANT_ADD(first_shadow_root, page_becomes_page_table)
{
	.page_table = true,
};

static bool run_once(struct kvm_vcpu *vcpu)
{
	struct ucall uc;

	vcpu_run(vcpu);
	switch (get_ucall(vcpu, &uc)) {
	case UCALL_SYNC:
		return true;
	case UCALL_ABORT:
		REPORT_GUEST_ASSERT(uc);
	default:
		TEST_FAIL("vCPU %d left with %s", vcpu->id,
			  exit_reason_str(vcpu->run->exit_reason));
	}
}

static void write_word(struct kvm_vcpu *vcpu, struct orders *orders,
		       uint64_t gva, uint64_t value)
{
	orders->gva = gva;
	orders->value = value;
	run_once(vcpu);
}

#define KHUGEPAGED	"/sys/kernel/mm/transparent_hugepage/khugepaged/"

static long khugepaged_scans(void)
{
	char buf[32];

	if (host_read(KHUGEPAGED "full_scans", buf, sizeof(buf)))
		return -1;
	return atol(buf);
}

static bool khugepaged_scanned(void *arg)
{
	return khugepaged_scans() >= *(long *)arg;
}

/* It sleeps for up to ten seconds before it knows. */
static void wake_khugepaged(void)
{
	host_write(KHUGEPAGED "pages_to_scan", "100000");
	host_write(KHUGEPAGED "scan_sleep_millisecs", "10");
}

/*
 * Makes every page look old, and khugepaged look at them twice: it asks KVM
 * whether the guest has used them.
 */
static bool age_pages(char *mem)
{
	long until = khugepaged_scans() + 2;

	return until >= 2 && !madvise(mem, HUGE_SIZE, MADV_HUGEPAGE) &&
	       !host_write("/proc/self/clear_refs", "1") &&
	       host_wait_seconds(20, khugepaged_scanned, &until);
}

FIXTURE_SETUP(first_shadow_root)
{
	int err, i;

	self->vm = NULL;
	REQUIRE_OP(KVM_MEMSLOT_OP_GROW);
	REQUIRE(host_has_tdp_mmu(), "without the TDP MMU all roots are shadow roots");
	REQUIRE(nested_is_possible(), "no nested SVM");
	self->uffd = uffd_open();
	REQUIRE(self->uffd >= 0, "no userfaultfd");

	self->vm = __vm_create(VM_SHAPE_DEFAULT, 2, NEW_PAGES);
	self->writer = vm_vcpu_add(self->vm, 0, writer_code);
	self->nester = nested_add(self->vm, 1, GPA + PAGE * PAGE_SIZE);
	self->orders = addr_gva2hva(self->vm, (vm_vaddr_t)&orders);
	self->dev = memslot_ops_open(self->vm);

	self->old_size = OLD_PAGES * PAGE_SIZE + variant->gap;
	self->new_size = NEW_PAGES * PAGE_SIZE + variant->gap;
	self->mem = host_map(self->new_size, HUGE_SIZE, 0, HOST_PAGES_4K);
	for (i = 0; i < OLD_PAGES; i++) {
		if (i != PAGE)
			self->mem[i * PAGE_SIZE] = 1;
	}
	err = slot_set(self->vm, ID, 0, GPA, self->old_size, self->mem);
	TEST_ASSERT(!err, "cannot make the slot: %s", strerror(err));
	virt_map(self->vm, GPA, GPA, OLD_PAGES);
	virt_map(self->vm, GPA + self->old_size, GPA + self->old_size, NEW_PAGES - OLD_PAGES);
	host_quiet();
	if (variant->aging)
		wake_khugepaged();
}

FIXTURE_TEARDOWN(first_shadow_root)
{
	if (!self->vm)
		return;
	close(self->dev);
	kvm_vm_free(self->vm);
	free(self->nester);
	close(self->uffd);
}

/* The page appears; who waits for it does not hear of it yet. */
static void uffd_fill(int uffd, void *page, void *content)
{
	struct uffdio_copy copy = {
		.dst = (uintptr_t)page,
		.src = (uintptr_t)content,
		.len = PAGE_SIZE,
		.mode = UFFDIO_COPY_MODE_DONTWAKE,
	};

	TEST_ASSERT(!ioctl(uffd, UFFDIO_COPY, &copy), "cannot fill the page");
}

static void uffd_wake(int uffd, void *page)
{
	struct uffdio_range range = { (uintptr_t)page, PAGE_SIZE };

	TEST_ASSERT(!ioctl(uffd, UFFDIO_WAKE, &range), "cannot wake vCPU 0");
}

static int run_writer(void *vcpu)
{
	run_once(vcpu);
	return 0;
}

static int run_grow(void *arg)
{
	struct _test_data_first_shadow_root *self = arg;

	return slot_grow(self->dev, ID, self->new_size);
}

static int run_merge(void *arg)
{
	struct _test_data_first_shadow_root *self = arg;
	const uint32_t other = OTHER;

	return slot_merge(self->dev, ID, 1, &other);
}

/* Of an operation that makes the slot as large as it is to be. */
static void in_the_middle(struct __test_metadata *_metadata, const char *name,
			  int (*operation)(void *self), struct _test_data_first_shadow_root *self,
			  const struct _fixture_variant_first_shadow_root *variant)
{
	struct async writer, nester, changer;
	static uint64_t content[512] __aligned(4096);
	char *page = self->mem + PAGE * PAGE_SIZE;
	uint64_t value = 0x77;
	int err;

	REQUIRE(trace_start(), "no tracefs to tell when it has swapped");

	/* Where khugepaged will look, and where KVM's page tables must exist. */
	write_word(self->writer, self->orders, GPA + 10 * PAGE_SIZE, 1);
	write_word(self->writer, self->orders, GPA + BESIDE * PAGE_SIZE, 1);

	if (variant->protected)
		write_word(self->writer, self->orders, GPA + PAGE * PAGE_SIZE, 2);
	if (variant->page_table) {
		content[0] = nested_directory_entry(self->vm, OLD_WORD);
		value = nested_directory_entry(self->vm, NEW_WORD);
		nested_look(self->nester);
	}
	REQUIRE(uffd_hold(self->uffd, page, PAGE_SIZE, variant->protected),
		"userfaultfd lacks the mode");

	/* vCPU 0 looks the slot up, and falls asleep. */
	self->orders->gva = GPA + PAGE * PAGE_SIZE;
	self->orders->value = value;
	async_start(&writer, run_writer, self->writer);
	uffd_wait_for_fault(self->uffd, page);

	/* A slot comes, or the slot leaves. */
	async_start(&changer, operation, self);
	async_wait_for_swap(&changer, 1);

	/* The first shadow root comes. */
	if (variant->page_table)
		uffd_fill(self->uffd, page, content);
	async_start(&nester, nested_run, self->nester);
	TEST_ASSERT(host_wait(async_is_done, &nester), "vCPU 1 hangs");
	async_join(&nester);
	TEST_ASSERT(!changer.done && !writer.done, "somebody did not wait");
	if (variant->page_table)
		TEST_ASSERT_EQ(nested_saw(self->nester), OLD_WORD);
	if (variant->aging && !age_pages(self->mem))
		ksft_print_msg("khugepaged cannot be made to look at pages\n");

	/* vCPU 0 goes on. */
	if (variant->protected) {
		uffd_resolve(self->uffd, page, true, 0);
	} else {
		if (!variant->page_table)
			uffd_fill(self->uffd, page, content);
		uffd_wake(self->uffd, page);
	}
	async_join(&writer);
	async_must_succeed(&changer, name);
	TEST_ASSERT(*(uint64_t *)page == value,
		    "vCPU 0's write is lost: %#lx, not %#lx",
		    *(uint64_t *)page, value);

	/* L2's page table is what it says now. */
	nested_run(self->nester);
	if (variant->page_table)
		TEST_ASSERT(nested_saw(self->nester) == NEW_WORD,
			    "a write to the nested page table went past KVM: L2 sees %#lx, not %#lx",
			    nested_saw(self->nester), (uint64_t)NEW_WORD);

	/* The new slot is all there. */
	slot_assert(self->vm, ID, 0, GPA, self->new_size, self->mem);
	write_word(self->writer, self->orders, GPA + self->new_size - PAGE_SIZE, 0x99);
	TEST_ASSERT_EQ(*(uint64_t *)(self->mem + self->new_size - PAGE_SIZE), 0x99);
	nested_run(self->nester);

	err = slot_grow(self->dev, ID, self->new_size + PAGE_SIZE);
	TEST_ASSERT(!err, "GROW after the first shadow root: %s", strerror(err));
	trace_stop();
}

TEST_F(first_shadow_root, in_the_middle_of_grow)
{
	in_the_middle(_metadata, "GROW", run_grow, self, variant);
}

TEST_F(first_shadow_root, in_the_middle_of_merge)
{
	const uint64_t size = self->old_size;

	REQUIRE_OP(KVM_MEMSLOT_OP_MERGE);
	slot_must_set(self->vm, OTHER, 0, GPA + size, self->new_size - size, self->mem + size);
	in_the_middle(_metadata, "MERGE", run_merge, self, variant);
}

/* Without the race: L2 has run, then GROW is asked for. */
TEST_F(first_shadow_root, before_grow)
{
	int err;

	TEST_ASSERT_EQ(slot_grow(self->dev, ID, self->old_size + PAGE_SIZE), 0);
	nested_run(self->nester);
	err = slot_grow(self->dev, ID, self->new_size);
	TEST_ASSERT(!err, "GROW after the first shadow root: %s", strerror(err));
	slot_assert(self->vm, ID, 0, GPA, self->new_size, self->mem);
	nested_run(self->nester);
	write_word(self->writer, self->orders, GPA + self->old_size, 5);
	TEST_ASSERT_EQ(*(uint64_t *)(self->mem + self->old_size), 5);
}

/* ----------------------------------- half a root, for want of memory */

struct starving {
	struct nested *nester;
	int nth;
	bool failed;			/* an allocation did */
};

static int run_starving(void *arg)
{
	struct starving *s = arg;
	int fd = starve_open(), err;

	starve(fd, s->nth);
	err = nested_try(s->nester);
	s->failed = starve_end(fd);
	close(fd);
	if (!err)
		nested_check(s->nester);
	return err;
}

/* Two operations that leave all as it was: each slot must have what KVM takes for granted. */
static void split_and_merge(int dev, const struct layout *l)
{
	struct kvm_memslot_cut cut = {
		.offset = PAGE_SIZE,
		.slot = CHANGE_SLOT + 20,
	};
	unsigned int i;

	for (i = 0; i < l->nr; i++) {
		TEST_ASSERT_EQ(slot_split(dev, l->slot[i].id, 1, &cut), 0);
		TEST_ASSERT_EQ(slot_merge(dev, l->slot[i].id, 1, &cut.slot), 0);
	}
}

/* About as many as it takes to come to L2's first instruction. */
#define MOST_ALLOCATIONS	130

/*
 * In the middle of a change the first L2 is to run, but the nth allocation for its shadow root
 * fails: some slots have arrays by then, others do not. Returns what KVM_RUN did, or -1
 * where there was no such allocation.
 */
static int change_half_way(const struct change *change, int nth)
{
	const uint64_t page = 5;	/* in a slot before and after; vCPU 0 sleeps there */
	struct async writer, nester, changer;
	struct change_call call = { .change = change };
	struct starving starving = { .nth = nth };
	int uffd = uffd_open(), i, err;
	struct orders *written;
	struct kvm_vcpu *vcpu;
	struct kvm_vm *vm;
	char *mem;

	vm = __vm_create(VM_SHAPE_DEFAULT, 2, CHANGE_PAGES);
	vcpu = vm_vcpu_add(vm, 0, writer_code);
	starving.nester = nested_add(vm, 1, 0);
	nested_prepare(starving.nester);
	written = addr_gva2hva(vm, (vm_vaddr_t)&orders);
	call.dev = memslot_ops_open(vm);
	mem = host_map(CHANGE_SIZE, HUGE_SIZE, 0, HOST_PAGES_4K);
	for (i = 0; i < CHANGE_PAGES; i++) {
		if (i != page)
			mem[i * PAGE_SIZE] = 1;
	}
	layout_create(vm, &change->before, GPA, mem);
	virt_map(vm, GPA, GPA, CHANGE_PAGES);

	TEST_ASSERT(uffd_hold(uffd, mem + page * PAGE_SIZE, PAGE_SIZE, false),
		    "no userfaultfd for missing pages");
	written->gva = GPA + page * PAGE_SIZE;
	written->value = 0x77;
	async_start(&writer, run_writer, vcpu);
	uffd_wait_for_fault(uffd, mem + page * PAGE_SIZE);

	TEST_ASSERT(trace_start(), "no tracefs");
	async_start(&changer, change_call, &call);
	async_wait_for_swap(&changer, 1);

	async_start(&nester, run_starving, &starving);
	err = async_join(&nester);
	TEST_ASSERT(!changer.done && !writer.done, "somebody did not wait");

	uffd_resolve(uffd, mem + page * PAGE_SIZE, false, 0);
	async_join(&writer);
	async_must_succeed(&changer, change->name);
	trace_stop();
	TEST_ASSERT_EQ(*(uint64_t *)(mem + page * PAGE_SIZE), 0x77);
	layout_assert(vm, &change->after, GPA, mem);

	split_and_merge(call.dev, &change->after);
	nested_run(starving.nester);
	split_and_merge(call.dev, &change->after);
	write_word(vcpu, written, GPA + page * PAGE_SIZE, 0x88);
	TEST_ASSERT_EQ(*(uint64_t *)(mem + page * PAGE_SIZE), 0x88);
	nested_run(starving.nester);

	close(call.dev);
	kvm_vm_free(vm);
	free(starving.nester);
	munmap(mem, CHANGE_SIZE);
	close(uffd);
	return starving.failed ? err : -1;
}

TEST(half_a_root)
{
	int change, nth, err, i, nr_failed = 0;

	REQUIRE_ALL_OPS();
	REQUIRE(host_has_tdp_mmu(), "without the TDP MMU all roots are shadow roots");
	REQUIRE(nested_is_possible(), "no nested SVM");
	REQUIRE(starve_is_possible(), "no fault injection");
	REQUIRE(trace_start(), "no tracefs to tell when an operation has swapped");
	trace_stop();

	host_seed();
	for (change = 0; change < NR_CHANGES; change++) {
		for (i = 0; i < 10; i++) {
			nth = host_random_between(1, MOST_ALLOCATIONS);
			err = change_half_way(&changes[change], nth);
			TEST_ASSERT(err <= 0 || err == ENOMEM,
				    "allocation %d: %s", nth, strerror(err));
			nr_failed += err == ENOMEM;
		}
	}
	ksft_print_msg("%d of %d failed allocations left L2 without a root\n",
		       nr_failed, i * change);
	ASSERT_GT(nr_failed, 0);
}

TEST_HARNESS_MAIN
