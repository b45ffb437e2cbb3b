// SPDX-License-Identifier: MIT
/* What the host offers, and the calls. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <linux/kvm_memslot_ops.h>

#include "internal.h"

/* The ABI that this library knows. */
#define VERSION	1

static int call(int fd, unsigned long request, void *arg)
{
	return ioctl(fd, request, arg) < 0 ? -errno : 0;
}

static int get_attr(int dev_fd, uint32_t group, uint64_t number, uint64_t *value)
{
	struct kvm_device_attr attr = {
		.group = group,
		.attr = number,
		.addr = (uintptr_t)value,
	};

	return call(dev_fd, KVM_GET_DEVICE_ATTR, &attr);
}

static bool has_op(int dev_fd, uint64_t op)
{
	struct kvm_device_attr attr = {
		.group = KVM_DEV_MEMSLOT_OPS_GRP_OP,
		.attr = op,
	};

	return !call(dev_fd, KVM_HAS_DEVICE_ATTR, &attr);
}

static uint32_t capability(int vm_fd, int number, uint32_t otherwise)
{
	int value = ioctl(vm_fd, KVM_CHECK_EXTENSION, number);

	return value > 0 ? (uint32_t)value : otherwise;
}

static uint32_t offered(int dev_fd)
{
	static const struct {
		enum kvm_layout_op op;
		uint64_t attr;
	} ops[] = {
		{ KVM_LAYOUT_GROW, KVM_MEMSLOT_OP_GROW },
		{ KVM_LAYOUT_SHRINK, KVM_MEMSLOT_OP_SHRINK },
		{ KVM_LAYOUT_SPLIT, KVM_MEMSLOT_OP_SPLIT },
		{ KVM_LAYOUT_MERGE, KVM_MEMSLOT_OP_MERGE },
		{ KVM_LAYOUT_SET_READONLY, KVM_MEMSLOT_OP_SET_READONLY },
	};
	uint32_t found = 0;

	for (size_t i = 0; i < sizeof(ops) / sizeof(*ops); i++)
		if (has_op(dev_fd, ops[i].attr))
			found |= 1U << ops[i].op;
	return found;
}

/* Whether it is the module's device: the number of its type is borrowed. */
static bool is_known(int dev_fd)
{
	uint64_t version;

	return !get_attr(dev_fd, KVM_DEV_MEMSLOT_OPS_GRP_INFO,
			 KVM_MEMSLOT_INFO_VERSION, &version) &&
	       version == VERSION;
}

/* What the device offers. Return: whether it is of any use */
static bool take_device(int dev_fd, struct kvm_layout_host *host)
{
	uint64_t pieces = 0;

	if (!is_known(dev_fd))
		return false;
	host->ops = offered(dev_fd);
	if (!host->ops)
		return false;
	get_attr(dev_fd, KVM_DEV_MEMSLOT_OPS_GRP_INFO,
		 KVM_MEMSLOT_INFO_MAX_PIECES, &pieces);
	get_attr(dev_fd, KVM_DEV_MEMSLOT_OPS_GRP_INFO,
		 KVM_MEMSLOT_INFO_FEATURES, &host->features);
	host->dev_fd = dev_fd;
	host->max_pieces = pieces > UINT32_MAX ? UINT32_MAX : pieces;
	return true;
}

int kvm_layout_host_open(int vm_fd, struct kvm_layout_host *host)
{
	struct kvm_create_device device = {
		.type = KVM_DEV_TYPE_MEMSLOT_OPS,
		.flags = KVM_CREATE_DEVICE_TEST,
	};
	struct kvm_layout_host found = {
		.vm_fd = vm_fd,
		.dev_fd = -1,
		.nr_slots = capability(vm_fd, KVM_CAP_NR_MEMSLOTS, 32),
		.nr_spaces = capability(vm_fd, KVM_CAP_MULTI_ADDRESS_SPACE, 1),
	};
	int error;

	if (!call(vm_fd, KVM_CREATE_DEVICE, &device)) {
		device.flags = 0;
		error = call(vm_fd, KVM_CREATE_DEVICE, &device);
		if (error)
			return error;
		if (!take_device(device.fd, &found))
			close(device.fd);
	}
	*host = found;
	return 0;
}

void kvm_layout_host_close(struct kvm_layout_host *host)
{
	if (host->dev_fd >= 0)
		close(host->dev_fd);
	host->dev_fd = -1;
	host->ops = 0;
}

static int split(int dev_fd, const struct kvm_layout_step *step)
{
	struct kvm_memslot_split *arg;
	int error;

	arg = calloc(1, sizeof(*arg) + step->nr_others * sizeof(*arg->cuts));
	if (!arg)
		return -ENOMEM;
	arg->slot = step->before.slot;
	arg->nr_cuts = step->nr_others;
	for (size_t i = 0; i < step->nr_others; i++) {
		arg->cuts[i].offset = step->others[i].guest_phys_addr -
				      step->before.guest_phys_addr;
		arg->cuts[i].slot = step->others[i].slot;
	}
	error = call(dev_fd, KVM_MEMSLOT_SPLIT, arg);
	free(arg);
	return error;
}

static int merge(int dev_fd, const struct kvm_layout_step *step)
{
	struct kvm_memslot_merge *arg;
	int error;

	arg = calloc(1, sizeof(*arg) + step->nr_others * sizeof(*arg->slots));
	if (!arg)
		return -ENOMEM;
	arg->slot = step->before.slot;
	arg->nr_slots = step->nr_others;
	for (size_t i = 0; i < step->nr_others; i++)
		arg->slots[i] = step->others[i].slot;
	error = call(dev_fd, KVM_MEMSLOT_MERGE, arg);
	free(arg);
	return error;
}

int kvm_layout_step_call(const struct kvm_layout_host *host,
			 const struct kvm_layout_step *step, uint64_t *dirty)
{
	uint32_t slot = step->before.slot;
	region_t region = step->after;

	switch (step->op) {
	case KVM_LAYOUT_CREATE:
	case KVM_LAYOUT_DELETE:
	case KVM_LAYOUT_FLAGS:
		return call(host->vm_fd, KVM_SET_USER_MEMORY_REGION, &region);
	case KVM_LAYOUT_GROW:
		return call(host->dev_fd, KVM_MEMSLOT_GROW,
			    &(struct kvm_memslot_grow){
				.slot = slot,
				.memory_size = step->after.memory_size,
			    });
	case KVM_LAYOUT_SHRINK:
		return call(host->dev_fd, KVM_MEMSLOT_SHRINK,
			    &(struct kvm_memslot_shrink){
				.slot = slot,
				.memory_size = step->after.memory_size,
				.dirty_bitmap = (uintptr_t)dirty,
			    });
	case KVM_LAYOUT_SPLIT:
		return split(host->dev_fd, step);
	case KVM_LAYOUT_MERGE:
		return merge(host->dev_fd, step);
	case KVM_LAYOUT_SET_READONLY:
		return call(host->dev_fd, KVM_MEMSLOT_SET_READONLY,
			    &(struct kvm_memslot_set_readonly){
				.slot = slot,
				.readonly = !!(step->after.flags &
					       KVM_MEM_READONLY),
			    });
	}
	return -EINVAL;
}
