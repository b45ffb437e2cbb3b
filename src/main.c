// SPDX-License-Identifier: GPL-2.0
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/module.h>
#include <linux/utsname.h>
#include <generated/utsrelease.h>

#include "arch.h"
#include "device.h"
#include "wrapper/kvm.h"

static unsigned int device_type = KVM_DEV_TYPE_MEMSLOT_OPS;
module_param(device_type, uint, 0444);
MODULE_PARM_DESC(device_type, "KVM device type to register");

/*
 * Nobody but this module's author promises that KVM's structures and locking stay as they
 * are from one release of a series to the next, and they do not.  Loading by force ("modprobe
 * -f") overrides the kernel's own check.
 */
static int check_kernel(void)
{
	const char *running = init_utsname()->release;

	if (!strcmp(running, UTS_RELEASE))
		return 0;

	pr_err("built for Linux " UTS_RELEASE ", this is Linux %s: build it for this kernel\n",
	       running);

	return -ENOEXEC;
}

/*
 * There is no way out.  KVM reads its table of device types without taking a
 * reference, then may sleep before it calls the device's ->create(), so nothing
 * this module could hold or wait for tells when the last caller is through.
 * rmmod answers EBUSY.
 */
static int __init memslot_ops_init(void)
{
	int r;

	r = check_kernel();
	if (r)
		return r;

	r = kvm_symbols_resolve();
	if (r)
		return r;

	r = arch_init();
	if (r)
		return r;

	r = memslot_device_register(device_type);
	if (r) {
		pr_err("KVM device type %u cannot be registered (%d)\n", device_type, r);
		arch_exit();
		return r;
	}

	pr_info("KVM device type %u; stays loaded until reboot\n", device_type);

	return 0;
}
module_init(memslot_ops_init);

MODULE_DESCRIPTION("Grow, shrink, split, merge and write-protect KVM memslots in place");
MODULE_LICENSE("GPL");
MODULE_VERSION("0.1.0");
