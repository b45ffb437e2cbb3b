/* SPDX-License-Identifier: GPL-2.0 */
/*
 * /dev/slow_notifier: who opens it can have MMU notifiers of its own address space take
 * as long as it likes, until it closes it.
 */
#ifndef SELFTESTS_MODULES_SLOW_NOTIFIER_H
#define SELFTESTS_MODULES_SLOW_NOTIFIER_H

#include <linux/ioctl.h>

/*
 * From now on, a notifier of a range with this address has begun for all who listen, and
 * does not end for those who listened before: KVM, for VMs that are there already.
 */
#define SLOW_NOTIFIER_HOLD	_IO('n', 0)
/* Waits until there is such a notifier. */
#define SLOW_NOTIFIER_WAIT	_IO('n', 1)

#endif
