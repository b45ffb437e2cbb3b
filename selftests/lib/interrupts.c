// SPDX-License-Identifier: GPL-2.0
/*
 * Guests with interrupts enabled, for tests that find INTERRUPTS in their
 * environment.
 *
 * The selftest library's vCPUs begin with RFLAGS.IF clear, and so stay.  All
 * tests are linked with --wrap=vm_arch_vcpu_add, which makes the library add
 * vCPUs by way of this.  What interrupts the host makes the guest leave either
 * way, and the guest itself is sent none; but KVM resolves the faults of such a
 * guest asynchronously, as it does for every real one.
 */
#include <stdlib.h>

#include "kvm_util.h"
#include "processor.h"

#include "interrupts.h"

/* RFLAGS.IF */
#define FLAG_INTERRUPTS		(1UL << 9)

struct kvm_vcpu *__real_vm_arch_vcpu_add(struct kvm_vm *vm, uint32_t vcpu_id);
struct kvm_vcpu *__wrap_vm_arch_vcpu_add(struct kvm_vm *vm, uint32_t vcpu_id);

bool interrupts_wanted(void)
{
	return getenv("INTERRUPTS");
}

void vcpu_allow_interrupts(struct kvm_vcpu *vcpu, bool allow)
{
	struct kvm_regs regs;

	vcpu_regs_get(vcpu, &regs);
	regs.rflags &= ~FLAG_INTERRUPTS;
	if (allow)
		regs.rflags |= FLAG_INTERRUPTS;
	vcpu_regs_set(vcpu, &regs);
}

struct kvm_vcpu *__wrap_vm_arch_vcpu_add(struct kvm_vm *vm, uint32_t vcpu_id)
{
	struct kvm_vcpu *vcpu = __real_vm_arch_vcpu_add(vm, vcpu_id);

	if (interrupts_wanted())
		vcpu_allow_interrupts(vcpu, true);
	return vcpu;
}
