// SPDX-License-Identifier: GPL-2.0
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/module.h>
#include <linux/utsname.h>

#include "compat/compat.h"
#include "device.h"
#include "standin.h"
#include "wrapper/kvm.h"

static unsigned int device_type = KVM_DEV_TYPE_MEMSLOT_OPS;
module_param(device_type, uint, 0444);
MODULE_PARM_DESC(device_type, "KVM device type to register");

/* Also for a module that was forced into a kernel it was not built for. */
static int check_kernel(void)
{
	const char *running = init_utsname()->release;
	const size_t len = strlen(COMPAT_SERIES);

	if (!strncmp(running, COMPAT_SERIES, len) && running[len] == '.')
		return 0;

	pr_err("built for Linux " COMPAT_SERIES ", does not know the KVM of Linux %s\n",
	       running);

	return -EOPNOTSUPP;
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

	r = standin_init();
	if (r)
		return r;

	r = memslot_device_register(device_type);
	if (r) {
		pr_err("KVM device type %u cannot be registered (%d)\n", device_type, r);
		standin_exit();
		return r;
	}

	pr_info("KVM device type %u; stays loaded until reboot\n", device_type);

	return 0;
}
module_init(memslot_ops_init);

MODULE_DESCRIPTION("Grow, shrink, split, merge and write-protect KVM memslots in place");
MODULE_LICENSE("GPL");
MODULE_VERSION("0.1.0");
