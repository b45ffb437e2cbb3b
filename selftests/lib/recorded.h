/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What QEMU was recorded to do: vmm/tests/qemu-transactions.txt, whose head says
 * how to read it, as the Makefile puts it into a test.
 */
#ifndef SELFTESTS_RECORDED_H
#define SELFTESTS_RECORDED_H

extern const char recorded[], recorded_end[];

#endif
