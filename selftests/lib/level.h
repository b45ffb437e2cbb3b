/* SPDX-License-Identifier: GPL-2.0 */
/*
 * At which level the vCPUs of a test run its code: in the VM itself, L1, or in a guest
 * of that, L2.
 *
 * The environment variable LEVEL says so: "L2-npt" is with nested paging, so that KVM shadows
 * L1's nested page tables, and "L2" without, on L1's own page tables. The code does not
 * notice: it never leaves to L1, but straight to KVM and user space.
 */
#ifndef SELFTESTS_LEVEL_H
#define SELFTESTS_LEVEL_H

#include <stdbool.h>

#include "kvm_util.h"

/*
 * Whether KVM shadows page tables of the guest's: those of L2, or on a host without TDP all.
 * Then SHRINK may zap as much as KVM's own delete does, that is, everything; and KVM
 * write-protects pages for its own sake, those of the tables, and takes page faults that are
 * the guest's.
 */
bool level_shadows(void);
/* Whether slots have rmaps from the start: KVM does without the TDP MMU, or shadows. */
bool level_has_rmaps(void);

/* vm_vcpu_add() at that level; vcpu_args_set() works as ever. */
struct kvm_vcpu *level_vcpu_add(struct kvm_vm *vm, uint32_t id, void *code);

/* L1's part, which is known to its assembly only. */
struct l1;
void l1_entry(void);
uint64_t l1_prepare(struct l1 *l1, void *stack);
void l1_fail(struct l1 *l1);

#endif
