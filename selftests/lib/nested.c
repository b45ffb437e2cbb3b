// SPDX-License-Identifier: GPL-2.0
#include "kvm_util.h"
#include "processor.h"
#include "svm_util.h"
#include "ucall_common.h"

#include "host.h"
#include "nested.h"

/* ----------------------------------------------------------- the guest */

struct orders {
	uint64_t nested_cr3;
	uint64_t waits;
	uint64_t looks;
	uint64_t saw;
};

static struct orders orders;		/* the guest's copy is used */

static void l2_code(void)
{
	for (;;) {
		if (READ_ONCE(orders.looks))
			orders.saw = READ_ONCE(*(uint64_t *)NESTED_LOOK);
		vmmcall();
	}
}

void nested_make_ready(struct svm_test_data *svm, void *code, void *stack,
		       uint64_t nested_cr3)
{
	struct vmcb *vmcb = svm->vmcb;

	generic_svm_setup(svm, code, stack);
	vmcb->save.rflags = X86_EFLAGS_FIXED;
	vmcb->control.tlb_ctl = TLB_CONTROL_FLUSH_ALL_ASID;
	if (nested_cr3) {
		vmcb->control.nested_ctl = 1;
		vmcb->control.nested_cr3 = nested_cr3;
	}
}

/* Runs L2 once, and tells. */
static void l1_code(struct svm_test_data *svm)
{
	static uint64_t stack[256];
	struct vmcb *vmcb = svm->vmcb;

	/* Without nested paging, L2 would do with the page tables of L1. */
	nested_make_ready(svm, l2_code, &stack[256], orders.nested_cr3);
	if (orders.waits)
		GUEST_SYNC(0);
	for (;;) {
		run_guest(vmcb, svm->vmcb_gpa);
		GUEST_ASSERT_EQ(vmcb->control.exit_code, SVM_EXIT_VMMCALL);
		vmcb->save.rip += 3;
		GUEST_SYNC(1);
	}
}

/* ------------------------------------------------------------ the host */

struct nested {
	struct kvm_vcpu *vcpu;
	struct orders *orders;		/* the guest's */
};

/* Of 2 MiB or 1 GiB. */
#define HUGE_PAGE	(NESTED_ENTRY | 1 << 7)

static uint64_t *new_table(struct kvm_vm *vm, uint64_t *gpa)
{
	*gpa = vm_alloc_page_table(vm);
	return addr_gpa2hva(vm, *gpa);
}

uint64_t nested_directory_entry(struct kvm_vm *vm, uint64_t word)
{
	uint64_t table, page;

	*new_table(vm, &page) = word;
	*new_table(vm, &table) = page | NESTED_ENTRY;
	return table | NESTED_ENTRY;
}

/* A directory through which L2 sees a GiB of memory as L1 does. */
static uint64_t identity_directory(struct kvm_vm *vm, uint64_t gib)
{
	uint64_t directory, *entry = new_table(vm, &directory);
	int i;

	for (i = 0; i < 512; i++)
		entry[i] = (gib * GIGA_SIZE + i * HUGE_SIZE) | HUGE_PAGE;
	return directory;
}

/* Returns the root, and where entries for the GiBs go. */
static uint64_t new_root(struct kvm_vm *vm, uint64_t **entry)
{
	uint64_t root, pointers;

	*entry = new_table(vm, &pointers);
	*new_table(vm, &root) = pointers | NESTED_ENTRY;
	return root;
}

/* L2 sees the first GiB of memory as L1 does: there the library's own slot is. */
static uint64_t make_nested_table(struct kvm_vm *vm, uint64_t second_directory)
{
	uint64_t root, *entry;

	root = new_root(vm, &entry);
	entry[0] = identity_directory(vm, 0) | NESTED_ENTRY;
	if (second_directory)
		entry[1] = second_directory | NESTED_ENTRY;
	return root;
}

uint64_t nested_identity(struct kvm_vm *vm)
{
	uint64_t root, *entry;
	int gib;

	root = new_root(vm, &entry);
	for (gib = 0; gib < 512; gib++)
		entry[gib] = !gib ? identity_directory(vm, gib) | NESTED_ENTRY :
				       (gib * GIGA_SIZE) | HUGE_PAGE;
	return root;
}

bool nested_is_possible(void)
{
	return kvm_cpu_has(X86_FEATURE_SVM);
}

struct nested *nested_add(struct kvm_vm *vm, int id, uint64_t directory)
{
	struct nested *n = calloc(1, sizeof(*n));
	vm_vaddr_t svm_gva;

	n->vcpu = vm_vcpu_add(vm, id, l1_code);
	vcpu_alloc_svm(vm, &svm_gva);
	vcpu_args_set(n->vcpu, 1, svm_gva);
	n->orders = addr_gva2hva(vm, (vm_vaddr_t)&orders);
	n->orders->nested_cr3 = make_nested_table(vm, directory);
	if (directory)
		virt_map(vm, NESTED_LOOK, NESTED_LOOK, 1);
	return n;
}

void nested_look(struct nested *n)
{
	n->orders->looks = true;
}

uint64_t nested_saw(struct nested *n)
{
	return n->orders->saw;
}

int nested_try(struct nested *n)
{
	return _vcpu_run(n->vcpu) ? errno : 0;
}

void nested_check(struct nested *n)
{
	struct ucall uc;

	if (get_ucall(n->vcpu, &uc) == UCALL_SYNC)
		return;
	if (uc.cmd == UCALL_ABORT)
		REPORT_GUEST_ASSERT(uc);
	TEST_FAIL("vCPU %d left with %s", n->vcpu->id,
		  exit_reason_str(n->vcpu->run->exit_reason));
}

void nested_prepare(struct nested *n)
{
	n->orders->waits = true;
	nested_run(n);
}

int nested_run(void *arg)
{
	int err = nested_try(arg);

	TEST_ASSERT(!err, "KVM_RUN of L1: %s", strerror(err));
	nested_check(arg);
	return 0;
}
