// SPDX-License-Identifier: MIT
/*
 * A host without KVM: see kvm_fake.h.
 */
#include "kvm_fake.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct kvm_fake kvm_fake;

/* The VM's file and those of devices are told apart by what they are. */
static const char vm_file[] = "/dev/null";
static const char device_file[] = "/dev/zero";

int ioctl(int fd, unsigned long request, ...);

static int open_file(const char *name)
{
	return open(name, O_RDWR | O_CLOEXEC);
}

static bool is_open_on(int fd, const char *name)
{
	struct stat a, b;

	return !fstat(fd, &a) && !stat(name, &b) && a.st_rdev == b.st_rdev;
}

void kvm_fake_start(struct kvm_model *model)
{
	memset(&kvm_fake, 0, sizeof(kvm_fake));
	kvm_fake.model = model;
	kvm_fake.vm_fd = open_file(vm_file);
	kvm_fake.has_type = true;
	kvm_fake.is_module = true;
	kvm_fake.version = 1;
	kvm_fake.features = KVM_MEMSLOT_FEATURE_DIRTY_BITMAP |
			    KVM_MEMSLOT_FEATURE_DIRTY_RING |
			    KVM_MEMSLOT_FEATURE_SHADOW_PAGING;
	kvm_fake.nr_spaces = 2;
}

void kvm_fake_stop(void)
{
	close(kvm_fake.vm_fd);
	memset(&kvm_fake, 0, sizeof(kvm_fake));
	kvm_fake.vm_fd = -1;
}

void kvm_fake_host(struct kvm_layout_host *host)
{
	memset(host, 0, sizeof(*host));
	host->vm_fd = kvm_fake.vm_fd;
	host->ops = kvm_fake.model->ops;
	host->dev_fd = host->ops ? open_file(device_file) : -1;
	host->max_pieces = host->ops ? kvm_fake.model->max_pieces : 0;
	host->features = host->ops ? kvm_fake.features : 0;
	host->nr_slots = kvm_fake.model->nr_ids;
	host->nr_spaces = kvm_fake.nr_spaces;
}

static int check_extension(unsigned long cap)
{
	switch (cap) {
	case KVM_CAP_NR_MEMSLOTS:
		return kvm_fake.model->nr_ids;
	case KVM_CAP_MULTI_ADDRESS_SPACE:
		return kvm_fake.nr_spaces;
	case KVM_CAP_USER_MEMORY:
	case KVM_CAP_READONLY_MEM:
	case KVM_CAP_DEVICE_CTRL:
		return 1;
	}
	return 0;
}

static int create_device(struct kvm_create_device *device)
{
	if (device->type != KVM_DEV_TYPE_MEMSLOT_OPS || !kvm_fake.has_type)
		return -ENODEV;
	if (device->flags & ~KVM_CREATE_DEVICE_TEST)
		return -EINVAL;
	if (device->flags & KVM_CREATE_DEVICE_TEST)
		return 0;
	if (kvm_fake.create_errno)
		return -kvm_fake.create_errno;
	device->fd = open_file(device_file);
	kvm_fake.nr_devices++;
	return 0;
}

static bool has_op(uint64_t op)
{
	static const enum kvm_layout_op ops[] = {
		[KVM_MEMSLOT_OP_GROW] = KVM_LAYOUT_GROW,
		[KVM_MEMSLOT_OP_SHRINK] = KVM_LAYOUT_SHRINK,
		[KVM_MEMSLOT_OP_SPLIT] = KVM_LAYOUT_SPLIT,
		[KVM_MEMSLOT_OP_MERGE] = KVM_LAYOUT_MERGE,
		[KVM_MEMSLOT_OP_SET_READONLY] = KVM_LAYOUT_SET_READONLY,
	};

	return op < sizeof(ops) / sizeof(*ops) &&
	       kvm_fake.model->ops & 1U << ops[op];
}

static int read_info(uint64_t attr, uint64_t *value)
{
	switch (attr) {
	case KVM_MEMSLOT_INFO_VERSION:
		*value = kvm_fake.version;
		return 0;
	case KVM_MEMSLOT_INFO_MAX_PIECES:
		*value = kvm_fake.model->max_pieces;
		return 0;
	case KVM_MEMSLOT_INFO_FEATURES:
		*value = kvm_fake.features;
		return 0;
	}
	return -ENXIO;
}

