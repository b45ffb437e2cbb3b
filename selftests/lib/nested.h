/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A vCPU that runs a guest of its own, L2, on nested paging: its first run makes
 * the VM's first shadow root, at a time that the test chooses.
 */
#ifndef SELFTESTS_NESTED_H
#define SELFTESTS_NESTED_H

#include "kvm_util.h"
#include "svm_util.h"

/* Where L2 looks at what its nested page table makes of the second GiB. */
#define NESTED_LOOK	(1UL << 30)

/*
 * An entry for a table or a page of 4 KiB. All is allowed, and accessed and dirty, so that
 * nobody has to say so later.
 */
#define NESTED_ENTRY	0x67

/*
 * In the guest: makes L1 ready to run @code in L2, on this nested page table, or where
 * @nested_cr3 is 0 without nested paging.
 */
void nested_make_ready(struct svm_test_data *svm, void *code, void *stack,
		       uint64_t nested_cr3);

struct nested;

/* Whether the host's CPU, and KVM, can. */
bool nested_is_possible(void);

/*
 * Adds that vCPU to a VM. @directory is the guest address of the page directory
 * that L2's nested page table has for the second GiB; 0: L2 does not look there.
 */
struct nested *nested_add(struct kvm_vm *vm, int id, uint64_t directory);

/*
 * A new nested page table through which L2 sees all memory as L1 does: in pages of 2 MiB in
 * the first GiB, and of 1 GiB above it.
 */
uint64_t nested_identity(struct kvm_vm *vm);

/*
 * For a page directory: the entry of a table, new in guest memory, whose first
 * page has this word at its start.
 */
uint64_t nested_directory_entry(struct kvm_vm *vm, uint64_t word);

/* From now on L2 looks at NESTED_LOOK. */
void nested_look(struct nested *n);
uint64_t nested_saw(struct nested *n);

/* Runs L2 until it says that it is through; also as a call for async_start(). */
int nested_run(void *n);
/* Before that: lets L1 do all but enter L2, so that what KVM does next is due to L2. */
void nested_prepare(struct nested *n);
/* nested_run() in two, where KVM may be out of memory: KVM_RUN, 0 or an errno; what came of it. */
int nested_try(struct nested *n);
void nested_check(struct nested *n);

#endif
