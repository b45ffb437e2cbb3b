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
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/syscall.h>

#include "harness.h"

#include "kvm_util.h"
#include "processor.h"
#include "svm_util.h"
#include "ucall_common.h"

#include "host.h"
#include "memslot_ops.h"
#include "trace.h"

#define ID		3
#define GPA		(4 * GIGA_SIZE)
#define OLD_PAGES	700
#define NEW_PAGES	1500
/* The page that vCPU 0 sleeps on, and one beside it. */
#define PAGE		600
#define BESIDE		(PAGE + 1)
/* Where L2 looks at what its nested page table makes of it. */
#define L2_LOOK		GIGA_SIZE

#define OLD_WORD	0x01d01d01d
#define NEW_WORD	0x0e0e0e0e0

/* ----------------------------------------------------------- the guest */

struct orders {
	uint64_t gva;			/* where vCPU 0 writes */
	uint64_t value;			/* and what */
	uint64_t nested_cr3;
	uint64_t l2_looks;		/* at L2_LOOK */
	uint64_t l2_saw;
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

static void l2_code(void)
{
	for (;;) {
		if (READ_ONCE(orders.l2_looks))
			orders.l2_saw = READ_ONCE(*(uint64_t *)L2_LOOK);
		vmmcall();
	}
}

/* vCPU 1: runs L2 once, and tells. */
static void l1_code(struct svm_test_data *svm)
{
	static uint64_t stack[256];
	struct vmcb *vmcb = svm->vmcb;

	generic_svm_setup(svm, l2_code, &stack[256]);
	/* Without nested paging, L2 would do with the page tables of L1. */
	vmcb->control.nested_ctl = 1;
	vmcb->control.nested_cr3 = orders.nested_cr3;
	vmcb->control.tlb_ctl = TLB_CONTROL_FLUSH_ALL_ASID;
	for (;;) {
		run_guest(vmcb, svm->vmcb_gpa);
		GUEST_ASSERT_EQ(vmcb->control.exit_code, SVM_EXIT_VMMCALL);
		vmcb->save.rip += 3;
		GUEST_SYNC(1);
	}
}

/* ------------------------------------------------------------ the host */

FIXTURE(first_shadow_root) {
	struct kvm_vm *vm;
	struct kvm_vcpu *writer, *nester;
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

/* All is allowed, and accessed and dirty, so that nobody has to say so later. */
#define TABLE		0x67
#define PAGE_2M		0xe7

static uint64_t *new_table(struct kvm_vm *vm, uint64_t *gpa)
{
	*gpa = vm_alloc_page_table(vm);
	return addr_gpa2hva(vm, *gpa);
}

/* Of a page directory: a table that has a page with this word at its start. */
static uint64_t directory_entry(struct kvm_vm *vm, uint64_t word)
{
	uint64_t table, page;

	*new_table(vm, &page) = word;
	*new_table(vm, &table) = page | TABLE;
	return table | TABLE;
}

/*
 * L2 sees the first GiB of memory as L1 does: there the library's own slot is.
 * For the second, the page directory is given.
 */
static uint64_t make_nested_table(struct kvm_vm *vm, uint64_t second_directory)
{
	uint64_t root, pointers, directory, *entry;
	int i;

	entry = new_table(vm, &directory);
	for (i = 0; i < 512; i++)
		entry[i] = i * HUGE_SIZE | PAGE_2M;
	entry = new_table(vm, &pointers);
	entry[0] = directory | TABLE;
	entry[1] = second_directory | TABLE;
	*new_table(vm, &root) = pointers | TABLE;
	return root;
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
	vm_vaddr_t svm_gva;
	int err, i;

	self->vm = NULL;
	REQUIRE_OP(KVM_MEMSLOT_OP_GROW);
	REQUIRE(host_has_tdp_mmu(), "without the TDP MMU all roots are shadow roots");
	REQUIRE(kvm_cpu_has(X86_FEATURE_SVM), "no nested SVM");
	self->uffd = syscall(__NR_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	REQUIRE(self->uffd >= 0, "no userfaultfd");

	self->vm = __vm_create(VM_SHAPE_DEFAULT, 2, NEW_PAGES);
	self->writer = vm_vcpu_add(self->vm, 0, writer_code);
	self->nester = vm_vcpu_add(self->vm, 1, l1_code);
	vcpu_alloc_svm(self->vm, &svm_gva);
	vcpu_args_set(self->nester, 1, svm_gva);
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
	virt_map(self->vm, L2_LOOK, L2_LOOK, 1);
	self->orders->nested_cr3 = make_nested_table(self->vm,
						     GPA + PAGE * PAGE_SIZE);
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
	close(self->uffd);
}

static bool uffd_register(int uffd, void *page, bool protected)
{
	struct uffdio_api api = {
		.api = UFFD_API,
		.features = protected ? UFFD_FEATURE_PAGEFAULT_FLAG_WP : 0,
	};
	struct uffdio_register reg = {
		.range = { (uintptr_t)page, PAGE_SIZE },
		.mode = protected ? UFFDIO_REGISTER_MODE_WP :
				    UFFDIO_REGISTER_MODE_MISSING,
	};

	return !ioctl(uffd, UFFDIO_API, &api) &&
	       !ioctl(uffd, UFFDIO_REGISTER, &reg);
}

static int uffd_protect(int uffd, void *page, bool protect)
{
	struct uffdio_writeprotect wp = {
		.range = { (uintptr_t)page, PAGE_SIZE },
		.mode = protect ? UFFDIO_WRITEPROTECT_MODE_WP : 0,
	};

	return ioctl(uffd, UFFDIO_WRITEPROTECT, &wp);
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

static void uffd_wait_for_fault(int uffd, void *page)
{
	struct pollfd pfd = { .fd = uffd, .events = POLLIN };
	struct uffd_msg msg;

	TEST_ASSERT(poll(&pfd, 1, 60000) == 1, "vCPU 0 does not fault");
	TEST_ASSERT_EQ(read(uffd, &msg, sizeof(msg)), sizeof(msg));
	TEST_ASSERT_EQ(msg.event, UFFD_EVENT_PAGEFAULT);
	TEST_ASSERT_EQ(msg.arg.pagefault.address & -PAGE_SIZE, (uintptr_t)page);
}

/* A thread, and whether it is through. */
struct worker {
	pthread_t thread;
	atomic_int tid;
	atomic_bool done;
	struct kvm_vcpu *vcpu;
	int dev, err;
};

static void *run_vcpu(void *arg)
{
	struct worker *w = arg;

	w->tid = syscall(SYS_gettid);
	run_once(w->vcpu);
	w->done = true;
	return NULL;
}

static void *run_grow(void *arg)
{
	struct worker *w = arg;

	w->tid = syscall(SYS_gettid);
	w->err = slot_grow(w->dev, ID, NEW_PAGES * PAGE_SIZE);
	w->done = true;
	return NULL;
}

static bool is_done(void *arg)
{
	return ((struct worker *)arg)->done;
}

/* GROW waits for readers, after its swap: the trace, or its stack, tells. */
static bool is_waiting(void *arg)
{
	struct worker *w = arg;
	char path[64], stack[4096];

	TEST_ASSERT(!w->done, "GROW did not wait for vCPU 0: %s",
		    strerror(w->err));
	if (!trace_count("memslot_op_swap"))
		return false;
	snprintf(path, sizeof(path), "/proc/self/task/%d/stack", w->tid);
	return host_read(path, stack, sizeof(stack)) || strstr(stack, "srcu");
}

/* The one place that knows what the module makes of shadow paging. */
static int after_first_shadow_root(int dev)
{
	return memslot_ops_features(dev) & KVM_MEMSLOT_FEATURE_SHADOW_PAGING ?
	       0 : EOPNOTSUPP;
}

TEST_F(first_shadow_root, in_the_middle_of_grow)
{
	struct worker writer = { .vcpu = self->writer };
	struct worker nester = { .vcpu = self->nester };
	struct worker grower = { .dev = self->dev };
	static uint64_t content[512] __aligned(4096);
	char *page = self->mem + PAGE * PAGE_SIZE;
	uint64_t value = 0x77;
	int err;

	REQUIRE(trace_start(), "no tracefs to tell when GROW has swapped");
	REQUIRE(uffd_register(self->uffd, page, variant->protected),
		"userfaultfd lacks the mode");

	/* Where khugepaged will look, and where KVM's page tables must exist. */
	write_word(self->writer, self->orders, GPA + 10 * PAGE_SIZE, 1);
	write_word(self->writer, self->orders, GPA + BESIDE * PAGE_SIZE, 1);

	if (variant->protected)
		write_word(self->writer, self->orders, GPA + PAGE * PAGE_SIZE, 2);
	if (variant->page_table) {
		content[0] = directory_entry(self->vm, OLD_WORD);
		value = directory_entry(self->vm, NEW_WORD);
		self->orders->l2_looks = true;
	}
	if (variant->protected)
		TEST_ASSERT(!uffd_protect(self->uffd, page, true),
			    "cannot write-protect the page");

	/* vCPU 0 looks the slot up, and falls asleep. */
	self->orders->gva = GPA + PAGE * PAGE_SIZE;
	self->orders->value = value;
	pthread_create(&writer.thread, NULL, run_vcpu, &writer);
	uffd_wait_for_fault(self->uffd, page);

	/* The slot leaves. */
	pthread_create(&grower.thread, NULL, run_grow, &grower);
	TEST_ASSERT(host_wait(is_waiting, &grower), "GROW does not swap");

	/* The first shadow root comes. */
	if (variant->page_table)
		uffd_fill(self->uffd, page, content);
	pthread_create(&nester.thread, NULL, run_vcpu, &nester);
	TEST_ASSERT(host_wait(is_done, &nester), "vCPU 1 hangs");
	pthread_join(nester.thread, NULL);
	TEST_ASSERT(!grower.done && !writer.done, "somebody did not wait");
	if (variant->page_table)
		TEST_ASSERT_EQ(self->orders->l2_saw, OLD_WORD);
	if (variant->aging && !age_pages(self->mem))
		ksft_print_msg("khugepaged cannot be made to look at pages\n");

	/* vCPU 0 goes on. */
	if (variant->protected) {
		TEST_ASSERT(!uffd_protect(self->uffd, page, false),
			    "cannot end the write protection");
	} else {
		if (!variant->page_table)
			uffd_fill(self->uffd, page, content);
		uffd_wake(self->uffd, page);
	}
	pthread_join(writer.thread, NULL);
	pthread_join(grower.thread, NULL);
	TEST_ASSERT(!grower.err, "GROW: %s", strerror(grower.err));
	TEST_ASSERT(*(uint64_t *)page == value,
		    "vCPU 0's write is lost: %#lx, not %#lx",
		    *(uint64_t *)page, value);

	/* L2's page table is what it says now. */
	run_once(self->nester);
	if (variant->page_table)
		TEST_ASSERT(self->orders->l2_saw == NEW_WORD,
			    "a write to the nested page table went past KVM: L2 sees %#lx, not %#lx",
			    self->orders->l2_saw, (uint64_t)NEW_WORD);

	/* The new slot is all there. */
	slot_assert(self->vm, ID, 0, GPA, NEW_PAGES * PAGE_SIZE, self->mem);
	write_word(self->writer, self->orders,
		   GPA + (NEW_PAGES - 1) * PAGE_SIZE, 0x99);
	TEST_ASSERT_EQ(*(uint64_t *)(self->mem + (NEW_PAGES - 1) * PAGE_SIZE),
		       0x99);
	run_once(self->nester);

	err = slot_grow(self->dev, ID, (NEW_PAGES + 1) * PAGE_SIZE);
	TEST_ASSERT(err == after_first_shadow_root(self->dev),
		    "GROW after the first shadow root: %s", strerror(err));
	trace_stop();
}

/* Without the race: L2 has run, then GROW is asked for. */
TEST_F(first_shadow_root, before_grow)
{
	int err;

	TEST_ASSERT_EQ(slot_grow(self->dev, ID, (OLD_PAGES + 1) * PAGE_SIZE), 0);
	run_once(self->nester);
	err = slot_grow(self->dev, ID, NEW_PAGES * PAGE_SIZE);
	TEST_ASSERT(err == after_first_shadow_root(self->dev),
		    "GROW after the first shadow root: %s", strerror(err));
	slot_assert(self->vm, ID, 0, GPA,
		    (err ? OLD_PAGES + 1 : NEW_PAGES) * PAGE_SIZE, self->mem);
	run_once(self->nester);
	write_word(self->writer, self->orders, GPA + OLD_PAGES * PAGE_SIZE, 5);
	TEST_ASSERT_EQ(*(uint64_t *)(self->mem + OLD_PAGES * PAGE_SIZE), 5);
}

TEST_HARNESS_MAIN
