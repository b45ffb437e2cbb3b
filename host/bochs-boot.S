/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A boot sector, for a kernel that host/bochs has put into memory before the
 * machine was switched on: goes on in its real-mode part, as the kernel's boot
 * protocol (Documentation/arch/x86/boot.rst) wants it.
 */
	.code16
	cli
	mov	$SETUP_SEGMENT, %ax
	mov	%ax, %ds
	mov	%ax, %es
	mov	%ax, %fs
	mov	%ax, %gs
	mov	%ax, %ss
	mov	$SETUP_STACK, %sp
	ljmp	$SETUP_SEGMENT + 0x20, $0

	.org	510
	.word	0xaa55
