/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Whether guests have interrupts enabled: see interrupts.c.
 */
#ifndef SELFTESTS_INTERRUPTS_H
#define SELFTESTS_INTERRUPTS_H

#include "kvm_util.h"

/* Whether vCPUs begin so. */
bool interrupts_wanted(void);
/* While it is not in KVM_RUN. */
void vcpu_allow_interrupts(struct kvm_vcpu *vcpu, bool allow);

#endif
