// SPDX-License-Identifier: GPL-2.0
#include <string.h>

#include "kvm_util.h"
#include "apic.h"
#include "processor.h"

#include "memslot_ops.h"
#include "smm.h"

/* Where a CPU starts, from its SMBASE on. The stack ends there. */
#define ENTRY		0x8000
#define ENTRY_STR	"0x8000"

/* ----------------------------------------------------------- the guest */

/*
 * In SMM a CPU starts in real mode, with flat segments but for CS, whose base is
 * SMBASE. This goes on to long mode.
 */
struct entry_data {
	uint32_t cr3;
	uint16_t gdt_limit;
	uint32_t gdt_base;
	uint32_t long_mode;
	uint16_t long_mode_cs;
	uint64_t gdt[3];
	uint64_t stack;
	uint64_t arg;
	uint64_t handler;
} __packed;

static_assert(sizeof(struct entry_data) == 64, "as smm_data");

asm(".pushsection .rodata\n"
	".globl smm_entry, smm_long_mode, smm_data, smm_entry_end\n"
	".code16\n"
	"smm_entry:\n"
	"	movl %cs:(" ENTRY_STR " + smm_data - smm_entry), %eax\n"
	"	movl %eax, %cr3\n"
	"	movl $0x220, %eax\n"		/* PAE, OSFXSR */
	"	movl %eax, %cr4\n"
	"	movl $0xc0000080, %ecx\n"	/* EFER */
	"	movl $0x900, %eax\n"		/* LME, NX */
	"	xorl %edx, %edx\n"
	"	wrmsr\n"
	"	lgdtl %cs:(" ENTRY_STR " + smm_data + 4 - smm_entry)\n"
	"	movl $0x80000021, %eax\n"	/* PG, NE, PE */
	"	movl %eax, %cr0\n"
	"	ljmpl *%cs:(" ENTRY_STR " + smm_data + 10 - smm_entry)\n"
	".code64\n"
	"smm_long_mode:\n"
	"	movl $0x10, %eax\n"
	"	movl %eax, %ds\n"
	"	movl %eax, %es\n"
	"	movl %eax, %ss\n"
	"	movq smm_data + 40(%rip), %rsp\n"
	"	subq $512, %rsp\n"
	"	fxsave64 (%rsp)\n"		/* RSM does not bring these back */
	"	movq smm_data + 48(%rip), %rdi\n"
	"	callq *smm_data + 56(%rip)\n"
	"	fxrstor64 (%rsp)\n"
	"	rsm\n"
	"smm_data:\n"
	"	.skip 64\n"
	"smm_entry_end:\n"
	".popsection\n");

void smm_guest_init(void)
{
	wrmsr(MSR_IA32_APICBASE, rdmsr(MSR_IA32_APICBASE) | X2APIC_ENABLE);
}

void smm_guest_enter(void)
{
	x2apic_write_reg(APIC_ICR,
			 APIC_DEST_SELF | APIC_INT_ASSERT | APIC_DM_SMI);
}

void smm_guest_send(uint32_t id)
{
	x2apic_write_reg(APIC_ICR,
			 (uint64_t)id << 32 | APIC_INT_ASSERT | APIC_DM_SMI);
}

/* ------------------------------------------------------------ the host */

bool smm_is_possible(struct kvm_vm *vm)
{
	return kvm_has_cap(KVM_CAP_X86_SMM) &&
	       vm_check_cap(vm, KVM_CAP_MULTI_ADDRESS_SPACE) > 1;
}

void smm_share_library_slot(struct kvm_vm *vm)
{
	struct kvm_userspace_memory_region2 *r = &memslot2region(vm, 0)->region;

	slot_must_set(vm, SLOT(1, 0), 0, r->guest_phys_addr, r->memory_size,
		      (void *)(uintptr_t)r->userspace_addr);
}

#define ADDRESS		0xffffffffff000UL

/* The tables of all four levels are the first four pages; each leads to the next. */
static void copy_tables(struct kvm_vm *vm, uint64_t root, uint64_t gva,
			uint64_t gpa, void *hva)
{
	uint64_t from = root, *entry;
	int shift;

	for (shift = 39; ; shift -= 9) {
		memcpy(hva, addr_gpa2hva(vm, from), PAGE_SIZE);
		if (shift == 12)
			return;
		entry = (uint64_t *)hva + (gva >> shift) % 512;
		from = *entry & ADDRESS;
		gpa += PAGE_SIZE;
		hva += PAGE_SIZE;
		*entry = (*entry & ~ADDRESS) | gpa;
	}
}

void smm_setup(struct kvm_vcpu *vcpu, uint64_t smbase, void *hva, uint64_t own,
	       void (*handler)(void *arg), uint64_t arg)
{
	const uint64_t entry = smbase + ENTRY, data = entry + (smm_data - smm_entry);
	struct kvm_sregs sregs;

	vcpu_sregs_get(vcpu, &sregs);
	copy_tables(vcpu->vm, sregs.cr3, own, smbase, hva);
	memcpy(hva + ENTRY, smm_entry, smm_entry_end - smm_entry);
	*(struct entry_data *)(hva + ENTRY + (smm_data - smm_entry)) =
		(struct entry_data) {
			.cr3 = smbase,
			.gdt_limit = 3 * sizeof(uint64_t) - 1,
			.gdt_base = data + offsetof(struct entry_data, gdt),
			.long_mode = entry + (smm_long_mode - smm_entry),
			.long_mode_cs = 8,
			.gdt = { 0, 0xaf9b000000ffff, 0xcf93000000ffff },
			.stack = entry,
			.arg = arg,
			.handler = (uintptr_t)handler,
		};
	vcpu_set_msr(vcpu, MSR_IA32_SMBASE, smbase);
}
