// SPDX-License-Identifier: GPL-2.0
/*
 * Lets the selftest library of Linux 6.12 run on an older KVM.
 *
 * The library sets every memory region with KVM_SET_USER_MEMORY_REGION2, which
 * KVM has since 6.8.  The old call's struct is the new one's prefix and means
 * the same, so that it serves wherever no guest_memfd is asked for.  All tests
 * are linked with --wrap=ioctl, which sends the library's calls here.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <linux/kvm.h>

#include "old_kvm.h"

static int set_region2(int fd, struct kvm_userspace_memory_region2 *region)
{
	int ret = __real_ioctl(fd, KVM_SET_USER_MEMORY_REGION2, region);

	if (ret < 0 && errno == ENOTTY && !(region->flags & KVM_MEM_GUEST_MEMFD))
		ret = __real_ioctl(fd, KVM_SET_USER_MEMORY_REGION, region);

	return ret;
}

int (*old_kvm_hook)(int fd, unsigned long request, void *arg);

int old_kvm_ioctl(int fd, unsigned long request, void *arg)
{
	if (request == KVM_SET_USER_MEMORY_REGION2)
		return set_region2(fd, arg);

	if (request == KVM_CHECK_EXTENSION &&
	    (uintptr_t)arg == KVM_CAP_USER_MEMORY2)
		arg = (void *)(uintptr_t)KVM_CAP_USER_MEMORY;

	return __real_ioctl(fd, request, arg);
}

int __wrap_ioctl(int fd, unsigned long request, ...)
{
	va_list args;
	void *arg;

	va_start(args, request);
	arg = va_arg(args, void *);
	va_end(args);

	/* int requests, as some callers pass them, arrive sign extended. */
	request = (uint32_t)request;

	return old_kvm_hook ? old_kvm_hook(fd, request, arg) :
			      old_kvm_ioctl(fd, request, arg);
}
