/* SPDX-License-Identifier: MIT */
/*
 * A guest that is all BIOS, 64 KiB, and does one thing. While its other CPUs run code and count in memory above 1 MiB,
 * the first one tells the host bridge over and over to show RAM where the BIOS is, and then not to (PAM0). None of the
 * memory that is in use changes by that. A VMM that deletes memslots and creates them anew takes it all away each time.
 *
 *	gcc -m32 -c pam.S && ld -m elf_i386 -Ttext=0x100000 -e 0 --oformat binary -o pam.bin pam.o
 *	qemu-system-x86_64 -M pc,smm=off -accel kvm -cpu host -smp 2 -m 16 -nodefaults -vga none -display none \
 *		-bios pam.bin -debugcon stdio -device isa-debug-exit,iobase=0xf4
 *
 * It runs on the machines pc and q35, with 2 to 64 CPUs and 8 MiB or more. What it has to say comes through the debug
 * console: a line for each switch, at the end what each CPU did, and a line that sums up. Then QEMU exits with one of
 * these, as isa-debug-exit makes an exit status of them: 33 well, 35 memory was wrong, 37 a CPU stood still, 39 the
 * guest cannot run on such a machine. A CPU's rounds "meanwhile" are those that it made while the first one waited for
 * its write to the host bridge to return.
 */

#ifndef SWITCHES
#define SWITCHES	32
#endif

#define DEBUGCON	0xe9
#define DEBUG_EXIT	0xf4
#define WELL		((33 - 1) / 2)
#define MEMORY_WRONG	((35 - 1) / 2)
#define CPU_STANDS	((37 - 1) / 2)
#define CANNOT_RUN	((39 - 1) / 2)

/* Where things are. What is below 1 MiB is only used before the first switch, but for the first CPU's stack. */
#define STACK_TOP	0x7000
#define TRAMPOLINE	0x8000		/* of the other CPUs, which start in real mode */
#define IMAGE		0x100000	/* of this, and then it runs there */
#define IMAGE_SIZE	0x10000
#define IMAGE_IN_ROM	0xffff0000
#define CPUS		0x110000	/* 64 bytes for each CPU: */
#define ROUNDS		0		/*	how often it has been through its pages */
#define BEFORE		32		/*	this when the switch began */
#define MEANWHILE	36		/*	its rounds during all switches */
#define PATTERN		0x200000	/* what the first CPU writes before each switch, and looks for after it */
#define PATTERN_SIZE	0x40000
#define PAGES		0x400000	/* of the other CPUs, 16 for each */
#define PAGES_SHIFT	16
#define MAX_CPUS	64

/* How often the first CPU looks whether another one moves before it gives up: a second or so, emulated a minute. */
#define PATIENCE	(1 << 26)

#define APIC_SVR	0xfee000f0
#define APIC_ICR	0xfee00300
#define INIT_OTHERS	0xc4500
#define START_OTHERS	(0xc4600 | TRAMPOLINE >> 12)

#define CODE32		8
#define DATA32		16

	.text
image:

/* All that runs from the ROM */

	.code16
reset:
	cli
	lgdtl %cs:rom_gdt_pointer - image
	movl %cr0, %eax
	orl $1, %eax
	movl %eax, %cr0
	ljmpl $CODE32, $(leave_rom - image + IMAGE_IN_ROM)

	.code32
leave_rom:
	movl $DATA32, %eax
	movl %eax, %ds
	movl %eax, %es
	movl %eax, %ss
	movl $STACK_TOP, %esp
	cld
	movl $IMAGE_IN_ROM, %esi
	movl $IMAGE, %edi
	movl $(IMAGE_SIZE / 4), %ecx
	rep movsl
	lgdtl gdt_pointer
	ljmpl $CODE32, $main

/* The other CPUs */

	.code16
trampoline:
	cli
	lgdtl %cs:trampoline_gdt_pointer - trampoline
	movl %cr0, %eax
	orl $1, %eax
	movl %eax, %cr0
	ljmpl $CODE32, $other_cpu
trampoline_gdt_pointer:
	.word gdt_end - gdt - 1
	.long gdt
trampoline_end:

	.code32
	.balign 4096
other_cpu:
	movl $DATA32, %eax
	movl %eax, %ds
	movl %eax, %es
	movl %eax, %ss
	cld
	movl $1, %ebx
	lock xaddl %ebx, cpus_seen
	cmpl $MAX_CPUS, %ebx
	jae stand
	movl %ebx, %esi
	shll $6, %esi
	addl $CPUS, %esi
	shll $PAGES_SHIFT, %ebx
	addl $PAGES, %ebx
	/* Whatever is in memory after a reset. */
	movl %ebx, %edi
	movl $(1 << PAGES_SHIFT >> 2), %ecx
	xorl %eax, %eax
	rep stosl
	/* Each page holds the number of rounds it has seen, so that a write that gets lost is found one round later. */
