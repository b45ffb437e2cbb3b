// SPDX-License-Identifier: GPL-2.0
#include "kvm_util.h"
#include "processor.h"

#include "level.h"
#include "memslot_ops.h"
#include "notes.h"

struct kvm_vm *notes_vm_create(int nr_vcpus)
{
	struct kvm_vm *vm = __vm_create(VM_SHAPE_DEFAULT, nr_vcpus, 256);

	/* Else a failed emulation leaves a #UD behind. */
	vm_enable_cap(vm, KVM_CAP_EXIT_ON_EMULATION_FAILURE, 1);
	if (kvm_check_cap(KVM_CAP_X86_DISABLE_EXITS) &
	    KVM_X86_DISABLE_EXITS_PAUSE)
		vm_enable_cap(vm, KVM_CAP_X86_DISABLE_EXITS,
			      KVM_X86_DISABLE_EXITS_PAUSE);
	return vm;
}

void *notes_map(struct kvm_vm *vm, size_t size)
{
	void *notes;

	size = align_up(size, HUGE_SIZE);
	notes = host_map(size, HUGE_SIZE, 0, HOST_PAGES_4K);
	slot_must_set(vm, NOTES_SLOT, 0, NOTES_GPA, size, notes);
	virt_map_level(vm, NOTES_GPA, NOTES_GPA, size, PG_LEVEL_2M);
	return notes;
}

struct kvm_vcpu *notes_vcpu_add(struct kvm_vm *vm, int id, void *code)
{
	struct kvm_vcpu *vcpu = level_vcpu_add(vm, id, code);

	vcpu_args_set(vcpu, 2, NOTES_GPA, id);
	return vcpu;
}
