// SPDX-License-Identifier: MIT
#include <dlfcn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "interpose.h"

struct kvm_userspace_memory_region vmm_slots[NR_SPACES][NR_IDS];
int vm_fd = -1;
int (*next_ioctl)(int fd, unsigned long request, ...);

void say(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	fprintf(stderr, "%s: ", interposer);
	vfprintf(stderr, format, args);
	fputc('\n', stderr);
	va_end(args);
}

uint64_t number(const char *name, uint64_t otherwise)
{
	const char *value = getenv(name);

	return value ? strtoull(value, NULL, 0) : otherwise;
}

void note_region(const struct kvm_userspace_memory_region *region)
{
	uint32_t as_id = region->slot >> 16, id = region->slot & 0xffff;

	if (as_id >= NR_SPACES || id >= NR_IDS) {
		say("slot %#x is more than I can deal with", region->slot);
		abort();
	}
	vmm_slots[as_id][id] = *region;
}

int ioctl(int fd, unsigned long request, ...)
{
	va_list args;
	void *arg;
	int ret;

	va_start(args, request);
	arg = va_arg(args, void *);
	va_end(args);

	ret = on_ioctl(fd, request, arg);
	if (request == KVM_CREATE_VM && ret >= 0)
		vm_fd = ret;
	return ret;
}

__attribute__((constructor)) static void start(void)
{
	next_ioctl = dlsym(RTLD_NEXT, "ioctl");
	on_start();
}

__attribute__((destructor)) static void end(void)
{
	on_exit_of_vmm();
}
