/* SPDX-License-Identifier: MIT */
/*
 * A library to preload: of the calls of the module's operations every third
 * fails, as it may for want of memory.  What has begun to change memslots then
 * has to end it by other means.
 */
#include <errno.h>
#include <stdarg.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/kvm.h>

#include <linux/kvm_memslot_ops.h>

int ioctl(int fd, unsigned long request, ...)
{
	static unsigned int calls;
	va_list args;
	void *arg;

	va_start(args, request);
	arg = va_arg(args, void *);
	va_end(args);

	switch (request) {
	case KVM_MEMSLOT_GROW:
	case KVM_MEMSLOT_SHRINK:
	case KVM_MEMSLOT_SPLIT:
	case KVM_MEMSLOT_MERGE:
	case KVM_MEMSLOT_SET_READONLY:
		if (!(__atomic_add_fetch(&calls, 1, __ATOMIC_RELAXED) % 3)) {
			errno = ENOMEM;
			return -1;
		}
	}
	return syscall(SYS_ioctl, fd, request, arg);
}
