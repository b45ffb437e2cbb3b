/* SPDX-License-Identifier: MIT */
#ifndef EXAMPLE_H
#define EXAMPLE_H

#include <errno.h>

#include <kvm-layout.h>

/* A VMM's own. */
struct vm {
	struct kvm_layout_host host;
	struct kvm_layout *layout;
	void *vcpus;
};

/* The VMM has these: all vCPUs leave KVM_RUN, and may enter it again. */
int vm_hold_vcpus(void *vm);
void vm_release_vcpus(void *vm);

int vm_open(struct vm *vm, int vm_fd);
/* In place of a KVM_SET_USER_MEMORY_REGION for each slot. */
int vm_change_map(struct vm *vm, const uint32_t *gone, size_t nr_gone,
		  const struct kvm_userspace_memory_region *come, size_t nr_come);

#endif /* EXAMPLE_H */
