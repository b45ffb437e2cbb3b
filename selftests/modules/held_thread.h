/* SPDX-License-Identifier: GPL-2.0 */
/*
 * /dev/held_thread: who opens it can have one thread stand at a place inside KVM, from the
 * next time that it comes there until the device is closed.
 */
#ifndef SELFTESTS_MODULES_HELD_THREAD_H
#define SELFTESTS_MODULES_HELD_THREAD_H

#include <linux/ioctl.h>
#include <linux/types.h>

struct held_thread_zap {
	__s32 vm;			/* its file descriptor */
	__u32 pad;
	__u64 start, end;		/* gfns; @end is the first after the range */
};

/*
 * The thread of this number is held in a page fault of a vCPU's that it runs: it has looked
 * the slot up, and takes mmu_lock later.
 */
#define HELD_THREAD_FAULT	_IO('h', 0)
/*
 * The caller zaps all mappings in a range, as KVM does when a guest changes how memory is
 * cached, and is held the first time that it yields mmu_lock, half-way through the mappings.
 * ENODATA if it never did.
 */
#define HELD_THREAD_ZAP		_IOW('h', 1, struct held_thread_zap)
/* Waits until the thread is held. */
#define HELD_THREAD_WAIT	_IO('h', 2)

#endif
