// SPDX-License-Identifier: GPL-2.0
/*
 * KVM's table of device types is read without taking a reference, and who read it may sleep
 * before it calls the device's ->create().  So while anybody may do that, the type stays in
 * the table, and this module in memory.
 *
 * Whoever creates a device, or is in an operation of one, or releases it, does so through the
 * file of a VM or a device, and such a file holds a reference to the vendor module, kvm_amd
 * or kvm_intel.  Hence where no vendor module is loaded, nobody is in this module: the type
 * comes and goes with the vendor module, and with it a reference of this module to itself.
 */
#define pr_fmt(fmt) KBUILD_MODNAME ": " fmt

#include <linux/bits.h>
#include <linux/kobject.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/notifier.h>

#include "device.h"
#include "vendor.h"

static const char *const vendor_names[] = { "kvm_amd", "kvm_intel" };

static DEFINE_MUTEX(vendor_mutex);
static unsigned long vendors_there;	/* a bit for each name; protected by vendor_mutex */
static bool is_registered;		/* protected by vendor_mutex */
static bool is_refused;			/* this module, by now; protected by vendor_mutex */
static u32 device_type;			/* set once */
static void (*way_out)(void);		/* set once: the module's exit function */

static void set_exit(void (*exit)(void))
{
#ifdef CONFIG_MODULE_UNLOAD
	WRITE_ONCE(THIS_MODULE->exit, exit);
#endif
}

/*
 * The reference alone would do; but whoever is told EBUSY need not try again.  It comes
 * first, and goes last: whoever unloads the module looks for the exit function before.
 */
static bool stay(void)
{
	/* Not where the module is about to go. */
	if (is_refused || !try_module_get(THIS_MODULE))
		return false;

	set_exit(NULL);

	return true;
}

static void may_go(void)
{
	set_exit(way_out);
	module_put(THIS_MODULE);
}

static int vendor_comes(int vendor)
{
	int r;

	lockdep_assert_held(&vendor_mutex);

	vendors_there |= BIT(vendor);
	if (is_registered || !stay())
		return 0;

	r = memslot_device_register(device_type);
	if (r)
		may_go();
	is_registered = !r;

	return r;
}

static void vendor_goes(int vendor)
{
	lockdep_assert_held(&vendor_mutex);

	vendors_there &= ~BIT(vendor);
	if (vendors_there || !is_registered)
		return;

	memslot_device_unregister(device_type);
	is_registered = false;
	may_go();
}

static int vendor_of(const struct module *mod)
{
	int vendor;

	for (vendor = 0; vendor < ARRAY_SIZE(vendor_names); vendor++) {
		if (!strcmp(mod->name, vendor_names[vendor]))
			return vendor;
	}

	return -1;
}

static int vendor_notify(struct notifier_block *nb, unsigned long state, void *data)
{
	int r, vendor = vendor_of(data);

	if (vendor < 0)
		return NOTIFY_DONE;

	mutex_lock(&vendor_mutex);
	switch (state) {
	case MODULE_STATE_COMING:
	case MODULE_STATE_LIVE:
		r = vendor_comes(vendor);
		if (r)
			pr_err("%s comes, and KVM device type %u cannot be registered (%d)\n",
			       vendor_names[vendor], device_type, r);
		break;
	case MODULE_STATE_GOING:
		vendor_goes(vendor);
		break;
	}
	mutex_unlock(&vendor_mutex);

	return NOTIFY_OK;
}

static struct notifier_block vendor_notifier = {
	.notifier_call = vendor_notify,
};

#ifndef CONFIG_SYSFS
#error "kvm_memslot_ops finds KVM's vendor modules in sysfs, and this kernel has none"
#endif

/*
 * All modules have a folder in sysfs, and some that are built in.  For one that goes, the
 * notifier either has been called or will be.
 */
static bool vendor_is_there(const char *name)
{
	struct kobject *kobj = kset_find_obj(THIS_MODULE->mkobj.kobj.kset, name);
	struct module *mod;
	bool there;

	if (!kobj)
		return false;

	mod = container_of(kobj, struct module_kobject, kobj)->mod;
	there = !mod || READ_ONCE(mod->state) != MODULE_STATE_GOING;
	kobject_put(kobj);

	return there;
}

/**
 * vendor_init() - let VMs create memslot-operations devices while there may be VMs
 * @type: number of the device type
 *
 * Context: Module initialisation, the last that may fail.
 * Return: 0, or what memslot_device_register() returns.
 */
int vendor_init(u32 type)
{
	int vendor, r;

	device_type = type;
#ifdef CONFIG_MODULE_UNLOAD
	way_out = THIS_MODULE->exit;
#endif
	r = register_module_notifier(&vendor_notifier);
	if (r)
		return r;

	mutex_lock(&vendor_mutex);
	for (vendor = 0; vendor < ARRAY_SIZE(vendor_names) && !r; vendor++) {
		if (vendor_is_there(vendor_names[vendor]))
			r = vendor_comes(vendor);
	}
	/* Where that is still to come, the number can be tried: it makes no VMs yet. */
	if (!r && !vendors_there) {
		r = memslot_device_register(type);
		if (!r)
			memslot_device_unregister(type);
	}
	is_refused = r;
	mutex_unlock(&vendor_mutex);

	if (r)
		unregister_module_notifier(&vendor_notifier);

	return r;
}

/**
 * vendor_exit() - undo vendor_init()
 *
 * Context: Module exit, which the module's reference to itself prevents while there is a
 *	vendor module.
 */
void vendor_exit(void)
{
	unregister_module_notifier(&vendor_notifier);
}