static int read_attr(const struct kvm_device_attr *attr, uint64_t *value)
{
	if (!kvm_fake.is_module || attr->flags)
		return -ENXIO;
	switch (attr->group) {
	case KVM_DEV_MEMSLOT_OPS_GRP_OP:
		*value = 1;
		return has_op(attr->attr) ? 0 : -ENXIO;
	case KVM_DEV_MEMSLOT_OPS_GRP_INFO:
		return read_info(attr->attr, value);
	case KVM_DEV_MEMSLOT_OPS_GRP_STAT:
		*value = 0;
		return attr->attr <= KVM_MEMSLOT_STAT_FAILED ? 0 : -ENXIO;
	}
	return -ENXIO;
}

static int get_attr(const struct kvm_device_attr *attr)
{
	uint64_t value;
	int err = read_attr(attr, &value);

	if (!err)
		memcpy((void *)(uintptr_t)attr->addr, &value, sizeof(value));
	return err;
}

static void tell_call(void)
{
	if (kvm_fake.on_call)
		kvm_fake.on_call();
}

static int vm_ioctl(unsigned long request, unsigned long arg)
{
	switch (request) {
	case KVM_CHECK_EXTENSION:
		return check_extension(arg);
	case KVM_CREATE_DEVICE:
		return create_device((void *)arg);
	case KVM_SET_USER_MEMORY_REGION:
		tell_call();
		return kvm_model_set_region(kvm_fake.model, (void *)arg);
	}
	kvm_fake.nr_unknown++;
	return -ENOTTY;
}

static int do_grow(const struct kvm_memslot_grow *grow)
{
	if (grow->flags)
		return -EINVAL;
	return kvm_model_grow(kvm_fake.model, grow->slot, grow->memory_size);
}

static int do_shrink(const struct kvm_memslot_shrink *shrink)
{
	kvm_fake.bitmap_given = shrink->dirty_bitmap;
	if (shrink->flags)
		return -EINVAL;
	return kvm_model_shrink(kvm_fake.model, shrink->slot,
				shrink->memory_size,
				(uint64_t *)(uintptr_t)shrink->dirty_bitmap);
}

static int do_split(const struct kvm_memslot_split *split)
{
	if (split->flags || split->pad)
		return -EINVAL;
	return kvm_model_split(kvm_fake.model, split->slot, split->cuts,
			       split->nr_cuts);
}

static int do_merge(const struct kvm_memslot_merge *merge)
{
	if (merge->flags || merge->pad)
		return -EINVAL;
	return kvm_model_merge(kvm_fake.model, merge->slot, merge->slots,
			       merge->nr_slots);
}

static int do_set_readonly(const struct kvm_memslot_set_readonly *set)
{
	if (set->flags || set->pad)
		return -EINVAL;
	return kvm_model_set_readonly(kvm_fake.model, set->slot,
				      set->readonly);
}

static int device_ioctl(unsigned long request, void *arg)
{
	uint64_t value;

	switch (request) {
	case KVM_HAS_DEVICE_ATTR:
		return read_attr(arg, &value);
	case KVM_GET_DEVICE_ATTR:
		return get_attr(arg);
	}
	if (!kvm_fake.is_module)
		return -ENOTTY;
	tell_call();
	switch (request) {
	case KVM_MEMSLOT_GROW:
		return do_grow(arg);
	case KVM_MEMSLOT_SHRINK:
		return do_shrink(arg);
	case KVM_MEMSLOT_SPLIT:
		return do_split(arg);
	case KVM_MEMSLOT_MERGE:
		return do_merge(arg);
	case KVM_MEMSLOT_SET_READONLY:
		return do_set_readonly(arg);
	}
	kvm_fake.nr_unknown++;
	return -ENOTTY;
}

int ioctl(int fd, unsigned long request, ...)
{
	unsigned long arg;
	va_list args;
	int ret;

	va_start(args, request);
	arg = va_arg(args, unsigned long);
	va_end(args);
	kvm_fake.is_inside = true;
	if (kvm_fake.model && is_open_on(fd, vm_file)) {
		ret = vm_ioctl(request, arg);
	} else if (kvm_fake.model && is_open_on(fd, device_file)) {
		ret = device_ioctl(request, (void *)arg);
	} else {
		kvm_fake.nr_unknown++;
		ret = -EBADF;
	}
	kvm_fake.is_inside = false;
	if (ret >= 0)
		return ret;
	errno = -ret;
	return -1;
}
