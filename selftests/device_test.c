// SPDX-License-Identifier: GPL-2.0
/*
 * The device: how a VMM finds it, what it tells, how long it lives.
 */
#include <pthread.h>
#include <stdatomic.h>

#include "harness.h"

#include "kvm_util.h"
#include "processor.h"

#include "host.h"
#include "memslot_ops.h"
#include "module.h"

#define GPA	GIGA_SIZE

FIXTURE(device) {
	struct kvm_vm *vm;
	char *mem;
	int dev;
};

FIXTURE_SETUP(device)
{
	self->vm = NULL;
	REQUIRE_MEMSLOT_OPS();
	self->vm = vm_create_barebones();
	self->dev = memslot_ops_open(self->vm);
	self->mem = host_map(HUGE_SIZE, HUGE_SIZE, 0, HOST_PAGES_4K);
	TEST_ASSERT_EQ(slot_set(self->vm, 0, 0, GPA, PAGE_SIZE, self->mem), 0);
}

FIXTURE_TEARDOWN(device)
{
	if (!self->vm)
		return;
	close(self->dev);
	kvm_vm_free(self->vm);
}

static int has(int dev, uint32_t group, uint64_t attr)
{
	return __kvm_has_device_attr(dev, group, attr) ? errno : 0;
}

static int get(int dev, uint32_t group, uint64_t attr, void *value)
{
	return __kvm_device_attr_get(dev, group, attr, value) ? errno : 0;
}

TEST_F(device, is_found_by_its_type)
{
	uint32_t type;

	ksft_print_msg("device type %u\n", memslot_ops_type());
	TEST_ASSERT_EQ(memslot_ops_probe(self->vm), 0);

	/* Probing makes nothing: the stats belong to the device of before. */
	TEST_ASSERT_EQ(slot_grow(self->dev, 0, 2 * PAGE_SIZE), 0);
	TEST_ASSERT_EQ(memslot_ops_probe(self->vm), 0);
	TEST_ASSERT_EQ(memslot_ops_stat(self->dev, KVM_MEMSLOT_STAT_OPS), 1);

	/* VFIO's type may be taken; beyond the last there is nothing. */
	for (type = 0; type < 256; type++) {
		if (type == memslot_ops_type() || type == KVM_DEV_TYPE_VFIO)
			continue;
		TEST_ASSERT(__kvm_test_create_device(self->vm, type) &&
			    errno == ENODEV,
			    "device type %u is there as well", type);
	}
}

TEST_F(device, groups_and_attributes)
{
	static const struct {
		uint32_t group;
		uint64_t attr;
		bool must;		/* or may, if it is new */
	} attrs[] = {
		{ KVM_DEV_MEMSLOT_OPS_GRP_OP, KVM_MEMSLOT_OP_GROW, true },
		{ KVM_DEV_MEMSLOT_OPS_GRP_OP, KVM_MEMSLOT_OP_SHRINK },
		{ KVM_DEV_MEMSLOT_OPS_GRP_OP, KVM_MEMSLOT_OP_SPLIT },
		{ KVM_DEV_MEMSLOT_OPS_GRP_OP, KVM_MEMSLOT_OP_MERGE },
		{ KVM_DEV_MEMSLOT_OPS_GRP_OP, KVM_MEMSLOT_OP_SET_READONLY },
		{ KVM_DEV_MEMSLOT_OPS_GRP_INFO, KVM_MEMSLOT_INFO_VERSION, true },
		{ KVM_DEV_MEMSLOT_OPS_GRP_INFO, KVM_MEMSLOT_INFO_MAX_PIECES, true },
		{ KVM_DEV_MEMSLOT_OPS_GRP_INFO, KVM_MEMSLOT_INFO_FEATURES, true },
		{ KVM_DEV_MEMSLOT_OPS_GRP_STAT, KVM_MEMSLOT_STAT_OPS, true },
		{ KVM_DEV_MEMSLOT_OPS_GRP_STAT, KVM_MEMSLOT_STAT_SWAPS, true },
		{ KVM_DEV_MEMSLOT_OPS_GRP_STAT, KVM_MEMSLOT_STAT_FAILED, true },
	};
	uint64_t value;
	int i, err;

	for (i = 0; i < ARRAY_SIZE(attrs); i++) {
		err = has(self->dev, attrs[i].group, attrs[i].attr);
		TEST_ASSERT(!err || (err == ENXIO && !attrs[i].must),
			    "HAS %#x/%lu: %s", attrs[i].group, attrs[i].attr,
			    strerror(err));
		TEST_ASSERT_EQ(get(self->dev, attrs[i].group, attrs[i].attr,
				   &value), err);
		if (err)
			continue;
		if (attrs[i].group == KVM_DEV_MEMSLOT_OPS_GRP_OP)
			TEST_ASSERT_EQ(value, 1);
		/* It is asked for before the pointer is looked at. */
		TEST_ASSERT_EQ(get(self->dev, attrs[i].group, attrs[i].attr,
				   NULL), EFAULT);
		TEST_ASSERT_EQ(get(self->dev, attrs[i].group, attrs[i].attr,
				   (void *)-8UL), EFAULT);
	}

	TEST_ASSERT_EQ(memslot_ops_attr(self->dev, KVM_DEV_MEMSLOT_OPS_GRP_INFO,
					KVM_MEMSLOT_INFO_VERSION), 1);
	value = memslot_ops_attr(self->dev, KVM_DEV_MEMSLOT_OPS_GRP_INFO,
				 KVM_MEMSLOT_INFO_MAX_PIECES);
	TEST_ASSERT(value >= 64, "at most %lu pieces", value);
	value = memslot_ops_features(self->dev);
	TEST_ASSERT(value == (KVM_MEMSLOT_FEATURE_DIRTY_BITMAP |
			      KVM_MEMSLOT_FEATURE_DIRTY_RING |
			      KVM_MEMSLOT_FEATURE_SHADOW_PAGING),
		    "the features are %#lx", value);
}