round:
	movl %ebx, %edi
	movl $(1 << PAGES_SHIFT >> 12), %ecx
1:	cmpl %eax, (%edi)
	jne found_wrong
	incl (%edi)
	addl $4096, %edi
	decl %ecx
	jnz 1b
	incl %eax
	movl %eax, ROUNDS(%esi)
	jmp round
found_wrong:
	movl %edi, wrong_at
stand:
	hlt
	jmp stand

/* The first CPU, from here on */

	.balign 4096
main:
	call find_host_bridge
	call start_others
	movl $1, %ebp
1:	call write_pattern
	call switch
	call check_memory
	call check_others
	movl $text_switch, %esi
	call print
	movl %ebp, %eax
	call print_number
	call print_newline
	incl %ebp
	cmpl $SWITCHES, %ebp
	jbe 1b
	call tell_rounds
	movl $text_pam, %esi
	call print
	movl $SWITCHES, %eax
	call print_number
	movl $text_switches, %esi
	call print
	movl nr_cpus, %eax
	call print_number
	movl $text_well, %esi
	movl $WELL, %ebx
	jmp leave

/* leave: prints %esi, and exits with %ebx */
leave:
	call print
	movl %ebx, %eax
	outl %eax, $DEBUG_EXIT
	jmp stand

/* find_host_bridge: which one it is says where its PAM0 is; see the data sheets of the 82441FX and of the 3 Series */
find_host_bridge:
	movl $0x80000000, %eax
	movw $0xcf8, %dx
	outl %eax, %dx
	movw $0xcfc, %dx
	inl %dx, %eax
	movl $0x59, %ecx
	cmpl $0x12378086, %eax
	je 1f
	movl $0x90, %ecx
	cmpl $0x29c08086, %eax
	je 1f
	movl $text_bridge, %esi
	movl $CANNOT_RUN, %ebx
	jmp leave
1:	movl %ecx, pam0
	ret

/* start_others: all of them, and waits until they run. QEMU's CMOS knows how many there are. */
start_others:
	movb $0x5f, %al
	outb %al, $0x70
	inb $0x71, %al
	movzbl %al, %eax
	incl %eax
	movl %eax, nr_cpus
	cmpl $2, %eax
	jb 9f
	cmpl $MAX_CPUS, %eax
	ja 9f

	movl $CPUS, %edi
	movl $(MAX_CPUS * 64 / 4), %ecx
	xorl %eax, %eax
	rep stosl
	movl $trampoline, %esi
	movl $TRAMPOLINE, %edi
	movl $(trampoline_end - trampoline), %ecx
	rep movsb
	orl $0x100, APIC_SVR
	movl $INIT_OTHERS, APIC_ICR
	movl $START_OTHERS, APIC_ICR

	movl nr_cpus, %eax
	movl $PATIENCE, %ecx
1:	cmpl %eax, cpus_seen
	je check_others
	pause
	decl %ecx
	jnz 1b
	movl $text_not_seen, %esi
	movl $CPU_STANDS, %ebx
	jmp leave
9:	movl $text_cpus, %esi
	movl $CANNOT_RUN, %ebx
	jmp leave

/* write_pattern, check_memory: one that is new with each switch %ebp. Keep nothing. */
write_pattern:
	imull $0x9e3779b1, %ebp, %eax
	movl $PATTERN, %edi
1:	movl %edi, %edx
	xorl %eax, %edx
	movl %edx, (%edi)
	addl $4, %edi
	cmpl $(PATTERN + PATTERN_SIZE), %edi
	jb 1b
	ret

check_memory:
	imull $0x9e3779b1, %ebp, %eax
	movl $PATTERN, %edi
1:	movl %edi, %edx
	xorl %eax, %edx
	cmpl %edx, (%edi)
	jne memory_is_wrong
	addl $4, %edi
	cmpl $(PATTERN + PATTERN_SIZE), %edi
	jb 1b
	/* What another CPU has found */
	movl wrong_at, %edi
	testl %edi, %edi
	jnz memory_is_wrong
	ret

memory_is_wrong:
	movl $text_wrong, %esi
	call print
	movl %edi, %eax
	shrl $10, %eax
	call print_number
	movl $text_after, %esi
	call print
	movl %ebp, %eax
	call print_number
	movl $text_end, %esi
	movl $MEMORY_WRONG, %ebx
	jmp leave

/*
 * switch: PAM0 to RAM (0x30) by the odd ones, and from that in turn to read-only RAM (0x10) or to what is behind the
 * bridge (0). So all but one of what is written differs in whether 0xe0000 and up is one piece of RAM. Keeps only %ebp.
 */
