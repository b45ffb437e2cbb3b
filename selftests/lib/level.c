// SPDX-License-Identifier: GPL-2.0
#include <stdlib.h>
#include <string.h>

#include "kvm_util.h"
#include "processor.h"
#include "svm_util.h"
#include "ucall_common.h"

#include "level.h"
#include "memslot_ops.h"
#include "nested.h"

/* ----------------------------------------------------------- the guest */

/* What L1 needs to run L2. */
struct l1 {
	struct svm_test_data *svm;
	uint64_t code;
	uint64_t nested_cr3;		/* 0: no nested paging */
};

/*
 * L1 begins here, with its struct l1 in r15, and the arguments of the test's code where
 * they belong. L2 gets them, and the rest of the stack.
 */
asm("l1_entry:\n\t"
	"push %r15\n\t"
	"push %rdi\n\t"
	"push %rsi\n\t"
	"push %rdx\n\t"
	"push %rcx\n\t"
	"push %r8\n\t"
	"push %r9\n\t"
	"mov %r15, %rdi\n\t"
	"lea 40(%rsp), %rsi\n\t"
	"call l1_prepare\n\t"
	"pop %r9\n\t"
	"pop %r8\n\t"
	"pop %rcx\n\t"
	"pop %rdx\n\t"
	"pop %rsi\n\t"
	"pop %rdi\n\t"
	"vmload %rax\n\t"
	"vmrun %rax\n\t"
	"pop %rdi\n\t"
	"sub $8, %rsp\n\t"
	"call l1_fail\n\t");

/* Returns where the VMCB is. */
uint64_t l1_prepare(struct l1 *l1, void *stack)
{
	nested_make_ready(l1->svm, (void *)l1->code, stack, l1->nested_cr3);
	return l1->svm->vmcb_gpa;
}

void l1_fail(struct l1 *l1)
{
	struct vmcb *vmcb = l1->svm->vmcb;

	GUEST_FAIL("L2 left with exit code 0x%x, info 0x%lx and 0x%lx, at 0x%lx",
		   vmcb->control.exit_code, vmcb->control.exit_info_1,
		   vmcb->control.exit_info_2, vmcb->save.rip);
}

/* ------------------------------------------------------------ the host */

static bool level_is(const char *level)
{
	const char *wanted = getenv("LEVEL") ?: "L1";

	return !strcmp(wanted, level);
}

static bool level_is_2(void)
{
	TEST_ASSERT(level_is("L1") || level_is("L2") || level_is("L2-npt"),
		    "LEVEL is not L1, L2 or L2-npt");
	return !level_is("L1");
}

bool level_shadows(void)
{
	return level_is("L2-npt") || host_shadows_pages();
}

bool level_has_rmaps(void)
{
	return level_shadows() || !host_has_tdp_mmu();
}

struct kvm_vcpu *level_vcpu_add(struct kvm_vm *vm, uint32_t id, void *code)
{
	vm_vaddr_t svm, l1_gva;
	struct kvm_vcpu *vcpu;
	struct kvm_regs regs;
	struct l1 *l1;

	if (!level_is_2())
		return vm_vcpu_add(vm, id, code);

	TEST_ASSERT(nested_is_possible(), "no L2 without SVM");
	vcpu = vm_vcpu_add(vm, id, l1_entry);
	vcpu_alloc_svm(vm, &svm);
	l1_gva = vm_vaddr_alloc_page(vm);
	l1 = addr_gva2hva(vm, l1_gva);
	l1->svm = (void *)svm;
	l1->code = (uint64_t)code;
	if (level_is("L2-npt"))
		l1->nested_cr3 = nested_identity(vm);

	vcpu_regs_get(vcpu, &regs);
	regs.r15 = l1_gva;
	vcpu_regs_set(vcpu, &regs);
	return vcpu;
}
