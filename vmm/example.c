// SPDX-License-Identifier: MIT
/*
 * What a VMM needs: the page for authors of VMMs (docs/vmm-guide.rst) shows it, and
 * a test runs it.
 */
#include "example.h"

int vm_open(struct vm *vm, int vm_fd)
{
	int error = kvm_layout_host_open(vm_fd, &vm->host);

	if (!error)
		vm->layout = kvm_layout_new(0, 0, vm->host.nr_slots);
	return error || vm->layout ? error : -ENOMEM;
}

int vm_change_map(struct vm *vm, const uint32_t *gone, size_t nr_gone,
		  const struct kvm_userspace_memory_region *come, size_t nr_come)
{
	const struct kvm_layout_hooks hooks = { vm, vm_hold_vcpus, vm_release_vcpus };
	struct kvm_layout_plan *plan;
	int error;

	error = kvm_layout_plan(&vm->host, vm->layout, gone, nr_gone, come,
				nr_come, KVM_LAYOUT_PARTITION, &plan);
	if (error)
		return error;
	error = kvm_layout_apply(&vm->host, vm->layout, plan, &hooks, NULL);
	kvm_layout_plan_free(plan);
	return error;
}
