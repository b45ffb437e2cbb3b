// SPDX-License-Identifier: GPL-2.0
#include "memslot_ops.h"
#include "host.h"
#include "processor.h"

#define DEVICE_TYPE	"/sys/module/kvm_memslot_ops/parameters/device_type"

uint32_t memslot_ops_type(void)
{
	char buf[32];

	if (host_read(DEVICE_TYPE, buf, sizeof(buf)))
		return KVM_DEV_TYPE_MEMSLOT_OPS;
	return strtoul(buf, NULL, 0);
}

int memslot_ops_probe(struct kvm_vm *vm)
{
	return __kvm_test_create_device(vm, memslot_ops_type()) ? errno : 0;
}

bool memslot_ops_present(void)
{
	struct kvm_vm *vm = vm_create_barebones();
	int err = memslot_ops_probe(vm);

	kvm_vm_free(vm);
	TEST_ASSERT(!err || err == ENODEV,
		    "probing the device type fails with %s, not with ENODEV",
		    strerror(err));
	return !err;
}

int memslot_ops_open(struct kvm_vm *vm)
{
	int dev = kvm_create_device(vm, memslot_ops_type());

	/* The number is borrowed: make sure that this is the right device. */
	TEST_ASSERT(!__kvm_has_device_attr(dev, KVM_DEV_MEMSLOT_OPS_GRP_OP,
					   KVM_MEMSLOT_OP_GROW),
		    "the device has no operation GROW, errno %d", errno);
	return dev;
}

bool memslot_ops_has(uint64_t op)
{
	struct kvm_vm *vm = vm_create_barebones();
	int dev = memslot_ops_open(vm);
	bool has = !__kvm_has_device_attr(dev, KVM_DEV_MEMSLOT_OPS_GRP_OP, op);

	close(dev);
	kvm_vm_free(vm);
	return has;
}

bool memslot_ops_has_feature(uint64_t feature)
{
	struct kvm_vm *vm = vm_create_barebones();
	int dev = memslot_ops_open(vm);
	bool has = memslot_ops_features(dev) & feature;

	close(dev);
	kvm_vm_free(vm);
	return has;
}

bool host_has_tdp_mmu(void)
{
	return kvm_is_tdp_enabled() && get_kvm_param_bool("tdp_mmu");
}

bool host_shadows_pages(void)
{
	return !kvm_is_tdp_enabled();
}

uint64_t memslot_ops_attr(int dev, uint32_t group, uint64_t attr)
{
	uint64_t value;

	kvm_device_attr_get(dev, group, attr, &value);
	return value;
}

uint64_t memslot_ops_stat(int dev, uint64_t stat)
{
	return memslot_ops_attr(dev, KVM_DEV_MEMSLOT_OPS_GRP_STAT, stat);
}

uint64_t memslot_ops_features(int dev)
{
	return memslot_ops_attr(dev, KVM_DEV_MEMSLOT_OPS_GRP_INFO,
				KVM_MEMSLOT_INFO_FEATURES);
}

void memslot_ops_assert_stats(int dev, uint64_t ops, uint64_t resizes,
			      uint64_t failed)
{
	TEST_ASSERT_EQ(memslot_ops_stat(dev, KVM_MEMSLOT_STAT_OPS), ops);
	TEST_ASSERT_EQ(memslot_ops_stat(dev, KVM_MEMSLOT_STAT_SWAPS),
		       ops + resizes);
	TEST_ASSERT_EQ(memslot_ops_stat(dev, KVM_MEMSLOT_STAT_FAILED), failed);
}

int slot_grow(int dev, uint32_t slot, uint64_t size)
{
	struct kvm_memslot_grow grow = {
		.slot = slot,
		.memory_size = size,
	};

	return ioctl(dev, KVM_MEMSLOT_GROW, &grow) ? errno : 0;
}

int slot_set(struct kvm_vm *vm, uint32_t slot, uint32_t flags, uint64_t gpa,
	     uint64_t size, void *hva)
{
	return __vm_set_user_memory_region(vm, slot, flags, gpa, size, hva) ?
	       errno : 0;
}

void slot_must_set(struct kvm_vm *vm, uint32_t slot, uint32_t flags,
		   uint64_t gpa, uint64_t size, void *hva)
{
	int err = slot_set(vm, slot, flags, gpa, size, hva);

	TEST_ASSERT(!err, "cannot set slot %#x to %#lx bytes at %#lx, flags %#x: %s",
		    slot, size, gpa, flags, strerror(err));
}

void slot_assert(struct kvm_vm *vm, uint32_t slot, uint32_t flags, uint64_t gpa,
		 uint64_t size, void *hva)
{
	int err;

	/* First, as a slot that is gone would be created by the right call. */
	err = slot_set(vm, slot, flags, gpa, size + PAGE_SIZE, hva);
	TEST_ASSERT(err == EINVAL, "KVM gave slot %#x another size: %s",
		    slot, strerror(err));
	err = slot_set(vm, slot, flags, gpa, size, hva + PAGE_SIZE);
	TEST_ASSERT(err == EINVAL, "KVM gave slot %#x another address: %s",
		    slot, strerror(err));
	err = slot_set(vm, slot, flags, gpa, size, hva);
	TEST_ASSERT(!err, "slot %#x is not %#lx bytes at %#lx: %s",
		    slot, size, gpa, strerror(err));
}

struct counter counter_open(int stats_fd, const char *name)
{
	struct kvm_stats_header header;
	struct kvm_stats_desc *descs, *desc = NULL;
	struct counter counter = { .fd = stats_fd };
	int i;

	read_stats_header(stats_fd, &header);
	descs = read_stats_descriptors(stats_fd, &header);
	for (i = 0; i < header.num_desc; i++) {
		desc = get_stats_descriptor(descs, i, &header);
		if (!strcmp(desc->name, name))
			break;
	}
	TEST_ASSERT(i < header.num_desc, "KVM counts no %s", name);
	counter.offset = header.data_offset + desc->offset;
	free(descs);
	return counter;
}

uint64_t counter_read(const struct counter *counter)
{
	uint64_t value;

	TEST_ASSERT(pread(counter->fd, &value, sizeof(value), counter->offset) ==
		    sizeof(value), "cannot read a statistic");
	return value;
}

uint64_t vm_stat(struct kvm_vm *vm, const char *name)
{
	int fd = vm_get_stats_fd(vm);
	struct counter counter = counter_open(fd, name);
	uint64_t value = counter_read(&counter);

	close(fd);
	return value;
}
