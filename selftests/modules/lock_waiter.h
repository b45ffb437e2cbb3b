/* SPDX-License-Identifier: GPL-2.0 */
/*
 * /dev/lock_waiter: who opens it can have somebody wait for a VM's mmu_lock all the time, and
 * learns what was unmapped meanwhile.  One at a time can have it open.
 */
#ifndef SELFTESTS_MODULES_LOCK_WAITER_H
#define SELFTESTS_MODULES_LOCK_WAITER_H

#include <linux/ioctl.h>
#include <linux/types.h>

/**
 * struct lock_waiter_news - what happened to ranges that KVM was told to unmap
 * @most: pages of those that came while mmu_lock was held at once, for the longest time
 * @unflushed: times that it was released, and no remote TLB flush asked for before
 */
struct lock_waiter_news {
	__u64 most;
	__u64 unflushed;
};

/*
 * For the VM with this file descriptor, once.  It is on another CPU than the caller, which is
 * to stay where it is: ENODEV if there is none.
 */
#define LOCK_WAITER_START	_IO('w', 0)
/* Since then. ETIME if somebody unmapped while nobody waited. */
#define LOCK_WAITER_NEWS	_IOR('w', 1, struct lock_waiter_news)

#endif
