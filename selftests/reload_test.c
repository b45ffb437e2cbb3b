// SPDX-License-Identifier: GPL-2.0
/*
 * The module, KVM and KVM's vendor module come and go, in all orders that there are, and
 * VMs use what is there.
 */
#include "harness.h"

#include "kvm_util.h"
#include "processor.h"

#include "async.h"
#include "changes.h"
#include "host.h"
#include "memslot_ops.h"
#include "module.h"
#include "probe.h"
#include "starve.h"

#define OPS	MODULE_OPS
#define VENDOR	"kvm_amd"
#define OTHER_VENDOR	"kvm_intel"

/* KVM's own number for VFIO. */
#define VFIO_TYPE	"4"

#define NR_ROUNDS	50
#define NR_ROUNDS_AT_ONCE	10

/* ---------------------------------------------------------------- modules */

static bool has_module(const char *name)
{
	char path[256];

	module_find(name, path, sizeof(path));
	return !access(path, R_OK);
}

static void must_load(const char *name, const char *params)
{
	int err = module_load_of_host(name, params);

	TEST_ASSERT(!err, "loading %s %s: %s", name, params, strerror(err));
}

static void must_unload(const char *name)
{
	int err = module_unload(name);

	TEST_ASSERT(!err, "unloading %s: %s", name, strerror(err));
}

/* ---------------------------------------------------------------- VMs */

static void stays_while_there_is_a_vendor(void)
{
	int err = module_unload(OPS);

	TEST_ASSERT(err == EBUSY, "unloading " OPS ": %s, not EBUSY", strerror(err));
}

/* A VM whose slot grows; meanwhile nothing can be unloaded. */
static void use_vm(char *mem)
{
	const struct probe_config config = { .nr_vcpus = 1, .size = CHANGE_SIZE };
	const struct change *c = &changes[CHANGE_GROW];
	struct probe *p = probe_create(&config);
	struct kvm_vm *vm = probe_vm(p);
	uint64_t last = PROBE_GPA + CHANGE_SIZE - PAGE_SIZE;
	int dev = memslot_ops_open(vm), err;

	layout_create(vm, &c->before, PROBE_GPA, mem);
	TEST_ASSERT(probe_is_mmio(p, last), "the slot is too large");
	TEST_ASSERT_EQ(change_make(dev, c), 0);
	probe_write(p, last, 1);
	layout_assert(vm, &c->after, PROBE_GPA, mem);

	stays_while_there_is_a_vendor();
	err = module_unload(VENDOR);
	TEST_ASSERT(err == EAGAIN, "unloading " VENDOR " while there is a VM: %s",
		    strerror(err));
	close(dev);
	probe_free(p);
	stays_while_there_is_a_vendor();
}

/* ---------------------------------------------------------------- tests */

/* What goes, and what comes, by the first letter of its name; '?' asks whether a VM lacks OPS. */
static const char *const orders[] = {
	"-v+v",
	"-v-o+o+v",
	"-v-o+v?+o",
	"-v-o-k+k+o+v",
	"-v-o-k+k+v?+o",
	"-v-o+v?-v+o+v",
};

static const char *name_of(char letter)
{
	return letter == 'v' ? VENDOR : letter == 'k' ? "kvm" : OPS;
}

static void take_turns(const char *order, const char *params)
{
	const char *at;

	for (at = order; *at; at++) {
		if (*at == '?') {
			TEST_ASSERT(!memslot_ops_present(),
				    "%s: there is a device, without the module", order);
			continue;
		}
		if (*at++ == '-')
			must_unload(name_of(*at));
		else
			must_load(name_of(*at), *at == 'v' ? params : "");
	}
}

static bool can_reload(void)
{
	return has_module(VENDOR) && !access("/sys/module/" VENDOR "/refcnt", R_OK);
}

TEST(all_orders)
{
	char *mem = host_map(CHANGE_SIZE, HUGE_SIZE, 0, HOST_PAGES_4K);
	unsigned int i;

	REQUIRE_ALL_OPS();
	REQUIRE(can_reload(), VENDOR " is no module that was loaded");

	for (i = 0; i < NR_ROUNDS; i++) {
		use_vm(mem);
		take_turns(orders[i % ARRAY_SIZE(orders)], i % 2 ? "npt=1" : "npt=0");
	}
	use_vm(mem);
}

/* A vendor module that finds nothing to do comes as well, and goes. */
TEST(other_vendor)
{
	REQUIRE_ALL_OPS();
	REQUIRE(can_reload(), VENDOR " is no module that was loaded");
	REQUIRE(has_module(OTHER_VENDOR), "there is no " OTHER_VENDOR);

	TEST_ASSERT(module_load_of_host(OTHER_VENDOR, ""), OTHER_VENDOR " can be loaded");
	stays_while_there_is_a_vendor();
	TEST_ASSERT(memslot_ops_present(), "the device is gone");

	must_unload(VENDOR);
	TEST_ASSERT(module_load_of_host(OTHER_VENDOR, ""), OTHER_VENDOR " can be loaded");
	must_unload(OPS);
	TEST_ASSERT(module_load_of_host(OTHER_VENDOR, ""), OTHER_VENDOR " can be loaded");
	must_load(OPS, "");
	must_load(VENDOR, "");
	TEST_ASSERT(memslot_ops_present(), "the device is not there");
}

