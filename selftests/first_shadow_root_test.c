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
#include "host.h"
#include "memslot_ops.h"
#include "nested.h"
#include "trace.h"

#define ID		3
#define GPA		(4 * GIGA_SIZE)
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
};

FIXTURE_VARIANT(first_shadow_root) {
	/* vCPU 0 sleeps because the page is write-protected, not missing. */
	bool protected;
	/* The page is a directory of L2's nested page table: KVM shadows it. */
	bool page_table;
	/* khugepaged asks meanwhile how young pages are. */
	bool aging;
};

FIXTURE_VARIANT_ADD(first_shadow_root, page_missing)
{
};

FIXTURE_VARIANT_ADD(first_shadow_root, page_missing_aging)
{
	.aging = true,
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

	self->mem = host_map(NEW_PAGES * PAGE_SIZE, HUGE_SIZE, 0, HOST_PAGES_4K);
	for (i = 0; i < NEW_PAGES; i++) {
		if (i != PAGE)
			self->mem[i * PAGE_SIZE] = 1;
	}
	err = slot_set(self->vm, ID, 0, GPA, OLD_PAGES * PAGE_SIZE, self->mem);
	TEST_ASSERT(!err, "cannot make the slot: %s", strerror(err));
	virt_map(self->vm, GPA, GPA, NEW_PAGES);
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

static int run_grow(void *dev)
{
	return slot_grow(*(int *)dev, ID, NEW_PAGES * PAGE_SIZE);
}

static bool is_done(void *arg)
{
	return ((struct async *)arg)->done;
}

TEST_F(first_shadow_root, in_the_middle_of_grow)
{
	struct async writer, nester, grower;
	static uint64_t content[512] __aligned(4096);
	char *page = self->mem + PAGE * PAGE_SIZE;
	uint64_t value = 0x77;
	int err;

	REQUIRE(trace_start(), "no tracefs to tell when GROW has swapped");

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

	/* The slot leaves. */
	async_start(&grower, run_grow, &self->dev);
	async_wait_for_swap(&grower, 1);

	/* The first shadow root comes. */
	if (variant->page_table)
		uffd_fill(self->uffd, page, content);
	async_start(&nester, nested_run, self->nester);
	TEST_ASSERT(host_wait(is_done, &nester), "vCPU 1 hangs");
	async_join(&nester);
	TEST_ASSERT(!grower.done && !writer.done, "somebody did not wait");
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
	TEST_ASSERT(!async_join(&grower), "GROW: %s", strerror(grower.err));
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
	slot_assert(self->vm, ID, 0, GPA, NEW_PAGES * PAGE_SIZE, self->mem);
	write_word(self->writer, self->orders,
		   GPA + (NEW_PAGES - 1) * PAGE_SIZE, 0x99);
	TEST_ASSERT_EQ(*(uint64_t *)(self->mem + (NEW_PAGES - 1) * PAGE_SIZE),
		       0x99);
	nested_run(self->nester);

	err = slot_grow(self->dev, ID, (NEW_PAGES + 1) * PAGE_SIZE);
	TEST_ASSERT(!err, "GROW after the first shadow root: %s", strerror(err));
	trace_stop();
}

/* Without the race: L2 has run, then GROW is asked for. */
TEST_F(first_shadow_root, before_grow)
{
	int err;

	TEST_ASSERT_EQ(slot_grow(self->dev, ID, (OLD_PAGES + 1) * PAGE_SIZE), 0);
	nested_run(self->nester);
	err = slot_grow(self->dev, ID, NEW_PAGES * PAGE_SIZE);
	TEST_ASSERT(!err, "GROW after the first shadow root: %s", strerror(err));
	slot_assert(self->vm, ID, 0, GPA, NEW_PAGES * PAGE_SIZE, self->mem);
	nested_run(self->nester);
	write_word(self->writer, self->orders, GPA + OLD_PAGES * PAGE_SIZE, 5);
	TEST_ASSERT_EQ(*(uint64_t *)(self->mem + OLD_PAGES * PAGE_SIZE), 5);
}

TEST_HARNESS_MAIN