TEST_F(device, unknown_attributes)
{
	static const struct {
		uint32_t group;
		uint64_t attr;
	} attrs[] = {
		{ KVM_DEV_MEMSLOT_OPS_GRP_OP, KVM_MEMSLOT_OP_SET_READONLY + 1 },
		{ KVM_DEV_MEMSLOT_OPS_GRP_OP, 1UL << 32 },
		{ KVM_DEV_MEMSLOT_OPS_GRP_OP, -1UL },
		{ KVM_DEV_MEMSLOT_OPS_GRP_INFO, KVM_MEMSLOT_INFO_FEATURES + 1 },
		{ KVM_DEV_MEMSLOT_OPS_GRP_INFO, 1UL << 32 },
		{ KVM_DEV_MEMSLOT_OPS_GRP_INFO, -1UL },
		{ KVM_DEV_MEMSLOT_OPS_GRP_STAT, KVM_MEMSLOT_STAT_FAILED + 1 },
		{ KVM_DEV_MEMSLOT_OPS_GRP_STAT, 1UL << 32 },
		{ KVM_DEV_MEMSLOT_OPS_GRP_STAT, -1UL },
		{ KVM_DEV_MEMSLOT_OPS_GRP_OP - 1, 0 },
		{ KVM_DEV_MEMSLOT_OPS_GRP_STAT + 1, 0 },
		{ 0, 0 },
		{ -1U, 0 },
	};
	uint64_t value = 0x1234;
	int i;

	for (i = 0; i < ARRAY_SIZE(attrs); i++) {
		TEST_ASSERT_EQ(has(self->dev, attrs[i].group, attrs[i].attr),
			       ENXIO);
		TEST_ASSERT_EQ(get(self->dev, attrs[i].group, attrs[i].attr,
				   &value), ENXIO);
		TEST_ASSERT_EQ(value, 0x1234);
	}
}

TEST_F(device, nothing_can_be_set)
{
	static const uint32_t groups[] = {
		KVM_DEV_MEMSLOT_OPS_GRP_OP,
		KVM_DEV_MEMSLOT_OPS_GRP_INFO,
		KVM_DEV_MEMSLOT_OPS_GRP_STAT,
	};
	uint64_t value = 7, attr;
	int i;

	for (i = 0; i < ARRAY_SIZE(groups); i++) {
		for (attr = 0; attr < 5; attr++)
			TEST_ASSERT(__kvm_device_attr_set(self->dev, groups[i],
							  attr, &value),
				    "group %#x, attribute %lu was set",
				    groups[i], attr);
	}
	TEST_ASSERT_EQ(memslot_ops_stat(self->dev, KVM_MEMSLOT_STAT_OPS), 0);
}