/* What cannot be loaded leaves nothing behind that would listen to others. */
TEST(type_is_taken)
{
	int with, without;

	REQUIRE_ALL_OPS();
	REQUIRE(can_reload(), VENDOR " is no module that was loaded");

	must_unload(VENDOR);
	must_unload(OPS);
	without = module_load_of_host(OPS, "device_type=" VFIO_TYPE);
	must_load(VENDOR, "");
	with = module_load_of_host(OPS, "device_type=" VFIO_TYPE);
	/* Some kernels say so where a module says EEXIST. */
	TEST_ASSERT((with == EEXIST || with == EBUSY) && without == with,
		    "loading with a type that is taken: %s without " VENDOR ", %s with it",
		    strerror(without), strerror(with));
	must_unload(VENDOR);
	must_load(VENDOR, "");
	TEST_ASSERT(!memslot_ops_present(), "there is a device, without the module");
	must_load(OPS, "");
	TEST_ASSERT(memslot_ops_present(), "the device is not there");
}

/* What is made while the module is loaded is not left behind where something fails. */
TEST(allocations_fail)
{
	int nth, err, image, nr_failed = 0, nr_harmless = 0, fail;
	char path[256];
	bool failed;

	REQUIRE_ALL_OPS();
	REQUIRE(can_reload(), VENDOR " is no module that was loaded");
	REQUIRE(starve_is_possible(), "no fault injection");

	module_find(OPS, path, sizeof(path));
	image = module_open(path);
	fail = starve_open();
	must_unload(VENDOR);
	must_unload(OPS);
	for (nth = 1;; nth++) {
		starve(fail, nth);
		err = module_load_fd(image, "", 0);
		failed = starve_end(fail);
		if (!failed)
			break;
		if (err) {
			TEST_ASSERT(err == ENOMEM, "allocation %d fails, and loading with %s",
				    nth, strerror(err));
			nr_failed++;
		} else {
			must_unload(OPS);
			nr_harmless++;
		}
	}
	TEST_ASSERT(!err, "loading " OPS ": %s", strerror(err));
	close(image);
	close(fail);
	must_load(VENDOR, "");
	TEST_ASSERT(memslot_ops_present(), "the device is not there");
	ksft_print_msg("%d allocations failed, %d without harm\n", nr_failed, nr_harmless);
	TEST_ASSERT(nr_failed, "no allocation failed");
}

static atomic_bool enough;
static atomic_int nr_devices;

/* Without the selftest library, for what fails here may fail. */
static int make_vms(void *arg)
{
	struct kvm_create_device cd = { .type = memslot_ops_type() };
	int kvm, vm;

	while (!enough) {
		kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
		vm = kvm < 0 ? -1 : ioctl(kvm, KVM_CREATE_VM, 0);
		cd.fd = -1;
		if (vm >= 0 && !ioctl(vm, KVM_CREATE_DEVICE, &cd)) {
			nr_devices++;
			close(cd.fd);
		}
		close(vm);
		close(kvm);
	}
	return 0;
}

static bool there_are_more(void *arg)
{
	return nr_devices > *(int *)arg;
}

static atomic_int nr_reloads;

/* Unloads the module whenever that is possible. */
static int reload_ops(void *arg)
{
	int err;

	while (!enough) {
		err = module_unload(OPS);
		/* It stays, or is not in the state that it could go from. */
		if (err == EBUSY || err == EAGAIN)
			continue;
		TEST_ASSERT(!err, "unloading " OPS ": %s", strerror(err));
		must_load(OPS, "");
		nr_reloads++;
	}
	return 0;
}

static bool is_unloaded(void *arg)
{
	return !module_unload(VENDOR);
}

static bool is_reloaded(void *arg)
{
	return nr_reloads > *(int *)arg;
}

TEST(everything_at_once)
{
	struct async maker, loader;
	unsigned int i;
	int before;

	REQUIRE_ALL_OPS();
	REQUIRE(can_reload(), VENDOR " is no module that was loaded");

	async_start(&maker, make_vms, NULL);
	async_start(&loader, reload_ops, NULL);
	for (i = 0; i < NR_ROUNDS_AT_ONCE; i++) {
		before = nr_devices;
		TEST_ASSERT(host_wait(there_are_more, &before), "no VM has a device");
		before = nr_reloads;
		TEST_ASSERT(host_wait(is_unloaded, NULL), VENDOR " stays in use");
		TEST_ASSERT(i % 2 || host_wait(is_reloaded, &before), OPS " stays in use");
		must_load(VENDOR, "");
	}
	enough = true;
	async_must_succeed(&maker, "making VMs");
	async_must_succeed(&loader, "unloading and loading " OPS);
	ksft_print_msg("%d devices, %d reloads of " OPS "\n", nr_devices, nr_reloads);
	stays_while_there_is_a_vendor();
}

TEST_HARNESS_MAIN
