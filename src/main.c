// SPDX-License-Identifier: GPL-2.0
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/module.h>
#include <linux/utsname.h>
#include <generated/utsrelease.h>
#include <linux/kvm_memslot_ops.h>

#include "arch.h"
#include "swap.h"
#include "vendor.h"
#include "wrapper/kvm.h"

static unsigned int device_type = KVM_DEV_TYPE_MEMSLOT_OPS;
module_param(device_type, uint, 0444);
MODULE_PARM_DESC(device_type, "KVM device type to register");

static bool allow_unknown_kernel;
module_param(allow_unknown_kernel, bool, 0444);
MODULE_PARM_DESC(allow_unknown_kernel, "load on a series of Linux that has not been tested");

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
 * The module relies on what KVM's internals do, not only on their names and types, which
 * is all that could be checked when it was built.
 */
static int check_series(void)
{
	if (KVM_SERIES_IS_TESTED)
		return 0;

	if (!allow_unknown_kernel) {
		pr_err("Linux " KVM_SERIES " has not been tested, " KVM_SERIES_TESTED
		       " have: allow_unknown_kernel=1 loads it here nevertheless\n");
		return -EOPNOTSUPP;
	}

	pr_warn("Linux " KVM_SERIES " has not been tested, " KVM_SERIES_TESTED
		" have; its KVM has: " KVM_DETECTED "\n");

	return 0;
}

static int __init memslot_ops_init(void)
{
	int r;

	r = check_kernel() ?: check_series();
	if (r)
		return r;

	r = kvm_symbols_resolve();
	if (r)
		return r;

	r = swap_init();
	if (r)
		return r;

	r = arch_init();
	if (r)
		goto out_swap;

	r = vendor_init(device_type);
	if (r) {
		pr_err("KVM device type %u cannot be registered (%d)\n", device_type, r);
		goto out_arch;
	}

	pr_info("KVM device type %u, for as long as kvm_amd or kvm_intel is loaded\n", device_type);

	return 0;

out_arch:
	arch_exit();
out_swap:
	swap_exit();
	return r;
}
module_init(memslot_ops_init);

/* Not while there may be a VM: see vendor.c. */
static void __exit memslot_ops_exit(void)
{
	vendor_exit();
	arch_exit();
	swap_exit();
}
module_exit(memslot_ops_exit);

MODULE_DESCRIPTION("Grow, shrink, split, merge and write-protect KVM memslots in place");
MODULE_LICENSE("GPL");
MODULE_VERSION("0.1.0");