switch:
	movl pam0, %eax
	movl %eax, %ecx
	andl $~3, %eax
	orl $0x80000000, %eax
	movw $0xcf8, %dx
	outl %eax, %dx
	andl $3, %ecx
	leal 0xcfc(%ecx), %edx
	movb $0x30, %al
	testl $1, %ebp
	jnz 1f
	movb $0x10, %al
	testl $2, %ebp
	jnz 1f
	xorl %eax, %eax
1:
	movl $(CPUS + 64), %esi
	movl nr_cpus, %ecx
	decl %ecx
2:	movl ROUNDS(%esi), %edi
	movl %edi, BEFORE(%esi)
	addl $64, %esi
	decl %ecx
	jnz 2b

	outb %al, %dx

	movl $(CPUS + 64), %esi
	movl nr_cpus, %ecx
	decl %ecx
3:	movl ROUNDS(%esi), %edi
	subl BEFORE(%esi), %edi
	addl %edi, MEANWHILE(%esi)
	addl $64, %esi
	decl %ecx
	jnz 3b
	ret

/* check_others: that each of them still makes rounds, if it has not found that memory is wrong. Keeps only %ebp. */
check_others:
	movl $(CPUS + 64), %esi
	movl nr_cpus, %edx
	decl %edx
1:	movl ROUNDS(%esi), %eax
	movl $PATIENCE, %ecx
2:	cmpl %eax, ROUNDS(%esi)
	jne 3f
	movl wrong_at, %edi
	testl %edi, %edi
	jnz memory_is_wrong
	pause
	decl %ecx
	jnz 2b
	movl $text_stands, %esi
	movl $CPU_STANDS, %ebx
	jmp leave
3:	addl $64, %esi
	decl %edx
	jnz 1b
	ret

/* tell_rounds: keeps nothing */
tell_rounds:
	movl $1, %ebp
1:	movl $text_cpu, %esi
	call print
	movl %ebp, %eax
	call print_number
	movl $text_made, %esi
	call print
	movl %ebp, %ebx
	shll $6, %ebx
	movl CPUS + ROUNDS(%ebx), %eax
	call print_number
	movl $text_rounds, %esi
	call print
	movl CPUS + MEANWHILE(%ebx), %eax
	call print_number
	movl $text_meanwhile, %esi
	call print
	incl %ebp
	cmpl nr_cpus, %ebp
	jb 1b
	ret

/* print: the text at %esi, to its zero. print_number: %eax, in decimal. These keep %ebx, %ebp, and %edi. */
print:
	lodsb
	testb %al, %al
	jz 1f
	outb %al, $DEBUGCON
	jmp print
1:	ret

print_number:
	movl $10, %ecx
	pushl $0
1:	xorl %edx, %edx
	divl %ecx
	addl $'0', %edx
	pushl %edx
	testl %eax, %eax
	jnz 1b
2:	popl %eax
	testl %eax, %eax
	jz 3f
	outb %al, $DEBUGCON
	jmp 2b
3:	ret

print_newline:
	movb $'\n', %al
	outb %al, $DEBUGCON
	ret

	.balign 8
gdt:
	.quad 0
	.quad 0x00cf9b000000ffff	/* CODE32 */
	.quad 0x00cf93000000ffff	/* DATA32 */
gdt_end:
gdt_pointer:
	.word gdt_end - gdt - 1
	.long gdt
rom_gdt_pointer:
	.word gdt_end - gdt - 1
	.long gdt - image + IMAGE_IN_ROM

	.balign 4
pam0:
	.long 0
nr_cpus:
	.long 0
cpus_seen:
	.long 1
wrong_at:
	.long 0

text_pam:
	.asciz "pam: "
text_switch:
	.asciz "pam: switch "
text_switches:
	.asciz " switches, "
text_well:
	.asciz " CPUs, all well\n"
text_cpu:
	.asciz "pam: CPU "
text_made:
	.asciz ": "
text_rounds:
	.asciz " rounds, "
text_meanwhile:
	.asciz " of them meanwhile\n"
text_wrong:
	.asciz "pam: memory was wrong at KiB "
text_after:
	.asciz " after switch "
text_end:
	.asciz "\n"
text_stands:
	.asciz "pam: a CPU stands still\n"
text_not_seen:
	.asciz "pam: not all CPUs have come\n"
text_bridge:
	.asciz "pam: the host bridge is none that is known here\n"
text_cpus:
	.asciz "pam: 2 to 64 CPUs are wanted\n"

	.org IMAGE_SIZE - 16
	.code16
	jmp reset
	.org IMAGE_SIZE
