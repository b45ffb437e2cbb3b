// SPDX-License-Identifier: GPL-2.0
/*
 * A module that was built for a series of Linux on which nobody has tested it is refused, and
 * says so; and it loads where the admin insists, and says what it is that it found there.
 */
#include "harness.h"

#include "kvm_util.h"

#include "host.h"
#include "memslot_ops.h"
#include "module.h"

#define KO	MODULE_OPS ".ko"

FIXTURE(untested) {
	int log;
};

FIXTURE_SETUP(untested)
{
	self->log = host_log_open();
	TEST_ASSERT(self->log >= 0, "cannot read the kernel's log");
}

FIXTURE_TEARDOWN(untested)
{
	close(self->log);
}

TEST_F(untested, is_refused)
{
	int err = module_load(KO, "", 0);

	TEST_ASSERT(err == EOPNOTSUPP, "loading: %s", strerror(err));
	TEST_ASSERT_EQ(host_log_count(self->log, MODULE_OPS ": Linux ", "has not been tested",
				      "allow_unknown_kernel=1 loads it"), 1);
	TEST_ASSERT(!memslot_ops_present(), "the device is there");
}

TEST_F(untested, loads_where_the_admin_insists)
{
	int err = module_load(KO, "allow_unknown_kernel=1", 0);

	TEST_ASSERT(!err, "loading: %s", strerror(err));
	TEST_ASSERT_EQ(host_log_count(self->log, MODULE_OPS ": Linux ", "has not been tested",
				      "its KVM has: "), 1);
	TEST_ASSERT(memslot_ops_present(), "the device is not there");
}

TEST_HARNESS_MAIN
