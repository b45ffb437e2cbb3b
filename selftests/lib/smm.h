/* SPDX-License-Identifier: GPL-2.0 */
/*
 * System management mode: a vCPU that takes an SMI finds itself in address space
 * 1, whose slots are others than outside, and runs a function of the test there.
 *
 * The function is ordinary guest code. For that the library's slot, with code, page
 * tables and notes, is in both address spaces; but some page tables, the root among
 * them, are of SMM alone.
 */
#ifndef SELFTESTS_SMM_H
#define SELFTESTS_SMM_H

#include <stdbool.h>
#include <stdint.h>

#include "kvm_util.h"

/* What a vCPU needs of guest memory in address space 1, from its SMBASE on. */
#define SMM_PAGES		16
/* Of these: four page tables, the stack, the code, and what KVM saves of the vCPU. */
static inline bool smm_uses(uint64_t page)
{
	return page <= 8 || page == 15;
}

/* Which of the tables is the page directory. */
#define SMM_DIRECTORY		2

/* Whether the VM has system management mode, and two address spaces. */
bool smm_is_possible(struct kvm_vm *vm);

/* Puts the library's slot into address space 1, under the same number. */
void smm_share_library_slot(struct kvm_vm *vm);

/*
 * Has a vCPU call @handler at each SMI. @hva is what backs guest address @smbase
 * in address space 1, which the guest's page tables must map to itself. Those that
 * lead to @own, which is mapped by small pages, are copied; SMM uses the copies.
 */
void smm_setup(struct kvm_vcpu *vcpu, uint64_t smbase, void *hva, uint64_t own,
	       void (*handler)(void *arg), uint64_t arg);

/* What a vCPU starts SMM with, and where it goes on in long mode. */
extern const char smm_entry[], smm_long_mode[], smm_data[], smm_entry_end[];

/* For the guest: once on each vCPU, before it sends any SMI. */
void smm_guest_init(void);
/* Takes an SMI, and returns from it. */
void smm_guest_enter(void);
/* Sends one to the vCPU of that id. */
void smm_guest_send(uint32_t id);

#endif
