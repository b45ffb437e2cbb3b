/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A VM whose vCPUs are busy without pause, and memory in which they and the host
 * tell each other things. It lies under all that the test itself is about.
 */
#ifndef SELFTESTS_NOTES_H
#define SELFTESTS_NOTES_H

#include "host.h"

#define NOTES_SLOT	1
#define NOTES_GPA	(2 * GIGA_SIZE)

struct kvm_vm;
struct kvm_vcpu;

/* Without vCPUs and notes: some modes of KVM's must be chosen before these. */
struct kvm_vm *notes_vm_create(int nr_vcpus);
/* So many bytes of zeros, which the guest finds at NOTES_GPA. */
void *notes_map(struct kvm_vm *vm, size_t size);
/* One that runs @code(NOTES_GPA, id), at the level of level.h. */
struct kvm_vcpu *notes_vcpu_add(struct kvm_vm *vm, int id, void *code);

#endif