TEST_F(device, devices_of_a_vm_share_what_they_count)
{
	int other = memslot_ops_open(self->vm);

	TEST_ASSERT_EQ(slot_grow(self->dev, 0, 2 * PAGE_SIZE), 0);
	TEST_ASSERT_EQ(slot_grow(other, 0, 3 * PAGE_SIZE), 0);
	TEST_ASSERT_EQ(slot_grow(other, 0, 3 * PAGE_SIZE), EINVAL);
	memslot_ops_assert_stats(self->dev, 2, 2, 1);
	memslot_ops_assert_stats(other, 2, 2, 1);

	/* The first may go; the count lasts as long as any device does. */
	close(self->dev);
	TEST_ASSERT_EQ(memslot_ops_stat(other, KVM_MEMSLOT_STAT_OPS), 2);
	self->dev = memslot_ops_open(self->vm);
	TEST_ASSERT_EQ(memslot_ops_stat(self->dev, KVM_MEMSLOT_STAT_OPS), 2);
	close(other);
	close(self->dev);

	self->dev = memslot_ops_open(self->vm);
	memslot_ops_assert_stats(self->dev, 0, 0, 0);
	TEST_ASSERT_EQ(slot_grow(self->dev, 0, 4 * PAGE_SIZE), 0);
}

TEST_F(device, vms_do_not_share)
{
	struct kvm_vm *vm = vm_create_barebones();
	int dev = memslot_ops_open(vm);

	TEST_ASSERT_EQ(slot_grow(self->dev, 0, 2 * PAGE_SIZE), 0);
	TEST_ASSERT_EQ(memslot_ops_stat(dev, KVM_MEMSLOT_STAT_OPS), 0);
	TEST_ASSERT_EQ(slot_grow(dev, 0, 3 * PAGE_SIZE), ENOENT);
	TEST_ASSERT_EQ(memslot_ops_stat(self->dev, KVM_MEMSLOT_STAT_FAILED), 0);
	close(dev);
	kvm_vm_free(vm);
}

TEST_F(device, many_devices)
{
	enum { NR = 100 };
	int dev[NR], i, round;

	for (round = 0; round < 10; round++) {
		for (i = 0; i < NR; i++)
			dev[i] = memslot_ops_open(self->vm);
		TEST_ASSERT_EQ(slot_grow(dev[round], 0, (2 + round) * PAGE_SIZE),
			       0);
		for (i = 0; i < NR; i++)
			close(dev[i]);
	}
	TEST_ASSERT_EQ(memslot_ops_stat(self->dev, KVM_MEMSLOT_STAT_OPS), 10);
}

/* The device holds the VM, so it works on when the VM's fd is gone. */
TEST_F(device, outlives_the_vm_fd)
{
	int dev = memslot_ops_open(self->vm);

	close(self->dev);
	kvm_vm_free(self->vm);
	self->vm = NULL;
	TEST_ASSERT_EQ(slot_grow(dev, 0, 2 * PAGE_SIZE), 0);
	TEST_ASSERT_EQ(slot_grow(dev, 0, HUGE_SIZE), 0);
	TEST_ASSERT_EQ(slot_grow(dev, 0, HUGE_SIZE), EINVAL);
	TEST_ASSERT_EQ(memslot_ops_stat(dev, KVM_MEMSLOT_STAT_OPS), 2);
	close(dev);
}

static atomic_bool stop;

static void *unload(void *arg)
{
	uint64_t *tries = arg;

	for (; !stop; (*tries)++) {
		TEST_ASSERT_EQ(module_unload(MODULE_OPS), EBUSY);
		sched_yield();
	}
	return NULL;
}

TEST_F(device, module_stays)
{
	uint64_t tries = 0;
	pthread_t thread;
	int i, dev;

	pthread_create(&thread, NULL, unload, &tries);
	for (i = 0; i < 200; i++) {
		dev = memslot_ops_open(self->vm);
		close(dev);
	}
	stop = true;
	pthread_join(thread, NULL);
	TEST_ASSERT(tries, "nothing was tried");

	/* Nor without any device, or any VM. */
	close(self->dev);
	kvm_vm_free(self->vm);
	self->vm = NULL;
	TEST_ASSERT_EQ(module_unload(MODULE_OPS), EBUSY);
	TEST_ASSERT(memslot_ops_present(), "the module is gone");
}

TEST_HARNESS_MAIN
